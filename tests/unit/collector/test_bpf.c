/* SPDX-License-Identifier: Apache-2.0 */
/* The BPF source against the kernel's own counters. Needs root, BTF and permission for BPF; else skipped. */
#include "features_real.h"

#include <arpa/inet.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define OPS (&feature_source_bpf)
/* Of lives of 300 us: the last microseconds of a task that reaps itself are in no process's account, and a
 * busy machine stretches them. Quiet machines show 0 to 2. */
#define STORM_PERMILLE 20
/* Softirqs that met a look-up of task storage under way: counted as dropped. Lost deaths would miss the
 * total. */
#define SOFTIRQS_LOST 5

static void spinning_process_is_within_one_percent_of_schedstat_in_its_container(void **state)
{
        (void)state;
        check_spinner(OPS);
}

static void lives_between_two_reads_are_counted_in_full(void **state)
{
        struct feature_source_stats stats;

        (void)state;
        check_storm(OPS, (struct storm){ 1500, 300 }, 0, STORM_PERMILLE, &stats);
        assert_int_equal(stats.overflowed, 0);
        assert_in_range(stats.dropped, 0, SOFTIRQS_LOST);
}

static void reads_during_a_fork_storm_neither_lose_nor_double(void **state)
{
        struct feature_source_stats stats;

        (void)state;
        check_storm(OPS, (struct storm){ 1500, 300 }, 100, STORM_PERMILLE, &stats);
        assert_in_range(stats.dropped, 0, SOFTIRQS_LOST);
}

static void deaths_beyond_the_ring_buffer_are_still_counted(void **state)
{
        struct feature_source_stats stats;

        (void)state;
        check_storm(OPS, (struct storm){ 18000, 0 }, 0, 60, &stats); /* whose exits are half of their lives */
        assert_true(stats.overflowed > 1000);
        assert_in_range(stats.dropped, 0, SOFTIRQS_LOST);
}

static void *thread_spin(void *arg)
{
        (void)arg;
        spin_us(400);
        return NULL;
}

/* The last microseconds of a thread that reaps itself are in no process's account, only in its cgroup's: the
 * reference is the kernel's process clock. */
static void work_threads(void *arg)
{
        uint64_t *ret_ns = arg;
        struct timespec used;

        for (int i = 0; i < 1000; i++) {
                pthread_t t[2];

                for (int k = 0; k < 2; k++)
                        if (pthread_create(&t[k], NULL, thread_spin, NULL) != 0)
                                _exit(8);
                for (int k = 0; k < 2; k++)
                        (void)pthread_join(t[k], NULL);
        }
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
        *ret_ns = (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

static void threads_that_end_are_counted_once(void **state)
{
        struct usage_set set = { 0 };
        struct feature_source *s;
        char group[PATH_MAX];
        struct child c;
        uint64_t id, *ns, got = 0;
        int status;

        (void)state;
        if (!cgroup_make(NULL, "threads-", ".scope", group))
                skip();
        id = inode(group);
        ns = mmap(NULL, sizeof(*ns), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(ns != MAP_FAILED);
        c = child_start(group, work_threads, ns);
        s = source_open(OPS);
        child_go(&c);
        while (waitpid(c.pid, &status, WNOHANG) == 0) {
                source_read(OPS, s, &set);
                got += row_delta(&set, id, false, FEATURE_CPU_TIME);
                (void)usleep(500);
        }
        (void)usleep(300000);
        source_read(OPS, s, &set);
        got += row_delta(&set, id, false, FEATURE_CPU_TIME);
        assert_near(got, *ns, 10);
        (void)munmap(ns, sizeof(*ns));
        (void)close(c.go);
        cgroup_remove(group);
        usage_set_done(&set);
        OPS->close(s);
}

static void work_udp(void *arg)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t n = sizeof(a);
        int in = socket(AF_INET, SOCK_DGRAM, 0), out = socket(AF_INET, SOCK_DGRAM, 0);
        char text[64] = "";

        (void)arg;
        if (bind(in, (struct sockaddr *)&a, sizeof(a)) < 0 || getsockname(in, (struct sockaddr *)&a, &n) < 0)
                _exit(7);
        for (int i = 0; i < 20000; i++)
                if (sendto(out, text, sizeof(text), 0, (struct sockaddr *)&a, sizeof(a)) < 0 ||
                    recv(in, text, sizeof(text), 0) < 0)
                        _exit(6);
}

static void softirqs_are_charged_to_the_sender_and_add_up_to_the_machines(void **state)
{
        struct feature_source *s = source_open(OPS);
        struct usage_set set = { 0 };
        char group[PATH_MAX];
        struct child c;
        uint64_t id, all[4], got;

        (void)state;
        if (!OPS->measures(s, FEATURE_NET_RX_IRQ) || !cgroup_make(NULL, "udp-", ".scope", group)) {
                OPS->close(s);
                skip();
        }
        id = inode(group);
        c = child_start(group, work_udp, NULL);
        all[0] = softirqs("NET_RX");
        source_read(OPS, s, &set);
        all[1] = softirqs("NET_RX");
        child_go(&c);
        child_wait(&c);
        (void)usleep(200000);
        all[2] = softirqs("NET_RX");
        source_read(OPS, s, &set);
        all[3] = softirqs("NET_RX");
        got = row_delta(&set, id, false, FEATURE_NET_RX_IRQ);
        assert_near(got, 20000, 10);
        assert_between(sum_delta(&set, FEATURE_NET_RX_IRQ), all[2] - all[1], all[3] - all[0], 1);
        cgroup_remove(group);
        usage_set_done(&set);
        OPS->close(s);
}

static void work_write(void *arg)
{
        char block[65536] = "";
        int fd = open(arg, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        for (int i = 0; i < 256; i++)
                if (write(fd, block, sizeof(block)) != sizeof(block))
                        _exit(7);
        if (fsync(fd) < 0)
                _exit(6);
}

static void written_pages_are_counted(void **state)
{
        struct feature_source *s = source_open(OPS);
        struct usage_set set = { 0 };
        char group[PATH_MAX], path[] = "build/written-pages-XXXXXX";
        const char *const names[] = { group };
        uint64_t got = 0, sum = 0;
        struct child c;
        int fd;

        (void)state;
        fd = mkstemp(path);
        if (fd < 0 || !OPS->measures(s, FEATURE_PAGE_CACHE) ||
            !cgroup_make(NULL, "write-", ".scope", group)) {
                OPS->close(s);
                skip();
        }
        c = child_start(group, work_write, path);
        child_go(&c);
        child_wait(&c);
        read_written(OPS, s, &set, names, 1, 4096, &got, &sum);
        (void)unlink(path);
        (void)close(fd);
        assert_in_range(got, 4096, 4200);
        cgroup_remove(group);
        usage_set_done(&set);
        OPS->close(s);
}

#define FILE_PAGES 4096
static const size_t block_sizes[] = { 4096, 65536, 1 << 20, 16 << 20, 100000 };

struct reader {
        const char *path;
        struct steps steps;
};

/* A file of so many pages and a bit, written and dropped from the cache, then read in blocks of each size. */
static void work_read(void *arg)
{
        const struct reader *r = arg;
        char *block = malloc(16 << 20);
        int fd = open(r->path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        ssize_t n;

        if (!block || fd < 0)
                _exit(7);
        memset(block, 1, 16 << 20);
        if (write(fd, block, 16 << 20) != 16 << 20 || write(fd, block, 100) != 100 || fsync(fd) < 0 ||
            posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
                _exit(6);
        step_done(&r->steps);
        for (size_t i = 0; i < ARRAY_SIZE(block_sizes); i++) {
                if (lseek(fd, 0, SEEK_SET) < 0)
                        _exit(5);
                while ((n = read(fd, block, block_sizes[i])) > 0)
                        ;
                step_done(&r->steps);
        }
}

static void pages_read_and_added_are_counted_whatever_the_block_size(void **state)
{
        char group[PATH_MAX], path[] = "build/read-pages-XXXXXX";
        struct feature_source *s = source_open(OPS);
        struct usage_set set = { 0 };
        struct reader r = { .path = path };
        struct child c;
        uint64_t id, got;
        int fd = mkstemp(path);

        (void)state;
        if (fd < 0 || !OPS->measures(s, FEATURE_PAGE_CACHE_READ) ||
            !OPS->measures(s, FEATURE_PAGE_CACHE_ADDED) || !cgroup_make(NULL, "read-", ".scope", group)) {
                OPS->close(s);
                skip();
        }
        id = inode(group);
        steps_open(&r.steps);
        c = child_start(group, work_read, &r);
        source_read(OPS, s, &set);
        child_go(&c);
        step_told(&r.steps);
        source_read(OPS, s, &set);
        got = row_delta(&set, id, false, FEATURE_PAGE_CACHE_ADDED);
        assert_in_range(got, FILE_PAGES + 1, FILE_PAGES + 40); /* new ones; a metadata page now and then */
        assert_in_range(row_delta(&set, id, false, FEATURE_PAGE_CACHE_READ), 0, 2);
        step_next(&r.steps);
        for (size_t i = 0; i < ARRAY_SIZE(block_sizes); i++) {
                uint64_t blocks = (16 << 20) / block_sizes[i], twice = block_sizes[i] % 4096 ? blocks : 0;

                step_told(&r.steps);
                source_read(OPS, s, &set);
                got = row_delta(&set, id, false, FEATURE_PAGE_CACHE_READ);
                print_message("blocks of %zu: %llu pages read, %llu added\n", block_sizes[i],
                              (unsigned long long)got,
                              (unsigned long long)row_delta(&set, id, false, FEATURE_PAGE_CACHE_ADDED));
                assert_in_range(got, FILE_PAGES + 1,
                                FILE_PAGES + twice + 40); /* a block may end within a page */
                got = row_delta(&set, id, false, FEATURE_PAGE_CACHE_ADDED);
                assert_in_range(got, 0,
                                i ? 40 : FILE_PAGES + 40); /* if the file system lets its pages be dropped */
                step_next(&r.steps);
        }
        child_wait(&c);
        (void)unlink(path);
        (void)close(fd);
        steps_close(&r.steps);
        cgroup_remove(group);
        usage_set_done(&set);
        OPS->close(s);
}

static void writes_of_a_child_are_not_charged_to_the_parent_that_waits_for_it(void **state)
{
        (void)state;
        check_writes_of_a_child(OPS, true);
        check_writes_of_a_child(OPS, false);
}

static void writes_of_threads_that_end_are_counted_once(void **state)
{
        (void)state;
        check_writes_of_threads(OPS);
}

static void cgroup_v1_containers_are_told_apart(void **state)
{
        struct usage_set set = { 0 };
        struct cgroup_table *table = NULL;
        struct feature_source *s;
        char group[PATH_MAX];
        struct child c;
        bool found = false;

        (void)state;
        if (!cgroup_make("cpuacct", "", "", group)) {
                print_message("no cgroup v1 cpuacct here\n");
                skip();
        }
        c = child_start(group, work_spin, NULL);
        child_go(&c);
        s = source_open(OPS);
        (void)usleep(300000);
        source_read(OPS, s, &set);
        assert_int_equal(cgroup_table_new("/proc", "/sys", &table, NULL), 0);
        for (size_t i = 0; i < set.n; i++)
                if (!strcmp(cgroup_table_find(table, set.rows[i].cgroup_id)->container, own_id())) {
                        found = set.rows[i].delta[FEATURE_CPU_TIME] > 50000000;
                        assert_true(set.rows[i].cgroup_id >> 63);
                }
        assert_true(found);
        child_end(&c);
        cgroup_remove(group);
        cgroup_table_free(table);
        usage_set_done(&set);
        OPS->close(s);
}

/* v1's counter of the root cgroup is the scheduler's account of the whole machine. */
static void rows_add_up_to_the_machine(void **state)
{
        struct feature_source *s;
        struct usage_set set = { 0 };
        char mount[PATH_MAX], path[PATH_MAX + 32];
        unsigned long long ns[4], sum;
        struct child c;

        (void)state;
        if (!cgroup_mount("cpuacct", mount)) {
                print_message("no cgroup v1 cpuacct here\n");
                skip();
        }
        (void)snprintf(path, sizeof(path), "%s/cpuacct.usage", mount);
        c = child_start(NULL, work_spin, NULL);
        child_go(&c);
        assert_int_equal(file_read_u64(AT_FDCWD, path, &ns[0]), 0);
        s = source_open(OPS);
        assert_int_equal(file_read_u64(AT_FDCWD, path, &ns[1]), 0);
        (void)usleep(2000000);
        assert_int_equal(file_read_u64(AT_FDCWD, path, &ns[2]), 0);
        source_read(OPS, s, &set);
        sum = sum_delta(&set, FEATURE_CPU_TIME);
        (void)usleep(500000); /* whoever died just before is told now */
        usage_set_clear(&set);
        source_read(OPS, s, &set);
        assert_int_equal(file_read_u64(AT_FDCWD, path, &ns[3]), 0);
        sum += sum_delta(&set, FEATURE_CPU_TIME);
        assert_between(sum, ns[2] - ns[1], ns[3] - ns[0], 20);
        child_end(&c);
        usage_set_done(&set);
        OPS->close(s);
}

static void memory_does_not_grow_over_a_thousand_reads(void **state)
{
        (void)state;
        check_memory(OPS, 1000);
}

static void missing_btf_is_named(void **state)
{
        struct feature_source_options options = { .procfs_root = "/proc", .sysfs_root = "/nonexistent" };
        struct feature_source *s = NULL;
        struct err e = { "" };

        (void)state;
        assert_int_equal(OPS->open(&options, &s, &e), -ENOENT);
        assert_non_null(strstr(e.text, "no BTF at '/nonexistent/kernel/btf/vmlinux'"));
        assert_null(s);
}

static void missing_privilege_is_named(void **state)
{
        int status;
        pid_t pid;

        (void)state;
        if (access("/sys/kernel/btf/vmlinux", R_OK) < 0)
                skip();
        (void)fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (!pid) {
                struct feature_source *s = NULL;
                struct err e = { "" };
                int r;

                if (getuid() == 0 && setuid(65534) < 0)
                        _exit(3);
                r = OPS->open(&real_options, &s, &e);
                _exit(r == -EPERM && strstr(e.text, "needs CAP_BPF and CAP_PERFMON") ? 0 : 4);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(missing_btf_is_named),
                cmocka_unit_test(missing_privilege_is_named),
                cmocka_unit_test(spinning_process_is_within_one_percent_of_schedstat_in_its_container),
                cmocka_unit_test(cgroup_v1_containers_are_told_apart),
                cmocka_unit_test(lives_between_two_reads_are_counted_in_full),
                cmocka_unit_test(reads_during_a_fork_storm_neither_lose_nor_double),
                cmocka_unit_test(deaths_beyond_the_ring_buffer_are_still_counted),
                cmocka_unit_test(threads_that_end_are_counted_once),
                cmocka_unit_test(softirqs_are_charged_to_the_sender_and_add_up_to_the_machines),
                cmocka_unit_test(written_pages_are_counted),
                cmocka_unit_test(pages_read_and_added_are_counted_whatever_the_block_size),
                cmocka_unit_test(writes_of_a_child_are_not_charged_to_the_parent_that_waits_for_it),
                cmocka_unit_test(writes_of_threads_that_end_are_counted_once),
                cmocka_unit_test(rows_add_up_to_the_machine),
                cmocka_unit_test(memory_does_not_grow_over_a_thousand_reads),
        };

        return cmocka_run_group_tests_name("bpf", tests, NULL, NULL);
}
