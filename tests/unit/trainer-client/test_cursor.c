/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/trainer-client/samples.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include "trainer-client/cursor.h"

int __wrap_fsync(int fd);
int __real_fsync(int fd);

static int fsync_errno; /* 0: works */

int __wrap_fsync(int fd)
{
        if (fsync_errno == 0)
                return __real_fsync(fd);
        errno = fsync_errno;
        return -1;
}

static const struct cursor sample = { "model-server", "e1", 41, 1700000000000, 1700000000500 };

static void put(const char *dir, const char *name, const char *text)
{
        char path[PATH_MAX];

        assert_int_equal(path_join(path, sizeof(path), dir, name), 0);
        assert_int_equal(file_write_atomic(path, text, strlen(text), 0644, NULL), 0);
}

static void a_saved_cursor_is_loaded_again(void **state)
{
        const struct samples *s = *state;
        struct cursor c;

        assert_int_equal(cursor_load(s->dir, "model-server", &c, NULL), -ENOENT);
        assert_int_equal(cursor_save(s->dir, &sample, NULL), 0);
        assert_int_equal(cursor_load(s->dir, "model-server", &c, NULL), 0);
        assert_memory_equal(&c, &sample, sizeof(c));
        assert_int_equal(cursor_load(s->dir, "other", &c, NULL), -ENOENT);
}

static void a_damaged_cursor_is_named(void **state)
{
        static const char *const texts[] = {
                "",
                "{",
                "[]",
                "{\"destination\": \"model-server\"}",
                "{\"destination\": \"model-server\", \"interval_id\": \"7\", \"epoch\": \"e\", \"end_ms\": "
                "1, \"acked_ms\": 1}",
                "{\"destination\": \"model-server\", \"interval_id\": -7, \"epoch\": \"e\", \"end_ms\": 1, "
                "\"acked_ms\": 1}",
                "{\"destination\": \"another\", \"interval_id\": 7, \"epoch\": \"e\", \"end_ms\": 1, "
                "\"acked_ms\": 1}",
        };
        const struct samples *s = *state;

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                struct err e = { "" };
                struct cursor c;

                put(s->dir, "model-server.json", texts[i]);
                assert_int_equal(cursor_load(s->dir, "model-server", &c, &e), -EBADMSG);
                assert_non_null(strstr(e.text, "model-server.json"));
        }
}

static void a_full_disk_keeps_the_old_cursor(void **state)
{
        const struct samples *s = *state;
        struct cursor c, next = sample;
        struct err e = { "" };

        assert_int_equal(cursor_save(s->dir, &sample, NULL), 0);
        next.interval_id = 99;
        fsync_errno = ENOSPC;
        assert_int_equal(cursor_save(s->dir, &next, &e), -ENOSPC);
        fsync_errno = 0;
        assert_non_null(strstr(e.text, "No space left"));
        assert_int_equal(cursor_load(s->dir, "model-server", &c, NULL), 0);
        assert_int_equal(c.interval_id, 41);
}

static void one_process_holds_the_lock(void **state)
{
        const struct samples *s = *state;
        int first = -1, second = -1;
        struct err e = { "" };

        assert_int_equal(cursor_lock(s->dir, &first, NULL), 0);
        assert_int_equal(cursor_lock(s->dir, &second, &e), -EBUSY);
        assert_non_null(strstr(e.text, "another"));
        (void)close(first);
        assert_int_equal(cursor_lock(s->dir, &second, NULL), 0);
        (void)close(second);
}

static void the_lock_removes_half_written_cursors_only(void **state)
{
        const struct samples *s = *state;
        char path[PATH_MAX];
        struct cursor c;
        int lock = -1;

        assert_int_equal(cursor_save(s->dir, &sample, NULL), 0);
        put(s->dir, ".model-server.json.AbCdEf", "{");
        assert_int_equal(cursor_lock(s->dir, &lock, NULL), 0);
        assert_int_equal(path_join(path, sizeof(path), s->dir, ".model-server.json.AbCdEf"), 0);
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(cursor_load(s->dir, "model-server", &c, NULL), 0);
        (void)close(lock);
}

static void acknowledgements_are_beside_the_database(void **state)
{
        const struct samples *s = *state;
        struct cursor other = sample;
        char path[PATH_MAX];
        struct stat st;

        assert_false(cursor_is_acknowledged(s->path, &sample));
        assert_int_equal(cursor_acknowledge(s->path, &sample, NULL), 0);
        assert_true(cursor_is_acknowledged(s->path, &sample));
        other.interval_id++;
        assert_false(cursor_is_acknowledged(s->path, &other));
        assert_int_equal(path_join(path, sizeof(path), s->dir, "acks/model-server.json"), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0664);
}

static void acknowledgements_that_cannot_be_written_are_an_error(void **state)
{
        const struct samples *s = *state;
        struct err e = { "" };

        put(s->dir, "acks", "in the way");
        assert_true(cursor_acknowledge(s->path, &sample, &e) < 0);
        assert_non_null(strstr(e.text, "acks"));
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, samples_setup, samples_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                IN_DIR(a_saved_cursor_is_loaded_again),
                IN_DIR(a_damaged_cursor_is_named),
                IN_DIR(a_full_disk_keeps_the_old_cursor),
                IN_DIR(one_process_holds_the_lock),
                IN_DIR(the_lock_removes_half_written_cursors_only),
                IN_DIR(acknowledgements_are_beside_the_database),
                IN_DIR(acknowledgements_that_cannot_be_written_are_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
