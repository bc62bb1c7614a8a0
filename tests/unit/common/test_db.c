/* SPDX-License-Identifier: Apache-2.0 */
#include "common/db.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "common/file.h"

static const char *const two_steps[] = {
        "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL) STRICT;"
        "INSERT INTO t VALUES (1, 'one')",
        "ALTER TABLE t ADD COLUMN c INTEGER;"
        "UPDATE t SET c = a * 10",
};
static const char *const broken_second[] = {
        "CREATE TABLE t (a INTEGER PRIMARY KEY) STRICT",
        "CREATE TABLE u (a INTEGER); INSERT INTO nowhere VALUES (1)",
};
static const struct db_migrations first = { two_steps, 1, 0x57615474 };
static const struct db_migrations both = { two_steps, 2, 0x57615474 };
static const struct db_migrations broken = { broken_second, 2, 0x57615474 };

static char dir[64], path[96];

static int set_up(void **state)
{
        (void)state;
        snprintf(dir, sizeof(dir), "/tmp/wattloop-db.XXXXXX");
        if (!mkdtemp(dir))
                return -1;
        snprintf(path, sizeof(path), "%s/x.db", dir);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        return file_remove_tree(dir, NULL);
}

static int open_close(enum db_mode mode, const struct db_migrations *m, int *version, struct err *e)
{
        CLEANUP(db_closep) sqlite3 *db = NULL;

        return db_open(path, mode, m, 100, &db, version, e);
}

static long long query(sqlite3 *db, const char *sql)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        struct err e = { 0 };

        assert_int_equal(db_prepare(db, sql, &stmt, &e), 0);
        assert_int_equal(db_step(stmt, &e), 1);
        return sqlite3_column_int64(stmt, 0);
}

static void the_owner_creates_and_migrates(void **state)
{
        CLEANUP(db_closep) sqlite3 *db = NULL;
        struct err e = { 0 };
        int version = -1;

        (void)state;
        assert_int_equal(open_close(DB_OWNER, &first, &version, &e), 0);
        assert_int_equal(version, 1);
        assert_int_equal(db_open(path, DB_OWNER, &both, 100, &db, &version, &e), 0);
        assert_int_equal(version, 2);
        assert_int_equal(query(db, "SELECT c FROM t WHERE a = 1"), 10);
        assert_int_equal(query(db, "PRAGMA user_version"), 2);
        assert_int_equal(query(db, "PRAGMA foreign_keys"), 1);
        assert_int_equal(query(db, "PRAGMA synchronous"), 2);
        assert_int_equal(query(db, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"), 1);
}

static void the_wal_stays_for_readers_without_write_access(void **state)
{
        struct err e = { 0 };
        struct stat st;
        char wal[128];

        (void)state;
        assert_int_equal(open_close(DB_OWNER, &first, NULL, &e), 0);
        snprintf(wal, sizeof(wal), "%s-wal", path);
        assert_int_equal(stat(wal, &st), 0);
        snprintf(wal, sizeof(wal), "%s-shm", path);
        assert_int_equal(stat(wal, &st), 0);
}

static void a_failed_migration_leaves_nothing_behind(void **state)
{
        CLEANUP(db_closep) sqlite3 *db = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(open_close(DB_OWNER, &broken, NULL, &e), -EINVAL);
        assert_non_null(strstr(e.text, "migration to schema 2"));
        assert_int_equal(db_open(path, DB_READ_ONLY, &broken, 100, &db, NULL, &e), 0);
        assert_int_equal(query(db, "PRAGMA user_version"), 1);
        assert_int_equal(query(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'u'"), 0);
}

static void a_newer_version_is_refused_by_name(void **state)
{
        struct err e = { 0 };

        (void)state;
        assert_int_equal(open_close(DB_OWNER, &both, NULL, &e), 0);
        assert_int_equal(open_close(DB_OWNER, &first, NULL, &e), -EPROTO);
        assert_non_null(strstr(e.text, "made by a newer version (schema 2, this program knows 1)"));
        assert_int_equal(open_close(DB_READ_ONLY, &first, NULL, &e), -EPROTO);
}

static void a_reader_takes_older_versions_and_says_which(void **state)
{
        struct err e = { 0 };
        int version = 0;

        (void)state;
        assert_int_equal(open_close(DB_OWNER, &first, NULL, &e), 0);
        assert_int_equal(open_close(DB_READ_ONLY, &both, &version, &e), 0);
        assert_int_equal(version, 1);
}

static void a_strangers_database_is_refused_and_left_alone(void **state)
{
        static const char *const sql[] = {
                "PRAGMA application_id = 77; CREATE TABLE other (x)",
                "CREATE TABLE other (x)",
                "PRAGMA user_version = 1",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(sql); i++) {
                CLEANUP(db_closep) sqlite3 *db = NULL;
                struct err e = { 0 };

                assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
                assert_int_equal(db_exec(db, sql[i], &e), 0);
                assert_int_equal(open_close(DB_OWNER, &first, NULL, &e), -EPROTO);
                assert_non_null(strstr(e.text, "made by another program"));
                assert_int_equal(query(db, "SELECT journal_mode = 'delete' FROM pragma_journal_mode"), 1);
                assert_int_equal(unlink(path), 0);
        }
}

static void damage_in_the_header_is_reported(void **state)
{
        struct err e = { 0 };
        char junk[8192];

        (void)state;
        memset(junk, 'j', sizeof(junk));
        assert_int_equal(file_write_atomic(path, junk, sizeof(junk), 0644, &e), 0);
        assert_int_equal(open_close(DB_OWNER, &first, NULL, &e), -EBADMSG);
        assert_non_null(strstr(e.text, path));
        assert_int_equal(open_close(DB_READ_ONLY, &first, NULL, &e), -EBADMSG);
}

static void a_truncated_file_is_reported(void **state)
{
        CLEANUP(buf_done) struct buf b;
        struct err e = { 0 };
        char other[128];

        (void)state;
        assert_int_equal(open_close(DB_OWNER, &both, NULL, &e), 0);
        /* Without its WAL, cut in the middle of a page. */
        snprintf(other, sizeof(other), "%s-wal", path);
        assert_int_equal(unlink(other), 0);
        buf_init(&b, 1 << 20);
        assert_int_equal(file_read(path, &b, &e), 0);
        assert_true(b.size > 5000);
        assert_int_equal(truncate(path, 5000), 0);
        assert_int_equal(open_close(DB_READ_ONLY, &both, NULL, &e), -EBADMSG);
}

static void a_reader_makes_and_changes_nothing(void **state)
{
        CLEANUP(db_closep) sqlite3 *db = NULL;
        struct err e = { 0 };
        struct stat st;

        (void)state;
        assert_int_equal(open_close(DB_READ_ONLY, &first, NULL, &e), -ENOENT);
        assert_int_equal(stat(path, &st), -1);
        assert_int_equal(file_write_atomic(path, "", 0, 0644, &e), 0);
        assert_int_equal(open_close(DB_READ_ONLY, &first, NULL, &e), -ENOENT);
        assert_int_equal(open_close(DB_OWNER, &first, NULL, &e), 0);
        assert_int_equal(db_open(path, DB_READ_ONLY, &first, 100, &db, NULL, &e), 0);
        assert_int_equal(db_exec(db, "INSERT INTO t VALUES (2, 'two')", &e), -EROFS);
}

static void a_reader_sees_rows_of_a_living_owner(void **state)
{
        CLEANUP(db_closep) sqlite3 *owner = NULL, *reader = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(db_open(path, DB_OWNER, &first, 100, &owner, NULL, &e), 0);
        assert_int_equal(db_open(path, DB_READ_ONLY, &first, 100, &reader, NULL, &e), 0);
        assert_int_equal(db_exec(owner, "INSERT INTO t VALUES (2, 'two')", &e), 0);
        assert_int_equal(query(reader, "SELECT count(*) FROM t"), 2);
}

static void errors_become_errno(void **state)
{
        CLEANUP(db_closep) sqlite3 *db = NULL, *other = NULL;
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(db_open(path, DB_OWNER, &first, 10, &db, NULL, &e), 0);
        assert_int_equal(db_open(path, DB_OWNER, &first, 10, &other, NULL, &e), 0);
        assert_int_equal(db_exec(db, "INSERT INTO t VALUES (1, 'again')", &e), -EEXIST);
        assert_int_equal(db_exec(db, "INSERT INTO t VALUES (3, NULL)", &e), -EINVAL);
        assert_int_equal(db_exec(db, "SELECT nothing", &e), -EINVAL);
        assert_non_null(strstr(e.text, "nothing"));

        assert_int_equal(db_exec(db, "BEGIN IMMEDIATE", &e), 0);
        assert_int_equal(db_exec(other, "BEGIN IMMEDIATE", &e), -EBUSY);
        assert_int_equal(db_exec(db, "ROLLBACK", &e), 0);

        assert_int_equal(db_exec(db, "PRAGMA max_page_count = 2", &e), 0);
        assert_int_equal(db_prepare(db, "INSERT INTO t VALUES (?, hex(zeroblob(100000)))", &stmt, &e), 0);
        assert_int_equal(sqlite3_bind_int(stmt, 1, 5), SQLITE_OK);
        assert_int_equal(db_run(stmt, &e), -ENOSPC);
        assert_non_null(strstr(e.text, strerror(ENOSPC)));
}

static void unusable_places_are_named(void **state)
{
        struct err e = { 0 };

        (void)state;
        snprintf(path, sizeof(path), "%s/no/x.db", dir);
        assert_int_equal(open_close(DB_OWNER, &first, NULL, &e), -ENOENT);
        assert_non_null(strstr(e.text, path));
        snprintf(path, sizeof(path), "%s", dir);
        assert_true(open_close(DB_OWNER, &first, NULL, &e) < 0);
}

static void a_row_from_a_rowless_statement_is_an_error(void **state)
{
        CLEANUP(db_closep) sqlite3 *db = NULL;
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(db_open(path, DB_OWNER, &first, 10, &db, NULL, &e), 0);
        assert_int_equal(db_prepare(db, "SELECT a FROM t", &stmt, &e), 0);
        assert_int_equal(db_run(stmt, &e), -EINVAL);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(the_owner_creates_and_migrates),
                TEST(the_wal_stays_for_readers_without_write_access),
                TEST(a_failed_migration_leaves_nothing_behind),
                TEST(a_newer_version_is_refused_by_name),
                TEST(a_reader_takes_older_versions_and_says_which),
                TEST(a_strangers_database_is_refused_and_left_alone),
                TEST(damage_in_the_header_is_reported),
                TEST(a_truncated_file_is_reported),
                TEST(a_reader_makes_and_changes_nothing),
                TEST(a_reader_sees_rows_of_a_living_owner),
                TEST(errors_become_errno),
                TEST(unusable_places_are_named),
                TEST(a_row_from_a_rowless_statement_is_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
