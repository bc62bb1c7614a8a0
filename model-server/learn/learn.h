/* SPDX-License-Identifier: Apache-2.0 */
/* The learning thread: rows -> scores -> online learners -> trials -> champions -> publication. It reads
 * server.db beside its writer, keeps what it knows in a database of its own (ledger.h), and holds no import
 * up. After a restart it goes on behind the last row that it committed. */
#pragma once

#include <jansson.h>
#include "model-server/learn/pipeline.h"
#include "model-server/learn/slot.h"

struct learn_settings {
        const char *rows_path, *ledger_path; /* server.db, learn.db */
        unsigned int accepted;               /* bits 1 << enum provenance */
        uint64_t min_rows, max_rows, trial_rows, seed;
        double node_share, forgetting;
        const struct string_list *trainers; /* classes; what fit.h does not know is passed over */
        enum isolator isolator;             /* of DynPower */
        const struct string_list *excluded; /* node ids */
        int64_t publish_interval_ms;
        const char *pipeline;
        /* Called on the learning thread with what should be published now. `withdraw`: even when that is
           nothing. 1 published, 0 that is what is published already. */
        int (*publish)(const struct pipeline_input *in, bool withdraw, void *arg, struct err *e);
        void *arg;
};

struct learn;
int learn_open(const struct learn_settings *settings, struct learn **ret, struct err *e);
void learn_close(struct learn *learn); /* stops the thread if it runs */
CLEANUP_DEFINE(struct learn *, learn_close);

int learn_start(struct learn *learn, struct err *e);
void learn_poke(struct learn *learn); /* there are new rows; never blocks for long */

/* Everything there is to do now, on the caller's thread; for tests, instead of learn_start(). */
int learn_catch_up(struct learn *learn, struct err *e);

/* Of any thread. A new object: {"rows", "behind", "scores", "live", "history"}; NULL out of memory. */
json_t *learn_status(struct learn *learn);
/* Points of a published model: [[end_ms, measured, estimated], …] by component; NULL when there is no such
 * model. */
json_t *learn_points(struct learn *learn, const char *content_id);
/* When these contents became champion; 0 unknown. */
int64_t learn_published_ms(struct learn *learn, const char *content_id);

struct learn_counters {
        uint64_t rows, trained, promoted, rejected, drifted, left_out, failures;
};
void learn_count(struct learn *learn, struct learn_counters *ret);

/* Makes a model again from what its metadata say. `excluded` (may be NULL): nodes to leave out besides. */
int learn_replay(const struct learn_settings *settings, const json_t *metadata,
                 const struct string_list *excluded, struct artifact **ret, struct buf *differs,
                 struct err *e);
