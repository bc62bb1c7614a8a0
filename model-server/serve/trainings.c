/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/trainings.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "model-server/learn/offline.h"

enum state { WAITING, RUNNING, DONE, FAILED };
static const char *const state_names[] = { "waiting", "running", "done", "failed" };

struct training {
        struct training *next;
        struct offline_settings settings;
        /* A client that waits: its call and reply, and whom to tell. */
        const struct call *call;
        struct reply *reply;
        void (*done)(void *arg);
        void *arg;
        /* One that does not: a copy of the body, and what became of it. */
        char id[33]; /* "" for a client that waits */
        char *body;  /* owned; NULL: the call's */
        size_t size;
        enum state state;
        struct offline_progress progress;
        struct offline_result result;
        int error;
        struct err e;
};

struct trainings {
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t wake;
        struct training *first, **last; /* waiting */
        int waiting;
        struct training *kept[TRAININGS_KEPT_MAX]; /* owned; newest first; NULL: free. Waiting ones are in the
                                                      line too */
        bool stopping;
};

static void training_free(struct training *t)
{
        if (!t)
                return;
        offline_result_done(&t->result);
        free(t->body);
        free(t);
}

static void add_result(const struct training *t, struct reply *reply)
{
        reply->type = "application/zip";
        (void)buf_append(&reply->body, t->result.zip.data, t->result.zip.size); /* failure is sticky */
        reply_header(reply, "Content-Disposition", "attachment; filename=%s.zip", t->result.name);
        reply_header(reply, "Cache-Control", "no-cache");
        reply_digest(reply);
        if (*t->result.left_out)
                reply_header(reply, "Wattloop-Left-Out", "%.200s", t->result.left_out);
}

static void add_failure(const struct training *t, struct reply *reply)
{
        switch (t->error) {
        case -ENODATA:
        case -EBADMSG:
        case -EINVAL:
        case -E2BIG:
                reply_words(reply, 400, t->e.text);
                break;
        default:
                (void)log_error(t->error, "cannot train: %s", t->e.text);
                reply_error(reply, t->error == -ENOMEM ? 503 : 500, "%s", t->e.text);
        }
}

static void train(struct training *t)
{
        const char *body = t->body ? t->body : t->call->body;

        t->error = offline_train(body ? body : "", t->size, &t->settings, clock_wall_ms(), &t->progress,
                                 &t->result, &t->e);
        if (t->error == -ENODATA) { /* upstream's words, and why */
                char why[sizeof(t->e.text)];

                memcpy(why, t->e.text, sizeof(why));
                (void)err_set(&t->e, 0, "Cannot train model: %s", why);
        }
}

static struct training *take(struct trainings *ts)
{
        struct training *t;

        (void)pthread_mutex_lock(&ts->lock);
        while (!ts->first && !ts->stopping)
                (void)pthread_cond_wait(&ts->wake, &ts->lock);
        t = ts->first;
        if (t) {
                ts->first = t->next;
                if (!ts->first)
                        ts->last = &ts->first;
                ts->waiting--;
                t->state = RUNNING;
                if (ts->stopping)
                        t->error = -ECANCELED;
        }
        (void)pthread_mutex_unlock(&ts->lock);
        return t;
}

/* The lock is held. */
static void trim(struct trainings *ts)
{
        size_t bytes = 0;

        for (int i = 0; i < TRAININGS_KEPT_MAX; i++) {
                struct training *t = ts->kept[i];

                if (!t)
                        continue;
                bytes += t->result.zip.size;
                if (i && bytes > TRAININGS_KEPT_BYTES && t->state > RUNNING) {
                        training_free(t);
                        ts->kept[i] = NULL;
                }
        }
}

static void finish(struct trainings *ts, struct training *t)
{
        (void)pthread_mutex_lock(&ts->lock);
        t->state = t->error ? FAILED : DONE;
        free(t->body);
        t->body = NULL;
        trim(ts);
        (void)pthread_mutex_unlock(&ts->lock);
}

static void *run(void *arg)
{
        struct trainings *ts = arg;
        struct training *t;

        while ((t = take(ts))) {
                bool kept = *t->id;

                if (t->error)
                        (void)err_set(&t->e, 0, "the server is stopping");
                else
                        train(t);
                if (kept) {
                        finish(ts, t);
                        continue;
                }
                if (t->error == -ECANCELED)
                        reply_error(t->reply, 503, "%s", t->e.text);
                else if (t->error)
                        add_failure(t, t->reply);
                else
                        add_result(t, t->reply);
                t->done(t->arg);
                training_free(t);
        }
        return NULL;
}

int trainings_start(struct trainings **ret, struct err *e)
{
        struct trainings *ts = calloc(1, sizeof(*ts));
        int r;

        if (!ts)
                return err_set(e, -ENOMEM, "out of memory");
        ts->last = &ts->first;
        (void)pthread_mutex_init(&ts->lock, NULL); /* neither fails on Linux */
        (void)pthread_cond_init(&ts->wake, NULL);
        r = pthread_create(&ts->thread, NULL, run, ts);
        if (r) {
                free(ts);
                return err_set(e, -r, "cannot start a thread: %s", strerror(r));
        }
        *ret = ts;
        return 0;
}

void trainings_stop(struct trainings *ts)
{
        if (!ts)
                return;
        (void)pthread_mutex_lock(&ts->lock);
        ts->stopping = true;
        (void)pthread_cond_signal(&ts->wake);
        (void)pthread_mutex_unlock(&ts->lock);
        (void)pthread_join(ts->thread, NULL);
        for (int i = 0; i < TRAININGS_KEPT_MAX; i++)
                training_free(ts->kept[i]);
        (void)pthread_cond_destroy(&ts->wake);
        (void)pthread_mutex_destroy(&ts->lock);
        free(ts);
}

static bool wants_async(const struct call *call)
{
        const char *prefer = call->header(call, "Prefer"), *async = call->query(call, "async");

        return (prefer && strcasestr(prefer, "respond-async")) || (async && !strcmp(async, "true"));
}

/* In front of the others; the last of them goes, unless it still has to be trained. */
static bool keep(struct trainings *ts, struct training *t)
{
        struct training *oldest = ts->kept[TRAININGS_KEPT_MAX - 1];
        unsigned char random[16];

        if (oldest && oldest->state <= RUNNING)
                return false;
        training_free(oldest);
        memmove(&ts->kept[1], &ts->kept[0], (TRAININGS_KEPT_MAX - 1) * sizeof(struct training *));
        ts->kept[0] = t;
        randombytes_buf(random, sizeof(random));
        (void)sodium_bin2hex(t->id, sizeof(t->id), random, sizeof(random));
        return true;
}

static bool enter(struct trainings *ts, struct training *t, bool async, char ret_id[33])
{
        bool taken;

        (void)pthread_mutex_lock(&ts->lock);
        taken = !ts->stopping && ts->waiting < TRAININGS_WAITING_MAX && (!async || keep(ts, t));
        if (taken) {
                *ts->last = t;
                ts->last = &t->next;
                ts->waiting++;
                memcpy(ret_id, t->id, sizeof(t->id)); /* once the lock is open, it may be gone */
                (void)pthread_cond_signal(&ts->wake);
        }
        (void)pthread_mutex_unlock(&ts->lock);
        return taken;
}

static void reply_busy(struct reply *reply)
{
        reply_error(reply, 503, "%d trainings wait; come back", TRAININGS_WAITING_MAX);
        reply_header(reply, "Retry-After", "5");
}

bool trainings_submit(struct trainings *ts, const struct call *call, struct reply *reply, uint64_t seed,
                      void (*done)(void *arg), void *arg)
{
        struct training *t = calloc(1, sizeof(*t));
        bool async = wants_async(call);
        char id[33];

        if (t && async) {
                t->body = malloc(call->size + 1);
                if (t->body && call->size)
                        memcpy(t->body, call->body, call->size);
        }
        if (!t || (async && !t->body)) {
                training_free(t);
                reply_error(reply, 503, "out of memory");
                return false;
        }
        if (t->body)
                t->body[call->size] = '\0';
        t->settings = (struct offline_settings){ seed, TRAIN_BODY_MAX };
        t->call = call;
        t->reply = reply;
        t->done = done;
        t->arg = arg;
        t->size = call->size;
        if (!enter(ts, t, async, id)) {
                training_free(t);
                reply_busy(reply);
                return false;
        }
        if (!async)
                return true;
        reply->status = 202;
        reply_header(reply, "Location", "/api/v1/train?id=%s", id);
        reply_header(reply, "Preference-Applied", "respond-async");
        (void)buf_printf(&reply->body, "{\"id\": \"%s\", \"status\": \"/api/v1/train?id=%s\"}", id, id);
        return false;
}

/* The lock is held while the answer is made. */
static const struct training *find(const struct trainings *ts, const struct call *call)
{
        const char *id = call->query(call, "id");

        for (int i = 0; id && *id && i < TRAININGS_KEPT_MAX; i++)
                if (ts->kept[i] && !strcmp(ts->kept[i]->id, id))
                        return ts->kept[i];
        return NULL;
}

void trainings_status(struct trainings *ts, const struct call *call, struct reply *reply)
{
        const struct training *t;

        (void)pthread_mutex_lock(&ts->lock);
        t = find(ts, call);
        if (!t) {
                reply_error(reply, 404, "there is no such training (any more)");
        } else {
                int total = atomic_load(&t->progress.total), done = atomic_load(&t->progress.done);

                (void)buf_printf(
                        &reply->body,
                        "{\"id\": \"%s\", \"state\": \"%s\", \"done\": %d, \"total\": %d, \"progress\": %.3f",
                        t->id, state_names[t->state], done, total,
                        t->state == DONE ? 1.0
                        : total          ? (double)done / total
                                         : 0.0);
                if (t->state == DONE)
                        (void)buf_printf(
                                &reply->body,
                                ", \"models\": %d, \"rows\": %llu, \"left_out\": \"%s\", \"result\": "
                                "\"/api/v1/train/result?id=%s\"",
                                t->result.models, (unsigned long long)t->result.rows, t->result.left_out,
                                t->id);
                if (t->state == FAILED) {
                        (void)buf_puts(&reply->body, ", \"error\": ");
                        (void)json_write_string(&reply->body, t->e.text);
                }
                (void)buf_puts(&reply->body, "}");
        }
        (void)pthread_mutex_unlock(&ts->lock);
}

void trainings_result(struct trainings *ts, const struct call *call, struct reply *reply)
{
        const struct training *t;

        (void)pthread_mutex_lock(&ts->lock);
        t = find(ts, call);
        if (!t)
                reply_error(reply, 404, "there is no such training (any more)");
        else if (t->state == DONE)
                add_result(t, reply);
        else if (t->state == FAILED)
                add_failure(t, reply);
        else
                reply_error(reply, 409, "it is %s", state_names[t->state]);
        (void)pthread_mutex_unlock(&ts->lock);
}
