/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <string.h>
#include "common/clock.h"
#include "common/num.h"
#include "common/prom.h"

#define CONNECTIONS_MAX      64U
#define CONNECTION_TIMEOUT_S 10U
#define BACKLOG              64

struct server {
        struct MHD_Daemon *daemon;
        char *text; /* owned */
        size_t size;
        void (*render)(void *context);                      /* NULL: texts are published unasked */
        void (*render_top)(void *context, struct buf *out); /* NULL: there is no top */
        struct buf top;
        void *context;
        bool outdated, top_outdated;
        uint64_t ticked_ns; /* 0: never */
        char address[NI_MAXHOST + NI_MAXSERV + 4];
};

static bool is_loopback(const struct sockaddr *address)
{
        if (address->sa_family == AF_INET)
                return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
        return address->sa_family == AF_INET6 &&
               IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

int listen_address_parse(const char *text, struct listen_address *ret, struct err *e)
{
        struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                  .ai_socktype = SOCK_STREAM };
        struct addrinfo *found = NULL;
        const char *colon = strrchr(text, ':');
        char host[128];
        size_t n = colon ? (size_t)(colon - text) : 0;
        uint64_t port;

        if (!colon || n == 0 || n >= sizeof(host) || num_parse_u64(colon + 1, &port) < 0 || port > UINT16_MAX)
                return err_set(e, -EINVAL, "metrics.listen '%s' is not ADDRESS:PORT", text);
        if (text[0] == '[' && text[n - 1] == ']')
                text++, n -= 2;
        memcpy(host, text, n);
        host[n] = '\0';
        if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
                return err_set(e, -EINVAL, "metrics.listen: '%s' is not a numeric address with a port", host);
        memcpy(&ret->address, found->ai_addr, found->ai_addrlen);
        ret->size = found->ai_addrlen;
        ret->loopback = is_loopback(found->ai_addr);
        freeaddrinfo(found);
        return 0;
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned int status, const char *type,
                              const char *text, size_t size)
{
        struct MHD_Response *response;
        enum MHD_Result r;

        response = MHD_create_response_from_buffer(size, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
        if (!response)
                return MHD_NO;
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
        r = MHD_queue_response(connection, status, response);
        MHD_destroy_response(response);
        return r;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned int status, const char *text)
{
        return answer(connection, status, "text/plain; charset=utf-8", text, strlen(text));
}

/* What is published, and what only now is known. */
static enum MHD_Result answer_metrics(struct server *s, struct MHD_Connection *connection)
{
        static const char type[] = "text/plain; version=0.0.4; charset=utf-8",
                          family[] = "wattloop_collector_last_tick_age_seconds";
        struct buf text;
        enum MHD_Result r;

        if (s->outdated && s->render) {
                s->outdated = false;
                s->render(s->context);
        }
        buf_init(&text, s->size + 512);
        (void)buf_append(&text, s->text, s->size); /* failure is sticky */
        if (s->ticked_ns) {
                prom_family(&text, family, "gauge", "How long ago the last tick's work ended");
                prom_sample(&text, family, NULL, (double)(clock_monotonic_ns() - s->ticked_ns) / 1e9);
        }
        if (text.failed)
                r = answer(connection, MHD_HTTP_OK, type, s->text, s->size);
        else
                r = answer(connection, MHD_HTTP_OK, type, text.data ? text.data : "", text.size);
        buf_done(&text);
        return r;
}

static enum MHD_Result answer_top(struct server *s, struct MHD_Connection *connection)
{
        if (!s->render_top)
                return answer_text(connection, MHD_HTTP_NOT_FOUND, "not found\n");
        if (s->top_outdated) {
                buf_clear(&s->top);
                s->render_top(s->context, &s->top);
                s->top_outdated = s->top.failed;
        }
        if (s->top.failed)
                return answer_text(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
        return answer(connection, MHD_HTTP_OK, "application/json", s->top.data, s->top.size);
}

static const char front_page[] =
        "<!DOCTYPE html><title>wattloop-collector</title>\n<h1>wattloop-collector</h1>\n"
        "<p><a href=\"/metrics\">metrics</a> <a href=\"/api/v1/top\">top</a> <a "
        "href=\"/healthz\">healthz</a></p>\n";

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data, size_t *data_size,
                              void **request)
{
        static char seen;

        (void)version;
        (void)data;
        if (!*request) { /* the first call has the header only; answering is for the next */
                *request = &seen;
                return MHD_YES;
        }
        if (*data_size) { /* a body nobody wants */
                *data_size = 0;
                return MHD_YES;
        }
        if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
                return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
        if (!strcmp(url, "/metrics"))
                return answer_metrics(context, connection);
        if (!strcmp(url, "/api/v1/top"))
                return answer_top(context, connection);
        if (!strcmp(url, "/healthz"))
                return answer_text(connection, MHD_HTTP_OK, "ok");
        if (!strcmp(url, "/"))
                return answer(connection, MHD_HTTP_OK, "text/html; charset=utf-8", front_page,
                              sizeof(front_page) - 1);
        return answer_text(connection, MHD_HTTP_NOT_FOUND, "not found\n");
}

static void describe_address(int fd, char *ret, size_t size)
{
        struct sockaddr_storage address;
        socklen_t n = sizeof(address);
        char host[NI_MAXHOST], port[NI_MAXSERV];

        (void)snprintf(ret, size, "?");
        if (getsockname(fd, (struct sockaddr *)&address, &n) < 0 ||
            getnameinfo((struct sockaddr *)&address, n, host, sizeof(host), port, sizeof(port),
                        NI_NUMERICHOST | NI_NUMERICSERV) != 0)
                return;
        (void)snprintf(ret, size, address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static int listen_on(const char *text, int *ret_fd, struct err *e)
{
        CLEANUP(closep) int fd = -1;
        struct listen_address a;
        int on = 1, r;

        r = listen_address_parse(text, &a, e);
        if (r < 0)
                return r;
        fd = socket(a.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return err_sys(e, "metrics.listen: no socket");
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on,
                         sizeof(on)); /* else a restart waits for old peers */
        if (bind(fd, (struct sockaddr *)&a.address, a.size) < 0 || listen(fd, BACKLOG) < 0)
                return err_sys(e, "metrics.listen: cannot listen on '%s'", text);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int server_open(const char *listen_text, struct server **ret, struct err *e)
{
        CLEANUP(server_closep) struct server *s = NULL;
        CLEANUP(closep) int fd = -1;
        int r;

        s = calloc(1, sizeof(*s));
        if (!s || server_publish(s, "", 0) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        r = listen_on(listen_text, &fd, e);
        if (r < 0)
                return r;
        describe_address(fd, s->address, sizeof(s->address));
        s->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, handle, s, MHD_OPTION_LISTEN_SOCKET, fd,
                                     MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
                                     MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_TIMEOUT_S, MHD_OPTION_END);
        if (!s->daemon)
                return err_set(e, -EIO, "cannot start the HTTP server on '%s'", listen_text);
        (void)TAKE_FD(fd); /* the daemon's now */
        *ret = TAKE(s);
        return 0;
}

void server_close(struct server *s)
{
        if (!s)
                return;
        if (s->daemon)
                MHD_stop_daemon(s->daemon);
        free(s->text);
        buf_done(&s->top);
        free(s);
}

int server_publish(struct server *s, const char *text, size_t size)
{
        char *copy = malloc(size + 1);

        if (!copy)
                return -ENOMEM;
        memcpy(copy, text, size);
        copy[size] = '\0';
        free(s->text);
        s->text = copy;
        s->size = size;
        return 0;
}

void server_on_demand(struct server *s, void (*render)(void *context),
                      void (*render_top)(void *context, struct buf *out), void *context)
{
        s->render = render;
        s->render_top = render_top;
        s->top.max = SERVER_TOP_MAX;
        s->context = context;
        s->outdated = s->top_outdated = true;
}

void server_outdate(struct server *s)
{
        s->outdated = s->top_outdated = true;
}

void server_ticked(struct server *s, uint64_t now_ns)
{
        s->ticked_ns = now_ns;
}

int server_fd(const struct server *s)
{
        return MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

int server_timeout_ms(const struct server *s)
{
        MHD_UNSIGNED_LONG_LONG ms;

        return MHD_get_timeout(s->daemon, &ms) == MHD_YES ? (ms > 60000 ? 60000 : (int)ms) : -1;
}

void server_run(struct server *s)
{
        (void)MHD_run(s->daemon); /* fails only for a daemon with threads */
}

const char *server_address(const struct server *s)
{
        return s->address;
}
