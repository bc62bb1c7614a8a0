/* SPDX-License-Identifier: Apache-2.0 */
/* The reply to {"command": "status"}: contract 6 of docs/contracts.md. */
#pragma once

#include <stdint.h>
#include "common/buf.h"
#include "estimator/store.h"

/* Answers are counted by how long they took, up to these bounds, and the longer ones. */
#define ANSWER_BOUNDS 10
extern const unsigned int answer_bounds_us[ANSWER_BOUNDS];

struct counters {
        uint64_t started_ns; /* monotonic */
        uint64_t requests;   /* power requests answered, with watts or with an error */
        uint64_t errors;     /* of these with an error, and bytes that were no request */
        uint64_t rows;       /* that got watts */
        uint64_t denied;     /* connections of users that socket.allow does not name */
        uint64_t swaps;      /* models that were replaced, added or removed while serving */
        uint64_t reloads;    /* of the store, finished */
        uint64_t answer_ns;  /* that power requests took, from complete request to complete reply */
        uint64_t answers[ANSWER_BOUNDS + 1]; /* of them, by the bound that they did not pass */
};

void counters_answered(struct counters *counters, uint64_t took_ns);

int status_write(struct buf *out, const struct counters *counters, const struct models *models,
                 long long clients, uint64_t now_ns);
