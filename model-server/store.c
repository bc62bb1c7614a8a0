/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/store_sql.h"

#include <errno.h>
#include <string.h>

#include "common/file.h"
#include "common/num.h"
#include "server_sql.h"

static const char *const sql[STATEMENTS] = {
        [FIND_NODE] = "SELECT node_name FROM node WHERE node_id = ?1",
        [ADD_NODE] = "INSERT INTO node (node_id, node_name, last_seen_ms) VALUES (?1, ?2, ?3)",
        [SEE_NODE] = "UPDATE node SET node_name = ?2, last_seen_ms = ?3 WHERE node_id = ?1",
        [FIND_EPOCH] = "SELECT epoch_id, ifnull(node_type, -1), definition FROM epoch"
                       " WHERE node_id = ?1 AND epoch = ?2",
        [ADD_EPOCH] = "INSERT INTO epoch (node_id, epoch) VALUES (?1, ?2)",
        [SET_EPOCH] = "UPDATE epoch SET node_type = ?2, definition = ?3 WHERE epoch_id = ?1",
        [SET_NODE_TYPE] = "UPDATE node SET node_type = ?2"
                          " WHERE node_id = (SELECT node_id FROM epoch WHERE epoch_id = ?1)",
        [FIND_TYPE] = "SELECT node_type FROM node_type WHERE spec = ?1",
        [COUNT_TYPES] = "SELECT ifnull(max(node_type) + 1, 0) FROM node_type",
        [ADD_TYPE] = "INSERT INTO node_type (node_type, spec) VALUES (?1, ?2)",
        [FIND_SERIES] = "SELECT series_id, last_ms FROM series WHERE labels = ?1",
        [ADD_SERIES] =
                "INSERT INTO series (epoch_id, labels, name, source, last_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        [TOUCH_SERIES] = "UPDATE series SET last_ms = ?2 WHERE series_id = ?1",
        [GET_CHUNK] = "SELECT data FROM chunk WHERE chunk_id = ?1",
        [FIND_CHUNK] = "SELECT chunk_id, first_ms, data FROM chunk WHERE series_id = ?1 AND first_ms <= ?2"
                       " ORDER BY first_ms DESC LIMIT 1",
        [NEXT_CHUNK] = "SELECT min(first_ms) FROM chunk WHERE series_id = ?1 AND first_ms > ?2",
        [ADD_CHUNK] = "INSERT INTO chunk (series_id, first_ms, n, data) VALUES (?1, ?2, ?3, ?4)",
        [SET_CHUNK] = "UPDATE chunk SET n = ?2, data = ?3 WHERE chunk_id = ?1",
        /* A renamed node has more than one such series in an epoch. */
        [GRID_SERIES] = "SELECT series_id FROM series WHERE epoch_id = ?1"
                        " AND name = 'wattloop_node_measured_seconds_total'",
        /* Energy that ended before the window matters too: a unit that is missing makes its meter incomplete.
           Two look-ups, because an OR would read all series that the epoch ever had. */
        [WINDOW_SERIES] = "SELECT series_id, name, source FROM series WHERE epoch_id = ?1"
                          "   AND last_ms >= ?2 AND name <> 'wattloop_node'"
                          " UNION SELECT series_id, name, source FROM series WHERE epoch_id = ?1"
                          "   AND name >= 'kepler_node_' AND name < 'kepler_node`' ORDER BY series_id",
        [WINDOW_CHUNKS] =
                "SELECT data FROM chunk WHERE series_id = ?1 AND first_ms <= ?3 AND first_ms >="
                "   ifnull((SELECT max(first_ms) FROM chunk WHERE series_id = ?1 AND first_ms <= ?2), ?2)"
                " ORDER BY first_ms",
        [DROP_CHUNKS] = "DELETE FROM chunk WHERE chunk_id IN (SELECT chunk_id FROM chunk WHERE chunk_id <= ?1"
                        "   ORDER BY chunk_id LIMIT ?2) RETURNING series_id, n",
        [DROP_SERIES] = "DELETE FROM series WHERE series_id = ?1"
                        " AND NOT EXISTS (SELECT 1 FROM chunk WHERE chunk.series_id = ?1)",
        /* The last one stays, so that its number is not given twice. */
        [DROP_ROWS] = "DELETE FROM row WHERE row_id IN (SELECT row_id FROM row WHERE row_id <= ?1"
                      "   AND row_id < (SELECT max(row_id) FROM row) ORDER BY row_id LIMIT ?2)"
                      " RETURNING epoch_id, provenance",
        [DROP_BATCHES] = "DELETE FROM batch WHERE received_ms <= ?1",
        [RECEIVED_BEFORE] = "SELECT last_chunk, last_row FROM batch WHERE received_ms <= ?1"
                            " ORDER BY received_ms DESC, batch_id DESC LIMIT 1",
        [BEGIN_BATCH] = "INSERT INTO batch (received_ms, name, hash) VALUES (?1, ?2, ?3)",
        [END_BATCH] = "UPDATE batch SET samples = ?2, rows = ?3,"
                      "   last_chunk = ifnull((SELECT max(chunk_id) FROM chunk), 0),"
                      "   last_row = ifnull((SELECT max(row_id) FROM row), 0) WHERE batch_id = ?1",
        [FORGET_BATCH] = "DELETE FROM batch WHERE batch_id = ?1",
        /* Rows do not overlap, so the first that ends behind our start is the only one that could overlap
           ours. */
        [ADD_ROW] = "INSERT INTO row (epoch_id, provenance, start_ms, end_ms, seconds, node_type, definition,"
                    "   features, watts, batch_id)"
                    " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 WHERE ifnull((SELECT start_ms FROM row"
                    "   WHERE epoch_id = ?1 AND provenance = ?2 AND end_ms > ?3 ORDER BY end_ms LIMIT 1), "
                    "?4) >= ?4",
        [COUNT_ROW] = "INSERT INTO row_count (node_id, provenance, rows)"
                      " SELECT node_id, ?2, 1 FROM epoch WHERE epoch_id = ?1"
                      " ON CONFLICT DO UPDATE SET rows = rows + 1",
        [UNCOUNT_ROW] = "UPDATE row_count SET rows = rows - 1 WHERE provenance = ?2"
                        " AND node_id = (SELECT node_id FROM epoch WHERE epoch_id = ?1)",
        [GET_SETTING] = "SELECT value FROM setting WHERE name = ?1",
        [SET_SETTING] = "INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)",
        [ADD_SAMPLES_TOTAL] = "INSERT INTO setting (name, value) VALUES ('samples', CAST(?1 AS TEXT))"
                              " ON CONFLICT DO UPDATE SET value = CAST(value + ?1 AS TEXT)",
};

static int prepare_all(struct store *s, struct err *e)
{
        int r = 0;

        for (int i = 0; r == 0 && i < STATEMENTS; i++)
                r = db_prepare(s->db, sql[i], &s->statements[i], e);
        return r;
}

const int store_version = (int)ARRAY_SIZE(server_migrations);

static int lock_database(struct store *s, const char *path, struct err *e)
{
        char lock[4096];
        int r;

        if (snprintf(lock, sizeof(lock), "%s.lock", path) >= (int)sizeof(lock))
                return err_set(e, -ENAMETOOLONG, "database '%.100s…': name too long", path);
        r = file_lock(lock, &s->lock_fd, e);
        if (r == -EWOULDBLOCK)
                return err_set(e, r, "database '%s' is in use by another model server", path);
        return r;
}

static int open_store(const char *path, enum db_mode mode, struct store **ret, struct err *e)
{
        const struct db_migrations migrations = { server_migrations, (int)ARRAY_SIZE(server_migrations),
                                                  STORE_APPLICATION_ID };
        CLEANUP(store_closep) struct store *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        s->lock_fd = -1;
        s->series = calloc(mode == DB_OWNER ? SERIES_SLOTS : 1, sizeof(*s->series));
        if (!s->series)
                return err_set(e, -ENOMEM, "out of memory");
        r = mode == DB_OWNER ? lock_database(s, path, e) : 0;
        if (r == 0)
                r = db_open(path, mode, &migrations, STORE_BUSY_MS, &s->db, NULL, e);
        if (r == 0)
                r = db_exec(s->db, "PRAGMA cache_size = -512", e); /* KiB: the system caches the file, too */
        if (r == 0)
                r = prepare_all(s, e);
        if (r == 0 && mode == DB_OWNER)
                r = store_move_samples(s, e);
        if (r < 0)
                return r;
        *ret = TAKE(s);
        return 0;
}

int store_open(const char *path, struct store **ret, struct err *e)
{
        return open_store(path, DB_OWNER, ret, e);
}

int store_open_reader(const char *path, struct store **ret, struct err *e)
{
        return open_store(path, DB_READ_ONLY, ret, e);
}

void store_close(struct store *s)
{
        if (!s)
                return;
        for (int i = 0; i < STATEMENTS; i++)
                sqlite3_finalize(s->statements[i]);
        db_close(s->db);
        if (s->lock_fd >= 0)
                close(s->lock_fd);
        free(s->series);
        free(s->scratch);
        free(s);
}

int store_begin(struct store *s, struct err *e)
{
        return db_exec(s->db, "BEGIN IMMEDIATE", e);
}

int store_commit(struct store *s, struct err *e)
{
        return db_exec(s->db, "COMMIT", e);
}

void store_rollback(struct store *s)
{
        store_forget_series(s);
        /* Some errors (a full disk) have rolled back already. */
        if (!sqlite3_get_autocommit(s->db))
                (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

static int see_node(struct store *s, const char *node_id, const char *node_name, int64_t now_ms,
                    struct err *e)
{
        int r;

        {
                STATEMENT(s, FIND_NODE);
                bind_text(stmt, 1, node_id);
                r = db_step(stmt, e);
                if (r < 0)
                        return r;
        }
        STATEMENT(s, r ? SEE_NODE : ADD_NODE);
        bind_text(stmt, 1, node_id);
        bind_text(stmt, 2, node_name);
        bind_int(stmt, 3, now_ms);
        return db_run(stmt, e);
}

static int find_epoch(struct store *s, const char *node_id, const char *epoch, struct epoch *ret,
                      struct err *e)
{
        STATEMENT(s, FIND_EPOCH);
        int r;

        bind_text(stmt, 1, node_id);
        bind_text(stmt, 2, epoch);
        r = db_step(stmt, e);
        if (r <= 0)
                return r;
        ret->epoch_id = sqlite3_column_int64(stmt, 0);
        ret->node_type = sqlite3_column_int(stmt, 1);
        (void)snprintf(ret->definition, sizeof(ret->definition), "%s", column_text(stmt, 2));
        return 1;
}

int store_epoch(struct store *s, const char *node_id, const char *node_name, const char *epoch,
                int64_t now_ms, struct epoch *ret, struct err *e)
{
        int r = see_node(s, node_id, node_name, now_ms, e);

        if (r == 0)
                r = find_epoch(s, node_id, epoch, ret, e);
        if (r != 0)
                return r < 0 ? r : 0;

        STATEMENT(s, ADD_EPOCH);
        bind_text(stmt, 1, node_id);
        bind_text(stmt, 2, epoch);
        r = db_run(stmt, e);
        if (r < 0)
                return r;
        *ret = (struct epoch){ .epoch_id = sqlite3_last_insert_rowid(s->db), .node_type = -1 };
        return 0;
}

static int query_int(struct store *s, enum statement id, const char *text, int64_t *ret, struct err *e)
{
        STATEMENT(s, id);
        int r;

        if (text)
                bind_text(stmt, 1, text);
        r = db_step(stmt, e);
        if (r > 0)
                *ret = sqlite3_column_int64(stmt, 0);
        return r;
}

int store_node_type(struct store *s, const char *spec, int *ret, struct err *e)
{
        int64_t type = 0;
        int r = query_int(s, FIND_TYPE, spec, &type, e);

        if (r == 0) {
                r = query_int(s, COUNT_TYPES, NULL, &type, e);
                if (r < 0)
                        return r;
                if (type >= NODE_TYPES_MAX)
                        return err_set(e, -E2BIG, "more than %d kinds of machines", NODE_TYPES_MAX);
                STATEMENT(s, ADD_TYPE);
                bind_int(stmt, 1, type);
                bind_text(stmt, 2, spec);
                r = db_run(stmt, e);
        }
        if (r < 0)
                return r;
        *ret = (int)type;
        return 0;
}

int store_set_epoch(struct store *s, const struct epoch *epoch, struct err *e)
{
        int r;

        {
                STATEMENT(s, SET_EPOCH);
                bind_int(stmt, 1, epoch->epoch_id);
                bind_int(stmt, 2, epoch->node_type);
                bind_text(stmt, 3, epoch->definition);
                r = db_run(stmt, e);
                if (r < 0)
                        return r;
        }
        STATEMENT(s, SET_NODE_TYPE);
        bind_int(stmt, 1, epoch->epoch_id);
        bind_int(stmt, 2, epoch->node_type);
        return db_run(stmt, e);
}

int store_begin_batch(struct store *s, int64_t received_ms, const char *name, const unsigned char hash[32],
                      int64_t *ret_id, struct err *e)
{
        STATEMENT(s, BEGIN_BATCH);
        int r;

        bind_int(stmt, 1, received_ms);
        bind_text(stmt, 2, name);
        bind_blob(stmt, 3, hash, 32);
        r = db_run(stmt, e);
        *ret_id = sqlite3_last_insert_rowid(s->db);
        return r;
}

int store_end_batch(struct store *s, int64_t batch_id, uint64_t samples, uint64_t rows, struct err *e)
{
        STATEMENT(s, samples || rows ? END_BATCH : FORGET_BATCH);

        bind_int(stmt, 1, batch_id);
        if (samples || rows) {
                bind_int(stmt, 2, (int64_t)samples);
                bind_int(stmt, 3, (int64_t)rows);
        }
        return db_run(stmt, e);
}

int store_add_row(struct store *s, int64_t epoch_id, int64_t batch_id, const struct row *row, struct err *e)
{
        CLEANUP(buf_done) struct buf features_text = { 0 }, watts_text = { 0 };
        int r;

        buf_init(&features_text, 4096);
        buf_init(&watts_text, 4096);
        if (row_write_features(row, &features_text) < 0 || row_write_watts(row, &watts_text) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        {
                STATEMENT(s, ADD_ROW);
                bind_int(stmt, 1, epoch_id);
                bind_text(stmt, 2, provenance_names[row->provenance]);
                bind_int(stmt, 3, row->start_ms);
                bind_int(stmt, 4, row->end_ms);
                bind_double(stmt, 5, row->seconds);
                bind_int(stmt, 6, row->node_type);
                bind_text(stmt, 7, row->definition);
                bind_text(stmt, 8, features_text.data);
                bind_text(stmt, 9, watts_text.data);
                bind_int(stmt, 10, batch_id);
                r = db_run(stmt, e);
                if (r < 0 || !sqlite3_changes(s->db))
                        return r;
        }
        STATEMENT(s, COUNT_ROW);
        bind_int(stmt, 1, epoch_id);
        bind_text(stmt, 2, provenance_names[row->provenance]);
        r = db_run(stmt, e);
        return r < 0 ? r : 1;
}

static int read_row(sqlite3_stmt *stmt, struct stored_row *ret, struct err *e)
{
        int provenance = provenance_find(column_text(stmt, 0));
        struct row *row = &ret->row;

        if (provenance < 0)
                return err_set(e, -EBADMSG, "row of provenance '%.32s'", column_text(stmt, 0));
        *row = (struct row){ .provenance = (enum provenance)provenance,
                             .start_ms = sqlite3_column_int64(stmt, 1),
                             .end_ms = sqlite3_column_int64(stmt, 2),
                             .seconds = sqlite3_column_double(stmt, 3),
                             .node_type = sqlite3_column_int(stmt, 4) };
        (void)snprintf(row->definition, sizeof(row->definition), "%s", column_text(stmt, 5));
        ret->row_id = sqlite3_column_int64(stmt, 8);
        ret->epoch_id = sqlite3_column_int64(stmt, 9);
        ret->batch_id = sqlite3_column_int64(stmt, 10);
        ret->node_id = column_text(stmt, 11);
        return row_read(column_text(stmt, 6), column_text(stmt, 7), row, e);
}

int store_each_row(struct store *s, int64_t after_row_id, store_row_fn fn, void *arg, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        struct stored_row row;
        int r;

        r = db_prepare(
                s->db,
                "SELECT provenance, start_ms, end_ms, seconds, row.node_type, row.definition, features,"
                " watts, row_id, epoch_id, batch_id, node_id FROM row JOIN epoch USING (epoch_id)"
                " WHERE row_id > ?1 ORDER BY row_id",
                &stmt, e);
        if (r == 0)
                bind_int(stmt, 1, after_row_id);
        while (r == 0 && (r = db_step(stmt, e)) > 0) {
                r = read_row(stmt, &row, e);
                if (r == 0)
                        r = fn(&row, arg, e);
        }
        return r;
}

int store_each_batch(struct store *s, store_batch_fn fn, void *arg, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(s->db,
                           "SELECT batch_id, received_ms, name, hash, samples, rows FROM batch"
                           " ORDER BY batch_id",
                           &stmt, e);

        while (r == 0 && (r = db_step(stmt, e)) > 0) {
                struct stored_batch b = { sqlite3_column_int64(stmt, 0),
                                          sqlite3_column_int64(stmt, 1),
                                          column_text(stmt, 2),
                                          sqlite3_column_blob(stmt, 3),
                                          (uint64_t)sqlite3_column_int64(stmt, 4),
                                          (uint64_t)sqlite3_column_int64(stmt, 5) };

                r = fn(&b, arg, e);
        }
        return r;
}

int store_get_setting(struct store *s, const char *name, struct buf *ret, struct err *e)
{
        STATEMENT(s, GET_SETTING);
        int r;

        bind_text(stmt, 1, name);
        r = db_step(stmt, e);
        if (r < 0)
                return r;
        if (buf_puts(ret, r ? column_text(stmt, 0) : "") < 0)
                return err_set(e, -ENOMEM, "out of memory");
        return 0;
}

int store_set_setting(struct store *s, const char *name, const char *value, struct err *e)
{
        STATEMENT(s, SET_SETTING);

        bind_text(stmt, 1, name);
        bind_text(stmt, 2, value);
        return db_run(stmt, e);
}

int store_add_samples_total(struct store *s, int64_t n, struct err *e)
{
        STATEMENT(s, ADD_SAMPLES_TOTAL);

        bind_int(stmt, 1, n);
        return db_run(stmt, e);
}

int store_count_samples(struct store *s, uint64_t *ret, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        int r;

        buf_init(&text, 64);
        r = store_get_setting(s, "samples", &text, e);
        if (r < 0)
                return r;
        *ret = 0;
        if (text.size && num_parse_u64(text.data, ret) < 0)
                return err_set(e, -EBADMSG, "setting 'samples' is '%s'", text.data);
        return 0;
}

int store_each_node_type(struct store *s, store_type_fn fn, void *arg, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r;

        r = db_prepare(s->db, "SELECT node_type, spec FROM node_type ORDER BY node_type", &stmt, e);
        while (r == 0 && (r = db_step(stmt, e)) > 0)
                r = fn(sqlite3_column_int(stmt, 0), column_text(stmt, 1), arg, e);
        return r;
}

int store_each_node(struct store *s, int (*fn)(const struct node_info *node, void *arg, struct err *e),
                    void *arg, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r;

        r = db_prepare(s->db,
                       "SELECT node_id, node_name, ifnull(node_type, -1), last_seen_ms,"
                       " sum(rows) FILTER (WHERE provenance = 'measured'),"
                       " sum(rows) FILTER (WHERE provenance = 'simulated'),"
                       " sum(rows) FILTER (WHERE provenance = 'virtual')"
                       " FROM node LEFT JOIN row_count USING (node_id) GROUP BY node_id ORDER BY node_id",
                       &stmt, e);
        while (r == 0 && (r = db_step(stmt, e)) > 0) {
                struct node_info node = { column_text(stmt, 0),
                                          column_text(stmt, 1),
                                          sqlite3_column_int(stmt, 2),
                                          sqlite3_column_int64(stmt, 3),
                                          { 0 } };

                node.rows[PROVENANCE_MEASURED] = (uint64_t)sqlite3_column_int64(stmt, 4);
                node.rows[PROVENANCE_SIMULATED] = (uint64_t)sqlite3_column_int64(stmt, 5);
                node.rows[PROVENANCE_VIRTUAL] = (uint64_t)sqlite3_column_int64(stmt, 6);
                r = fn(&node, arg, e);
        }
        return r;
}

int store_count_rows(struct store *s, uint64_t ret[PROVENANCE_N], struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r;

        memset(ret, 0, PROVENANCE_N * sizeof(*ret));
        r = db_prepare(s->db, "SELECT provenance, sum(rows) FROM row_count GROUP BY provenance", &stmt, e);
        while (r == 0 && (r = db_step(stmt, e)) > 0) {
                int provenance = provenance_find(column_text(stmt, 0));

                if (provenance >= 0)
                        ret[provenance] = (uint64_t)sqlite3_column_int64(stmt, 1);
                r = 0;
        }
        return r;
}
