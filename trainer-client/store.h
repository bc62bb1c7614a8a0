/* SPDX-License-Identifier: Apache-2.0 */
/* Reads samples.db (docs/contracts.md, 1) while the collector writes it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"
#include "trainer-client/cursor.h"
#include "trainer-client/names.h"
#include "trainer-client/pack.h"

struct store;

/* What it reads has its names in the form that `names` says; NULL: as recorded. -ENOENT: no database, or
 * nothing recorded yet; others as db_open(). */
int store_open(const char *path, const struct names_options *names, struct store **ret_store, struct err *e);
void store_close(struct store *store);
CLEANUP_DEFINE(struct store *, store_close);

/* What lies behind an interval. */
struct store_backlog {
        int64_t intervals; /* recorded behind it */
        int64_t newest_ms; /* end of the newest interval; 0: there is none */
        int64_t newest_id;
        int64_t lost; /* removed by retention behind it */
};
int store_backlog(struct store *store, int64_t after_id, struct store_backlog *ret, struct err *e);

/* Intervals that retention removed before every destination had them, all in all. */
int store_removed_unsent(struct store *store, int64_t *ret, struct err *e);

/* The intervals that end in [from_ms, to_ms): (after, last]. */
int store_find(struct store *store, int64_t from_ms, int64_t to_ms, int64_t *ret_after, int64_t *ret_last,
               struct err *e);
/* The first interval of (after, last]; 1, or 0: there is none. */
int store_first(struct store *store, int64_t after_id, int64_t last_id, int64_t *ret, struct err *e);

/* Could this cursor have come from this database? False: the file was replaced. Returns 1, 0 or an error. */
int store_knows(struct store *store, const struct cursor *cursor, struct err *e);

/* Intervals behind after_id, up to last_id: at most max_intervals, and no further one once there are max_rows
 * rows of usage. All of one epoch: a range ends where the epoch does. */
struct store_range {
        int64_t after_id, last_id;
        size_t max_intervals, max_rows;
};

/* The range's oldest intervals, in one read transaction. 0: there is none, and *ret_batch is untouched; else
 * their number. */
int store_read(struct store *store, const struct store_range *range, struct pack_batch **ret_batch,
               struct err *e);

/* Where the range's newest intervals begin and end; their number. */
int store_newest(struct store *store, const struct store_range *range, int64_t *ret_after, int64_t *ret_last,
                 struct err *e);
