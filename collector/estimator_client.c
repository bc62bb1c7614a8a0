/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/estimator_client.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"

#define REQUEST_MAX ((size_t)64 << 10)
#define CHUNK       ((size_t)4096)

/* Wait until the descriptor is ready or the deadline has passed. */
static int wait_ready(int fd, short events, uint64_t deadline_ns)
{
        struct pollfd p = { .fd = fd, .events = events };

        for (;;) {
                uint64_t now = clock_monotonic_ns();
                int r;

                if (now >= deadline_ns)
                        return -ETIMEDOUT;
                r = poll(&p, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1);
                if (r > 0)
                        return 0;
                if (r < 0 && errno != EINTR)
                        return -errno;
        }
}

static int connect_to(const char *path, uint64_t deadline_ns, int *ret_fd)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        CLEANUP(closep) int fd = -1;
        int r;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path));
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        /* A unix socket whose backlog is full says EAGAIN and cannot be polled for: that is "busy". */
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
                if (errno != EINPROGRESS)
                        return -errno;
                r = wait_ready(fd, POLLOUT, deadline_ns);
                if (r < 0)
                        return r;
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int send_all(int fd, const struct buf *request, uint64_t deadline_ns)
{
        size_t sent = 0;

        while (sent < request->size) {
                ssize_t n = send(fd, request->data + sent, request->size - sent, MSG_NOSIGNAL);
                int r;

                if (n >= 0) {
                        sent += (size_t)n;
                        continue;
                }
                if (errno == EINTR)
                        continue;
                if (errno != EAGAIN)
                        return -errno;
                r = wait_ready(fd, POLLOUT, deadline_ns);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Is what has arrived a whole JSON text? Only worth a look when it ends like one. */
static bool complete(const struct buf *reply, json_t **ret, struct err *e)
{
        size_t n = reply->size;

        while (n > 0 && strchr(" \t\r\n", reply->data[n - 1]))
                n--;
        return n > 0 && reply->data[n - 1] == '}' && json_parse(reply->data, n, "reply", ret, e) == 0;
}

static int receive(int fd, uint64_t deadline_ns, struct buf *reply, json_t **ret, struct err *e)
{
        for (;;) {
                char *p = buf_reserve(reply, CHUNK);
                ssize_t n;
                int r;

                if (!p)
                        return err_set(e, reply->failed, "the reply is larger than %zu bytes", reply->max);
                n = recv(fd, p, CHUNK, 0);
                if (n > 0) {
                        buf_grew(reply, (size_t)n);
                        if (complete(reply, ret, NULL))
                                return 0;
                        continue;
                }
                if (n == 0 && reply->size == 0)
                        return err_set(e, -EPIPE, "closed without a reply");
                if (n == 0)
                        return complete(reply, ret, e)
                                       ? 0
                                       : err_set(e, -EBADMSG, "the reply is not a JSON object");
                if (errno == EINTR)
                        continue;
                if (errno != EAGAIN)
                        return err_sys(e, "no reply");
                r = wait_ready(fd, POLLIN, deadline_ns);
                if (r < 0)
                        return err_set(e, r, "no complete reply within %d ms", ESTIMATOR_TIMEOUT_MS);
        }
}

static int exchange(const char *path, const struct buf *request, struct buf *reply, json_t **ret,
                    struct err *e)
{
        uint64_t deadline_ns = clock_monotonic_ns() + ESTIMATOR_TIMEOUT_MS * NS_PER_MS;
        CLEANUP(closep) int fd = -1;
        int r;

        r = connect_to(path, deadline_ns, &fd);
        if (r < 0)
                return err_set(e, r, "cannot connect: %s", strerror(-r));
        r = send_all(fd, request, deadline_ns);
        if (r < 0)
                return err_set(e, r, "cannot send: %s", strerror(-r));
        return receive(fd, deadline_ns, reply, ret, e);
}

int estimator_ask(const char *socket_path, const json_t *request, json_t **ret, struct err *e)
{
        struct buf out, reply;
        json_t *object = NULL;
        int r;

        buf_init(&out, REQUEST_MAX);
        buf_init(&reply, ESTIMATOR_REPLY_MAX);
        r = json_write(request, &out);
        if (r < 0)
                (void)err_set(e, r, "cannot write the request: %s", strerror(-r));
        else
                r = exchange(socket_path, &out, &reply, &object, e);
        buf_done(&out);
        buf_done(&reply);
        if (r < 0)
                return err_prefix(e, r, "estimator '%s'", socket_path);
        *ret = object;
        return 0;
}
