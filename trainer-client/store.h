/* SPDX-License-Identifier: Apache-2.0 */
/* Reads samples.db (docs/contracts.md, 1) while the collector writes it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"
#include "trainer-client/cursor.h"
#include "trainer-client/pack.h"

struct store;

/* -ENOENT: no database, or nothing recorded yet; others as db_open(). */
int store_open(const char *path, struct store **ret_store, struct err *e);
void store_close(struct store *store);
CLEANUP_DEFINE(struct store *, store_close);

/* What lies behind an interval. */
struct store_backlog {
        int64_t intervals; /* recorded behind it */
        int64_t newest_ms; /* end of the newest interval; 0: there is none */
        int64_t lost;      /* removed by retention behind it */
};
int store_backlog(struct store *store, int64_t after_id, struct store_backlog *ret, struct err *e);

/* Could this cursor have come from this database? False: the file was replaced. Returns 1, 0 or an error. */
int store_knows(struct store *store, const struct cursor *cursor, struct err *e);

/* The next intervals behind after_id, of one epoch, in one read transaction: at most max_intervals, and no
 * further interval once there are max_rows rows. 0: there is none, and *ret_batch is untouched; else their
 * number. */
int store_read(struct store *store, int64_t after_id, size_t max_intervals, size_t max_rows,
               struct pack_batch **ret_batch, struct err *e);
