/* SPDX-License-Identifier: Apache-2.0 */
/* One published model's life: champion, challengers, and the trial between them on rows that none of them has
 * seen. Pure.
 *
 * A challenger is trained when there is no champion yet (`first`), when the rows have grown by SLOT_GROWTH
 * since the last training (`growth`), or when the last SLOT_DRIFT_ROWS rows' error exceeds SLOT_DRIFT times
 * the error over held-out blocks that the champion was published with (`drift`). It becomes champion when its
 * worst component's error over the trial is at least 1 % lower than the champion's on the same rows. */
#pragma once

#include "model-server/learn/online.h"
#include "model/model.h"

#define SLOT_GROWTH      0.2
#define SLOT_DRIFT       1.5
#define SLOT_DRIFT_FLOOR 0.05 /* W: what is published is rounded to 0.01 */
#define SLOT_BETTER      0.99 /* of the champion's error: less is not worth a swap everywhere */
#define SLOT_DRIFT_ROWS  50
#define SLOT_TRIAL_MIN   15
#define SLOT_CHALLENGERS 2   /* fitted anew, and what the online learner knows */
#define SLOT_POINTS      200 /* kept for plots */

/* A model in the ring. */
struct contender {
        int64_t model_id;
        struct artifact *abs, *dyn; /* owned; dyn may be NULL */
        int64_t dyn_id;
        struct model *model; /* owned: what `abs` exports, loaded */
        size_t index[MODEL_FEATURES_MAX];
        int64_t last_row;          /* it has seen none after this one */
        int64_t since_ms;          /* when it became champion */
        double error[COMPONENT_N]; /* sums over the trial */
};
void contender_done(struct contender *contender);
/* Loads abs; takes over both artifacts, on failure too. */
int contender_load(struct contender *contender, struct artifact *abs, struct artifact *dyn, struct err *e);
/* Watts by component; returns the components as bits. */
unsigned int contender_predict(const struct contender *contender, const double features[FEATURE_N],
                               double watts[COMPONENT_N]);

struct point {
        int64_t end_ms;
        float measured, estimated;
};
struct slot {
        int node_type, source, group, trainer; /* indices: energy_sources, feature_groups, fitters */
        struct contender champion, challengers[SLOT_CHALLENGERS];
        int challengers_n;
        uint64_t trial_n;                   /* rows of the trial */
        double champion_error[COMPONENT_N]; /* sums over the trial */
        uint64_t rows;                      /* that this slot could learn from */
        uint64_t trained_at;                /* `rows` when it was last trained */
        const char *reason;                 /* why the challengers were trained */
        struct point *points[COMPONENT_N]; /* owned rings of SLOT_POINTS: the champion on rows that it has not
                                              seen */
        uint64_t points_n[COMPONENT_N];
};
void slot_done(struct slot *slot);

/* The row is one that the slot can use: count it, and score everybody on it who has not seen it. `errors`
 * gets the champion's by component, NaN where there is none. */
void slot_score(struct slot *slot, int64_t row_id, const struct row *row, double errors[COMPONENT_N]);
bool slot_usable(const struct slot *slot, const struct row *row);

/* Why a challenger should be trained now; NULL: no reason. */
const char *slot_due(const struct slot *slot, uint64_t min_rows);
/* How long the trial is. */
uint64_t slot_trial_rows(const struct slot *slot, uint64_t trial_rows);
/* The trial is over: the index of the challenger that is better than the champion, or -1. *ret_mae are the
 * worst components' errors of the best challenger and of the champion. */
int slot_judge(const struct slot *slot, int *ret_best, double *ret_mae, double *ret_rival);
/* Mean error of the last rows, of the worst component; NaN: fewer than SLOT_DRIFT_ROWS. */
double slot_recent_mae(const struct slot *slot);
/* Over all points kept; NaN without any. */
double slot_live_mae(const struct slot *slot, int component);
