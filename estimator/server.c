/* SPDX-License-Identifier: Apache-2.0 */
/* One thread answers everything; loading happens in loader.c's and ends here in one pointer swap between two
 * requests, so that no request waits for a load and no answer mixes two models. */
#include "estimator/server.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/log.h"
#include "estimator/answer.h"
#include "estimator/client.h"
#include "estimator/listen.h"
#include "estimator/loader.h"
#include "estimator/peer.h"
#include "estimator/status.h"
#include "estimator/store_watch.h"

#define EVENTS_MAX      64
#define LISTENERS_MAX   8
#define FDS_OWN         32             /* descriptors that are no clients */
#define ACCEPT_PAUSE_NS (NS_PER_S / 2) /* after accept() failed for want of something */
#define LOG_PERIOD_NS   (UINT64_C(10) * NS_PER_S)
#define ACCEPTS_A_TURN  64

struct server;

/* What epoll hands back. Embedded first in what it belongs to. */
struct watch {
        void (*ready)(struct server *s, struct watch *w, uint32_t events);
};

struct connection {
        struct watch watch;
        struct client client;
        uint32_t events;
        uint64_t deadline_ns;
        struct connection *prev, *next; /* in the order of deadlines */
};

struct acceptor {
        struct watch watch;
        struct listener listener;
};

struct server {
        const struct options *options;
        int epoll_fd, signal_fd;
        struct watch signal_watch, loader_watch, store_ready;
        struct store_watch store_watch;
        struct peers peers;
        struct acceptor acceptors[LISTENERS_MAX];
        size_t n_acceptors;
        bool accepting;
        uint64_t accept_again_ns; /* 0: no pause, or until a connection ends */
        struct connection *first, *last;
        long long n_connections, connections_max;
        size_t buffered;
        struct client_service service;
        struct answerer answerer;
        struct models *models; /* what answers; answerer.models is the same */
        struct loader loader;
        struct counters counters;
        struct log_limit accept_limit, denied_limit;
        bool stopping;
};

/* ---- epoll ---- */

static int watch_fd(struct server *s, int op, int fd, uint32_t events, struct watch *w)
{
        struct epoll_event event = { .events = events, .data.ptr = w };

        return epoll_ctl(s->epoll_fd, op, fd, &event) < 0 ? -errno : 0;
}

/* ---- models ---- */

static void log_refusals(const struct models *models)
{
        for (size_t i = 0; i < models->n_refused; i++)
                log_warning("model '%s' is refused: %s", models->refused[i].path,
                            models->refused[i].error.text);
}

static void log_slot(const struct models *models, size_t slot)
{
        const struct loaded_model *l = models->slots[slot];

        if (l)
                log_info("%s of %s: model '%s', id %.16s (%s)", models_slot_output_type(slot),
                         models_slot_source(slot), model_name(l->model), l->id, model_provenance(l->model));
        else
                log_info("%s of %s: no model any more", models_slot_output_type(slot),
                         models_slot_source(slot));
}

/* The one place where the answering set changes: between two requests. */
static void swap_models(struct server *s, struct models *models)
{
        struct models *old = s->models;

        for (size_t i = 0; i < models_slots(); i++)
                if (!old || old->slots[i] != models->slots[i]) {
                        if (!old && !models->slots[i])
                                continue;
                        s->counters.swaps += old != NULL;
                        log_slot(models, i);
                }
        log_refusals(models);
        s->models = models;
        s->answerer.models = models;
        models_free(old);
}

static int start_reload(struct server *s)
{
        struct err e;
        int r;

        r = loader_start(&s->loader, s->models, &e);
        return r < 0 ? log_error(r, "store is not reloaded: %s", e.text) : 0;
}

static void loader_ready(struct server *s, struct watch *w, uint32_t events)
{
        struct models *models = NULL;
        bool again = false;
        struct err e;
        int r;

        (void)w;
        (void)events;
        r = loader_finish(&s->loader, &models, &again, &e);
        if (r < 0)
                (void)log_error(r, "store is not reloaded: %s", e.text);
        if (r > 0)
                swap_models(s, models);
        s->counters.reloads += r != 0;
        if (again)
                (void)start_reload(s); /* logged there */
}

static void store_changed(struct server *s, struct watch *w, uint32_t events)
{
        (void)w;
        (void)events;
        if (store_watch_changed(&s->store_watch))
                (void)start_reload(s); /* logged there */
}

/* Without it a reload must be asked for, which is not worth failing. */
static void open_store_watch(struct server *s)
{
        struct err e;
        int r;

        if (!s->options->store_watch)
                return;
        s->store_ready.ready = store_changed;
        r = store_watch_open(s->options->store_path, &s->store_watch, &e);
        if (r == 0)
                r = watch_fd(s, EPOLL_CTL_ADD, s->store_watch.fd, EPOLLIN, &s->store_ready);
        if (r < 0)
                log_warning("the store is not watched, new models need SIGHUP: %s", strerror(-r));
}

static int load_first(struct server *s)
{
        struct model_load_options how = options_load(s->options);
        struct models *models = NULL;
        struct err e;
        int r;

        r = models_load_first(s->options->store_path, &how, &models, &e);
        if (r < 0)
                return log_error(r, "cannot load models: %s", e.text);
        swap_models(s, models);
        return 0;
}

/* ---- requests ---- */

static int run_command(void *arg, const char *name, struct buf *out)
{
        struct server *s = arg;

        if (!strcmp(name, "status"))
                return status_write(out, &s->counters, s->models, s->n_connections, clock_monotonic_ns());
        if (!strcmp(name, "reload")) {
                if (start_reload(s) < 0)
                        return reply_rejected(out, "failed to reload: ", "no thread could be started");
                return buf_puts(out, "{\"reload\": \"started\"}");
        }
        return -ENOENT;
}

static int answer(void *arg, const char *text, size_t size, struct buf *out)
{
        struct server *s = arg;
        uint64_t begin_ns = clock_monotonic_ns();
        int r = answer_request(&s->answerer, text, size, out);

        if (r == ANSWER_WATTS || r == ANSWER_REFUSED) {
                s->counters.requests++;
                counters_answered(&s->counters, clock_monotonic_ns() - begin_ns);
        }
        s->counters.errors += r == ANSWER_REFUSED;
        return r;
}

static int reject(void *arg, const char *text, struct buf *out)
{
        struct server *s = arg;

        s->counters.errors++;
        return reply_rejected(out, "failed to handle request: ", text);
}

/* ---- connections ---- */

static void unlink_connection(struct server *s, struct connection *c)
{
        *(c->prev ? &c->prev->next : &s->first) = c->next;
        *(c->next ? &c->next->prev : &s->last) = c->prev;
        c->prev = c->next = NULL;
}

/* The time limit is the same for all, so whoever was touched last ends last. */
static void touch_connection(struct server *s, struct connection *c)
{
        c->deadline_ns = clock_monotonic_ns() + (uint64_t)s->options->timeout_ms * NS_PER_MS;
        c->prev = s->last;
        c->next = NULL;
        *(s->last ? &s->last->next : &s->first) = c;
        s->last = c;
}

static void set_accepting(struct server *s, bool accepting)
{
        s->accepting = accepting;
        s->accept_again_ns = 0;
        for (size_t i = 0; i < s->n_acceptors; i++)
                (void)watch_fd(s, EPOLL_CTL_MOD, s->acceptors[i].listener.fd, accepting ? EPOLLIN : 0,
                               &s->acceptors[i].watch); /* modifying what was added cannot fail */
}

static void close_connection(struct server *s, struct connection *c)
{
        unlink_connection(s, c);
        client_done(&c->client, &s->service);
        free(c);
        s->n_connections--;
        if (!s->accepting)
                set_accepting(s, true);
}

static void connection_ready(struct server *s, struct watch *w, uint32_t events)
{
        struct connection *c = (struct connection *)w;
        int wanted = client_handle(&c->client, events, &s->service);

        if (wanted >= 0 && (uint32_t)wanted != c->events) {
                int r = watch_fd(s, EPOLL_CTL_MOD, c->client.fd, (uint32_t)wanted, &c->watch);

                c->events = (uint32_t)wanted;
                wanted = r < 0 ? r : wanted;
        }
        if (wanted < 0) {
                close_connection(s, c);
                return;
        }
        if (c->client.progressed) {
                c->client.progressed = false;
                unlink_connection(s, c);
                touch_connection(s, c);
        }
}

static int add_connection(struct server *s, int fd)
{
        struct connection *c = calloc(1, sizeof(*c));
        int r;

        if (!c) {
                (void)close(fd);
                return -ENOMEM;
        }
        c->watch.ready = connection_ready;
        c->events = EPOLLIN;
        client_init(&c->client, fd, (size_t)s->options->request_max);
        r = watch_fd(s, EPOLL_CTL_ADD, fd, EPOLLIN, &c->watch);
        if (r < 0) {
                client_done(&c->client, &s->service);
                free(c);
                return r;
        }
        touch_connection(s, c);
        s->n_connections++;
        return 0;
}

/* Out of descriptors or memory: trying again at once would spin, so wait for a connection to end or a while.
 */
static void pause_accepting(struct server *s, int r)
{
        if (log_limit_ok(&s->accept_limit, LOG_PERIOD_NS))
                log_warning("cannot accept connections for the moment: %s", strerror(-r));
        set_accepting(s, false);
        s->accept_again_ns = clock_monotonic_ns() + ACCEPT_PAUSE_NS;
}

/* Who may not ask is told so and sent away. */
static bool admit(struct server *s, int fd)
{
        static const char reply[] =
                "{\"powers\": {}, \"msg\": \"failed to handle request: this user may not ask "
                "(socket.allow)\"}";

        if (peers_allow(&s->peers, fd))
                return true;
        if (log_limit_ok(&s->denied_limit, LOG_PERIOD_NS))
                log_warning("connection of a user that socket.allow does not name is refused");
        s->counters.denied++;
        (void)send(fd, reply, strlen(reply), MSG_NOSIGNAL); /* the peer's loss if it does not fit */
        (void)close(fd);
        return false;
}

static void acceptor_ready(struct server *s, struct watch *w, uint32_t events)
{
        struct acceptor *a = (struct acceptor *)w;

        (void)events;
        for (int i = 0; i < ACCEPTS_A_TURN && s->accepting; i++) {
                int fd, r;

                if (s->n_connections >= s->connections_max) {
                        set_accepting(s, false); /* until a connection ends */
                        return;
                }
                fd = accept4(a->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
                        return;
                r = fd < 0 ? -errno : admit(s, fd) ? add_connection(s, fd) : 0;
                if (r < 0)
                        pause_accepting(s, r);
        }
}

/* Returns how long epoll may sleep, in ms; -1 for ever. */
static int expire_connections(struct server *s)
{
        uint64_t now = clock_monotonic_ns(), next = UINT64_MAX;

        while (s->first && s->first->deadline_ns <= now)
                close_connection(s, s->first);
        if (!s->accepting && s->accept_again_ns > 0 && s->accept_again_ns <= now)
                set_accepting(s, true);

        if (s->first)
                next = s->first->deadline_ns;
        if (s->accept_again_ns > 0 && s->accept_again_ns < next)
                next = s->accept_again_ns;
        if (next == UINT64_MAX)
                return -1;
        return (int)((next - now) / NS_PER_MS + 1); /* at most a day, see limits.timeout */
}

/* ---- signals ---- */

static void signal_ready(struct server *s, struct watch *w, uint32_t events)
{
        struct signalfd_siginfo info;

        (void)w;
        (void)events;
        while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
                if (info.ssi_signo == SIGHUP)
                        (void)start_reload(s); /* logged there */
                else
                        s->stopping = true;
        }
}

static int open_signals(struct server *s)
{
        sigset_t set;

        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGHUP);
        (void)sigaddset(&set, SIGTERM);
        (void)sigaddset(&set, SIGINT);
        (void)signal(SIGPIPE, SIG_IGN);
        if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0) /* before any thread, which inherits it */
                return log_error(-EINVAL, "cannot block signals");
        s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return s->signal_fd < 0 ? log_error(-errno, "cannot make a signalfd") : 0;
}

/* ---- start and stop ---- */

/* Descriptors for all clients that the configuration allows, as far as the hard limit goes. Returns how many
 * clients there can be without taking away what a reload of the store needs. */
static long long raise_fd_limit(long long clients_max)
{
        struct rlimit limit;
        rlim_t wanted = (rlim_t)clients_max + FDS_OWN;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
                return clients_max;
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= wanted)
                return clients_max;
        log_warning("fewer than %lld clients can be served at a time: at most %llu files may be open",
                    clients_max, (unsigned long long)limit.rlim_cur);
        return limit.rlim_cur > FDS_OWN ? (long long)(limit.rlim_cur - FDS_OWN) : clients_max;
}

static int add_acceptor(struct server *s, const struct listener *listener)
{
        struct acceptor *a = &s->acceptors[s->n_acceptors++];
        int r;

        a->watch.ready = acceptor_ready;
        a->listener = *listener;
        r = watch_fd(s, EPOLL_CTL_ADD, a->listener.fd, EPOLLIN, &a->watch);
        return r < 0 ? log_error(r, "cannot watch '%s'", listener->path) : 0;
}

static int open_acceptor(struct server *s, const char *path, const struct listener_options *o)
{
        struct listener listener;
        struct err e;
        int r = listener_open(path, o, &listener, &e);

        return r < 0 ? log_error(r, "%s", e.text) : add_acceptor(s, &listener);
}

/* The service manager's sockets, or else our own. */
static int open_acceptors(struct server *s)
{
        struct listener_options o = { .mode = options_mode(s->options) };
        struct listener inherited[LISTENERS_MAX];
        struct err e;
        int n, r;

        r = peers_resolve(&s->options->socket_allow, &s->peers, &e);
        if (r < 0)
                return log_error(r, "socket.allow: %s", e.text);
        r = owner_resolve(s->options->socket_owner, &o.user, &o.group, &e);
        if (r < 0)
                return log_error(r, "socket.owner: %s", e.text);
        n = listeners_inherit(inherited, LISTENERS_MAX, &e);
        if (n < 0)
                return log_error(n, "%s", e.text);
        for (int i = 0; i < n && r == 0; i++)
                r = add_acceptor(s, &inherited[i]);
        if (n > 0)
                return r;
        r = open_acceptor(s, s->options->socket_path, &o);
        if (r == 0 && *s->options->compat_socket)
                r = open_acceptor(s, s->options->compat_socket, &o);
        return r;
}

static int open_server(struct server *s)
{
        struct err e;
        int r;

        s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (s->epoll_fd < 0)
                return log_error(-errno, "cannot make an epoll descriptor");
        r = open_signals(s);
        if (r < 0)
                return r;
        r = loader_init(&s->loader, s->options->store_path, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        s->signal_watch.ready = signal_ready;
        s->loader_watch.ready = loader_ready;
        if (watch_fd(s, EPOLL_CTL_ADD, s->signal_fd, EPOLLIN, &s->signal_watch) < 0 ||
            watch_fd(s, EPOLL_CTL_ADD, s->loader.fd, EPOLLIN, &s->loader_watch) < 0)
                return log_error(-ENOMEM, "cannot watch descriptors");

        open_store_watch(s); /* before the first look, so that no change falls between */
        r = load_first(s);
        return r < 0 ? r : open_acceptors(s);
}

static void close_server(struct server *s)
{
        for (size_t i = 0; i < s->n_acceptors; i++)
                listener_close(&s->acceptors[i].listener);
        s->n_acceptors = 0;
        while (s->first)
                close_connection(s, s->first);
        loader_done(&s->loader);
        store_watch_close(&s->store_watch);
        models_free(s->models);
        closep(&s->signal_fd);
        closep(&s->epoll_fd);
}

static int run_loop(struct server *s)
{
        struct epoll_event events[EVENTS_MAX];

        while (!s->stopping) {
                int n = epoll_wait(s->epoll_fd, events, EVENTS_MAX, expire_connections(s));

                if (n < 0 && errno != EINTR)
                        return log_error(-errno, "cannot wait for events");
                for (int i = 0; i < n; i++) {
                        struct watch *w = events[i].data.ptr;

                        w->ready(s, w, events[i].events);
                }
        }
        return 0;
}

int server_run(const struct options *options)
{
        struct server s = { .options = options,
                            .epoll_fd = -1,
                            .signal_fd = -1,
                            .loader.fd = -1,
                            .store_watch.fd = -1,
                            .accepting = true };
        int r;

        s.counters.started_ns = clock_monotonic_ns();
        s.answerer = (struct answerer){ .cpus = sysconf(_SC_NPROCESSORS_ONLN),
                                        .precision = REPLY_SHORT,
                                        .no_pedigree = !options->pedigree,
                                        .command = run_command,
                                        .arg = &s,
                                        .rows = &s.counters.rows };
        s.service = (struct client_service){ .answer = answer,
                                             .reject = reject,
                                             .arg = &s,
                                             .request_max = (size_t)options->request_max,
                                             .buffered_max = (size_t)options->buffered_max,
                                             .buffered = &s.buffered };
        s.connections_max = raise_fd_limit(options->clients_max);

        r = open_server(&s);
        if (r == 0) {
                for (size_t i = 0; i < s.n_acceptors; i++)
                        log_info("serving on '%s'", s.acceptors[i].listener.path);
                r = run_loop(&s);
        }
        if (r == 0)
                log_info("stopping after %llu requests, %llu with errors",
                         (unsigned long long)s.counters.requests, (unsigned long long)s.counters.errors);
        close_server(&s);
        return r;
}
