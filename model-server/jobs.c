/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/jobs.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"

#define THREADS_MAX 64
#define BAR         30
#define LINE_NS     ((int64_t)60 * (int64_t)NS_PER_S) /* between lines where there is no terminal */

struct jobs {
        pthread_mutex_t lock; /* of what follows */
        size_t next, n;
        double done, total; /* cost */
        int failed;
        struct err err;

        const char *what;
        const double *cost;
        int (*fn)(void *arg, size_t i, struct err *e);
        void *arg;
        int64_t start_ns, line_ns;
        bool terminal;
};

static double cost_of(const struct jobs *j, size_t i)
{
        return j->cost ? j->cost[i] : 1;
}

/* A bar on a terminal; elsewhere a line now and then. */
static void show_progress(struct jobs *j)
{
        static const char full[] = "##############################";
        double share = j->total > 0 ? j->done / j->total : 1;
        int64_t now = (int64_t)clock_monotonic_ns();
        double seconds = (double)(now - j->start_ns) / NS_PER_S;
        double left = share > 0 ? seconds * (1 - share) / share : 0;
        int filled = (int)(share * BAR);

        if (j->terminal)
                (void)fprintf(stderr, "\r%s [%.*s%*s] %3.0f %%, %.0f s left \033[K", j->what, filled, full,
                              BAR - filled, "", 100 * share, left);
        else if (now - j->line_ns >= LINE_NS) {
                j->line_ns = now;
                (void)fprintf(stderr, "%s: %.0f %% after %.0f s, %.0f s left\n", j->what, 100 * share,
                              seconds, left);
        }
}

static bool take(struct jobs *j, size_t *ret)
{
        bool there;

        (void)pthread_mutex_lock(&j->lock);
        there = j->next < j->n && j->failed == 0;
        if (there)
                *ret = j->next++;
        (void)pthread_mutex_unlock(&j->lock);
        return there;
}

static void *work(void *arg)
{
        struct jobs *j = arg;
        size_t i;

        while (take(j, &i)) {
                struct err e = { "" };
                int r = j->fn(j->arg, i, &e);

                (void)pthread_mutex_lock(&j->lock);
                if (r < 0 && j->failed == 0) {
                        j->failed = r;
                        j->err = e;
                }
                j->done += cost_of(j, i);
                show_progress(j);
                (void)pthread_mutex_unlock(&j->lock);
        }
        return NULL;
}

int jobs_run(const char *what, size_t n, const double *cost, int threads,
             int (*fn)(void *arg, size_t i, struct err *e), void *arg, struct err *e)
{
        struct jobs j = { .lock = PTHREAD_MUTEX_INITIALIZER,
                          .n = n,
                          .what = what,
                          .cost = cost,
                          .fn = fn,
                          .arg = arg,
                          .start_ns = (int64_t)clock_monotonic_ns(),
                          .terminal = isatty(STDERR_FILENO) == 1 };
        pthread_t others[THREADS_MAX];
        int started = 0;

        j.line_ns = j.start_ns;
        if (threads <= 0)
                threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
        if (threads > THREADS_MAX)
                threads = THREADS_MAX;
        for (size_t i = 0; i < n; i++)
                j.total += cost_of(&j, i);
        while (started < threads - 1 && pthread_create(&others[started], NULL, work, &j) == 0)
                started++;
        (void)work(&j); /* fewer threads than wanted are slower, not wrong */
        while (started > 0)
                (void)pthread_join(others[--started], NULL);
        if (j.terminal)
                (void)fputs("\r\033[K", stderr);
        if (j.failed == 0)
                return 0;
        if (e)
                *e = j.err;
        return j.failed;
}
