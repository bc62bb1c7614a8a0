/* SPDX-License-Identifier: Apache-2.0 */
/* estimator_load prepare STORE
 * estimator_load run SOCKET STORE CLIENTS RATE SWAPS
 * Offers RATE requests of 10 rows a second to an estimator, whether it answers in time or not (open loop),
 * over CLIENTS connections, of which one is silent, one sends a byte a second, one goes away in mid-request
 * and one sends more than a request may have. Meanwhile the store's current model is changed SWAPS times,
 * each time when the one before answers. The models, which `prepare` writes, are trees that say as many watts
 * as their number is, so that an answer of two models shows. Prints one line of key=value; times are from
 * when a request was due. Exit status 1 when one failed. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/clock.h"
#include "tests/bench/models.h"

#define PLACE       "rapl-sysfs/AbsPower"
#define MODELS      8
#define FIRST       40 /* the first model's number */
#define ROWS        10
#define CLIENTS_MAX 1000
#define BAD         4     /* clients that are no good */
#define PENDING_MAX 20000 /* requests of a client that wait for the one before */
#define REPLY_MAX   8192
#define TIMES_MAX   (1 << 22)
#define TOO_MUCH    (((size_t)16 << 20) + 1)
#define SWAP_NS     (10 * NS_PER_MS) /* at least, between swaps */
#define STUCK_NS    (UINT64_C(10) * NS_PER_S)

static const char request[] =
        "{\"metrics\":[\"bpf_cpu_time_ms\",\"bpf_page_cache_hit\"],\"values\":[[412,0],[3.5,0],[7001,12],[0,"
        "0],"
        "[33.25,3],[1500,90],[7999,1],[64,0],[2500,4],[5.75,0]],\"output_type\":\"AbsPower\",\"source\":"
        "\"intel_rapl\",\"system_features\":[\"cpu_architecture\"],\"system_values\":[\"Zed Lake\"],"
        "\"trainer_name\":\"\",\"filter\":\"\"}";

struct client {
        int fd;
        bool busy;
        size_t got, sent_of_it; /* bytes of the reply; and requests done */
        uint64_t due[PENDING_MAX];
        size_t first, n; /* of due, a ring */
        char reply[REPLY_MAX];
};

static const char *socket_path, *store;
static atomic_bool done;
static atomic_int latest;        /* number of the model of the last answer */
static atomic_ulong refused_big; /* times that too much was refused in words */
static unsigned long swapped, requests, failed, mixed;
static bool stuck;
static float *times_us;

static int dial(void)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
                return fd;
        closep(&fd);
        return -1;
}

/* ---- models ---- */

static int prepare(void)
{
        char id[HASH_HEX_SIZE];

        for (int i = MODELS - 1; i >= 0; i--) {
                struct made m;
                int r;

                made_model(&m, MADE_GBR, "AbsPower", false, FIRST + i, true);
                r = made_install(store, PLACE, &m, id);
                made_done(&m);
                if (r < 0 || made_point(store, PLACE, id) < 0)
                        return 1;
                (void)printf("%s\n", id);
        }
        return 0;
}

static bool find_ids(char ids[MODELS][HASH_HEX_SIZE])
{
        for (int i = 0; i < MODELS; i++) {
                struct made m;
                int r;

                made_model(&m, MADE_GBR, "AbsPower", false, FIRST + i, true);
                r = hash_entries_hex(m.entries, m.n, ids[i]);
                made_done(&m);
                if (r < 0)
                        return false;
        }
        return true;
}

static void *swap(void *arg)
{
        unsigned long swaps = *(unsigned long *)arg;
        char ids[MODELS][HASH_HEX_SIZE];

        stuck = !find_ids(ids);
        while (swapped < swaps && !stuck) {
                uint64_t begin = clock_monotonic_ns();
                int next = (int)(swapped + 1) % MODELS;

                stuck = made_point(store, PLACE, ids[next]) < 0;
                while (!stuck && atomic_load(&latest) != FIRST + next) {
                        (void)usleep(200);
                        stuck = clock_monotonic_ns() - begin > STUCK_NS;
                }
                swapped += !stuck;
                while (clock_monotonic_ns() - begin < SWAP_NS)
                        (void)usleep(500);
        }
        atomic_store(&done, true);
        return NULL;
}

/* ---- clients that are no good ---- */

static void *be_slow(void *arg)
{
        int silent = dial(), slow = dial();
        size_t at = 0;

        (void)arg;
        for (unsigned long turn = 0; !atomic_load(&done); turn++) {
                int leaving = dial();

                if (leaving >= 0 && send(leaving, request, sizeof(request) / 2, MSG_NOSIGNAL) < 0)
                        (void)fprintf(stderr, "estimator_load: a client cannot leave in mid-request\n");
                closep(&leaving);
                if (turn % 50 == 0 && at < strlen(request) - 1 &&
                    send(slow, request + at++, 1, MSG_NOSIGNAL) != 1) { /* timed out: again */
                        closep(&slow);
                        slow = dial();
                        at = 0;
                }
                (void)usleep(20000);
        }
        closep(&silent);
        closep(&slow);
        return NULL;
}

static void *be_big(void *arg)
{
        static const char head[] = "{\"metrics\":[\"";
        static char chunk[65536];

        (void)arg;
        memset(chunk, 'x', sizeof(chunk));
        while (!atomic_load(&done)) {
                size_t sent = strlen(head);
                char reply[256] = "";
                int fd = dial();

                if (fd < 0 || send(fd, head, sent, MSG_NOSIGNAL) < 0)
                        sent = TOO_MUCH;
                while (sent < TOO_MUCH && !atomic_load(&done)) {
                        size_t n = TOO_MUCH - sent < sizeof(chunk) ? TOO_MUCH - sent : sizeof(chunk);
                        ssize_t r = send(fd, chunk, n, MSG_NOSIGNAL);

                        if (r < 0)
                                break;
                        sent += (size_t)r;
                }
                if (fd >= 0 && !atomic_load(&done) && recv(fd, reply, sizeof(reply) - 1, 0) > 0 &&
                    strstr(reply, "too large"))
                        atomic_fetch_add(&refused_big, 1);
                closep(&fd);
                (void)usleep(100000);
        }
        return NULL;
}

/* ---- clients ---- */

/* The model's number when each of the 4 x ROWS watts is it; 0 for an answer of two models; -1 for none. */
static int number_of(const char *reply)
{
        const char *name = strstr(reply, "\"model\": \"GradientBoostingRegressorTrainer_");
        const char *end = strstr(reply, "}, \"msg\": \"\"");
        int number, n = 0;

        if (!name || !end || strncmp(reply, "{\"powers\": {", 12) ||
            sscanf(strchr(name, '_'), "_%d", &number) != 1)
                return -1;
        for (const char *p = reply; p < end; p++)
                if ((*p == '[' || *p == ' ') && p[1] >= '0' && p[1] <= '9') {
                        if (strtod(p + 1, NULL) < number || strtod(p + 1, NULL) > number)
                                return 0;
                        n++;
                }
        return n == 4 * ROWS ? number : -1;
}

static void fail_client(struct client *c)
{
        if (failed++ == 0)
                (void)fprintf(stderr, "first failure: fd %d, reply '%.300s'\n", c->fd, c->reply);
        closep(&c->fd);
        c->fd = -1;
        c->busy = false;
        c->n = 0;
}

static void send_next(struct client *c)
{
        if (c->busy || c->n == 0)
                return;
        c->busy = true;
        c->got = 0;
        if (send(c->fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request))
                fail_client(c);
}

static void take_reply(struct client *c)
{
        ssize_t n = recv(c->fd, c->reply + c->got, sizeof(c->reply) - 1 - c->got, 0);
        int number;

        if (n <= 0) {
                fail_client(c);
                return;
        }
        c->got += (size_t)n;
        c->reply[c->got] = '\0';
        if (c->reply[c->got - 1] != '}' || !strstr(c->reply, "core_ratio"))
                return;
        number = number_of(c->reply);
        if (number < 0) {
                fail_client(c);
                return;
        }
        mixed += number == 0;
        atomic_store(&latest, number);
        if (requests < TIMES_MAX)
                times_us[requests] = (float)(clock_monotonic_ns() - c->due[c->first]) / 1000;
        requests++;
        c->first = (c->first + 1) % PENDING_MAX;
        c->n--;
        c->busy = false;
        send_next(c);
}

static bool open_clients(struct client *clients, size_t n, int epoll)
{
        for (size_t i = 0; i < n; i++) {
                struct epoll_event event = { .events = EPOLLIN, .data.ptr = &clients[i] };

                clients[i].fd = dial();
                if (clients[i].fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event) < 0)
                        return false;
        }
        return true;
}

/* Until all swaps are done and all requests answered. Returns for how long it offered some, in ns. */
static uint64_t offer(struct client *clients, size_t n, int epoll, unsigned long rate)
{
        uint64_t begin = clock_monotonic_ns(), now = begin, end = 0;
        unsigned long offered = 0;

        while (end == 0 || (requests + failed < offered && now - end < STUCK_NS)) {
                struct epoll_event events[64];
                uint64_t due;
                struct timespec wait = { 0, 0 };
                int ready;

                now = clock_monotonic_ns();
                if (end == 0 && atomic_load(&done))
                        end = now;
                while (due = begin + offered * NS_PER_S / rate, end == 0 && due <= now) {
                        struct client *c = &clients[offered++ % n];

                        if (c->fd < 0 || c->n == PENDING_MAX) {
                                failed++;
                                continue;
                        }
                        c->due[(c->first + c->n++) % PENDING_MAX] = due;
                        send_next(c);
                }
                wait.tv_nsec = end == 0 && due > now ? (long)(due - now) : (long)NS_PER_MS;
                ready = epoll_pwait2(epoll, events, 64, &wait, NULL);
                for (int i = 0; i < ready; i++)
                        take_reply(events[i].data.ptr);
        }
        failed += offered > requests + failed ? offered - requests - failed : 0;
        return end - begin;
}

static int by_size(const void *a, const void *b)
{
        const float *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

static void report(uint64_t ns)
{
        size_t n = requests < TIMES_MAX ? requests : TIMES_MAX;

        qsort(times_us, n, sizeof(*times_us), by_size);
        (void)printf("requests=%lu failed=%lu mixed=%lu swaps=%lu seconds=%.1f p50_us=%.0f p99_us=%.0f "
                     "max_us=%.0f "
                     "too_large=%lu\n",
                     requests, failed, mixed, swapped, (double)ns / NS_PER_S, n ? (double)times_us[n / 2] : 0,
                     n ? (double)times_us[n * 99 / 100] : 0, n ? (double)times_us[n - 1] : 0,
                     atomic_load(&refused_big));
}

static int run(size_t n, unsigned long rate, unsigned long swaps)
{
        struct client *clients = calloc(n, sizeof(*clients));
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        pthread_t threads[3];
        uint64_t ns;

        times_us = malloc(TIMES_MAX * sizeof(*times_us));
        if (!clients || !times_us || epoll < 0 || !open_clients(clients, n, epoll)) {
                (void)fprintf(stderr, "estimator_load: cannot connect %zu clients: %s\n", n, strerror(errno));
                return 1;
        }
        if (pthread_create(&threads[0], NULL, swap, &swaps) != 0 ||
            pthread_create(&threads[1], NULL, be_slow, NULL) != 0 ||
            pthread_create(&threads[2], NULL, be_big, NULL) != 0)
                return 1;
        ns = offer(clients, n, epoll, rate);
        for (size_t i = 0; i < 3; i++)
                (void)pthread_join(threads[i], NULL);
        report(ns);
        for (size_t i = 0; i < n; i++)
                closep(&clients[i].fd);
        free(clients);
        free(times_us);
        return failed > 0 || mixed > 0 || stuck;
}

int main(int argc, char **argv)
{
        size_t clients = argc == 7 ? strtoul(argv[4], NULL, 10) : 0;
        unsigned long rate = argc == 7 ? strtoul(argv[5], NULL, 10) : 0;

        (void)signal(SIGPIPE, SIG_IGN);
        if (argc == 3 && !strcmp(argv[1], "prepare")) {
                store = argv[2];
                return prepare();
        }
        if (argc != 7 || strcmp(argv[1], "run") || clients <= BAD || clients > CLIENTS_MAX || rate == 0) {
                (void)fprintf(stderr,
                              "usage: estimator_load prepare STORE | run SOCKET STORE CLIENTS RATE SWAPS\n");
                return 2;
        }
        socket_path = argv[2];
        store = argv[3];
        return run(clients - BAD, rate, strtoul(argv[6], NULL, 10));
}
