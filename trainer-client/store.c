/* SPDX-License-Identifier: Apache-2.0 */
/* The only file here with SQL. */
#include "trainer-client/store.h"

#include <errno.h>
#include <string.h>
#include "common/db.h"
#include "common/json.h"
#include "samples_sql.h"
#include "schema/samples.h"
#include "trainer-client/seen.h"

#define STORE_BUSY_MS    5000
#define STORE_ROWS_MAX   ((size_t)4 << 20) /* rows of one batch, even if one interval has more */
#define MACHINE_JSON_MAX 65536

enum query {
        Q_BACKLOG,
        Q_REMOVED,
        Q_FIND,
        Q_FIRST,
        Q_INTERVAL_EPOCH,
        Q_RANGE,
        Q_NEWEST,
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

/* in the order of the primary keys, so this and Q_POWER walk along the file */
#define USAGE(version_3)                                                                                     \
        "SELECT interval_id, entity_id, cpu_time_ns, page_cache_pages, net_tx_irq, net_rx_irq, block_irq, "  \
        "cpu_cycles, cpu_instructions, cache_miss, " version_3 " FROM usage "                                \
        "WHERE interval_id BETWEEN ?1 AND ?2 ORDER BY interval_id, entity_id"
static const char usage_before_version_3[] = USAGE("NULL, NULL");

static const char *const queries[Q_N] = {
        [Q_BACKLOG] = "SELECT count(*), (SELECT max(end_ms) FROM interval), (SELECT max(interval_id) FROM "
                      "interval) "
                      "FROM interval WHERE interval_id > ?1",
        [Q_REMOVED] = "SELECT removed_up_to, removed_unsent FROM retention",
        [Q_FIND] = "SELECT ifnull(min(interval_id), 0), ifnull(max(interval_id), 0) FROM interval WHERE "
                   "end_ms >= ?1 AND "
                   "end_ms < ?2",
        [Q_FIRST] = "SELECT min(interval_id) FROM interval WHERE interval_id > ?1 AND interval_id <= ?2",
        [Q_INTERVAL_EPOCH] =
                "SELECT epoch, end_ms FROM interval JOIN epoch USING (epoch_id) WHERE interval_id = ?1",
        [Q_RANGE] = "SELECT " INTERVAL_COLUMNS
                    " FROM interval WHERE interval_id > ?1 AND interval_id <= ?2 ORDER BY interval_id",
        [Q_NEWEST] = "SELECT interval_id, epoch_id, (SELECT count(*) FROM usage u WHERE u.interval_id = "
                     "i.interval_id) + (SELECT count(*) FROM power p WHERE p.interval_id = i.interval_id) "
                     "FROM interval i WHERE interval_id > ?1 AND interval_id <= ?2 ORDER BY interval_id DESC",
        /* +: not by the index on (epoch_id, end_ms), which would sort the whole epoch by interval_id */
        [Q_PREVIOUS] = "SELECT " INTERVAL_COLUMNS " FROM interval WHERE interval_id < ?1 AND +epoch_id = ?2 "
                       "ORDER BY interval_id DESC LIMIT 1",
        [Q_EPOCH] = "SELECT epoch, boot_id, node_id, node_name, machine FROM epoch WHERE epoch_id = ?1",
        [Q_USAGE] = USAGE("page_cache_read_pages, page_cache_added_pages"),
        [Q_POWER] = "SELECT interval_id, sensor_id, energy_uj, idle_uj FROM power "
                    "WHERE interval_id BETWEEN ?1 AND ?2 ORDER BY interval_id, sensor_id",
        [Q_ENTITY] = "SELECT key, pod_name, container_name, container_namespace, kind = 'container' "
                     "FROM entity WHERE entity_id = ?1",
        [Q_SENSOR] = "SELECT source, component, unit, provenance FROM sensor WHERE sensor_id = ?1",
        /* usage has no index by entity: from interval to interval by the primary key, the newest first */
        [Q_SEEN] = "SELECT 1 FROM interval i CROSS JOIN usage u ON u.interval_id = i.interval_id AND "
                   "u.entity_id = ?1 "
                   "WHERE +i.epoch_id = ?2 AND i.interval_id < ?3 ORDER BY i.interval_id DESC LIMIT 1",
};
_Static_assert(FEATURE_N == 10, "Q_USAGE names every feature's column, in the order of enum feature_id");

struct store {
        sqlite3 *db;
        sqlite3_stmt *stmt[Q_N];
        struct seen seen;
        struct names_policy names;
};

void store_close(struct store *s)
{
        if (!s)
                return;
        for (int i = 0; i < Q_N; i++)
                (void)sqlite3_finalize(s->stmt[i]); /* repeats the last step's result */
        db_close(s->db);
        seen_done(&s->seen);
        free(s);
}

int store_open(const char *path, const struct names_options *names, struct store **ret_store, struct err *e)
{
        static const struct db_migrations migrations = { samples_migrations, ARRAY_SIZE(samples_migrations),
                                                         SAMPLES_APPLICATION_ID };
        CLEANUP(store_closep) struct store *s = calloc(1, sizeof(*s));
        int version, r;

        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        r = names ? names_policy_load(names, &s->names, e) : 0;
        if (r < 0)
                return r;
        r = db_open(path, DB_READ_ONLY, &migrations, STORE_BUSY_MS, &s->db, &version, e);
        if (r < 0)
                return r;
        for (int i = 0; i < Q_N; i++) {
                bool old = i == Q_USAGE && version < 3; /* a collector of a version before writes it */

                r = db_prepare(s->db, old ? usage_before_version_3 : queries[i], &s->stmt[i], e);
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

static int copy_name(const struct store *s, sqlite3_stmt *stmt, int column, char **ret)
{
        const unsigned char *text = sqlite3_column_text(stmt, column);

        *ret = names_apply(&s->names, text ? (const char *)text : "");
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
        b.newest_id = sqlite3_column_int64(s->stmt[Q_BACKLOG], 2);
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

int store_removed_unsent(struct store *s, int64_t *ret, struct err *e)
{
        int r = query(s, Q_REMOVED, 0, 0, 0, e);

        *ret = r > 0 ? sqlite3_column_int64(s->stmt[Q_REMOVED], 1) : 0;
        (void)sqlite3_reset(s->stmt[Q_REMOVED]);
        return r < 0 ? r : 0;
}

int store_find(struct store *s, int64_t from_ms, int64_t to_ms, int64_t *ret_after, int64_t *ret_last,
               struct err *e)
{
        int r = query(s, Q_FIND, from_ms, to_ms, 0, e);

        if (r > 0) {
                *ret_last = sqlite3_column_int64(s->stmt[Q_FIND], 1);
                *ret_after = sqlite3_column_int64(s->stmt[Q_FIND], 0) - 1;
        }
        (void)sqlite3_reset(s->stmt[Q_FIND]);
        return r < 0 ? r : 0;
}

int store_first(struct store *s, int64_t after_id, int64_t last_id, int64_t *ret, struct err *e)
{
        int r = query(s, Q_FIRST, after_id, last_id, 0, e);

        if (r > 0 && sqlite3_column_type(s->stmt[Q_FIRST], 0) == SQLITE_NULL)
                r = 0;
        *ret = r > 0 ? sqlite3_column_int64(s->stmt[Q_FIRST], 0) : 0;
        (void)sqlite3_reset(s->stmt[Q_FIRST]);
        return r;
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

static void drop_intervals(struct reading *rd, size_t n)
{
        while (rd->batch->n_intervals > n) {
                struct pack_interval *last = &rd->batch->intervals[--rd->batch->n_intervals];

                free(last->feature_source);
                free(last->definition);
        }
}

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

        if (seen_has(&rd->store->seen, entity_id)) {
                r = 1;
        } else if (b->has_previous && rd->store->seen.complete_to != b->intervals[0].id) {
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
        if (copy_text(row, 0, &c->key) < 0 || copy_name(rd->store, row, 1, &c->pod_name) < 0 ||
            copy_name(rd->store, row, 2, &c->container_name) < 0 ||
            copy_name(rd->store, row, 3, &c->container_namespace) < 0)
                r = out_of_memory(rd);
        c->is_container = sqlite3_column_int(row, 4);
        (void)sqlite3_reset(row);
        return r < 0 || !c->is_container ? (r < 0 ? r : 0) : was_seen_before(rd, id, &c->seen_before);
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

static int append_usage(struct reading *rd, sqlite3_stmt *row, size_t interval, size_t *entity)
{
        struct pack_usage *u;
        int r;

        r = find_entity(rd, sqlite3_column_int64(row, 1), entity);
        if (r < 0 || !rd->batch->entities[*entity].is_container)
                return r;
        u = ROOM(rd, usage, n_usage, cap_usage);
        if (!u)
                return out_of_memory(rd);
        u->interval = interval;
        u->entity = *entity;
        for (int f = 0; f < FEATURE_N; f++) {
                u->value[f] = sqlite3_column_int64(row, f + 2); /* 0 for NULL */
                u->has[f] = u->value[f] != 0 || sqlite3_column_type(row, f + 2) != SQLITE_NULL;
        }
        rd->batch->n_usage++;
        return 0;
}

static int append_power(struct reading *rd, sqlite3_stmt *row, size_t interval)
{
        struct pack_power *p;
        size_t sensor;
        int r;

        r = find_sensor(rd, sqlite3_column_int64(row, 1), &sensor);
        if (r < 0)
                return r;
        p = ROOM(rd, power, n_power, cap_power);
        if (!p)
                return out_of_memory(rd);
        *p = (struct pack_power){ interval, sensor, sqlite3_column_int64(row, 2),
                                  sqlite3_column_int64(row, 3) };
        rd->batch->n_power++;
        return 0;
}

/* The rows of intervals[from, …). No further interval is begun once there are max_rows rows: those behind are
 * taken off again. */
static int read_usage(struct reading *rd, size_t from, size_t max_rows)
{
        struct pack_batch *b = rd->batch;
        sqlite3_stmt *row = rd->store->stmt[Q_USAGE];
        size_t interval = from, entity = 0, before = b->n_usage;
        int r;

        r = query(rd->store, Q_USAGE, b->intervals[from].id, b->intervals[b->n_intervals - 1].id, 0, rd->e);
        for (; r > 0; r = db_step(row, rd->e)) {
                int64_t id = sqlite3_column_int64(row, 0);

                if (b->intervals[interval].id != id && b->n_usage - before >= max_rows)
                        break;
                while (interval < b->n_intervals && b->intervals[interval].id < id)
                        interval++;
                if (interval == b->n_intervals || b->intervals[interval].id != id)
                        r = err_set(rd->e, -EBADMSG, "there is usage of an interval %lld that has no row",
                                    (long long)id);
                else
                        r = append_usage(rd, row, interval, &entity);
                if (r < 0)
                        break;
        }
        if (r > 0)
                drop_intervals(rd, interval + 1);
        (void)sqlite3_reset(row);
        return r < 0 ? r : 0;
}

static int read_power(struct reading *rd, size_t from)
{
        struct pack_batch *b = rd->batch;
        sqlite3_stmt *row = rd->store->stmt[Q_POWER];
        size_t interval = from;
        int r;

        r = query(rd->store, Q_POWER, b->intervals[from].id, b->intervals[b->n_intervals - 1].id, 0, rd->e);
        for (; r > 0; r = db_step(row, rd->e)) {
                int64_t id = sqlite3_column_int64(row, 0);

                while (interval < b->n_intervals && b->intervals[interval].id < id)
                        interval++;
                if (interval == b->n_intervals || b->intervals[interval].id != id)
                        r = err_set(rd->e, -EBADMSG, "there is power of an interval %lld that has no row",
                                    (long long)id);
                else
                        r = append_power(rd, row, interval);
                if (r < 0)
                        break;
        }
        (void)sqlite3_reset(row);
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
        sqlite3_stmt *row = rd->store->stmt[Q_PREVIOUS];
        int r;

        r = query(rd->store, Q_PREVIOUS, first_id, rd->epoch_id, 0, rd->e);
        if (r > 0) {
                r = append_interval(rd, row);
                rd->batch->has_previous = r == 0;
        }
        (void)sqlite3_reset(row);
        return r;
}

/* The intervals of the range that are of the first one's epoch, behind the previous one. */
static int read_intervals(struct reading *rd, int64_t after_id, int64_t last_id, size_t max)
{
        sqlite3_stmt *row = rd->store->stmt[Q_RANGE];
        struct pack_batch *b = rd->batch;
        int r;

        r = query(rd->store, Q_RANGE, after_id, last_id, 0, rd->e);
        for (; r > 0; r = db_step(row, rd->e)) {
                if (rd->epoch_id == 0) {
                        rd->epoch_id = sqlite3_column_int64(row, 7);
                        r = read_epoch(rd);
                        if (r == 0)
                                r = read_previous(rd, sqlite3_column_int64(row, 0));
                } else if (rd->epoch_id != sqlite3_column_int64(row, 7)) {
                        break;
                }
                if (r >= 0)
                        r = append_interval(rd, row);
                if (r < 0 || pack_batch_size(b) == max)
                        break;
        }
        (void)sqlite3_reset(row);
        return r < 0 ? r : 0;
}

/* Whom this batch has met, the next one has not to search for. */
static void remember_entities(struct reading *rd)
{
        struct seen *seen = &rd->store->seen;
        const struct pack_batch *b = rd->batch;
        bool complete = b->has_previous ? seen->complete_to == b->intervals[0].id
                                        : b->intervals[0].measured_ns == b->intervals[0].duration_ns;

        seen->last_id = b->intervals[b->n_intervals - 1].id;
        seen->complete_to = complete ? b->intervals[b->n_intervals - 1].id : 0;
        for (size_t i = 0; i < b->n_entities; i++)
                seen_add(seen, b->entities[i].id);
}

static int read_rows(struct reading *rd, size_t max_rows)
{
        size_t first = pack_batch_first(rd->batch);
        int r = 0;

        seen_begin(&rd->store->seen, rd->epoch_id, rd->batch->intervals[first].id);
        if (first > 0) { /* its rows first, because nothing is dropped of them */
                size_t all = rd->batch->n_intervals;

                rd->batch->n_intervals = first;
                r = read_usage(rd, 0, SIZE_MAX);
                if (r == 0)
                        r = read_power(rd, 0);
                rd->batch->n_intervals = all;
        }
        if (r == 0)
                r = read_usage(rd, first, max_rows);
        if (r == 0)
                r = read_power(rd, first);
        if (r == 0)
                remember_entities(rd);
        return r;
}

int store_read(struct store *s, const struct store_range *range, struct pack_batch **ret_batch, struct err *e)
{
        CLEANUP(pack_batch_freep) struct pack_batch *batch = pack_batch_new();
        struct reading rd = { .store = s, .batch = batch, .e = e };
        int r, n = 0;

        if (!batch)
                return err_set(e, -ENOMEM, "out of memory");
        r = db_exec(s->db, "BEGIN", e);
        if (r < 0)
                return r;
        r = read_intervals(&rd, range->after_id, range->last_id, range->max_intervals);
        if (r == 0 && pack_batch_size(batch) > 0)
                r = read_rows(&rd, range->max_rows);
        (void)sqlite3_exec(s->db, "COMMIT", NULL, NULL,
                           NULL); /* nothing was written: it only ends the snapshot */
        if (r < 0)
                return err_prefix(e, r, "cannot read the samples");
        n = (int)pack_batch_size(batch);
        if (n > 0)
                *ret_batch = TAKE(batch);
        return n;
}

int store_newest(struct store *s, const struct store_range *range, int64_t *ret_after, int64_t *ret_last,
                 struct err *e)
{
        sqlite3_stmt *row = s->stmt[Q_NEWEST];
        size_t rows = 0;
        int64_t epoch_id = 0;
        int n = 0, r;

        r = query(s, Q_NEWEST, range->after_id, range->last_id, 0, e);
        for (; r > 0; r = db_step(row, e)) {
                if (n > 0 && (epoch_id != sqlite3_column_int64(row, 1) || rows >= range->max_rows ||
                              (size_t)n == range->max_intervals))
                        break;
                if (n == 0)
                        *ret_last = sqlite3_column_int64(row, 0);
                epoch_id = sqlite3_column_int64(row, 1);
                *ret_after = sqlite3_column_int64(row, 0) - 1;
                rows += (size_t)sqlite3_column_int64(row, 2);
                n++;
        }
        (void)sqlite3_reset(row);
        return r < 0 ? r : n;
}
