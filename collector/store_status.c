/* SPDX-License-Identifier: Apache-2.0 */
/* Reading samples.db as a stranger does: for `status`, while the owner may be writing. */
#include "collector/store.h"

#include "common/db.h"
#include "samples_sql.h"
#include "schema/samples.h"

#define BUSY_MS 2000

static const struct db_migrations migrations = { samples_migrations, ARRAY_SIZE(samples_migrations),
                                                 SAMPLES_APPLICATION_ID };

static int query_json(sqlite3 *db, const char *query, int64_t parameter, json_t **ret, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        json_t *rows = json_array();
        int r;

        r = db_prepare(db, query, &stmt, e);
        if (r == 0 && sqlite3_bind_parameter_count(stmt))
                (void)sqlite3_bind_int64(stmt, 1, parameter);
        while (r >= 0 && (r = db_step(stmt, e)) > 0) {
                json_t *row = json_object();

                for (int i = 0; i < sqlite3_column_count(stmt); i++) {
                        const char *text = (const char *)sqlite3_column_text(stmt, i);
                        int type = sqlite3_column_type(stmt, i);

                        (void)json_object_set_new(
                                row, sqlite3_column_name(stmt, i),
                                type == SQLITE_INTEGER ? json_integer(sqlite3_column_int64(stmt, i))
                                : type == SQLITE_FLOAT ? json_real(sqlite3_column_double(stmt, i))
                                : text                 ? json_string(text)
                                                       : json_null());
                }
                (void)json_array_append_new(rows, row);
        }
        if (r < 0) {
                json_decref(rows);
                return r;
        }
        *ret = rows;
        return 0;
}

static const struct {
        const char *name;
        const char *query;
        bool one;  /* a single row, taken out of its array */
        int until; /* the last version of the file with which to ask so; 0: for ever */
        int since; /* the first one; 0: always */
} status_queries[] = {
        { "file",
          "SELECT (SELECT count(*) FROM interval) AS intervals, (SELECT count(*) FROM usage) AS usage_rows, "
          "(SELECT count(*) FROM power) AS power_rows, (SELECT count(*) FROM entity) AS entities, "
          "(SELECT page_count * page_size FROM pragma_page_count, pragma_page_size) AS bytes",
          true, 0, 0 },
        { "retention", "SELECT removed_up_to, removed_unsent FROM retention", true, 0, 0 },
        { "last",
          "SELECT interval_id, start_ms, end_ms, ?1 - end_ms AS age_ms, duration_ns, feature_source, "
          "definition, counters, counters_running FROM interval ORDER BY interval_id DESC LIMIT 1",
          true, 0, 3 },
        { "last",
          "SELECT interval_id, start_ms, end_ms, ?1 - end_ms AS age_ms, duration_ns, feature_source, "
          "definition "
          "FROM interval ORDER BY interval_id DESC LIMIT 1",
          true, 2, 0 },
        { "epochs",
          "SELECT epoch, boot_id, node_name, started_ms, (SELECT count(*) FROM interval i WHERE i.epoch_id = "
          "e.epoch_id) AS intervals FROM epoch e ORDER BY epoch_id DESC LIMIT 20",
          false, 0, 0 },
        { "missing", "SELECT what, why FROM missing ORDER BY what", false, 0, 3 },
        { "sensors",
          "SELECT source, component, unit, provenance, (SELECT count(*) FROM power p WHERE p.sensor_id = "
          "s.sensor_id AND p.interval_id = (SELECT max(interval_id) FROM interval)) AS in_last "
          "FROM sensor s ORDER BY source, component, unit",
          false, 0, 0 },
};

int store_status(const char *path, int64_t now_ms, json_t **ret, struct err *e)
{
        CLEANUP(db_closep) sqlite3 *db = NULL;
        CLEANUP(json_decrefp) json_t *status = json_object();
        int version, r;

        r = db_open(path, DB_READ_ONLY, &migrations, BUSY_MS, &db, &version, e);
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(status_queries); i++) {
                int until = status_queries[i].until;
                json_t *rows;

                if (version < status_queries[i].since || (until && version > until))
                        continue;
                r = query_json(db, status_queries[i].query, now_ms, &rows, e);
                if (r < 0)
                        break;
                if (status_queries[i].one) {
                        (void)json_object_set(status, status_queries[i].name, json_array_get(rows, 0));
                        json_decref(rows);
                } else {
                        (void)json_object_set_new(status, status_queries[i].name, rows);
                }
        }
        if (r < 0)
                return r;
        *ret = TAKE(status);
        return 0;
}
