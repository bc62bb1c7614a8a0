/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <sys/random.h>
#include "collector/acks.h"
#include "common/db.h"
#include "common/file.h"
#include "common/json.h"
#include "samples_sql.h"
#include "schema/samples.h"

#define BUSY_MS            2000
#define RETAIN_PER_TICK    16    /* intervals removed at most with each one appended */
#define VACUUM_PAGES       256   /* given back per tick while the file is over its size */
#define ENTITIES_PRUNE_MIN 20000 /* below that many, entities without rows are left alone */
#define PRUNE_PERIOD_MS    (INT64_C(24) * 3600 * 1000)
#define MACHINE_JSON_MAX   ((size_t)16 << 10)

enum statement {
        ADD_INTERVAL,
        ADD_ENTITY,
        ADD_USAGE,
        ADD_SENSOR,
        ADD_POWER,
        FIND_TOTALS,
        FIND_POWER,
        OLDEST,
        NEWEST_ID,
        PAGES,
        REMOVE,
        NOTE_REMOVED,
        STATEMENTS,
};

#define TOTALS                                                                                               \
        "cpu_time_ns, page_cache_pages, net_tx_irq, net_rx_irq, block_irq, cpu_cycles, cpu_instructions, "   \
        "cache_miss"

static const char *const sql[STATEMENTS] = {
        [ADD_INTERVAL] = "INSERT INTO interval (epoch_id, start_ms, end_ms, duration_ns, measured_ns, "
                         "feature_source, definition) VALUES (?, ?, ?, ?, ?, ?, 'exact')",
        /* the no-op update makes RETURNING give the row that was there */
        [ADD_ENTITY] =
                "INSERT INTO entity (kind, key, cgroup, pod_name, container_name, container_namespace) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET key = excluded.key "
                "RETURNING entity_id",
        [ADD_USAGE] = "INSERT INTO usage (interval_id, entity_id, " TOTALS
                      ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [ADD_SENSOR] = "INSERT INTO sensor (source, component, unit, provenance) VALUES (?, ?, ?, ?) "
                       "ON CONFLICT (source, component, unit, provenance) DO UPDATE SET unit = excluded.unit "
                       "RETURNING sensor_id",
        [ADD_POWER] = "INSERT INTO power (interval_id, sensor_id, energy_uj, idle_uj, model) VALUES (?, ?, "
                      "?, ?, ?)",
        /* both walk back from the newest interval and stop at the first hit; unknown ones walk nowhere. usage
         * has many rows per interval and no index by entity: from interval to interval by the primary key */
        [FIND_TOTALS] = "SELECT " TOTALS " FROM entity e CROSS JOIN interval i "
                        "CROSS JOIN usage u ON u.interval_id = i.interval_id AND u.entity_id = e.entity_id "
                        "WHERE i.interval_id >= ?1 AND e.kind = 'container' AND e.key = ?2 "
                        "ORDER BY i.interval_id DESC LIMIT 1",
        [FIND_POWER] = "SELECT p.energy_uj, p.idle_uj, i.duration_ns FROM sensor s "
                       "CROSS JOIN power p ON p.sensor_id = s.sensor_id "
                       "CROSS JOIN interval i ON i.interval_id = p.interval_id "
                       "WHERE p.interval_id >= ?1 AND s.source = ?2 AND s.component = ?3 AND s.unit = ?4 "
                       "AND s.provenance = ?5 ORDER BY p.interval_id DESC LIMIT 2",
        [OLDEST] = "SELECT interval_id, end_ms FROM interval ORDER BY interval_id LIMIT ?1",
        [NEWEST_ID] = "SELECT max(interval_id) FROM interval",
        [PAGES] =
                "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, "
                "pragma_page_size",
        [REMOVE] = "DELETE FROM interval WHERE interval_id <= ?1",
        [NOTE_REMOVED] = "UPDATE retention SET removed_up_to = max(removed_up_to, ?1), "
                         "removed_unsent = removed_unsent + ?2",
};

struct store {
        sqlite3 *db;
        sqlite3_stmt *stmt[STATEMENTS];
        int lock_fd;
        char path[PATH_MAX];
        char feature_source[16];
        int64_t retention_age_ms, retention_size;
        int64_t epoch_id;
        int64_t first_id; /* the epoch's intervals are from here on */
        int64_t next_prune_ms;
};

static const struct db_migrations migrations = { samples_migrations, ARRAY_SIZE(samples_migrations),
                                                 SAMPLES_APPLICATION_ID };

void store_close(struct store *s)
{
        if (!s)
                return;
        for (int i = 0; i < STATEMENTS; i++)
                (void)sqlite3_finalize(s->stmt[i]);
        if (s->db)
                db_close(s->db);
        if (s->lock_fd >= 0)
                (void)close(s->lock_fd);
        free(s);
}

static void bind_text(sqlite3_stmt *stmt, int i, const char *text)
{
        (void)sqlite3_bind_text(stmt, i, text, -1, SQLITE_TRANSIENT);
}

/* ---- opening ---- */

/* Move the file and its companions to <path>.corrupt-<time>. */
static int move_aside(const char *path, int64_t now_ms, char *ret, size_t size, struct err *e)
{
        static const char *const suffixes[] = { "", "-wal", "-shm" };
        time_t now = (time_t)(now_ms / 1000);
        char stamp[32], from[PATH_MAX + 8], to[PATH_MAX + 48];
        struct tm tm;

        (void)gmtime_r(&now, &tm);
        (void)strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
        for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
                (void)snprintf(from, sizeof(from), "%s%s", path, suffixes[i]);
                (void)snprintf(to, sizeof(to), "%s.corrupt-%s%s", path, stamp, suffixes[i]);
                if (rename(from, to) < 0 && errno != ENOENT)
                        return err_sys(e, "cannot move '%s' aside", from);
                if (i == 0)
                        (void)snprintf(ret, size, "%s", to);
        }
        return 0;
}

static int lock_file(struct store *s, struct err *e)
{
        char path[PATH_MAX + 8], dir[PATH_MAX];
        char *slash;
        int r;

        (void)snprintf(dir, sizeof(dir), "%s", s->path);
        slash = strrchr(dir, '/');
        if (slash && slash != dir) {
                *slash = '\0';
                r = file_mkdirs(dir, 0750, e);
                if (r < 0)
                        return r;
        }
        (void)snprintf(path, sizeof(path), "%s.lock", s->path);
        r = file_lock(path, &s->lock_fd, e);
        if (r == -EWOULDBLOCK)
                return err_set(e, r, "another collector writes '%s'", s->path);
        return r;
}

static int prepare_all(struct store *s, struct err *e)
{
        for (int i = 0; i < STATEMENTS; i++) {
                int r = db_prepare(s->db, sql[i], &s->stmt[i], e);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* What the file says about its last epoch. */
struct last_epoch {
        int64_t epoch_id;                 /* 0: none */
        int64_t interval_id, measured_ns; /* its last interval; 0: none */
        int64_t newest_id, end_ms;        /* the file's last interval */
        bool same;                        /* this boot of this machine, by the same feature source */
};

/* An epoch goes on while boot, machine and feature source are the same: another source counts other things,
 * so its totals are not a continuation. */
static int find_last(struct store *s, const struct machine *machine, struct last_epoch *ret, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *epoch = NULL;
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *interval = NULL;
        int r;

        memset(ret, 0, sizeof(*ret));
        r = db_prepare(
                s->db,
                "SELECT epoch_id, boot_id = ?1 AND node_id = ?2 FROM epoch ORDER BY epoch_id DESC LIMIT 1",
                &epoch, e);
        if (r < 0)
                return r;
        bind_text(epoch, 1, machine->boot_id);
        bind_text(epoch, 2, machine->node_id);
        r = db_step(epoch, e);
        if (r <= 0)
                return r;
        ret->epoch_id = sqlite3_column_int64(epoch, 0);
        ret->same = sqlite3_column_int(epoch, 1) != 0;

        r = db_prepare(s->db,
                       "SELECT interval_id, end_ms, measured_ns, feature_source = ?1, epoch_id FROM interval "
                       "ORDER BY interval_id DESC LIMIT 1",
                       &interval, e);
        if (r < 0)
                return r;
        bind_text(interval, 1, s->feature_source);
        r = db_step(interval, e);
        if (r <= 0)
                return r;
        ret->newest_id = sqlite3_column_int64(interval, 0);
        ret->end_ms = sqlite3_column_int64(interval, 1);
        if (sqlite3_column_int64(interval, 4) != ret->epoch_id)
                return 0; /* an epoch that has recorded nothing yet */
        ret->interval_id = ret->newest_id;
        ret->measured_ns = sqlite3_column_int64(interval, 2);
        ret->same = ret->same && sqlite3_column_int(interval, 3);
        return 0;
}

static int random_hex(char ret[33], struct err *e)
{
        unsigned char bytes[16];

        if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
                return err_sys(e, "no random numbers");
        for (size_t i = 0; i < sizeof(bytes); i++)
                (void)snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
        return 0;
}

static int machine_json(const struct machine *machine, struct buf *out, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = machine_spec_to_json(&machine->spec);

        if (!object ||
            json_object_set_new(object, "cpu_architecture", json_string(machine->cpu_architecture)) < 0 ||
            json_write(object, out) < 0)
                return err_set(e, -ENOMEM, "cannot describe the machine");
        return 0;
}

static int add_epoch(struct store *s, const struct machine *machine, int64_t now_ms, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        struct buf json;
        char epoch[33];
        int r;

        buf_init(&json, MACHINE_JSON_MAX);
        r = random_hex(epoch, e);
        if (r == 0)
                r = machine_json(machine, &json, e);
        if (r == 0)
                r = db_prepare(s->db,
                               "INSERT INTO epoch (epoch, boot_id, node_id, node_name, started_ms, machine) "
                               "VALUES (?, ?, ?, ?, ?, ?)",
                               &stmt, e);
        if (r == 0) {
                bind_text(stmt, 1, epoch);
                bind_text(stmt, 2, machine->boot_id);
                bind_text(stmt, 3, machine->node_id);
                bind_text(stmt, 4, machine->node_name);
                (void)sqlite3_bind_int64(stmt, 5, now_ms);
                bind_text(stmt, 6, json.data);
                r = db_run(stmt, e);
        }
        buf_done(&json);
        if (r == 0)
                s->epoch_id = sqlite3_last_insert_rowid(s->db);
        return r;
}

static void read_totals(sqlite3_stmt *stmt, int column, uint64_t ret[FEATURE_N])
{
        for (int f = 0; f < FEATURE_N; f++)
                ret[f] = (uint64_t)sqlite3_column_int64(stmt, column + f); /* NULL reads as 0 */
}

/* Totals of the epoch's last interval; entities that had no row there are looked up when they return. */
static int load_totals(struct store *s, int64_t interval_id, struct window *window, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        uint64_t total[FEATURE_N];
        int r;

        r = db_prepare(s->db,
                       "SELECT kind, key, cgroup, " TOTALS " FROM usage JOIN entity USING (entity_id) "
                       "WHERE interval_id = ?1",
                       &stmt, e);
        if (r < 0)
                return r;
        (void)sqlite3_bind_int64(stmt, 1, interval_id);
        while ((r = db_step(stmt, e)) > 0) {
                const char *kind = (const char *)sqlite3_column_text(stmt, 0);

                read_totals(stmt, 3, total);
                if (!strcmp(kind, "node"))
                        memcpy(window->total, total, sizeof(window->total));
                else if (!strcmp(kind, "container") &&
                         window_restore_entity(window, (const char *)sqlite3_column_text(stmt, 1),
                                               (const char *)sqlite3_column_text(stmt, 2), total) == -ENOMEM)
                        return err_set(e, -ENOMEM, "out of memory");
        }
        return r;
}

static int first_of_epoch(struct store *s, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r;

        r = db_prepare(s->db, "SELECT min(interval_id) FROM interval WHERE epoch_id = ?1", &stmt, e);
        if (r < 0)
                return r;
        (void)sqlite3_bind_int64(stmt, 1, s->epoch_id);
        r = db_step(stmt, e);
        if (r > 0)
                s->first_id = sqlite3_column_int64(stmt, 0);
        return r < 0 ? r : 0;
}

/* Continue the last epoch, or begin one. */
static int begin(struct store *s, const struct machine *machine, int64_t now_ms, struct window *window,
                 bool *ret_continued, struct err *e)
{
        struct last_epoch last;
        int r;

        r = find_last(s, machine, &last, e);
        if (r < 0)
                return r;
        window_reset(window);
        window->base_ms = last.end_ms;
        *ret_continued = last.same;
        s->first_id = last.newest_id + 1;
        s->epoch_id = last.epoch_id;
        if (!last.same)
                return add_epoch(s, machine, now_ms, e);
        if (!last.interval_id)
                return 0;
        window->measured_ns = (uint64_t)last.measured_ns;
        r = first_of_epoch(s, e);
        return r < 0 ? r : load_totals(s, last.interval_id, window, e);
}

static int try_open(const struct store_options *o, const struct machine *machine, struct window *window,
                    struct store **ret, bool *ret_continued, struct err *e)
{
        CLEANUP(store_closep) struct store *s = NULL;
        int r;

        s = calloc(1, sizeof(*s));
        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        s->lock_fd = -1;
        if (snprintf(s->path, sizeof(s->path), "%s", o->path) >= (int)sizeof(s->path) - 64)
                return err_set(e, -ENAMETOOLONG, "store.path is too long");
        (void)snprintf(s->feature_source, sizeof(s->feature_source), "%s", o->feature_source);
        s->retention_age_ms = o->retention_age_ms;
        s->retention_size = o->retention_size;

        r = lock_file(s, e);
        if (r == 0)
                r = db_open(s->path, DB_OWNER, &migrations, BUSY_MS, &s->db, NULL, e);
        if (r == 0)
                r = prepare_all(s, e);
        if (r == 0)
                r = begin(s, machine, o->now_ms, window, ret_continued, e);
        if (r < 0)
                return r;
        s->next_prune_ms = o->now_ms + PRUNE_PERIOD_MS;
        *ret = TAKE(s);
        return 0;
}

int store_open(const struct store_options *o, const struct machine *machine, struct window *window,
               struct store **ret, struct store_opening *ret_opening, struct err *e)
{
        int r;

        memset(ret_opening, 0, sizeof(*ret_opening));
        if (o->corrupt)
                r = err_set(&ret_opening->corruption, -EBADMSG, "it cannot be written");
        else
                r = try_open(o, machine, window, ret, &ret_opening->continued, &ret_opening->corruption);
        if (r == -EBADMSG) {
                r = move_aside(o->path, o->now_ms, ret_opening->moved_aside, sizeof(ret_opening->moved_aside),
                               e);
                return r < 0 ? r : try_open(o, machine, window, ret, &ret_opening->continued, e);
        }
        return r < 0 ? err_set(e, r, "%s", ret_opening->corruption.text) : 0;
}

/* ---- appending ---- */

static int add_interval(struct store *s, const struct window *w, int64_t *ret_id, struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[ADD_INTERVAL];
        int r;

        (void)sqlite3_bind_int64(stmt, 1, s->epoch_id);
        (void)sqlite3_bind_int64(stmt, 2, w->start_ms);
        (void)sqlite3_bind_int64(stmt, 3, w->end_ms);
        (void)sqlite3_bind_int64(stmt, 4, (int64_t)w->pending_ns);
        (void)sqlite3_bind_int64(stmt, 5, (int64_t)(w->measured_ns + w->pending_ns));
        bind_text(stmt, 6, s->feature_source);
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

static int find_entity_id(struct store *s, const char *kind, const char *key, const char *cgroup, int64_t *id,
                          struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[ADD_ENTITY];
        bool system = !strcmp(key, ENTITY_SYSTEM), kernel = !strcmp(key, ENTITY_KERNEL);

        if (*id)
                return 0;
        bind_text(stmt, 1, kind);
        bind_text(stmt, 2, key);
        bind_text(stmt, 3, cgroup);
        bind_text(stmt, 4, system || kernel ? key : "");
        bind_text(stmt, 5, system || kernel ? key : "");
        bind_text(stmt, 6, system ? "system" : kernel ? "kernel" : "");
        return run_returning(stmt, id, e);
}

static int add_usage(struct store *s, int64_t interval_id, int64_t entity_id, const uint64_t total[FEATURE_N],
                     const bool measured[FEATURE_N], struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[ADD_USAGE];

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
        int r;

        r = find_entity_id(s, "node", "", "", &w->node_store_id, e);
        if (r == 0)
                r = add_usage(s, interval_id, w->node_store_id, w->total, w->measured, e);
        for (size_t i = 0; r == 0 && i < w->n; i++) {
                struct entity *entity = w->entities[i];

                r = find_entity_id(s, "container", entity->key, entity->cgroup, &entity->store_id, e);
                if (r == 0)
                        r = add_usage(s, interval_id, entity->store_id, entity->total, w->measured, e);
        }
        return r;
}

static int find_sensor_id(struct store *s, struct sensor *sensor, struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[ADD_SENSOR];

        if (sensor->store_id)
                return 0;
        bind_text(stmt, 1, sensor->reading.source);
        bind_text(stmt, 2, sensor->reading.component);
        bind_text(stmt, 3, sensor->reading.unit);
        bind_text(stmt, 4, provenance_names[sensor->reading.provenance]);
        return run_returning(stmt, &sensor->store_id, e);
}

static int add_power(struct store *s, int64_t interval_id, struct window *w, struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[ADD_POWER];
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
                bind_text(stmt, 5, sensor->reading.model);
                r = db_run(stmt, e);
        }
        return r;
}

/* Ids that were made in a transaction that failed do not exist. */
static void forget_ids(struct window *w)
{
        w->node_store_id = 0;
        for (size_t i = 0; i < w->n; i++)
                w->entities[i]->store_id = 0;
        for (size_t i = 0; i < w->n_sensors; i++)
                w->sensors[i].store_id = 0;
}

/* ---- retention ---- */

static int query_row(sqlite3_stmt *stmt, int64_t *ret, int n, struct err *e)
{
        int r = db_step(stmt, e);

        for (int i = 0; r > 0 && i < n; i++)
                ret[i] = sqlite3_column_int64(stmt, i);
        if (r > 0)
                (void)sqlite3_reset(stmt);
        return r;
}

/* Acknowledged by every destination up to here; INT64_MAX when there is no destination. An acknowledgement of
 * an epoch that is not in this file is about another file. */
static int acknowledged(struct store *s, int64_t *ret, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        struct ack acks[ACKS_MAX];
        int n = acks_read(s->path, acks), r;

        *ret = INT64_MAX;
        r = db_prepare(s->db, "SELECT 1 FROM epoch WHERE epoch = ?1", &stmt, e);
        for (int i = 0; r >= 0 && i < n; i++) {
                int64_t id = 0;

                bind_text(stmt, 1, acks[i].epoch);
                r = db_step(stmt, e);
                if (r > 0) {
                        id = acks[i].interval_id;
                        (void)sqlite3_reset(stmt);
                }
                *ret = id < *ret ? id : *ret;
        }
        return r < 0 ? r : 0;
}

/* Which of the oldest intervals go: too old and acknowledged, or, over the size, any. */
static int choose_removal(struct store *s, int64_t now_ms, bool too_big, int64_t newest, int64_t *ret_last,
                          int64_t *ret_unsent, struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[OLDEST];
        int64_t sent = INT64_MAX;
        bool asked = false;
        int r;

        *ret_last = *ret_unsent = 0;
        (void)sqlite3_bind_int(stmt, 1, RETAIN_PER_TICK);
        while ((r = db_step(stmt, e)) > 0) {
                int64_t id = sqlite3_column_int64(stmt, 0), end_ms = sqlite3_column_int64(stmt, 1);
                bool old = end_ms < now_ms - s->retention_age_ms;

                if (id >= newest || (!old && !too_big))
                        break;
                if (!asked && (r = acknowledged(s, &sent, e)) < 0)
                        break;
                asked = true;
                if (id >= sent && !too_big) /* the next batch begins with the totals of the last one sent */
                        break;
                *ret_last = id;
                *ret_unsent += id > sent;
        }
        (void)sqlite3_reset(stmt);
        return r < 0 ? r : 0;
}

/* Remove a few of the oldest intervals when there are reasons to: the newest always stays, it holds the
 * totals. */
static int retain(struct store *s, int64_t now_ms, struct err *e)
{
        int64_t pages[3] = { 0 }, newest = 0, last = 0, unsent = 0;
        bool too_big;
        int r;

        r = query_row(s->stmt[PAGES], pages, 3, e);
        if (r >= 0)
                r = query_row(s->stmt[NEWEST_ID], &newest, 1, e);
        if (r < 0)
                return r;
        too_big = (pages[0] - pages[1]) * pages[2] > s->retention_size;
        r = choose_removal(s, now_ms, too_big, newest, &last, &unsent, e);
        if (r < 0 || last == 0)
                return r;
        (void)sqlite3_bind_int64(s->stmt[REMOVE], 1, last);
        r = db_run(s->stmt[REMOVE], e);
        if (r < 0)
                return r;
        (void)sqlite3_bind_int64(s->stmt[NOTE_REMOVED], 1, last);
        (void)sqlite3_bind_int64(s->stmt[NOTE_REMOVED], 2, unsent);
        return db_run(s->stmt[NOTE_REMOVED], e);
}

/* Free pages are used again; only a file over its size gives them back. Failure costs nothing but space. */
static void shrink(struct store *s)
{
        int64_t pages[3] = { 0 };
        char pragma[64];

        if (query_row(s->stmt[PAGES], pages, 3, NULL) <= 0 || pages[0] * pages[2] <= s->retention_size ||
            pages[1] == 0)
                return;
        (void)snprintf(pragma, sizeof(pragma), "PRAGMA incremental_vacuum(%d)", VACUUM_PAGES);
        (void)db_exec(s->db, pragma, NULL);
}

/* Once a day: entities that no row refers to, when they have become many. Foreign keys are off meanwhile,
 * because checking them would search all usage for each. */
static void prune_entities(struct store *s, struct window *w, int64_t now_ms)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int64_t n = 0;

        if (now_ms < s->next_prune_ms)
                return;
        s->next_prune_ms = now_ms + PRUNE_PERIOD_MS;
        if (db_prepare(s->db, "SELECT count(*) FROM entity", &stmt, NULL) < 0 ||
            query_row(stmt, &n, 1, NULL) <= 0 || n < ENTITIES_PRUNE_MIN)
                return;
        (void)db_exec(s->db, "PRAGMA foreign_keys = OFF", NULL);
        (void)db_exec(s->db, "DELETE FROM entity WHERE entity_id NOT IN (SELECT entity_id FROM usage)", NULL);
        (void)db_exec(s->db, "PRAGMA foreign_keys = ON", NULL);
        forget_ids(w);
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
                r = retain(s, now_ms, e);
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
                forget_ids(w);
                return r;
        }
        shrink(s);
        prune_entities(s, w, now_ms);
        return 0;
}

/* ---- looking up what the window has forgotten ---- */

int store_restore_entity(void *store, const char *key, uint64_t ret_total[FEATURE_N])
{
        struct store *s = store;
        sqlite3_stmt *stmt = s->stmt[FIND_TOTALS];
        int r;

        (void)sqlite3_bind_int64(stmt, 1, s->first_id);
        bind_text(stmt, 2, key);
        r = db_step(stmt, NULL);
        if (r > 0)
                read_totals(stmt, 0, ret_total);
        (void)sqlite3_reset(stmt);
        return r;
}

/* The lowest power so far is what the last interval's idle energy was made from. */
int store_restore_sensor(void *store, const struct power_reading *sensor, int64_t *ret_energy_uj,
                         int64_t *ret_idle_uj, double *ret_min_watts)
{
        struct store *s = store;
        sqlite3_stmt *stmt = s->stmt[FIND_POWER];
        int64_t idle_before_uj = 0;
        double seconds = 0;
        int r;

        *ret_min_watts = NAN;
        (void)sqlite3_bind_int64(stmt, 1, s->first_id);
        bind_text(stmt, 2, sensor->source);
        bind_text(stmt, 3, sensor->component);
        bind_text(stmt, 4, sensor->unit);
        bind_text(stmt, 5, provenance_names[sensor->provenance]);
        r = db_step(stmt, NULL);
        if (r > 0) {
                *ret_energy_uj = sqlite3_column_int64(stmt, 0);
                *ret_idle_uj = sqlite3_column_int64(stmt, 1);
                seconds = (double)sqlite3_column_int64(stmt, 2) / 1e9;
                if (db_step(stmt, NULL) > 0)
                        idle_before_uj = sqlite3_column_int64(stmt, 1);
                *ret_min_watts = (double)(*ret_idle_uj - idle_before_uj) / 1e6 / seconds;
                r = 1;
        }
        (void)sqlite3_reset(stmt);
        return r;
}
