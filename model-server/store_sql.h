/* SPDX-License-Identifier: Apache-2.0 */
/* What store*.c share; nobody else includes it. */
#pragma once

#include <stdlib.h>
#include "common/db.h"
#include "model-server/store.h"

enum statement {
        FIND_NODE,
        ADD_NODE,
        SEE_NODE,
        FIND_EPOCH,
        ADD_EPOCH,
        SET_EPOCH,
        SET_NODE_TYPE,
        FIND_TYPE,
        COUNT_TYPES,
        ADD_TYPE,
        FIND_SERIES,
        ADD_SERIES,
        TOUCH_SERIES,
        GET_CHUNK,
        FIND_CHUNK,
        NEXT_CHUNK,
        ADD_CHUNK,
        SET_CHUNK,
        GRID_SERIES,
        WINDOW_SERIES,
        WINDOW_CHUNKS,
        DROP_CHUNKS,
        DROP_SERIES,
        DROP_ROWS,
        DROP_BATCHES,
        RECEIVED_BEFORE,
        BEGIN_BATCH,
        END_BATCH,
        FORGET_BATCH,
        ADD_ROW,
        COUNT_ROW,
        UNCOUNT_ROW,
        GET_SETTING,
        SET_SETTING,
        ADD_SAMPLES_TOTAL,
        STATEMENTS
};

/* What is known of a series that samples came for lately. */
struct series_slot {
        unsigned char key[16];            /* BLAKE2b of its labels */
        int64_t series_id;                /* 0: the slot is free */
        int64_t last_ms;                  /* as in the database: rounded up */
        int64_t chunk_id, chunk_first_ms; /* its newest chunk; 0: look it up */
};
#define SERIES_SLOTS 32768 /* 1.8 MiB */

struct store {
        sqlite3 *db;
        int lock_fd; /* one server per database: it remembers series; -1: a reader */
        sqlite3_stmt *statements[STATEMENTS];
        struct series_slot *series;  /* owned; by key */
        struct series_slot *current; /* of the last store_series() */
        struct sample *scratch;      /* owned; for what merges */
        size_t scratch_n;
};

/* Forget what is known of series: the transaction that made it so is undone, or they are dropped. */
void store_forget_series(struct store *s);
/* Samples of before version 3 become chunks. */
int store_move_samples(struct store *s, struct err *e);

/* Binding fails only for want of memory; the step then fails with its own words or stores NULL in a NOT NULL.
 */
static inline void bind_text(sqlite3_stmt *stmt, int i, const char *text)
{
        (void)sqlite3_bind_text(stmt, i, text, -1, SQLITE_STATIC);
}

static inline void bind_blob(sqlite3_stmt *stmt, int i, const void *data, size_t size)
{
        (void)sqlite3_bind_blob(stmt, i, data, (int)size, SQLITE_STATIC);
}

static inline void bind_int(sqlite3_stmt *stmt, int i, int64_t v)
{
        (void)sqlite3_bind_int64(stmt, i, v);
}

static inline void bind_double(sqlite3_stmt *stmt, int i, double v)
{
        (void)sqlite3_bind_double(stmt, i, v);
}

static inline const char *column_text(sqlite3_stmt *stmt, int i)
{
        const unsigned char *text = sqlite3_column_text(stmt, i);

        return text ? (const char *)text : "";
}

static inline void reset_statement(sqlite3_stmt **stmt)
{
        (void)sqlite3_reset(*stmt); /* repeats the step's own code */
        (void)sqlite3_clear_bindings(*stmt);
}
/* A prepared statement for the length of a block. */
#define STATEMENT(store, id) CLEANUP(reset_statement) sqlite3_stmt *stmt = (store)->statements[id]
