/* SPDX-License-Identifier: Apache-2.0 */
/* The recursive learners of one kind of machine: one per feature group and component, with their own
 * prequential errors. What they are is a function of the rows in their order, so that a replay makes them
 * again. Pure. */
#pragma once

#include "model-server/learn/dataset.h"
#include "model-server/learn/fit.h"
#include "model-server/learn/rls.h"

#define GROUPS_MAX  16
#define RECENT_ROWS 50 /* a mean that forgets: each new value weighs 1 in so many */

/* A mean over all, and over about the last RECENT_ROWS. */
struct mean {
        uint64_t n;
        double sum, recent;
};
void mean_add(struct mean *mean, double value);

struct online_cell {
        struct rls rls;
        struct mean error, relative; /* |prediction - watts|, and that over watts > 0 */
};
struct online {
        struct online_cell *cells[GROUPS_MAX][COMPONENT_N]; /* owned; NULL: no such row yet */
        char **nodes;                                       /* owned */
        uint64_t *taken;                                    /* owned; rows learned, by node */
        size_t nodes_n;
        uint64_t total;
};
void online_done(struct online *online);

struct online_settings {
        double forgetting, node_share;
};
/* Called for each row that is scored before it is learned. */
typedef void (*online_score_fn)(int group, int component, double error, void *arg);
/* Returns 1 learned, 0 left out because the node has given its share; fn may be NULL. */
int online_learn(struct online *online, const struct online_settings *settings, const char *node_id,
                 const struct row *row, online_score_fn fn, void *arg, struct err *e);

#define ONLINE_TRAINER "SGDRegressorTrainer" /* linear weights on the wire */
/* As an exported model, `idle` watts lower by component; -ENODATA when no component has min_rows. */
int online_export(const struct online *online, const struct fit_input *in, const double idle[COMPONENT_N],
                  struct artifact **ret, struct err *e);

int online_write(const struct online *online, struct buf *out);
int online_read(const void *data, size_t size, struct online *ret, struct err *e);
