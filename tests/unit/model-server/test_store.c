/* SPDX-License-Identifier: Apache-2.0 */
/* What the database keeps and drops: samples once each, in any order; the format of before; retention. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <sqlite3.h>

#include "common/file.h"
#include "model-server/ingest/chunk.h"
#include "model-server/store.h"
#include "server_sql.h"

struct fixture {
        char dir[64], path[80];
        struct store *store;
        int64_t epoch_id;
        struct err e;
};

static void open_store(struct fixture *f)
{
        struct epoch epoch;

        if (store_open(f->path, &f->store, &f->e) < 0)
                fail_msg("%s", f->e.text);
        assert_int_equal(store_begin(f->store, NULL), 0);
        assert_int_equal(store_epoch(f->store, "n", "node", "e", 1, &epoch, NULL), 0);
        assert_int_equal(store_commit(f->store, NULL), 0);
        f->epoch_id = epoch.epoch_id;
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        (void)snprintf(f->dir, sizeof(f->dir), "/tmp/wattloop-test-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        (void)snprintf(f->path, sizeof(f->path), "%s/server.db", f->dir);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        store_close(f->store);
        assert_int_equal(file_remove_tree(f->dir, NULL), 0);
        free(f);
        return 0;
}

/* One upload of series `name`: stamps first, first + step, … in seconds. Returns how many were new. */
static int upload(struct fixture *f, const char *name, int first, int step, size_t n, int64_t now_ms)
{
        static const unsigned char hash[32];
        struct sample samples[1000];
        char labels[64];
        struct batch_line line = { .name = "kepler_node_package_joules_total",
                                   .source = "acpi",
                                   .labels = labels };
        int64_t series_id, batch_id, first_ms;
        int added;

        assert_true(n <= ARRAY_SIZE(samples));
        for (size_t i = 0; i < n; i++) {
                int64_t s = first + step * (int64_t)i;

                samples[i] = (struct sample){ s * 1000, (double)s / 8 };
        }
        (void)snprintf(labels, sizeof(labels), "{\"a\":\"%s\"}", name);
        line.samples = samples;
        line.n = n;
        assert_int_equal(store_begin(f->store, NULL), 0);
        assert_int_equal(store_begin_batch(f->store, now_ms, name, hash, &batch_id, NULL), 0);
        assert_int_equal(store_series(f->store, f->epoch_id, &line, &series_id, NULL), 0);
        added = store_add_samples(f->store, series_id, samples, n, &first_ms, &f->e);
        if (added < 0) {
                store_rollback(f->store);
                return added;
        }
        assert_int_equal(store_add_samples_total(f->store, added, NULL), 0);
        assert_int_equal(store_end_batch(f->store, batch_id, (uint64_t)added, 0, NULL), 0);
        added = store_commit(f->store, &f->e) == 0 ? added : -ENOSPC;
        if (added < 0)
                store_rollback(f->store);
        return added;
}

/* The only series' stamps, in seconds. */
static size_t stored(struct fixture *f, int64_t *ret, size_t max)
{
        struct fold_input in;
        size_t n = 0;

        assert_int_equal(store_window(f->store, f->epoch_id, 0, INT64_C(1) << 50, &in, &f->e), 0);
        assert_true(in.n <= 1);
        for (size_t i = 0; in.n && i < in.series[0].n && n < max; i++) {
                assert_true(in.series[0].samples[i].value == (double)in.series[0].samples[i].ts_ms / 8000);
                ret[n++] = in.series[0].samples[i].ts_ms / 1000;
        }
        fold_input_done(&in);
        return n;
}

static void assert_stored_range(struct fixture *f, size_t n)
{
        int64_t stamps[4000];

        assert_int_equal(stored(f, stamps, ARRAY_SIZE(stamps)), n);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(stamps[i], i);
}

static void samples_are_kept_once_in_whatever_order_they_come(void **state)
{
        struct fixture *f = *state;

        open_store(f);
        assert_int_equal(upload(f, "s", 500, 1, 500, 1), 500);
        assert_int_equal(upload(f, "s", 0, 2, 500, 1), 250); /* 500, 502, … are there */
        assert_int_equal(upload(f, "s", 999, -1, 1000, 1), 250);
        assert_int_equal(upload(f, "s", 0, 1, 1000, 1), 0);
        assert_int_equal(upload(f, "s", 990, 1, 20, 1), 10);
        assert_stored_range(f, 1010);
}

static void one_at_a_time_makes_the_same_chunks(void **state)
{
        struct fixture *f = *state;
        sqlite3_stmt *stmt;
        sqlite3 *db;

        open_store(f);
        for (int i = 0; i < 3 * CHUNK_SAMPLES_MAX; i++)
                assert_int_equal(upload(f, "s", i, 1, 1, 1), 1);
        assert_stored_range(f, 3 * CHUNK_SAMPLES_MAX);
        assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*), max(n) FROM chunk", -1, &stmt, NULL),
                         SQLITE_OK);
        assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int(stmt, 0), 3);
        assert_int_equal(sqlite3_column_int(stmt, 1), CHUNK_SAMPLES_MAX);
        sqlite3_finalize(stmt);
        sqlite3_close(db);
}

static void a_rolled_back_upload_leaves_no_memory_of_its_series(void **state)
{
        static const unsigned char hash[32];
        struct fixture *f = *state;
        struct sample sample = { 5000, 5.0 / 8 };
        char labels[] = "{\"a\":\"s\"}";
        struct batch_line line = { .name = "x", .source = "", .labels = labels, .samples = &sample, .n = 1 };
        int64_t id, batch_id, first_ms;

        open_store(f);
        assert_int_equal(store_begin(f->store, NULL), 0);
        assert_int_equal(store_begin_batch(f->store, 1, "", hash, &batch_id, NULL), 0);
        assert_int_equal(store_series(f->store, f->epoch_id, &line, &id, NULL), 0);
        assert_int_equal(store_add_samples(f->store, id, &sample, 1, &first_ms, NULL), 1);
        store_rollback(f->store);
        assert_int_equal(upload(f, "s", 0, 1, 10, 1), 10);
        assert_stored_range(f, 10);
}

static void database_of_the_version_before_is_taken_over(void **state)
{
        struct fixture *f = *state;
        sqlite3 *db;

        assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, server_migrations[0], NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, server_migrations[1], NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(
                sqlite3_exec(db,
                             "PRAGMA application_id = 0x574c5356; PRAGMA user_version = 2;"
                             "INSERT INTO node VALUES ('n', 'node', NULL, 1);"
                             "INSERT INTO epoch (node_id, epoch) VALUES ('n', 'e');"
                             "INSERT INTO series VALUES (7, 1, '{\"a\":\"s\"}', "
                             "'kepler_node_package_joules_total',"
                             "  'acpi', 999000);"
                             "INSERT INTO setting VALUES ('samples', '1000');"
                             "WITH RECURSIVE t (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM t WHERE i < 999)"
                             " INSERT INTO sample SELECT 7, i * 1000, i / 8.0 FROM t",
                             NULL, NULL, NULL),
                SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);

        open_store(f);
        assert_stored_range(f, 1000);
        assert_int_equal(upload(f, "s", 990, 1, 20, 1), 10);
        assert_stored_range(f, 1010);
}

static uint64_t samples(struct fixture *f)
{
        uint64_t n;

        assert_int_equal(store_count_samples(f->store, &n, NULL), 0);
        return n;
}

static void trim(struct fixture *f, int64_t keep_ms, uint64_t bytes, int64_t now_ms)
{
        struct retention keep = { keep_ms, keep_ms, bytes };
        int r;

        while ((r = store_trim(f->store, &keep, now_ms, &f->e)) > 0)
                ;
        assert_int_equal(r, 0);
}

static void what_was_received_long_ago_goes_whatever_its_stamps(void **state)
{
        struct fixture *f = *state;

        open_store(f);
        assert_int_equal(upload(f, "old", 100000, 1, 200, 1000), 200);
        assert_int_equal(upload(f, "new", 1, 1, 100, 5000), 100);
        trim(f, 4500, 0, 5400);
        assert_int_equal(samples(f), 300);
        trim(f, 4000, 0, 5400);
        assert_int_equal(samples(f), 100);
        assert_int_equal(upload(f, "new", 1, 1, 100, 5500), 0);
        assert_int_equal(upload(f, "old", 100100, 1, 200, 5500), 200); /* its series begins again */
        trim(f, 4000, 0, 1000000);
        assert_int_equal(samples(f), 0);
        assert_int_equal(upload(f, "new", 1, 1, 100, 2000000), 100);
        trim(f, 4000, 0, 2000000);
        assert_int_equal(samples(f), 100);
}

static void over_its_size_the_oldest_goes_but_not_what_just_came(void **state)
{
        struct fixture *f = *state;
        const uint64_t limit = 2 << 20;
        char name[16];
        uint64_t size;
        int r = 0, n = 0;

        open_store(f);
        assert_int_equal(store_set_size(f->store, limit, NULL), 0);
        for (; r >= 0 && n < 10000; n++) { /* all within the time that is kept */
                (void)snprintf(name, sizeof(name), "s%d", n);
                r = upload(f, name, 0, 1, 1000, 1000);
                trim(f, INT64_C(1) << 50, limit, 2000);
        }
        assert_int_equal(r, -ENOSPC);
        assert_int_equal(samples(f), (n - 1) * 1000);
        trim(f, INT64_C(1) << 50, limit, 1000 + RETENTION_KEPT_MS);
        assert_true(samples(f) < (uint64_t)(n - 1) * 1000);
        assert_int_equal(store_size(f->store, &size, NULL), 0);
        assert_true(size < limit);
        assert_int_equal(upload(f, name, 0, 1, 1000, 2000), 1000);
}

static void a_reader_sees_what_is_committed(void **state)
{
        struct fixture *f = *state;
        struct store *reader;
        uint64_t n;

        open_store(f);
        assert_int_equal(store_open_reader(f->path, &reader, &f->e), 0);
        assert_int_equal(upload(f, "s", 0, 1, 10, 1), 10);
        assert_int_equal(store_count_samples(reader, &n, NULL), 0);
        assert_int_equal(n, 10);
        assert_true(store_begin_batch(reader, 1, "", (const unsigned char *)f->path, &f->epoch_id, NULL) < 0);
        store_close(reader);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(samples_are_kept_once_in_whatever_order_they_come),
                TEST(one_at_a_time_makes_the_same_chunks),
                TEST(a_rolled_back_upload_leaves_no_memory_of_its_series),
                TEST(database_of_the_version_before_is_taken_over),
                TEST(what_was_received_long_ago_goes_whatever_its_stamps),
                TEST(over_its_size_the_oldest_goes_but_not_what_just_came),
                TEST(a_reader_sees_what_is_committed),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
