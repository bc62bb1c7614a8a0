/* SPDX-License-Identifier: Apache-2.0 */
/* The /proc source: against a tree made here, and against the real machine. */
#include "features_real.h"

#define OPS      (&feature_source_proc)
#define KTHREAD  "2129984" /* flags with PF_KTHREAD (0x00200000) */
#define USER     "4194304"
#define SOFTIRQS "                    CPU0       CPU1\n          HI:          1          1\n"

static char tree[64];
static struct feature_source *source;
static struct usage_set set;

static int tree_new(void **state)
{
        (void)state;
        (void)snprintf(tree, sizeof(tree), "/tmp/proc-XXXXXX");
        return mkdtemp(tree) ? 0 : -1;
}

static int tree_remove(void **state)
{
        (void)state;
        OPS->close(source);
        source = NULL;
        usage_set_done(&set);
        return file_remove_tree(tree, NULL);
}

/* A process: `ticks` of user time, threads, start in ticks; schedstat of its only thread, or NULL for none.
 */
struct fake {
        int pid;
        const char *flags;
        int ticks, threads, start;
        const char *schedstat, *io, *cgroup;
};
static void put(struct fake f)
{
        char name[64], text[512];

        (void)snprintf(name, sizeof(name), "%d/stat", f.pid);
        (void)snprintf(text, sizeof(text),
                       "%d (a (b) c) S 1 1 1 0 -1 %s 0 0 0 0 %d 0 0 0 20 0 %d 0 %d 0 0 0 0\n", f.pid, f.flags,
                       f.ticks, f.threads, f.start);
        write_file(tree, name, text);
        (void)snprintf(name, sizeof(name), "%d/schedstat", f.pid);
        if (f.schedstat)
                write_file(tree, name, f.schedstat);
        (void)snprintf(name, sizeof(name), "%d/io", f.pid);
        if (f.io)
                write_file(tree, name, f.io);
        (void)snprintf(name, sizeof(name), "%d/cgroup", f.pid);
        if (f.cgroup)
                write_file(tree, name, f.cgroup);
}

static void open_tree(void)
{
        struct feature_source_options options = { .procfs_root = tree, .sysfs_root = "/sys" };
        char text[PATH_MAX];

        (void)snprintf(text, sizeof(text), "cgroup2 %s/cg cgroup2 rw 0 0\n", tree);
        write_file(tree, "mounts", text);
        (void)snprintf(text, sizeof(text), "%s/cg/docker-" ID_A ".scope", tree);
        assert_int_equal(file_mkdirs(text, 0755, NULL), 0);
        assert_int_equal(OPS->open(&options, &source, NULL), 0);
        source_read(OPS, source, &set);
        assert_int_equal(set.n, 0);
}

static uint64_t group(const char *name)
{
        char path[PATH_MAX];

        (void)snprintf(path, sizeof(path), "%s/cg%s", tree, name);
        return inode(path);
}

static void processes_are_charged_to_their_cgroups_and_kernel_threads_apart(void **state)
{
        struct fake a = { 1, USER, 1, 1, 5, "1000 2 3\n", NULL, "0::/docker-" ID_A ".scope\n" };
        struct fake k = { 2, KTHREAD, 0, 1, 5, "500 2 3\n", NULL, "0::/\n" };
        struct fake r = { 3, USER, 0, 1, 5, "70 2 3\n", NULL, "0::/\n" };

        (void)state;
        a.ticks = 0;
        put(a);
        put(k);
        put(r);
        open_tree();
        a.schedstat = "1100 2 3\n";
        k.schedstat = "520 2 3\n";
        r.schedstat = "73 2 3\n";
        put(a);
        put(k);
        put(r);
        put((struct fake){ 9, USER, 0, 1, 900, "40 0 0\n", NULL, "0::/docker-" ID_A ".scope\n" });
        source_read(OPS, source, &set);
        assert_int_equal(row_delta(&set, group("/docker-" ID_A ".scope"), false, FEATURE_CPU_TIME), 100 + 40);
        assert_int_equal(row_delta(&set, 0, true, FEATURE_CPU_TIME), 20);
        assert_int_equal(row_delta(&set, group(""), false, FEATURE_CPU_TIME), 3);
        assert_int_equal(sum_delta(&set, FEATURE_CPU_TIME), 163);
}

/* prctl(PR_SET_NAME) takes any bytes, and stat shows them as they are. */
static void a_name_with_a_line_break_hides_no_process(void **state)
{
        struct fake p = { 4, USER, 0, 1, 5, "100 2 3\n", NULL, "0::/\n" };
        static const char stat[] =
                "4 (x) R 1\n(\n) S 1 1 1 0 -1 " USER " 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 0 0\n";

        (void)state;
        put(p);
        write_file(tree, "4/stat", stat);
        open_tree();
        p.schedstat = "350 2 3\n";
        put(p);
        write_file(tree, "4/stat", stat);
        source_read(OPS, source, &set);
        assert_int_equal(sum_delta(&set, FEATURE_CPU_TIME), 250);
}

static void a_reused_pid_starts_from_zero(void **state)
{
        struct feature_source_stats stats;

        (void)state;
        put((struct fake){ 1, USER, 0, 1, 5, "100000 2 3\n", NULL, "0::/\n" });
        open_tree();
        put((struct fake){ 1, USER, 0, 1, 77, "300 2 3\n", NULL, "0::/\n" });
        source_read(OPS, source, &set);
        assert_int_equal(sum_delta(&set, FEATURE_CPU_TIME), 300);
        OPS->stats(source, &stats);
        assert_int_equal(stats.dropped, 1); /* whatever the former one did at the end */
        assert_int_equal(stats.processes, 1);
}

static void threads_are_added_up_and_reaped_ones_taken_from_stat(void **state)
{
        struct fake p = { 1, USER, 0, 3, 5, NULL, NULL, "0::/\n" };
        uint64_t tick_ns = NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK);

        (void)state;
        put(p);
        write_file(tree, "1/task/1/schedstat", "100 0 0\n");
        write_file(tree, "1/task/7/schedstat", "100 0 0\n");
        open_tree();
        write_file(tree, "1/task/7/schedstat", "150 0 0\n");
        write_file(tree, "1/task/8/schedstat", "25 0 0\n");
        source_read(OPS, source, &set);
        assert_int_equal(sum_delta(&set, FEATURE_CPU_TIME), 75);
        p.ticks = 2;
        put(p);
        write_file(tree, "1/task/7/schedstat", "0 0 0\n"); /* reaped */
        source_read(OPS, source, &set);
        assert_int_equal(sum_delta(&set, FEATURE_CPU_TIME), 2 * tick_ns - 275);
}

static void without_schedstat_the_ticks_of_stat_count(void **state)
{
        struct fake p = { 1, USER, 10, 1, 5, NULL, NULL, "0::/\n" };

        (void)state;
        put(p);
        open_tree();
        p.ticks = 13;
        put(p);
        source_read(OPS, source, &set);
        assert_int_equal(sum_delta(&set, FEATURE_CPU_TIME), 3 * NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

static void written_bytes_become_pages_and_softirqs_the_kernels(void **state)
{
        struct fake p = { 1,
                          USER,
                          0,
                          1,
                          5,
                          "1 1 1\n",
                          "rchar: 1\nread_bytes: 9\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n",
                          "0::/\n" };

        (void)state;
        put(p);
        write_file(tree, "softirqs",
                   SOFTIRQS "      NET_TX:  1  2\n      NET_RX:  10  20\n       BLOCK:  5  5\n");
        open_tree();
        assert_true(OPS->measures(source, FEATURE_PAGE_CACHE));
        assert_true(OPS->measures(source, FEATURE_NET_RX_IRQ));
        assert_false(OPS->measures(source, FEATURE_CACHE_MISS));
        p.io = "rchar: 1\nread_bytes: 9\nwrite_bytes: 16384\ncancelled_write_bytes: 0\n";
        put(p);
        write_file(tree, "softirqs",
                   SOFTIRQS "      NET_TX:  1  3\n      NET_RX:  15  22\n       BLOCK:  5  5\n");
        source_read(OPS, source, &set);
        assert_int_equal(row_delta(&set, group(""), false, FEATURE_PAGE_CACHE), 3);
        assert_int_equal(row_delta(&set, 0, true, FEATURE_NET_TX_IRQ), 1);
        assert_int_equal(row_delta(&set, 0, true, FEATURE_NET_RX_IRQ), 7);
        assert_int_equal(row_delta(&set, 0, true, FEATURE_BLOCK_IRQ), 0);
}

/* The process in which threads 1 and 7 have written so many pages and which shows `all` of them. */
static void put_writer(int all, int first, int second, int childrens_faults)
{
        struct fake p = { 1, USER, 0, 2, 5, NULL, NULL, "0::/\n" };
        const char *names[] = { "1/io", "1/task/1/io", "1/task/7/io" };
        const int pages[] = { all, first, second };
        char text[128];

        put(p);
        (void)snprintf(text, sizeof(text),
                       "1 (a) S 1 1 1 0 -1 " USER " 0 %d 0 0 0 0 0 0 20 0 2 0 5 0 0 0 0\n", childrens_faults);
        write_file(tree, "1/stat", text);
        for (size_t i = 0; i < 3; i++) {
                (void)snprintf(text, sizeof(text),
                               "read_bytes: 9\nwrite_bytes: %d\ncancelled_write_bytes: 0\n", pages[i] * 4096);
                write_file(tree, names[i], text);
        }
}

static uint64_t pages_read(void)
{
        source_read(OPS, source, &set);
        return row_delta(&set, group(""), false, FEATURE_PAGE_CACHE);
}

static void writes_of_children_are_told_from_those_of_ended_threads(void **state)
{
        (void)state;
        put_writer(100, 60, 30, 8);
        open_tree();
        put_writer(115, 65, 40, 8);
        assert_int_equal(pages_read(), 15);
        put_writer(120, 66, 0, 8); /* 7 has written four more and ended */
        assert_int_equal(pages_read(), 5);
        put_writer(1127, 70, 3, 9); /* a child had written 1000 */
        assert_int_equal(pages_read(), 7);
        put_writer(2127, 70, 3, 10); /* another one */
        assert_int_equal(pages_read(), 0);
        put_writer(2137, 80, 3, 10);
        assert_int_equal(pages_read(), 10);
        put_writer(3141, 82, 0, 11); /* a child and an ended thread: only what the threads show */
        assert_int_equal(pages_read(), 0);
        put_writer(3150, 91, 0, 11);
        assert_int_equal(pages_read(), 9);
        put_writer(3151, 191, 0, 12); /* never more than all */
        assert_int_equal(pages_read(), 1);
}

static void an_account_that_cannot_be_read_for_a_while_is_not_a_childs(void **state)
{
        (void)state;
        put_writer(100, 60, 40, 8);
        open_tree();
        put_writer(1120, 70, 50, 9);
        write_file(tree, "1/io", "");
        assert_int_equal(pages_read(), 0);
        put_writer(1120, 70, 50, 9);
        assert_int_equal(pages_read(), 20);
}

static void what_cannot_be_read_is_not_measured(void **state)
{
        (void)state;
        put((struct fake){ 1, USER, 0, 1, 5, "1 1 1\n", NULL, "0::/\n" });
        open_tree();
        assert_true(OPS->measures(source, FEATURE_CPU_TIME));
        assert_false(OPS->measures(source, FEATURE_PAGE_CACHE));
        assert_false(OPS->measures(source, FEATURE_NET_RX_IRQ));
}

static void damaged_files_are_passed_over(void **state)
{
        char path[PATH_MAX];

        (void)state;
        put((struct fake){ 1, USER, 0, 1, 5, "100 2 3\n", NULL, NULL });
        write_file(tree, "2/stat", "");
        write_file(tree, "3/stat", "3 (cut");
        write_file(tree, "4/stat", "4 (x) S a b c\n");
        write_file(tree, "5/schedstat", "77 0 0\n");
        write_file(tree, "99999999999999999999999/stat", "1 (x) S 1 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 1\n");
        write_file(tree, "softirqs", "NET_RX: x y\nNET_TX:");
        open_tree();
        put((struct fake){ 1, USER, 0, 1, 5, "101\n", NULL, NULL });
        (void)snprintf(path, sizeof(path), "%s/softirqs", tree);
        (void)unlink(path);
        source_read(OPS, source, &set);
        assert_int_equal(sum_delta(&set, FEATURE_CPU_TIME), 1);
}

static void the_dead_are_found_in_the_cgroups_own_counter(void **state)
{
        struct fake p = { 1, USER, 0, 1, 5, "1000 2 3\n", NULL, "0::/docker-" ID_A ".scope\n" };
        const char *counter = "cg/docker-" ID_A ".scope/cpu.stat";
        uint64_t id, sum = 0;

        (void)state;
        put(p);
        write_file(tree, counter, "usage_usec 500\n");
        open_tree();
        id = group("/docker-" ID_A ".scope");
        p.schedstat = "21000 2 3\n"; /* 20 us of the living */
        put(p);
        write_file(tree, counter, "usage_usec 575\n"); /* 75 us of all */
        source_read(OPS, source, &set);
        assert_int_equal(row_delta(&set, id, false, FEATURE_CPU_TIME), 75000);
        sum += 75000;
        p.schedstat = "51000 2 3\n"; /* 30 us, of which the counter shows 10 only later */
        put(p);
        write_file(tree, counter, "usage_usec 595\n");
        source_read(OPS, source, &set);
        sum += row_delta(&set, id, false, FEATURE_CPU_TIME);
        write_file(tree, counter, "usage_usec 605\n");
        source_read(OPS, source, &set);
        sum += row_delta(&set, id, false, FEATURE_CPU_TIME);
        assert_int_equal(sum, 105000);
}

static void what_the_counter_shows_before_its_process_is_charged_once(void **state)
{
        struct fake p = { 1, USER, 0, 1, 5, "1000 2 3\n", NULL, "0::/docker-" ID_A ".scope\n" };
        const char *counter = "cg/docker-" ID_A ".scope/cpu.stat";
        uint64_t id;

        (void)state;
        put(p);
        write_file(tree, counter, "usage_usec 500\n");
        open_tree();
        id = group("/docker-" ID_A ".scope");
        p.schedstat = "21000 2 3\n";
        put(p);
        write_file(tree, counter, "usage_usec 550\n"); /* read 30 us later, the process running */
        source_read(OPS, source, &set);
        assert_int_equal(row_delta(&set, id, false, FEATURE_CPU_TIME), 50000);
        p.schedstat = "101000 2 3\n"; /* 100 us in all, and the process has stopped */
        put(p);
        write_file(tree, counter, "usage_usec 600\n");
        source_read(OPS, source, &set);
        assert_int_equal(row_delta(&set, id, false, FEATURE_CPU_TIME), 50000);
}

static void a_missing_procfs_is_an_error_in_words(void **state)
{
        struct feature_source_options options = { .procfs_root = "/nonexistent", .sysfs_root = "/sys" };
        struct err e = { "" };

        (void)state;
        assert_int_equal(OPS->open(&options, &source, &e), -ENOENT);
        assert_non_null(strstr(e.text, "'/nonexistent'"));
}

static void spinning_process_is_within_one_percent_of_schedstat_in_its_container(void **state)
{
        (void)state;
        check_spinner(OPS);
}

static void lives_between_two_reads_are_found_in_the_cgroups_counter(void **state)
{
        struct feature_source_stats stats;

        (void)state;
        check_storm(OPS, (struct storm){ 1500, 300 }, 0, 10, &stats);
}

static void reads_during_a_fork_storm_neither_lose_nor_double(void **state)
{
        struct feature_source_stats stats;

        (void)state;
        check_storm(OPS, (struct storm){ 1500, 300 }, 100, 10, &stats);
}

static void writes_of_a_child_are_not_charged_to_the_parent_that_waits_for_it(void **state)
{
        (void)state;
        check_writes_of_a_child(OPS, true);
}

static void writes_of_threads_that_end_are_counted_once(void **state)
{
        (void)state;
        check_writes_of_threads(OPS);
}

/* v1's counter of the root cgroup is the scheduler's account of the whole machine. */
static void rows_add_up_to_the_machine_even_in_a_fork_storm(void **state)
{
        struct storm storm = { 1500 / slower(), 300 };
        char mount[PATH_MAX], path[PATH_MAX + 32];
        unsigned long long ns[4];
        struct child c;

        (void)state;
        if (!cgroup_mount("cpuacct", mount)) {
                print_message("no cgroup v1 cpuacct here\n");
                skip();
        }
        (void)snprintf(path, sizeof(path), "%s/cpuacct.usage", mount);
        assert_int_equal(file_read_u64(AT_FDCWD, path, &ns[0]), 0);
        source = source_open(OPS);
        assert_int_equal(file_read_u64(AT_FDCWD, path, &ns[1]), 0);
        c = child_start(NULL, work_storm, &storm);
        child_go(&c);
        child_wait(&c);
        assert_int_equal(file_read_u64(AT_FDCWD, path, &ns[2]), 0);
        source_read(OPS, source, &set);
        assert_int_equal(file_read_u64(AT_FDCWD, path, &ns[3]), 0);
        assert_between(sum_delta(&set, FEATURE_CPU_TIME), ns[2] - ns[1], ns[3] - ns[0], 10);
}

static void memory_does_not_grow_over_many_reads(void **state)
{
        (void)state;
        check_memory(OPS, 300 / slower());
}

#define TREE_TEST(name) cmocka_unit_test_setup_teardown(name, tree_new, tree_remove)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TREE_TEST(processes_are_charged_to_their_cgroups_and_kernel_threads_apart),
                TREE_TEST(a_name_with_a_line_break_hides_no_process),
                TREE_TEST(a_reused_pid_starts_from_zero),
                TREE_TEST(threads_are_added_up_and_reaped_ones_taken_from_stat),
                TREE_TEST(without_schedstat_the_ticks_of_stat_count),
                TREE_TEST(written_bytes_become_pages_and_softirqs_the_kernels),
                TREE_TEST(writes_of_children_are_told_from_those_of_ended_threads),
                TREE_TEST(an_account_that_cannot_be_read_for_a_while_is_not_a_childs),
                TREE_TEST(what_cannot_be_read_is_not_measured),
                TREE_TEST(damaged_files_are_passed_over),
                TREE_TEST(the_dead_are_found_in_the_cgroups_own_counter),
                TREE_TEST(what_the_counter_shows_before_its_process_is_charged_once),
                TREE_TEST(a_missing_procfs_is_an_error_in_words),
                cmocka_unit_test(spinning_process_is_within_one_percent_of_schedstat_in_its_container),
                cmocka_unit_test(lives_between_two_reads_are_found_in_the_cgroups_counter),
                cmocka_unit_test(reads_during_a_fork_storm_neither_lose_nor_double),
                cmocka_unit_test(writes_of_a_child_are_not_charged_to_the_parent_that_waits_for_it),
                cmocka_unit_test(writes_of_threads_that_end_are_counted_once),
                TREE_TEST(rows_add_up_to_the_machine_even_in_a_fork_storm),
                cmocka_unit_test(memory_does_not_grow_over_many_reads),
        };

        return cmocka_run_group_tests_name("proc", tests, NULL, NULL);
}
