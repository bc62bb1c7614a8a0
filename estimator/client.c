/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/client.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "estimator/answer.h"
#include "estimator/request.h"

#define READ_CHUNK ((size_t)64 << 10) /* at most per turn, so that no client holds up the others */
#define KEEP_MAX   ((size_t)64 << 10) /* memory that a connection keeps between requests */
/* A request that is larger gets room for the largest: untouched pages cost nothing, copies and page faults of
 * a buffer that grows by doubling would hold up all others. */
#define ALL_AT_ONCE ((size_t)1 << 20)

void client_init(struct client *c, int fd, size_t request_max)
{
        *c = (struct client){ .fd = fd };
        buf_init(&c->in, request_max + READ_CHUNK);
        buf_init(&c->out, REPLY_MAX);
}

static void count(struct client *c, size_t now, const struct client_service *service)
{
        *service->buffered += now - c->counted;
        c->counted = now;
}

void client_done(struct client *c, const struct client_service *service)
{
        count(c, 0, service);
        buf_done(&c->in);
        buf_done(&c->out);
        if (c->fd >= 0)
                (void)close(TAKE_FD(c->fd));
}

static bool waits_for_reader(const struct client *c)
{
        return c->out.size > 0;
}

static void shrink(struct buf *b)
{
        if (b->size == 0 && b->cap > KEEP_MAX)
                buf_done(b);
}

/* The whole reply in one send when the socket takes it; else the rest when it is writable again. */
static int flush(struct client *c)
{
        while (c->sent < c->out.size) {
                ssize_t n = send(c->fd, c->out.data + c->sent, c->out.size - c->sent, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return 0;
                if (n < 0)
                        return -errno;
                c->sent += (size_t)n;
        }
        if (c->out.size > 0)
                c->progressed = true;
        buf_clear(&c->out);
        shrink(&c->out);
        c->sent = 0;
        return 0;
}

/* 1: bytes came; 0: none for now; negative: the peer is gone. */
static int receive(struct client *c)
{
        char bytes[READ_CHUNK]; /* so that connections hold memory for what came, not for what may come */
        ssize_t n;
        int r;

        do {
                n = recv(c->fd, bytes, sizeof(bytes), 0);
        } while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EAGAIN ? 0 : -errno;
        if (n == 0)
                return -EPIPE; /* whatever it had begun to say will never be a request */
        if (c->in.size > ALL_AT_ONCE)
                (void)buf_reserve(&c->in, c->in.max - c->in.size); /* appending says so when it fails */
        r = buf_append(&c->in, bytes, (size_t)n);
        return r < 0 ? r : 1;
}

static int reject(struct client *c, const char *text, const struct client_service *service)
{
        int r = service->reject(service->arg, text, &c->out);

        c->ending = true;
        return r < 0 ? r : flush(c);
}

/* One object that begins at *start of `in`. 1: answered; 0: not whole yet, or rejected; negative: over. */
static int take_request(struct client *c, size_t *start, const struct client_service *service)
{
        const char *data = c->in.data + *start;
        size_t size = c->in.size - *start, end;
        int r;

        r = frame_scan(&c->frame, data, size, &end);
        if (r < 0)
                return reject(c, "a request is a JSON object", service);
        if ((r == 0 ? size : end) > service->request_max)
                return reject(c, "request is too large", service);
        if (c->frame.commas > REQUEST_VALUES_MAX)
                return reject(c, "request has too many values", service);
        if (r == 0)
                return 0;

        r = service->answer(service->arg, data, end, &c->out);
        if (r < 0)
                return r;
        *start += end;
        c->frame = (struct frame){ 0 };
        r = flush(c);
        return r < 0 ? r : 1;
}

static int take_requests(struct client *c, const struct client_service *service)
{
        size_t start = 0;
        int r = 1;

        while (r > 0 && start < c->in.size && !waits_for_reader(c) && !c->ending)
                r = take_request(c, &start, service);
        if (r < 0)
                return r;

        buf_consume(&c->in, c->ending ? c->in.size : start);
        shrink(&c->in);
        count(c, c->in.size + c->out.size, service);
        if (*service->buffered > service->buffered_max && waits_for_reader(c))
                return -ENOBUFS; /* it asks for more than it reads; there is nothing to tell it */
        if (*service->buffered > service->buffered_max && c->in.size > 0 && !waits_for_reader(c) &&
            !c->ending) {
                r = reject(c, "too many bytes of requests are under way", service);
                buf_clear(&c->in);
                shrink(&c->in);
                count(c, 0, service);
        }
        return r < 0 ? r : 0;
}

int client_handle(struct client *c, uint32_t events, const struct client_service *service)
{
        int r;

        r = flush(c);
        if (r < 0)
                return r;
        if (!waits_for_reader(c) && !c->ending && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                r = receive(c);
                if (r < 0)
                        return r;
        }
        r = take_requests(c, service);
        if (r < 0)
                return r;
        if (waits_for_reader(c))
                return EPOLLOUT;
        return c->ending ? -ESHUTDOWN : EPOLLIN;
}
