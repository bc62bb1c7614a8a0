/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes report of their updates. */
#include "model-server/store_sql.h"

#include <errno.h>
#include <string.h>

const char *const outcome_names[OUTCOMES] = { "installed", "refused", "rolled-back" };

int outcome_find(const char *name)
{
        for (int i = 0; i < OUTCOMES; i++)
                if (!strcmp(outcome_names[i], name))
                        return i;
        return -1;
}

/* 1: it is new. */
static int add(struct store *s, const struct report *r, int64_t now_ms, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int ret = db_prepare(s->db, "INSERT OR IGNORE INTO report VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                             &stmt, e);

        if (ret < 0)
                return ret;
        bind_text(stmt, 1, r->node_id);
        bind_text(stmt, 2, r->slot);
        bind_int(stmt, 3, r->time_ms);
        bind_text(stmt, 4, outcome_names[r->outcome]);
        bind_text(stmt, 5, r->id);
        bind_text(stmt, 6, r->model);
        bind_text(stmt, 7, r->why);
        bind_int(stmt, 8, now_ms);
        ret = db_run(stmt, e);
        return ret < 0 ? ret : sqlite3_changes(s->db);
}

/* An installation says what the node serves; going back from a model says that it is not this one any more.
 */
static int fold_report(struct store *s, const struct report *r, int64_t now_ms, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int ret = db_prepare(s->db,
                             "INSERT INTO fleet VALUES (?1, ?2, ?3, iif(?5 = 'installed', ?6, ''), iif(?5 = "
                             "'installed', ?7, ''),"
                             " iif(?5 = 'installed', ?4, 0), ?5, ?6, ?7, ?4, ?8, ?9)"
                             " ON CONFLICT DO UPDATE SET node_name = excluded.node_name,"
                             " since_ms = CASE WHEN ?5 = 'installed' THEN ?4 WHEN ?5 = 'rolled-back' AND id "
                             "= ?6 THEN 0 ELSE since_ms END,"
                             " model = CASE WHEN ?5 = 'installed' THEN ?7 WHEN ?5 = 'rolled-back' AND id = "
                             "?6 THEN '' ELSE model END,"
                             " id = CASE WHEN ?5 = 'installed' THEN ?6 WHEN ?5 = 'rolled-back' AND id = ?6 "
                             "THEN '' ELSE id END,"
                             " outcome = ?5, outcome_id = ?6, outcome_model = ?7, outcome_ms = ?4, why = ?8, "
                             "received_ms = ?9"
                             " WHERE outcome_ms <= ?4",
                             &stmt, e);

        if (ret < 0)
                return ret;
        bind_text(stmt, 1, r->node_id);
        bind_text(stmt, 2, r->slot);
        bind_text(stmt, 3, r->node_name);
        bind_int(stmt, 4, r->time_ms);
        bind_text(stmt, 5, outcome_names[r->outcome]);
        bind_text(stmt, 6, r->id);
        bind_text(stmt, 7, r->model);
        bind_text(stmt, 8, r->why);
        bind_int(stmt, 9, now_ms);
        return db_run(stmt, e);
}

static int cap(struct store *s, const char *node_id, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(
                s->db,
                "DELETE FROM report WHERE node_id = ?1 AND received_ms < (SELECT received_ms FROM report"
                " WHERE node_id = ?1 ORDER BY received_ms DESC LIMIT 1 OFFSET ?2)",
                &stmt, e);

        if (r < 0)
                return r;
        bind_text(stmt, 1, node_id);
        bind_int(stmt, 2, REPORTS_OF_NODE_MAX);
        return db_run(stmt, e);
}

int store_add_report(struct store *s, const struct report *report, int64_t now_ms, struct err *e)
{
        int added = add(s, report, now_ms, e), r = 0;

        if (added <= 0)
                return added;
        r = fold_report(s, report, now_ms, e);
        if (r == 0)
                r = cap(s, report->node_id, e);
        return r < 0 ? r : 1;
}

int store_count_outcomes(struct store *s, const char *id, int64_t since_ms, uint64_t ret[OUTCOMES],
                         struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(s->db,
                           "SELECT outcome, count(*) FROM fleet WHERE outcome_id = ?1 AND received_ms >= ?2 "
                           "GROUP BY outcome",
                           &stmt, e);

        memset(ret, 0, OUTCOMES * sizeof(*ret));
        if (r < 0)
                return r;
        bind_text(stmt, 1, id);
        bind_int(stmt, 2, since_ms);
        while ((r = db_step(stmt, e)) > 0) {
                int outcome = outcome_find(column_text(stmt, 0));

                if (outcome >= 0)
                        ret[outcome] = (uint64_t)sqlite3_column_int64(stmt, 1);
        }
        return r;
}

int store_each_standing(struct store *s, size_t max,
                        int (*fn)(const struct standing *standing, void *arg, struct err *e), void *arg,
                        struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(
                s->db,
                "SELECT node_id, slot, node_name, id, model, since_ms, outcome, outcome_id, outcome_model,"
                " outcome_ms, why FROM fleet ORDER BY outcome = 'installed', outcome_ms DESC LIMIT ?1",
                &stmt, e);

        if (r < 0)
                return r;
        bind_int(stmt, 1, (int64_t)max);
        while (r == 0 && (r = db_step(stmt, e)) > 0) {
                const struct standing standing = { .last = { .node_id = column_text(stmt, 0),
                                                             .slot = column_text(stmt, 1),
                                                             .node_name = column_text(stmt, 2),
                                                             .outcome = outcome_find(column_text(stmt, 6)),
                                                             .id = column_text(stmt, 7),
                                                             .model = column_text(stmt, 8),
                                                             .time_ms = sqlite3_column_int64(stmt, 9),
                                                             .why = column_text(stmt, 10) },
                                                   .outcome = column_text(stmt, 6),
                                                   .id = column_text(stmt, 3),
                                                   .model = column_text(stmt, 4),
                                                   .since_ms = sqlite3_column_int64(stmt, 5) };

                r = fn(&standing, arg, e);
        }
        return r;
}

int store_count_standings(struct store *s, uint64_t *ret, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(s->db, "SELECT count(*) FROM fleet", &stmt, e);

        if (r == 0)
                r = db_step(stmt, e);
        if (r < 0)
                return r;
        *ret = (uint64_t)sqlite3_column_int64(stmt, 0);
        return 0;
}

int store_trim_reports(struct store *s, int64_t before_ms, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *reports = NULL, *fleet = NULL;
        int r = db_prepare(s->db, "DELETE FROM report WHERE received_ms < ?1", &reports, e);

        if (r == 0)
                r = db_prepare(s->db, "DELETE FROM fleet WHERE received_ms < ?1", &fleet, e);
        if (r < 0)
                return r;
        bind_int(reports, 1, before_ms);
        bind_int(fleet, 1, before_ms);
        r = db_run(reports, e);
        return r < 0 ? r : db_run(fleet, e);
}
