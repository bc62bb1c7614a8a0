/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/trainer-client/samples.h"

#include <errno.h>
#include <string.h>
#include "trainer-client/store.h"

static struct store *open_store(const struct samples *s)
{
        struct store *store = NULL;
        struct err e = { "" };

        if (store_open(s->path, NULL, &store, &e) < 0)
                fail_msg("%s", e.text);
        return store;
}

static void three_intervals(struct samples *s)
{
        samples_exec(s,
                     "INSERT INTO epoch VALUES (1, 'e1', 'b', 'node', 'n1', 0, '{}');"
                     "INSERT INTO " INTERVAL " VALUES (5, 1, 0, 10, 10000000, 10000000, 'bpf', 'exact');"
                     "INSERT INTO " INTERVAL " VALUES (6, 1, 10, 20, 10000000, 20000000, 'bpf', 'exact');"
                     "INSERT INTO " INTERVAL " VALUES (7, 1, 20, 30, 10000000, 30000000, 'bpf', 'exact');");
}

static void a_missing_database_is_enoent(void **state)
{
        struct store *store;
        struct err e = { "" };

        (void)state;
        assert_int_equal(store_open("/nonexistent/samples.db", NULL, &store, &e), -ENOENT);
        assert_non_null(strstr(e.text, "/nonexistent/samples.db"));
}

static void a_damaged_database_is_named(void **state)
{
        const struct samples *s = *state;
        struct store *store;
        struct err e = { "" };
        char path[256], text[8192];

        memset(text, 'x', sizeof(text));
        (void)snprintf(path, sizeof(path), "%s/bad.db", s->dir);
        assert_int_equal(file_write_atomic(path, text, sizeof(text), 0644, NULL), 0);
        assert_int_equal(store_open(path, NULL, &store, &e), -EBADMSG);
        assert_non_null(strstr(e.text, "bad.db"));
}

static void newer_and_foreign_databases_are_refused(void **state)
{
        struct samples *s = *state;
        struct store *store;
        struct err e = { "" };

        samples_exec(s, "PRAGMA user_version = 99");
        assert_int_equal(store_open(s->path, NULL, &store, &e), -EPROTO);
        assert_non_null(strstr(e.text, "newer"));
        samples_exec(s, "PRAGMA user_version = 1; PRAGMA application_id = 7");
        assert_int_equal(store_open(s->path, NULL, &store, &e), -EPROTO);
        assert_non_null(strstr(e.text, "another program"));
}

static void the_backlog_counts_what_is_behind_the_cursor(void **state)
{
        CLEANUP(store_closep) struct store *store = NULL;
        struct store_backlog b;

        three_intervals(*state);
        samples_exec(*state, "UPDATE retention SET removed_up_to = 4");
        store = open_store(*state);
        assert_int_equal(store_backlog(store, 0, &b, NULL), 0);
        assert_int_equal(b.intervals, 3);
        assert_int_equal(b.newest_ms, 30);
        assert_int_equal(b.lost, 4);
        assert_int_equal(store_backlog(store, 6, &b, NULL), 0);
        assert_int_equal(b.intervals, 1);
        assert_int_equal(b.lost, 0);
}

static void a_cursor_of_another_database_is_recognised(void **state)
{
        static const struct {
                struct cursor cursor;
                int known;
        } rows[] = {
                { { .epoch = "e1", .interval_id = 6, .end_ms = 20 }, 1 },
                { { .epoch = "e2", .interval_id = 6, .end_ms = 20 }, 0 },      /* other epoch */
                { { .epoch = "e1", .interval_id = 6, .end_ms = 21 }, 0 },      /* other time */
                { { .epoch = "e0", .interval_id = 3, .end_ms = 1 }, 1 },       /* removed by retention */
                { { .epoch = "e1", .interval_id = 900, .end_ms = 99999 }, 0 }, /* never recorded here */
        };
        CLEANUP(store_closep) struct store *store = NULL;

        three_intervals(*state);
        samples_exec(*state, "UPDATE retention SET removed_up_to = 4");
        store = open_store(*state);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                assert_int_equal(store_knows(store, &rows[i].cursor, NULL), rows[i].known);
}

static void reading_goes_on_while_the_owner_writes(void **state)
{
        CLEANUP(pack_batch_freep) struct pack_batch *first = NULL;
        CLEANUP(pack_batch_freep) struct pack_batch *second = NULL;
        CLEANUP(store_closep) struct store *store = NULL;

        three_intervals(*state);
        store = open_store(*state);
        samples_exec(*state,
                     "BEGIN IMMEDIATE;"
                     "INSERT INTO " INTERVAL " VALUES (8, 1, 30, 40, 10000000, 40000000, 'bpf', 'exact')");
        assert_int_equal(store_read(store, &(struct store_range){ 0, INT64_MAX, 100, 100 }, &first, NULL), 3);
        samples_exec(*state, "COMMIT");
        assert_int_equal(store_read(store, &(struct store_range){ 0, INT64_MAX, 100, 100 }, &second, NULL),
                         4);
}

static void damaged_content_is_an_error_and_not_a_batch(void **state)
{
        CLEANUP(store_closep) struct store *store = NULL;
        struct pack_batch *batch = NULL;
        struct err e = { "" };

        three_intervals(*state);
        samples_exec(*state, "UPDATE epoch SET machine = 'not JSON'");
        store = open_store(*state);
        assert_int_equal(store_read(store, &(struct store_range){ 0, INT64_MAX, 100, 100 }, &batch, &e),
                         -EBADMSG);
        assert_null(batch);
        samples_exec(*state, "UPDATE epoch SET machine = '{}'; PRAGMA foreign_keys = OFF; DELETE FROM epoch");
        assert_int_equal(store_read(store, &(struct store_range){ 0, INT64_MAX, 100, 100 }, &batch, &e),
                         -EBADMSG);
        assert_non_null(strstr(e.text, "epoch"));
}

#define WITH_DB(test) cmocka_unit_test_setup_teardown(test, samples_setup, samples_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_missing_database_is_enoent),
                WITH_DB(a_damaged_database_is_named),
                WITH_DB(newer_and_foreign_databases_are_refused),
                WITH_DB(the_backlog_counts_what_is_behind_the_cursor),
                WITH_DB(a_cursor_of_another_database_is_recognised),
                WITH_DB(reading_goes_on_while_the_owner_writes),
                WITH_DB(damaged_content_is_an_error_and_not_a_batch),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
