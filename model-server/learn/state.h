/* SPDX-License-Identifier: Apache-2.0 */
/* What the learning thread knows; shared by the files that make learn.h. */
#pragma once

#include <pthread.h>
#include "model-server/learn/feed.h"
#include "model-server/learn/learn.h"
#include "model-server/learn/ledger.h"
#include "model-server/learn/score.h"

#define LEARN_HISTORY 50 /* decisions that the status shows */

/* One kind of machine. */
struct kind {
        int node_type;
        struct online online;
        struct slot *slots; /* owned */
        size_t slots_n;
        bool changed; /* since the last commit */
};

/* A decision as the status tells it. */
struct decision {
        char model[MODEL_NAME_MAX], source[32], group[32], role[16], reason[16], fit[16], content_id[65];
        int64_t decided_ms;
        uint64_t trial_rows;
        double mae, rival_mae;
};

struct learn {
        struct learn_settings settings;
        char *settings_text; /* owned: what the rows were learned under */
        struct ledger *ledger;
        struct feed *feed; /* NULL until there is a database */
        pthread_t thread;
        bool started;

        pthread_mutex_t wake_lock;
        pthread_cond_t wake;
        bool poked, stopping;

        pthread_mutex_t lock; /* of all below; only the learning thread changes them */
        int64_t row_id;       /* learned up to here */
        int64_t last_row;     /* there are rows up to here */
        struct kind *kinds;   /* owned; by node type */
        size_t kinds_n;
        struct score **scores; /* owned; by node id */
        size_t scores_n;
        struct decision history[LEARN_HISTORY]; /* newest first */
        size_t history_n;
        struct learn_counters counters;

        bool withdraw;       /* publish even nothing */
        bool fresh;          /* a model that was not there before: publish at once */
        bool publish;        /* something changed */
        uint64_t publish_ns; /* monotonic: not again before */
};

/* making.c: the rows of one kind of machine up to learn->row_id, and models trained on them. */
struct making;
int making_open(struct learn *learn, int node_type, struct making **ret, struct err *e);
void making_free(struct making *making);
CLEANUP_DEFINE(struct making *, making_free);
/* The slot's challengers; returns how many were made: 0 when the rows are too few. */
int making_train(struct making *making, const struct kind *kind, const struct slot *slot,
                 struct contender ret[SLOT_CHALLENGERS], struct err *e);
/* "{…}": what must be the same for what was learned to stand. */
char *making_settings_text(const struct learn_settings *settings);

/* learn.c */
struct kind *learn_kind(struct learn *learn, int node_type, struct err *e);         /* NULL: out of memory */
struct score *learn_score(struct learn *learn, const char *node_id, struct err *e); /* the same */
/* What a slot's plots and trial knew of the latest rows, which is kept nowhere; of all slots when it is NULL.
 */
int learn_refill(struct learn *learn, struct kind *kind, struct slot *slot, struct err *e);
void learn_forget(struct learn *learn); /* all kinds and scores */

/* trials.c: end the trials that are over, train the slots that are due. */
int trials_tend(struct learn *learn, struct kind *kind, struct err *e);
void trials_note(struct learn *learn, const struct ledger_model *model); /* into the history, in front */

/* publication.c: failure is logged, and tried again after the interval. */
void publication_make_if_due(struct learn *learn);

/* restore.c: everything from the ledger; or, when that is of another version or damaged, from the rows again.
 */
int restore(struct learn *learn, struct err *e);
int restore_or_reset(struct learn *learn, struct err *e);
