/* SPDX-License-Identifier: Apache-2.0 */
/* Retention: what is too old, or too much, leaves the database in slices between imports. Oldest first by
 * when it was received; samples before rows, because rows are what models are made of. */
#include "model-server/store_sql.h"

#include <errno.h>

#define TRIM_CHUNKS 2000 /* a slice: some milliseconds */
#define TRIM_ROWS   2000
#define TRIM_PAGES  1000 /* given back to the file system */
#define TRIM_FILL   0.9  /* of the size limit: room for what comes in meanwhile */

static int pragma_int(struct store *s, const char *pragma, int64_t *ret, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(s->db, pragma, &stmt, e);

        if (r == 0)
                r = db_step(stmt, e);
        if (r < 0)
                return r;
        *ret = sqlite3_column_int64(stmt, 0);
        return 0;
}

int store_size(struct store *s, uint64_t *ret, struct err *e)
{
        int64_t pages = 0, unused = 0, size = 0;
        int r = pragma_int(s, "PRAGMA page_count", &pages, e);

        if (r == 0)
                r = pragma_int(s, "PRAGMA freelist_count", &unused, e);
        if (r == 0)
                r = pragma_int(s, "PRAGMA page_size", &size, e);
        if (r == 0)
                *ret = (uint64_t)((pages - unused) * size);
        return r;
}

int store_set_size(struct store *s, uint64_t bytes, struct err *e)
{
        char pragma[64];
        int64_t size = 0;
        int r = pragma_int(s, "PRAGMA page_size", &size, e);

        if (r < 0 || !bytes)
                return r;
        (void)snprintf(pragma, sizeof(pragma), "PRAGMA max_page_count = %lld",
                       (long long)(bytes / (uint64_t)size));
        return pragma_int(s, pragma, &size, e);
}

/* The newest chunk and row received until then; 0: none. */
static int received_before(struct store *s, int64_t ms, int64_t *ret_chunk, int64_t *ret_row, struct err *e)
{
        STATEMENT(s, RECEIVED_BEFORE);
        int r;

        *ret_chunk = *ret_row = 0;
        bind_int(stmt, 1, ms);
        r = db_step(stmt, e);
        if (r <= 0)
                return r;
        *ret_chunk = sqlite3_column_int64(stmt, 0);
        *ret_row = sqlite3_column_int64(stmt, 1);
        return 0;
}

static int drop_series(struct store *s, int64_t series_id, struct err *e)
{
        STATEMENT(s, DROP_SERIES);

        bind_int(stmt, 1, series_id);
        return db_run(stmt, e);
}

/* Returns how many chunks went, with the series that have none left. */
static int drop_chunks(struct store *s, int64_t last, struct err *e)
{
        STATEMENT(s, DROP_CHUNKS);
        int64_t samples = 0, series[TRIM_CHUNKS];
        int n = 0, r;

        bind_int(stmt, 1, last);
        bind_int(stmt, 2, TRIM_CHUNKS);
        while ((r = db_step(stmt, e)) > 0) {
                series[n++] = sqlite3_column_int64(stmt, 0);
                samples += sqlite3_column_int64(stmt, 1);
        }
        for (int i = 0; r == 0 && i < n; i++)
                r = drop_series(s, series[i], e);
        if (r == 0 && n) {
                store_forget_series(s);
                r = store_add_samples_total(s, -samples, e);
        }
        return r < 0 ? r : n;
}

static int uncount_row(struct store *s, int64_t epoch_id, const char *provenance, struct err *e)
{
        STATEMENT(s, UNCOUNT_ROW);

        bind_int(stmt, 1, epoch_id);
        bind_text(stmt, 2, provenance);
        return db_run(stmt, e);
}

static int drop_rows(struct store *s, int64_t last, struct err *e)
{
        STATEMENT(s, DROP_ROWS);
        int n = 0, r;

        bind_int(stmt, 1, last);
        bind_int(stmt, 2, TRIM_ROWS);
        for (; (r = db_step(stmt, e)) > 0; n++) {
                r = uncount_row(s, sqlite3_column_int64(stmt, 0), column_text(stmt, 1), e);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : n;
}

static int drop_batches(struct store *s, int64_t until_ms, struct err *e)
{
        STATEMENT(s, DROP_BATCHES);

        bind_int(stmt, 1, until_ms);
        return db_run(stmt, e);
}

static int drop_old(struct store *s, const struct retention *keep, int64_t now_ms, struct err *e)
{
        int64_t chunk, row, rows_until_ms = now_ms - keep->rows_ms,
                            samples_until_ms = now_ms - keep->samples_ms;
        int r = received_before(s, samples_until_ms, &chunk, &row, e);

        if (r == 0 && chunk)
                r = drop_chunks(s, chunk, e);
        if (r != 0)
                return r;
        r = received_before(s, rows_until_ms, &chunk, &row, e);
        if (r == 0 && row)
                r = drop_rows(s, row, e);
        if (r != 0)
                return r;
        return drop_batches(s, rows_until_ms < samples_until_ms ? rows_until_ms : samples_until_ms, e);
}

static int drop_for_room(struct store *s, const struct retention *keep, int64_t now_ms, struct err *e)
{
        int64_t chunk, row;
        uint64_t size = 0;
        int r = store_size(s, &size, e);

        if (r < 0 || !keep->bytes || (double)size < TRIM_FILL * (double)keep->bytes)
                return r;
        r = received_before(s, now_ms - RETENTION_KEPT_MS, &chunk, &row, e);
        if (r == 0 && chunk)
                r = drop_chunks(s, chunk, e);
        if (r == 0 && row)
                r = drop_rows(s, row, e);
        return r;
}

int store_trim(struct store *s, const struct retention *keep, int64_t now_ms, struct err *e)
{
        char pragma[64];
        int more = 0, r = store_begin(s, e);

        if (r == 0)
                r = more = drop_old(s, keep, now_ms, e);
        if (r == 0)
                r = more = drop_for_room(s, keep, now_ms, e);
        if (r >= 0)
                r = store_commit(s, e);
        if (r < 0) {
                store_rollback(s);
                return r;
        }
        (void)snprintf(pragma, sizeof(pragma), "PRAGMA incremental_vacuum(%d)", TRIM_PAGES);
        r = more ? 0 : db_exec(s->db, pragma, e);
        return r < 0 ? r : more > 0;
}
