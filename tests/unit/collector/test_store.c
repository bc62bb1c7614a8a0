/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/store.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "collector/acks.h"
#include "common/clock.h"
#include "common/db.h"
#include "samples_sql.h"
#include "schema/samples.h"
#include "tree.h"

#define SECOND UINT64_C(1000000000)
#define BEGIN  INT64_C(1700000000000)
#define DAY_MS (INT64_C(24) * 3600 * 1000)

static struct machine machine;
static struct window *window;
static struct store *store;
static struct store_opening opening;
static struct usage_set usage;
static int64_t wall_ms;
static char db_path[128];
static double watts;

static int set_up(void **state)
{
        memset(&machine, 0, sizeof(machine));
        (void)snprintf(machine.boot_id, sizeof(machine.boot_id), "boot-1");
        (void)snprintf(machine.node_id, sizeof(machine.node_id), "node-1");
        (void)snprintf(machine.node_name, sizeof(machine.node_name), "n1");
        machine.spec.cores = 4;
        store = NULL;
        wall_ms = BEGIN;
        watts = 20;
        if (tree_set_up(state) < 0 || window_new(&window) < 0)
                return -1;
        (void)snprintf(db_path, sizeof(db_path), "%s/state/samples.db", tree);
        return 0;
}

static int tear_down(void **state)
{
        store_close(store);
        window_free(window);
        usage_set_done(&usage);
        memset(&usage, 0, sizeof(usage));
        return tree_tear_down(state);
}

static int try_open(const char *feature_source, int64_t retention_size, struct err *e)
{
        const struct store_options options = { .path = db_path,
                                               .feature_source = feature_source,
                                               .now_ms = wall_ms,
                                               .retention_age_ms = 7 * DAY_MS,
                                               .retention_size = retention_size,
                                               .processes = true };

        return store_open(&options, &machine, window, &store, &opening, e);
}

/* As the program does when it starts. */
static void start(void)
{
        struct err e = { 0 };

        if (try_open("bpf", INT64_C(1) << 30, &e) < 0)
                fail_msg("%s", e.text);
        window_start(window, wall_ms);
}

/* As if it were killed; what was in memory is gone. */
static void restart(void)
{
        store_close(store);
        store = NULL;
        window_free(window);
        assert_int_equal(window_new(&window), 0);
        start();
}

static const struct cgroup_info *find_cgroup(void *context, uint64_t id)
{
        static struct cgroup_info info;

        (void)context;
        memset(&info, 0, sizeof(info));
        if (id)
                (void)snprintf(info.container, sizeof(info.container), "c%llu", (unsigned long long)id);
        return &info;
}

/* One second in which container `id` used `cpu_ns`. */
static int try_tick(uint64_t id, uint64_t cpu_ns, struct err *e)
{
        static const bool measured[FEATURE_N] = { true, true, true, true, true };
        const struct power_reading reading = { .source = "rapl-sysfs",
                                               .component = "package",
                                               .unit = "0",
                                               .provenance = PROVENANCE_SIMULATED,
                                               .valid = !isnan(watts),
                                               .energy_uj = watts * 1e6,
                                               .idle_uj = -1 };
        const struct window_lookup lookup = { .cgroup = find_cgroup,
                                              .restore_entity = store_restore_entity,
                                              .restore_sensor = store_restore_sensor,
                                              .restore_context = store };
        struct sample sample = { .duration_ns = SECOND,
                                 .usage = &usage,
                                 .measured = measured,
                                 .readings = &reading,
                                 .n_readings = 1 };
        int r;

        sample.wall_ms = wall_ms += 1000;
        usage_set_clear(&usage);
        usage_set_row(&usage, id, false)->delta[FEATURE_CPU_TIME] = cpu_ns;
        window_fold(window, &sample, &lookup);
        r = store_append(store, window, wall_ms, e);
        if (r == 0)
                window_stored(window);
        return r;
}

static void tick(uint64_t id, uint64_t cpu_ns)
{
        struct err e = { 0 };

        if (try_tick(id, cpu_ns, &e) < 0)
                fail_msg("%s", e.text);
}

/* A single number from the file, through a reader of its own. */
static long long query(const char *sql)
{
        sqlite3 *db = NULL;
        sqlite3_stmt *stmt = NULL;
        long long v;

        assert_int_equal(sqlite3_open_v2(db_path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
        if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
                fail_msg("%s", sqlite3_errmsg(db));
        assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
        v = sqlite3_column_int64(stmt, 0);
        (void)sqlite3_finalize(stmt);
        (void)sqlite3_close(db);
        return v;
}

#define CONTAINER_TOTAL(key, nth)                                                                            \
        query("SELECT cpu_time_ns FROM usage JOIN entity USING (entity_id) WHERE key = '" key "' "           \
              "ORDER BY interval_id DESC LIMIT 1 OFFSET " #nth)

static void an_interval_is_stored_with_totals_and_power(void **state)
{
        (void)state;
        start();
        assert_false(opening.continued);
        tick(1, 500);
        watts = 50;
        tick(2, 700);
        assert_int_equal(query("SELECT count(*) FROM interval"), 2);
        assert_int_equal(
                query("SELECT cpu_time_ns FROM usage JOIN entity USING (entity_id) WHERE kind = 'node' "
                      "ORDER BY interval_id DESC"),
                1200);
        assert_int_equal(CONTAINER_TOTAL("c1", 0), 500);
        assert_int_equal(query("SELECT count(*) FROM usage WHERE cpu_cycles IS NULL"), 5);
        assert_int_equal(query("SELECT energy_uj FROM power ORDER BY interval_id DESC"), 70000000);
        assert_int_equal(query("SELECT idle_uj FROM power ORDER BY interval_id DESC"), 40000000);
        assert_int_equal(query("SELECT max(measured_ns) FROM interval"), 2000000000);
        assert_int_equal(
                query("SELECT count(*) FROM epoch WHERE length(epoch) = 32 AND json_extract(machine, "
                      "'$.cores') = 4"),
                1);
        assert_int_equal(query("SELECT count(*) FROM sensor WHERE provenance = 'simulated'"), 1);
}

static void a_gap_of_a_sensor_has_no_row(void **state)
{
        (void)state;
        start();
        tick(1, 1);
        watts = NAN;
        tick(1, 1);
        assert_int_equal(query("SELECT count(*) FROM power"), 1);
        assert_int_equal(query("SELECT count(*) FROM interval"), 2);
}

static void the_epoch_goes_on_after_a_restart_in_the_same_boot(void **state)
{
        int64_t stopped;

        (void)state;
        start();
        watts = 30;
        tick(1, 500);
        watts = 10;
        tick(1, 500);
        tick(2, 40);
        stopped = wall_ms;
        wall_ms += 60000;
        restart();
        assert_true(opening.continued);
        watts = 50;
        tick(1, 11);
        assert_int_equal(query("SELECT count(*) FROM epoch"), 1);
        assert_int_equal(CONTAINER_TOTAL("c1", 0), 1011);
        assert_int_equal(CONTAINER_TOTAL("c2", 0), 40);
        assert_int_equal(CONTAINER_TOTAL("", 0), 1051); /* the node */
        assert_int_equal(query("SELECT energy_uj FROM power ORDER BY interval_id DESC"), 100000000);
        assert_int_equal(query("SELECT idle_uj FROM power ORDER BY interval_id DESC"),
                         60000000); /* 10 W still */
        assert_int_equal(query("SELECT start_ms FROM interval ORDER BY interval_id DESC"),
                         stopped + 60000); /* a gap */
        assert_int_equal(query("SELECT measured_ns FROM interval ORDER BY interval_id DESC"), 4000000000);
}

static void another_boot_or_feature_source_begins_an_epoch(void **state)
{
        struct err e = { 0 };

        (void)state;
        start();
        tick(1, 500);
        (void)snprintf(machine.boot_id, sizeof(machine.boot_id), "boot-2");
        restart();
        assert_false(opening.continued);
        tick(1, 7);
        assert_int_equal(query("SELECT count(DISTINCT epoch) FROM epoch"), 2);
        assert_int_equal(CONTAINER_TOTAL("c1", 0), 7);
        assert_int_equal(query("SELECT measured_ns FROM interval ORDER BY interval_id DESC"), 1000000000);
        store_close(store);
        store = NULL;
        assert_int_equal(try_open("proc", INT64_C(1) << 30, &e), 0);
        assert_false(opening.continued);
}

static void an_epoch_that_recorded_nothing_yet_goes_on(void **state)
{
        (void)state;
        start();
        tick(1, 500);
        (void)snprintf(machine.boot_id, sizeof(machine.boot_id), "boot-2");
        restart();
        restart();
        assert_true(opening.continued);
        tick(1, 7);
        assert_int_equal(query("SELECT count(*) FROM epoch"), 2);
        assert_int_equal(CONTAINER_TOTAL("c1", 0), 7); /* nothing of the epoch before */
}

static void an_entity_that_was_forgotten_returns_with_its_total(void **state)
{
        (void)state;
        start();
        tick(1, 500);
        for (uint64_t i = 0; i < ENTITY_FORGET_NS / SECOND + 2; i++)
                tick(2, 1);
        assert_null(window_find(window, "c1"));
        tick(1, 30);
        assert_int_equal(CONTAINER_TOTAL("c1", 0), 530);
        /* deltas still add up: the view */
        assert_int_equal(query("SELECT sum(cpu_time_ns) FROM usage_delta JOIN entity USING (entity_id) WHERE "
                               "key = 'c1'"),
                         530);
}

#define STAMPS_OUT_OF_ORDER                                                                                  \
        query("SELECT count(*) FROM interval a JOIN interval b ON b.interval_id = a.interval_id + 1 "        \
              "AND b.epoch_id = a.epoch_id WHERE b.end_ms <= a.end_ms OR b.start_ms < a.end_ms")

static void stamps_grow_when_the_clock_goes_back_a_little(void **state)
{
        (void)state;
        start();
        tick(1, 1);
        wall_ms -= 20000;
        tick(1, 1);
        wall_ms -= 20000;
        restart();
        tick(1, 1);
        tick(1, 1);
        assert_int_equal(query("SELECT count(*) FROM interval"), 4);
        assert_int_equal(query("SELECT count(*) FROM epoch"), 1);
        assert_int_equal(STAMPS_OUT_OF_ORDER, 0);
}

static void a_clock_that_is_set_back_far_begins_an_epoch_at_its_own_time(void **state)
{
        const struct usage_set none = { 0 };
        struct sample sample = { .duration_ns = SECOND, .usage = &none };
        struct err e = { 0 };

        (void)state;
        start();
        tick(1, 100);
        sample.wall_ms = wall_ms + 1000 - 3600000; /* while it runs */
        assert_true(window_clock_went_back(window, &sample));
        assert_int_equal(store_begin_epoch(store, &machine, wall_ms -= 3600000, window, &e), 0);
        tick(1, 7);
        assert_int_equal(CONTAINER_TOTAL("c1", 0), 7);
        assert_int_equal(query("SELECT end_ms FROM interval ORDER BY interval_id DESC"), wall_ms);
        wall_ms -= 3600000; /* while it does not */
        restart();
        assert_false(opening.continued);
        tick(1, 3);
        assert_int_equal(query("SELECT end_ms FROM interval ORDER BY interval_id DESC"), wall_ms);
        assert_int_equal(query("SELECT count(*) FROM epoch"), 3);
        assert_int_equal(STAMPS_OUT_OF_ORDER, 0);
}

static void stamps_of_a_clock_that_was_years_ahead_do_not_hold_up_retention(void **state)
{
        (void)state;
        wall_ms += 3650 * DAY_MS;
        start();
        tick(1, 1);
        tick(1, 1);
        wall_ms -= 3650 * DAY_MS;
        restart();
        for (int i = 0; i < 3; i++)
                tick(1, 1);
        assert_int_equal(query("SELECT min(interval_id) FROM interval"), 3);
}

static void a_file_of_version_1_is_migrated_and_goes_on(void **state)
{
        static const char rows[] =
                "INSERT INTO epoch VALUES (1, 'e1', 'boot-1', 'node-1', 'n1', 1, '{}');"
                "INSERT INTO interval VALUES (1, 1, 1699999998000, 1699999999000, 1000000000, 1000000000, "
                "'bpf', 'exact');"
                "INSERT INTO interval VALUES (2, 1, 1699999999000, 1700000000000, 1000000000, 2000000000, "
                "'bpf', 'exact');"
                "INSERT INTO entity (entity_id, kind, key) VALUES (1, 'node', ''), (2, 'container', 'c1');"
                "INSERT INTO usage VALUES (1, 1, 40, 0, 0, 0, 0, NULL, NULL, NULL), (1, 2, 40, 0, 0, 0, 0, "
                "NULL, NULL, "
                "NULL), (2, 1, 70, 0, 0, 0, 0, NULL, NULL, NULL), (2, 2, 70, 0, 0, 0, 0, NULL, NULL, NULL);"
                "INSERT INTO sensor VALUES (1, 'rapl-sysfs', 'package', '0', 'simulated');"
                "INSERT INTO power VALUES (1, 1, 30000000, 12000000, ''), (2, 1, 60000000, 24000000, '');"
                "PRAGMA user_version = 1;";
        char header[64];
        sqlite3 *db = NULL;

        (void)state;
        tree_write("state/ignored", "");
        assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
        (void)snprintf(header, sizeof(header), "PRAGMA application_id = %d", SAMPLES_APPLICATION_ID);
        assert_int_equal(sqlite3_exec(db, samples_migrations[0], NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, header, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, rows, NULL, NULL, NULL), SQLITE_OK);
        (void)sqlite3_close(db);
        start();
        assert_true(opening.continued);
        tick(1, 5);
        assert_int_equal(query("SELECT user_version FROM pragma_user_version"),
                         (long long)ARRAY_SIZE(samples_migrations));
        assert_int_equal(CONTAINER_TOTAL("c1", 0), 75);
        assert_int_equal(query("SELECT energy_uj FROM power ORDER BY interval_id DESC"), 80000000);
        assert_int_equal(query("SELECT raw_uj FROM power ORDER BY interval_id DESC"), 80000000);
        assert_int_equal(query("SELECT idle_uj FROM power ORDER BY interval_id DESC"),
                         36000000); /* 12 W still */
        assert_int_equal(query("SELECT idle_min_uw FROM power ORDER BY interval_id DESC"), 12000000);
        assert_int_equal(query("SELECT count(*) FROM power WHERE raw_uj IS NULL"), 2);
}

static void a_container_is_named_when_its_name_is_learned(void **state)
{
        struct entity_names *names = calloc(1, sizeof(*names));

        (void)state;
        start();
        tick(1, 1);
        assert_int_equal(query("SELECT count(*) FROM entity WHERE key = 'c1' AND pod_name = ''"), 1);
        assert_non_null(names);
        (void)snprintf(names->pod_name, sizeof(names->pod_name), "web-0");
        for (size_t i = 0; i < window->n; i++)
                if (!strcmp(window->entities[i]->key, "c1")) {
                        window->entities[i]->names = TAKE(names);
                        window->entities[i]->store_id = 0;
                }
        tick(1, 1);
        assert_int_equal(query("SELECT count(*) FROM entity WHERE key = 'c1' AND pod_name = 'web-0'"), 1);
        restart(); /* which has forgotten it */
        tick(1, 1);
        assert_int_equal(query("SELECT count(*) FROM entity WHERE key = 'c1' AND pod_name = 'web-0'"), 1);
}

static void a_corrupt_file_is_moved_aside(void **state)
{
        (void)state;
        tree_write("state/samples.db", "this is no database, and it is longer than the header of one: "
                                       "............................................................");
        tree_write("state/samples.db-wal", "left over");
        start();
        assert_non_null(strstr(opening.moved_aside, "samples.db.corrupt-20231114T"));
        assert_int_equal(access(opening.moved_aside, F_OK), 0);
        tick(1, 500);
        assert_int_equal(query("SELECT count(*) FROM interval"), 1);
}

static void a_file_that_becomes_corrupt_can_be_replaced(void **state)
{
        struct store_options options = { .path = db_path,
                                         .feature_source = "bpf",
                                         .retention_age_ms = DAY_MS,
                                         .retention_size = 1 << 30 };
        struct err e = { 0 };

        (void)state;
        start();
        tick(1, 500);
        options.now_ms = wall_ms;
        options.corrupt = TAKE(store);
        assert_int_equal(store_open(&options, &machine, window, &store, &opening, &e), 0);
        assert_true(*opening.moved_aside);
        assert_int_equal(query("SELECT count(*) FROM interval"), 0);
        tick(1, 3);
        assert_int_equal(CONTAINER_TOTAL("c1", 0), 3);
}

static void a_newer_file_is_refused_and_left_alone(void **state)
{
        struct err e = { 0 };
        sqlite3 *db = NULL;

        (void)state;
        start();
        tick(1, 500);
        store_close(store);
        store = NULL;
        assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
        (void)sqlite3_close(db);
        assert_int_equal(try_open("bpf", 1 << 30, &e), -EPROTO);
        assert_non_null(strstr(e.text, "newer version"));
        assert_false(*opening.moved_aside);
        assert_int_equal(query("SELECT count(*) FROM interval"), 1);
}

static void a_second_collector_is_refused(void **state)
{
        struct store *first;
        struct err e = { 0 };

        (void)state;
        start();
        first = TAKE(store);
        assert_int_equal(try_open("bpf", 1 << 30, &e), -EWOULDBLOCK);
        assert_non_null(strstr(e.text, "another collector"));
        store = first;
}

static void a_full_disk_loses_nothing(void **state)
{
        struct rlimit unlimited, limit;
        struct err e = { 0 };
        int failed = 0;

        (void)state;
        start();
        tick(1, 100);
        (void)signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
        limit = unlimited;
        limit.rlim_cur = 128 << 10; /* the -wal file cannot grow any more */
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        for (int i = 0; i < 100; i++)
                failed += try_tick(1 + i % 3, 10, &e) < 0;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
        assert_true(failed > 0);
        assert_true(window->pending_ns > 0);
        tick(1, 5);
        assert_int_equal(CONTAINER_TOTAL("", 0), 100 + 100 * 10 + 5);
        assert_int_equal(query("SELECT max(measured_ns) FROM interval"), 102 * (long long)SECOND);
        assert_int_equal(query("SELECT sum(duration_ns) FROM interval"), 102 * (long long)SECOND);
        assert_int_equal(query("SELECT max(energy_uj) FROM power"), 102 * 20000000LL);
        /* no gap between any two */
        assert_int_equal(
                query("SELECT count(*) FROM interval a JOIN interval b ON b.interval_id = a.interval_id + 1 "
                      "WHERE b.start_ms <> a.end_ms"),
                0);
        restart();
        tick(2, 1);
        assert_int_equal(CONTAINER_TOTAL("", 0), 1106);
}

static void write_ack(const char *name, long long interval_id, const char *epoch)
{
        char file[64], text[256];

        (void)snprintf(file, sizeof(file), "state/acks/%s.json", name);
        (void)snprintf(text, sizeof(text),
                       "{\"destination\": \"%s\", \"interval_id\": %lld, \"epoch\": \"%s\", "
                       "\"end_ms\": 1, \"acked_ms\": 2}",
                       name, interval_id, epoch);
        tree_write(file, text);
}

static void read_epoch(char ret[40])
{
        sqlite3 *db = NULL;
        sqlite3_stmt *stmt = NULL;

        assert_int_equal(sqlite3_open_v2(db_path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, "SELECT epoch FROM epoch", -1, &stmt, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
        (void)snprintf(ret, 40, "%s", (const char *)sqlite3_column_text(stmt, 0));
        (void)sqlite3_finalize(stmt);
        (void)sqlite3_close(db);
}

static void old_intervals_go_when_they_are_acknowledged(void **state)
{
        char epoch[40];

        (void)state;
        start();
        for (int i = 0; i < 40; i++)
                tick(1, 1);
        read_epoch(epoch);
        write_ack("a", 30, epoch);
        write_ack("b", 10, epoch);
        wall_ms += 8 * DAY_MS;
        tick(1, 1);
        tick(1, 1);
        assert_int_equal(query("SELECT min(interval_id) FROM interval"),
                         10); /* its totals begin the next batch */
        assert_int_equal(query("SELECT count(*) FROM usage WHERE interval_id < 10"), 0);
        assert_int_equal(query("SELECT removed_up_to FROM retention"), 9);
        assert_int_equal(query("SELECT removed_unsent FROM retention"), 0);
        write_ack("b", 40, "another file's epoch"); /* says nothing about this one */
        tick(1, 1);
        assert_int_equal(query("SELECT min(interval_id) FROM interval"), 10);
        write_ack("b", 40, epoch);
        tick(1, 1);
        tick(1, 1);
        assert_int_equal(query("SELECT min(interval_id) FROM interval"), 30);
}

static void without_destinations_age_decides(void **state)
{
        (void)state;
        start();
        for (int i = 0; i < 20; i++)
                tick(1, 1);
        wall_ms += 8 * DAY_MS;
        for (int i = 0; i < 3; i++)
                tick(1, 1);
        assert_int_equal(query("SELECT count(*) FROM interval"), 3);
        assert_int_equal(query("SELECT removed_unsent FROM retention"), 0);
        restart();
        assert_true(opening.continued);
        tick(1, 1);
        assert_int_equal(CONTAINER_TOTAL("c1", 0), 24);
}

static void acknowledgements_that_cannot_be_read_keep_everything(void **state)
{
        char epoch[40], name[16], path[128];

        (void)state;
        start();
        tree_write("state/acks", "not a directory, or one that is refused");
        for (int i = 0; i < 20; i++)
                tick(1, 1);
        read_epoch(epoch);
        wall_ms += 8 * DAY_MS;
        for (int i = 0; i < 3; i++)
                tick(1, 1);
        assert_int_equal(query("SELECT min(interval_id) FROM interval"), 1);

        (void)snprintf(path, sizeof(path), "%s/state/acks", tree);
        assert_int_equal(unlink(path), 0);
        for (int i = 0; i <= ACKS_MAX; i++) { /* one more than are read */
                (void)snprintf(name, sizeof(name), "d%d", i);
                write_ack(name, 10, epoch);
        }
        tick(1, 1);
        assert_int_equal(query("SELECT min(interval_id) FROM interval"), 1);
}

static void the_size_is_kept_even_if_unsent_intervals_must_go(void **state)
{
        const int64_t budget = 256 << 10;
        struct err e = { 0 };
        char epoch[40];

        (void)state;
        assert_int_equal(try_open("bpf", budget, &e), 0);
        window_start(window, wall_ms);
        tick(1, 1);
        read_epoch(epoch);
        write_ack("a", 1, epoch);
        for (uint64_t i = 0; i < 4000; i++)
                tick(1 + i % 20, 1);
        assert_true(query("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size") <
                    budget * 5 / 4);
        assert_true(query("SELECT removed_unsent FROM retention") > 1000);
        assert_int_equal(query("SELECT removed_unsent + 1 = removed_up_to FROM retention"), 1);
        assert_int_equal(query("SELECT count(*) > 10 FROM interval"), 1);
        assert_int_equal(CONTAINER_TOTAL("", 0), 4001);
}

static void status_tells_what_is_recorded(void **state)
{
        CLEANUP(json_decrefp) json_t *status = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(store_status(db_path, wall_ms, &status, &e), -ENOENT);
        start();
        tick(1, 1);
        assert_int_equal(store_status(db_path, wall_ms + 5000, &status, &e), 0);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(status, "last"), "age_ms")),
                         5000);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(status, "file"), "intervals")),
                         1);
        assert_string_equal(json_string_value(json_object_get(
                                    json_array_get(json_object_get(status, "sensors"), 0), "provenance")),
                            "simulated");
        assert_int_equal(json_array_size(json_object_get(status, "epochs")), 1);
}

static void processes_have_rows_when_they_do_something(void **state)
{
        (void)state;
        start();
        usage.by_process = true;
        for (int i = 0; i < 3; i++, wall_ms += 1000) {
                static const bool measured[FEATURE_N] = { true };
                const struct window_lookup lookup = { .cgroup = find_cgroup,
                                                      .restore_entity = store_restore_entity,
                                                      .restore_sensor = store_restore_sensor,
                                                      .restore_context = store };
                struct sample sample = {
                        .duration_ns = SECOND, .wall_ms = wall_ms, .usage = &usage, .measured = measured
                };
                struct err e = { 0 };

                usage_set_clear(&usage);
                usage_set_row(&usage, 1, false)->delta[FEATURE_CPU_TIME] = 50;
                if (i != 1)
                        usage_set_process(
                                &usage, &(struct process_usage){ .tgid = 77, .start = 1234, .kernel = true })
                                ->delta[FEATURE_CPU_TIME] = 50;
                window_fold(window, &sample, &lookup);
                assert_int_equal(store_append(store, window, wall_ms, &e), 0);
                window_stored(window);
        }
        assert_int_equal(
                query("SELECT count(*) FROM usage JOIN entity USING (entity_id) WHERE kind = 'process'"), 2);
        assert_int_equal(CONTAINER_TOTAL("77-1234", 0), 100);
        assert_int_equal(CONTAINER_TOTAL("", 0), 150); /* the node is the sum of its containers */
        assert_int_equal(query("SELECT sum(cpu_time_ns) FROM usage_delta JOIN entity USING (entity_id) WHERE "
                               "kind = 'process'"),
                         100);
}

/* The lock is held while a corrupt file is moved: a second collector never takes the new one for the old. */
static void a_corrupt_file_is_moved_aside_by_one_of_many(void **state)
{
        int ok = 0, corrupt = 0;
        pid_t pids[8];

        (void)state;
        tree_write("state/samples.db", "this is no database, and it is longer than the header of one: "
                                       "............................................................");
        for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
                pids[i] = fork();
                if (pids[i] == 0) {
                        struct err e = { 0 };
                        int r = try_open("bpf", 1 << 30, &e);

                        (void)usleep(300000); /* it holds the file */
                        _exit(r == 0 ? 10 + (*opening.moved_aside != 0) : r == -EWOULDBLOCK ? 2 : 3);
                }
        }
        for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
                int status;

                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                assert_true(WIFEXITED(status));
                assert_int_not_equal(WEXITSTATUS(status), 3);
                ok += WEXITSTATUS(status) >= 10;
                corrupt += WEXITSTATUS(status) == 11;
        }
        assert_true(ok >= 1);
        assert_int_equal(corrupt, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(an_interval_is_stored_with_totals_and_power),
                TEST(a_gap_of_a_sensor_has_no_row),
                TEST(the_epoch_goes_on_after_a_restart_in_the_same_boot),
                TEST(another_boot_or_feature_source_begins_an_epoch),
                TEST(an_epoch_that_recorded_nothing_yet_goes_on),
                TEST(an_entity_that_was_forgotten_returns_with_its_total),
                TEST(stamps_grow_when_the_clock_goes_back_a_little),
                TEST(a_clock_that_is_set_back_far_begins_an_epoch_at_its_own_time),
                TEST(stamps_of_a_clock_that_was_years_ahead_do_not_hold_up_retention),
                TEST(a_file_of_version_1_is_migrated_and_goes_on),
                TEST(a_container_is_named_when_its_name_is_learned),
                TEST(processes_have_rows_when_they_do_something),
                TEST(a_corrupt_file_is_moved_aside_by_one_of_many),
                TEST(a_corrupt_file_is_moved_aside),
                TEST(a_file_that_becomes_corrupt_can_be_replaced),
                TEST(a_newer_file_is_refused_and_left_alone),
                TEST(a_second_collector_is_refused),
                TEST(a_full_disk_loses_nothing),
                TEST(old_intervals_go_when_they_are_acknowledged),
                TEST(without_destinations_age_decides),
                TEST(acknowledgements_that_cannot_be_read_keep_everything),
                TEST(the_size_is_kept_even_if_unsent_intervals_must_go),
                TEST(status_tells_what_is_recorded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
