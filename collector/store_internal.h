/* SPDX-License-Identifier: Apache-2.0 */
/* What store.c (appending), store_open.c and store_retain.c share; nobody else includes it. */
#pragma once

#include <limits.h>
#include "collector/store.h"
#include "common/db.h"

enum store_statement {
        STORE_ADD_INTERVAL,
        STORE_ADD_ENTITY,
        STORE_ADD_USAGE,
        STORE_ADD_SENSOR,
        STORE_ADD_POWER,
        STORE_ADD_FREQUENCY,
        STORE_ADD_BAND,
        STORE_FIND_TOTALS,
        STORE_FIND_POWER,
        STORE_OLDEST,
        STORE_NEWEST_ID,
        STORE_PAGES,
        STORE_REMOVE,
        STORE_NOTE_REMOVED,
        STORE_STATEMENTS,
};

#define STORE_TOTALS                                                                                         \
        "cpu_time_ns, page_cache_pages, net_tx_irq, net_rx_irq, block_irq, cpu_cycles, cpu_instructions, "   \
        "cache_miss, page_cache_read_pages, page_cache_added_pages"

struct store {
        sqlite3 *db;
        sqlite3_stmt *stmt[STORE_STATEMENTS];
        int lock_fd;
        char path[PATH_MAX];
        char feature_source[16];
        const char *definition; /* borrowed: one of definition_names[] */
        char counters[COUNTERS_TEXT_MAX];
        int64_t retention_age_ms, retention_size;
        bool processes; /* have rows */
        int64_t epoch_id;
        int64_t first_id; /* the epoch's intervals are from here on */
        int64_t next_prune_ms;
};

void store_bind_text(sqlite3_stmt *stmt, int i, const char *text);
/* Steps a statement for n integers of one row and resets it: 1 a row, 0 none, or a negative errno. */
int store_query_row(sqlite3_stmt *stmt, int64_t *ret, int n, struct err *e);
void store_read_totals(sqlite3_stmt *stmt, int column, uint64_t ret[FEATURE_N]);
/* Ids that were made in a transaction that failed, or that were removed, do not exist. */
void store_forget_ids(struct window *window);

/* store_retain.c: the part of retention inside an append's transaction, and the rest after it. */
int store_retain(struct store *store, int64_t now_ms, struct err *e);
void store_tidy(struct store *store, struct window *window, int64_t now_ms);
