/* SPDX-License-Identifier: Apache-2.0 */
/* Opening samples.db: its lock, its statements, the epoch that goes on or begins, and what happens to a file
 * that is corrupt. */
#include "collector/store_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "common/file.h"
#include "common/json.h"
#include "samples_sql.h"
#include "schema/samples.h"

#define BUSY_MS          2000
#define WAL_SIZE         "4194304" /* bytes, what a checkpoint every 1000 pages needs */
#define MACHINE_JSON_MAX ((size_t)16 << 10)

static const char *const sql[STORE_STATEMENTS] = {
        [STORE_ADD_INTERVAL] = "INSERT INTO interval (epoch_id, start_ms, end_ms, duration_ns, measured_ns, "
                               "feature_source, definition, counters, counters_running) "
                               "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        /* names are learned late, and never unlearned */
        [STORE_ADD_ENTITY] =
                "INSERT INTO entity (kind, key, cgroup, pod_name, container_name, container_namespace, "
                "command, vm_name, hypervisor) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, key) DO "
                "UPDATE SET "
                "pod_name = iif(excluded.pod_name = '', pod_name, excluded.pod_name), "
                "container_name = iif(excluded.pod_name = '', container_name, excluded.container_name), "
                "container_namespace = iif(excluded.pod_name = '', container_namespace, "
                "excluded.container_namespace) RETURNING entity_id",
        [STORE_ADD_USAGE] = "INSERT INTO usage (interval_id, entity_id, " STORE_TOTALS
                            ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [STORE_ADD_SENSOR] =
                "INSERT INTO sensor (source, component, unit, provenance) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (source, component, unit, provenance) DO UPDATE SET unit = excluded.unit "
                "RETURNING sensor_id",
        [STORE_ADD_POWER] = "INSERT INTO power (interval_id, sensor_id, energy_uj, idle_uj, model, raw_uj, "
                            "lag_ns, idle_min_uw, idle_fit_uw) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [STORE_ADD_FREQUENCY] = "INSERT INTO cpu_frequency VALUES (?, ?, ?)",
        [STORE_ADD_BAND] = "INSERT INTO frequency_band VALUES (?, ?, ?)",
        /* both walk back from the newest interval and stop at the first hit; unknown ones walk nowhere. usage
         * has many rows per interval and no index by entity: from interval to interval by the primary key */
        [STORE_FIND_TOTALS] =
                "SELECT " STORE_TOTALS " FROM entity e CROSS JOIN interval i "
                "CROSS JOIN usage u ON u.interval_id = i.interval_id AND u.entity_id = e.entity_id "
                "WHERE i.interval_id >= ?1 AND e.kind = ?2 AND e.key = ?3 "
                "ORDER BY i.interval_id DESC LIMIT 1",
        [STORE_FIND_POWER] =
                "SELECT p.energy_uj, p.idle_uj, i.duration_ns, p.raw_uj, p.idle_min_uw FROM sensor s "
                "CROSS JOIN power p ON p.sensor_id = s.sensor_id "
                "CROSS JOIN interval i ON i.interval_id = p.interval_id "
                "WHERE p.interval_id >= ?1 AND s.source = ?2 AND s.component = ?3 AND s.unit = ?4 "
                "AND s.provenance = ?5 ORDER BY p.interval_id DESC LIMIT 2",
        [STORE_OLDEST] = "SELECT interval_id, end_ms FROM interval ORDER BY interval_id LIMIT ?1",
        [STORE_NEWEST_ID] = "SELECT max(interval_id) FROM interval",
        [STORE_PAGES] =
                "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, "
                "pragma_page_size",
        [STORE_REMOVE] = "DELETE FROM interval WHERE interval_id <= ?1",
        [STORE_NOTE_REMOVED] = "UPDATE retention SET removed_up_to = max(removed_up_to, ?1), "
                               "removed_unsent = removed_unsent + ?2",
};

static const struct db_migrations migrations = { samples_migrations, ARRAY_SIZE(samples_migrations),
                                                 SAMPLES_APPLICATION_ID };

void store_close(struct store *s)
{
        if (!s)
                return;
        for (int i = 0; i < STORE_STATEMENTS; i++)
                (void)sqlite3_finalize(s->stmt[i]);
        if (s->db)
                db_close(s->db);
        if (s->lock_fd >= 0)
                (void)close(s->lock_fd);
        free(s);
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

static int lock_file(const char *store_path, int *ret_fd, struct err *e)
{
        char path[PATH_MAX + 8], dir[PATH_MAX];
        char *slash;
        int r;

        (void)snprintf(dir, sizeof(dir), "%s", store_path);
        slash = strrchr(dir, '/');
        if (slash && slash != dir) {
                *slash = '\0';
                r = file_mkdirs(dir, 0750, e);
                if (r < 0)
                        return r;
        }
        (void)snprintf(path, sizeof(path), "%s.lock", store_path);
        r = file_lock(path, ret_fd, e);
        if (r == -EWOULDBLOCK)
                return err_set(e, r, "another collector writes '%s'", store_path);
        return r;
}

static int prepare_all(struct store *s, struct err *e)
{
        for (int i = 0; i < STORE_STATEMENTS; i++) {
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
        bool same; /* this boot of this machine, by the same feature source, of the same things */
};

/* An epoch goes on while boot, machine, feature source and what it counts are the same: another counts other
 * things, so its totals are not a continuation. Where the clock is behind the last stamp, a new one begins:
 * stamps grow only within an epoch. */
static int find_last(struct store *s, const struct machine *machine, int64_t now_ms, struct last_epoch *ret,
                     struct err *e)
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
        store_bind_text(epoch, 1, machine->boot_id);
        store_bind_text(epoch, 2, machine->node_id);
        r = db_step(epoch, e);
        if (r <= 0)
                return r;
        ret->epoch_id = sqlite3_column_int64(epoch, 0);
        ret->same = sqlite3_column_int(epoch, 1) != 0;

        r = db_prepare(s->db,
                       "SELECT interval_id, end_ms, measured_ns, feature_source = ?1 AND definition = ?2 AND "
                       "counters = ?3, epoch_id FROM interval "
                       "ORDER BY interval_id DESC LIMIT 1",
                       &interval, e);
        if (r < 0)
                return r;
        store_bind_text(interval, 1, s->feature_source);
        store_bind_text(interval, 2, s->definition);
        store_bind_text(interval, 3, s->counters);
        r = db_step(interval, e);
        if (r <= 0)
                return r;
        ret->newest_id = sqlite3_column_int64(interval, 0);
        ret->end_ms = sqlite3_column_int64(interval, 1);
        if (sqlite3_column_int64(interval, 4) != ret->epoch_id)
                return 0; /* an epoch that has recorded nothing yet */
        ret->interval_id = ret->newest_id;
        ret->measured_ns = sqlite3_column_int64(interval, 2);
        ret->same = ret->same && sqlite3_column_int(interval, 3) && ret->end_ms <= now_ms + CLOCK_BACK_MS;
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
                store_bind_text(stmt, 1, epoch);
                store_bind_text(stmt, 2, machine->boot_id);
                store_bind_text(stmt, 3, machine->node_id);
                store_bind_text(stmt, 4, machine->node_name);
                (void)sqlite3_bind_int64(stmt, 5, now_ms);
                store_bind_text(stmt, 6, json.data);
                r = db_run(stmt, e);
        }
        buf_done(&json);
        if (r == 0)
                s->epoch_id = sqlite3_last_insert_rowid(s->db);
        return r;
}

/* Totals of the epoch's last interval; entities that had no row there are looked up when they return. */
static int load_totals(struct store *s, int64_t interval_id, struct window *window, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        uint64_t total[FEATURE_N];
        int r;

        r = db_prepare(s->db,
                       "SELECT kind, key, cgroup, " STORE_TOTALS " FROM usage JOIN entity USING (entity_id) "
                       "WHERE interval_id = ?1",
                       &stmt, e);
        if (r < 0)
                return r;
        (void)sqlite3_bind_int64(stmt, 1, interval_id);
        while ((r = db_step(stmt, e)) > 0) {
                const char *kind = (const char *)sqlite3_column_text(stmt, 0);

                store_read_totals(stmt, 3, total);
                if (!strcmp(kind, "node"))
                        memcpy(window->total, total, sizeof(window->total));
                for (int k = 0; k < ENTITY_PROCESS; k++)
                        if (!strcmp(kind, entity_kind_names[k]) &&
                            window_restore_entity(
                                    window, (enum entity_kind)k, (const char *)sqlite3_column_text(stmt, 1),
                                    (const char *)sqlite3_column_text(stmt, 2), total) == -ENOMEM)
                                return err_set(e, -ENOMEM, "out of memory");
        }
        return r;
}

static int load_bands(struct store *s, int64_t interval_id, struct window *window, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(s->db, "SELECT band_hertz, time_ns FROM frequency_band WHERE interval_id = ?1",
                           &stmt, e);

        if (r < 0)
                return r;
        (void)sqlite3_bind_int64(stmt, 1, interval_id);
        while ((r = db_step(stmt, e)) > 0)
                if (window_restore_band(window, (uint64_t)sqlite3_column_int64(stmt, 0),
                                        (uint64_t)sqlite3_column_int64(stmt, 1)) < 0)
                        return err_set(e, -ENOMEM, "out of memory");
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

        r = find_last(s, machine, now_ms, &last, e);
        if (r < 0)
                return r;
        window_reset(window);
        window->base_ms = last.same || last.end_ms < now_ms ? last.end_ms : now_ms;
        *ret_continued = last.same;
        s->first_id = last.newest_id + 1;
        s->epoch_id = last.epoch_id;
        if (!last.same)
                return add_epoch(s, machine, now_ms, e);
        if (!last.interval_id)
                return 0;
        window->measured_ns = (uint64_t)last.measured_ns;
        r = first_of_epoch(s, e);
        if (r == 0)
                r = load_totals(s, last.interval_id, window, e);
        return r < 0 ? r : load_bands(s, last.interval_id, window, e);
}

/* What is not measured, and why: as of now. */
static int tell_missing(struct store *s, const struct feature_notes *notes, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_exec(s->db, "DELETE FROM missing", e);

        if (r == 0)
                r = db_prepare(s->db, "INSERT OR IGNORE INTO missing (what, why) VALUES (?, ?)", &stmt, e);
        for (size_t i = 0; r == 0 && notes && i < notes->n; i++) {
                store_bind_text(stmt, 1, notes->items[i].what);
                store_bind_text(stmt, 2, notes->items[i].why);
                r = db_run(stmt, e);
        }
        return r;
}

static int try_open(const struct store_options *o, const struct machine *machine, struct window *window,
                    int lock_fd, struct store **ret, bool *ret_continued, struct err *e)
{
        CLEANUP(store_closep) struct store *s = NULL;
        int r;

        s = calloc(1, sizeof(*s));
        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        s->lock_fd = -1; /* the caller's while this may fail */
        (void)snprintf(s->path, sizeof(s->path), "%s", o->path);
        (void)snprintf(s->feature_source, sizeof(s->feature_source), "%s", o->feature_source);
        s->definition = o->definition ? o->definition : definition_names[DEFINITION_EXACT];
        (void)snprintf(s->counters, sizeof(s->counters), "%s", o->counters ? o->counters : "");
        s->retention_age_ms = o->retention_age_ms;
        s->retention_size = o->retention_size;
        s->processes = o->processes;
        r = db_open(s->path, DB_OWNER, &migrations, BUSY_MS, &s->db, NULL, e);
        if (r == 0) /* after a reader has held checkpoints up, the -wal file shrinks again */
                r = db_exec(s->db, "PRAGMA journal_size_limit = " WAL_SIZE, e);
        if (r == 0)
                r = prepare_all(s, e);
        if (r == 0)
                r = begin(s, machine, o->now_ms, window, ret_continued, e);
        if (r == 0)
                r = tell_missing(s, o->notes, e);
        if (r < 0)
                return r;
        s->lock_fd = lock_fd;
        *ret = TAKE(s);
        return 0;
}

/* The lock is held from before the first look until the file that is used is open, moved aside or not: two
 * that start at once never move each other's new file. */
int store_open(const struct store_options *o, const struct machine *machine, struct window *window,
               struct store **ret, struct store_opening *ret_opening, struct err *e)
{
        CLEANUP(closep) int lock_fd = -1;
        bool corrupt = o->corrupt;
        int r = 0;

        memset(ret_opening, 0, sizeof(*ret_opening));
        if (strlen(o->path) >= PATH_MAX - 64)
                r = err_set(e, -ENAMETOOLONG, "store.path is too long");
        if (corrupt) {
                lock_fd = o->corrupt->lock_fd;
                o->corrupt->lock_fd = -1;
                store_close(o->corrupt);
        } else if (r == 0) {
                r = lock_file(o->path, &lock_fd, e);
        }
        if (r < 0)
                return r;
        if (corrupt)
                r = err_set(&ret_opening->corruption, -EBADMSG, "it cannot be written");
        else
                r = try_open(o, machine, window, lock_fd, ret, &ret_opening->continued,
                             &ret_opening->corruption);
        if (r == -EBADMSG) {
                r = move_aside(o->path, o->now_ms, ret_opening->moved_aside, sizeof(ret_opening->moved_aside),
                               e);
                if (r == 0)
                        r = try_open(o, machine, window, lock_fd, ret, &ret_opening->continued, e);
        } else if (r < 0) {
                (void)err_set(e, r, "%s", ret_opening->corruption.text);
        }
        if (r == 0)
                (void)TAKE_FD(lock_fd); /* the store's now */
        return r;
}

int store_begin_epoch(struct store *s, const struct machine *machine, int64_t now_ms, struct window *window,
                      struct err *e)
{
        int64_t newest = 0;
        int r = store_query_row(s->stmt[STORE_NEWEST_ID], &newest, 1, e);

        if (r >= 0)
                r = add_epoch(s, machine, now_ms, e);
        if (r < 0)
                return r;
        s->first_id = newest + 1;
        window_reset(window);
        window->base_ms = 0;
        window_start(window, now_ms);
        return 0;
}
