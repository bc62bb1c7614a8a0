/* SPDX-License-Identifier: Apache-2.0 */
/* Prequential errors of one node: of the published model of each trainer and of the online learner, per
 * feature group and component. Every row counts before anything has learned it. Pure. */
#pragma once

#include "model-server/learn/online.h"

#define SCORE_KINDS_MAX 12 /* trainers, and the online learner */
#define SCORE_ONLINE    (SCORE_KINDS_MAX - 1)

struct score {
        char *node_id; /* owned */
        int node_type;
        uint64_t rows;
        int64_t last_ms; /* end of the last row */
        bool changed;    /* since it was last stored */
        struct mean cells[SCORE_KINDS_MAX][GROUPS_MAX][COMPONENT_N];
};
const char *score_kind_name(int kind); /* a trainer's class, or "online" */
int score_write(const struct score *score, struct buf *out);
/* Into a zeroed one; means of trainers that are no more are dropped. */
int score_read(const void *data, size_t size, struct score *ret, struct err *e);
