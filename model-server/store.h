/* SPDX-License-Identifier: Apache-2.0 */
/* The model server's database; the only file with SQL. One thread uses it. All writes happen between
 * store_begin() and store_commit(); whatever fails, the caller rolls back.
 *
 * Errors are common/db.h's; a full disk is -ENOSPC. */
#pragma once

#include <stdint.h>
#include "common/err.h"
#include "model-server/ingest/fold.h"

#define STORE_APPLICATION_ID 0x574c5356 /* "WLSV" */
#define STORE_BUSY_MS        5000       /* only backups and people with sqlite3 contend */

#define NODE_TYPES_MAX 4096

extern const int store_version; /* of the database that this program writes */

struct store;

/* -EPROTO newer version or another program's file, -EBADMSG corrupt, -EWOULDBLOCK: another server has it. */
int store_open(const char *path, struct store **ret, struct err *e);
/* A second connection, to read what is committed from another thread (training, pages) while the first one
 * writes; it never waits for the writer, nor the writer for it. */
int store_open_reader(const char *path, struct store **ret, struct err *e);
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
/* Adds the samples whose (series, time stamp) is not there yet; they are sorted on the way. Returns how many,
 * and the first of these in *ret_first_ms. */
int store_add_samples(struct store *store, int64_t series_id, struct sample *samples, size_t n,
                      int64_t *ret_first_ms, struct err *e);

/* Up to `max` time stamps of the epoch's grid, ascending, from the last one before from_ms on. Returns how
 * many. */
int store_grid(struct store *store, int64_t epoch_id, int64_t from_ms, size_t max, int64_t *ret,
               struct err *e);
/* All series that can matter between two time stamps, each with its last sample at or before the first. */
int store_window(struct store *store, int64_t epoch_id, int64_t from_ms, int64_t to_ms,
                 struct fold_input *ret, struct err *e);

/* An upload: what comes of it carries its id. One that brought nothing is forgotten at its end. */
int store_begin_batch(struct store *store, int64_t received_ms, const char *name,
                      const unsigned char hash[32], int64_t *ret_id, struct err *e);
int store_end_batch(struct store *store, int64_t batch_id, uint64_t samples, uint64_t rows, struct err *e);

/* 1 added; 0 when it would overlap a row that is there. */
int store_add_row(struct store *store, int64_t epoch_id, int64_t batch_id, const struct row *row,
                  struct err *e);

/* ---- what training reads ---- */

/* A training row and where it comes from. */
struct stored_row {
        struct row row;
        int64_t row_id;      /* ascending: the order in which rows came in and were learned */
        int64_t epoch_id;    /* rows of one epoch are one machine's without a restart in between */
        int64_t batch_id;    /* 0: stored by a version that kept none */
        const char *node_id; /* borrowed, for the call */
};
typedef int (*store_row_fn)(const struct stored_row *row, void *arg, struct err *e);
/* Rows behind after_row_id (0: all), in that order, all from one snapshot. A negative result of fn ends it.
 */
int store_each_row(struct store *store, int64_t after_row_id, store_row_fn fn, void *arg, struct err *e);

struct stored_batch {
        int64_t batch_id, received_ms;
        const char *name;
        const unsigned char *hash; /* SHA-256, 32 bytes */
        uint64_t samples, rows;    /* new ones; rows completed by it */
};
typedef int (*store_batch_fn)(const struct stored_batch *batch, void *arg, struct err *e);
int store_each_batch(struct store *store, store_batch_fn fn, void *arg, struct err *e);

/* ---- retention ---- */

struct retention {
        int64_t samples_ms, rows_ms; /* kept so long after they were received */
        uint64_t bytes;              /* of the database; 0: no limit */
};
#define RETENTION_KEPT_MS INT64_C(3600000) /* what came within is never dropped for want of room */
/* From then on, what would grow the file beyond retention.bytes fails with -ENOSPC. */
int store_set_size(struct store *store, uint64_t bytes, struct err *e);
/* Drops a slice of what is too old or too much, in a transaction of its own. Returns 1 when there is more. */
int store_trim(struct store *store, const struct retention *retention, int64_t now_ms, struct err *e);
/* Bytes of pages in use. */
int store_size(struct store *store, uint64_t *ret, struct err *e);

/* ---- what nodes report ---- */

enum outcome { OUTCOME_INSTALLED, OUTCOME_REFUSED, OUTCOME_ROLLED_BACK, OUTCOMES };
extern const char *const outcome_names[OUTCOMES];
int outcome_find(const char *name); /* "installed", "refused", "rolled-back"; or -1 */

#define REPORTS_OF_NODE_MAX 1000 /* the oldest go */
struct report {
        const char *node_id, *node_name, *slot;
        const char *id, *model, *why; /* "" unknown */
        int64_t time_ms;              /* the node's clock */
        int outcome;                  /* enum outcome */
};
/* Inside a transaction. 1: new; 0: it was there already. */
int store_add_report(struct store *store, const struct report *report, int64_t now_ms, struct err *e);

/* A node's last report of a slot, and what it serves there. */
struct standing {
        struct report last;
        const char *outcome;
        const char *id, *model; /* "" unknown */
        int64_t since_ms;
};
/* Those that went wrong first, then the latest. */
int store_each_standing(struct store *store, size_t max,
                        int (*fn)(const struct standing *standing, void *arg, struct err *e), void *arg,
                        struct err *e);
int store_count_standings(struct store *store, uint64_t *ret, struct err *e);
/* Nodes whose last report, received since then, is about this model. */
int store_count_outcomes(struct store *store, const char *id, int64_t since_ms, uint64_t ret[OUTCOMES],
                         struct err *e);
int store_trim_reports(struct store *store, int64_t before_ms, struct err *e);

/* ---- settings, and what there is ---- */

/* A setting's text, "" when never set. */
int store_get_setting(struct store *store, const char *name, struct buf *ret, struct err *e);
int store_set_setting(struct store *store, const char *name, const char *value, struct err *e);
int store_add_samples_total(struct store *store, int64_t n, struct err *e);

/* For the pipeline's index and the status page. */
typedef int (*store_type_fn)(int node_type, const char *spec, void *arg, struct err *e);
int store_each_node_type(struct store *store, store_type_fn fn, void *arg, struct err *e);
struct node_info {
        const char *node_id, *node_name;
        int node_type; /* -1 unknown */
        int64_t last_seen_ms;
        uint64_t rows[PROVENANCE_N];
};
int store_each_node(struct store *store, int (*fn)(const struct node_info *node, void *arg, struct err *e),
                    void *arg, struct err *e);
int store_count_rows(struct store *store, uint64_t ret[PROVENANCE_N], struct err *e);
int store_count_samples(struct store *store, uint64_t *ret, struct err *e);
