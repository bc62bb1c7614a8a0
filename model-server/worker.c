/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TICK_MS 200 /* how late what is due may be when no job comes */

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

/* The next jobs that run together. Returns how many; 0: none came for a tick, or (*ret_stop) none will. */
static size_t take(struct worker *w, struct job *ret[JOBS_TOGETHER_MAX], bool *ret_stop)
{
        struct timespec until = tick_from_now();
        size_t n = 0;
        int r = 0;

        (void)pthread_mutex_lock(&w->lock);
        while (!w->first && !w->stopping && r == 0)
                r = pthread_cond_timedwait(&w->wake, &w->lock, &until);
        while (w->first && n < JOBS_TOGETHER_MAX &&
               (!n || (ret[0]->together && w->first->together && w->first->run == ret[0]->run))) {
                ret[n++] = w->first;
                w->first = w->first->next;
        }
        if (!w->first)
                w->last = &w->first;
        *ret_stop = !n && w->stopping;
        (void)pthread_mutex_unlock(&w->lock);
        return n;
}

static void *run(void *arg)
{
        struct job *jobs[JOBS_TOGETHER_MAX];
        struct worker *w = arg;
        bool stop = false;

        while (!stop) {
                size_t n = take(w, jobs, &stop);

                if (n)
                        jobs[0]->run(jobs, n);
                for (size_t i = 0; i < n; i++)
                        jobs[i]->done(jobs[i]);
                server_work_if_due(w->server);
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
