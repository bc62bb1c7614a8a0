/* SPDX-License-Identifier: Apache-2.0 */
/* Series and their samples in the database: in chunks, so that a sample costs a few bytes and an upload one
 * read and one write per series. */
#include "model-server/store_sql.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/log.h"
#include "model-server/ingest/chunk.h"

#define FOLD_SERIES_MAX 200000          /* series of an epoch that change in one window */
#define MOVE_SERIES     1000            /* of an older version's, in a transaction */
#define LAST_STEP_MS    INT64_C(600000) /* series.last_ms is rounded up to these */

void store_forget_series(struct store *s)
{
        memset(s->series, 0, (s->lock_fd < 0 ? 1 : SERIES_SLOTS) * sizeof(*s->series));
}

static struct series_slot *slot_of(struct store *s, const unsigned char key[16])
{
        uint32_t i;

        memcpy(&i, key, sizeof(i));
        return &s->series[i % SERIES_SLOTS];
}

static int touch_series(struct store *s, int64_t series_id, int64_t last_ms, struct err *e)
{
        STATEMENT(s, TOUCH_SERIES);

        bind_int(stmt, 1, series_id);
        bind_int(stmt, 2, last_ms);
        return db_run(stmt, e);
}

/* Into the slot; 0 when there is no such series. */
static int find_series(struct store *s, const char *labels, struct series_slot *slot, struct err *e)
{
        STATEMENT(s, FIND_SERIES);
        int r;

        bind_text(stmt, 1, labels);
        r = db_step(stmt, e);
        if (r <= 0)
                return r;
        slot->series_id = sqlite3_column_int64(stmt, 0);
        slot->last_ms = sqlite3_column_int64(stmt, 1);
        return 1;
}

static int add_series(struct store *s, int64_t epoch_id, const struct batch_line *line,
                      struct series_slot *slot, struct err *e)
{
        STATEMENT(s, ADD_SERIES);
        int r;

        bind_int(stmt, 1, epoch_id);
        bind_text(stmt, 2, line->labels);
        bind_text(stmt, 3, line->name);
        bind_text(stmt, 4, line->source);
        bind_int(stmt, 5, slot->last_ms);
        r = db_run(stmt, e);
        if (r == 0)
                slot->series_id = sqlite3_last_insert_rowid(s->db);
        return r;
}

int store_series(struct store *s, int64_t epoch_id, const struct batch_line *line, int64_t *ret_id,
                 struct err *e)
{
        struct series_slot known = { 0 }, *slot;
        int64_t last_ms = 0;
        int r = 1;

        for (size_t i = 0; i < line->n; i++)
                last_ms = line->samples[i].ts_ms > last_ms ? line->samples[i].ts_ms : last_ms;
        last_ms = (last_ms / LAST_STEP_MS + 1) * LAST_STEP_MS;

        (void)crypto_generichash(known.key, sizeof(known.key), (const unsigned char *)line->labels,
                                 strlen(line->labels), NULL, 0);
        slot = slot_of(s, known.key);
        if (slot->series_id && !memcmp(slot->key, known.key, sizeof(known.key)))
                known = *slot;
        else
                r = find_series(s, line->labels, &known, e);
        if (r > 0 && last_ms > known.last_ms)
                r = touch_series(s, known.series_id, last_ms, e);
        known.last_ms = last_ms > known.last_ms ? last_ms : known.last_ms;
        if (r == 0 && !known.series_id)
                r = add_series(s, epoch_id, line, &known, e);
        if (r < 0)
                return r;
        *slot = known;
        s->current = slot;
        *ret_id = known.series_id;
        return 0;
}

/* A chunk as it is in the database; chunk_id 0: there is none. */
struct chunk {
        int64_t chunk_id, first_ms;
        int n;
        struct sample samples[CHUNK_SAMPLES_MAX];
};

static int read_chunk(sqlite3_stmt *stmt, int column, struct chunk *ret, struct err *e)
{
        ret->n = chunk_decode(sqlite3_column_blob(stmt, column), (size_t)sqlite3_column_bytes(stmt, column),
                              ret->samples, e);
        return ret->n < 0 ? ret->n : 0;
}

/* The newest chunk, known by its number. */
static int get_chunk(struct store *s, const struct series_slot *slot, struct chunk *ret, struct err *e)
{
        STATEMENT(s, GET_CHUNK);
        int r;

        bind_int(stmt, 1, slot->chunk_id);
        r = db_step(stmt, e);
        if (r <= 0)
                return r < 0 ? r : err_set(e, -EBADMSG, "chunk %lld is gone", (long long)slot->chunk_id);
        ret->chunk_id = slot->chunk_id;
        ret->first_ms = slot->chunk_first_ms;
        return read_chunk(stmt, 0, ret, e);
}

static int query_next(struct store *s, int64_t series_id, int64_t ts_ms, int64_t *ret, struct err *e)
{
        STATEMENT(s, NEXT_CHUNK);
        int r;

        bind_int(stmt, 1, series_id);
        bind_int(stmt, 2, ts_ms);
        r = db_step(stmt, e);
        if (r < 0)
                return r;
        *ret = sqlite3_column_type(stmt, 0) == SQLITE_NULL ? INT64_MAX : sqlite3_column_int64(stmt, 0);
        return 0;
}

/* The chunk that a sample at ts_ms belongs into, and where the next one begins (INT64_MAX: nowhere). */
static int find_chunk(struct store *s, int64_t series_id, int64_t ts_ms, struct chunk *ret,
                      int64_t *ret_next_ms, struct err *e)
{
        int r = query_next(s, series_id, ts_ms, ret_next_ms, e);

        if (r < 0)
                return r;
        STATEMENT(s, FIND_CHUNK);
        bind_int(stmt, 1, series_id);
        bind_int(stmt, 2, ts_ms);
        r = db_step(stmt, e);
        ret->chunk_id = 0;
        ret->n = 0;
        if (r <= 0)
                return r;
        ret->chunk_id = sqlite3_column_int64(stmt, 0);
        ret->first_ms = sqlite3_column_int64(stmt, 1);
        return read_chunk(stmt, 2, ret, e);
}

/* chunk_id 0: a new one. Returns its number in *chunk_id. */
static int write_chunk(struct store *s, int64_t series_id, int64_t *chunk_id, const struct sample *samples,
                       size_t n, struct err *e)
{
        STATEMENT(s, *chunk_id ? SET_CHUNK : ADD_CHUNK);
        unsigned char data[CHUNK_BYTES_MAX];
        size_t size = chunk_encode(samples, n, data);
        int at = 1, r;

        bind_int(stmt, at++, *chunk_id ? *chunk_id : series_id);
        if (!*chunk_id)
                bind_int(stmt, at++, samples[0].ts_ms);
        bind_int(stmt, at++, (int64_t)n);
        bind_blob(stmt, at, data, size);
        r = db_run(stmt, e);
        if (r == 0 && !*chunk_id)
                *chunk_id = sqlite3_last_insert_rowid(s->db);
        return r;
}

/* The merged samples take the place of `old`: in it, and in new chunks behind it. */
static int write_chunks(struct store *s, int64_t series_id, const struct chunk *old,
                        const struct sample *samples, size_t n, struct series_slot *newest, struct err *e)
{
        int64_t chunk_id = old->chunk_id;
        int r = 0;

        while (n && r == 0) {
                size_t cut = chunk_cut(samples, n);

                /* A full chunk that only got followers stays as it is. */
                if (!chunk_id || cut != (size_t)old->n ||
                    memcmp(samples, old->samples, cut * sizeof(*samples)) != 0)
                        r = write_chunk(s, series_id, &chunk_id, samples, cut, e);
                newest->chunk_id = chunk_id;
                newest->chunk_first_ms = samples[0].ts_ms;
                chunk_id = 0;
                samples += cut;
                n -= cut;
        }
        return r;
}

static int reserve_scratch(struct store *s, size_t n, struct err *e)
{
        struct sample *scratch;

        if (n <= s->scratch_n)
                return 0;
        scratch = realloc(s->scratch, n * sizeof(*scratch));
        if (!scratch)
                return err_set(e, -ENOMEM, "out of memory");
        s->scratch = scratch;
        s->scratch_n = n;
        return 0;
}

int store_add_samples(struct store *s, int64_t series_id, struct sample *samples, size_t n,
                      int64_t *ret_first_ms, struct err *e)
{
        struct series_slot unknown = { 0 },
                           *slot = s->current && s->current->series_id == series_id ? s->current : &unknown;
        size_t added = 0;
        int r = reserve_scratch(s, n + CHUNK_SAMPLES_MAX, e);

        if (r < 0)
                return r;
        n = chunk_sort(samples, n, s->scratch);
        for (size_t i = 0, end; i < n; i = end) {
                struct series_slot newest = { 0 };
                int64_t next_ms = INT64_MAX, first_ms;
                struct chunk chunk = { 0 };
                size_t more;

                if (slot->chunk_id && samples[i].ts_ms >= slot->chunk_first_ms)
                        r = get_chunk(s, slot, &chunk, e);
                else
                        r = find_chunk(s, series_id, samples[i].ts_ms, &chunk, &next_ms, e);
                if (r < 0)
                        return r;
                for (end = i + 1; end < n && samples[end].ts_ms < next_ms;)
                        end++;
                more = chunk_merge(chunk.samples, (size_t)chunk.n, samples + i, end - i, s->scratch,
                                   &first_ms);
                if (more && !added)
                        *ret_first_ms = first_ms;
                added += more;
                if (more)
                        r = write_chunks(s, series_id, &chunk, s->scratch, (size_t)chunk.n + more, &newest,
                                         e);
                if (r < 0)
                        return r;
                if (newest.chunk_id && next_ms == INT64_MAX) {
                        slot->chunk_id = newest.chunk_id;
                        slot->chunk_first_ms = newest.chunk_first_ms;
                }
        }
        return (int)added;
}

/* Appends a series' samples from the last one at or before from_ms to to_ms. */
static int load_samples(struct store *s, int64_t series_id, int64_t from_ms, int64_t to_ms,
                        struct fold_series *series, struct err *e)
{
        STATEMENT(s, WINDOW_CHUNKS);
        struct chunk chunk;
        int r;

        bind_int(stmt, 1, series_id);
        bind_int(stmt, 2, from_ms);
        bind_int(stmt, 3, to_ms);
        while ((r = db_step(stmt, e)) > 0) {
                int first = 0, end;
                struct sample *samples;

                r = read_chunk(stmt, 0, &chunk, e);
                if (r < 0)
                        return r;
                while (first + 1 < chunk.n && chunk.samples[first + 1].ts_ms <= from_ms)
                        first++;
                for (end = first; end < chunk.n && chunk.samples[end].ts_ms <= to_ms;)
                        end++;
                samples =
                        realloc(series->samples, (series->n + (size_t)(end - first) + 1) * sizeof(*samples));
                if (!samples)
                        return err_set(e, -ENOMEM, "out of memory");
                series->samples = samples;
                memcpy(samples + series->n, chunk.samples + first, (size_t)(end - first) * sizeof(*samples));
                series->n += (size_t)(end - first);
        }
        return r;
}

static int by_stamp(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return (x > y) - (x < y);
}

struct grid {
        int64_t *stamps; /* owned */
        size_t n;
};

static void grid_done(struct grid *g)
{
        free(g->stamps);
}

/* A series' stamps from the last one before from_ms on, a little more than `max` at most: chunk by chunk, so
 * that the cost is that of what is asked for, however much comes after it. */
static int add_grid(struct store *s, int64_t series_id, int64_t from_ms, size_t max, struct grid *g,
                    struct err *e)
{
        int64_t at_ms = from_ms - 1, next_ms;
        size_t taken = 0;
        struct chunk chunk;
        int r;

        do {
                r = find_chunk(s, series_id, at_ms, &chunk, &next_ms, e);
                if (r < 0)
                        return r;
                for (int i = 0; i < chunk.n; i++) {
                        int64_t *stamps;

                        if (i + 1 < chunk.n && chunk.samples[i + 1].ts_ms < from_ms)
                                continue;
                        stamps = realloc(g->stamps, (g->n + 1) * sizeof(*stamps));
                        if (!stamps)
                                return err_set(e, -ENOMEM, "out of memory");
                        g->stamps = stamps;
                        stamps[g->n++] = chunk.samples[i].ts_ms;
                        taken++;
                }
                at_ms = next_ms;
        } while (taken < max && at_ms != INT64_MAX);
        return 0;
}

int store_grid(struct store *s, int64_t epoch_id, int64_t from_ms, size_t max, int64_t *ret, struct err *e)
{
        CLEANUP(grid_done) struct grid g = { 0 };
        STATEMENT(s, GRID_SERIES);
        size_t n = 0, first = 0;
        int r;

        bind_int(stmt, 1, epoch_id);
        while ((r = db_step(stmt, e)) > 0) {
                r = add_grid(s, sqlite3_column_int64(stmt, 0), from_ms, max, &g, e);
                if (r < 0)
                        return r;
        }
        if (r < 0 || !g.n)
                return r;
        qsort(g.stamps, g.n, sizeof(*g.stamps), by_stamp);
        while (first + 1 < g.n && g.stamps[first + 1] < from_ms)
                first++;
        for (size_t i = first; i < g.n && n < max; i++)
                if (!n || ret[n - 1] != g.stamps[i])
                        ret[n++] = g.stamps[i];
        return (int)n;
}

static int add_window_series(struct store *s, sqlite3_stmt *row, int64_t from_ms, int64_t to_ms,
                             struct fold_input *in, size_t *cap, struct err *e)
{
        struct fold_series *series;
        int r;

        if (in->n == FOLD_SERIES_MAX)
                return err_set(e, -E2BIG, "more than %d series of a node in one batch", FOLD_SERIES_MAX);
        if (in->n == *cap) {
                *cap = *cap ? 2 * *cap : 64;
                series = realloc(in->series, *cap * sizeof(*series));
                if (!series)
                        return err_set(e, -ENOMEM, "out of memory");
                in->series = series;
        }
        series = &in->series[in->n];
        *series = (struct fold_series){ .class = series_classify(column_text(row, 1), column_text(row, 2)) };
        (void)snprintf(series->source, sizeof(series->source), "%s", column_text(row, 2));
        in->n++;
        r = load_samples(s, sqlite3_column_int64(row, 0), from_ms, to_ms, series, e);
        if (r == 0 && (!series->n || series->samples[0].ts_ms > to_ms)) { /* begins later */
                free(series->samples);
                in->n--;
        }
        return r;
}

int store_window(struct store *s, int64_t epoch_id, int64_t from_ms, int64_t to_ms, struct fold_input *ret,
                 struct err *e)
{
        STATEMENT(s, WINDOW_SERIES);
        size_t cap = 0;
        int r;

        *ret = (struct fold_input){ 0 };
        bind_int(stmt, 1, epoch_id);
        bind_int(stmt, 2, from_ms);
        while ((r = db_step(stmt, e)) > 0) {
                r = add_window_series(s, stmt, from_ms, to_ms, ret, &cap, e);
                if (r < 0)
                        break;
        }
        if (r < 0)
                fold_input_done(ret);
        return r;
}

static int has_old_samples(struct store *s, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(s->db, "SELECT 1 FROM sqlite_schema WHERE name = 'sample_2'", &stmt, e);

        return r < 0 ? r : db_step(stmt, e);
}

/* The samples of the first series that has some; 0: none has. */
static int take_old_series(struct store *s, int64_t *ret_id, struct sample **samples, size_t *ret_n,
                           struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        size_t n = 0;
        int r = db_prepare(s->db,
                           "SELECT series_id, ts_ms, value FROM sample_2"
                           " WHERE series_id = (SELECT min(series_id) FROM sample_2) ORDER BY ts_ms",
                           &stmt, e);

        while (r == 0 && (r = db_step(stmt, e)) > 0) {
                struct sample *more = realloc(*samples, (n + 1) * sizeof(*more));

                if (!more)
                        return err_set(e, -ENOMEM, "out of memory");
                *samples = more;
                *ret_id = sqlite3_column_int64(stmt, 0);
                more[n++] = (struct sample){ sqlite3_column_int64(stmt, 1), sqlite3_column_double(stmt, 2) };
                r = 0;
        }
        *ret_n = n;
        return r < 0 ? r : n > 0;
}

/* One series, from its rows into chunks: 1, or 0 when none is left. */
static int move_series(struct store *s, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        CLEANUP(freep) struct sample *samples = NULL;
        int64_t series_id = 0, first_ms;
        size_t n = 0;
        int r = take_old_series(s, &series_id, &samples, &n, e);

        if (r <= 0)
                return r;
        r = store_add_samples(s, series_id, samples, n, &first_ms, e);
        if (r >= 0)
                r = db_prepare(s->db, "DELETE FROM sample_2 WHERE series_id = ?1", &stmt, e);
        if (r < 0)
                return r;
        bind_int(stmt, 1, series_id);
        r = db_run(stmt, e);
        return r < 0 ? r : 1;
}

int store_move_samples(struct store *s, struct err *e)
{
        int r = has_old_samples(s, e), more = 1;

        if (r <= 0)
                return r;
        log_debug("moving samples of an older version into chunks");
        /* A killed server goes on where it was; the samples are in one table or the other. */
        for (r = 0; r == 0 && more > 0;) {
                r = store_begin(s, e);
                for (int i = 0; r == 0 && more > 0 && i < MOVE_SERIES; i++) {
                        more = move_series(s, e);
                        r = more < 0 ? more : 0;
                }
                if (r == 0 && !more)
                        r = db_exec(s->db, "DROP TABLE sample_2", e);
                if (r == 0)
                        r = store_commit(s, e);
                if (r < 0)
                        store_rollback(s);
        }
        return r;
}
