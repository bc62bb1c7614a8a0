/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-demo-workload: varied, real work for a given time, in phases of a few seconds from idle to all
 * CPUs busy. The plans `train` and `fresh` differ in kinds of work, levels and mixes: what the demo is judged
 * on was never trained on. Prints one line per phase. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS_MAX    64
#define PHASE_MIN_S    1.5
#define PHASE_MAX_S    3.0
#define LAG_MAX_S      0.1 /* what a worker could not do in time it makes up no further than this */
#define CHUNK_BYTES    (256 * 1024)
#define FILE_BYTES     (64 * 1024 * 1024) /* then it is cut to nothing: little of it ever reaches the disk */
#define SMALL_BYTES    (1024 * 1024)
#define SMALL_FILES    32
#define SORT_N         16384
#define SPIN_S         0.001
#define BURST_MIN_S    0.01
#define BURST_SPREAD_S 0.14
#define DATAGRAMS      16

struct worker;
typedef double unit_fn(
        struct worker *w); /* does a piece of work; returns CPU seconds spent outside the thread */

struct phase {
        const char *kind;
        unit_fn *unit;   /* NULL: no CPU work of its own */
        double level;    /* share of all CPUs */
        bool one_thread; /* of a single CPU instead, by one thread */
        double mbps;     /* written to files beside it */
};

struct worker {
        pthread_t thread;
        const struct phase *phase;
        double duty;
        bool small_files;
        uint64_t random;
        int in, out;    /* sockets or pipes of the unit, -1 until it made them */
        pthread_t echo; /* the other end of the pipes */
        int echo_in, echo_out;
        uint32_t *numbers;    /* what is sorted */
        unsigned file, chunk; /* of a writer */
};

static atomic_bool phase_over, stopped;
static const char *directory;

static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *fmt, ...)
{
        va_list ap;

        fputs("wattloop-demo-workload: ", stderr);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fputc('\n', stderr);
        exit(1);
}

static double clock_s(clockid_t clock)
{
        struct timespec t;

        clock_gettime(clock, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void sleep_s(double s)
{
        struct timespec t = { (time_t)s, (long)((s - (double)(time_t)s) * 1e9) };

        nanosleep(&t, NULL); /* a signal may cut it short: the pace makes up for it */
}

static uint64_t next_random(uint64_t *state)
{
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        return *state * UINT64_C(2685821657736338717);
}

static double uniform(uint64_t *state)
{
        return (double)(next_random(state) >> 11) / 9007199254740992.0;
}

static void spin(double seconds)
{
        double until = clock_s(CLOCK_THREAD_CPUTIME_ID) + seconds;

        while (clock_s(CLOCK_THREAD_CPUTIME_ID) < until)
                for (volatile int i = 0; i < 2000; i++)
                        ;
}

/* Units of work. */

static double unit_spin(struct worker *w)
{
        (void)w;
        spin(SPIN_S);
        return 0;
}

static double unit_burst(struct worker *w)
{
        spin(BURST_MIN_S + BURST_SPREAD_S * uniform(&w->random));
        return 0;
}

static void sort(uint32_t *v, size_t n)
{
        for (size_t gap = n / 2; gap; gap = gap == 2 ? 1 : gap * 5 / 11)
                for (size_t i = gap; i < n; i++)
                        for (size_t j = i; j >= gap && v[j - gap] > v[j]; j -= gap) {
                                uint32_t t = v[j];

                                v[j] = v[j - gap];
                                v[j - gap] = t;
                        }
}

static double unit_sort(struct worker *w)
{
        if (!w->numbers && !(w->numbers = malloc(SORT_N * sizeof(*w->numbers))))
                die("out of memory");
        for (size_t i = 0; i < SORT_N; i++)
                w->numbers[i] = (uint32_t)next_random(&w->random);
        sort(w->numbers, SORT_N);
        return 0;
}

static double wait_cpu_s(pid_t pid)
{
        struct rusage u = { 0 };

        while (wait4(pid, NULL, 0, &u) < 0 && errno == EINTR)
                ;
        return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
               (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double unit_fork(struct worker *w)
{
        pid_t pid = fork();

        (void)w;
        if (pid < 0)
                return SPIN_S; /* process limit: go slower */
        if (!pid) {
                spin(SPIN_S);
                _exit(0);
        }
        return wait_cpu_s(pid);
}

/* A child with two grandchildren, as a build or a shell script makes them. */
static double unit_tree(struct worker *w)
{
        pid_t pid = fork(), grandchild[2];

        (void)w;
        if (pid < 0)
                return SPIN_S;
        if (pid)
                return wait_cpu_s(pid);
        for (int i = 0; i < 2; i++) {
                grandchild[i] = fork();
                if (!grandchild[i]) {
                        spin(SPIN_S * 2);
                        _exit(0);
                }
        }
        for (int i = 0; i < 2; i++)
                if (grandchild[i] > 0)
                        wait_cpu_s(grandchild[i]);
        _exit(0);
}

static double unit_udp(struct worker *w)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t n = sizeof(a);
        char packet[256] = { 0 };

        if (w->in < 0) {
                w->in = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                if (w->in < 0 || bind(w->in, (struct sockaddr *)&a, n) ||
                    getsockname(w->in, (struct sockaddr *)&a, &n) || connect(w->in, (struct sockaddr *)&a, n))
                        die("no loopback datagrams: %s", strerror(errno));
        }
        for (int i = 0; i < DATAGRAMS; i++)
                if (send(w->in, packet, sizeof(packet), 0) > 0)
                        (void)!recv(w->in, packet, sizeof(packet), 0);
        return 0;
}

static void connect_tcp(struct worker *w)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t n = sizeof(a);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        w->out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (listener < 0 || w->out < 0 || bind(listener, (struct sockaddr *)&a, n) || listen(listener, 1) ||
            getsockname(listener, (struct sockaddr *)&a, &n) || connect(w->out, (struct sockaddr *)&a, n) ||
            (w->in = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
                die("no loopback connection: %s", strerror(errno));
        close(listener);
}

static double unit_tcp(struct worker *w)
{
        static const char data[16384];
        char sink[16384];

        if (w->in < 0)
                connect_tcp(w);
        for (int i = 0; i < 4; i++)
                if (send(w->out, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
                        (void)!recv(w->in, sink, sizeof(sink), 0);
        return 0;
}

static void *echo(void *arg)
{
        struct worker *w = arg;
        char c;

        while (read(w->echo_in, &c, 1) == 1 && write(w->echo_out, &c, 1) == 1)
                ;
        return NULL;
}

/* A byte to another thread and back: two context switches. The other thread works as long as this one. */
static double unit_pipe(struct worker *w)
{
        double before = clock_s(CLOCK_THREAD_CPUTIME_ID);
        int there[2], back[2];
        char c = 'w';

        if (w->in < 0) {
                if (pipe2(there, O_CLOEXEC) || pipe2(back, O_CLOEXEC))
                        die("no pipe: %s", strerror(errno));
                w->echo_in = there[0];
                w->out = there[1];
                w->in = back[0];
                w->echo_out = back[1];
                if (pthread_create(&w->echo, NULL, echo, w))
                        die("no thread");
        }
        for (int i = 0; i < 32; i++)
                if (write(w->out, &c, 1) != 1 || read(w->in, &c, 1) != 1)
                        break;
        return clock_s(CLOCK_THREAD_CPUTIME_ID) - before;
}

/* The plans. Neighbours differ widely, so that any beginning of a plan covers the range. */

static const struct phase plan_train[] = {
        { "idle", NULL, 0, false, 0 },         { "spin", unit_spin, 0.5, false, 0 },
        { "spin", unit_spin, 1.0, false, 0 },  { "files", NULL, 0, false, 80 },
        { "fork", unit_fork, 0.3, false, 0 },  { "spin", unit_spin, 0.8, false, 120 },
        { "spin", unit_spin, 0.15, false, 0 }, { "udp", unit_udp, 0.6, false, 0 },
        { "pipe", unit_pipe, 0.4, false, 0 },  { "spin", unit_spin, 0.9, false, 0 },
        { "files", NULL, 0, false, 20 },       { "spin", unit_spin, 0.7, true, 0 },
        { "fork", unit_fork, 0.7, false, 0 },  { "spin", unit_spin, 0.25, false, 160 },
        { "spin", unit_spin, 1.0, false, 40 }, { "idle", NULL, 0, false, 0 },
        { "udp", unit_udp, 0.2, false, 0 },    { "spin", unit_spin, 0.65, false, 0 },
        { "pipe", unit_pipe, 0.8, false, 0 },  { "spin", unit_spin, 0.1, true, 0 },
        { "fork", unit_fork, 0.5, false, 60 }, { "spin", unit_spin, 0.35, false, 0 },
        { "spin", unit_spin, 0.95, false, 0 }, { "files", NULL, 0, false, 140 },
};

static const struct phase plan_fresh[] = {
        { "burst", unit_burst, 0.35, false, 0 }, { "sort", unit_sort, 0.85, false, 0 },
        { "idle", NULL, 0, false, 0 },           { "tree", unit_tree, 0.55, false, 0 },
        { "small files", NULL, 0, false, 100 },  { "burst", unit_burst, 0.97, false, 30 },
        { "tcp", unit_tcp, 0.22, false, 0 },     { "sort", unit_sort, 0.68, false, 0 },
        { "sort", unit_sort, 0.12, false, 50 },  { "tcp", unit_tcp, 0.75, false, 0 },
        { "burst", unit_burst, 0.45, false, 0 }, { "sort", unit_sort, 1.0, false, 0 },
        { "idle", NULL, 0, false, 0 },           { "tree", unit_tree, 0.28, false, 70 },
        { "burst", unit_burst, 0.6, false, 0 },  { "sort", unit_sort, 0.4, true, 0 },
};

/* Keeps a worker's CPU time at `duty` of the wall time that passed since *origin. */
static void pace(double duty, double used_s, double *origin)
{
        double ahead = used_s / duty - (clock_s(CLOCK_MONOTONIC) - *origin);

        if (ahead > 0)
                sleep_s(ahead);
        else if (-ahead > LAG_MAX_S)
                *origin += -ahead - LAG_MAX_S;
}

static void release(struct worker *w)
{
        if (w->out >= 0)
                close(w->out); /* ends the echo thread */
        if (w->echo_in >= 0) {
                pthread_join(w->echo, NULL);
                close(w->echo_in);
                close(w->echo_out);
        }
        if (w->in >= 0)
                close(w->in);
        free(w->numbers);
}

static void *work(void *arg)
{
        struct worker *w = arg;
        double cpu_before = clock_s(CLOCK_THREAD_CPUTIME_ID), origin = clock_s(CLOCK_MONOTONIC),
               elsewhere = 0;

        while (!atomic_load(&phase_over)) {
                elsewhere += w->phase->unit(w);
                pace(w->duty, clock_s(CLOCK_THREAD_CPUTIME_ID) - cpu_before + elsewhere, &origin);
        }
        release(w);
        return NULL;
}

static void write_chunk(struct worker *w, int *fd, size_t file_bytes)
{
        static const char chunk[CHUNK_BYTES];
        char path[4096];

        if (*fd < 0) {
                snprintf(path, sizeof(path), "%s/load-%u", directory,
                         w->file++ % (w->small_files ? SMALL_FILES : 1));
                *fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
                if (*fd < 0)
                        die("cannot open '%s': %s", path, strerror(errno));
                w->chunk = 0;
        }
        if (write(*fd, chunk, sizeof(chunk)) != sizeof(chunk))
                die("cannot write below '%s': %s", directory, strerror(errno));
        if (++w->chunk * sizeof(chunk) >= file_bytes) {
                close(*fd);
                *fd = -1;
        }
}

static void *write_files(void *arg)
{
        struct worker *w = arg;
        size_t file_bytes = w->small_files ? SMALL_BYTES : FILE_BYTES;
        double origin = clock_s(CLOCK_MONOTONIC), written = 0;
        int fd = -1;

        while (!atomic_load(&phase_over)) {
                write_chunk(w, &fd, file_bytes);
                written += CHUNK_BYTES;
                pace(w->phase->mbps * 1e6, written, &origin); /* the same rule, for bytes */
        }
        if (fd >= 0)
                close(fd);
        return NULL;
}

static void clear_files(void)
{
        char path[4096];

        for (unsigned i = 0; i < SMALL_FILES; i++) {
                snprintf(path, sizeof(path), "%s/load-%u", directory, i);
                unlink(path);
        }
}

static void run_phase(const struct phase *p, double seconds, bool small_files, unsigned cpus,
                      uint64_t *random)
{
        struct worker workers[WORKERS_MAX + 1];
        unsigned n = !p->unit ? 0 : p->one_thread ? 1 : cpus, started = 0;
        double until = clock_s(CLOCK_MONOTONIC) + seconds, duty = p->level * (0.97 + 0.06 * uniform(random));

        printf("%-12s level %.2f%s%s", p->kind, p->level, p->one_thread ? " of one CPU" : "",
               p->mbps > 0 ? "" : "\n");
        if (p->mbps > 0)
                printf(" files %.0f MB/s\n", p->mbps);
        fflush(stdout);
        atomic_store(&phase_over, false);
        for (unsigned i = 0; i < n + (p->mbps > 0); i++) {
                workers[i] = (struct worker){ .phase = p,
                                              .duty = duty < 1 ? duty : 1,
                                              .small_files = small_files,
                                              .random = next_random(random) | 1,
                                              .in = -1,
                                              .out = -1,
                                              .echo_in = -1 };
                if (pthread_create(&workers[i].thread, NULL, i < n ? work : write_files, &workers[i]))
                        die("no thread");
                started++;
        }
        while (!atomic_load(&stopped) && clock_s(CLOCK_MONOTONIC) < until)
                sleep_s(0.05);
        atomic_store(&phase_over, true);
        for (unsigned i = 0; i < started; i++)
                pthread_join(workers[i].thread, NULL);
        clear_files();
}

static void on_signal(int number)
{
        (void)number;
        atomic_store(&stopped, true);
}

struct options {
        const struct phase *plan;
        size_t phases;
        double seconds;
        uint64_t seed;
};

static const char usage[] =
        "usage: wattloop-demo-workload --plan train|fresh --seconds N --dir DIR [--seed N]\n"
        "Works for N seconds in phases; files are written below DIR and removed again.\n";

static void misuse(void)
{
        fputs(usage, stderr);
        exit(2);
}

static void parse(int argc, char **argv, struct options *o)
{
        static const struct option longs[] = {
                { "plan", required_argument, NULL, 'p' }, { "seconds", required_argument, NULL, 's' },
                { "dir", required_argument, NULL, 'd' },  { "seed", required_argument, NULL, 'r' },
                { "help", no_argument, NULL, 'h' },       { NULL, 0, NULL, 0 },
        };
        bool fresh = false;

        for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
                switch (c) {
                case 'p':
                        fresh = !strcmp(optarg, "fresh");
                        if (!fresh && strcmp(optarg, "train"))
                                misuse();
                        o->plan = fresh ? plan_fresh : plan_train;
                        o->phases = fresh ? sizeof(plan_fresh) / sizeof(*plan_fresh)
                                          : sizeof(plan_train) / sizeof(*plan_train);
                        break;
                case 's':
                        o->seconds = strtod(optarg, NULL);
                        break;
                case 'd':
                        directory = optarg;
                        break;
                case 'r':
                        o->seed = strtoull(optarg, NULL, 10);
                        break;
                case 'h':
                        fputs(usage, stdout);
                        exit(0);
                default:
                        exit(2);
                }
        }
        if (!o->plan || !directory || !(o->seconds > 0 && o->seconds < 3600) || optind != argc)
                misuse();
}

int main(int argc, char **argv)
{
        struct options o = { .seed = 1 };
        struct sigaction act = { .sa_handler = on_signal };
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        double hold, end;
        uint64_t random;

        parse(argc, argv, &o);
        sigaction(SIGTERM, &act, NULL);
        sigaction(SIGINT, &act, NULL);
        prctl(PR_SET_PDEATHSIG, SIGTERM);

        random = o.seed * 2654435761 + 1;
        hold = o.seconds / (double)o.phases;
        hold = hold < PHASE_MIN_S ? PHASE_MIN_S : hold > PHASE_MAX_S ? PHASE_MAX_S : hold;
        end = clock_s(CLOCK_MONOTONIC) + o.seconds;
        for (size_t i = 0; !atomic_load(&stopped); i++) {
                double left = end - clock_s(CLOCK_MONOTONIC);

                if (left < 0.1)
                        break;
                run_phase(&o.plan[i % o.phases], left < hold ? left : hold, o.plan == plan_fresh,
                          cpus > WORKERS_MAX ? WORKERS_MAX : (unsigned)cpus, &random);
        }
        return 0;
}
