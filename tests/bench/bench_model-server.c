/* SPDX-License-Identifier: Apache-2.0 */
/* The model server under load: a pipeline of 317 node types (as many as Kepler's specpower has) is made, the
 * server is started on it, and asked for weights, archives and what has not changed; then a million samples
 * are imported, each durable before its acknowledgement. Baselines are the targets; every answer is checked.
 * Writes results as JSON to argv[1]. */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "common/clock.h"
#include "common/file.h"
#include "model/model.h"
#include "tests/bench/results.h"
#include "tests/bench/training.h"

#define NODE_TYPES            317
#define ARCHIVE_BYTES         100000 /* of an XGBoost model of Kepler's */
#define LOAD_NS               (3 * NS_PER_S)
#define CONNECTIONS           8
#define LATENCIES_MAX         400000 /* of a connection */
#define REPLY_MAX             (1 << 20)
#define IMPORT_NODES          20
#define IMPORT_SERIES         105 /* of a node: containers times features, and what it measures */
#define IMPORT_STEPS          20  /* intervals in an upload */
#define IMPORT_ROUNDS         24
#define LEARN_NS              (60 * NS_PER_S)
#define REST_S                5 /* until a training that is due is over, and published */
#define TRAIN_ROUNDS          5
#define TRAIN_REQUEST_DEFAULT "../shared/captures/train/small_counteronly_rapl_T2.request.json"
#define IMPORT_BYTES          (8 << 20)

static char dir[256];
static unsigned short port;
static pid_t server;

static void fail(const char *what)
{
        (void)fprintf(stderr, "bench_model-server: %s\n", what);
        if (server > 0)
                (void)kill(server, SIGKILL);
        exit(1);
}

/* ---- the pipeline ---- */

static void write_file(const char *parent, const char *name, const void *data, size_t size)
{
        char path[1024];
        FILE *f;

        if (path_join(path, sizeof(path), parent, name) < 0 || file_mkdirs(parent, 0755, NULL) < 0)
                fail("cannot write the pipeline");
        f = fopen(path, "we"); /* thousands of files: not synced one by one */
        if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
                fail("cannot write the pipeline");
}

static void add_entry(struct model_archive *a, const char *name, const char *text, size_t size)
{
        struct model_entry *entry = &a->entries[a->n++];

        (void)snprintf(entry->name, sizeof(entry->name), "%s", name);
        entry->data = calloc(1, size + 1);
        if (!entry->data)
                fail("out of memory");
        memcpy(entry->data, text, size);
        entry->size = size;
}

/* Numbers that do not compress, as trees are. */
static void write_filler(struct buf *out, size_t size, unsigned int seed)
{
        buf_init(out, 2 * size);
        while (out->size < size) {
                seed = seed * 1103515245u + 12345u;
                (void)buf_printf(out, "%08x%c", seed ^ (seed >> 13), seed & 1 ? ',' : ' ');
        }
}

static void write_model(const char *group, const char *trainer, int type, bool weights)
{
        char metadata[1024], name[128], file[160];
        struct model_archive archive = { 0 };
        struct buf zip, filler, weight;

        (void)snprintf(name, sizeof(name), "%s_%d", trainer, type);
        (void)snprintf(metadata, sizeof(metadata),
                       "{\"model_name\": \"%s\", \"model_class\": \"%s\", \"model_file\": \"%s.json\", "
                       "\"features\": "
                       "[\"bpf_cpu_time_ms\", \"bpf_page_cache_hit\"], \"fe_files\": [], \"output_type\": "
                       "\"AbsPower\", "
                       "\"mae\": %d.5, \"mape\": 8.25, \"platform_mae\": 3.5, \"platform_mape\": 8.25}",
                       name, weights ? "scikit" : "xgboost", name, 2 + type % 7 + (weights ? 10 : 0));
        (void)snprintf(file, sizeof(file), "%s.json", name);
        add_entry(&archive, "metadata.json", metadata, strlen(metadata));
        add_entry(&archive, file, "{}", 2);
        write_filler(&filler, weights ? 2000 : ARCHIVE_BYTES * 7 / 4, (unsigned int)type + 1);
        add_entry(&archive, "platform.json", filler.data, filler.size);
        buf_init(&zip, MODEL_ARCHIVE_MAX);
        if (model_archive_pack(&archive, &zip, NULL) < 0)
                fail("cannot pack");
        (void)snprintf(file, sizeof(file), "%s.zip", name);
        write_file(group, file, zip.data, zip.size);
        if (weights) {
                buf_init(&weight, 4096);
                (void)buf_printf(&weight,
                                 "{\"platform\": {\"All_Weights\": {\"Bias_Weight\": %d.25, "
                                 "\"Categorical_Variables\": {}, "
                                 "\"Numerical_Variables\": {\"bpf_cpu_time_ms\": {\"scale\": 7900.5, "
                                 "\"weight\": 44.125}, "
                                 "\"bpf_page_cache_hit\": {\"scale\": 1.0, \"weight\": 0.5}}}}}",
                                 20 + type);
                (void)snprintf(file, sizeof(file), "%s.json", name);
                write_file(group, file, weight.data, weight.size);
                buf_done(&weight);
        }
        for (size_t i = 0; i < archive.n; i++)
                free(archive.entries[i].data);
        buf_done(&zip);
        buf_done(&filler);
}

static void write_pipeline(void)
{
        static const char *const trainers[] = { "SGDRegressorTrainer", "LogarithmicRegressionTrainer",
                                                "ExponentialRegressionTrainer", "XgboostFitTrainer" };
        char root[512], group[640];
        struct buf index;

        (void)snprintf(root, sizeof(root), "%s/pipelines/specpower", dir);
        (void)snprintf(group, sizeof(group), "%s/acpi/AbsPower/BPFOnly", root);
        write_file(root, "metadata.json", "{\"name\": \"specpower\"}", 21);
        buf_init(&index, 1 << 20);
        for (int t = 0; t < NODE_TYPES; t++) {
                (void)buf_printf(
                        &index,
                        "%s\"%d\": {\"attrs\": {\"processor\": \"acme_z%d\", \"cores\": %d.0, \"chips\": %d, "
                        "\"memory\": %d, \"frequency\": %d}, \"members\": [\"m%d\"]}",
                        t ? ", " : "{", t, t, 4 + t % 124, 1 + t % 4, 8 << t % 7, 2000 + 100 * (t % 20), t);
                for (size_t i = 0; i < sizeof(trainers) / sizeof(*trainers); i++)
                        write_model(group, trainers[i], t, i < 3);
        }
        (void)buf_puts(&index, "}");
        write_file(root, "node_type_index.json", index.data, index.size);
        buf_done(&index);
}

/* ---- the server ---- */

static int connect_to(void)
{
        struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_port = htons(port),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
                return fd;
        if (fd >= 0)
                (void)close(fd);
        return -1;
}

static void find_port(void)
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 ||
            getsockname(fd, (struct sockaddr *)&address, &size) < 0)
                fail("no port");
        port = ntohs(address.sin_port);
        (void)close(fd);
}

static double start_server(void)
{
        char program[512], listen_on[64], database[512], models[512];
        const char *b = getenv("B");
        uint64_t begin = clock_monotonic_ns();
        int fd;

        find_port();
        (void)snprintf(program, sizeof(program), "%s/bin/wattloop-model-server", b ? b : "build");
        (void)snprintf(listen_on, sizeof(listen_on), "127.0.0.1:%u", port);
        (void)snprintf(database, sizeof(database), "%s/server.db", dir);
        (void)snprintf(models, sizeof(models), "%s/pipelines", dir);
        server = fork();
        if (server == 0) {
                (void)execl(program, program, "serve", "--log-level", "warning", "--listen", listen_on,
                            "--database-path", database, "--models-path", models, (char *)NULL);
                _exit(127);
        }
        while ((fd = connect_to()) < 0) {
                if (waitpid(server, NULL, WNOHANG) != 0 || clock_monotonic_ns() - begin > 20 * NS_PER_S)
                        fail("the server does not start");
                (void)usleep(1000);
        }
        (void)close(fd);
        return (double)(clock_monotonic_ns() - begin) / NS_PER_MS;
}

static void stop_server(void)
{
        (void)kill(server, SIGTERM);
        (void)waitpid(server, NULL, 0);
        server = 0;
}

/* "VmRSS", or "VmHWM" for the most there ever was. */
static double rss_mib(const char *field)
{
        char path[64], line[256];
        double kib = 0;
        FILE *f;

        (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)server);
        f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f))
                if (!strncmp(line, field, strlen(field)) && sscanf(line + strlen(field), ": %lf", &kib) == 1)
                        break;
        if (f)
                (void)fclose(f);
        return kib / 1024;
}

/* ---- clients ---- */

/* One exchange on a connection that is kept; returns the status, the body at *ret_body. */
static int exchange(int fd, const struct buf *request, char *reply, char **ret_body)
{
        size_t got = 0, want = SIZE_MAX;
        char *body = NULL;
        int status = 0;

        for (size_t sent = 0; sent < request->size;) {
                ssize_t n = send(fd, request->data + sent, request->size - sent, MSG_NOSIGNAL);

                if (n <= 0)
                        fail("cannot send");
                sent += (size_t)n;
        }
        while (got < want) {
                ssize_t n = recv(fd, reply + got, REPLY_MAX - 1 - got, 0);

                if (n <= 0)
                        fail("no answer");
                got += (size_t)n;
                reply[got] = '\0';
                if (!body && (body = strstr(reply, "\r\n\r\n"))) {
                        const char *length = strcasestr(reply, "\r\nContent-Length: ");

                        body += 4;
                        status = (int)strtol(reply + strlen("HTTP/1.1 "), NULL, 10);
                        want = (size_t)(body - reply) +
                               (status == 304 || !length ? 0 : strtoul(length + 18, NULL, 10));
                }
        }
        *ret_body = body;
        return status;
}

struct load {
        void (*make)(struct buf *request, int type); /* an HTTP request */
        int status;
        const char *word; /* in the body */
};

struct client {
        const struct load *load;
        int first;
        pthread_t thread;
        unsigned long n;
        float *latency_us; /* owned */
};

static _Atomic uint64_t load_until_ns;

static void *run_client(void *arg)
{
        struct client *c = arg;
        char *reply = malloc(REPLY_MAX), *body;
        struct buf request;
        int fd = connect_to();

        if (fd < 0 || !reply)
                fail("cannot connect");
        for (int type = c->first; c->n < LATENCIES_MAX; type = (type + CONNECTIONS) % NODE_TYPES) {
                uint64_t begin = clock_monotonic_ns(), end;

                if (begin > load_until_ns)
                        break;
                buf_init(&request, 4096);
                c->load->make(&request, type);
                if (exchange(fd, &request, reply, &body) != c->load->status ||
                    (c->load->word && !strstr(body, c->load->word)))
                        fail("a wrong answer");
                end = clock_monotonic_ns();
                c->latency_us[c->n++] = (float)(end - begin) / 1000;
                buf_done(&request);
        }
        (void)close(fd);
        free(reply);
        return NULL;
}

static int by_size(const void *a, const void *b)
{
        const float *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

static void run_load(const struct load *load, int connections, const char *rps, double target,
                     const char *p99)
{
        struct client clients[CONNECTIONS] = { 0 };
        uint64_t begin = clock_monotonic_ns();
        unsigned long n = 0, all_n = 0;
        double seconds;
        float *all;

        load_until_ns = begin + LOAD_NS;
        for (int i = 0; i < connections; i++) {
                clients[i] = (struct client){ .load = load, .first = i * 31 % NODE_TYPES };
                clients[i].latency_us = malloc(LATENCIES_MAX * sizeof(float));
                if (!clients[i].latency_us ||
                    pthread_create(&clients[i].thread, NULL, run_client, &clients[i]))
                        fail("out of memory");
        }
        for (int i = 0; i < connections; i++) {
                (void)pthread_join(clients[i].thread, NULL);
                n += clients[i].n;
        }
        seconds = (double)(clock_monotonic_ns() - begin) / NS_PER_S;
        all = malloc(n * sizeof(float));
        if (!all || !n)
                fail("nothing was answered");
        for (int i = 0; i < connections; i++) {
                memcpy(all + all_n, clients[i].latency_us, clients[i].n * sizeof(float));
                all_n += clients[i].n;
                free(clients[i].latency_us);
        }
        qsort(all, n, sizeof(float), by_size);
        results_add(rps, (double)n / seconds, "requests/s", n, target);
        results_add(p99, (double)all[n * 99 / 100], "us", n, 0);
        free(all);
}

#define SPEC                                                                                                 \
        "\"machine_spec\": {\"vendor\": \"acme\", \"processor\": \"acme_z%d\", \"cores\": %d, \"chips\": "   \
        "%d, \"memory\": "                                                                                   \
        "%d, \"frequency\": %d, \"threads_per_core\": 2}}"
#define SPEC_OF(t) t, 4 + (t) % 124, 1 + (t) % 4, 8 << (t) % 7, 2000 + 100 * ((t) % 20)

static void post_model(struct buf *request, int type, bool weight)
{
        char body[1024];
        int n = snprintf(
                body, sizeof(body),
                "{\"metrics\": [\"bpf_page_cache_hit\", \"bpf_cpu_time_ms\", \"bpf_net_tx_irq\", "
                "\"bpf_net_rx_irq\", \"bpf_block_irq\", \"cpu_architecture\"], \"output_type\": "
                "\"AbsPower\", "
                "\"source\": \"acpi\", \"weight\": %s, \"trainer_name\": \"\", \"filter\": \"\", " SPEC,
                weight ? "true" : "false", SPEC_OF(type));

        (void)buf_printf(request,
                         "POST /model HTTP/1.1\r\nHost: x\r\nContent-Type: "
                         "application/json\r\nContent-Length: %d\r\n\r\n%s",
                         n, body);
}

static void ask_weight(struct buf *request, int type)
{
        post_model(request, type, true);
}

static void ask_archive(struct buf *request, int type)
{
        post_model(request, type, false);
}

static char etags[NODE_TYPES][128];

static void ask_models(struct buf *request, int type)
{
        (void)buf_printf(
                request,
                "GET "
                "/api/v1/models?metrics=bpf_cpu_time_ms,bpf_page_cache_hit&output_type=AbsPower&source=acpi"
                "&weight=true&node_type=%d HTTP/1.1\r\nHost: x\r\nIf-None-Match: %s\r\n\r\n",
                type, etags[type]);
}

static void learn_etags(void)
{
        char *reply = malloc(REPLY_MAX), *body;
        int fd = connect_to();

        for (int t = 0; t < NODE_TYPES; t++) {
                struct buf request;
                const char *tag;

                buf_init(&request, 4096);
                ask_models(&request, t);
                if (fd < 0 || !reply || exchange(fd, &request, reply, &body) != 200 ||
                    !(tag = strcasestr(reply, "\r\nETag: ")))
                        fail("no tag");
                tag += strlen("\r\nETag: ");
                (void)snprintf(etags[t], sizeof(etags[t]), "%.*s", (int)strcspn(tag, "\r\n"), tag);
                buf_done(&request);
        }
        free(reply);
        (void)close(fd);
}

/* ---- import ---- */

static void add_series(struct buf *out, int node, int first, int last, const char *name, const char *labels,
                       int scale)
{
        (void)buf_printf(
                out,
                "{\"metric\":{\"__name__\":\"%s\",\"job\":\"wattloop\",\"instance\":\"node-%d\",\"node_id\":"
                "\"node%d\",\"epoch\":\"e1\"%s},\"values\":[",
                name, node, node, labels);
        for (int i = first; i <= last; i++)
                (void)buf_printf(out, "%s%.6f", i > first ? "," : "", i * (scale + i % 7) * 3.137);
        (void)buf_puts(out, "],\"timestamps\":[");
        for (int i = first; i <= last; i++)
                (void)buf_printf(out, "%s%lld", i > first ? "," : "", 1700000000000LL + 3000LL * i);
        (void)buf_puts(out, "]}\n");
}

static void add_seconds(struct buf *out, int node, int first, int last)
{
        (void)buf_printf(
                out,
                "{\"metric\":{\"__name__\":\"wattloop_node_measured_seconds_total\",\"instance\":\"node-%d\","
                "\"node_id\":\"node%d\",\"epoch\":\"e1\"},\"values\":[",
                node, node);
        for (int i = first; i <= last; i++)
                (void)buf_printf(out, "%s%d", i > first ? "," : "", 3 * i);
        (void)buf_puts(out, "],\"timestamps\":[");
        for (int i = first; i <= last; i++)
                (void)buf_printf(out, "%s%lld", i > first ? "," : "", 1700000000000LL + 3000LL * i);
        (void)buf_puts(out, "]}\n");
}

/* One node's upload of one round, as the trainer-client makes them. */
static void make_upload(struct buf *out, int node, int round)
{
        static const char *const names[] = { "bpf_cpu_time_ms", "bpf_page_cache_hit", "bpf_net_tx_irq",
                                             "bpf_net_rx_irq", "bpf_block_irq" };
        int first = round * IMPORT_STEPS + (round > 0), last = (round + 1) * IMPORT_STEPS;
        char name[96], labels[256];

        for (int s = 0; s < IMPORT_SERIES - 5; s++) {
                (void)snprintf(name, sizeof(name), "kepler_container_%s_total", names[s % 5]);
                (void)snprintf(
                        labels, sizeof(labels),
                        ",\"container_id\":\"%064x\",\"pod_name\":\"pod-%d\",\"container_name\":\"c%d\","
                        "\"container_namespace\":\"ns\",\"source\":\"bpf\"",
                        (unsigned int)(s / 5 * 7919 + node), s / 5, s / 5);
                add_series(out, node, first, last, name, labels, s % 11 + 1);
        }
        add_series(out, node, first, last, "kepler_node_package_joules_total",
                   ",\"package\":\"0\",\"mode\":\"dynamic\",\"source\":\"rapl-sysfs\"", 20);
        add_series(out, node, first, last, "kepler_node_package_joules_total",
                   ",\"package\":\"0\",\"mode\":\"idle\",\"source\":\"rapl-sysfs\"", 10);
        add_series(out, node, first, last, "kepler_node_dram_joules_total",
                   ",\"package\":\"0\",\"mode\":\"dynamic\",\"source\":\"rapl-sysfs\"", 5);
        add_seconds(out, node, first, last);
        add_series(out, node, first, last, "wattloop_node",
                   ",\"definition\":\"exact\",\"processor\":\"acme_z1\",\"cores\":\"8\",\"chips\":\"1\","
                   "\"memory\":\"31\","
                   "\"frequency\":\"3100\"",
                   0);
        if (out->failed)
                fail("out of memory");
}

static void pack_upload(struct buf *request, int node, int round)
{
        z_stream z = { 0 };
        struct buf text;
        size_t bound;
        char *packed;

        buf_init(&text, IMPORT_BYTES);
        make_upload(&text, node, round);
        if (deflateInit2(&z, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
                fail("zlib");
        bound = deflateBound(&z, text.size);
        packed = malloc(bound);
        z.next_in = (Bytef *)text.data;
        z.avail_in = (uInt)text.size;
        z.next_out = (Bytef *)packed;
        z.avail_out = (uInt)bound;
        if (!packed || deflate(&z, Z_FINISH) != Z_STREAM_END)
                fail("zlib");
        buf_init(request, IMPORT_BYTES);
        (void)buf_printf(request,
                         "POST /api/v1/import HTTP/1.1\r\nHost: x\r\nContent-Encoding: "
                         "gzip\r\nContent-Length: %lu\r\n\r\n",
                         z.total_out);
        (void)buf_append(request, packed, z.total_out);
        (void)deflateEnd(&z);
        free(packed);
        buf_done(&text);
}

static struct buf uploads[IMPORT_ROUNDS * IMPORT_NODES];
static atomic_int next_upload;
static int last_upload;
static atomic_ulong imported;

static void *run_import(void *arg)
{
        char *reply = malloc(REPLY_MAX), *body;
        int fd = connect_to(), i;

        (void)arg;
        if (fd < 0 || !reply)
                fail("cannot connect");
        while ((i = atomic_fetch_add(&next_upload, 1)) < last_upload) {
                const char *new;

                if (exchange(fd, &uploads[i], reply, &body) != 200 || !(new = strstr(body, "\"new\": ")))
                        fail("an upload is not taken");
                atomic_fetch_add(&imported, strtoul(new + 7, NULL, 10));
        }
        (void)close(fd);
        free(reply);
        return NULL;
}

/* The uploads up to `last`, on all connections; returns the seconds they took. */
static double import_until(int last)
{
        pthread_t threads[CONNECTIONS];
        uint64_t begin = clock_monotonic_ns();

        last_upload = last;
        for (int i = 0; i < CONNECTIONS; i++)
                if (pthread_create(&threads[i], NULL, run_import, NULL))
                        fail("no thread");
        for (int i = 0; i < CONNECTIONS; i++)
                (void)pthread_join(threads[i], NULL);
        return (double)(clock_monotonic_ns() - begin) / NS_PER_S;
}

/* A number of GET /metrics. */
static double metric(const char *name)
{
        char *reply = malloc(REPLY_MAX), *body, line[128];
        int fd = connect_to();
        double value = -1;
        struct buf request;

        buf_init(&request, 128);
        (void)buf_puts(&request, "GET /metrics HTTP/1.1\r\nHost: b\r\n\r\n");
        (void)snprintf(line, sizeof(line), "\n%s ", name);
        if (!reply || fd < 0 || exchange(fd, &request, reply, &body) != 200)
                fail("no metrics");
        body = strstr(body, line);
        if (!body || sscanf(body + strlen(line), "%lf", &value) != 1)
                fail("a metric is missing");
        buf_done(&request);
        (void)close(fd);
        free(reply);
        return value;
}

/* Until every row has been learned from; returns their number. */
static double wait_until_learned(void)
{
        double rows = metric("wattloop_server_rows_total");
        uint64_t begin = clock_monotonic_ns();

        while (metric("wattloop_server_rows_learned_total") < rows) {
                if (clock_monotonic_ns() - begin > LEARN_NS)
                        fail("rows are not learned from");
                (void)usleep(10000);
        }
        return rows;
}

static double file_bytes(const char *name)
{
        char path[1024];
        struct stat st;

        if (path_join(path, sizeof(path), dir, name) < 0 || stat(path, &st) < 0)
                fail("the database is not there");
        return (double)st.st_size;
}

static void bench_import(void)
{
        enum { UPLOADS = IMPORT_ROUNDS * IMPORT_NODES };
        double begin_rss, begin_rows, rows, seconds;
        uint64_t begin;

        for (int i = 0; i < UPLOADS; i++)
                pack_upload(&uploads[i], i % IMPORT_NODES, i / IMPORT_NODES);
        seconds = import_until(UPLOADS / 10);
        begin_rows = wait_until_learned();
        (void)sleep(REST_S);
        begin_rss = rss_mib("VmRSS");
        atomic_store(&next_upload, UPLOADS / 10);
        begin = clock_monotonic_ns();
        seconds += import_until(UPLOADS);
        rows = wait_until_learned() - begin_rows;
        results_add("import_rows_per_s", (double)imported / seconds, "rows/s", imported, 50000);
        results_add("learn_rows_per_s", rows / ((double)(clock_monotonic_ns() - begin) / NS_PER_S), "rows/s",
                    (unsigned long)rows, 0);
        (void)sleep(REST_S);
        results_add("import_rss_growth", rss_mib("VmRSS") / begin_rss, "ratio", imported, 1.1);
        results_add("import_rss_mib", rss_mib("VmRSS"), "MiB", imported, 0);
        results_add("database_bytes_per_row", file_bytes("server.db") / (double)imported, "bytes", imported,
                    0);
}

/* The body that Kepler's trainer client sent, where it lies beside this directory; a server of its own, so
 * that its memory can be told. */
static void bench_train_request(void)
{
        const char *path = getenv("TRAIN_REQUEST") ? getenv("TRAIN_REQUEST") : TRAIN_REQUEST_DEFAULT;
        CLEANUP(buf_done) struct buf body = { .max = REPLY_MAX }, request = { .max = 2 * REPLY_MAX };
        char *reply = malloc(REPLY_MAX), *zip;
        double ms[TRAIN_ROUNDS];
        int fd;

        if (!reply || file_read(path, &body, NULL) < 0) {
                printf("no POST /train: '%s' is not there (TRAIN_REQUEST=FILE names one)\n", path);
                free(reply);
                return;
        }
        (void)start_server();
        fd = connect_to();
        (void)buf_printf(&request,
                         "POST /train HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\n"
                         "Content-Length: %zu\r\n\r\n",
                         body.size);
        (void)buf_append(&request, body.data, body.size);
        if (fd < 0 || request.failed)
                fail("cannot ask for a training");
        for (int i = 0; i < TRAIN_ROUNDS; i++) {
                uint64_t begin = clock_monotonic_ns();

                if (exchange(fd, &request, reply, &zip) != 200 || memcmp(zip, "PK", 2) != 0)
                        fail("a training is not answered by a pipeline");
                ms[i] = (double)(clock_monotonic_ns() - begin) / NS_PER_MS;
        }
        results_add("train_request_ms", results_median(ms, TRAIN_ROUNDS), "ms", TRAIN_ROUNDS, 1000);
        results_add("train_request_rss_mib", rss_mib("VmHWM"), "MiB", TRAIN_ROUNDS, 60);
        (void)close(fd);
        free(reply);
        stop_server();
}

int main(int argc, char **argv)
{
        const struct load weight = { ask_weight, 200, "\"model_name\"" },
                          archive = { ask_archive, 200, NULL }, unchanged = { ask_models, 304, NULL };

        if (argc != 2)
                fail("usage: bench_model-server RESULTS.json");
        (void)snprintf(dir, sizeof(dir), "%s.tmp", argv[1]);
        if (file_remove_tree(dir, NULL) < 0)
                fail("cannot clean up");
        write_pipeline();
        results_add("start_ms", start_server(), "ms", 1, 1000);
        run_load(&weight, 1, "weight_rps_1", 0, "weight_p99_us_1");
        run_load(&weight, CONNECTIONS, "weight_rps_8", 5000, "weight_p99_us_8");
        run_load(&archive, 1, "archive_rps_1", 0, "archive_p99_us_1");
        run_load(&archive, CONNECTIONS, "archive_rps_8", 3000, "archive_p99_us_8");
        learn_etags();
        run_load(&unchanged, CONNECTIONS, "not_modified_rps_8", 0, "not_modified_p99_us_8");
        results_add("rss_mib", rss_mib("VmRSS"), "MiB", NODE_TYPES, 64);
        bench_import();
        stop_server();
        bench_train_request();
        bench_training();
        (void)file_remove_tree(dir, NULL);
        results_write(argv[1]);
        return 0;
}
