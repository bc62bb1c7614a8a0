/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/db.h"
#include "common/file.h"
#include "common/num.h"
#include "server_sql.h"

#define STORE_APPLICATION_ID 0x574c5356 /* "WLSV" */
#define STORE_BUSY_MS        5000       /* only backups and people with sqlite3 contend */
#define FOLD_SERIES_MAX      200000     /* series of an epoch that change in one window */

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
        ADD_SAMPLE,
        GRID,
        WINDOW_SERIES,
        WINDOW_SAMPLES,
        ADD_ROW,
        COUNT_ROW,
        SAVE_LEARNER,
        GET_SETTING,
        SET_SETTING,
        ADD_SAMPLES_TOTAL,
        ADD_PUBLICATION,
        PUBLISHED,
        STATEMENTS
};

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
        [ADD_SAMPLE] = "INSERT INTO sample (series_id, ts_ms, value) VALUES (?1, ?2, ?3)"
                       " ON CONFLICT DO NOTHING",
        /* A renamed node has more than one such series in an epoch. Step by step, so that the cost is that of
           what is asked for, however much comes after it. */
        [GRID] = "WITH RECURSIVE grid AS MATERIALIZED (SELECT series_id FROM series WHERE epoch_id = ?1"
                 "   AND name = 'wattloop_node_measured_seconds_total'),"
                 " step (ts_ms) AS ("
                 "   SELECT ifnull((SELECT max((SELECT max(ts_ms) FROM sample s"
                 "       WHERE s.series_id = grid.series_id AND s.ts_ms < ?2)) FROM grid),"
                 "     (SELECT min((SELECT min(ts_ms) FROM sample s"
                 "       WHERE s.series_id = grid.series_id AND s.ts_ms >= ?2)) FROM grid))"
                 "   UNION ALL SELECT (SELECT min((SELECT min(s.ts_ms) FROM sample s"
                 "       WHERE s.series_id = grid.series_id AND s.ts_ms > step.ts_ms)) FROM grid)"
                 "     FROM step WHERE step.ts_ms IS NOT NULL LIMIT ?3)"
                 " SELECT ts_ms FROM step WHERE ts_ms IS NOT NULL",
        /* Energy that ended before the window matters too: a unit that is missing makes its meter incomplete.
           Two look-ups, because an OR would read all series that the epoch ever had. */
        [WINDOW_SERIES] = "SELECT series_id, name, source FROM series WHERE epoch_id = ?1"
                          "   AND last_ms >= ?2 AND name <> 'wattloop_node'"
                          " UNION SELECT series_id, name, source FROM series WHERE epoch_id = ?1"
                          "   AND name >= 'kepler_node_' AND name < 'kepler_node`' ORDER BY series_id",
        [WINDOW_SAMPLES] = "SELECT ts_ms, value FROM sample WHERE series_id = ?1 AND ts_ms <= ?3"
                           " AND ts_ms >= ifnull((SELECT max(ts_ms) FROM sample WHERE series_id = ?1"
                           "   AND ts_ms <= ?2), ?2) ORDER BY ts_ms",
        /* Rows do not overlap, so the first that ends behind our start is the only one that could overlap
           ours. */
        [ADD_ROW] = "INSERT INTO row (epoch_id, provenance, start_ms, end_ms, seconds, node_type, definition,"
                    "   features, watts)"
                    " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE ifnull((SELECT start_ms FROM row"
                    "   WHERE epoch_id = ?1 AND provenance = ?2 AND end_ms > ?3 ORDER BY end_ms LIMIT 1), "
                    "?4) >= ?4",
        [COUNT_ROW] = "INSERT INTO row_count (node_id, provenance, rows)"
                      " SELECT node_id, ?2, 1 FROM epoch WHERE epoch_id = ?1"
                      " ON CONFLICT DO UPDATE SET rows = rows + 1",
        [SAVE_LEARNER] =
                "INSERT OR REPLACE INTO learner (energy_source, output_type, feature_group, node_type,"
                "   component, provenance, definition, rows, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, "
                "?9)",
        [GET_SETTING] = "SELECT value FROM setting WHERE name = ?1",
        [SET_SETTING] = "INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)",
        [ADD_SAMPLES_TOTAL] = "INSERT INTO setting (name, value) VALUES ('samples', CAST(?1 AS TEXT))"
                              " ON CONFLICT DO UPDATE SET value = CAST(value + ?1 AS TEXT)",
        [ADD_PUBLICATION] = "INSERT INTO publication (published_ms, model, content_id, rows, mae)"
                            " VALUES (?1, ?2, ?3, ?4, ?5)",
        [PUBLISHED] = "SELECT min(published_ms) FROM publication WHERE content_id = ?1",
};

struct store {
        sqlite3 *db;
        int lock_fd; /* one server per database: learners live in its memory too */
        sqlite3_stmt *statements[STATEMENTS];
};

static int prepare_all(struct store *s, struct err *e)
{
        int r = 0;

        for (int i = 0; r == 0 && i < STATEMENTS; i++)
                r = db_prepare(s->db, sql[i], &s->statements[i], e);
        return r;
}

int store_open(const char *path, struct store **ret, struct err *e)
{
        const struct db_migrations migrations = { server_migrations, (int)ARRAY_SIZE(server_migrations),
                                                  STORE_APPLICATION_ID };
        CLEANUP(store_closep) struct store *s = calloc(1, sizeof(*s));
        char lock[4096];
        int r;

        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        s->lock_fd = -1;
        if (snprintf(lock, sizeof(lock), "%s.lock", path) >= (int)sizeof(lock))
                return err_set(e, -ENAMETOOLONG, "database '%.100s…': name too long", path);
        r = file_lock(lock, &s->lock_fd, e);
        if (r == -EWOULDBLOCK)
                return err_set(e, r, "database '%s' is in use by another model server", path);
        if (r < 0)
                return r;

        r = db_open(path, DB_OWNER, &migrations, STORE_BUSY_MS, &s->db, NULL, e);
        if (r == 0)
                r = prepare_all(s, e);
        if (r < 0)
                return r;
        *ret = TAKE(s);
        return 0;
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
        /* Some errors (a full disk) have rolled back already. */
        if (!sqlite3_get_autocommit(s->db))
                (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

/* Binding fails only for want of memory; the step then fails with its own words or stores NULL in a NOT NULL.
 */
static void bind_text(sqlite3_stmt *stmt, int i, const char *text)
{
        (void)sqlite3_bind_text(stmt, i, text, -1, SQLITE_STATIC);
}

static void bind_int(sqlite3_stmt *stmt, int i, int64_t v)
{
        (void)sqlite3_bind_int64(stmt, i, v);
}

static void bind_double(sqlite3_stmt *stmt, int i, double v)
{
        (void)sqlite3_bind_double(stmt, i, v);
}

static const char *column_text(sqlite3_stmt *stmt, int i)
{
        const unsigned char *text = sqlite3_column_text(stmt, i);

        return text ? (const char *)text : "";
}

static void reset_statement(sqlite3_stmt **stmt)
{
        (void)sqlite3_reset(*stmt); /* repeats the step's own code */
        (void)sqlite3_clear_bindings(*stmt);
}
/* A prepared statement for the length of a block. */
#define STATEMENT(store, id) CLEANUP(reset_statement) sqlite3_stmt *stmt = (store)->statements[id]

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

static int touch_series(struct store *s, int64_t series_id, int64_t last_ms, struct err *e)
{
        STATEMENT(s, TOUCH_SERIES);

        bind_int(stmt, 1, series_id);
        bind_int(stmt, 2, last_ms);
        return db_run(stmt, e);
}

int store_series(struct store *s, int64_t epoch_id, const struct batch_line *line, int64_t *ret_id,
                 struct err *e)
{
        int64_t last_ms = 0, known_ms = 0;
        int r;

        for (size_t i = 0; i < line->n; i++)
                last_ms = line->samples[i].ts_ms > last_ms ? line->samples[i].ts_ms : last_ms;
        {
                STATEMENT(s, FIND_SERIES);
                bind_text(stmt, 1, line->labels);
                r = db_step(stmt, e);
                if (r > 0) {
                        *ret_id = sqlite3_column_int64(stmt, 0);
                        known_ms = sqlite3_column_int64(stmt, 1);
                }
        }
        if (r < 0)
                return r;
        if (r > 0)
                return last_ms > known_ms ? touch_series(s, *ret_id, last_ms, e) : 0;

        STATEMENT(s, ADD_SERIES);
        bind_int(stmt, 1, epoch_id);
        bind_text(stmt, 2, line->labels);
        bind_text(stmt, 3, line->name);
        bind_text(stmt, 4, line->source);
        bind_int(stmt, 5, last_ms);
        r = db_run(stmt, e);
        *ret_id = sqlite3_last_insert_rowid(s->db);
        return r;
}

int store_add_sample(struct store *s, int64_t series_id, const struct sample *sample, struct err *e)
{
        STATEMENT(s, ADD_SAMPLE);
        int r;

        bind_int(stmt, 1, series_id);
        bind_int(stmt, 2, sample->ts_ms);
        bind_double(stmt, 3, sample->value);
        r = db_run(stmt, e);
        return r < 0 ? r : sqlite3_changes(s->db);
}

int store_grid(struct store *s, int64_t epoch_id, int64_t from_ms, size_t max, int64_t *ret, struct err *e)
{
        STATEMENT(s, GRID);
        int n = 0, r;

        bind_int(stmt, 1, epoch_id);
        bind_int(stmt, 2, from_ms);
        bind_int(stmt, 3, (int64_t)max);
        while ((r = db_step(stmt, e)) > 0)
                ret[n++] = sqlite3_column_int64(stmt, 0);
        return r < 0 ? r : n;
}

static int load_samples(struct store *s, int64_t series_id, int64_t from_ms, int64_t to_ms,
                        struct fold_series *series, struct err *e)
{
        STATEMENT(s, WINDOW_SAMPLES);
        size_t cap = 0;
        int r;

        bind_int(stmt, 1, series_id);
        bind_int(stmt, 2, from_ms);
        bind_int(stmt, 3, to_ms);
        while ((r = db_step(stmt, e)) > 0) {
                if (series->n == cap) {
                        struct sample *samples;

                        cap = cap ? 2 * cap : 16;
                        samples = realloc(series->samples, cap * sizeof(*samples));
                        if (!samples)
                                return err_set(e, -ENOMEM, "out of memory");
                        series->samples = samples;
                }
                series->samples[series->n++] =
                        (struct sample){ sqlite3_column_int64(stmt, 0), sqlite3_column_double(stmt, 1) };
        }
        return r;
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
        if (r == 0 && !series->n)
                in->n--; /* begins later */
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

int store_add_row(struct store *s, int64_t epoch_id, const struct row *row, struct err *e)
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

static int read_row(sqlite3_stmt *stmt, struct row *row, struct err *e)
{
        int provenance = provenance_find(column_text(stmt, 0));

        if (provenance < 0)
                return err_set(e, -EBADMSG, "row of provenance '%.32s'", column_text(stmt, 0));
        *row = (struct row){ .provenance = (enum provenance)provenance,
                             .start_ms = sqlite3_column_int64(stmt, 1),
                             .end_ms = sqlite3_column_int64(stmt, 2),
                             .seconds = sqlite3_column_double(stmt, 3),
                             .node_type = sqlite3_column_int(stmt, 4) };
        (void)snprintf(row->definition, sizeof(row->definition), "%s", column_text(stmt, 5));
        return row_read(column_text(stmt, 6), column_text(stmt, 7), row, e);
}

int store_each_row(struct store *s, int (*fn)(const struct row *row, void *arg, struct err *e), void *arg,
                   struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        struct row row;
        int r;

        r = db_prepare(s->db,
                       "SELECT provenance, start_ms, end_ms, seconds, node_type, definition, features, watts"
                       " FROM row ORDER BY row_id",
                       &stmt, e);
        while (r == 0 && (r = db_step(stmt, e)) > 0) {
                r = read_row(stmt, &row, e);
                if (r == 0)
                        r = fn(&row, arg, e);
        }
        return r;
}

int store_save_learner(struct store *s, struct learner_key key, const struct learned *l, struct err *e)
{
        CLEANUP(buf_done) struct buf blob = { 0 };
        STATEMENT(s, SAVE_LEARNER);

        buf_init(&blob, 1 << 20);
        if (learner_write(&l->learner, &blob) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        bind_text(stmt, 1, energy_source_of_component(component_names[key.component]));
        bind_text(stmt, 2, TRAINER_OUTPUT_TYPE);
        bind_text(stmt, 3, feature_groups[key.group].name);
        bind_int(stmt, 4, key.node_type);
        bind_text(stmt, 5, component_names[key.component]);
        bind_text(stmt, 6, provenance_names[l->provenance]);
        bind_text(stmt, 7, l->definition);
        bind_int(stmt, 8, (int64_t)l->learner.rows);
        (void)sqlite3_bind_blob(stmt, 9, blob.data, (int)blob.size, SQLITE_STATIC);
        return db_run(stmt, e);
}

int store_clear_learners(struct store *s, struct err *e)
{
        return db_exec(s->db, "DELETE FROM learner", e);
}

static int load_learner(sqlite3_stmt *stmt, struct trainer *trainer, struct err *e)
{
        const struct feature_group *group = feature_group_find(column_text(stmt, 0));
        int component = component_find(column_text(stmt, 2)),
            provenance = provenance_find(column_text(stmt, 3));
        struct learned l = { 0 };
        int r;

        if (!group || component < 0 || provenance < 0)
                return err_set(e, -EPROTO, "learner of group '%.32s', component '%.32s', provenance '%.32s'",
                               column_text(stmt, 0), column_text(stmt, 2), column_text(stmt, 3));
        l.provenance = (enum provenance)provenance;
        (void)snprintf(l.definition, sizeof(l.definition), "%s", column_text(stmt, 4));
        r = learner_read(sqlite3_column_blob(stmt, 5), (size_t)sqlite3_column_bytes(stmt, 5),
                         group_features_n(group), &l.learner, e);
        if (r < 0)
                return r;
        return trainer_put(trainer,
                           (struct learner_key){ sqlite3_column_int(stmt, 1), (int)(group - feature_groups),
                                                 (enum component_id)component },
                           &l, e);
}

int store_load_learners(struct store *s, struct trainer *trainer, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r;

        r = db_prepare(
                s->db,
                "SELECT feature_group, node_type, component, provenance, definition, state FROM learner"
                " WHERE output_type = 'AbsPower'",
                &stmt, e);
        while (r == 0 && (r = db_step(stmt, e)) > 0)
                r = load_learner(stmt, trainer, e);
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

int store_add_samples_total(struct store *s, uint64_t n, struct err *e)
{
        STATEMENT(s, ADD_SAMPLES_TOTAL);

        bind_int(stmt, 1, (int64_t)n);
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

int store_add_publication(struct store *s, int64_t now_ms, const char *model, const char *content_id,
                          uint64_t rows, double mae, struct err *e)
{
        STATEMENT(s, ADD_PUBLICATION);

        bind_int(stmt, 1, now_ms);
        bind_text(stmt, 2, model);
        bind_text(stmt, 3, content_id);
        bind_int(stmt, 4, (int64_t)rows);
        bind_double(stmt, 5, mae);
        return db_run(stmt, e);
}

int store_published_ms(struct store *s, const char *content_id, int64_t *ret, struct err *e)
{
        int r;

        *ret = 0;
        r = query_int(s, PUBLISHED, content_id, ret, e);
        return r < 0 ? r : 0;
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

        r = db_prepare(
                s->db,
                "SELECT node_id, node_name, ifnull(node_type, -1), last_seen_ms FROM node ORDER BY node_id",
                &stmt, e);
        while (r == 0 && (r = db_step(stmt, e)) > 0) {
                struct node_info node = { column_text(stmt, 0), column_text(stmt, 1),
                                          sqlite3_column_int(stmt, 2), sqlite3_column_int64(stmt, 3) };

                r = fn(&node, arg, e);
        }
        return r;
}

int store_count_rows(struct store *s, const char *node_id, uint64_t ret[PROVENANCE_N], struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r;

        memset(ret, 0, PROVENANCE_N * sizeof(*ret));
        r = db_prepare(s->db,
                       "SELECT provenance, sum(rows) FROM row_count WHERE ?1 IS NULL OR node_id = ?1"
                       " GROUP BY provenance",
                       &stmt, e);
        if (r == 0 && node_id)
                bind_text(stmt, 1, node_id);
        while (r == 0 && (r = db_step(stmt, e)) > 0) {
                int provenance = provenance_find(column_text(stmt, 0));

                if (provenance >= 0)
                        ret[provenance] = (uint64_t)sqlite3_column_int64(stmt, 1);
                r = 0;
        }
        return r;
}
