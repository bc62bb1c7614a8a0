/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-demo-client: asks the estimator for power, at a bounded rate over several connections, and checks
 * each answer: a complete JSON object, finite watts of zero or more, and for each model id always the same
 * answer to the same question, so that no answer can be made of two models. It ends when it has seen enough
 * requests and model swaps (and a little longer, to catch a late failure), or when its time is up. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX    64
#define REPLY_MAX      65536
#define IDS_MAX        64
#define COMPONENTS_MAX 8
#define TIMEOUT_MS     5000
#define AFTERWARDS_S   1.0
#define COMPLAINTS_MAX 5
#define NESTING_MAX    32

static const char request[] =
        "{\"metrics\":[\"bpf_cpu_time_ms\",\"bpf_page_cache_hit\",\"bpf_net_tx_irq\",\"bpf_net_rx_irq\","
        "\"bpf_block_irq\"],"
        "\"values\":[[812.5,0.004,35,40,12]],\"output_type\":\"AbsPower\",\"source\":\"rapl-sysfs\","
        "\"system_features\":[\"cpu_architecture\"],\"system_values\":[\"unknown\"],\"trainer_name\":\"\","
        "\"filter\":\"\"}";

/* What a model answers to the request, by its id. */
struct answer {
        char id[128], model[128];
        char component[COMPONENTS_MAX][32];
        double watts[COMPONENTS_MAX];
        size_t n;
        uint64_t count;
};

struct options {
        const char *socket;
        unsigned connections, rate, requests, swaps;
        double seconds;
};

static struct options options = {
        .connections = 4, .rate = 1000, .requests = 10000, .swaps = 1, .seconds = 60
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct answer answers[IDS_MAX]; /* in order of appearance */
static size_t answers_n;
static uint64_t failed;
static unsigned complaints;
static double slowest_s, enough_at;
static atomic_uint_fast64_t tickets, done;
static atomic_bool stopped;

static double now_s(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* JSON, just enough: each function takes a position and returns the one behind what it read, or NULL. */

static const char *skip_space(const char *p)
{
        return p + strspn(p, " \t\r\n");
}

static const char *skip_string(const char *p)
{
        if (*p++ != '"')
                return NULL;
        for (; *p && *p != '"'; p++)
                if (*p == '\\' && !*++p)
                        return NULL;
        return *p ? p + 1 : NULL;
}

static const char *skip_value(const char *p, int depth)
{
        char close = *p == '{' ? '}' : ']';
        size_t n;

        if (*p == '"')
                return skip_string(p);
        if (*p != '{' && *p != '[') {
                n = strcspn(p, ",]} \t\r\n");
                return n ? p + n : NULL;
        }
        if (depth == NESTING_MAX)
                return NULL;
        for (p = skip_space(p + 1); *p != close;) {
                if (close == '}') {
                        p = skip_string(p);
                        if (!p || *(p = skip_space(p)) != ':')
                                return NULL;
                        p = skip_space(p + 1);
                }
                p = skip_value(p, depth + 1);
                if (!p)
                        return NULL;
                p = skip_space(p);
                if (*p == ',')
                        p = skip_space(p + 1);
                else if (*p != close)
                        return NULL;
        }
        return p + 1;
}

/* The value of a key of an object that skip_value() accepted. */
static const char *member(const char *object, const char *key)
{
        size_t n = strlen(key);

        for (const char *p = skip_space(object + 1); *p == '"';) {
                const char *value = skip_space(skip_space(skip_string(p)) + 1);

                if (!strncmp(p + 1, key, n) && p[n + 1] == '"')
                        return value;
                p = skip_space(skip_value(value, 0));
                p = *p == ',' ? skip_space(p + 1) : p;
        }
        return NULL;
}

static void copy_string(const char *value, char *ret, size_t size)
{
        size_t n;

        ret[0] = '\0';
        if (!value || *value != '"')
                return;
        n = strcspn(value + 1, "\"");
        if (n < size) {
                memcpy(ret, value + 1, n);
                ret[n] = '\0';
        }
}

static const char *read_powers(const char *powers, struct answer *a)
{
        if (!powers || *powers != '{')
                return "no powers";
        for (const char *p = skip_space(powers + 1); *p == '"';) {
                const char *value = skip_space(skip_space(skip_string(p)) + 1),
                           *number = skip_space(value + 1);
                char *end;

                if (a->n == COMPONENTS_MAX || *value != '[')
                        return "odd powers";
                copy_string(p, a->component[a->n], sizeof(a->component[a->n]));
                a->watts[a->n] = strtod(number, &end);
                if (end == number || *skip_space(end) != ']')
                        return "not one number for a component";
                if (!isfinite(a->watts[a->n]) || a->watts[a->n] < 0)
                        return "a power that is negative or not finite";
                a->n++;
                p = skip_space(skip_value(value, 0));
                p = *p == ',' ? skip_space(p + 1) : p;
        }
        return a->n ? NULL : "powers is empty";
}

/* What is wrong with the reply, or NULL; the reply's content goes to *a. */
static const char *read_reply(const char *text, struct answer *a)
{
        const char *p = skip_space(text), *why;

        *a = (struct answer){ .n = 0 };
        if (*p != '{' || !skip_value(p, 0) || *skip_space(skip_value(p, 0)))
                return "not one complete JSON object";
        why = read_powers(member(p, "powers"), a);
        copy_string(member(p, "id"), a->id, sizeof(a->id));
        copy_string(member(p, "model"), a->model, sizeof(a->model));
        return why ? why : a->id[0] ? NULL : "no model id";
}

/* All of an answer must be what its model answered before. Called with the lock held. */
static const char *compare_answer(const struct answer *a)
{
        struct answer *known = answers;

        while (known < answers + answers_n && strcmp(known->id, a->id))
                known++;
        if (known == answers + answers_n) {
                if (answers_n == IDS_MAX)
                        return "too many models";
                *known = *a;
                answers_n++;
        }
        known->count++;
        if (known->n != a->n || strcmp(known->model, a->model))
                return "another answer than before from the same model";
        for (size_t i = 0; i < a->n; i++)
                if (strcmp(known->component[i], a->component[i]) || known->watts[i] != a->watts[i])
                        return "other watts than before from the same model";
        return NULL;
}

static bool complete(const char *text)
{
        const char *p = skip_space(text);

        return *p && skip_value(p, 0) != NULL;
}

/* One connection, one request, one reply; returns what went wrong. */
static const char *ask(char reply[REPLY_MAX])
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct pollfd wait = { .fd = fd, .events = POLLIN };
        const char *why = NULL;
        size_t have = 0;
        ssize_t n;

        snprintf(a.sun_path, sizeof(a.sun_path), "%s", options.socket);
        reply[0] = '\0';
        if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)))
                why = "cannot connect";
        else if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(request) - 1)
                why = "cannot send";
        while (!why && !complete(reply)) {
                if (poll(&wait, 1, TIMEOUT_MS) <= 0)
                        why = "no complete reply in time";
                else if ((n = recv(fd, reply + have, REPLY_MAX - 1 - have, 0)) <= 0)
                        why = "connection closed without a complete reply";
                else
                        reply[have += (size_t)n] = '\0';
        }
        if (fd >= 0)
                close(fd);
        return why;
}

static void account(const char *why, const char *reply, const struct answer *a, double took_s)
{
        pthread_mutex_lock(&lock);
        if (!why)
                why = compare_answer(a);
        if (why) {
                failed++;
                if (complaints++ < COMPLAINTS_MAX)
                        fprintf(stderr, "wattloop-demo-client: %s: '%.200s'\n", why, reply);
        }
        if (took_s > slowest_s)
                slowest_s = took_s;
        if (!enough_at && answers_n > options.swaps && atomic_load(&done) >= options.requests)
                enough_at = now_s();
        pthread_mutex_unlock(&lock);
}

static void *work(void *arg)
{
        double origin = *(const double *)arg;
        char *reply = malloc(REPLY_MAX);
        struct answer a;

        while (reply && !atomic_load(&stopped)) {
                double due = origin + (double)atomic_fetch_add(&tickets, 1) / options.rate, before;
                const char *why;

                for (double left; !atomic_load(&stopped) && (left = due - now_s()) > 0;) {
                        struct timespec t = { 0, (long)(fmin(left, 0.1) * 1e9) };

                        nanosleep(&t, NULL);
                }
                before = now_s();
                why = ask(reply);
                if (!why)
                        why = read_reply(reply, &a);
                atomic_fetch_add(&done, 1);
                account(why, reply, &a, now_s() - before);
        }
        free(reply);
        return NULL;
}

static bool finished(double origin)
{
        bool r;

        pthread_mutex_lock(&lock);
        r = enough_at && now_s() - enough_at > AFTERWARDS_S;
        pthread_mutex_unlock(&lock);
        return r || now_s() - origin > options.seconds;
}

static void on_signal(int number)
{
        (void)number;
        atomic_store(&stopped, true);
}

static const char usage[] = "usage: wattloop-demo-client --socket PATH [--connections N] [--rate N] "
                            "[--requests N] [--swaps N] [--seconds N]\n"
                            "Ends when it made that many requests and saw that many model swaps, at the "
                            "latest after N seconds. Exit status\n"
                            "1 when a request failed or there were too few.\n";

static void parse(int argc, char **argv)
{
        static const struct option longs[] = {
                { "socket", required_argument, NULL, 's' }, { "connections", required_argument, NULL, 'c' },
                { "rate", required_argument, NULL, 'r' },   { "requests", required_argument, NULL, 'n' },
                { "swaps", required_argument, NULL, 'w' },  { "seconds", required_argument, NULL, 't' },
                { "help", no_argument, NULL, 'h' },         { NULL, 0, NULL, 0 },
        };

        for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
                unsigned long v = optarg ? strtoul(optarg, NULL, 10) : 0;

                switch (c) {
                case 's':
                        options.socket = optarg;
                        break;
                case 'c':
                        options.connections = (unsigned)(v < 1 ? 1 : v > THREADS_MAX ? THREADS_MAX : v);
                        break;
                case 'r':
                        options.rate = (unsigned)(v < 1 ? 1 : v);
                        break;
                case 'n':
                        options.requests = (unsigned)v;
                        break;
                case 'w':
                        options.swaps = (unsigned)v;
                        break;
                case 't':
                        options.seconds = (double)v;
                        break;
                case 'h':
                        fputs(usage, stdout);
                        exit(0);
                default:
                        exit(2);
                }
        }
        if (!options.socket || optind != argc) {
                fputs(usage, stderr);
                exit(2);
        }
}

static int report(double seconds)
{
        uint64_t n = atomic_load(&done);
        size_t swaps = answers_n ? answers_n - 1 : 0;

        for (size_t i = 0; i < answers_n; i++) {
                printf("model %.12s %s: %" PRIu64 " replies, package %.2f W (simulated)\n", answers[i].id,
                       answers[i].model, answers[i].count, answers[i].watts[0]);
        }
        printf("requests=%" PRIu64 " failed=%" PRIu64 " swaps=%zu seconds=%.1f slowest_ms=%.1f\n", n, failed,
               swaps, seconds, slowest_s * 1e3);
        return failed || n < options.requests || swaps < options.swaps;
}

int main(int argc, char **argv)
{
        struct sigaction act = { .sa_handler = on_signal };
        pthread_t threads[THREADS_MAX];
        double origin = now_s();
        unsigned n = 0;

        parse(argc, argv);
        sigaction(SIGTERM, &act, NULL);
        sigaction(SIGINT, &act, NULL);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        while (n < options.connections && !pthread_create(&threads[n], NULL, work, &origin))
                n++;
        while (!atomic_load(&stopped) && !finished(origin))
                nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
        atomic_store(&stopped, true);
        for (unsigned i = 0; i < n; i++)
                pthread_join(threads[i], NULL);
        return report(now_s() - origin);
}
