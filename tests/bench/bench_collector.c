/* SPDX-License-Identifier: Apache-2.0 */
/* What the collector costs: a context switch (beside an empty program and the conventional design on
 * sched_switch, switch.bpf.c), a sample, memory, the database, its BPF programs. The program itself is
 * measured from outside, as it runs on a node; its CPU time is the scheduler's (schedstat). Needs root.
 * Writes results as JSON to argv[1].
 *
 *   switch_slowdown_pct             median over pairs: CPU time of two threads on one CPU that pass a byte to
 *   switch_slowdown_pct_empty       and fro, with, against the mean of before and after without
 *   switch_slowdown_pct_baseline
 *   …_perf                          the same of `perf bench sched pipe -T`, where perf is installed
 *   …_perf_processes                and without -T
 *   sample_cpu_ms_N                 CPU time per sample, N processes more than the machine has anyway
 *   tick_cpu_ms_N                   and with the database and /metrics
 *   …_1000_cgroups                  the processes are in 1,000 containers
 *   rss_mib_1000, anon_mib_1000     VmRSS and RssAnon after some samples of 1,000 processes
 *   mib_per_day_50_containers       growth of the database per interval x 24 h / 3 s: 50 busy containers, six
 *                                   power sensors
 *   bpf_ns.PROGRAM, bpf_runs_per_s.PROGRAM   of forks, packets and writes
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "switch.skel.h"
#include "tests/bench/results.h"

#define ROUNDS         17 /* pairs per variant */
#define PIPE_TRIPS     40000
#define PERF_TRIPS     "50000"
#define CONTAINERS     50
#define CONTAINERS_MAX 1000
#define INTERVALS_DAY  (24 * 3600 / 3)

static char dir[] = "/tmp/wattloop-bench-XXXXXX";
static char cgroups[PATH_MAX]; /* our own cgroup; "" none can be made */

static void clean(void)
{
        char path[PATH_MAX + 128];

        for (int i = 0; *cgroups && i < CONTAINERS_MAX; i++) {
                (void)snprintf(path, sizeof(path), "%s/docker-%064x.scope", cgroups, i);
                (void)rmdir(path);
        }
        if (*cgroups)
                (void)rmdir(cgroups);
        (void)file_remove_tree(dir, NULL);
}

static void fail(const char *what)
{
        (void)fprintf(stderr, "bench_collector: %s: %s\n", what, strerror(errno));
        clean();
        exit(1);
}

static void rest(unsigned ms)
{
        (void)usleep(ms * 1000);
}

/* Files of /proc and logs, as long as they fit. */
static int read_text(const char *path, char *ret, size_t size)
{
        CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, ret, size - 1);

        if (n >= 0)
                ret[n] = '\0';
        return n < 0 ? -errno : 0;
}

/* ---- the collector, from outside ---- */

/* Starts it and returns when its first sample is behind it. `arguments` ends with NULL. */
static pid_t start_collector(const char *const *arguments)
{
        const char *build = getenv("B");
        char program[PATH_MAX], config[PATH_MAX], log[PATH_MAX], text[8192];
        const char *argv[32] = { program, "run", "--config", config, "--features-source", "bpf" };
        size_t n = 6;
        pid_t pid;

        (void)snprintf(program, sizeof(program), "%s/bin/wattloop-collector", build ? build : "build");
        (void)snprintf(config, sizeof(config), "%s/empty.yaml", dir);
        (void)snprintf(log, sizeof(log), "%s/log", dir);
        if (file_write_atomic(config, "", 0, 0644, NULL) < 0)
                fail("cannot write a configuration");
        while (*arguments && n < ARRAY_SIZE(argv) - 1)
                argv[n++] = *arguments++;
        pid = fork();
        if (pid == 0) {
                int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);

                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void)dup2(fd, STDERR_FILENO);
                (void)execv(program, (char *const *)(uintptr_t)argv);
                _exit(127);
        }
        for (int i = 0; i < 500; i++) {
                rest(20);
                if (waitpid(pid, NULL, WNOHANG) != 0)
                        break;
                if (read_text(log, text, sizeof(text)) >= 0 && strstr(text, "capabilities")) {
                        rest(250);
                        return pid;
                }
        }
        if (read_text(log, text, sizeof(text)) >= 0)
                (void)fprintf(stderr, "%s\n", text);
        errno = ECHILD;
        fail("the collector does not start");
        return -1;
}

static void end(pid_t pid, int with)
{
        (void)kill(pid, with);
        (void)waitpid(pid < 0 ? -pid : pid, NULL, 0);
}

static uint64_t cpu_ns(pid_t pid)
{
        char path[64], text[128];

        (void)snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
        if (read_text(path, text, sizeof(text)) < 0)
                fail("the collector is gone");
        return strtoull(text, NULL, 10);
}

static double status_mib(pid_t pid, const char *key)
{
        char path[64], text[4096], *p;

        (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
        if (read_text(path, text, sizeof(text)) < 0 || !(p = strstr(text, key)))
                fail("the collector is gone");
        return (double)strtoull(p + strlen(key) + 1, NULL, 10) / 1024;
}

/* ---- processes and containers ---- */

static void make_cgroups(void)
{
        static const char *const mounts[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified",
                                              "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct" };
        char path[PATH_MAX + 128];

        for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
                (void)snprintf(path, sizeof(path), "%s/cgroup.procs", mounts[i]);
                (void)snprintf(cgroups, sizeof(cgroups), "%s/wattloop-bench", mounts[i]);
                if (access(path, F_OK) == 0 && (mkdir(cgroups, 0755) == 0 || errno == EEXIST))
                        break;
                *cgroups = '\0';
        }
        for (int i = 0; *cgroups && i < CONTAINERS_MAX; i++) {
                (void)snprintf(path, sizeof(path), "%s/docker-%064x.scope", cgroups, i);
                if (mkdir(path, 0755) < 0 && errno != EEXIST)
                        fail("cannot make a cgroup");
        }
}

static void enter_container(int i)
{
        char path[PATH_MAX + 128];
        int fd;

        (void)snprintf(path, sizeof(path), "%s/docker-%064x.scope/cgroup.procs", cgroups, i);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1)
                _exit(1);
        (void)close(fd);
}

static void sleep_for_ever(void)
{
        for (;;)
                (void)pause();
}

/* A little of everything, 20 times a second. */
static void work(void)
{
        char path[PATH_MAX];
        int fd;

        (void)snprintf(path, sizeof(path), "%s/written.%d", dir, (int)getpid());
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        for (;;) {
                uint64_t until = clock_monotonic_ns() + NS_PER_MS / 2;

                while (clock_monotonic_ns() < until)
                        ;
                if (pwrite(fd, path, sizeof(path), 0) < 0)
                        _exit(1);
                rest(50);
        }
}

/* n processes in as many containers as there are (0: in ours); they end together with the returned one, as
 * end(-pid). */
static pid_t start_herd(int n, int containers, void (*life)(void))
{
        int ready[2];
        char byte;
        pid_t pid;

        if (pipe2(ready, O_CLOEXEC) < 0)
                fail("no pipe");
        pid = fork();
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void)setpgid(0, 0);
                for (int i = 0; i < n; i++) {
                        pid_t child = fork();

                        if (child < 0)
                                _exit(1);
                        if (child > 0)
                                continue;
                        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                        (void)close(ready[1]);
                        if (containers)
                                enter_container(i % containers);
                        life();
                }
                if (write(ready[1], "", 1) != 1)
                        _exit(1);
                sleep_for_ever();
        }
        (void)close(ready[1]);
        if (read(ready[0], &byte, 1) != 1)
                fail("not so many processes can be made");
        (void)close(ready[0]);
        rest(500);
        return pid;
}

/* Until its pids and cgroups are free again. */
static void end_herd(pid_t pid)
{
        end(-pid, SIGKILL);
        rest(500);
}

/* ---- a context switch ---- */

static void pin(void)
{
        cpu_set_t all, one;

        CPU_ZERO(&one);
        if (sched_getaffinity(0, sizeof(all), &all) < 0)
                fail("no affinity");
        for (int i = CPU_SETSIZE - 1; i >= 0; i--)
                if (CPU_ISSET(i, &all)) {
                        CPU_SET(i, &one);
                        break;
                }
        if (sched_setaffinity(0, sizeof(one), &one) < 0)
                fail("no affinity");
}

/* CPU time of this process and of the children that it has waited for. What a program on sched_switch takes
 * is part of the next task's. Unlike time by the clock it is not disturbed by what else the machine does. */
static double spent_ns(void)
{
        static const int whose[] = { RUSAGE_SELF, RUSAGE_CHILDREN };
        struct rusage usage;
        double us = 0;

        for (size_t i = 0; i < ARRAY_SIZE(whose); i++) {
                if (getrusage(whose[i], &usage) < 0)
                        fail("no usage");
                us += 1e6 * (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                      (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
        }
        return us * 1000;
}

struct echo {
        int from, to;
};

static void *run_echo(void *arg)
{
        const struct echo *e = arg;
        char byte;

        while (read(e->from, &byte, 1) == 1 && write(e->to, &byte, 1) == 1)
                ;
        return NULL;
}

/* Each trip is two switches, both on the CPU that we are pinned to, between threads: no other switch is as
 * cheap, so what one costs on top shows most. */
static double pipe_ns(void)
{
        int to[2], fro[2];
        struct echo e;
        pthread_t other;
        double before;
        char byte = 0;

        if (pipe(to) < 0 || pipe(fro) < 0)
                fail("no pipe");
        e = (struct echo){ to[0], fro[1] };
        before = spent_ns();
        if (pthread_create(&other, NULL, run_echo, &e) != 0)
                fail("no thread");
        for (int i = 0; i < PIPE_TRIPS; i++)
                if (write(to[1], &byte, 1) != 1 || read(fro[0], &byte, 1) != 1)
                        fail("the pipe broke");
        (void)close(to[1]);
        (void)pthread_join(other, NULL);
        (void)close(to[0]);
        (void)close(fro[0]);
        (void)close(fro[1]);
        return (spent_ns() - before) / PIPE_TRIPS;
}

/* The same by others; 0: there is no perf. */
static double perf_ns(const char *threaded)
{
        double before = spent_ns();
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

                (void)dup2(fd, STDOUT_FILENO);
                (void)dup2(fd, STDERR_FILENO);
                (void)execlp("perf", "perf", "bench", "sched", "pipe", "-l", PERF_TRIPS, threaded,
                             (char *)NULL);
                _exit(127);
        }
        if (waitpid(pid, &status, 0) != pid || status != 0)
                return 0;
        return (spent_ns() - before) / strtod(PERF_TRIPS, NULL);
}

static double perf_threads_ns(void)
{
        return perf_ns("-T");
}

static double perf_processes_ns(void)
{
        return perf_ns(NULL);
}

static pid_t running;
static struct switch_bpf *skel;

static void collector_on(void)
{
        char db[PATH_MAX];

        (void)snprintf(db, sizeof(db), "%s/switch.db", dir);
        running = start_collector(
                (const char *const[]){ "--store-path", db, "--metrics-listen", "127.0.0.1:0", NULL });
}

static void collector_off(void)
{
        end(running, SIGTERM);
}

static void program_on(bool conventional)
{
        skel = switch_bpf__open();
        if (!skel)
                fail("no BPF");
        (void)bpf_program__set_autoload(skel->progs.nothing, !conventional);
        (void)bpf_program__set_autoload(skel->progs.account, conventional);
        if (switch_bpf__load(skel) < 0 || switch_bpf__attach(skel) < 0)
                fail("the baseline cannot be loaded");
}

static void empty_on(void)
{
        program_on(false);
}

static void baseline_on(void)
{
        program_on(true);
}

static void program_off(void)
{
        switch_bpf__destroy(skel);
}

static const struct {
        const char *name;
        void (*on)(void), (*off)(void);
} variants[] = {
        { "switch_slowdown_pct", collector_on, collector_off },
        { "switch_slowdown_pct_baseline", baseline_on, program_off },
        { "switch_slowdown_pct_empty", empty_on, program_off },
};
static const struct {
        const char *suffix;
        double (*ns)(void);
} pipes[] = { { "", pipe_ns }, { "_perf", perf_threads_ns }, { "_perf_processes", perf_processes_ns } };

static void measure_pipes(double ret[ARRAY_SIZE(pipes)])
{
        rest(50); /* what was detached is freed */
        for (size_t p = 0; p < ARRAY_SIZE(pipes); p++)
                ret[p] = pipes[p].ns();
}

static void bench_switch(void)
{
        static double with[ARRAY_SIZE(variants)][ARRAY_SIZE(pipes)][ROUNDS],
                without[ARRAY_SIZE(pipes)][ROUNDS];
        double before[ARRAY_SIZE(pipes)], now[ARRAY_SIZE(pipes)], after[ARRAY_SIZE(pipes)];
        cpu_set_t all;

        if (sched_getaffinity(0, sizeof(all), &all) < 0)
                fail("no affinity");
        pin();
        measure_pipes(before);
        for (size_t round = 0; round < ROUNDS; round++)
                for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
                        size_t v = (i + round) % ARRAY_SIZE(variants);

                        (void)sched_setaffinity(0, sizeof(all), &all); /* the collector is free */
                        variants[v].on();
                        pin();
                        measure_pipes(now);
                        variants[v].off();
                        measure_pipes(after);
                        for (size_t p = 0; p < ARRAY_SIZE(pipes); p++) {
                                with[v][p][round] = 100 * (now[p] / ((before[p] + after[p]) / 2) - 1);
                                without[p][round] = after[p];
                        }
                        memcpy(before, after, sizeof(before));
                }
        (void)sched_setaffinity(0, sizeof(all), &all);
        for (size_t p = 0; p < ARRAY_SIZE(pipes) && before[p] > 0; p++) {
                char name[64];

                for (size_t v = 0; v < ARRAY_SIZE(variants); v++) {
                        (void)snprintf(name, sizeof(name), "%s%s", variants[v].name, pipes[p].suffix);
                        results_add(name, results_median(with[v][p], ROUNDS), "%", ROUNDS, 0);
                }
                (void)snprintf(name, sizeof(name), "pipe_trip_ns%s", pipes[p].suffix);
                results_add(name, results_median(without[p], ROUNDS), "ns", ROUNDS, 0);
        }
}

/* ---- a sample ---- */

#define SAMPLE_MS 100

/* CPU time per tick over so many seconds, in ms. */
static double measure_ticks(pid_t pid, unsigned seconds)
{
        uint64_t begin = clock_monotonic_ns(), cpu = cpu_ns(pid), took;

        rest(seconds * 1000);
        cpu = cpu_ns(pid) - cpu;
        took = clock_monotonic_ns() - begin;
        return (double)cpu / 1e6 / ((double)took / SAMPLE_MS / (double)NS_PER_MS);
}

static void bench_samples(int processes, int containers, unsigned seconds)
{
        pid_t herd = start_herd(processes, containers, sleep_for_ever), pid;
        char db[PATH_MAX], name[64], tail[32] = "";

        if (containers)
                (void)snprintf(tail, sizeof(tail), "_%d_cgroups", containers);
        pid = start_collector((const char *const[]){ "--sampling-interval", "100ms", "--store-path", "",
                                                     "--metrics-listen", "", NULL });
        (void)snprintf(name, sizeof(name), "sample_cpu_ms_%d%s", processes, tail);
        results_add(name, measure_ticks(pid, seconds), "ms", seconds * 1000 / SAMPLE_MS, 0);
        end(pid, SIGTERM);

        (void)snprintf(db, sizeof(db), "%s/samples%d%s.db", dir, processes, tail);
        pid = start_collector((const char *const[]){ "--sampling-interval", "100ms", "--store-path", db,
                                                     "--metrics-listen", "127.0.0.1:0", NULL });
        (void)snprintf(name, sizeof(name), "tick_cpu_ms_%d%s", processes, tail);
        results_add(name, measure_ticks(pid, seconds), "ms", seconds * 1000 / SAMPLE_MS, 0);
        (void)snprintf(name, sizeof(name), "rss_mib_%d%s", processes, tail);
        results_add(name, status_mib(pid, "VmRSS:"), "MiB", 1, 0);
        (void)snprintf(name, sizeof(name), "anon_mib_%d%s", processes, tail);
        results_add(name, status_mib(pid, "RssAnon:"), "MiB", 1, 0);
        end(pid, SIGTERM);
        end_herd(herd);
}

/* ---- the database ---- */

static void put(const char *path, const char *text)
{
        char full[PATH_MAX], parent[PATH_MAX];

        (void)snprintf(full, sizeof(full), "%s/sys/%s", dir, path);
        (void)snprintf(parent, sizeof(parent), "%s", full);
        *strrchr(parent, '/') = '\0';
        if (file_mkdirs(parent, 0755, NULL) < 0 ||
            file_write_atomic(full, text, strlen(text), 0644, NULL) < 0)
                fail("cannot write a sensor tree");
}

/* Two sockets with dram and a platform's meter. */
static void make_sensors(void)
{
        static const char *const zones[][2] = { { "intel-rapl:0", "package-0" },
                                                { "intel-rapl:0:0", "dram" },
                                                { "intel-rapl:1", "package-1" },
                                                { "intel-rapl:1:0", "dram" },
                                                { "intel-rapl:2", "psys" } };
        char path[128];

        for (size_t i = 0; i < ARRAY_SIZE(zones); i++) {
                (void)snprintf(path, sizeof(path), "class/powercap/%s/name", zones[i][0]);
                put(path, zones[i][1]);
                (void)snprintf(path, sizeof(path), "class/powercap/%s/max_energy_range_uj", zones[i][0]);
                put(path, "262143328850");
                (void)snprintf(path, sizeof(path), "class/powercap/%s/energy_uj", zones[i][0]);
                put(path, "123456789012");
        }
        put("class/hwmon/hwmon0/name", "power_meter");
        put("class/hwmon/hwmon0/power1_average", "245000000");
}

/* The database's pages in use, and its intervals and rows. */
static bool ask_database(const char *db, double *bytes, double *intervals, double *rows)
{
        char command[2 * PATH_MAX];
        FILE *f;
        bool ok;

        (void)snprintf(command, sizeof(command),
                       "sqlite3 -readonly '%s' 'SELECT (page_count - freelist_count) * page_size, "
                       "(SELECT count(*) FROM interval), (SELECT count(*) FROM usage) + (SELECT count(*) "
                       "FROM power) "
                       "FROM pragma_page_count, pragma_freelist_count, pragma_page_size' | tr '|' ' '",
                       db);
        f = popen(command, "re");
        ok = f && fscanf(f, "%lf %lf %lf", bytes, intervals, rows) == 3;
        if (f)
                (void)pclose(f);
        return ok;
}

static void bench_database(unsigned seconds)
{
        double bytes[2], intervals[2], rows[2], per_interval;
        char db[PATH_MAX], sys[PATH_MAX];
        pid_t herd, pid;
        uint64_t cpu;

        make_sensors();
        herd = start_herd(CONTAINERS, CONTAINERS, work);
        (void)snprintf(db, sizeof(db), "%s/day.db", dir);
        (void)snprintf(sys, sizeof(sys), "%s/sys", dir);
        pid = start_collector((const char *const[]){ "--sampling-interval", "50ms", "--store-path", db,
                                                     "--metrics-listen", "", "--sysfs-root", sys, NULL });
        rest(4000);
        if (!ask_database(db, &bytes[0], &intervals[0], &rows[0]))
                fail("the database cannot be read");
        cpu = cpu_ns(pid);
        rest(seconds * 1000);
        cpu = cpu_ns(pid) - cpu;
        if (!ask_database(db, &bytes[1], &intervals[1], &rows[1]) || intervals[1] <= intervals[0])
                fail("nothing was recorded");
        end(pid, SIGTERM);
        end_herd(herd);
        per_interval = (bytes[1] - bytes[0]) / (intervals[1] - intervals[0]);
        results_add("mib_per_day_50_containers", per_interval * INTERVALS_DAY / (1 << 20), "MiB",
                    (unsigned long)(intervals[1] - intervals[0]), 0);
        results_add("bytes_per_sample_50_containers", per_interval, "B",
                    (unsigned long)(intervals[1] - intervals[0]), 0);
        results_add("rows_per_sample_50_containers", (rows[1] - rows[0]) / (intervals[1] - intervals[0]),
                    "rows", (unsigned long)(intervals[1] - intervals[0]), 0);
        results_add("rows_per_cpu_second", (rows[1] - rows[0]) / ((double)cpu / 1e9), "rows/s",
                    (unsigned long)(rows[1] - rows[0]), 0);
}

/* ---- BPF programs ---- */

static void forks(unsigned ms)
{
        uint64_t until = clock_monotonic_ns() + ms * NS_PER_MS;

        while (clock_monotonic_ns() < until) {
                pid_t pid = fork();

                if (pid == 0)
                        _exit(0);
                (void)waitpid(pid, NULL, 0);
        }
}

static void packets(unsigned ms)
{
        uint64_t until = clock_monotonic_ns() + ms * NS_PER_MS;
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(address);
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        char byte = 0;

        if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 ||
            getsockname(fd, (struct sockaddr *)&address, &size) < 0)
                return;
        while (clock_monotonic_ns() < until)
                if (sendto(fd, &byte, 1, 0, (struct sockaddr *)&address, size) != 1 ||
                    read(fd, &byte, 1) != 1)
                        break;
        (void)close(fd);
}

static void writes(unsigned ms)
{
        static char block[1 << 16];
        uint64_t until = clock_monotonic_ns() + ms * NS_PER_MS;
        char path[PATH_MAX];
        int fd;

        (void)snprintf(path, sizeof(path), "%s/written", dir);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        for (off_t at = 0; fd >= 0 && clock_monotonic_ns() < until;
             at = (at + (off_t)sizeof(block)) % (1 << 26))
                if (pwrite(fd, block, sizeof(block), at) < 0 || pread(fd, block, sizeof(block), at) < 0)
                        break;
        (void)close(fd);
}

#define PROGRAMS_MAX 32

/* Programs that the process holds, by the descriptors' own words. */
static size_t programs_of(pid_t pid, uint32_t ret[PROGRAMS_MAX])
{
        char path[64], text[1024];
        size_t n = 0;

        for (int fd = 0; fd < 256 && n < PROGRAMS_MAX; fd++) {
                const char *p;
                uint32_t id;
                bool known = false;

                (void)snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, fd);
                if (read_text(path, text, sizeof(text)) < 0 || !(p = strstr(text, "prog_id:")))
                        continue;
                id = (uint32_t)strtoul(p + strlen("prog_id:"), NULL, 10);
                for (size_t i = 0; i < n; i++)
                        known |= ret[i] == id;
                if (!known)
                        ret[n++] = id;
        }
        return n;
}

static void bench_programs(void)
{
        uint32_t ids[PROGRAMS_MAX];
        int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
        pid_t pid;
        size_t n;
        uint64_t begin;

        if (stats < 0)
                fail("BPF run times cannot be counted");
        pid = start_collector((const char *const[]){ "--sampling-interval", "1s", "--store-path", "",
                                                     "--metrics-listen", "", NULL });
        begin = clock_monotonic_ns();
        forks(2000);
        packets(2000);
        writes(2000);
        rest(1000);
        n = programs_of(pid, ids);
        for (size_t i = 0; i < n; i++) {
                int fd = bpf_prog_get_fd_by_id(ids[i]);
                struct bpf_prog_info info = { 0 };
                uint32_t size = sizeof(info);
                char name[64];

                if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
                        fail("a BPF program is gone");
                (void)close(fd);
                if (!info.run_cnt)
                        continue;
                (void)snprintf(name, sizeof(name), "bpf_ns.%s", info.name);
                results_add(name, (double)info.run_time_ns / (double)info.run_cnt, "ns", info.run_cnt, 0);
                (void)snprintf(name, sizeof(name), "bpf_runs_per_s.%s", info.name);
                results_add(name, (double)info.run_cnt * 1e9 / (double)(clock_monotonic_ns() - begin), "1/s",
                            info.run_cnt, 0);
        }
        end(pid, SIGTERM);
        (void)close(stats);
}

int main(int argc, char **argv)
{
        if (geteuid() != 0 || argc != 2) {
                (void)fprintf(stderr,
                              argc == 2 ? "bench_collector: needs root\n" : "usage: bench_collector FILE\n");
                return 2;
        }
        if (!mkdtemp(dir))
                fail("cannot make a directory");
        (void)setpriority(PRIO_PROCESS, 0, -15); /* what else runs may wait */
        make_cgroups();
        bench_switch();
        bench_samples(1000, 0, 8);
        bench_samples(10000, 0, 8);
        if (*cgroups) {
                bench_samples(1000, CONTAINERS_MAX, 6);
                bench_database(20);
        }
        bench_programs();
        results_write(argv[1]);
        clean();
        return 0;
}
