/* SPDX-License-Identifier: Apache-2.0 */
/* The model server's database; the only file with SQL. One thread uses it. All writes happen between
 * store_begin() and store_commit(); whatever fails, the caller rolls back.
 *
 * Errors are common/db.h's; a full disk is -ENOSPC. */
#pragma once

#include <stdint.h>
#include "common/err.h"
#include "model-server/ingest/fold.h"
#include "model-server/train/trainer.h"

struct store;

/* -EPROTO newer version or another program's file, -EBADMSG corrupt, -EWOULDBLOCK: another server has it. */
int store_open(const char *path, struct store **ret, struct err *e);
void store_close(struct store *store);
CLEANUP_DEFINE(struct store *, store_close);

int store_begin(struct store *store, struct err *e);
int store_commit(struct store *store, struct err *e); /* durable when it returns 0 */
void store_rollback(struct store *store);

/* What an epoch is; node_type -1 while unknown. */
struct epoch {
        int64_t epoch_id;
        int node_type;
        char definition[DEFINITION_MAX];
};
/* Find or make node and epoch; the node is marked as seen now. */
int store_epoch(struct store *store, const char *node_id, const char *node_name, const char *epoch,
                int64_t now_ms, struct epoch *ret, struct err *e);
/* Find or make the node type of a spec (canonical JSON); -E2BIG over NODE_TYPES_MAX. */
int store_node_type(struct store *store, const char *spec, int *ret, struct err *e);
/* Say what node and epoch are. */
int store_set_epoch(struct store *store, const struct epoch *epoch, struct err *e);

/* Find or make a series, and note its latest sample. */
int store_series(struct store *store, int64_t epoch_id, const struct batch_line *line, int64_t *ret_id,
                 struct err *e);
/* 1 stored, 0 was there already. */
int store_add_sample(struct store *store, int64_t series_id, const struct sample *sample, struct err *e);

/* Up to `max` time stamps of the epoch's grid, ascending, from the last one before from_ms on. Returns how
 * many. */
int store_grid(struct store *store, int64_t epoch_id, int64_t from_ms, size_t max, int64_t *ret,
               struct err *e);
/* All series that can matter between two time stamps, each with its last sample at or before the first. */
int store_window(struct store *store, int64_t epoch_id, int64_t from_ms, int64_t to_ms,
                 struct fold_input *ret, struct err *e);

/* 1 added; 0 when it would overlap a row that is there. */
int store_add_row(struct store *store, int64_t epoch_id, const struct row *row, struct err *e);
/* All rows, in the order in which they were added. */
int store_each_row(struct store *store, int (*fn)(const struct row *row, void *arg, struct err *e), void *arg,
                   struct err *e);

int store_save_learner(struct store *store, struct learner_key key, const struct learned *learned,
                       struct err *e);
int store_clear_learners(struct store *store, struct err *e);
/* Into `trainer`. A state of another version is -EPROTO: the caller rebuilds from the rows. */
int store_load_learners(struct store *store, struct trainer *trainer, struct err *e);

/* A setting's text, "" when never set. */
int store_get_setting(struct store *store, const char *name, struct buf *ret, struct err *e);
int store_set_setting(struct store *store, const char *name, const char *value, struct err *e);
int store_add_samples_total(struct store *store, uint64_t n, struct err *e);

int store_add_publication(struct store *store, int64_t now_ms, const char *model, const char *content_id,
                          uint64_t rows, double mae, struct err *e);
/* When these contents were first published; 0 unknown. */
int store_published_ms(struct store *store, const char *content_id, int64_t *ret, struct err *e);

/* For the pipeline's index and the status page. */
typedef int (*store_type_fn)(int node_type, const char *spec, void *arg, struct err *e);
int store_each_node_type(struct store *store, store_type_fn fn, void *arg, struct err *e);
struct node_info {
        const char *node_id, *node_name;
        int node_type; /* -1 unknown */
        int64_t last_seen_ms;
};
int store_each_node(struct store *store, int (*fn)(const struct node_info *node, void *arg, struct err *e),
                    void *arg, struct err *e);
/* node_id NULL: all nodes. */
int store_count_rows(struct store *store, const char *node_id, uint64_t ret[PROVENANCE_N], struct err *e);
int store_count_samples(struct store *store, uint64_t *ret, struct err *e);
