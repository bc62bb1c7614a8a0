/* SPDX-License-Identifier: Apache-2.0 */
/* How fast watts come, from the model library and over the daemon's socket: latency and throughput by kind of
 * model and number of rows; the time from the daemon's start to its first answer; its memory with four
 * models; and an open loop of 3,000 requests a second while clients misbehave and models are swapped. The
 * models are made here, see models.h. The baseline of a socket figure is the same bytes through an echo on a
 * socket pair: its ratio is what answering costs on top. Writes results as JSON to argv[1]. */
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "model/model.h"
#include "tests/bench/models.h"

#define TIMES_MAX    20000
#define CELL_NS      (300 * NS_PER_MS) /* of measuring per kind, rows and way */
#define REPLY_BYTES  (1 << 20)
#define RESULTS_MAX  256
#define NAME_BYTES   64
#define STARTS       21
#define LOAD_CLIENTS "64"
#define LOAD_RATE    "3000"
#define LOAD_SWAPS   "1000"

static const size_t row_counts[] = { 1, 10, 100, 1000 };
#define ROWS_MAX 1000

struct result {
        char name[NAME_BYTES];
        const char *unit;
        double value, baseline; /* baseline 0: none */
        unsigned long n;
};

static struct result results[RESULTS_MAX];
static size_t n_results;
static double times_us[TIMES_MAX], echo_us[TIMES_MAX];
static char reply[REPLY_BYTES];
static char dir[] = "/tmp/wattloop-bench-XXXXXX";
static pid_t daemon_pid;

static void stop_daemon(void)
{
        if (daemon_pid <= 0)
                return;
        (void)kill(daemon_pid, SIGTERM);
        (void)waitpid(daemon_pid, NULL, 0);
        daemon_pid = 0;
}

static void fail(const char *what)
{
        (void)fprintf(stderr, "bench_estimator: %s\n", what);
        stop_daemon();
        exit(1);
}

static void add_result(const char *name, const char *unit, double value, double baseline, unsigned long n)
{
        struct result *r = &results[n_results];

        if (n_results == RESULTS_MAX)
                fail("too many results");
        n_results++;
        (void)snprintf(r->name, sizeof(r->name), "%s", name);
        r->unit = unit;
        r->value = value;
        r->baseline = baseline;
        r->n = n;
}

static int by_size(const void *a, const void *b)
{
        const double *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

/* p50, p99 and rows a second of sorted times; baselines of an echo, or NULL. */
static void add_cell(enum made_kind kind, size_t rows, const char *way, size_t n, const double *echo)
{
        char name[NAME_BYTES];
        double sum = 0;

        for (size_t i = 0; i < n; i++)
                sum += times_us[i];
        (void)snprintf(name, sizeof(name), "%s_%zu_rows_%s_p50_us", made_names[kind], rows, way);
        add_result(name, "us", times_us[n / 2], echo ? echo[0] : 0, n);
        (void)snprintf(name, sizeof(name), "%s_%zu_rows_%s_p99_us", made_names[kind], rows, way);
        add_result(name, "us", times_us[n * 99 / 100], echo ? echo[1] : 0, n);
        (void)snprintf(name, sizeof(name), "%s_%zu_rows_%s_rows_per_s", made_names[kind], rows, way);
        add_result(name, "rows/s", (double)(rows * n) / sum * 1e6, 0, n);
}

/* ---- in process ---- */

static struct model *load(enum made_kind kind)
{
        static struct model_archive archive;
        struct model *model;
        struct made made;
        struct err e;

        made_model(&made, kind, "AbsPower", false, 50, false);
        archive.n = made.n;
        for (size_t i = 0; i < made.n; i++) {
                (void)snprintf(archive.entries[i].name, sizeof(archive.entries[i].name), "%s", made.names[i]);
                archive.entries[i].data = made.data[i].data;
                archive.entries[i].size = made.data[i].size;
        }
        if (model_load_archive(&archive, &model, &e) < 0)
                fail(e.text);
        made_done(&made);
        return model;
}

static void bench_process(enum made_kind kind)
{
        static double rows[2 * ROWS_MAX], watts[ROWS_MAX * MODEL_COMPONENTS_MAX];
        CLEANUP(model_freep) struct model *model = load(kind);
        size_t index[] = { 0, 1 };
        uint32_t state = 5;

        for (size_t i = 0; i < 2 * ROWS_MAX; i++)
                rows[i] = made_random(&state) * made_scale[i % 2];
        for (size_t k = 0; k < ARRAY_SIZE(row_counts); k++) {
                uint64_t start = clock_monotonic_ns(), begin = start;
                size_t n = 0;

                for (; n < TIMES_MAX && begin - start < CELL_NS; n++) {
                        model_predict(model, index, rows, 2, row_counts[k], watts);
                        times_us[n] = (double)(clock_monotonic_ns() - begin) / 1000;
                        begin = clock_monotonic_ns();
                }
                qsort(times_us, n, sizeof(times_us[0]), by_size);
                add_cell(kind, row_counts[k], "inprocess", n, NULL);
        }
}

/* ---- the daemon ---- */

static void install(const char *place, enum made_kind kind)
{
        char store[128], id[HASH_HEX_SIZE];
        struct made made;

        (void)snprintf(store, sizeof(store), "%s/store", dir);
        made_model(&made, kind, strchr(place, '/') + 1, !strncmp(place, "acpi", 4), 50, false);
        if (made_install(store, place, &made, id) < 0 || made_point(store, place, id) < 0)
                fail("cannot write the store");
        made_done(&made);
}

static void program_path(char ret[512], const char *name)
{
        const char *build = getenv("B");

        (void)snprintf(ret, 512, "%s/%s", build ? build : "build", name);
}

static void start_daemon(void)
{
        char program[512], sock[128], store[128], config[128];
        char *argv[] = { program,         "serve", "--log-level",  "error", "--config", config,
                         "--socket-path", sock,    "--store-path", store,   NULL };

        program_path(program, "bin/wattloop-estimator");
        (void)snprintf(sock, sizeof(sock), "%s/sock", dir);
        (void)snprintf(store, sizeof(store), "%s/store", dir);
        (void)snprintf(config, sizeof(config), "%s/empty.yaml", dir);
        if (file_write_atomic(config, "", 0, 0644, NULL) < 0)
                fail("cannot write a configuration");
        /* Not by fork(), whose time is for copying this process. */
        if (posix_spawn(&daemon_pid, program, NULL, NULL, argv, environ) != 0)
                fail("cannot start the estimator");
}

static int dial(void)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", dir);
        for (int i = 0; i < 50000; i++) {
                int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

                if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
                        return fd;
                closep(&fd);
                (void)usleep(100);
        }
        fail("the estimator does not answer");
        return -1;
}

static void write_request(struct buf *out, size_t rows, const char *source, const char *type)
{
        uint32_t state = 5;

        buf_init(out, 1 << 20);
        (void)buf_puts(out, "{\"metrics\":[\"bpf_cpu_time_ms\",\"bpf_page_cache_hit\"],\"values\":[");
        for (size_t i = 0; i < rows; i++) {
                double a = made_random(&state) * made_scale[0], b = made_random(&state) * made_scale[1];

                (void)buf_printf(out, "%s[%.2f,%.0f]", i > 0 ? "," : "", a, b);
        }
        if (buf_printf(
                    out,
                    "],\"output_type\":\"%s\",\"source\":\"%s\",\"system_features\":[\"cpu_architecture\"],"
                    "\"system_values\":[\"Zed Lake\"],\"trainer_name\":\"\",\"filter\":\"\"}",
                    type, source) < 0)
                fail("out of memory");
}

/* One exchange; the reply's size is known after the first. */
static size_t exchange(int fd, const struct buf *request, size_t expected)
{
        size_t got = 0;

        if (send(fd, request->data, request->size, MSG_NOSIGNAL) != (ssize_t)request->size)
                fail("cannot send");
        do {
                ssize_t n = recv(fd, reply + got, sizeof(reply) - 1 - got, 0);

                if (n <= 0)
                        fail("no reply");
                got += (size_t)n;
        } while (expected ? got < expected : reply[got - 1] != '}' || !memmem(reply, got, "core_ratio", 10));
        reply[got] = '\0';
        return got;
}

/* Sorted times of exchanges. */
static size_t measure(int fd, const struct buf *request, size_t expected, double *us)
{
        uint64_t start = clock_monotonic_ns(), begin = start;
        size_t n = 0;

        for (; n < TIMES_MAX && begin - start < CELL_NS; n++) {
                begin = clock_monotonic_ns();
                (void)exchange(fd, request, expected);
                us[n] = (double)(clock_monotonic_ns() - begin) / 1000;
        }
        qsort(us, n, sizeof(us[0]), by_size);
        return n;
}

/* A child that sends back as many bytes as a reply has for each request. */
static pid_t start_echo(int fd, int other, size_t request_size, size_t reply_size)
{
        pid_t pid = fork();
        size_t got = 0;

        if (pid != 0)
                return pid;
        (void)close(other);
        for (;;) {
                ssize_t n = recv(fd, reply, sizeof(reply), 0);

                if (n <= 0)
                        _exit(0);
                got += (size_t)n;
                if (got < request_size)
                        continue;
                got = 0;
                for (size_t sent = 0; sent < reply_size; sent += (size_t)n)
                        if ((n = send(fd, reply, reply_size - sent, MSG_NOSIGNAL)) < 0)
                                _exit(1);
        }
}

static void measure_echo(const struct buf *request, size_t reply_size, double ret[2])
{
        int fds[2];
        size_t n;
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                fail("cannot make a socket pair");
        pid = start_echo(fds[1], fds[0], request->size, reply_size);
        (void)close(fds[1]);
        n = measure(fds[0], request, reply_size, echo_us);
        ret[0] = echo_us[n / 2];
        ret[1] = echo_us[n * 99 / 100];
        (void)close(fds[0]);
        (void)waitpid(pid, NULL, 0);
}

static void clear_store(void)
{
        char store[128];

        (void)snprintf(store, sizeof(store), "%s/store", dir);
        (void)file_remove_tree(store, NULL);
}

static void bench_socket(enum made_kind kind)
{
        int fd;

        clear_store();
        install("rapl-sysfs/AbsPower", kind);
        start_daemon();
        fd = dial();
        for (size_t k = 0; k < ARRAY_SIZE(row_counts); k++) {
                CLEANUP(buf_done) struct buf request = { 0 };
                double echo[2];
                size_t size, n;

                write_request(&request, row_counts[k], "intel_rapl", "AbsPower");
                size = exchange(fd, &request, 0);
                if (!strstr(reply, "\"msg\": \"\""))
                        fail(reply);
                measure_echo(&request, size, echo);
                n = measure(fd, &request, size, times_us);
                add_cell(kind, row_counts[k], "socket", n, echo);
        }
        (void)close(fd);
        stop_daemon();
}

/* ---- start and memory ---- */

static double memory_mib(const char *key)
{
        CLEANUP(fclosep) FILE *f = NULL;
        char path[64], line[256];
        double kib;

        (void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)daemon_pid);
        f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f))
                if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), ": %lf", &kib) == 1)
                        return kib / 1024;
        fail("no memory in /proc");
        return 0;
}

/* Four models; each must answer. */
static void bench_start(void)
{
        static const struct {
                const char *place, *source, *type;
                enum made_kind kind;
        } slots[] = { { "rapl-sysfs/AbsPower", "intel_rapl", "AbsPower", MADE_GBR },
                      { "rapl-sysfs/DynPower", "intel_rapl", "DynPower", MADE_XGB },
                      { "acpi/AbsPower", "acpi", "AbsPower", MADE_KNN },
                      { "acpi/DynPower", "acpi", "DynPower", MADE_SVR } };
        struct buf requests[4];

        clear_store();
        for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
                install(slots[i].place, slots[i].kind);
                write_request(&requests[i], 10, slots[i].source, slots[i].type);
        }
        for (size_t n = 0; n < STARTS; n++) {
                uint64_t begin = clock_monotonic_ns();
                int fd;

                start_daemon();
                fd = dial();
                (void)exchange(fd, &requests[0], 0);
                times_us[n] = (double)(clock_monotonic_ns() - begin) / 1000;
                for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
                        (void)exchange(fd, &requests[i], 0);
                        if (!strstr(reply, "\"msg\": \"\""))
                                fail(reply);
                }
                (void)close(fd);
                if (n + 1 == STARTS) {
                        add_result("rss_mib_4_models", "MiB", memory_mib("VmRSS"), 0, 1);
                        add_result("rss_anonymous_mib_4_models", "MiB", memory_mib("RssAnon"), 0, 1);
                }
                stop_daemon();
        }
        qsort(times_us, STARTS, sizeof(times_us[0]), by_size);
        add_result("first_answer_ms", "ms", times_us[STARTS / 2] / 1000, 0, STARTS);
        for (size_t i = 0; i < ARRAY_SIZE(slots); i++)
                buf_done(&requests[i]);
}

/* ---- load ---- */

static FILE *run_load(const char *arguments)
{
        char program[512], command[1024];

        program_path(program, "tests/system/estimator_load");
        (void)snprintf(command, sizeof(command), "%s %s", program, arguments);
        return popen(command, "re"); /* words of our own only */
}

static double value_of(const char *line, const char *key)
{
        char pattern[64];
        const char *at;

        (void)snprintf(pattern, sizeof(pattern), "%s=", key);
        at = strstr(line, pattern);
        if (!at)
                fail("estimator_load says something else");
        return strtod(at + strlen(pattern), NULL);
}

static void bench_load(void)
{
        char arguments[512], line[512] = "";
        double seconds;
        FILE *f;

        clear_store();
        (void)snprintf(arguments, sizeof(arguments), "prepare %s/store", dir);
        f = run_load(arguments);
        if (!f || pclose(f) != 0)
                fail("cannot prepare the load");
        start_daemon();
        (void)close(dial());
        (void)snprintf(arguments, sizeof(arguments),
                       "run %s/sock %s/store " LOAD_CLIENTS " " LOAD_RATE " " LOAD_SWAPS, dir, dir);
        f = run_load(arguments);
        if (!f || !fgets(line, sizeof(line), f))
                fail("the load has not run");
        (void)pclose(f); /* the line tells */
        stop_daemon();
        seconds = value_of(line, "seconds");
        add_result("load_3000_requests_per_s_p50_us", "us", value_of(line, "p50_us"), 0,
                   (unsigned long)value_of(line, "requests"));
        add_result("load_3000_requests_per_s_p99_us", "us", value_of(line, "p99_us"), 0,
                   (unsigned long)value_of(line, "requests"));
        add_result("load_requests_per_s", "requests/s", value_of(line, "requests") / seconds, 0,
                   (unsigned long)value_of(line, "requests"));
        add_result("load_swaps_per_s", "swaps/s", value_of(line, "swaps") / seconds, 0,
                   (unsigned long)value_of(line, "swaps"));
        add_result("swap_failed_or_mixed", "requests", value_of(line, "failed") + value_of(line, "mixed"), 0,
                   (unsigned long)value_of(line, "swaps"));
}

static void write_results(const char *path)
{
        CLEANUP(buf_done) struct buf out = { .max = 1 << 20 };

        (void)buf_puts(&out, "{\"results\": [\n");
        for (size_t i = 0; i < n_results; i++) {
                const struct result *r = &results[i];

                (void)buf_printf(&out, "  {\"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", \"n\": %lu, ",
                                 r->name, r->value, r->unit, r->n);
                if (r->baseline > 0)
                        (void)buf_printf(&out, "\"baseline\": %.6g, \"ratio\": %.4g}", r->baseline,
                                         r->value / r->baseline);
                else
                        (void)buf_puts(&out, "\"baseline\": null, \"ratio\": null}");
                (void)buf_puts(&out, i + 1 < n_results ? ",\n" : "\n");
                (void)printf("%-36s %12.6g %-10s", r->name, r->value, r->unit);
                if (r->baseline > 0)
                        (void)printf(" (echo %.4g, ratio %.2f)", r->baseline, r->value / r->baseline);
                (void)printf("\n");
        }
        if (buf_puts(&out, "]}\n") < 0 || file_write_atomic(path, out.data, out.size, 0644, NULL) < 0)
                fail("cannot write the results");
}

int main(int argc, char **argv)
{
        if (argc != 2)
                fail("usage: bench_estimator RESULTS.json");
        if (!mkdtemp(dir))
                fail("cannot make a directory");
        (void)signal(SIGPIPE, SIG_IGN);
        for (int kind = 0; kind < MADE_KINDS; kind++)
                bench_process((enum made_kind)kind);
        for (int kind = 0; kind < MADE_KINDS; kind++)
                bench_socket((enum made_kind)kind);
        bench_start();
        bench_load();
        write_results(argv[1]);
        (void)file_remove_tree(dir, NULL);
        return 0;
}
