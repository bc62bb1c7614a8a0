/* SPDX-License-Identifier: Apache-2.0 */
/* The reply to {"command": "status"}: contract 6 of docs/contracts.md. */
#pragma once

#include <stdint.h>
#include "common/buf.h"
#include "estimator/store.h"

struct counters {
        uint64_t started_ns; /* monotonic */
        uint64_t requests;   /* power requests answered, with watts or with an error */
        uint64_t errors;     /* of these with an error, and bytes that were no request */
        uint64_t denied;     /* connections of users that socket.allow does not name */
        uint64_t swaps;      /* models that were replaced, added or removed while serving */
        uint64_t reloads;    /* of the store, finished */
};

int status_write(struct buf *out, const struct counters *counters, const struct models *models,
                 uint64_t now_ns);
