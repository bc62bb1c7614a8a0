/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/puller.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/num.h"
#include "model-server/data/prometheus.h"

#define WINDOW_FIRST_MS   INT64_C(600000)
#define WINDOW_MIN_MS     INT64_C(10000)
#define WINDOW_MAX_MS     INT64_C(86400000)
#define WINDOW_SMALL      ((size_t)4 << 20) /* a window that gave less may be longer next time */
#define OVERLAP_MS        INT64_C(60000)
#define RETRY_MS          10000
#define COMPLAIN_EVERY_NS (60 * NS_PER_S)

struct puller {
        struct server *server;
        struct worker *worker;
        struct prometheus *prometheus;
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t wake;
        bool stopping;
        int64_t cursor_ms, window_ms; /* the puller thread's */
        struct log_limit complaints;
};

/* Work for the worker: an import, and the cursor. */
struct errand {
        struct job job; /* first: the worker hands it back */
        struct puller *puller;
        struct upload upload;
        bool read; /* the cursor, instead of an import */
        int64_t cursor_ms;
        int result;
        struct err e;
        bool done;
};

/* The cursor belongs to the server that is read. */
static void setting_name(const struct puller *p, char ret[128])
{
        char hash[HASH_HEX_SIZE];
        const char *url = p->server->options->prometheus_url;

        hash_sha256_hex(url, strlen(url), hash);
        (void)snprintf(ret, 128, "prometheus_cursor_ms:%.16s", hash);
}

static int read_cursor(struct errand *x)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        char name[128];
        int r;

        setting_name(x->puller, name);
        buf_init(&text, 64);
        r = store_get_setting(x->puller->server->store, name, &text, &x->e);
        x->cursor_ms = 0;
        if (r == 0 && text.size && num_parse_i64(text.data, &x->cursor_ms) < 0)
                x->cursor_ms = 0;
        return r;
}

static int write_cursor(struct errand *x)
{
        char name[128], text[32];
        int r;

        setting_name(x->puller, name);
        (void)snprintf(text, sizeof(text), "%lld", (long long)x->cursor_ms);
        r = store_begin(x->puller->server->store, &x->e);
        if (r == 0)
                r = store_set_setting(x->puller->server->store, name, text, &x->e);
        if (r == 0)
                r = store_commit(x->puller->server->store, &x->e);
        if (r < 0)
                store_rollback(x->puller->server->store);
        return r;
}

static void run_errand(struct job *const jobs[], size_t n)
{
        struct errand *x = (struct errand *)jobs[0];

        (void)n;
        if (x->read) {
                x->result = read_cursor(x);
                return;
        }
        if (x->upload.size) {
                struct upload *uploads = &x->upload;

                server_import(x->puller->server, &uploads, 1);
                x->result = x->upload.result;
                x->e = x->upload.e;
        }
        if (x->result == 0)
                x->result = write_cursor(x);
}

static void errand_done(struct job *job)
{
        struct errand *x = (struct errand *)job;
        struct puller *p = x->puller;

        (void)pthread_mutex_lock(&p->lock);
        x->done = true;
        (void)pthread_cond_broadcast(&p->wake);
        (void)pthread_mutex_unlock(&p->lock);
}

static int send_errand(struct puller *p, struct errand *x, struct err *e)
{
        x->job = (struct job){ .run = run_errand, .done = errand_done };
        x->puller = p;
        if (!worker_submit(p->worker, &x->job))
                return err_set(e, -ECANCELED, "the server is stopping");
        (void)pthread_mutex_lock(&p->lock);
        while (!x->done)
                (void)pthread_cond_wait(&p->wake, &p->lock);
        (void)pthread_mutex_unlock(&p->lock);
        if (x->result < 0)
                *e = x->e;
        return x->result;
}

/* One window; 1: there is more to read now. */
static int pull_window(struct puller *p, struct err *e)
{
        CLEANUP(buf_done) struct buf batch = { 0 };
        struct errand x = { .upload = { .name = "prometheus" } };
        int64_t now_ms = clock_wall_ms(), from_ms = p->cursor_ms - OVERLAP_MS,
                to_ms = p->cursor_ms + p->window_ms;
        int r;

        to_ms = to_ms < now_ms ? to_ms : now_ms;
        buf_init(&batch, (size_t)p->server->options->import_plain_bytes);
        r = prometheus_read(p->prometheus, from_ms > 0 ? from_ms : 0, to_ms, &batch, e);
        if (r >= 0) {
                x.upload.data = batch.data;
                x.upload.size = batch.size;
                x.cursor_ms = to_ms;
                (void)crypto_hash_sha256(x.upload.hash, (const unsigned char *)(batch.data ? batch.data : ""),
                                         batch.size);
                r = send_errand(p, &x, e);
        }
        if ((r == -EFBIG || r == -E2BIG) && p->window_ms > WINDOW_MIN_MS) {
                p->window_ms /= 2;
                return 1;
        }
        if (r < 0)
                return r;
        if (x.upload.counts.added)
                log_debug("prometheus: %llu new samples, %llu rows up to %lld ms",
                          (unsigned long long)x.upload.counts.added, (unsigned long long)x.upload.counts.rows,
                          (long long)to_ms);
        p->cursor_ms = to_ms;
        if (batch.size < WINDOW_SMALL && p->window_ms < WINDOW_MAX_MS)
                p->window_ms *= 2;
        return to_ms < now_ms;
}

/* False: the thread shall end. */
static bool wait_ms(struct puller *p, long long ms)
{
        struct timespec until;
        bool go_on;
        int r = 0;

        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += (time_t)(ms / 1000);
        until.tv_nsec += (long)(ms % 1000) * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        (void)pthread_mutex_lock(&p->lock);
        while (!p->stopping && r == 0)
                r = pthread_cond_timedwait(&p->wake, &p->lock, &until);
        go_on = !p->stopping;
        (void)pthread_mutex_unlock(&p->lock);
        return go_on;
}

static void complain(struct puller *p, int r, const struct err *e)
{
        if (log_limit_ok(&p->complaints, COMPLAIN_EVERY_NS))
                (void)log_error(r, "cannot read from data.prometheus_url: %s; trying again", e->text);
}

static bool find_start(struct puller *p)
{
        struct errand x;
        struct err e;
        int r;

        do {
                x = (struct errand){ .read = true };
                r = send_errand(p, &x, &e);
                if (r == 0)
                        break;
                complain(p, r, &e);
        } while (wait_ms(p, RETRY_MS));
        p->cursor_ms =
                x.cursor_ms ? x.cursor_ms : clock_wall_ms() - p->server->options->prometheus_lookback_ms;
        return r == 0;
}

static void *run(void *arg)
{
        struct puller *p = arg;
        bool go_on = find_start(p);

        while (go_on) {
                struct err e;
                int r = pull_window(p, &e);

                if (r < 0 && r != -ECANCELED)
                        complain(p, r, &e);
                go_on = wait_ms(p, r > 0 ? 0 : r < 0 ? RETRY_MS : p->server->options->prometheus_interval_ms);
        }
        return NULL;
}

int puller_start(struct server *server, struct worker *worker, struct puller **ret, struct err *e)
{
        struct puller *p = calloc(1, sizeof(*p));
        pthread_condattr_t monotonic;
        int r;

        if (!p)
                return err_set(e, -ENOMEM, "out of memory");
        p->server = server;
        p->worker = worker;
        p->window_ms = WINDOW_FIRST_MS;
        (void)pthread_mutex_init(&p->lock, NULL); /* none of these fails on Linux */
        (void)pthread_condattr_init(&monotonic);
        (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        (void)pthread_cond_init(&p->wake, &monotonic);
        (void)pthread_condattr_destroy(&monotonic);
        r = prometheus_new(server->options->prometheus_url, server->options->prometheus_step_ms,
                           &p->prometheus, e);
        if (r == 0) {
                r = pthread_create(&p->thread, NULL, run, p);
                r = r ? err_set(e, -r, "cannot start a thread: %s", strerror(r)) : 0;
        }
        if (r < 0) {
                prometheus_free(p->prometheus);
                free(p);
                return r;
        }
        *ret = p;
        return 0;
}

void puller_stop(struct puller *p)
{
        if (!p)
                return;
        (void)pthread_mutex_lock(&p->lock);
        p->stopping = true;
        (void)pthread_cond_broadcast(&p->wake);
        (void)pthread_mutex_unlock(&p->lock);
        (void)pthread_join(p->thread, NULL);
        prometheus_free(p->prometheus);
        (void)pthread_cond_destroy(&p->wake);
        (void)pthread_mutex_destroy(&p->lock);
        free(p);
}
