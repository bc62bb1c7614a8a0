/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of both feature sources share: temporary trees, cgroups and work that can be measured
 * otherwise. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "collector/features.h"
#include "common/clock.h"
#include "common/file.h"

#define UNUSED   __attribute__((unused))
#define ID_A     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0123"
#define ID_B     "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb0123"
#define PAUSE_US 150000 /* longer than the table's pause between two walks */

static const struct feature_source_options real_options = { .procfs_root = "/proc", .sysfs_root = "/sys" };

UNUSED static void write_file(const char *dir, const char *name, const char *text)
{
        char path[PATH_MAX];
        FILE *f;

        assert_true(snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path));
        *strrchr(path, '/') = '\0';
        assert_int_equal(file_mkdirs(path, 0755, NULL), 0);
        path[strlen(path)] = '/';
        f = fopen(path, "w");
        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

/* The mount point of cgroup v2 (controller NULL) or of the v1 hierarchy with a controller; false: not
 * mounted. */
UNUSED static bool cgroup_mount(const char *controller, char ret[PATH_MAX])
{
        char line[PATH_MAX], path[2048], type[64], options[1024];
        FILE *f = fopen("/proc/mounts", "r");
        bool found = false;

        assert_non_null(f);
        while (!found && fgets(line, sizeof(line), f)) {
                if (sscanf(line, "%*s %2047s %63s %1023s", path, type, options) != 3)
                        continue;
                found = controller ? !strcmp(type, "cgroup") && strstr(options, controller)
                                   : !strcmp(type, "cgroup2");
        }
        (void)fclose(f);
        if (found)
                (void)snprintf(ret, PATH_MAX, "%s", path);
        return found;
}

/* A container id of this process alone: tests of several builds may run at the same time. */
UNUSED static const char *own_id(void)
{
        static char id[65];

        (void)snprintf(id, sizeof(id), "c0ffee%058x", (unsigned)getpid());
        return id;
}

/* What a skipped or failed test leaves behind is put away at exit. */
#define LEFT_MAX 64
static struct {
        char cgroups[LEFT_MAX][PATH_MAX];
        pid_t children[LEFT_MAX];
        int n_cgroups, n_children;
} left;

UNUSED static void cgroup_remove(const char *path)
{
        for (int i = 0; i < 100 && rmdir(path) < 0 && errno == EBUSY; i++)
                (void)usleep(20000); /* the last process is still leaving */
}

static void put_away(void)
{
        for (int i = 0; i < left.n_children; i++)
                if (waitpid(left.children[i], NULL, WNOHANG) == 0) { /* still ours, still there */
                        (void)kill(left.children[i], SIGKILL);
                        (void)waitpid(left.children[i], NULL, 0);
                }
        for (int i = 0; i < left.n_cgroups; i++)
                cgroup_remove(left.cgroups[i]);
}

/* A fresh cgroup, "<prefix><own_id()><suffix>"; false when this machine or this user cannot. */
UNUSED static bool cgroup_make(const char *controller, const char *prefix, const char *suffix,
                               char ret[PATH_MAX])
{
        char mount[PATH_MAX];

        if (!cgroup_mount(controller, mount))
                return false;
        if (snprintf(ret, PATH_MAX, "%s/%s%s%s", mount, prefix, own_id(), suffix) >= PATH_MAX)
                return false;
        if (mkdir(ret, 0755) < 0)
                return errno == EEXIST;
        if (!left.n_cgroups && !left.n_children)
                (void)atexit(put_away);
        if (left.n_cgroups < LEFT_MAX)
                (void)snprintf(left.cgroups[left.n_cgroups++], PATH_MAX, "%s", ret);
        return true;
}

UNUSED static void cgroup_enter(const char *path)
{
        char file[PATH_MAX + 16];
        int fd;

        (void)snprintf(file, sizeof(file), "%s/cgroup.procs", path);
        fd = open(file, O_WRONLY);
        if (fd < 0 || write(fd, "0", 1) != 1)
                _exit(9);
        (void)close(fd);
}

/* A child inside the cgroup (NULL: where we are) that runs work() and ends, once *go is written to its pipe.
 */
struct child {
        pid_t pid;
        int go;
};
UNUSED static struct child child_start(const char *cgroup, void (*work)(void *), void *arg)
{
        struct child c;
        int fds[2];
        char byte;

        assert_int_equal(pipe(fds), 0);
        (void)fflush(NULL);
        c.pid = fork();
        assert_true(c.pid >= 0);
        if (!c.pid) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails does not come to end it */
                (void)close(fds[1]);
                if (cgroup)
                        cgroup_enter(cgroup);
                if (read(fds[0], &byte, 1) == 1)
                        work(arg);
                _exit(0);
        }
        if (!left.n_cgroups && !left.n_children)
                (void)atexit(put_away);
        if (left.n_children < LEFT_MAX)
                left.children[left.n_children++] = c.pid;
        (void)close(fds[0]);
        c.go = fds[1];
        (void)usleep(20000); /* let it arrive in its cgroup */
        return c;
}
UNUSED static void child_go(const struct child *c)
{
        assert_int_equal(write(c->go, "g", 1), 1);
}
UNUSED static void child_wait(struct child *c)
{
        int status;

        (void)close(c->go);
        assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
UNUSED static void child_end(struct child *c)
{
        (void)kill(c->pid, SIGKILL);
        (void)close(c->go);
        (void)waitpid(c->pid, NULL, 0);
}

UNUSED static void spin_us(unsigned us)
{
        uint64_t end = clock_monotonic_ns() + us * UINT64_C(1000);

        while (clock_monotonic_ns() < end)
                continue;
}
UNUSED static void work_spin(void *arg)
{
        (void)arg;
        for (;;)
                spin_us(1000);
}
/* Under valgrind a fork takes 15 ms. */
UNUSED static int slower(void)
{
        return getenv("WATTLOOP_VALGRIND") ? 20 : 1;
}

struct storm {
        int children;
        unsigned us;
};
/* A child that only ends: cheap under sanitizers too, since it shares our memory. */
__attribute__((unused, noinline)) static pid_t fork_nothing(void)
{
        pid_t pid = vfork();

        if (!pid)
                _exit(0);
        return pid;
}
UNUSED static void work_storm(void *arg)
{
        const struct storm *s = arg;

        for (int i = 0; i < s->children; i++) {
                pid_t pid = s->us ? fork() : fork_nothing();

                if (!pid) {
                        spin_us(s->us);
                        _exit(0);
                }
                if (pid < 0 || waitpid(pid, NULL, 0) != pid)
                        _exit(8);
        }
}

UNUSED static uint64_t schedstat_ns(pid_t pid)
{
        char path[64], text[96];
        unsigned long long ns = 0;

        (void)snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
        if (file_read_small(AT_FDCWD, path, text, sizeof(text)) > 0)
                (void)sscanf(text, "%llu", &ns);
        return ns;
}

UNUSED static uint64_t cgroup_ns(const char *path)
{
        char file[PATH_MAX + 16];
        unsigned long long usec = 0;
        FILE *f;

        (void)snprintf(file, sizeof(file), "%s/cpu.stat", path);
        f = fopen(file, "r");
        assert_non_null(f);
        assert_int_equal(fscanf(f, "usage_usec %llu", &usec), 1);
        (void)fclose(f);
        return usec * 1000;
}

UNUSED static uint64_t inode(const char *path)
{
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        return st.st_ino;
}

UNUSED static uint64_t row_delta(const struct usage_set *set, uint64_t cgroup_id, bool kernel,
                                 enum feature_id f)
{
        for (size_t i = 0; i < set->n; i++)
                if (set->rows[i].cgroup_id == cgroup_id && set->rows[i].kernel == kernel)
                        return set->rows[i].delta[f];
        return 0;
}
UNUSED static uint64_t sum_delta(const struct usage_set *set, enum feature_id f)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < set->n; i++)
                sum += set->rows[i].delta[f];
        return sum;
}

/* Open the source and set its base, or skip the test. */
UNUSED static struct feature_source *source_open(const struct feature_source_ops *ops)
{
        struct feature_source *s = NULL;
        struct usage_set none = { 0 };
        struct err e = { "" };
        int r = ops->open(&real_options, &s, &e);

        if (r < 0) {
                print_message("source '%s' cannot be used here: %s\n", ops->name, e.text);
                skip();
        }
        assert_int_equal(ops->read(s, &none, &e), 0);
        assert_int_equal(none.n, 0);
        usage_set_done(&none);
        return s;
}
UNUSED static void source_read(const struct feature_source_ops *ops, struct feature_source *s,
                               struct usage_set *set)
{
        struct err e = { "" };

        usage_set_clear(set);
        if (ops->read(s, set, &e) < 0)
                fail_msg("%s", e.text);
}

#define assert_near(got, want, permille)                                                                     \
        do {                                                                                                 \
                double got_ = (double)(got), want_ = (double)(want);                                         \
                if (got_ < want_ * (1 - (permille) / 1000.0) || got_ > want_ * (1 + (permille) / 1000.0))    \
                        fail_msg("%s: got %.0f, want %.0f (%+.3f %%)", #got, got_, want_,                    \
                                 100 * (got_ / want_ - 1));                                                  \
                print_message("%s: %.0f of %.0f (%+.3f %%)\n", #got, got_, want_,                            \
                              want_ > 0 ? 100 * (got_ / want_ - 1) : 0);                                     \
        } while (0)

/* The reference cannot be read at the same instant: it is read before and after. */
#define assert_between(got, low, high, permille)                                                             \
        do {                                                                                                 \
                double got_ = (double)(got), low_ = (double)(low), high_ = (double)(high);                   \
                if (got_ < low_ * (1 - (permille) / 1000.0) || got_ > high_ * (1 + (permille) / 1000.0))     \
                        fail_msg("%s: got %.0f, want %.0f to %.0f", #got, got_, low_, high_);                \
                print_message("%s: %.0f of %.0f to %.0f\n", #got, got_, low_, high_);                        \
        } while (0)

/* --- checks that hold for every source ---------------------------------------------------------------- */

UNUSED static void check_spinner(const struct feature_source_ops *ops)
{
        struct usage_set set = { 0 };
        struct cgroup_table *table = NULL;
        struct feature_source *s;
        char group[PATH_MAX];
        struct child c;
        uint64_t ns[4], id;

        if (!cgroup_make(NULL, "docker-", ".scope", group)) {
                print_message("cannot make a cgroup v2 here\n");
                skip();
        }
        id = inode(group);
        c = child_start(group, work_spin, NULL);
        child_go(&c);
        ns[0] = schedstat_ns(c.pid);
        s = source_open(ops);
        ns[1] = schedstat_ns(c.pid);
        (void)usleep(2000000);
        ns[2] = schedstat_ns(c.pid);
        source_read(ops, s, &set);
        ns[3] = schedstat_ns(c.pid);
        assert_between(row_delta(&set, id, false, FEATURE_CPU_TIME), ns[2] - ns[1], ns[3] - ns[0], 10);

        assert_int_equal(cgroup_table_new("/proc", "/sys", &table, NULL), 0);
        assert_string_equal(cgroup_table_find(table, id)->container, own_id());
        assert_string_equal(cgroup_table_find(table, id)->path, strrchr(group, '/'));

        child_end(&c);
        cgroup_remove(group);
        cgroup_table_free(table);
        usage_set_done(&set);
        ops->close(s);
}

/* Children that live and die between two reads, and the reads come at bad moments. */
UNUSED static void check_storm(const struct feature_source_ops *ops, struct storm storm, int reads,
                               double permille, struct feature_source_stats *ret)
{
        struct usage_set set = { 0 };
        struct feature_source *s;
        char group[PATH_MAX];
        struct child c;
        uint64_t id, ns, got = 0;

        if (!cgroup_make(NULL, "storm-", ".scope", group)) {
                print_message("cannot make a cgroup v2 here\n");
                skip();
        }
        storm.children /= slower();
        id = inode(group);
        c = child_start(group, work_storm, &storm);
        s = source_open(ops);
        ns = cgroup_ns(group);
        child_go(&c);
        for (int i = 0; i < reads; i++) {
                (void)usleep(5000);
                source_read(ops, s, &set);
                got += row_delta(&set, id, false, FEATURE_CPU_TIME);
        }
        child_wait(&c);
        for (int rest = 0, i = 0; rest < 3 && i < 30; i++) { /* the deaths are told after a grace period */
                uint64_t more;

                (void)usleep(100000);
                source_read(ops, s, &set);
                more = row_delta(&set, id, false, FEATURE_CPU_TIME);
                rest = more ? 0 : rest + 1;
                got += more;
        }
        ns = cgroup_ns(group) - ns;
        assert_near(got, ns, permille);
        ops->stats(s, ret);
        cgroup_remove(group);
        usage_set_done(&set);
        ops->close(s);
}

UNUSED static uint64_t softirqs(const char *name)
{
        char line[16384];
        FILE *f = fopen("/proc/softirqs", "r");
        uint64_t sum = 0;

        assert_non_null(f);
        while (fgets(line, sizeof(line), f)) {
                char *p = strstr(line, name), *end;

                if (!p)
                        continue;
                for (p = strchr(p, ':') + 1;; p = end) {
                        unsigned long long v = strtoull(p, &end, 10);

                        if (end == p)
                                break;
                        sum += v;
                }
        }
        (void)fclose(f);
        return sum;
}

UNUSED static void check_memory(const struct feature_source_ops *ops, int reads)
{
        struct feature_source *s = source_open(ops);
        struct usage_set set = { 0 };
        size_t before = 0;

        for (int i = 0; i < reads + 50; i++) {
                struct storm storm = { 3, 0 };

                if (i == 50)
                        before = mallinfo2().uordblks; /* always 0 under sanitizers and valgrind: they find
                                                          leaks */
                work_storm(&storm);
                source_read(ops, s, &set);
        }
        assert_true(mallinfo2().uordblks <= before + (64 << 10));
        usage_set_done(&set);
        ops->close(s);
}

/* --- writes -------------------------------------------------------------------------------------------- */

#define WRITE_BYTES ((size_t)64 << 20)
#define WRITE_PAGES (WRITE_BYTES >> 12)

UNUSED static uint64_t pages_dirtied(void)
{
        unsigned long long pages = 0;
        char line[128];
        FILE *f = fopen("/proc/vmstat", "r");

        assert_non_null(f);
        while (fgets(line, sizeof(line), f) && sscanf(line, "nr_dirtied %llu", &pages) != 1)
                continue;
        (void)fclose(f);
        return pages;
}

/* Into a file without a name, so that nothing has to be put away; a temporary file system would count
 * nothing.
 */
UNUSED static void write_pages(size_t bytes)
{
        char block[65536] = "", path[] = "build/written-XXXXXX";
        int fd = mkstemp(path);

        if (fd < 0 || unlink(path) < 0)
                _exit(7);
        for (size_t i = 0; i < bytes; i += sizeof(block))
                if (write(fd, block, sizeof(block)) != sizeof(block))
                        _exit(6);
        (void)close(fd);
}

/* How the work of a child and the test take turns: it tells what is done, and goes on when it is told. */
struct steps {
        int go[2], done[2];
};
UNUSED static void steps_open(struct steps *steps)
{
        assert_int_equal(pipe(steps->go), 0);
        assert_int_equal(pipe(steps->done), 0);
}
UNUSED static void steps_close(const struct steps *steps)
{
        for (int i = 0; i < 2; i++) {
                (void)close(steps->go[i]);
                (void)close(steps->done[i]);
        }
}
UNUSED static void step_told(const struct steps *steps)
{
        char byte;

        assert_int_equal(read(steps->done[0], &byte, 1), 1);
}
UNUSED static void step_next(const struct steps *steps)
{
        assert_int_equal(write(steps->go[1], "g", 1), 1);
}
UNUSED static void step_done(const struct steps *steps)
{
        char byte;

        if (write(steps->done[1], "d", 1) != 1 || read(steps->go[0], &byte, 1) != 1)
                _exit(5);
}

struct waiting {
        struct steps steps;
        const char *childs_group;
};
UNUSED static void work_wait_for_writer(void *arg)
{
        const struct waiting *w = arg;
        pid_t pid = fork();

        if (!pid) {
                cgroup_enter(w->childs_group);
                write_pages(WRITE_BYTES);
                step_done(&w->steps);
                _exit(0);
        }
        if (pid < 0 || waitpid(pid, NULL, 0) != pid)
                _exit(8);
        step_done(&w->steps);
}

/* A death is told after a grace period, and on a busy machine that takes its time: read until the rows of the
 * cgroup have come to so many pages, and once more, or 5 s. */
UNUSED static void read_written(const struct feature_source_ops *ops, struct feature_source *s,
                                struct usage_set *set, const char *const *groups, size_t n, uint64_t want,
                                uint64_t *got, uint64_t *sum)
{
        bool enough = false;

        for (int i = 0; i < 50 && !enough; i++) {
                if (i > 0)
                        (void)usleep(100000);
                enough = i > 0 && got[0] >= want;
                source_read(ops, s, set);
                for (size_t k = 0; k < n; k++)
                        got[k] += row_delta(set, inode(groups[k]), false, FEATURE_PAGE_CACHE);
                *sum += sum_delta(set, FEATURE_PAGE_CACHE);
        }
}

/* The kernel adds what a child has written to the account of the parent that waits for it. */
UNUSED static void check_writes_of_a_child(const struct feature_source_ops *ops, bool seen_alive)
{
        uint64_t got[2] = { 0 }, sum = 0, dirtied = pages_dirtied(); /* before the base: others write, too */
        struct feature_source *s = source_open(ops);
        char groups[2][PATH_MAX];
        const char *const names[] = { groups[1], groups[0] }; /* the child's, the parent's */
        struct usage_set set = { 0 };
        struct waiting w;
        struct child c;

        if (!ops->measures(s, FEATURE_PAGE_CACHE) || !cgroup_make(NULL, "waits-", ".scope", groups[0]) ||
            !cgroup_make(NULL, "writes-", ".scope", groups[1])) {
                ops->close(s);
                skip();
        }
        steps_open(&w.steps);
        w.childs_group = names[0];
        c = child_start(names[1], work_wait_for_writer, &w);
        source_read(ops, s, &set);
        child_go(&c);
        for (int i = 0; i < 3; i++) { /* written; waited for; the parent itself has ended */
                if (i < 2)
                        step_told(&w.steps);
                else
                        child_wait(&c);
                if (i > 0 || seen_alive)
                        read_written(ops, s, &set, names, 2, WRITE_PAGES, got, &sum);
                if (i < 2)
                        step_next(&w.steps);
        }
        dirtied = pages_dirtied() - dirtied;
        assert_near(got[0], WRITE_PAGES, 10);
        assert_in_range(got[1], 0, WRITE_PAGES / 100);
        print_message("all rows: %llu, the machine: %llu\n", (unsigned long long)sum,
                      (unsigned long long)dirtied);
        assert_in_range(sum, WRITE_PAGES * 99 / 100,
                        dirtied + WRITE_PAGES / 4); /* pages counted per CPU lag */
        steps_close(&w.steps);
        cgroup_remove(groups[0]);
        cgroup_remove(groups[1]);
        usage_set_done(&set);
        ops->close(s);
}

#define WRITING_THREADS 3
UNUSED static void *thread_write(void *arg)
{
        (void)arg;
        write_pages(WRITE_BYTES / 4);
        return NULL;
}
UNUSED static void work_writing_threads(void *arg)
{
        const struct steps *steps = arg;

        for (int i = 0; i < WRITING_THREADS; i++) {
                pthread_t t;

                if (pthread_create(&t, NULL, thread_write, NULL) != 0 || pthread_join(t, NULL) != 0)
                        _exit(8);
                step_done(steps);
        }
        write_pages(WRITE_BYTES / 4);
        step_done(steps);
}

/* Threads one after the other, each gone when the source looks, then the first thread itself. */
UNUSED static void check_writes_of_threads(const struct feature_source_ops *ops)
{
        struct feature_source *s = source_open(ops);
        struct usage_set set = { 0 };
        char group[PATH_MAX];
        struct steps steps;
        struct child c;
        uint64_t got = 0, sum = 0;
        const char *const names[] = { group };

        /* BPF without task storage counts neither softirqs nor what ended threads wrote. */
        if (!ops->measures(s, FEATURE_PAGE_CACHE) || !ops->measures(s, FEATURE_NET_RX_IRQ) ||
            !cgroup_make(NULL, "threads-write-", ".scope", group)) {
                ops->close(s);
                skip();
        }
        steps_open(&steps);
        c = child_start(group, work_writing_threads, &steps);
        child_go(&c);
        for (uint64_t i = 1; i <= WRITING_THREADS + 1; i++) {
                step_told(&steps);
                read_written(ops, s, &set, names, 1, i * WRITE_PAGES / 4, &got, &sum);
                assert_near(got, i * WRITE_PAGES / 4, 10);
                step_next(&steps);
        }
        child_wait(&c);
        read_written(ops, s, &set, names, 1, WRITE_PAGES, &got, &sum);
        assert_near(got, WRITE_PAGES, 10);
        steps_close(&steps);
        cgroup_remove(group);
        usage_set_done(&set);
        ops->close(s);
}
