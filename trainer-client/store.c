/* SPDX-License-Identifier: Apache-2.0 */
/* The only file here with SQL. */
#include "trainer-client/store.h"

#include <errno.h>
#include <string.h>
#include "common/db.h"
#include "common/json.h"
#include "samples_sql.h"
#include "schema/samples.h"

#define STORE_BUSY_MS    5000
#define STORE_ROWS_MAX   ((size_t)4 << 20) /* rows of one batch, even if one interval has more */
#define MACHINE_JSON_MAX 65536

enum query {
        Q_BACKLOG,
        Q_REMOVED,
        Q_INTERVAL_EPOCH,
        Q_NEXT,
        Q_PREVIOUS,
        Q_EPOCH,
        Q_USAGE,
        Q_POWER,
        Q_ENTITY,
        Q_SENSOR,
        Q_SEEN,
        Q_N,
};

#define INTERVAL_COLUMNS                                                                                     \
        "interval_id, start_ms, end_ms, duration_ns, measured_ns, feature_source, definition, epoch_id"

static const char *const queries[Q_N] = {
        [Q_BACKLOG] =
                "SELECT count(*), (SELECT max(end_ms) FROM interval) FROM interval WHERE interval_id > ?1",
        [Q_REMOVED] = "SELECT removed_up_to FROM retention",
        [Q_INTERVAL_EPOCH] =
                "SELECT epoch, end_ms FROM interval JOIN epoch USING (epoch_id) WHERE interval_id = ?1",
        [Q_NEXT] = "SELECT " INTERVAL_COLUMNS
                   " FROM interval WHERE interval_id > ?1 ORDER BY interval_id LIMIT 1",
        [Q_PREVIOUS] = "SELECT " INTERVAL_COLUMNS " FROM interval WHERE interval_id < ?1 AND epoch_id = ?2 "
                       "ORDER BY interval_id DESC LIMIT 1",
        [Q_EPOCH] = "SELECT epoch, boot_id, node_id, node_name, machine FROM epoch WHERE epoch_id = ?1",
        [Q_USAGE] = "SELECT entity_id, cpu_time_ns, page_cache_pages, net_tx_irq, net_rx_irq, block_irq, "
                    "cpu_cycles, cpu_instructions, cache_miss "
                    "FROM usage JOIN entity USING (entity_id) WHERE interval_id = ?1 AND kind = 'container' "
                    "ORDER BY entity_id",
        [Q_POWER] =
                "SELECT sensor_id, energy_uj, idle_uj FROM power WHERE interval_id = ?1 ORDER BY sensor_id",
        [Q_ENTITY] =
                "SELECT key, pod_name, container_name, container_namespace FROM entity WHERE entity_id = ?1",
        [Q_SENSOR] = "SELECT source, component, unit, provenance FROM sensor WHERE sensor_id = ?1",
        /* usage has no index by entity: from interval to interval by the primary key, the newest first */
        [Q_SEEN] = "SELECT 1 FROM interval i CROSS JOIN usage u ON u.interval_id = i.interval_id AND "
                   "u.entity_id = ?1 "
                   "WHERE i.epoch_id = ?2 AND i.interval_id < ?3 ORDER BY i.interval_id DESC LIMIT 1",
};
_Static_assert(FEATURE_N == 8, "Q_USAGE names every feature's column, in the order of enum feature_id");

struct store {
        sqlite3 *db;
        sqlite3_stmt *stmt[Q_N];
};

void store_close(struct store *s)
{
        if (!s)
                return;
        for (int i = 0; i < Q_N; i++)
                (void)sqlite3_finalize(s->stmt[i]); /* repeats the last step's result */
        db_close(s->db);
        free(s);
}

int store_open(const char *path, struct store **ret_store, struct err *e)
{
        static const struct db_migrations migrations = { samples_migrations, ARRAY_SIZE(samples_migrations),
                                                         SAMPLES_APPLICATION_ID };
        CLEANUP(store_closep) struct store *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        r = db_open(path, DB_READ_ONLY, &migrations, STORE_BUSY_MS, &s->db, NULL, e);
        if (r < 0)
                return r;
        for (int i = 0; i < Q_N; i++) {
                r = db_prepare(s->db, queries[i], &s->stmt[i], e);
                if (r < 0)
                        return err_prefix(e, r, "database '%s'", path);
        }
        *ret_store = TAKE(s);
        return 0;
}

/* Bind up to three integers and step. 1: a row; the caller resets the statement. */
static int query(struct store *s, enum query q, int64_t a, int64_t b, int64_t c, struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[q];
        const int64_t values[] = { a, b, c };

        (void)sqlite3_reset(stmt);
        for (int i = 0; i < sqlite3_bind_parameter_count(stmt); i++)
                if (sqlite3_bind_int64(stmt, i + 1, values[i]) != SQLITE_OK)
                        return db_error(s->db, e, "database");
        return db_step(stmt, e);
}

static int copy_text(sqlite3_stmt *stmt, int column, char **ret)
{
        const unsigned char *text = sqlite3_column_text(stmt, column);

        *ret = strdup(text ? (const char *)text : "");
        return *ret ? 0 : -ENOMEM;
}

/* ---- where we stand ---- */

int store_backlog(struct store *s, int64_t after_id, struct store_backlog *ret, struct err *e)
{
        struct store_backlog b = { 0 };
        int64_t removed;
        int r;

        r = query(s, Q_BACKLOG, after_id, 0, 0, e);
        if (r <= 0)
                return r;
        b.intervals = sqlite3_column_int64(s->stmt[Q_BACKLOG], 0);
        b.newest_ms = sqlite3_column_int64(s->stmt[Q_BACKLOG], 1);
        (void)sqlite3_reset(s->stmt[Q_BACKLOG]);

        r = query(s, Q_REMOVED, 0, 0, 0, e);
        if (r < 0)
                return r;
        removed = r > 0 ? sqlite3_column_int64(s->stmt[Q_REMOVED], 0) : 0;
        (void)sqlite3_reset(s->stmt[Q_REMOVED]);
        b.lost = removed > after_id ? removed - after_id : 0;
        *ret = b;
        return 0;
}

int store_knows(struct store *s, const struct cursor *cursor, struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[Q_INTERVAL_EPOCH];
        const char *epoch;
        int r;

        r = query(s, Q_INTERVAL_EPOCH, cursor->interval_id, 0, 0, e);
        if (r < 0)
                return r;
        if (r > 0) {
                epoch = (const char *)sqlite3_column_text(stmt, 0);
                r = epoch && strcmp(epoch, cursor->epoch) == 0 &&
                    sqlite3_column_int64(stmt, 1) == cursor->end_ms;
                (void)sqlite3_reset(stmt);
                return r;
        }
        r = query(s, Q_REMOVED, 0, 0, 0,
                  e); /* the cursor's interval is gone: only retention removes intervals */
        if (r <= 0)
                return r;
        r = cursor->interval_id <= sqlite3_column_int64(s->stmt[Q_REMOVED], 0);
        (void)sqlite3_reset(s->stmt[Q_REMOVED]);
        return r;
}

/* ---- a batch ---- */

/* A batch under construction: the epoch, and room in its arrays. */
struct reading {
        struct store *store;
        struct pack_batch *batch;
        int64_t epoch_id;
        size_t cap_intervals, cap_entities, cap_sensors, cap_usage, cap_power;
        struct err *e;
};

static int out_of_memory(struct reading *rd)
{
        return err_set(rd->e, -ENOMEM, "out of memory");
}

/* One more element behind n; the array grows by doubling. */
static void *grow(void *array, size_t n, size_t *cap, size_t size)
{
        size_t more = *cap ? *cap : 32;
        void *longer;

        while (more <= n)
                more *= 2;
        if (more == *cap)
                return array;
        if (more > STORE_ROWS_MAX)
                return NULL;
        longer = reallocarray(array, more, size);
        if (longer)
                *cap = more;
        return longer;
}

#define ROOM(rd, array, n, cap)                                                                              \
        __extension__({                                                                                      \
                void *longer_ =                                                                              \
                        grow((rd)->batch->array, (rd)->batch->n, &(rd)->cap, sizeof(*(rd)->batch->array));   \
                if (longer_)                                                                                 \
                        (rd)->batch->array = longer_;                                                        \
                longer_ ? memset(&(rd)->batch->array[(rd)->batch->n], 0, sizeof(*(rd)->batch->array))        \
                        : NULL;                                                                              \
        })

static int append_interval(struct reading *rd, sqlite3_stmt *row)
{
        struct pack_interval *i = ROOM(rd, intervals, n_intervals, cap_intervals);

        if (!i)
                return out_of_memory(rd);
        i->id = sqlite3_column_int64(row, 0);
        i->start_ms = sqlite3_column_int64(row, 1);
        i->end_ms = sqlite3_column_int64(row, 2);
        i->duration_ns = sqlite3_column_int64(row, 3);
        i->measured_ns = sqlite3_column_int64(row, 4);
        rd->batch->n_intervals++;
        if (copy_text(row, 5, &i->feature_source) < 0 || copy_text(row, 6, &i->definition) < 0)
                return out_of_memory(rd);
        return 0;
}

/* Has the entity a row in this epoch before the batch? Without a previous interval nobody can tell, and pack
 * does not ask. */
static int was_seen_before(struct reading *rd, int64_t entity_id, bool *ret)
{
        const struct pack_batch *b = rd->batch;
        int r = 0;

        if (b->has_previous) {
                r = query(rd->store, Q_SEEN, entity_id, rd->epoch_id, b->intervals[0].id, rd->e);
                (void)sqlite3_reset(rd->store->stmt[Q_SEEN]);
        }
        *ret = r > 0;
        return r < 0 ? r : 0;
}

static int append_entity(struct reading *rd, int64_t id)
{
        struct pack_entity *c = ROOM(rd, entities, n_entities, cap_entities);
        sqlite3_stmt *row = rd->store->stmt[Q_ENTITY];
        int r;

        if (!c)
                return out_of_memory(rd);
        rd->batch->n_entities++;
        c->id = id;
        r = query(rd->store, Q_ENTITY, id, 0, 0, rd->e);
        if (r < 0)
                return r;
        if (r == 0)
                return err_set(rd->e, -EBADMSG, "entity %lld has usage but no row", (long long)id);
        if (copy_text(row, 0, &c->key) < 0 || copy_text(row, 1, &c->pod_name) < 0 ||
            copy_text(row, 2, &c->container_name) < 0 || copy_text(row, 3, &c->container_namespace) < 0)
                r = out_of_memory(rd);
        (void)sqlite3_reset(row);
        return r < 0 ? r : was_seen_before(rd, id, &c->seen_before);
}

static int append_sensor(struct reading *rd, int64_t id)
{
        struct pack_sensor *p = ROOM(rd, sensors, n_sensors, cap_sensors);
        sqlite3_stmt *row = rd->store->stmt[Q_SENSOR];
        int r, provenance;

        if (!p)
                return out_of_memory(rd);
        rd->batch->n_sensors++;
        p->id = id;
        r = query(rd->store, Q_SENSOR, id, 0, 0, rd->e);
        if (r < 0)
                return r;
        if (r == 0)
                return err_set(rd->e, -EBADMSG, "sensor %lld has power but no row", (long long)id);
        provenance = provenance_find((const char *)sqlite3_column_text(row, 3));
        p->provenance = (enum provenance)provenance;
        if (provenance < 0)
                r = err_set(rd->e, -EBADMSG, "sensor %lld has an unknown provenance", (long long)id);
        else if (copy_text(row, 0, &p->source) < 0 || copy_text(row, 1, &p->component) < 0 ||
                 copy_text(row, 2, &p->unit) < 0)
                r = out_of_memory(rd);
        (void)sqlite3_reset(row);
        return r < 0 ? r : 0;
}

/* Rows of an interval come ordered by id, mostly the same ids as in the interval before: start behind the
 * last hit. */
static int find_entity(struct reading *rd, int64_t id, size_t *index)
{
        const struct pack_batch *b = rd->batch;

        for (size_t i = 0; i < b->n_entities; i++) {
                size_t at = (*index + 1 + i) % b->n_entities;

                if (b->entities[at].id == id) {
                        *index = at;
                        return 0;
                }
        }
        *index = b->n_entities;
        return append_entity(rd, id);
}

static int find_sensor(struct reading *rd, int64_t id, size_t *index)
{
        for (*index = 0; *index < rd->batch->n_sensors; (*index)++)
                if (rd->batch->sensors[*index].id == id)
                        return 0;
        return append_sensor(rd, id);
}

static int read_usage(struct reading *rd, size_t interval)
{
        struct store *s = rd->store;
        sqlite3_stmt *row = s->stmt[Q_USAGE];
        size_t entity = 0;
        int r;

        r = query(s, Q_USAGE, rd->batch->intervals[interval].id, 0, 0, rd->e);
        for (; r > 0; r = db_step(row, rd->e)) {
                struct pack_usage *u;
                int f;

                r = find_entity(rd, sqlite3_column_int64(row, 0), &entity);
                if (r < 0)
                        break;
                u = ROOM(rd, usage, n_usage, cap_usage);
                if (!u) {
                        r = out_of_memory(rd);
                        break;
                }
                u->interval = interval;
                u->entity = entity;
                for (f = 0; f < FEATURE_N; f++) {
                        u->has[f] = sqlite3_column_type(row, f + 1) != SQLITE_NULL;
                        u->value[f] = sqlite3_column_int64(row, f + 1);
                }
                rd->batch->n_usage++;
        }
        (void)sqlite3_reset(row);
        return r;
}

static int read_power(struct reading *rd, size_t interval)
{
        struct store *s = rd->store;
        sqlite3_stmt *row = s->stmt[Q_POWER];
        int r;

        r = query(s, Q_POWER, rd->batch->intervals[interval].id, 0, 0, rd->e);
        for (; r > 0; r = db_step(row, rd->e)) {
                struct pack_power *p;
                size_t sensor;

                r = find_sensor(rd, sqlite3_column_int64(row, 0), &sensor);
                if (r < 0)
                        break;
                p = ROOM(rd, power, n_power, cap_power);
                if (!p) {
                        r = out_of_memory(rd);
                        break;
                }
                *p = (struct pack_power){ interval, sensor, sqlite3_column_int64(row, 1),
                                          sqlite3_column_int64(row, 2) };
                rd->batch->n_power++;
        }
        (void)sqlite3_reset(row);
        return r;
}

/* The interval that `q` found, with its rows. */
static int read_interval(struct reading *rd, enum query q)
{
        size_t interval = rd->batch->n_intervals;
        int r;

        r = append_interval(rd, rd->store->stmt[q]);
        (void)sqlite3_reset(rd->store->stmt[q]);
        if (r == 0)
                r = read_usage(rd, interval);
        if (r == 0)
                r = read_power(rd, interval);
        return r;
}

/* The machine's JSON: its spec and "cpu_architecture" in one object. */
static int read_machine(struct reading *rd, const char *text)
{
        CLEANUP(json_decrefp) json_t *machine = NULL;
        struct pack_node *node = &rd->batch->node;
        const char *architecture;
        int r;

        r = json_parse(text, strnlen(text, MACHINE_JSON_MAX), "machine of an epoch", &machine, rd->e);
        if (r == 0)
                r = machine_spec_from_json(machine, &node->spec, rd->e);
        if (r < 0)
                return r;
        if (json_get_string(machine, "cpu_architecture", &architecture, NULL) == 0)
                (void)snprintf(node->cpu_architecture, sizeof(node->cpu_architecture), "%s", architecture);
        return 0;
}

static int read_epoch(struct reading *rd)
{
        struct pack_node *node = &rd->batch->node;
        sqlite3_stmt *row = rd->store->stmt[Q_EPOCH];
        const char *machine;
        int r;

        r = query(rd->store, Q_EPOCH, rd->epoch_id, 0, 0, rd->e);
        if (r < 0)
                return r;
        if (r == 0)
                return err_set(rd->e, -EBADMSG, "epoch %lld has intervals but no row",
                               (long long)rd->epoch_id);
        machine = (const char *)sqlite3_column_text(row, 4);
        if (copy_text(row, 0, &node->epoch) < 0 || copy_text(row, 1, &node->boot_id) < 0 ||
            copy_text(row, 2, &node->node_id) < 0 || copy_text(row, 3, &node->node_name) < 0)
                r = out_of_memory(rd);
        else
                r = read_machine(rd, machine ? machine : "");
        (void)sqlite3_reset(row);
        return r;
}

static int read_previous(struct reading *rd, int64_t first_id)
{
        int r;

        r = query(rd->store, Q_PREVIOUS, first_id, rd->epoch_id, 0, rd->e);
        if (r <= 0)
                return r;
        r = read_interval(rd, Q_PREVIOUS);
        rd->batch->has_previous = r == 0;
        return r;
}

/* Fill the batch; returns the number of intervals read. */
static int read_range(struct reading *rd, int64_t after_id, size_t max_intervals, size_t max_rows)
{
        sqlite3_stmt *next = rd->store->stmt[Q_NEXT];
        struct pack_batch *b = rd->batch;
        int n = 0, r;

        for (;;) {
                r = query(rd->store, Q_NEXT, after_id, 0, 0, rd->e);
                if (r <= 0)
                        break;
                after_id = sqlite3_column_int64(next, 0);
                if (n == 0) {
                        rd->epoch_id = sqlite3_column_int64(next, 7);
                        r = read_epoch(rd);
                        if (r == 0)
                                r = read_previous(rd, after_id);
                } else if (rd->epoch_id != sqlite3_column_int64(next, 7)) {
                        break;
                }
                if (r >= 0)
                        r = read_interval(rd, Q_NEXT);
                if (r < 0)
                        break;
                n++;
                if ((size_t)n >= max_intervals || b->n_usage + b->n_power >= max_rows)
                        break;
        }
        (void)sqlite3_reset(next);
        return r < 0 ? r : n;
}

int store_read(struct store *s, int64_t after_id, size_t max_intervals, size_t max_rows,
               struct pack_batch **ret_batch, struct err *e)
{
        CLEANUP(pack_batch_freep) struct pack_batch *batch = pack_batch_new();
        struct reading rd = { .store = s, .batch = batch, .e = e };
        int r;

        if (!batch)
                return err_set(e, -ENOMEM, "out of memory");
        r = db_exec(s->db, "BEGIN", e);
        if (r < 0)
                return r;
        r = read_range(&rd, after_id, max_intervals, max_rows);
        (void)sqlite3_exec(s->db, "COMMIT", NULL, NULL,
                           NULL); /* nothing was written: it only ends the snapshot */
        if (r > 0)
                *ret_batch = TAKE(batch);
        return r < 0 ? err_prefix(e, r, "cannot read the samples") : r;
}
