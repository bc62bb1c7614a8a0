/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/store.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include "collector/store_internal.h"

void store_bind_text(sqlite3_stmt *stmt, int i, const char *text)
{
        (void)sqlite3_bind_text(stmt, i, text, -1, SQLITE_TRANSIENT);
}

int store_query_row(sqlite3_stmt *stmt, int64_t *ret, int n, struct err *e)
{
        int r = db_step(stmt, e);

        for (int i = 0; r > 0 && i < n; i++)
                ret[i] = sqlite3_column_int64(stmt, i);
        if (r > 0)
                (void)sqlite3_reset(stmt);
        return r;
}

void store_read_totals(sqlite3_stmt *stmt, int column, uint64_t ret[FEATURE_N])
{
        for (int f = 0; f < FEATURE_N; f++)
                ret[f] = (uint64_t)sqlite3_column_int64(stmt, column + f); /* NULL reads as 0 */
}

/* ---- appending ---- */

static int add_interval(struct store *s, const struct window *w, int64_t *ret_id, struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[STORE_ADD_INTERVAL];
        int r;

        (void)sqlite3_bind_int64(stmt, 1, s->epoch_id);
        (void)sqlite3_bind_int64(stmt, 2, w->start_ms);
        (void)sqlite3_bind_int64(stmt, 3, w->end_ms);
        (void)sqlite3_bind_int64(stmt, 4, (int64_t)w->pending_ns);
        (void)sqlite3_bind_int64(stmt, 5, (int64_t)(w->measured_ns + w->pending_ns));
        store_bind_text(stmt, 6, s->feature_source);
        store_bind_text(stmt, 7, s->definition);
        store_bind_text(stmt, 8, w->counters);
        if (isnan(w->counters_running))
                (void)sqlite3_bind_null(stmt, 9);
        else
                (void)sqlite3_bind_double(stmt, 9, w->counters_running);
        r = db_run(stmt, e);
        if (r == 0)
                *ret_id = sqlite3_last_insert_rowid(s->db);
        return r;
}

/* Run a statement that returns one id. */
static int run_returning(sqlite3_stmt *stmt, int64_t *ret_id, struct err *e)
{
        int r = db_step(stmt, e);

        if (r > 0)
                *ret_id = sqlite3_column_int64(stmt, 0);
        (void)sqlite3_reset(stmt);
        return r > 0 ? 0 : r < 0 ? r : err_set(e, -EINVAL, "database: no id was returned");
}

static int find_entity_id(struct store *s, const char *kind, const struct entity *entity, int64_t *id,
                          struct err *e)
{
        static const struct entity_names unknown,
                system = { .pod_name = ENTITY_SYSTEM,
                           .container_name = ENTITY_SYSTEM,
                           .container_namespace = "system" },
                kernel = { .pod_name = ENTITY_KERNEL,
                           .container_name = ENTITY_KERNEL,
                           .container_namespace = "kernel" };
        sqlite3_stmt *stmt = s->stmt[STORE_ADD_ENTITY];
        const struct entity_names *names = entity->names ? entity->names : &unknown;

        if (*id)
                return 0;
        if (entity->kind == ENTITY_CONTAINER && !strcmp(entity->key, ENTITY_SYSTEM))
                names = &system;
        else if (entity->kind == ENTITY_CONTAINER && !strcmp(entity->key, ENTITY_KERNEL))
                names = &kernel;
        store_bind_text(stmt, 1, kind);
        store_bind_text(stmt, 2, entity->key);
        store_bind_text(stmt, 3, entity->cgroup);
        store_bind_text(stmt, 4, names->pod_name);
        store_bind_text(stmt, 5, names->container_name);
        store_bind_text(stmt, 6, names->container_namespace);
        store_bind_text(stmt, 7, entity->kind == ENTITY_PROCESS ? entity->name : "");
        store_bind_text(stmt, 8, entity->kind == ENTITY_VM ? entity->name : "");
        store_bind_text(stmt, 9, entity->hypervisor ? entity->hypervisor : "");
        return run_returning(stmt, id, e);
}

static int add_usage(struct store *s, int64_t interval_id, int64_t entity_id, const uint64_t total[FEATURE_N],
                     const bool measured[FEATURE_N], struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[STORE_ADD_USAGE];

        (void)sqlite3_bind_int64(stmt, 1, interval_id);
        (void)sqlite3_bind_int64(stmt, 2, entity_id);
        for (int f = 0; f < FEATURE_N; f++) {
                if (measured[f])
                        (void)sqlite3_bind_int64(stmt, 3 + f, (int64_t)total[f]);
                else
                        (void)sqlite3_bind_null(stmt, 3 + f);
        }
        return db_run(stmt, e);
}

static int add_all_usage(struct store *s, int64_t interval_id, struct window *w, struct err *e)
{
        static const struct entity node;
        int r;

        r = find_entity_id(s, "node", &node, &w->node_store_id, e);
        if (r == 0)
                r = add_usage(s, interval_id, w->node_store_id, w->total, w->measured, e);
        for (size_t i = 0; r == 0 && i < w->n; i++) {
                struct entity *entity = w->entities[i];

                if (entity->kind == ENTITY_PROCESS && (!s->processes || entity->idle_ns >= w->pending_ns))
                        continue; /* not wanted, or it did nothing */
                r = find_entity_id(s, entity_kind_names[entity->kind], entity, &entity->store_id, e);
                if (r == 0)
                        r = add_usage(s, interval_id, entity->store_id, entity->total, w->measured, e);
        }
        return r;
}

static int find_sensor_id(struct store *s, struct sensor *sensor, struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[STORE_ADD_SENSOR];

        if (sensor->store_id)
                return 0;
        store_bind_text(stmt, 1, sensor->reading.source);
        store_bind_text(stmt, 2, sensor->reading.component);
        store_bind_text(stmt, 3, sensor->reading.unit);
        store_bind_text(stmt, 4, provenance_names[sensor->reading.provenance]);
        return run_returning(stmt, &sensor->store_id, e);
}

static void bind_microwatts(sqlite3_stmt *stmt, int i, double watts)
{
        if (isnan(watts))
                (void)sqlite3_bind_null(stmt, i);
        else
                (void)sqlite3_bind_int64(stmt, i, llround(watts * 1e6));
}

static int add_power(struct store *s, int64_t interval_id, struct window *w, struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[STORE_ADD_POWER];
        int r = 0;

        for (size_t i = 0; r == 0 && i < w->n_sensors; i++) {
                struct sensor *sensor = &w->sensors[i];

                if (!sensor->valid)
                        continue;
                r = find_sensor_id(s, sensor, e);
                if (r < 0)
                        break;
                (void)sqlite3_bind_int64(stmt, 1, interval_id);
                (void)sqlite3_bind_int64(stmt, 2, sensor->store_id);
                (void)sqlite3_bind_int64(stmt, 3, sensor->energy_uj);
                (void)sqlite3_bind_int64(stmt, 4, sensor->idle_uj);
                store_bind_text(stmt, 5, sensor->reading.model);
                (void)sqlite3_bind_int64(stmt, 6, sensor->raw_uj);
                (void)sqlite3_bind_int64(stmt, 7, sensor->lag_ns);
                bind_microwatts(stmt, 8, sensor->idle_min_watts);
                bind_microwatts(stmt, 9, sensor->idle_fit_watts);
                r = db_run(stmt, e);
        }
        return r;
}

/* Ids that were made in a transaction that failed do not exist. */
void store_forget_ids(struct window *w)
{
        w->node_store_id = 0;
        for (size_t i = 0; i < w->n; i++)
                w->entities[i]->store_id = 0;
        for (size_t i = 0; i < w->n_sensors; i++)
                w->sensors[i].store_id = 0;
}

static int add_pair(sqlite3_stmt *stmt, int64_t interval_id, uint64_t key, uint64_t value, struct err *e)
{
        (void)sqlite3_bind_int64(stmt, 1, interval_id);
        (void)sqlite3_bind_int64(stmt, 2, (int64_t)key);
        (void)sqlite3_bind_int64(stmt, 3, (int64_t)value);
        return db_run(stmt, e);
}

static int add_frequency(struct store *s, int64_t interval_id, const struct window *w, struct err *e)
{
        const struct frequency_reading *f = &w->frequency;
        int r = 0;

        for (size_t i = 0; r == 0 && i < f->n_cpus; i++)
                r = add_pair(s->stmt[STORE_ADD_FREQUENCY], interval_id, f->cpus[i].cpu, f->cpus[i].hertz, e);
        for (size_t i = 0; r == 0 && i < w->n_bands; i++)
                r = add_pair(s->stmt[STORE_ADD_BAND], interval_id, w->bands[i].hertz, w->bands[i].time_ns, e);
        return r;
}

static int append(struct store *s, struct window *w, int64_t now_ms, struct err *e)
{
        int64_t interval_id = 0;
        int r;

        r = db_exec(s->db, "BEGIN IMMEDIATE", e);
        if (r < 0)
                return r;
        r = add_interval(s, w, &interval_id, e);
        if (r == 0)
                r = add_all_usage(s, interval_id, w, e);
        if (r == 0)
                r = add_power(s, interval_id, w, e);
        if (r == 0)
                r = add_frequency(s, interval_id, w, e);
        if (r == 0)
                r = store_retain(s, now_ms, e);
        if (r == 0)
                r = db_exec(s->db, "COMMIT", e);
        return r;
}

int store_append(struct store *s, struct window *w, int64_t now_ms, struct err *e)
{
        int r = append(s, w, now_ms, e);

        if (r < 0) {
                if (!sqlite3_get_autocommit(s->db))
                        (void)db_exec(s->db, "ROLLBACK", NULL); /* the first failure counts */
                store_forget_ids(w);
                return r;
        }
        store_tidy(s, w, now_ms);
        return 0;
}

/* ---- looking up what the window has forgotten ---- */

int store_restore_entity(void *store, enum entity_kind kind, const char *key, uint64_t ret_total[FEATURE_N])
{
        struct store *s = store;
        sqlite3_stmt *stmt = s->stmt[STORE_FIND_TOTALS];
        int r;

        (void)sqlite3_bind_int64(stmt, 1, s->first_id);
        store_bind_text(stmt, 2, entity_kind_names[kind]);
        store_bind_text(stmt, 3, key);
        r = db_step(stmt, NULL);
        if (r > 0)
                store_read_totals(stmt, 0, ret_total);
        (void)sqlite3_reset(stmt);
        return r;
}

/* The row of version 1 has no raw total, and its minimum is what its idle energy was made from. */
static void read_past(sqlite3_stmt *stmt, struct sensor_past *ret)
{
        double seconds = (double)sqlite3_column_int64(stmt, 2) / 1e9;
        bool old = sqlite3_column_type(stmt, 3) == SQLITE_NULL;

        ret->energy_uj = sqlite3_column_int64(stmt, 0);
        ret->idle_uj = sqlite3_column_int64(stmt, 1);
        ret->raw_uj = old ? ret->energy_uj : sqlite3_column_int64(stmt, 3);
        ret->idle_min_watts = sqlite3_column_type(stmt, 4) == SQLITE_NULL
                                      ? (double)NAN
                                      : (double)sqlite3_column_int64(stmt, 4) / 1e6;
        if (old) {
                int64_t before_uj = db_step(stmt, NULL) > 0 ? sqlite3_column_int64(stmt, 1) : 0;

                ret->idle_min_watts = (double)(ret->idle_uj - before_uj) / 1e6 / seconds;
        }
}

int store_restore_sensor(void *store, const struct power_reading *sensor, struct sensor_past *ret)
{
        struct store *s = store;
        sqlite3_stmt *stmt = s->stmt[STORE_FIND_POWER];
        int r;

        (void)sqlite3_bind_int64(stmt, 1, s->first_id);
        store_bind_text(stmt, 2, sensor->source);
        store_bind_text(stmt, 3, sensor->component);
        store_bind_text(stmt, 4, sensor->unit);
        store_bind_text(stmt, 5, provenance_names[sensor->provenance]);
        r = db_step(stmt, NULL);
        if (r > 0)
                read_past(stmt, ret);
        (void)sqlite3_reset(stmt);
        return r;
}
