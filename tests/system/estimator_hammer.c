/* SPDX-License-Identifier: Apache-2.0 */
/* estimator_hammer SOCKET CLIENTS SECONDS: clients that ask as fast as they are answered, half of them on a
 * new connection each time as Kepler does. The models under test are called Const_<w> and always say <w> W,
 * so that a reply that mixes two models shows. Prints one line: requests, failed, models seen, slowest reply.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"

#define CLIENTS_MAX 256
#define ROWS        8
#define MODELS_MAX  1024
#define REPLY_MAX   65536

static const char request[] =
        "{\"metrics\":[\"bpf_cpu_time_ms\"],\"values\":[[1],[2],[3],[4],[5],[6],[7],[8]],"
        "\"output_type\":\"AbsPower\",\"source\":\"acpi\",\"system_features\":[],"
        "\"system_values\":[]}";

static const char *socket_path;
static uint64_t end_ns;
static atomic_ulong requests, failed;
static atomic_ullong slowest_ns;
static atomic_bool seen[MODELS_MAX];

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

/* One read, as Kepler's Go client does. */
static bool exchange(int fd, char *reply, size_t size)
{
        ssize_t n;

        if (send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request))
                return false;
        n = recv(fd, reply, size - 1, 0);
        if (n <= 0)
                return false;
        reply[n] = '\0';
        return true;
}

static bool consistent(const char *reply)
{
        CLEANUP(json_decrefp) json_t *document = NULL;
        const char *name = NULL;
        json_t *watts;
        long w;

        if (json_parse(reply, strlen(reply), "reply", &document, NULL) < 0 ||
            json_get_string(document, "model", &name, NULL) < 0 || sscanf(name, "Const_%ld", &w) != 1)
                return false;
        watts = json_object_get(json_object_get(document, "powers"), "platform");
        if (json_array_size(watts) != ROWS || w < 0 || w >= MODELS_MAX)
                return false;
        for (size_t i = 0; i < ROWS; i++)
                if ((long)json_number_value(json_array_get(watts, i)) != w)
                        return false;
        atomic_store(&seen[w], true);
        return true;
}

static void note_time(uint64_t ns)
{
        unsigned long long old = atomic_load(&slowest_ns);

        while (ns > old && !atomic_compare_exchange_weak(&slowest_ns, &old, ns))
                ;
}

static void *client(void *arg)
{
        bool keep = (uintptr_t)arg % 2;
        char reply[REPLY_MAX] = "";
        int fd = -1;

        while (clock_monotonic_ns() < end_ns) {
                uint64_t begin = clock_monotonic_ns();

                if (fd < 0)
                        fd = dial();
                if (fd < 0 || !exchange(fd, reply, sizeof(reply)) || !consistent(reply)) {
                        if (atomic_fetch_add(&failed, 1) == 0)
                                (void)fprintf(stderr, "first failure: fd %d, reply '%.300s'\n", fd, reply);
                        closep(&fd);
                        fd = -1;
                }
                note_time(clock_monotonic_ns() - begin);
                atomic_fetch_add(&requests, 1);
                if (!keep) {
                        closep(&fd);
                        fd = -1;
                }
        }
        closep(&fd);
        return NULL;
}

int main(int argc, char **argv)
{
        pthread_t threads[CLIENTS_MAX];
        int n = argc == 4 ? (int)strtol(argv[2], NULL, 10) : 0, models = 0;

        if (n < 1 || n > CLIENTS_MAX) {
                (void)fprintf(stderr, "usage: estimator_hammer SOCKET CLIENTS SECONDS\n");
                return 2;
        }
        socket_path = argv[1];
        end_ns = clock_monotonic_ns() + strtoul(argv[3], NULL, 10) * NS_PER_S;
        for (int i = 0; i < n; i++)
                if (pthread_create(&threads[i], NULL, client, (void *)(uintptr_t)i) != 0)
                        return 1;
        for (int i = 0; i < n; i++)
                (void)pthread_join(threads[i], NULL);
        for (int i = 0; i < MODELS_MAX; i++)
                models += atomic_load(&seen[i]);
        (void)printf("requests=%lu failed=%lu models=%d slowest_ms=%llu\n", atomic_load(&requests),
                     atomic_load(&failed), models, atomic_load(&slowest_ns) / NS_PER_MS);
        return atomic_load(&failed) > 0;
}
