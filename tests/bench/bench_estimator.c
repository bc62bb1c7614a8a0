/* SPDX-License-Identifier: Apache-2.0 */
/* How fast watts come: rows per second from the model library, and the time of a request on the daemon's
 * socket. The baseline of a socket figure is the same bytes through an echo on a socket pair; its ratio is
 * what answering costs on top. Writes results as JSON to argv[1]. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/hash.h"
#include "model/model.h"

#define PREDICT_ROWS 1000
#define PREDICT_NS   (NS_PER_S / 2)
#define ROUND_TRIPS  20000
#define REPLY_BYTES  65536
#define RESULTS_MAX  16

struct result {
        const char *name, *unit;
        double value, baseline; /* baseline 0: none */
        unsigned long n;
};

static struct result results[RESULTS_MAX];
static size_t n_results;

static void fail(const char *what)
{
        (void)fprintf(stderr, "bench_estimator: %s\n", what);
        exit(1);
}

static void add_result(struct result r)
{
        if (n_results < RESULTS_MAX)
                results[n_results++] = r;
}

/* ---- models ---- */

static void write_weights(struct buf *out, bool curve)
{
        static const char *const components[] = { "package", "core", "uncore", "dram" };

        buf_init(out, MODEL_WEIGHT_MAX);
        (void)buf_printf(out, "{\"model_name\": \"%sTrainer_0\"",
                         curve ? "LogisticRegression" : "SGDRegressor");
        for (size_t i = 0; i < ARRAY_SIZE(components); i++)
                (void)buf_printf(
                        out,
                        ", \"%s\": {\"All_Weights\": {%s, \"Numerical_Variables\": {\"bpf_cpu_time_ms\": "
                        "{\"scale\": 8000.5, \"weight\": 120.25}, \"bpf_page_cache_hit\": {\"scale\": 2, "
                        "\"weight\": 1.5}}}}",
                        components[i],
                        curve ? "\"CurveFit_Weights\": [80, 0.5, 6, 40]" : "\"Bias_Weight\": 31.5");
        if (buf_puts(out, "}") < 0)
                fail("out of memory");
}

static void bench_predict(bool curve)
{
        static double rows[PREDICT_ROWS * 2], watts[PREDICT_ROWS * MODEL_COMPONENTS_MAX];
        static const char *const columns[] = { "bpf_cpu_time_ms", "bpf_page_cache_hit" };
        CLEANUP(buf_done) struct buf json = { 0 };
        CLEANUP(model_freep) struct model *m = NULL;
        size_t index[MODEL_FEATURES_MAX];
        uint64_t begin, now;
        unsigned long n = 0;

        write_weights(&json, curve);
        if (model_load_weight(json.data, json.size, NULL, &m, NULL) < 0 ||
            model_bind(m, columns, 2, index, NULL) < 0)
                fail("model does not load");
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                rows[i] = (double)i;
        begin = now = clock_monotonic_ns();
        while (now - begin < PREDICT_NS) {
                model_predict(m, index, rows, 2, PREDICT_ROWS, watts);
                n += PREDICT_ROWS;
                now = clock_monotonic_ns();
        }
        add_result((struct result){ .name = curve ? "predict_logistic" : "predict_linear",
                                    .unit = "rows/s",
                                    .value = (double)n * NS_PER_S / (double)(now - begin),
                                    .n = n });
}

/* ---- socket ---- */

static int by_size(const void *a, const void *b)
{
        const double *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

/* One exchange; the reply's size is known after the first. */
static size_t exchange(int fd, const struct buf *request, char *reply, size_t expected)
{
        size_t got = 0;

        if (send(fd, request->data, request->size, MSG_NOSIGNAL) != (ssize_t)request->size)
                fail("cannot send");
        do {
                ssize_t n = recv(fd, reply + got, REPLY_BYTES - got, 0);

                if (n <= 0)
                        fail("no reply");
                got += (size_t)n;
        } while (got < expected);
        return got;
}

/* Times of ROUND_TRIPS exchanges in us, sorted. */
static void measure(int fd, const struct buf *request, size_t reply_size, double us[ROUND_TRIPS])
{
        static char reply[REPLY_BYTES];

        for (int i = 0; i < 200; i++) /* warm up */
                (void)exchange(fd, request, reply, reply_size);
        for (int i = 0; i < ROUND_TRIPS; i++) {
                uint64_t begin = clock_monotonic_ns();

                (void)exchange(fd, request, reply, reply_size);
                us[i] = (double)(clock_monotonic_ns() - begin) / 1000;
        }
        qsort(us, ROUND_TRIPS, sizeof(us[0]), by_size);
}

/* A child that sends back as many bytes as a reply has for each request. */
static pid_t start_echo(int fd, int other, size_t request_size, size_t reply_size)
{
        static char bytes[REPLY_BYTES];
        pid_t pid = fork();
        size_t got = 0;

        if (pid != 0)
                return pid;
        (void)close(other);
        for (;;) {
                ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

                if (n <= 0)
                        _exit(0);
                got += (size_t)n;
                if (got < request_size)
                        continue;
                got = 0;
                if (send(fd, bytes, reply_size, MSG_NOSIGNAL) != (ssize_t)reply_size)
                        _exit(1);
        }
}

static void measure_echo(const struct buf *request, size_t reply_size, double us[ROUND_TRIPS])
{
        int fds[2];
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                fail("cannot make a socket pair");
        pid = start_echo(fds[1], fds[0], request->size, reply_size);
        (void)close(fds[1]);
        measure(fds[0], request, reply_size, us);
        (void)close(fds[0]);
        (void)waitpid(pid, NULL, 0);
}

static void write_request(struct buf *out, int rows)
{
        buf_init(out, 1 << 20);
        (void)buf_puts(out, "{\"metrics\":[\"bpf_cpu_time_ms\",\"bpf_page_cache_hit\"],\"values\":[");
        for (int i = 0; i < rows; i++)
                (void)buf_printf(out, "%s[%d.25,0]", i > 0 ? "," : "", i * 37);
        if (buf_puts(out, "],\"output_type\":\"AbsPower\",\"source\":\"rapl-sysfs\",\"system_features\":[],"
                          "\"system_values\":[]}") < 0)
                fail("out of memory");
}

static void bench_rows(int fd, int rows)
{
        static const struct {
                int rows;
                const char *p50, *p99;
        } names[] = {
                { 1, "socket_1_row_p50", "socket_1_row_p99" },
                { 50, "socket_50_rows_p50", "socket_50_rows_p99" },
                { 1000, "socket_1000_rows_p50", "socket_1000_rows_p99" },
        };
        static double us[ROUND_TRIPS], echo_us[ROUND_TRIPS];
        static char reply[REPLY_BYTES];
        CLEANUP(buf_done) struct buf request = { 0 };
        size_t size = 0;

        write_request(&request, rows);
        if (send(fd, request.data, request.size, MSG_NOSIGNAL) < 0)
                fail("cannot send");
        do { /* the first reply tells its size */
                ssize_t n = recv(fd, reply + size, sizeof(reply) - size, 0);

                if (n <= 0)
                        fail("no reply");
                size += (size_t)n;
        } while (reply[size - 1] != '}');
        if (!strstr(reply, "\"msg\": \"\""))
                fail("the reply is an error");

        measure(fd, &request, size, us);
        measure_echo(&request, size, echo_us);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                if (names[i].rows != rows)
                        continue;
                add_result((struct result){ names[i].p50, "us", us[ROUND_TRIPS / 2], echo_us[ROUND_TRIPS / 2],
                                            ROUND_TRIPS });
                add_result((struct result){ names[i].p99, "us", us[ROUND_TRIPS / 100 * 99],
                                            echo_us[ROUND_TRIPS / 100 * 99], ROUND_TRIPS });
        }
}

static void install_model(const char *dir)
{
        CLEANUP(buf_done) struct buf json = { 0 };
        struct hash_entry entry = { .name = "weight.json" };
        char id[HASH_HEX_SIZE], path[512];

        write_weights(&json, false);
        entry.data = json.data;
        entry.size = json.size;
        (void)hash_entries_hex(&entry, 1, id);
        (void)snprintf(path, sizeof(path), "%s/store/rapl-sysfs/AbsPower/weight/%s", dir, id);
        if (file_mkdirs(path, 0755, NULL) < 0)
                fail("cannot make the store");
        (void)snprintf(path, sizeof(path), "%s/store/rapl-sysfs/AbsPower/weight/%s/weight.json", dir, id);
        if (file_write_atomic(path, json.data, json.size, 0644, NULL) < 0)
                fail("cannot write the store");
        (void)snprintf(path, sizeof(path), "%s/store/rapl-sysfs/AbsPower/weight/current", dir);
        if (symlink(id, path) < 0)
                fail("cannot link the model");
}

static pid_t start_daemon(const char *dir)
{
        const char *build = getenv("B");
        char program[512], sock[512], store[512], config[512];
        pid_t pid;

        (void)snprintf(program, sizeof(program), "%s/bin/wattloop-estimator", build ? build : "build");
        (void)snprintf(sock, sizeof(sock), "%s/sock", dir);
        (void)snprintf(store, sizeof(store), "%s/store", dir);
        (void)snprintf(config, sizeof(config), "%s/empty.yaml", dir);
        if (file_write_atomic(config, "", 0, 0644, NULL) < 0)
                fail("cannot write a configuration");
        pid = fork();
        if (pid == 0) {
                (void)execl(program, program, "serve", "--log-level", "error", "--config", config,
                            "--socket-path", sock, "--store-path", store, (char *)NULL);
                fail("cannot start wattloop-estimator");
        }
        return pid;
}

static int dial(const char *dir)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/sock", dir);
        for (int i = 0; i < 500; i++) {
                int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

                if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
                        return fd;
                closep(&fd);
                (void)usleep(10000);
        }
        return -1;
}

static void bench_socket(void)
{
        char dir[] = "/tmp/wattloop-bench-XXXXXX";
        pid_t pid;
        int fd;

        if (!mkdtemp(dir))
                fail("cannot make a directory");
        install_model(dir);
        pid = start_daemon(dir);
        fd = dial(dir);
        if (fd < 0)
                fail("the estimator does not answer");
        bench_rows(fd, 1);
        bench_rows(fd, 50);
        bench_rows(fd, 1000);
        (void)close(fd);
        (void)kill(pid, SIGTERM);
        (void)waitpid(pid, NULL, 0);
        (void)file_remove_tree(dir, NULL);
}

static void write_results(const char *path)
{
        CLEANUP(buf_done) struct buf out = { .max = 1 << 16 };

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
                (void)printf("%-24s %14.6g %-7s", r->name, r->value, r->unit);
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
        bench_predict(false);
        bench_predict(true);
        bench_socket();
        write_results(argv[1]);
        return 0;
}
