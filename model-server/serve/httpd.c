/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/httpd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/num.h"

/* A connection, and when it is due to be closed. libmicrohttpd's own timeout starts again with every byte. */
struct peer {
        int fd;
        uint64_t deadline_ns;
        struct peer *previous, *next;
};

struct httpd {
        struct server *server;
        struct worker *worker;
        struct MHD_Daemon *daemon;
        unsigned short port;
        atomic_int active; /* requests between their header and their end */
        atomic_int uploads, queries, reports;
        atomic_size_t reply_bytes;
        pthread_mutex_t lock;
        struct peer peers; /* ring, under the lock */
};

/* One request. */
struct exchange {
        struct job job; /* first: the worker hands it back */
        struct httpd *httpd;
        struct MHD_Connection *connection;
        const struct route *route; /* NULL: the reply is made, what comes is drained */
        struct call call;
        char node_id[TOKEN_NODE_MAX]; /* call.node_id */
        struct reply reply;
        struct buf body;
        size_t drained, reply_bytes;
        /* Counts it until it ends (uploads) or the worker is done with it (queries); NULL: nothing does. */
        atomic_int *slot;
        bool submitted;
};

#define NEVER_MS (1000LL * 86400 * 365)
#define FDS_OWN  128 /* descriptors that are no connections */

static uint64_t after_ms(long long ms)
{
        return clock_monotonic_ns() + (uint64_t)ms * NS_PER_MS;
}

static struct peer *peer_of(struct MHD_Connection *connection)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

        return info ? info->socket_context : NULL;
}

static void set_deadline(struct httpd *h, struct MHD_Connection *connection, long long ms)
{
        struct peer *peer = peer_of(connection);

        if (!peer)
                return;
        (void)pthread_mutex_lock(&h->lock);
        peer->deadline_ns = after_ms(ms);
        (void)pthread_mutex_unlock(&h->lock);
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
        struct httpd *h = arg;
        struct peer *peer;

        if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
                peer = *context;
                *context = NULL;
                if (!peer)
                        return;
                (void)pthread_mutex_lock(&h->lock);
                peer->previous->next = peer->next;
                peer->next->previous = peer->previous;
                (void)pthread_mutex_unlock(&h->lock);
                free(peer);
                return;
        }
        peer = calloc(1, sizeof(*peer));
        *context = peer;
        if (!peer)
                return; /* then only libmicrohttpd's own timeout watches it */
        peer->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        peer->deadline_ns = after_ms(h->server->options->idle_ms);
        (void)pthread_mutex_lock(&h->lock);
        peer->next = h->peers.next;
        peer->previous = &h->peers;
        peer->next->previous = peer;
        h->peers.next = peer;
        (void)pthread_mutex_unlock(&h->lock);
}

/* The descriptor cannot be closed and reused meanwhile: that waits for on_connection(), which waits for the
 * lock. */
void httpd_reap(struct httpd *h)
{
        uint64_t now_ns = clock_monotonic_ns();

        (void)pthread_mutex_lock(&h->lock);
        for (struct peer *peer = h->peers.next; peer != &h->peers; peer = peer->next)
                if (peer->deadline_ns < now_ns)
                        (void)shutdown(peer->fd, SHUT_RDWR);
        (void)pthread_mutex_unlock(&h->lock);
}

static const char *call_header(const struct call *call, const char *name)
{
        return MHD_lookup_connection_value(call->arg, MHD_HEADER_KIND, name);
}

static const char *call_query(const struct call *call, const char *name)
{
        return MHD_lookup_connection_value(call->arg, MHD_GET_ARGUMENT_KIND, name);
}

/* Answers stay in memory until their clients have read them. */
static void count_reply(struct exchange *x)
{
        size_t size = x->reply.body.size;

        if (size <= HTTPD_REPLY_SMALL)
                return;
        if (atomic_fetch_add(&x->httpd->reply_bytes, size) + size <= HTTPD_REPLIES_MAX) {
                x->reply_bytes = size;
                return;
        }
        (void)atomic_fetch_sub(&x->httpd->reply_bytes, size);
        buf_done(&x->reply.body);
        x->reply.headers_n = 0;
        reply_error(&x->reply, 503, "too many answers wait for clients to read them; come back");
        reply_header(&x->reply, "Retry-After", "5");
}

/* Takes over the reply's body or file. */
static struct MHD_Response *make_response(struct reply *reply)
{
        struct MHD_Response *response;

        if (reply->fd >= 0 && reply->status == 200) {
                response = MHD_create_response_from_fd64(reply->fd_size, reply->fd);
                if (response)
                        reply->fd = -1;
                return response;
        }
        response = MHD_create_response_from_buffer(reply->body.size, reply->body.data, MHD_RESPMEM_MUST_FREE);
        if (!response)
                return NULL;
        reply->body.data = NULL;
        buf_done(&reply->body);
        return response;
}

static enum MHD_Result send_reply(struct exchange *x)
{
        struct reply *reply = &x->reply;
        struct MHD_Response *response;
        enum MHD_Result r;

        if (reply->body.failed)
                reply_error(reply, 500, "the answer is too big for the memory there is");
        count_reply(x);
        response = make_response(reply);
        if (!response)
                return MHD_NO;
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->type);
        for (size_t i = 0; i < reply->headers_n; i++)
                (void)MHD_add_response_header(response, reply->headers[i].name, reply->headers[i].value);
        if (reply->signature && reply->status == 200)
                (void)MHD_add_response_header(response, "Wattloop-Signature", reply->signature);
        server_count_request(x->httpd->server, reply->status);
        set_deadline(x->httpd, x->connection, x->httpd->server->options->request_ms);
        r = MHD_queue_response(x->connection, (unsigned int)reply->status, response);
        MHD_destroy_response(response);
        return r;
}

static void run_on_worker(struct job *const jobs[], size_t n)
{
        const struct call *calls[JOBS_TOGETHER_MAX];
        struct reply *replies[JOBS_TOGETHER_MAX];
        struct exchange *x = (struct exchange *)jobs[0];

        for (size_t i = 0; i < n; i++) {
                calls[i] = &((struct exchange *)jobs[i])->call;
                replies[i] = &((struct exchange *)jobs[i])->reply;
        }
        if (x->route->handle_all)
                x->route->handle_all(x->httpd->server, calls, replies, n);
        else
                x->route->handle(x->httpd->server, calls[0], replies[0]);
}

static void release_slot(struct exchange *x)
{
        if (x->slot)
                (void)atomic_fetch_sub(x->slot, 1);
        x->slot = NULL;
}

static void resume(struct job *job)
{
        struct exchange *x = (struct exchange *)job;

        if (x->route->body_max) /* no upload, whose body stays in memory: a slow reader keeps nobody out */
                release_slot(x);
        MHD_resume_connection(x->connection);
}

static void resume_submitted(void *arg)
{
        const struct exchange *x = arg;

        MHD_resume_connection(x->connection);
}

/* What waits for the worker waits in line with everything else that does, so the line must be short. */
static bool take_slot(struct exchange *x, atomic_int *slot, int max, const char *what)
{
        if (atomic_fetch_add(slot, 1) < max) {
                x->slot = slot;
                return true;
        }
        (void)atomic_fetch_sub(slot, 1);
        reply_error(&x->reply, 503, "%d %s are in work; come back", max, what);
        reply_header(&x->reply, "Retry-After", "2");
        return false;
}

/* Why an upload was not even read. */
static void note_refusal(struct exchange *x, const struct route *route, int status, const char *why)
{
        const char *batch = call_header(&x->call, "Wattloop-Batch");

        if (!route->body_max)
                server_note_refusal(x->httpd->server, batch ? batch : "(unnamed)", status, why);
}

/* False with the reply made. Asked before the body came and again after it: tokens can be revoked meanwhile.
 */
static bool has_token(struct exchange *x, const struct route *route)
{
        if (!route->needs_token)
                return true;
        if (server_token_ok(x->httpd->server, call_header(&x->call, MHD_HTTP_HEADER_AUTHORIZATION),
                            x->node_id)) {
                x->call.node_id = *x->node_id ? x->node_id : NULL;
                return true;
        }
        reply_error(&x->reply, 401, "this needs one of the server's bearer tokens");
        reply_header(&x->reply, "WWW-Authenticate", "Bearer");
        note_refusal(x, route, 401, "without one of the server's bearer tokens");
        return false;
}

/* What can be said before the body came: no such route, no token, too big, too many. */
static void check_head(struct exchange *x)
{
        struct httpd *h = x->httpd;
        const char *length = call_header(&x->call, MHD_HTTP_HEADER_CONTENT_LENGTH);
        const struct route *route = route_find(x->call.method, x->call.path, &x->reply);
        uint64_t size = 0;

        if (!route || !has_token(x, route))
                return;
        if (length && num_parse_u64(length, &size) == 0 && size > route_body_max(route, h->server)) {
                reply_error(&x->reply, 413, "a body of %llu bytes; at most %zu are taken",
                            (unsigned long long)size, route_body_max(route, h->server));
                note_refusal(x, route, 413, "a larger body than limits.import_bytes");
                return;
        }
        if (route->worker && route->needs_token && route->body_max &&
            !take_slot(x, &h->reports, HTTPD_REPORTS_MAX, "reports"))
                return;
        if (route->worker && route->body_max && !route->needs_token &&
            !take_slot(x, &h->queries, HTTPD_QUERIES_MAX, "such requests"))
                return;
        if (!route->body_max && !take_slot(x, &h->uploads, HTTPD_UPLOADS_MAX, "uploads"))
                return;
        buf_init(&x->body, route_body_max(route, h->server));
        x->route = route;
}

static enum MHD_Result begin(struct httpd *h, struct MHD_Connection *connection, const char *method,
                             const char *path, void **context)
{
        struct exchange *x = calloc(1, sizeof(*x));

        if (!x)
                return MHD_NO;
        *context = x;
        x->httpd = h;
        x->connection = connection;
        x->job = (struct job){ .run = run_on_worker, .done = resume };
        x->call = (struct call){
                .method = method, .path = path, .header = call_header, .query = call_query, .arg = connection
        };
        reply_init(&x->reply);
        (void)atomic_fetch_add(&h->active, 1);
        set_deadline(h, connection, h->server->options->request_ms);
        check_head(x);
        return MHD_YES;
}

static enum MHD_Result take_piece(struct exchange *x, const char *data, size_t *size)
{
        if (x->route && buf_append(&x->body, data, *size) < 0) {
                reply_error(&x->reply, x->body.failed == -EFBIG ? 413 : 503,
                            "the body is longer than %zu bytes", x->body.max);
                buf_done(&x->body);
                x->route = NULL;
        }
        if (!x->route)
                x->drained += *size;
        *size = 0;
        return x->drained > HTTPD_DRAIN_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result finish(struct exchange *x)
{
        struct httpd *h = x->httpd;

        if (!x->route || x->submitted || !has_token(x, x->route))
                return send_reply(x);
        x->call.body = x->body.data;
        x->call.size = x->body.size;
        if (x->route->submit) {
                x->submitted = true;
                set_deadline(h, x->connection, NEVER_MS);
                MHD_suspend_connection(x->connection);
                if (!x->route->submit(h->server, &x->call, &x->reply, resume_submitted, x))
                        MHD_resume_connection(x->connection);
                return MHD_YES;
        }
        if (!x->route->worker) {
                x->route->handle(h->server, &x->call, &x->reply);
                return send_reply(x);
        }
        x->submitted = true;
        x->job.together = x->route->handle_all; /* one route has it: those that wait are all of that route */
        set_deadline(h, x->connection, NEVER_MS); /* from here it is we who take long */
        MHD_suspend_connection(x->connection);
        if (!worker_submit(h->worker, &x->job)) {
                reply_error(&x->reply, 503, "the server is stopping");
                MHD_resume_connection(x->connection);
        }
        return MHD_YES;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data, size_t *size,
                                  void **context)
{
        (void)version;
        if (!*context)
                return begin(arg, connection, method, path, context);
        return *size ? take_piece(*context, data, size) : finish(*context);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code)
{
        struct httpd *h = arg;
        struct exchange *x = *context;

        (void)code;
        if (!x)
                return;
        *context = NULL;
        release_slot(x);
        (void)atomic_fetch_sub(&h->reply_bytes, x->reply_bytes);
        set_deadline(h, connection, h->server->options->idle_ms);
        buf_done(&x->body);
        reply_done(&x->reply);
        free(x);
        (void)atomic_fetch_sub(&h->active, 1);
}

/* Every connection is a descriptor; the usual soft limit is 1024. Returns how many connections there can be
 * without taking the database's and the publisher's descriptors away. */
static long long raise_descriptor_limit(long long connections)
{
        rlim_t wanted = (rlim_t)connections + FDS_OWN;
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
                return connections;
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= wanted)
                return connections;
        log_warning("only %llu files can be open, so fewer than %lld connections",
                    (unsigned long long)limit.rlim_cur, connections);
        return limit.rlim_cur > FDS_OWN ? (long long)(limit.rlim_cur - FDS_OWN) : 1;
}

static int make_address(const char *listen, struct sockaddr_storage *ret, struct err *e)
{
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
        struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
        char host[LISTEN_HOST_MAX];
        unsigned short port;
        int r = options_split_listen(listen, host, &port, e);

        if (r < 0)
                return r;
        memset(ret, 0, sizeof(*ret));
        if (!strcmp(host, "localhost"))
                (void)snprintf(host, sizeof(host), "127.0.0.1");
        if (!*host || inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
                v4->sin_family = AF_INET;
                v4->sin_port = htons(port);
        } else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
                v6->sin6_family = AF_INET6;
                v6->sin6_port = htons(port);
        } else {
                return err_set(e, -EINVAL, "listen: '%s' is not a numeric address", host);
        }
        return 0;
}

static int open_socket(const char *listen_on, unsigned short *ret_port, struct err *e)
{
        CLEANUP(closep) int fd = -1;
        struct sockaddr_storage address;
        socklen_t size;
        int on = 1, r = make_address(listen_on, &address, e);

        if (r < 0)
                return r;
        size = address.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return err_sys(e, "cannot make a socket");
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)); /* else a restart may have to wait */
        if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 1024) < 0 ||
            getsockname(fd, (struct sockaddr *)&address, &size) < 0)
                return err_sys(e, "cannot listen on '%s'", listen_on);
        *ret_port = ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
                                                       : ((struct sockaddr_in6 *)&address)->sin6_port);
        return TAKE_FD(fd);
}

/* Certificate and key for libmicrohttpd, which wants them as text; empty without TLS. */
static int read_tls(const struct options *o, struct buf *certificate, struct buf *key, struct err *e)
{
        int r;

        buf_init(certificate, TLS_FILE_MAX);
        buf_init(key, TLS_FILE_MAX);
        if (!*o->tls_certificate)
                return 0;
        r = file_read(o->tls_certificate, certificate, e);
        if (r == 0)
                r = file_read(o->tls_key, key, e);
        return r < 0 ? err_prefix(e, r, "tls") : 0;
}

int httpd_start(struct server *server, struct worker *worker, struct httpd **ret, struct err *e)
{
        const struct options *o = server->options;
        CLEANUP(buf_done) struct buf certificate = { 0 }, key = { 0 };
        struct httpd *h = calloc(1, sizeof(*h));
        long long connections;
        int fd, r = read_tls(o, &certificate, &key, e);
        const bool tls = certificate.size;

        if (!h || r < 0) {
                free(h);
                return r < 0 ? r : err_set(e, -ENOMEM, "out of memory");
        }
        h->server = server;
        h->worker = worker;
        h->peers.next = h->peers.previous = &h->peers;
        (void)pthread_mutex_init(&h->lock, NULL); /* cannot fail without attributes */
        connections = raise_descriptor_limit(o->connections);
        fd = open_socket(o->listen, &h->port, e);
        if (fd < 0) {
                free(h);
                return fd;
        }
        h->daemon = MHD_start_daemon(
                MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | (tls ? MHD_USE_TLS : 0), 0, NULL,
                NULL, on_request, h, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE,
                (unsigned int)HTTPD_THREADS, MHD_OPTION_CONNECTION_LIMIT,
                (unsigned int)(connections < HTTPD_THREADS ? HTTPD_THREADS : connections),
                MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)((o->request_ms + 999) / 1000),
                MHD_OPTION_CONNECTION_MEMORY_LIMIT, HTTPD_HEADER_MAX, MHD_OPTION_NOTIFY_COMPLETED,
                on_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
                tls ? MHD_OPTION_HTTPS_MEM_CERT : MHD_OPTION_END, certificate.data, MHD_OPTION_HTTPS_MEM_KEY,
                key.data, MHD_OPTION_END);
        if (!h->daemon) {
                (void)close(fd);
                free(h);
                return err_set(e, -EIO, "cannot start the HTTP server%s",
                               tls ? "; are tls.certificate and tls.key a pair of PEM files?" : "");
        }
        *ret = h;
        return 0;
}

unsigned short httpd_port(const struct httpd *h)
{
        return h->port;
}

void httpd_drain(struct httpd *h, int wait_ms)
{
        MHD_socket fd = MHD_quiesce_daemon(h->daemon);
        uint64_t until_ns = after_ms(wait_ms);

        if (fd != MHD_INVALID_SOCKET)
                (void)close(fd);
        /* Nothing tells when the last answer went out; these are a few looks at the very end. */
        while (atomic_load(&h->active) > 0 && clock_monotonic_ns() < until_ns)
                (void)poll(NULL, 0, 10);
}

void httpd_stop(struct httpd *h)
{
        if (!h)
                return;
        MHD_stop_daemon(h->daemon);
        (void)pthread_mutex_destroy(&h->lock);
        free(h);
}
