/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/learn/ledger.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "common/db.h"
#include "learn_sql.h"

#define LEDGER_BUSY_MS       5000
#define LEDGER_DECISIONS_MAX 10000 /* models kept that are neither champion nor challenger */

const int ledger_version = (int)ARRAY_SIZE(learn_migrations);

struct ledger {
        sqlite3 *db;
};

static int open_ledger(const char *path, enum db_mode mode, struct ledger **ret, struct err *e)
{
        const struct db_migrations migrations = { learn_migrations, (int)ARRAY_SIZE(learn_migrations),
                                                  LEDGER_APPLICATION_ID };
        CLEANUP(ledger_closep) struct ledger *l = calloc(1, sizeof(*l));
        int r;

        if (!l)
                return err_set(e, -ENOMEM, "out of memory");
        r = db_open(path, mode, &migrations, LEDGER_BUSY_MS, &l->db, NULL, e);
        if (r == 0)
                r = db_exec(l->db, "PRAGMA cache_size = -256", e); /* KiB: written, seldom read */
        if (r < 0)
                return r;
        *ret = TAKE(l);
        return 0;
}

int ledger_open(const char *path, struct ledger **ret, struct err *e)
{
        return open_ledger(path, DB_OWNER, ret, e);
}

int ledger_open_read_only(const char *path, struct ledger **ret, struct err *e)
{
        return open_ledger(path, DB_READ_ONLY, ret, e);
}

void ledger_close(struct ledger *l)
{
        if (!l)
                return;
        db_close(l->db);
        free(l);
}

int ledger_begin(struct ledger *l, struct err *e)
{
        return db_exec(l->db, "BEGIN IMMEDIATE", e);
}

int ledger_commit(struct ledger *l, struct err *e)
{
        return db_exec(l->db, "COMMIT", e);
}

void ledger_rollback(struct ledger *l)
{
        if (!sqlite3_get_autocommit(l->db))
                (void)sqlite3_exec(l->db, "ROLLBACK", NULL, NULL, NULL);
}

/* Binding fails only for want of memory; the step then stores NULL in a NOT NULL. */
static void bind_text(sqlite3_stmt *stmt, int i, const char *text)
{
        (void)sqlite3_bind_text(stmt, i, text, -1, SQLITE_STATIC);
}

static void bind_int(sqlite3_stmt *stmt, int i, int64_t v)
{
        (void)sqlite3_bind_int64(stmt, i, v);
}

static void bind_real(sqlite3_stmt *stmt, int i, double v)
{
        if (isnan(v))
                (void)sqlite3_bind_null(stmt, i);
        else
                (void)sqlite3_bind_double(stmt, i, v);
}

static void bind_buf(sqlite3_stmt *stmt, int i, const struct buf *b)
{
        (void)sqlite3_bind_blob64(stmt, i, b->size ? b->data : "", b->size, SQLITE_STATIC);
}

static const char *text_of(sqlite3_stmt *stmt, int i)
{
        const unsigned char *text = sqlite3_column_text(stmt, i);

        return text ? (const char *)text : "";
}

static double real_of(sqlite3_stmt *stmt, int i)
{
        return sqlite3_column_type(stmt, i) == SQLITE_NULL ? NAN : sqlite3_column_double(stmt, i);
}

int ledger_progress(struct ledger *l, int64_t *ret_row_id, struct buf *ret_settings, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(l->db, "SELECT row_id, settings FROM progress", &stmt, e);

        if (r == 0)
                r = db_step(stmt, e);
        if (r <= 0)
                return r < 0 ? r : err_set(e, -EBADMSG, "learn.db has no progress");
        *ret_row_id = sqlite3_column_int64(stmt, 0);
        return buf_puts(ret_settings, text_of(stmt, 1)) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

int ledger_set_progress(struct ledger *l, int64_t row_id, const char *settings, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(l->db, "UPDATE progress SET row_id = ?1, settings = ?2", &stmt, e);

        if (r < 0)
                return r;
        bind_int(stmt, 1, row_id);
        bind_text(stmt, 2, settings);
        return db_run(stmt, e);
}

int ledger_reset(struct ledger *l, int64_t now_ms, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_exec(l->db, "DELETE FROM online; DELETE FROM score; UPDATE progress SET row_id = 0", e);

        if (r == 0)
                r = db_prepare(l->db,
                               "UPDATE model SET role = 'withdrawn', archive = NULL, decided_ms = ?1"
                               " WHERE role IN ('champion', 'challenger')",
                               &stmt, e);
        if (r < 0)
                return r;
        bind_int(stmt, 1, now_ms);
        return db_run(stmt, e);
}

int ledger_save_online(struct ledger *l, int node_type, const struct buf *state, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(l->db, "INSERT OR REPLACE INTO online (node_type, state) VALUES (?1, ?2)", &stmt,
                           e);

        if (r < 0)
                return r;
        bind_int(stmt, 1, node_type);
        bind_buf(stmt, 2, state);
        return db_run(stmt, e);
}

int ledger_save_score(struct ledger *l, const char *node_id, int node_type, uint64_t rows,
                      const struct buf *state, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(
                l->db,
                "INSERT OR REPLACE INTO score (node_id, node_type, rows, state) VALUES (?1, ?2, ?3, ?4)",
                &stmt, e);

        if (r < 0)
                return r;
        bind_text(stmt, 1, node_id);
        bind_int(stmt, 2, node_type);
        bind_int(stmt, 3, (int64_t)rows);
        bind_buf(stmt, 4, state);
        return db_run(stmt, e);
}

int ledger_each_online(struct ledger *l, ledger_online_fn fn, void *arg, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(l->db, "SELECT node_type, state FROM online ORDER BY node_type", &stmt, e);

        while (r == 0 && (r = db_step(stmt, e)) > 0)
                r = fn(sqlite3_column_int(stmt, 0), sqlite3_column_blob(stmt, 1),
                       (size_t)sqlite3_column_bytes(stmt, 1), arg, e);
        return r;
}

int ledger_each_score(struct ledger *l, ledger_score_fn fn, void *arg, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(l->db, "SELECT node_id, node_type, rows, state FROM score ORDER BY node_id", &stmt,
                           e);

        while (r == 0 && (r = db_step(stmt, e)) > 0)
                r = fn(text_of(stmt, 0), sqlite3_column_int(stmt, 1), (uint64_t)sqlite3_column_int64(stmt, 2),
                       sqlite3_column_blob(stmt, 3), (size_t)sqlite3_column_bytes(stmt, 3), arg, e);
        return r;
}

int ledger_add_model(struct ledger *l, const struct ledger_model *m, int64_t *ret_id, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(
                l->db,
                "INSERT INTO model (energy_source, output_type, feature_group, node_type, trainer, fit, role,"
                " reason, content_id, metadata, archive, last_row, trained_ms, decided_ms, rows_seen)"
                " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
                &stmt, e);

        if (r < 0)
                return r;
        bind_text(stmt, 1, m->energy_source);
        bind_text(stmt, 2, m->output_type);
        bind_text(stmt, 3, m->feature_group);
        bind_int(stmt, 4, m->node_type);
        bind_text(stmt, 5, m->trainer);
        bind_text(stmt, 6, m->fit);
        bind_text(stmt, 7, m->role);
        bind_text(stmt, 8, m->reason);
        bind_text(stmt, 9, m->content_id);
        bind_text(stmt, 10, m->metadata);
        (void)sqlite3_bind_blob64(stmt, 11, m->archive, m->archive_size, SQLITE_STATIC);
        bind_int(stmt, 12, m->last_row);
        bind_int(stmt, 13, m->trained_ms);
        bind_int(stmt, 14, m->decided_ms);
        bind_int(stmt, 15, (int64_t)m->rows_seen);
        r = db_run(stmt, e);
        *ret_id = sqlite3_last_insert_rowid(l->db);
        return r;
}

static int prune(struct ledger *l, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(l->db,
                           "DELETE FROM model WHERE archive IS NULL AND model_id <= (SELECT max(model_id) "
                           "FROM model) - ?1",
                           &stmt, e);

        if (r < 0)
                return r;
        bind_int(stmt, 1, LEDGER_DECISIONS_MAX);
        return db_run(stmt, e);
}

int ledger_decide(struct ledger *l, int64_t model_id, const char *role, uint64_t trial_rows, double trial_mae,
                  double rival_mae, int64_t now_ms, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(l->db,
                           "UPDATE model SET role = ?2, decided_ms = ?6,"
                           " archive = CASE WHEN ?2 IN ('champion', 'challenger') THEN archive END,"
                           " trial_rows = max(trial_rows, ?3), trial_mae = ifnull(?4, trial_mae),"
                           " rival_mae = ifnull(?5, rival_mae) WHERE model_id = ?1",
                           &stmt, e);

        if (r < 0)
                return r;
        bind_int(stmt, 1, model_id);
        bind_text(stmt, 2, role);
        bind_int(stmt, 3, (int64_t)trial_rows);
        bind_real(stmt, 4, trial_mae);
        bind_real(stmt, 5, rival_mae);
        bind_int(stmt, 6, now_ms);
        r = db_run(stmt, e);
        return r < 0 ? r : prune(l, e);
}

#define MODEL_COLUMNS                                                                                        \
        "model_id, energy_source, output_type, feature_group, trainer, fit, role, reason, content_id, "      \
        "metadata,"                                                                                          \
        " node_type, last_row, trained_ms, ifnull(decided_ms, 0), trial_rows, trial_mae, rival_mae,"         \
        " rows_seen"

static int each_model(sqlite3_stmt *stmt, bool archives, ledger_model_fn fn, void *arg, struct err *e)
{
        int r;

        while ((r = db_step(stmt, e)) > 0) {
                struct ledger_model m = { .model_id = sqlite3_column_int64(stmt, 0),
                                          .energy_source = text_of(stmt, 1),
                                          .output_type = text_of(stmt, 2),
                                          .feature_group = text_of(stmt, 3),
                                          .trainer = text_of(stmt, 4),
                                          .fit = text_of(stmt, 5),
                                          .role = text_of(stmt, 6),
                                          .reason = text_of(stmt, 7),
                                          .content_id = text_of(stmt, 8),
                                          .metadata = text_of(stmt, 9),
                                          .node_type = sqlite3_column_int(stmt, 10),
                                          .last_row = sqlite3_column_int64(stmt, 11),
                                          .trained_ms = sqlite3_column_int64(stmt, 12),
                                          .decided_ms = sqlite3_column_int64(stmt, 13),
                                          .trial_rows = (uint64_t)sqlite3_column_int64(stmt, 14),
                                          .trial_mae = real_of(stmt, 15),
                                          .rival_mae = real_of(stmt, 16),
                                          .rows_seen = (uint64_t)sqlite3_column_int64(stmt, 17) };

                if (archives) {
                        m.archive = sqlite3_column_blob(stmt, 18);
                        m.archive_size = (size_t)sqlite3_column_bytes(stmt, 18);
                }
                r = fn(&m, arg, e);
                if (r < 0)
                        return r;
        }
        return r;
}

int ledger_each_live(struct ledger *l, ledger_model_fn fn, void *arg, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(l->db,
                           "SELECT " MODEL_COLUMNS
                           ", archive FROM model WHERE role IN ('champion', 'challenger')"
                           " AND archive IS NOT NULL ORDER BY model_id",
                           &stmt, e);

        return r < 0 ? r : each_model(stmt, true, fn, arg, e);
}

int ledger_each_decision(struct ledger *l, int limit, ledger_model_fn fn, void *arg, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(l->db,
                           "SELECT " MODEL_COLUMNS " FROM model WHERE role <> 'challenger'"
                           " ORDER BY decided_ms DESC, model_id DESC LIMIT ?1",
                           &stmt, e);

        if (r < 0)
                return r;
        bind_int(stmt, 1, limit);
        return each_model(stmt, false, fn, arg, e);
}

int ledger_find(struct ledger *l, const char *content_id, ledger_model_fn fn, void *arg, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(l->db,
                           "SELECT " MODEL_COLUMNS " FROM model WHERE substr(content_id, 1, length(?1)) = ?1"
                           " ORDER BY model_id DESC LIMIT 1",
                           &stmt, e);

        if (r < 0)
                return r;
        bind_text(stmt, 1, content_id);
        return each_model(stmt, false, fn, arg, e);
}
