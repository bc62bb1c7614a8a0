/* SPDX-License-Identifier: Apache-2.0 */
/* learn.db (schema/learn.*.sql): the learning thread's own database, and the only file with its SQL. Writes
 * happen between ledger_begin() and ledger_commit(). Errors are common/db.h's. */
#pragma once

#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"

#define LEDGER_APPLICATION_ID 0x574c4c52 /* "WLLR" */
extern const int ledger_version;         /* of the database that this program writes */

struct ledger;
int ledger_open(const char *path, struct ledger **ret, struct err *e);
int ledger_open_read_only(const char *path, struct ledger **ret, struct err *e);
void ledger_close(struct ledger *ledger);
CLEANUP_DEFINE(struct ledger *, ledger_close);

int ledger_begin(struct ledger *ledger, struct err *e);
int ledger_commit(struct ledger *ledger, struct err *e);
void ledger_rollback(struct ledger *ledger);

int ledger_progress(struct ledger *ledger, int64_t *ret_row_id, struct buf *ret_settings, struct err *e);
int ledger_set_progress(struct ledger *ledger, int64_t row_id, const char *settings, struct err *e);
/* Nothing is learned; models that could be published are withdrawn. */
int ledger_reset(struct ledger *ledger, int64_t now_ms, struct err *e);

int ledger_save_online(struct ledger *ledger, int node_type, const struct buf *state, struct err *e);
int ledger_save_score(struct ledger *ledger, const char *node_id, int node_type, uint64_t rows,
                      const struct buf *state, struct err *e);
typedef int (*ledger_online_fn)(int node_type, const void *state, size_t size, void *arg, struct err *e);
int ledger_each_online(struct ledger *ledger, ledger_online_fn fn, void *arg, struct err *e);
typedef int (*ledger_score_fn)(const char *node_id, int node_type, uint64_t rows, const void *state,
                               size_t size, void *arg, struct err *e);
int ledger_each_score(struct ledger *ledger, ledger_score_fn fn, void *arg, struct err *e);

struct ledger_model {
        int64_t model_id;
        const char *energy_source, *output_type, *feature_group, *trainer, *fit, *role, *reason, *content_id,
                *metadata;
        int node_type;
        int64_t last_row, trained_ms, decided_ms;
        uint64_t rows_seen, trial_rows;
        double trial_mae, rival_mae; /* NaN: no trial */
        const void *archive;         /* NULL: no longer kept */
        size_t archive_size;
};
int ledger_add_model(struct ledger *ledger, const struct ledger_model *model, int64_t *ret_id, struct err *e);
/* What became of it; anything but a champion or challenger loses its archive. */
int ledger_decide(struct ledger *ledger, int64_t model_id, const char *role, uint64_t trial_rows,
                  double trial_mae, double rival_mae, int64_t now_ms, struct err *e);
typedef int (*ledger_model_fn)(const struct ledger_model *model, void *arg, struct err *e);
/* Champions and challengers, oldest first. */
int ledger_each_live(struct ledger *ledger, ledger_model_fn fn, void *arg, struct err *e);
/* The latest decisions, newest first; without archives. */
int ledger_each_decision(struct ledger *ledger, int limit, ledger_model_fn fn, void *arg, struct err *e);
/* By content id (or the beginning of one), newest first. */
int ledger_find(struct ledger *ledger, const char *content_id, ledger_model_fn fn, void *arg, struct err *e);
