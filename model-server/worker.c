/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TICK_MS 200 /* how late a publication may be when no job comes */

struct worker {
        struct server *server;
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct job *first, **last; /* waiting */
        bool stopping;
};

static struct timespec tick_from_now(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += TICK_MS * 1000000L;
        t.tv_sec += t.tv_nsec / 1000000000L;
        t.tv_nsec %= 1000000000L;
        return t;
}

/* The next job; NULL: none came for a tick, or (*ret_stop) none will. */
static struct job *take(struct worker *w, bool *ret_stop)
{
        struct timespec until = tick_from_now();
        struct job *job;
        int r = 0;

        (void)pthread_mutex_lock(&w->lock);
        while (!w->first && !w->stopping && r == 0)
                r = pthread_cond_timedwait(&w->wake, &w->lock, &until);
        job = w->first;
        if (job) {
                w->first = job->next;
                if (!w->first)
                        w->last = &w->first;
        }
        *ret_stop = !job && w->stopping;
        (void)pthread_mutex_unlock(&w->lock);
        return job;
}

static void *run(void *arg)
{
        struct worker *w = arg;
        bool stop = false;

        while (!stop) {
                struct job *job = take(w, &stop);

                if (job) {
                        job->run(job);
                        job->done(job);
                }
                server_publish_if_due(w->server);
        }
        return NULL;
}

int worker_start(struct server *server, struct worker **ret, struct err *e)
{
        struct worker *w = calloc(1, sizeof(*w));
        pthread_condattr_t monotonic;
        int r;

        if (!w)
                return err_set(e, -ENOMEM, "out of memory");
        w->server = server;
        w->last = &w->first;
        (void)pthread_mutex_init(&w->lock, NULL); /* neither fails on Linux */
        (void)pthread_condattr_init(&monotonic);
        (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        (void)pthread_cond_init(&w->wake, &monotonic);
        (void)pthread_condattr_destroy(&monotonic);
        r = pthread_create(&w->thread, NULL, run, w);
        if (r) {
                free(w);
                return err_set(e, -r, "cannot start a thread: %s", strerror(r));
        }
        *ret = w;
        return 0;
}

bool worker_submit(struct worker *w, struct job *job)
{
        bool taken;

        job->next = NULL;
        (void)pthread_mutex_lock(&w->lock);
        taken = !w->stopping;
        if (taken) {
                *w->last = job;
                w->last = &job->next;
                (void)pthread_cond_signal(&w->wake);
        }
        (void)pthread_mutex_unlock(&w->lock);
        return taken;
}

void worker_stop(struct worker *w)
{
        if (!w)
                return;
        (void)pthread_mutex_lock(&w->lock);
        w->stopping = true;
        (void)pthread_cond_signal(&w->wake);
        (void)pthread_mutex_unlock(&w->lock);
        (void)pthread_join(w->thread, NULL);
        (void)pthread_cond_destroy(&w->wake);
        (void)pthread_mutex_destroy(&w->lock);
        free(w);
}
