/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/push.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include "common/clock.h"
#include "common/log.h"
#include "config/cli.h"
#include "trainer-client/metrics.h"
#include "trainer-client/pipe.h"
#include "trainer-client/progress.h"
#include "trainer-client/quarantine.h"

#define PARK_LOG_NS (60 * NS_PER_S)
#define PARK_PARTS  8 /* into so many pieces goes a batch whose beginning the receiver is past */

/* A destination's work; each has a thread. */
struct push {
        const struct options *options;
        struct destination *d;
        struct cursor cursor;
        struct pipe *pipe;
        struct store *splitting; /* a second reader, while the pipe packs ahead; NULL until needed */
        struct progress *progress;
        struct metrics metrics;
        int64_t newest;
        uint64_t not_before_ns; /* rate limit: when the next batch may begin */
        struct log_limit park_log;
        bool acks_failed; /* said once */
        int result;
};

static int send_parcel(struct push *p, struct parcel *parcel, struct err *e);

/* ---- the cursor ---- */

/* The copy for the collector's retention. An old one only keeps intervals longer than necessary; without any,
 * the collector does not know that this destination waits for them. */
static void publish_acknowledgement(struct push *p)
{
        struct err e = { "" };

        if (cursor_acknowledge(p->options->store_path, &p->cursor, &e) == 0 || p->acks_failed)
                return;
        p->acks_failed = true;
        if (cursor_is_known(p->options->store_path, p->cursor.destination))
                log_warning(
                        "the collector cannot see what was acknowledged and may keep intervals longer: %s",
                        e.text);
        else
                log_warning("the collector does not know of destination %s and removes intervals by their "
                            "age, sent "
                            "or not, until this user may write there: %s",
                            p->cursor.destination, e.text);
}

static int save_cursor(struct push *p, const struct cursor *next, struct err *e)
{
        int r = cursor_save(p->options->state_path, next, e);

        if (r == 0)
                p->cursor = *next;
        return r;
}

/* The range is on record before it is sent, so that whoever sends it again sends the same. */
static int announce(struct push *p, const struct parcel *parcel, struct err *e)
{
        struct cursor next = p->cursor;

        if (next.sending_after == parcel->after_id && next.sending_last >= parcel->range.last_id)
                return 0; /* it, or what it is the first piece of */
        next.sending_after = parcel->after_id;
        next.sending_last = parcel->range.last_id;
        return save_cursor(p, &next, e);
}

/* This parcel is done with. What the pipe has ready is announced by the same write. */
static int advance(struct push *p, const struct parcel *parcel, struct cursor *next, struct err *e)
{
        int64_t sending_last = next->sending_last;
        int r;

        next->acked_ms = clock_wall_ms();
        if (sending_last > parcel->range.last_id) { /* the first part of what was announced */
                next->sending_after = parcel->range.last_id;
        } else if (!pipe_peek(p->pipe, &next->sending_after, &next->sending_last)) {
                next->sending_after = next->sending_last = 0;
        }
        r = cursor_add(next, parcel->after_id, &parcel->range);
        if (r < 0)
                return err_set(e, r, "the backlog has too many holes");
        r = save_cursor(p, next, e);
        if (r < 0)
                return err_prefix(e, r, "acknowledged, but it will be sent again");
        publish_acknowledgement(p);
        return 0;
}

static int acknowledge(struct push *p, const struct parcel *parcel, struct err *e)
{
        struct cursor next = p->cursor;
        int r;

        next.next_bundle = parcel->bundle;
        r = advance(p, parcel, &next, e);
        if (r < 0)
                return r;
        p->metrics.batches++;
        p->metrics.samples += (int64_t)parcel->samples;
        p->metrics.bytes += (int64_t)parcel->body.size;
        p->metrics.plain_bytes += (int64_t)parcel->plain_size;
        progress_batch(p->progress, parcel->intervals, parcel->samples, parcel->body.size);
        return 0;
}

/* ---- what happens to a batch ---- */

/* Send (parcel's beginning, its end] in pieces of `size` intervals. */
static int send_pieces(struct push *p, const struct parcel *whole, size_t size, struct err *e)
{
        int64_t after = whole->after_id, last = whole->range.last_id;
        struct parcel piece;
        int r = 1;

        parcel_init(&piece);
        if (!p->splitting)
                r = store_open(p->options->store_path, &p->options->names, &p->splitting, e);
        while (r >= 0 && after < last) {
                r = pipe_pack(p->splitting, p->d, &(struct pipe_range){ after, last, INT64_MAX, size },
                              &piece, e);
                if (r <= 0)
                        break;
                piece.again = whole->again;
                after = piece.range.last_id;
                r = send_parcel(p, &piece, e);
        }
        parcel_done(&piece);
        return r < 0 ? r : 0;
}

/* Never again: the receiver takes nothing that old. */
static int park(struct push *p, const struct parcel *parcel, const char *why, struct err *e)
{
        struct cursor next = p->cursor;

        if (log_limit_ok(&p->park_log, PARK_LOG_NS)) /* a long backlog parks many */
                log_warning("%s: batch %s is refused for ever and parked: %s", p->d->own.name, parcel->name,
                            why);
        next.refused_intervals += parcel->intervals;
        progress_refused(p->progress, parcel->intervals);
        return advance(p, parcel, &next, e);
}

static int quarantine(struct push *p, const struct parcel *parcel, const char *why, struct err *e)
{
        struct cursor next = p->cursor;
        int r;

        r = quarantine_put(p->options, p->d, parcel, why, e);
        if (r < 0)
                return r;
        log_warning("%s: batch %s is in quarantine: %s", p->d->own.name, parcel->name, why);
        next.quarantined_batches++;
        progress_refused(p->progress, parcel->intervals);
        return advance(p, parcel, &next, e);
}

static void keep_to_the_rate(struct push *p, size_t bytes)
{
        uint64_t now = clock_monotonic_ns(), rate = (uint64_t)p->d->own.rate_bytes, wait;
        struct timespec t;

        if (rate == 0)
                return;
        if (p->not_before_ns > now) {
                wait = p->not_before_ns - now;
                t = (struct timespec){ (time_t)(wait / NS_PER_S), (long)(wait % NS_PER_S) };
                (void)nanosleep(&t, NULL);
        } else {
                p->not_before_ns = now;
        }
        p->not_before_ns += (uint64_t)((double)bytes / (double)rate * (double)NS_PER_S);
}

static int send_parcel(struct push *p, struct parcel *parcel, struct err *e)
{
        struct err words = { "" };
        int r;

        r = announce(p, parcel, e);
        if (r < 0)
                return r;
        if (parcel->unsayable)
                return park(p, parcel, parcel->last_answer.text, e);
        parcel->bundle = p->cursor.next_bundle;
        keep_to_the_rate(p, parcel->body.size);
        r = destination_deliver(p->d, parcel, &words);
        p->metrics.attempts += 1;
        switch (r) {
        case 0:
                return acknowledge(p, parcel, e);
        case -E2BIG:
                if (parcel->intervals == 1)
                        return quarantine(p, parcel, parcel->last_answer.text, e);
                pipe_limit(p->pipe, (size_t)parcel->intervals / 2);
                return send_pieces(p, parcel, (size_t)(parcel->intervals + 1) / 2, e);
        case -EBADMSG:
                return quarantine(p, parcel, parcel->last_answer.text, e);
        case -ESTALE:
                if (parcel->intervals < 2 * PARK_PARTS)
                        return park(p, parcel, parcel->last_answer.text, e);
                return send_pieces(p, parcel, (size_t)(parcel->intervals / PARK_PARTS), e);
        default:
                return err_set(e, r, "%s", words.text);
        }
}

/* ---- one round ---- */

static void begin_anew(struct cursor *c)
{
        struct cursor fresh = { .refused_intervals = c->refused_intervals,
                                .quarantined_batches = c->quarantined_batches,
                                .next_bundle = c->next_bundle };

        *c = fresh;
}

static int load_cursor(struct push *p, struct store *store, struct err *e)
{
        const struct options *o = p->options;
        const char *name = p->d->own.name;
        int r;

        p->cursor = (struct cursor){ 0 };
        r = cursor_load(o->state_path, name, &p->cursor, e);
        if (r == -EBADMSG)
                log_warning("%s; sending from the beginning, which adds nothing twice", e->text);
        else if (r < 0 && r != -ENOENT)
                return r;
        r = p->cursor.interval_id > 0 ? store_knows(store, &p->cursor, e) : 1;
        if (r < 0)
                return r;
        if (r == 0) {
                log_warning(
                        "'%s' is not the database that the cursor belongs to; sending it from the beginning",
                        o->store_path);
                begin_anew(&p->cursor);
        }
        (void)snprintf(p->cursor.destination, sizeof(p->cursor.destination), "%s", name);
        if (!cursor_is_acknowledged(o->store_path, &p->cursor))
                publish_acknowledgement(p); /* nothing yet, or a run before us ended in between */
        return 0;
}

static int send_backlog(struct push *p, struct err *e)
{
        struct parcel *parcel;
        int r;

        while ((r = pipe_next(p->pipe, &parcel, e)) > 0) {
                r = send_parcel(p, parcel, e);
                if (r < 0)
                        break;
                metrics_write(p->options, p->d, &p->cursor, &p->metrics, false);
        }
        return r;
}

static int push_round(struct push *p, struct err *e)
{
        CLEANUP(store_closep) struct store *store = NULL;
        struct store_backlog backlog = { 0 };
        int64_t done = 0;
        int r;

        r = store_open(p->options->store_path, &p->options->names, &store, e);
        if (r == 0)
                r = load_cursor(p, store, e);
        if (r == 0)
                r = store_backlog(store, p->cursor.interval_id, &backlog, e);
        if (r == 0)
                r = store_removed_unsent(store, &p->metrics.removed_unsent, e);
        if (r < 0)
                return r;
        if (backlog.lost > 0)
                log_warning("retention removed %" PRId64 " intervals before they were sent to %s",
                            backlog.lost, p->d->own.name);
        for (size_t i = 0; i < p->cursor.n_ranges; i++)
                done += p->cursor.ranges[i].last_id - p->cursor.ranges[i].first_id + 1;

        progress_start(p->progress, p->d->own.name, backlog.intervals > done ? backlog.intervals - done : 0);
        p->newest = backlog.newest_id;
        p->metrics.backlog = &backlog;
        p->metrics.lost = backlog.lost;
        r = pipe_start(store, p->d, &p->cursor, backlog.newest_id, &p->pipe, e);
        if (r == 0)
                r = send_backlog(p, e);
        pipe_stop(p->pipe);
        p->pipe = NULL;
        store_close(TAKE(p->splitting));
        if (r == 0 && p->options->quarantined)
                r = quarantine_resend(p->options, p->d, e);
        p->metrics.failed_rounds += r < 0;
        metrics_write(p->options, p->d, &p->cursor, &p->metrics, true);
        p->metrics.backlog = NULL;
        progress_end(p->progress);
        return r < 0 ? r : 0;
}

/* ---- push ---- */

static void format_summary(const struct push *p, char *ret, size_t size)
{
        const struct progress *g = p->progress;
        double seconds = (double)(clock_monotonic_ns() - g->start_ns) / NS_PER_S;
        char bytes[PROGRESS_SIZE_TEXT], refused[64] = "";

        progress_format_size(bytes, g->bytes);
        if (g->refused > 0)
                (void)snprintf(refused, sizeof(refused), ", %" PRId64 " intervals refused", g->refused);
        (void)snprintf(
                ret, size,
                "%" PRId64
                " intervals (%zu samples, %zu batches, %s) acknowledged by %s in %.1f s%s; cursor %" PRId64,
                g->intervals, g->samples, g->batches, bytes, p->d->own.name, seconds, refused,
                p->cursor.interval_id);
}

static bool did_something(const struct push *p)
{
        return p->progress->intervals > 0 || p->progress->refused > 0;
}

static void *push_once(void *data)
{
        struct push *p = data;
        struct err e = { "" };
        char summary[320];

        p->result = push_round(p, &e);
        if (did_something(p)) {
                format_summary(p, summary, sizeof(summary));
                (void)printf("%s\n", summary);
        }
        if (p->result < 0)
                (void)log_error(p->result, "%s", e.text);
        else if (!did_something(p))
                (void)printf("nothing to send to %s\n", p->d->own.name);
        return NULL;
}

static void *push_forever(void *data)
{
        struct push *p = data;
        const struct timespec pause = { .tv_sec = (time_t)(p->options->follow_interval_ms / 1000),
                                        .tv_nsec = (long)(p->options->follow_interval_ms % 1000 * 1000000) };

        for (;;) {
                struct err e = { "" };
                char summary[320];
                int r = push_round(p, &e);

                if (did_something(p)) {
                        format_summary(p, summary, sizeof(summary));
                        log_info("%s", summary);
                }
                if (r < 0)
                        (void)log_error(r, "%s; the next attempt follows in %g s", e.text,
                                        (double)p->options->follow_interval_ms / 1000);
                (void)nanosleep(&pause, NULL);
        }
        return NULL; /* never */
}

/* Nothing needs an orderly end: the cursor is moved by rename, and what was under way is sent again. */
static void on_signal(int sig)
{
        (void)sig;
        _exit(EXIT_DONE);
}

static int run_all(struct push *pushes, size_t n, bool follow)
{
        struct sigaction action = { .sa_handler = on_signal };
        pthread_t threads[KIND_N];
        bool started[KIND_N] = { false };
        int status = EXIT_NOTHING;

        if (follow) { /* the first process of a container has no default action */
                (void)sigaction(SIGTERM, &action, NULL);
                (void)sigaction(SIGINT, &action, NULL);
        }
        for (size_t i = 1; i < n; i++)
                if (pthread_create(&threads[i], NULL, follow ? push_forever : push_once, &pushes[i]) != 0)
                        pushes[i].result =
                                log_error(-EAGAIN, "cannot start a thread for %s", pushes[i].d->own.name);
                else
                        started[i] = true;
        (void)(follow ? push_forever : push_once)(&pushes[0]);
        for (size_t i = 1; i < n; i++)
                if (started[i])
                        (void)pthread_join(threads[i], NULL);
        for (size_t i = 0; i < n; i++) {
                if (pushes[i].result < 0)
                        return pushes[i].result; /* was logged */
                if (did_something(&pushes[i]))
                        status = EXIT_DONE;
        }
        return status;
}

int push_run(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        struct push pushes[KIND_N] = { { .result = 0 } };
        struct progress progress[KIND_N] = { { .total = 0 } };
        int locks[KIND_N], r = 0;
        size_t n = 0;

        (void)argc;
        (void)argv;
        for (int kind = 0; kind < KIND_N && r == 0; kind++) {
                struct push *p = &pushes[n];
                struct err e = { "" };

                if (!options_enabled(o, (enum kind)kind))
                        continue;
                p->options = o;
                p->progress = &progress[n];
                locks[n] = -1;
                r = destination_open(o, (enum kind)kind, &p->d, &e);
                if (r == 0)
                        r = cursor_lock(o->state_path, p->d->own.name, &locks[n], &e);
                n++;
                if (r < 0)
                        (void)log_error(r, "%s", e.text);
        }
        if (r == 0)
                r = n > 0 ? run_all(pushes, n, o->follow)
                          : log_error(-EINVAL, "no destination is enabled (destinations)");
        for (size_t i = 0; i < n; i++) {
                destination_free(pushes[i].d);
                closep(&locks[i]);
        }
        return r;
}
