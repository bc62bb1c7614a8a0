/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/pipe.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

struct pipe {
        struct store *store; /* borrowed, as the destination */
        struct destination *d;
        struct cursor planned; /* as if all that is packed were acknowledged */
        int64_t newest;
        pthread_t thread;
        bool running;
        pthread_mutex_t lock; /* what follows */
        pthread_cond_t changed;
        struct parcel parcel[3]; /* one being sent, one ready, one being packed */
        struct parcel *sending, *ready;
        size_t max_intervals;
        bool stop, ended;
        int failed; /* why it ended; 0: nothing is left */
        struct err e;
};

/* Is it too short a recording for a trainer, and will it grow? The end of an epoch goes as it is. */
static bool should_wait(const struct destination *d, const struct pack_batch *batch, int64_t newest)
{
        return d->kind == KIND_KEPLER_TRAINER && batch->intervals[batch->n_intervals - 1].id == newest &&
               (int64_t)pack_batch_size(batch) < d->options->kepler.min_intervals &&
               (int64_t)pack_batch_size(batch) < d->own.batch_intervals;
}

int pipe_pack(struct store *store, struct destination *d, const struct pipe_range *range,
              struct parcel *parcel, struct err *e)
{
        size_t max = range->max_intervals;
        int r;

        for (;;) {
                CLEANUP(pack_batch_freep) struct pack_batch *batch = NULL;
                const struct store_range what = { range->after, range->last, max,
                                                  (size_t)(d->own.batch_bytes / PIPE_ROW_BYTES) + 1 };

                r = store_read(store, &what, &batch, e);
                if (r <= 0 || should_wait(d, batch, range->newest))
                        return r < 0 ? r : 0;
                parcel->again = parcel->unsayable = false;
                r = destination_encode(d, batch, range->after, parcel, e);
                if (r == -EBADMSG) { /* it cannot be said there, and waiting changes nothing */
                        parcel->last_answer = *e;
                        parcel->unsayable = true;
                        return 1;
                }
                if (r != -E2BIG || pack_batch_size(batch) == 1)
                        return r < 0 ? r : 1;
                max = pack_batch_size(batch) / 2;
        }
}

/* ---- the packing thread ---- */

/* Nothing is recorded there any more, so it is done with. */
static int skip_gap(struct cursor *c, int64_t after, int64_t last, struct err *e)
{
        struct cursor_range nothing = { .last_id = last, .end_ms = c->end_ms };
        int r;

        (void)snprintf(nothing.epoch, sizeof(nothing.epoch), "%s", c->epoch);
        r = cursor_add(c, after, &nothing);
        return r < 0 ? err_set(e, r, "the backlog has too many holes") : 0;
}

/* The next batch of a gap; 0: the gap is empty. */
static int pack_gap(struct pipe *p, struct parcel *parcel, int64_t after, int64_t last, size_t max,
                    struct err *e)
{
        const struct store_range gap = { after, last, max,
                                         (size_t)(p->d->own.batch_bytes / PIPE_ROW_BYTES) + 1 };
        int r = 1;

        if (p->d->own.order == ORDER_NEWEST)
                r = store_newest(p->store, &gap, &after, &last, e);
        return r <= 0 ? r
                      : pipe_pack(p->store, p->d, &(struct pipe_range){ after, last, p->newest, max }, parcel,
                                  e);
}

/* What was being sent when the last process ended is sent again as it was; then what is not done with. 0:
 * nothing is left. */
static int pack_next(struct pipe *p, struct parcel *parcel, size_t max, struct err *e)
{
        struct cursor *c = &p->planned;
        int64_t after = c->sending_after, last = c->sending_last;
        bool again = last > 0;
        int r = 0;

        c->sending_after = c->sending_last = 0;
        if (again)
                r = pipe_pack(p->store, p->d, &(struct pipe_range){ after, last, 0, SIZE_MAX }, parcel, e);
        again = r > 0;
        while (r == 0 && cursor_gap(c, p->newest, p->d->own.order == ORDER_NEWEST, &after, &last)) {
                r = pack_gap(p, parcel, after, last, max, e);
                if (r == 0 && last == p->newest)
                        return 0;
                if (r == 0 && (r = skip_gap(c, after, last, e)) < 0)
                        return r;
        }
        if (r <= 0)
                return r;
        parcel->again = again;
        r = cursor_add(c, parcel->after_id, &parcel->range);
        return r < 0 ? err_set(e, r, "the backlog has too many holes") : 1;
}

static struct parcel *free_parcel(struct pipe *p)
{
        for (size_t i = 0; i < ARRAY_SIZE(p->parcel); i++)
                if (&p->parcel[i] != p->sending && &p->parcel[i] != p->ready)
                        return &p->parcel[i];
        return NULL;
}

static void *pack_all(void *data)
{
        struct pipe *p = data;
        struct err e = { "" };
        int r = 1;

        (void)pthread_mutex_lock(&p->lock);
        while (r > 0 && !p->stop) {
                struct parcel *parcel = free_parcel(p);
                size_t max = p->max_intervals;

                (void)pthread_mutex_unlock(&p->lock);
                r = pack_next(p, parcel, max, &e);
                (void)pthread_mutex_lock(&p->lock);
                while (r > 0 && p->ready && !p->stop)
                        (void)pthread_cond_wait(&p->changed, &p->lock);
                if (r > 0 && !p->stop)
                        p->ready = parcel;
                (void)pthread_cond_broadcast(&p->changed);
        }
        p->ended = true;
        p->failed = r < 0 ? r : 0;
        p->e = e;
        (void)pthread_cond_broadcast(&p->changed);
        (void)pthread_mutex_unlock(&p->lock);
        return NULL;
}

/* ---- the sender's side ---- */

int pipe_start(struct store *store, struct destination *d, const struct cursor *cursor, int64_t newest,
               struct pipe **ret_pipe, struct err *e)
{
        struct pipe *p = calloc(1, sizeof(*p));
        int r;

        if (!p)
                return err_set(e, -ENOMEM, "out of memory");
        p->store = store;
        p->d = d;
        p->planned = *cursor;
        p->newest = newest;
        p->max_intervals = (size_t)d->own.batch_intervals;
        for (size_t i = 0; i < ARRAY_SIZE(p->parcel); i++)
                parcel_init(&p->parcel[i]);
        (void)pthread_mutex_init(&p->lock, NULL);
        (void)pthread_cond_init(&p->changed, NULL);
        r = pthread_create(&p->thread, NULL, pack_all, p);
        p->running = r == 0;
        if (r != 0) {
                pipe_stop(p);
                return err_set(e, -r, "cannot start a thread: %s", strerror(r));
        }
        *ret_pipe = p;
        return 0;
}

void pipe_stop(struct pipe *p)
{
        if (!p)
                return;
        (void)pthread_mutex_lock(&p->lock);
        p->stop = true;
        (void)pthread_cond_broadcast(&p->changed);
        (void)pthread_mutex_unlock(&p->lock);
        if (p->running)
                (void)pthread_join(p->thread, NULL);
        for (size_t i = 0; i < ARRAY_SIZE(p->parcel); i++)
                parcel_done(&p->parcel[i]);
        (void)pthread_cond_destroy(&p->changed);
        (void)pthread_mutex_destroy(&p->lock);
        free(p);
}

int pipe_next(struct pipe *p, struct parcel **ret_parcel, struct err *e)
{
        int r;

        (void)pthread_mutex_lock(&p->lock);
        p->sending = NULL;
        while (!p->ready && !p->ended)
                (void)pthread_cond_wait(&p->changed, &p->lock);
        *ret_parcel = p->sending = p->ready;
        p->ready = NULL;
        r = p->sending ? 1 : p->failed < 0 ? err_set(e, p->failed, "%s", p->e.text) : 0;
        (void)pthread_cond_broadcast(&p->changed);
        (void)pthread_mutex_unlock(&p->lock);
        return r;
}

bool pipe_peek(struct pipe *p, int64_t *ret_after, int64_t *ret_last)
{
        bool there;

        (void)pthread_mutex_lock(&p->lock);
        there = p->ready;
        *ret_after = there ? p->ready->after_id : 0;
        *ret_last = there ? p->ready->range.last_id : 0;
        (void)pthread_mutex_unlock(&p->lock);
        return there;
}

void pipe_limit(struct pipe *p, size_t max_intervals)
{
        (void)pthread_mutex_lock(&p->lock);
        if (max_intervals < p->max_intervals)
                p->max_intervals = max_intervals > 0 ? max_intervals : 1;
        (void)pthread_mutex_unlock(&p->lock);
}
