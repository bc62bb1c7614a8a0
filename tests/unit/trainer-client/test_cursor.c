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

static const struct cursor sample = { .destination = "model-server",
                                      .epoch = "e1",
                                      .interval_id = 41,
                                      .end_ms = 1700000000000,
                                      .acked_ms = 1700000000500 };

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

        assert_int_equal(cursor_lock(s->dir, "model-server", &first, NULL), 0);
        assert_int_equal(cursor_lock(s->dir, "model-server", &second, &e), -EBUSY);
        assert_non_null(strstr(e.text, "another"));
        (void)close(first);
        assert_int_equal(cursor_lock(s->dir, "model-server", &second, NULL), 0);
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
        assert_int_equal(cursor_lock(s->dir, "model-server", &lock, NULL), 0);
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

static struct cursor_range up_to(int64_t last)
{
        return (struct cursor_range){ .last_id = last, .end_ms = 1000 * last, .epoch = "e1" };
}

static void add(struct cursor *c, int64_t after, int64_t last)
{
        const struct cursor_range range = up_to(last);

        assert_int_equal(cursor_add(c, after, &range), 0);
}

static void pieces_join_whatever_their_order(void **state)
{
        struct cursor c = { .interval_id = 10 };
        int64_t after = 0, last = 0;

        (void)state;
        add(&c, 90, 100);
        add(&c, 70, 80);
        add(&c, 40, 50);
        assert_int_equal(c.n_ranges, 3);
        assert_true(cursor_gap(&c, 120, true, &after, &last));
        assert_true(after == 100 && last == 120);
        assert_true(cursor_gap(&c, 100, true, &after, &last));
        assert_true(after == 80 && last == 90);
        assert_true(cursor_gap(&c, 120, false, &after, &last));
        assert_true(after == 10 && last == 40);
        add(&c, 80, 90);
        assert_int_equal(c.n_ranges, 2);
        add(&c, 10, 40);
        assert_true(c.interval_id == 50 && c.end_ms == 50000 && c.n_ranges == 1);
        assert_string_equal(c.epoch, "e1");
        add(&c, 50, 70);
        assert_true(c.interval_id == 100 && c.end_ms == 100000 && c.n_ranges == 0);
        assert_false(cursor_gap(&c, 100, true, &after, &last));
}

static void every_order_of_pieces_ends_in_one(void **state)
{
        (void)state;
        srand(7);
        for (int round = 0; round < 200; round++) {
                struct cursor c = { .interval_id = 0 };
                int order[32];

                for (int i = 0; i < 32; i++)
                        order[i] = i;
                for (int i = 31; i > 0; i--) {
                        int j = rand() % (i + 1), t = order[i];

                        order[i] = order[j];
                        order[j] = t;
                }
                for (int i = 0; i < 32; i++) {
                        add(&c, 5 * order[i], 5 * order[i] + 5);
                        for (size_t k = 0; k + 1 < c.n_ranges; k++)
                                assert_true(c.ranges[k].last_id + 1 < c.ranges[k + 1].first_id);
                }
                assert_true(c.interval_id == 160 && c.n_ranges == 0);
        }
}

static void too_many_pieces_are_refused(void **state)
{
        struct cursor c = { .interval_id = 0 };
        struct cursor_range one = up_to(0);

        (void)state;
        for (int i = 1; i <= CURSOR_RANGES_MAX; i++)
                add(&c, 10 * i, 10 * i + 1);
        one.last_id = 5001;
        assert_int_equal(cursor_add(&c, 5000, &one), -ENOSPC);
}

static void what_is_being_sent_is_remembered(void **state)
{
        const struct samples *s = *state;
        struct cursor c = sample, there;

        c.sending_after = 41;
        c.sending_last = 77;
        c.refused_intervals = 3;
        c.quarantined_batches = 2;
        c.next_bundle = 9;
        add(&c, 90, 100);
        assert_int_equal(cursor_save(s->dir, &c, NULL), 0);
        assert_int_equal(cursor_load(s->dir, "model-server", &there, NULL), 0);
        assert_true(there.sending_after == 41 && there.sending_last == 77 && there.refused_intervals == 3);
        assert_true(there.quarantined_batches == 2 && there.next_bundle == 9 && there.n_ranges == 1);
        assert_true(there.ranges[0].first_id == 91 && there.ranges[0].end_ms == 100000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                IN_DIR(a_saved_cursor_is_loaded_again),
                IN_DIR(a_damaged_cursor_is_named),
                IN_DIR(what_is_being_sent_is_remembered),
                cmocka_unit_test(pieces_join_whatever_their_order),
                cmocka_unit_test(every_order_of_pieces_ends_in_one),
                cmocka_unit_test(too_many_pieces_are_refused),
                IN_DIR(a_full_disk_keeps_the_old_cursor),
                IN_DIR(one_process_holds_the_lock),
                IN_DIR(the_lock_removes_half_written_cursors_only),
                IN_DIR(acknowledgements_are_beside_the_database),
                IN_DIR(acknowledgements_that_cannot_be_written_are_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
