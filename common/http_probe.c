/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http_probe.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include "common/clock.h"

#define PROBE_SCHEME      "http://"
#define PROBE_CONNECT_MS  1000 /* libcurl has more patience */
#define PROBE_REQUEST_MAX ((size_t)64 << 10)
#define PROBE_CHUNK       2048

/* Where a URL leads, as parts of it. */
struct target {
        char host[256], port[8];
        const char *authority, *path; /* borrowed */
        int authority_size;
};

/* ---- whether it is one for us ---- */

static bool is_plain(const char *text)
{
        for (; *text; text++)
                if (!isprint((unsigned char)*text))
                        return false;
        return true;
}

static bool has_proxy(const struct http_request *request)
{
        return request->proxy || getenv("http_proxy") || getenv("all_proxy") || getenv("ALL_PROXY");
}

static bool is_conditional(const struct http_request *request)
{
        bool conditional = false;

        for (const char *const *h = request->headers; h && *h; h++) {
                if (!is_plain(*h))
                        return false;
                conditional |= strncasecmp(*h, "if-none-match:", strlen("if-none-match:")) == 0;
        }
        return conditional;
}

/* http://HOST[:PORT]/PATH, HOST a name, an address, or an address of IPv6 in brackets. */
static bool split(const char *url, struct target *t)
{
        const char *host, *end, *port;
        int n;

        if (strncmp(url, PROBE_SCHEME, strlen(PROBE_SCHEME)) != 0 || !is_plain(url) || strpbrk(url, " #"))
                return false;
        t->authority = host = url + strlen(PROBE_SCHEME);
        t->path = host + strcspn(host, "/?");
        t->authority_size = (int)(t->path - host);
        if (*t->path != '/' || memchr(host, '@', (size_t)t->authority_size))
                return false;
        host += *host == '[';
        end = host + strcspn(host, t->authority[0] == '[' ? "]/" : ":/");
        port = end + (*end == ']');
        n = *port == ':' ? (int)(t->path - port) - 1 : 0;
        if (snprintf(t->host, sizeof(t->host), "%.*s", (int)(end - host), host) >= (int)sizeof(t->host) ||
            snprintf(t->port, sizeof(t->port), "%.*s", n > 0 ? n : 2, n > 0 ? port + 1 : "80") >=
                    (int)sizeof(t->port))
                return false;
        return *t->host && (port == t->path || *port == ':');
}

/* ---- the exchange ---- */

static bool wait_for(int fd, short events, uint64_t deadline_ns)
{
        uint64_t now;

        while (now = clock_monotonic_ns(), now < deadline_ns) {
                struct pollfd p = { .fd = fd, .events = events };
                uint64_t ms = (deadline_ns - now) / NS_PER_MS + 1;
                int n = poll(&p, 1, ms < INT_MAX ? (int)ms : INT_MAX);

                if (n > 0 || (n < 0 && errno != EINTR))
                        return n > 0;
        }
        return false;
}

static int dial_address(const struct addrinfo *a, uint64_t deadline_ns)
{
        CLEANUP(closep) int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        socklen_t size = sizeof(int);
        int error = 0;

        if (fd < 0)
                return -1;
        if (connect(fd, a->ai_addr, a->ai_addrlen) < 0)
                error = errno;
        if (error == EINPROGRESS && wait_for(fd, POLLOUT, deadline_ns) &&
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
                return -1;
        return error == 0 ? TAKE_FD(fd) : -1;
}

static int dial(const struct target *t)
{
        uint64_t deadline_ns = clock_monotonic_ns() + PROBE_CONNECT_MS * NS_PER_MS;
        const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
        struct addrinfo *all = NULL;
        int fd = -1;

        if (getaddrinfo(t->host, t->port, &hints, &all) != 0)
                return -1;
        for (const struct addrinfo *a = all; a && fd < 0; a = a->ai_next)
                fd = dial_address(a, deadline_ns);
        freeaddrinfo(all);
        return fd;
}

static int write_request(const char *user_agent, const struct http_request *request, const struct target *t,
                         struct buf *out)
{
        (void)buf_printf(out, "GET %s HTTP/1.1\r\nHost: %.*s\r\nUser-Agent: %s\r\nConnection: close\r\n",
                         t->path, t->authority_size, t->authority, user_agent);
        for (const char *const *h = request->headers; *h; h++)
                (void)buf_printf(out, "%s\r\n", *h);
        return buf_puts(out, "\r\n");
}

/* All of it, or -1. */
static int send_all(int fd, const struct buf *text, uint64_t deadline_ns)
{
        for (size_t sent = 0; sent < text->size;) {
                ssize_t n = send(fd, text->data + sent, text->size - sent, MSG_NOSIGNAL);

                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return -1;
                if (n < 0 && !wait_for(fd, POLLOUT, deadline_ns))
                        return -1;
                sent += n > 0 ? (size_t)n : 0;
        }
        return 0;
}

/* Until the empty line; what is behind it is of no interest. -1: the peer closed, or talks for ever. */
static int read_head(int fd, struct buf *ret, uint64_t deadline_ns)
{
        while (!ret->data || !strstr(ret->data, "\r\n\r\n")) {
                char *room = buf_reserve(ret, PROBE_CHUNK);
                ssize_t n;

                if (!room)
                        return -1;
                if (!wait_for(fd, POLLIN, deadline_ns))
                        return -ETIMEDOUT;
                n = recv(fd, room, PROBE_CHUNK, 0);
                if (n <= 0 && !(n < 0 && (errno == EAGAIN || errno == EINTR)))
                        return -1;
                buf_grew(ret, n > 0 ? (size_t)n : 0);
        }
        return 0;
}

/* The status that a head begins with, 0 for none that needs no body. */
static long status_of(const char *head)
{
        static const struct {
                const char *text;
                long status;
        } bodiless[] = { { "304", 304 }, { "429", 429 }, { "503", 503 } };

        if (strncmp(head, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)head[7]) || head[8] != ' ')
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(bodiless); i++)
                if (strncmp(head + 9, bodiless[i].text, 3) == 0 && !isdigit((unsigned char)head[12]))
                        return bodiless[i].status;
        return 0;
}

static void take_head(const char *head, struct http_response *ret)
{
        const char *line = head, *end;

        while ((end = strstr(line, "\r\n")) && end != line) {
                http_take_header(ret, line, (size_t)(end - line));
                line = end + 2;
        }
}

int http_probe(const char *user_agent, const struct http_request *request, struct http_response *ret,
               struct err *e)
{
        long timeout_ms = request->timeout_ms > 0 ? request->timeout_ms : HTTP_TIMEOUT_MS;
        uint64_t deadline_ns = clock_monotonic_ns() + (uint64_t)timeout_ms * NS_PER_MS;
        CLEANUP(buf_done) struct buf text = { .max = PROBE_REQUEST_MAX };
        CLEANUP(closep) int fd = -1;
        struct target t;
        int r;

        if (strcmp(request->method, "GET") != 0 || has_proxy(request) || request->userpwd ||
            !is_conditional(request) || !split(request->url, &t))
                return 0;
        fd = dial(&t);
        if (fd < 0 || write_request(user_agent, request, &t, &text) < 0 ||
            send_all(fd, &text, deadline_ns) < 0)
                return 0;
        buf_clear(&text);
        r = read_head(fd, &text, deadline_ns);
        if (r == -ETIMEDOUT)
                return err_set(e, r, "GET " PROBE_SCHEME "%.*s%.*s: timed out after %ld ms", t.authority_size,
                               t.authority, (int)strcspn(t.path, "?"), t.path, timeout_ms);
        if (r < 0 || status_of(text.data) == 0)
                return 0;
        *ret = (struct http_response){ .status = status_of(text.data) };
        take_head(text.data, ret);
        return 1;
}
