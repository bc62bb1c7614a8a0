/* SPDX-License-Identifier: Apache-2.0 */
#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);

/* The errno that the next calls fail with; 0: they work. */
static int fsync_errno, rename_errno, write_errno;
static size_t write_at_most;

int __wrap_fsync(int fd)
{
        if (fsync_errno) {
                errno = fsync_errno;
                return -1;
        }
        return __real_fsync(fd);
}

int __wrap_rename(const char *from, const char *to)
{
        if (rename_errno) {
                errno = rename_errno;
                return -1;
        }
        return __real_rename(from, to);
}

ssize_t __wrap_write(int fd, const void *data, size_t size)
{
        if (write_errno) {
                errno = write_errno;
                return -1;
        }
        return __real_write(fd, data, write_at_most && size > write_at_most ? write_at_most : size);
}

static char dir[64];

static int set_up(void **state)
{
        (void)state;
        fsync_errno = rename_errno = write_errno = 0;
        write_at_most = 0;
        snprintf(dir, sizeof(dir), "/tmp/wattloop-file.XXXXXX");
        return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
        struct err e = { 0 };

        (void)state;
        fsync_errno = rename_errno = write_errno = 0;
        return file_remove_tree(dir, &e);
}

static const char *in_dir(const char *name)
{
        static char path[256];

        assert_int_equal(path_join(path, sizeof(path), dir, name), 0);
        return path;
}

static void put(const char *name, const char *text)
{
        struct err e = { 0 };

        assert_int_equal(file_write_atomic(in_dir(name), text, strlen(text), 0644, &e), 0);
}

static void assert_content(const char *name, const char *text)
{
        CLEANUP(buf_done) struct buf b;
        struct err e = { 0 };

        buf_init(&b, 1 << 20);
        assert_int_equal(file_read(in_dir(name), &b, &e), 0);
        assert_string_equal(b.data ? b.data : "", text);
}

static int count_entries(void)
{
        CLEANUP(closedirp) DIR *d = opendir(dir);
        int n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        return n - 2;
}

static void an_atomic_write_replaces_the_file(void **state)
{
        struct stat st;

        (void)state;
        put("f", "old");
        write_at_most = 1; /* short writes are continued */
        put("f", "new content");
        assert_content("f", "new content");
        assert_int_equal(stat(in_dir("f"), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0644);
        assert_int_equal(count_entries(), 1);
}

static void a_failed_write_keeps_the_old_file(void **state)
{
        int *const failing[] = { &write_errno, &fsync_errno, &rename_errno };
        const int codes[] = { ENOSPC, EIO, EACCES };

        (void)state;
        put("f", "old");
        for (size_t i = 0; i < ARRAY_SIZE(failing); i++) {
                struct err e = { 0 };
                int r;

                *failing[i] = codes[i];
                r = file_write_atomic(in_dir("f"), "new", 3, 0644, &e);
                *failing[i] = 0;
                assert_int_equal(r, -codes[i]);
                assert_non_null(strstr(e.text, strerror(codes[i])));
                assert_content("f", "old");
                assert_int_equal(count_entries(), 1); /* the temporary file is gone */
        }
}

static void a_missing_directory_is_an_error(void **state)
{
        struct err e = { 0 };

        (void)state;
        assert_int_equal(file_write_atomic(in_dir("no/f"), "x", 1, 0644, &e), -ENOENT);
        assert_int_equal(count_entries(), 0);
}

static void reading_stops_at_the_limit(void **state)
{
        CLEANUP(buf_done) struct buf b;
        struct err e = { 0 };

        (void)state;
        put("f", "12345678");
        buf_init(&b, 8);
        assert_int_equal(file_read(in_dir("f"), &b, &e), 0);
        assert_int_equal(b.size, 8);
        buf_done(&b);
        buf_init(&b, 7);
        assert_int_equal(file_read(in_dir("f"), &b, &e), -EFBIG);
        buf_done(&b);
        buf_init(&b, 10); /* says size 0, has more */
        assert_int_equal(file_read("/proc/self/status", &b, &e), -EFBIG);
}

static void fifos_and_directories_are_refused_without_waiting(void **state)
{
        CLEANUP(buf_done) struct buf b;
        struct err e = { 0 };

        (void)state;
        buf_init(&b, 100);
        assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
        assert_int_equal(file_read(in_dir("fifo"), &b, &e), -EINVAL);
        assert_int_equal(file_read(dir, &b, &e), -EISDIR);
        assert_int_equal(file_read(in_dir("none"), &b, &e), -ENOENT);
}

static void small_files_give_their_first_line(void **state)
{
        unsigned long long v = 0;
        char text[8];

        (void)state;
        put("f", "1234 \t\nmore than fits in here\n");
        assert_int_equal(file_read_small(AT_FDCWD, in_dir("f"), text, sizeof(text)), 4);
        assert_string_equal(text, "1234");
        assert_int_equal(file_read_u64(AT_FDCWD, in_dir("f"), &v), 0);
        assert_int_equal(v, 1234);
        put("f", "12345678");
        assert_int_equal(file_read_small(AT_FDCWD, in_dir("f"), text, sizeof(text)), -EFBIG);
        put("f", "");
        assert_int_equal(file_read_small(AT_FDCWD, in_dir("f"), text, sizeof(text)), 0);
        assert_int_equal(file_read_u64(AT_FDCWD, in_dir("f"), &v), -EINVAL);
        put("f", "-1\n");
        assert_int_equal(file_read_u64(AT_FDCWD, in_dir("f"), &v), -EINVAL);
}

static void trees_are_removed_without_following_links(void **state)
{
        struct err e = { 0 };
        char tree[256];

        (void)state;
        put("precious", "kept");
        assert_int_equal(file_mkdirs(in_dir("tree/a/b/c"), 0755, &e), 0);
        assert_int_equal(file_mkdirs(in_dir("tree/a/b/c"), 0755, &e), 0);
        put("tree/a/b/file", "x");
        assert_int_equal(symlink("../../..", in_dir("tree/a/b/up")), 0);
        assert_int_equal(symlink("../precious", in_dir("tree/link")), 0);
        snprintf(tree, sizeof(tree), "%s", in_dir("tree"));
        assert_int_equal(file_remove_tree(tree, &e), 0);
        assert_int_equal(file_remove_tree(tree, &e), 0);
        assert_content("precious", "kept");
        assert_int_equal(count_entries(), 1);
}

static void mkdirs_does_not_take_a_file_for_a_directory(void **state)
{
        struct err e = { 0 };

        (void)state;
        put("f", "");
        assert_int_equal(file_mkdirs(in_dir("f"), 0755, &e), -ENOTDIR);
        assert_int_equal(file_mkdirs(in_dir("f/g"), 0755, &e), -ENOTDIR);
}

static void a_lock_is_held_until_its_descriptor_closes(void **state)
{
        struct err e = { 0 };
        int one = -1, two = -1;

        (void)state;
        assert_int_equal(file_lock(in_dir("lock"), &one, &e), 0);
        assert_int_equal(file_lock(in_dir("lock"), &two, &e), -EWOULDBLOCK);
        close(one);
        assert_int_equal(file_lock(in_dir("lock"), &two, &e), 0);
        close(two);
}

static void paths_that_do_not_fit_are_an_error(void **state)
{
        char path[8];

        (void)state;
        assert_int_equal(path_join(path, sizeof(path), "abc", "def"), 0);
        assert_string_equal(path, "abc/def");
        assert_int_equal(path_join(path, sizeof(path), "abcd", "efg"), -ENAMETOOLONG);
        assert_int_equal(path_join(path, sizeof(path), "/", "x"), 0);
        assert_string_equal(path, "/x");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(an_atomic_write_replaces_the_file),
                TEST(a_failed_write_keeps_the_old_file),
                TEST(a_missing_directory_is_an_error),
                TEST(reading_stops_at_the_limit),
                TEST(fifos_and_directories_are_refused_without_waiting),
                TEST(small_files_give_their_first_line),
                TEST(trees_are_removed_without_following_links),
                TEST(mkdirs_does_not_take_a_file_for_a_directory),
                TEST(a_lock_is_held_until_its_descriptor_closes),
                TEST(paths_that_do_not_fit_are_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
