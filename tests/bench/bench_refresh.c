/* SPDX-License-Identifier: Apache-2.0 */
/* How a fleet's models are refreshed, by the real programs on loopback: from publishing to the estimator's
 * first answer; CPU time and bytes of a check that finds nothing new, over http and https; a fleet of 10,000
 * simulated nodes that ask within a splay, against the server and against nginx with a mirror; REFRESHES
 * (1000) swaps under 64 clients of the estimator. What simulated nodes send is what wattloop-updater was seen
 * to send. Writes results as JSON to argv[1]; baselines are targets. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/hash.h"
#include "model/model.h"
#include "tests/bench/programs.h"
#include "tests/bench/results.h"

#define PUBLISHED     21
#define CHECKS        21 /* at a time */
#define CLIENTS       64
#define CLIENT_US     20000 /* between an answer and the next request */
#define NODES         10000
#define FLEET_S       20 /* the splay in which NODES ask; a real one is 600 s or more */
#define FLEET_THREADS 32
#define LOAD_THREADS  8
#define LOAD_NS       (5 * NS_PER_S)
#define FIRST_W       20 /* a model says 20 W plus its number */
#define MODEL_BYTES   9000
#define ARGS_MAX      40
#define SLOT          "rapl-sysfs/AbsPower/archive"

/* ---- models ---- */

static void add_entry(struct model_archive *a, const char *name, const char *text)
{
        struct model_entry *entry = &a->entries[a->n++];

        (void)snprintf(entry->name, sizeof(entry->name), "%s", name);
        entry->data = (void *)strdup(text);
        entry->size = strlen(text);
        if (!entry->data)
                programs_fail("out of memory");
}

#define FEATURES "[\"bpf_cpu_time_ms\", \"bpf_page_cache_hit\"]"

/* A model called SGDRegressorTrainer_NAME that says FIRST_W + number watts whatever it is asked. */
static void write_model(int name_number, int number, const char *path)
{
        CLEANUP(buf_done) struct buf zip = { .max = MODEL_ARCHIVE_MAX }, text = { .max = 1 << 20 };
        static struct model_archive archive;
        uint32_t seed = (uint32_t)number + 1;
        char name[64];

        archive.n = 0;
        (void)snprintf(name, sizeof(name), "SGDRegressorTrainer_%d", name_number);
        (void)buf_printf(
                &text,
                "{\"model_name\": \"%s\", \"model_class\": \"weight\", \"model_file\": \"%s.json\", "
                "\"features\": " FEATURES
                ", \"fe_files\": [], \"output_type\": \"AbsPower\", \"mae\": 1.5, \"wattloop_version\": 1, "
                "\"note\": \"",
                name, name);
        while (text.size < 2 * MODEL_BYTES) {
                seed = seed * 1664525 + 1013904223;
                (void)buf_printf(&text, "%02x", seed >> 24);
        }
        (void)buf_puts(&text, "\"}");
        add_entry(&archive, "metadata.json", text.data);
        (void)snprintf(name, sizeof(name), "SGDRegressorTrainer_%d.json", name_number);
        add_entry(&archive, name,
                  "{\"package\": {\"model_file\": \"weight.json\", \"features\": " FEATURES
                  ", \"fe_files\": []}}");
        buf_clear(&text);
        (void)buf_printf(
                &text,
                "{\"package\": {\"All_Weights\": {\"Bias_Weight\": %d, \"Categorical_Variables\": {}, "
                "\"Numerical_Variables\": {\"bpf_cpu_time_ms\": {\"scale\": 8000, \"weight\": 0}, "
                "\"bpf_page_cache_hit\": {\"scale\": 1, \"weight\": 0}}}}}",
                FIRST_W + number);
        add_entry(&archive, "weight.json", text.data);
        if (model_archive_pack(&archive, &zip, NULL) < 0 ||
            file_write_atomic(path, zip.data, zip.size, 0644, NULL) < 0)
                programs_fail("cannot write a model");
        for (size_t i = 0; i < archive.n; i++)
                free(archive.entries[i].data);
}

/* The model that is published carries the same name each time, as it does in a fleet. */
static void publish(int number)
{
        const char *path = in_dir("SGDRegressorTrainer_0.zip");

        write_model(0, number, path);
        if (RUN("wattloop-model-server", "publish", path, "--models-path", in_dir("pipelines")) != 0)
                programs_fail("cannot publish");
}

/* ---- the programs under test ---- */

static unsigned short port, tls_port, static_port;
static pid_t server, tls_server, nginx;

static pid_t start_server(unsigned short at, bool tls)
{
        char listen_on[32];
        const char *args[ARGS_MAX] = { "wattloop-model-server",
                                       "serve",
                                       "--log-level",
                                       "warning",
                                       "--listen",
                                       listen_on,
                                       "--database-path",
                                       in_dir(tls ? "tls.db" : "server.db"),
                                       "--models-path",
                                       in_dir("pipelines"),
                                       "--signing-key-file",
                                       in_dir("online"),
                                       "--signing-keys-file",
                                       in_dir("keys.json"),
                                       NULL };
        const char *const more[] = { "--tls-certificate", in_dir("tls.pem"), "--tls-key", in_dir("tls.key") };
        size_t n = 0;
        pid_t pid;

        while (args[n])
                n++;
        if (tls)
                memcpy(args + n, more, sizeof(more));
        (void)snprintf(listen_on, sizeof(listen_on), "127.0.0.1:%u", at);
        pid = program_start(args);
        port_wait(at);
        return pid;
}

static void start_estimator(void)
{
        (void)program_start((const char *[]){ "wattloop-estimator", "serve", "--config", in_dir("empty.yaml"),
                                              "--socket-path", in_dir("est.sock"), "--store-path",
                                              in_dir("store"), NULL });
        for (int i = 0; access(in_dir("est.sock"), F_OK) < 0; i++) {
                if (i == 10000)
                        programs_fail("the estimator does not start");
                (void)usleep(1000);
        }
}

static void start_nginx(void)
{
        static const char *const temporary[] = { "client_body", "proxy", "fastcgi", "uwsgi", "scgi" };
        CLEANUP(buf_done) struct buf conf = { .max = 16384 };
        const char *program = access("/usr/sbin/nginx", X_OK) == 0 ? "/usr/sbin/nginx" : "/usr/bin/nginx";

        static_port = port_free();
        (void)buf_printf(&conf,
                         "%sworker_processes 1; daemon off; pid %s; error_log %s; events { "
                         "worker_connections 1024; }\n"
                         "http { access_log off;\n",
                         geteuid() == 0 ? "user root; " : "", in_dir("nginx.pid"), in_dir("nginx.log"));
        for (size_t i = 0; i < ARRAY_SIZE(temporary); i++)
                (void)buf_printf(&conf, "%s_temp_path %s;\n", temporary[i], in_dir(""));
        (void)buf_printf(&conf, "server { listen 127.0.0.1:%u backlog=1024; root %s; } }\n", static_port,
                         in_dir("mirror"));
        if (file_write_atomic(in_dir("nginx.conf"), conf.data, conf.size, 0644, NULL) < 0)
                programs_fail("cannot write nginx's configuration");
        nginx = program_start(
                (const char *[]){ program, "-e", in_dir("nginx.log"), "-c", in_dir("nginx.conf"), NULL });
        port_wait(static_port);
}

/* wattloop-updater SUBCOMMAND with a store of its own, against a port; further arguments end with NULL. */
static int updater(const char *subcommand, unsigned short at, const char *store, double *ret_cpu_ms,
                   const char *more, const char *value)
{
        bool tls = at == tls_port && at != 0;
        char url[64];
        const char *args[ARGS_MAX] = { "wattloop-updater",
                                       subcommand,
                                       "--config",
                                       in_dir("empty.yaml"),
                                       "--server-url",
                                       url,
                                       "--store-path",
                                       in_dir(store),
                                       "--estimator-socket",
                                       strcmp(store, "store") == 0 ? in_dir("est.sock") : "",
                                       "--trust-root-keys",
                                       in_dir("root.pub"),
                                       "--canary-samples",
                                       "",
                                       "--server-ca-file",
                                       tls ? in_dir("tls.pem") : "",
                                       more,
                                       value,
                                       NULL };

        (void)snprintf(url, sizeof(url), "http%s://127.0.0.1:%u", tls ? "s" : "", at);
        return program_run(args, ret_cpu_ms);
}

static void set_up(void)
{
        if (file_mkdirs(in_dir("store"), 0755, NULL) < 0 || file_mkdirs(in_dir("files"), 0755, NULL) < 0 ||
            file_write_atomic(in_dir("empty.yaml"), "", 0, 0644, NULL) < 0)
                programs_fail("cannot make a directory");
        if (RUN("/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-days", "30", "-keyout", in_dir("tls.key"), "-out", in_dir("tls.pem"), "-subj",
                "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1") != 0 ||
            RUN("wattloop-model-server", "keys", "make", in_dir("root")) != 0 ||
            RUN("wattloop-model-server", "keys", "make", in_dir("online")) != 0 ||
            RUN("wattloop-model-server", "keys", "sign", in_dir("keys.json"), in_dir("root"),
                in_dir("online.pub")) != 0)
                programs_fail("cannot make keys");
        publish(0);
        port = port_free();
        server = start_server(port, false);
        tls_port = port_free();
        tls_server = start_server(tls_port, true);
        start_estimator();
}

/* ---- asking the estimator ---- */

static const char question[] =
        "{\"metrics\":[\"bpf_cpu_time_ms\",\"bpf_page_cache_hit\"],\"values\":[[412,0],[3.5,0],[7001,12],[0,"
        "0],[33.25,3],"
        "[1500,90],[7999,1],[64,0],[2500,4],[5.75,0]],\"output_type\":\"AbsPower\",\"source\":\"intel_rapl\","
        "\"system_features\":[],\"system_values\":[],\"trainer_name\":\"\",\"filter\":\"\"}";
#define QUESTION_ROWS 10
#define REPLY_MAX     8192

static int dial_estimator(void)
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        const struct timeval patience = { .tv_sec = 10 };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", in_dir("est.sock"));
        if (fd < 0 || connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
                programs_fail("the estimator does not answer");
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        return fd;
}

/* The number of the model that answered, which all of its watts say, and its name unless that is 0; -1: no
 * answer or no watts; -2: an answer of two models. */
static int ask_estimator(int fd)
{
        char reply[REPLY_MAX];
        const char *name, *end;
        size_t got = 0;
        int named, number = -1, rows = 0;

        if (send(fd, question, strlen(question), MSG_NOSIGNAL) != (ssize_t)strlen(question))
                return -1;
        do {
                ssize_t n = recv(fd, reply + got, sizeof(reply) - 1 - got, 0);

                if (n <= 0)
                        return -1;
                reply[got += (size_t)n] = '\0';
        } while (reply[got - 1] != '}' || !strstr(reply, "core_ratio"));
        name = strstr(reply, "\"SGDRegressorTrainer_");
        end = strstr(reply, "}, \"msg\": \"\"");
        if (!name || !end || sscanf(strchr(name, '_'), "_%d", &named) != 1)
                return -1;
        for (const char *p = reply; p < end; p++)
                if ((*p == '[' || *p == ' ') && p[1] >= '0' && p[1] <= '9') {
                        int watts = (int)strtol(p + 1, NULL, 10) - FIRST_W;

                        if (rows++ > 0 && watts != number)
                                return -2;
                        number = watts;
                }
        return rows != QUESTION_ROWS ? -1 : named != 0 && named != number ? -2 : number;
}

/* ---- from publishing to serving ---- */

static void bench_publish(void)
{
        double ms[PUBLISHED];
        int fd;

        if (updater("update", port, "store", NULL, NULL, NULL) != 0)
                programs_fail("the first model is not installed");
        fd = dial_estimator();
        for (int i = 0; i < PUBLISHED; i++) {
                uint64_t begin = clock_monotonic_ns();
                int r;

                publish(i + 1);
                while ((r = updater("update", port, "store", NULL, NULL, NULL)) ==
                       3) /* the server has not looked yet */
                        ;
                if (r != 0 || ask_estimator(fd) != i + 1)
                        programs_fail("a published model is not served");
                ms[i] = (double)(clock_monotonic_ns() - begin) / NS_PER_MS;
        }
        (void)close(fd);
        results_add("publish_to_serving_ms", results_median(ms, PUBLISHED), "ms", PUBLISHED, 1000);
        results_add("publish_to_serving_max_ms", ms[PUBLISHED - 1], "ms", PUBLISHED, 1000);
}

/* ---- what goes over the wire ---- */

/* Passes connections on to `to`, one after the other, and counts what they carry. */
static struct {
        int fd;
        unsigned short port, to;
        atomic_ulong bytes, connections;
        char request[REPLY_MAX]; /* what the last one sent first */
} relay;

/* Until one side closes. */
static void pass_on(int client, int peer)
{
        struct pollfd p[2] = { { .fd = client, .events = POLLIN }, { .fd = peer, .events = POLLIN } };
        char data[16384];

        relay.request[0] = '\0';
        while (poll(p, 2, 30000) > 0) {
                size_t from = p[1].revents ? 1 : 0;
                ssize_t n = recv(p[from].fd, data, sizeof(data), 0);

                if (n <= 0 || send(p[!from].fd, data, (size_t)n, MSG_NOSIGNAL) != n)
                        return;
                atomic_fetch_add(&relay.bytes, (unsigned long)n);
                if (from == 0 && !*relay.request)
                        (void)snprintf(relay.request, sizeof(relay.request), "%.*s", (int)n, data);
        }
}

static void *run_relay(void *arg)
{
        int client, peer;

        (void)arg;
        while ((client = accept(relay.fd, NULL, NULL)) >= 0) {
                peer = port_dial(relay.to);
                if (peer >= 0)
                        pass_on(client, peer);
                (void)close(client);
                closep(&peer);
                atomic_fetch_add(&relay.connections, 1);
        }
        return NULL;
}

static void start_relay(void)
{
        pthread_t thread;

        relay.fd = port_listen(&relay.port);
        if (pthread_create(&thread, NULL, run_relay, NULL) != 0)
                programs_fail("no thread");
        (void)pthread_detach(thread);
}

/* The bytes of one run of the updater, of which `connections` connections are expected. */
static unsigned long count_bytes(unsigned short to, const char *store, int status)
{
        bool tls = to == tls_port;
        unsigned short plain_tls_port = tls_port;
        int r;

        relay.to = to;
        atomic_store(&relay.bytes, 0);
        atomic_store(&relay.connections, 0);
        tls_port = tls ? relay.port : tls_port;
        r = updater("update", relay.port, store, NULL, to == static_port ? "--server-report=false" : NULL,
                    NULL);
        tls_port = plain_tls_port;
        if (r != status)
                programs_fail("an update through the relay ends otherwise than it should");
        while (atomic_load(&relay.connections) == 0) /* the relay notices the end a moment later */
                (void)usleep(1000);
        (void)usleep(100000);
        return atomic_load(&relay.bytes);
}

/* ---- a check that finds nothing new ---- */

/* CPU time of a check: the median of CHECKS in a row, at several moments, of which the calmest counts. What
 * else runs on the processors' other threads only adds to it. */
static double plain_ms = HUGE_VAL, tls_ms = HUGE_VAL;

static void check(double *calmest_ms, unsigned short at, const char *store)
{
        double ms[CHECKS], median;

        for (size_t i = 0; i < CHECKS; i++)
                if (updater("update", at, store, &ms[i], NULL, NULL) != 3)
                        programs_fail("an unchanged model is not unchanged");
        median = results_median(ms, CHECKS);
        *calmest_ms = median < *calmest_ms ? median : *calmest_ms;
}

static void check_both(void)
{
        check(&plain_ms, port, "store");
        check(&tls_ms, tls_port, "tls");
}

static char node_request[REPLY_MAX], mirror_request[REPLY_MAX];

static void bench_checks(void)
{
        double begin;
        int r = updater("update", tls_port, "tls", NULL, NULL, NULL);
        begin = program_cpu_ms(tls_server);
        if (r != 0)
                programs_fail("no model comes over https");
        check_both();
        results_add("server_check_tls_cpu_us", (program_cpu_ms(tls_server) - begin) * 1e3 / CHECKS, "us",
                    CHECKS, 0);

        results_add("update_bytes", (double)count_bytes(port, "counted", 0), "bytes", 1, 0);
        results_add("unchanged_check_bytes", (double)count_bytes(port, "counted", 3), "bytes", 1, 0);
        memcpy(node_request, relay.request, sizeof(node_request));
        results_add("update_tls_bytes", (double)count_bytes(tls_port, "counted-tls", 0), "bytes", 1, 0);
        results_add("unchanged_check_tls_bytes", (double)count_bytes(tls_port, "counted-tls", 3), "bytes", 1,
                    0);

        if (updater("mirror", port, "mirrored", NULL, in_dir("mirror"), NULL) != 0)
                programs_fail("no mirror");
        start_nginx();
        results_add("static_update_bytes", (double)count_bytes(static_port, "counted-static", 0), "bytes", 1,
                    0);
        results_add("static_check_bytes", (double)count_bytes(static_port, "counted-static", 3), "bytes", 1,
                    0);
        memcpy(mirror_request, relay.request, sizeof(mirror_request));
        if (!strstr(node_request, "If-None-Match") || !strstr(mirror_request, "If-None-Match"))
                programs_fail("an unchanged check is not conditional");
}

/* ---- a fleet ---- */

/* One exchange: a connection, a request that names the node, and the beginning of an answer. */
static bool ask_once(unsigned short at, const char *request, unsigned long node, const char *status)
{
        static const char *const names[] = { "Wattloop-Node: ", "\"node_id\": \"" };
        char text[REPLY_MAX], reply[REPLY_MAX], *id;
        int fd = port_dial(at);
        bool good;

        (void)snprintf(text, sizeof(text), "%s", request);
        (void)snprintf(reply, sizeof(reply), "%032lx", node * 2654435761UL);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if ((id = strstr(text, names[i])))
                        memcpy(id + strlen(names[i]), reply, 32);
        good = fd >= 0 && send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text) &&
               recv(fd, reply, sizeof(reply), 0) > 12 && strncmp(reply + 9, status, 3) == 0;
        closep(&fd);
        return good;
}

static struct fleet {
        unsigned short port;
        const char *request;
        uint64_t begin_ns, due_ns[NODES]; /* sorted */
        double latency_ms[NODES];
        atomic_ulong next, failed;
} fleet;

static void *be_nodes(void *arg)
{
        unsigned long i;

        (void)arg;
        while ((i = atomic_fetch_add(&fleet.next, 1)) < NODES) {
                uint64_t due = fleet.begin_ns + fleet.due_ns[i], now = clock_monotonic_ns();
                struct timespec wait = { (time_t)((due - now) / NS_PER_S), (long)((due - now) % NS_PER_S) };

                if (due > now)
                        (void)nanosleep(&wait, NULL);
                if (!ask_once(fleet.port, fleet.request, i + 1, "304"))
                        atomic_fetch_add(&fleet.failed, 1);
                fleet.latency_ms[i] = (double)(clock_monotonic_ns() - due) / NS_PER_MS;
        }
        return NULL;
}

static int by_time(const void *a, const void *b)
{
        const uint64_t *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

static void run_threads(void *(*work)(void *), void *arg, size_t n)
{
        pthread_t threads[CLIENTS];

        for (size_t i = 0; i < n; i++)
                if (pthread_create(&threads[i], NULL, work, arg) != 0)
                        programs_fail("no thread");
        for (size_t i = 0; i < n; i++)
                (void)pthread_join(threads[i], NULL);
}

static void add(const char *prefix, const char *name, double value, const char *unit, unsigned long n)
{
        char text[64];

        (void)snprintf(text, sizeof(text), "%s_%s", prefix, name);
        results_add(text, value, unit, n, 0);
}

/* Each node at its own moment of the splay, which is a hash of its machine id, as in the updater. */
static void bench_fleet(const char *prefix, pid_t pid, unsigned short at, const char *request)
{
        double begin_ms = program_cpu_ms(pid);

        fleet.port = at;
        fleet.request = request;
        atomic_store(&fleet.next, 0);
        atomic_store(&fleet.failed, 0);
        for (unsigned long i = 0; i < NODES; i++) {
                char id[33], hex[HASH_HEX_SIZE];

                (void)snprintf(id, sizeof(id), "%032lx", i * 40503UL + 1);
                hash_sha256_hex(id, strlen(id), hex);
                hex[12] = '\0';
                fleet.due_ns[i] = strtoull(hex, NULL, 16) % (FLEET_S * NS_PER_S);
        }
        qsort(fleet.due_ns, NODES, sizeof(fleet.due_ns[0]), by_time);
        fleet.begin_ns = clock_monotonic_ns();
        run_threads(be_nodes, NULL, FLEET_THREADS);
        add(prefix, "10000_cpu_ms", program_cpu_ms(pid) - begin_ms, "ms", NODES);
        add(prefix, "10000_failed", (double)atomic_load(&fleet.failed), "checks", NODES);
        (void)results_median(fleet.latency_ms, NODES); /* sorts */
        add(prefix, "10000_p50_ms", fleet.latency_ms[NODES / 2], "ms", NODES);
        add(prefix, "10000_p99_ms", fleet.latency_ms[NODES * 99 / 100], "ms", NODES);
}

static struct {
        unsigned short port;
        const char *request, *status;
        uint64_t until_ns;
        atomic_ulong n;
} load;

static void *be_eager(void *arg)
{
        (void)arg;
        while (clock_monotonic_ns() < load.until_ns) {
                if (!ask_once(load.port, load.request, atomic_fetch_add(&load.n, 1), load.status))
                        programs_fail("a request is not answered");
        }
        return NULL;
}

/* As many as it can, each with a connection of its own; the clients take their part of the machine, too. */
static void bench_rate(const char *prefix, const char *what, pid_t pid, unsigned short at,
                       const char *request, const char *status)
{
        uint64_t begin = clock_monotonic_ns();
        double begin_ms = program_cpu_ms(pid);
        char name[32];
        unsigned long n;

        load.port = at;
        load.request = request;
        load.status = status;
        load.until_ns = begin + LOAD_NS;
        atomic_store(&load.n, 0);
        run_threads(be_eager, NULL, LOAD_THREADS);
        n = atomic_load(&load.n);
        (void)snprintf(name, sizeof(name), "%ss_per_s", what);
        add(prefix, name, (double)n * NS_PER_S / (double)(clock_monotonic_ns() - begin), "requests/s", n);
        (void)snprintf(name, sizeof(name), "%s_cpu_us", what);
        add(prefix, name, (program_cpu_ms(pid) - begin_ms) * 1e3 / (double)n, "us", n);
}

/* Each of another node, durable before it is answered. */
static void bench_reports(void)
{
        static const char body[] =
                "{\"node_id\": \"00000000000000000000000000000000\", \"node_name\": \"node\", \"reports\": "
                "[{\"time_ms\": 1764288000000, \"slot\": \"" SLOT "\", \"outcome\": \"installed\", \"id\": "
                "\"\", \"model\": \"SGDRegressorTrainer_0\"}]}";
        char request[1024];

        (void)snprintf(request, sizeof(request),
                       "POST /api/v1/report HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: "
                       "application/json\r\n"
                       "Content-Length: %zu\r\n\r\n%s",
                       strlen(body), body);
        bench_rate("server", "report", server, port, request, "200");
}

/* ---- swaps ---- */

static struct {
        atomic_int oldest, newest; /* models that may answer now */
        atomic_bool done;
        atomic_ulong requests, failed, mixed;
} swaps;

static void *ask_all_the_time(void *arg)
{
        int fd = dial_estimator();

        (void)arg;
        while (!atomic_load(&swaps.done)) {
                int oldest = atomic_load(&swaps.oldest), number = ask_estimator(fd);

                atomic_fetch_add(&swaps.requests, 1);
                if (number == -1) {
                        atomic_fetch_add(&swaps.failed, 1);
                        (void)close(fd);
                        fd = dial_estimator();
                } else if (number < oldest || number > atomic_load(&swaps.newest)) {
                        atomic_fetch_add(&swaps.mixed, 1);
                }
                (void)usleep(CLIENT_US);
        }
        (void)close(fd);
        return NULL;
}

#define SIGNED_AT_ONCE 200 /* files; publish takes 256 */

/* files/ holds them then, and signed/ the same with their signatures. */
static void make_models(int first, int n)
{
        static char paths[SIGNED_AT_ONCE][512];
        char name[64];

        for (int i = 0; i < n; i++) {
                (void)snprintf(name, sizeof(name), "files/SGDRegressorTrainer_%d.zip", first + i);
                (void)snprintf(paths[i], sizeof(paths[i]), "%s", in_dir(name));
                write_model(first + i, first + i, paths[i]);
        }

        const char *args[SIGNED_AT_ONCE + 16] = { "wattloop-model-server",
                                                  "publish",
                                                  "--sign",
                                                  "--out",
                                                  in_dir("signed"),
                                                  "--signing-key-file",
                                                  in_dir("online"),
                                                  "--database-path",
                                                  in_dir("server.db") };
        size_t used = 0;

        while (args[used])
                used++;
        for (int i = 0; i < n; i++)
                args[used + (size_t)i] = paths[i];
        if (program_run(args, NULL) != 0)
                programs_fail("cannot sign");
}

static void bench_swaps(int n)
{
        int first = PUBLISHED + 1;
        pthread_t threads[CLIENTS];
        uint64_t begin;

        for (int i = 0; i < n; i += SIGNED_AT_ONCE)
                make_models(first + i, n - i < SIGNED_AT_ONCE ? n - i : SIGNED_AT_ONCE);
        atomic_store(&swaps.oldest, PUBLISHED);
        atomic_store(&swaps.newest, PUBLISHED);
        for (size_t i = 0; i < CLIENTS; i++)
                if (pthread_create(&threads[i], NULL, ask_all_the_time, NULL) != 0)
                        programs_fail("no thread");
        begin = clock_monotonic_ns();
        for (int i = first; i < first + n; i++) {
                char name[64];

                (void)snprintf(name, sizeof(name), "signed/SGDRegressorTrainer_%d.zip", i);
                atomic_store(&swaps.newest, i);
                if (updater("update", port, "store", NULL, "--from", in_dir(name)) != 0)
                        programs_fail("a refresh fails");
                atomic_store(&swaps.oldest, i); /* the updater has heard that it is served */
                if ((i - first + 1) % 100 == 0) {
                        (void)fprintf(stderr, "%d of %d refreshes, %lu requests\n", i - first + 1, n,
                                      atomic_load(&swaps.requests));
                }
        }
        atomic_store(&swaps.done, true);
        for (size_t i = 0; i < CLIENTS; i++)
                (void)pthread_join(threads[i], NULL);
        results_add("swap_failed_or_mixed", (double)(atomic_load(&swaps.failed) + atomic_load(&swaps.mixed)),
                    "answers", atomic_load(&swaps.requests), 0);
        results_add("swap_refreshes", n, "refreshes", (unsigned long)n, 0);
        results_add("swap_refresh_ms", (double)(clock_monotonic_ns() - begin) / NS_PER_MS / n, "ms",
                    (unsigned long)n, 0);
}

int main(int argc, char **argv)
{
        const char *refreshes = getenv("REFRESHES");
        char dir[300];
        int n = refreshes ? (int)strtol(refreshes, NULL, 10) : 1000;

        if (argc != 2 || n <= 0)
                programs_fail("usage: [REFRESHES=1000] bench_refresh RESULTS.json");
        (void)snprintf(dir, sizeof(dir), "%s.data", argv[1]);
        programs_begin("bench_refresh", dir);
        set_up();
        bench_publish();
        start_relay();
        bench_checks();
        bench_fleet("server", server, port, node_request);
        check_both();
        bench_rate("server", "check", server, port, node_request, "304");
        check_both();
        bench_fleet("static", nginx, static_port, mirror_request);
        bench_rate("static", "check", nginx, static_port, mirror_request, "304");
        bench_reports();
        check_both();
        results_add("unchanged_check_cpu_ms", plain_ms, "ms", CHECKS, 20);
        results_add("unchanged_check_tls_cpu_ms", tls_ms, "ms", CHECKS, 0);
        bench_swaps(n);
        results_write(argv[1]);
        programs_end();
        return 0;
}
