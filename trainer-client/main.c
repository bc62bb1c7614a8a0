/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-trainer-client: read -> pack -> send, and the cursor moves when the destination has acknowledged.
 * A crash anywhere means that a batch is sent again, which adds nothing. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include "common/clock.h"
#include "common/gzip.h"
#include "common/log.h"
#include "config/cli.h"
#include "trainer-client/cursor.h"
#include "trainer-client/options.h"
#include "trainer-client/pack.h"
#include "trainer-client/progress.h"
#include "trainer-client/send.h"
#include "trainer-client/status.h"
#include "trainer-client/store.h"

#define PLAIN_MAX  ((size_t)256 << 20) /* bytes of a batch before compression */
#define PACKED_MAX ((size_t)256 << 20)
#define GZIP_LEVEL 6
#define ROW_BYTES  128 /* a recorded row takes about so much of a batch */

/* One run: what stays the same from batch to batch. */
struct push {
        const struct options *options;
        struct sender *sender;
        struct cursor cursor;
        size_t max_intervals; /* of the next batch; halved when the server finds batches too large */
        struct progress progress;
        bool acks_failed; /* said once */
};

/* ---- one batch ---- */

/* The copy for the collector's retention. Without it nothing is lost, it is only kept longer than necessary.
 */
static void publish_acknowledgement(struct push *p)
{
        struct err e = { "" };

        if (cursor_acknowledge(p->options->store_path, &p->cursor, &e) == 0 || p->acks_failed)
                return;
        p->acks_failed = true;
        log_warning("the collector cannot see what was acknowledged, so it may keep intervals longer: %s",
                    e.text);
}

static int advance_cursor(struct push *p, const struct pack_batch *batch, struct err *e)
{
        const struct pack_interval *last = &batch->intervals[batch->n_intervals - 1];
        struct cursor next = p->cursor;
        int r;

        next.interval_id = last->id;
        next.end_ms = last->end_ms;
        next.acked_ms = clock_wall_ms();
        (void)snprintf(next.destination, sizeof(next.destination), "%s", p->options->destination);
        (void)snprintf(next.epoch, sizeof(next.epoch), "%s", batch->node.epoch);
        r = cursor_save(p->options->state_path, &next, e);
        if (r < 0)
                return err_prefix(e, r, "acknowledged, but it will be sent again");
        p->cursor = next;
        publish_acknowledgement(p);
        return 0;
}

static void name_batch(const struct pack_batch *batch, struct send_batch *ret)
{
        const struct pack_interval *first = &batch->intervals[pack_batch_first(batch)];
        const struct pack_interval *last = &batch->intervals[batch->n_intervals - 1];

        (void)snprintf(ret->name, sizeof(ret->name), "%.64s/%.64s/%" PRId64 "-%" PRId64, batch->node.node_id,
                       batch->node.epoch, first->id, last->id);
}

/* Pack, send, move the cursor. -E2BIG: too large for the server, or for us. */
static int push_batch(struct push *p, const struct pack_batch *batch, struct err *e)
{
        CLEANUP(buf_done) struct buf plain;
        CLEANUP(buf_done) struct buf packed;
        struct send_batch send = { .body = NULL };
        int r;

        buf_init(&plain, PLAIN_MAX);
        buf_init(&packed, PACKED_MAX);
        r = pack_lines(batch, &plain, &send.samples, e);
        if (r == 0)
                r = gzip_pack(plain.data, plain.size, GZIP_LEVEL, &packed, e);
        if (r < 0)
                return r == -EFBIG ? -E2BIG : r;
        name_batch(batch, &send);
        send.body = packed.data;
        send.size = packed.size;

        r = sender_deliver(p->sender, &send, e);
        if (r < 0)
                return r;
        r = advance_cursor(p, batch, e);
        if (r < 0)
                return r;
        progress_batch(&p->progress, (int64_t)pack_batch_size(batch), send.samples, send.size);
        return 0;
}

/* ---- one round ---- */

static int load_cursor(struct push *p, struct store *store, struct err *e)
{
        const struct options *o = p->options;
        int r;

        p->cursor = (struct cursor){ 0 };
        r = cursor_load(o->state_path, o->destination, &p->cursor, e);
        if (r == -ENOENT)
                return 0;
        if (r == -EBADMSG) {
                log_warning("%s; sending from the beginning, which adds nothing twice", e->text);
                return 0;
        }
        if (r < 0)
                return r;
        r = store_knows(store, &p->cursor, e);
        if (r < 0)
                return r;
        if (r == 0) {
                log_warning(
                        "'%s' is not the database that the cursor belongs to; sending it from the beginning",
                        o->store_path);
                p->cursor = (struct cursor){ 0 };
        } else if (!cursor_is_acknowledged(o->store_path, &p->cursor)) {
                publish_acknowledgement(p); /* a run before us ended in between */
        }
        return 0;
}

/* Send everything behind the cursor, batch by batch. */
static int push_backlog(struct push *p, struct store *store, struct err *e)
{
        const struct options *o = p->options;
        size_t max_rows = (size_t)(o->batch_bytes / ROW_BYTES);
        int r;

        for (;;) {
                CLEANUP(pack_batch_freep) struct pack_batch *batch = NULL;

                r = store_read(store, p->cursor.interval_id, p->max_intervals, max_rows, &batch, e);
                if (r <= 0)
                        return r;
                r = push_batch(p, batch, e);
                if (r == -E2BIG && pack_batch_size(batch) > 1)
                        p->max_intervals = pack_batch_size(batch) / 2;
                else if (r < 0)
                        return r;
        }
}

static int push_round(struct push *p, struct err *e)
{
        CLEANUP(store_closep) struct store *store = NULL;
        struct store_backlog backlog = { 0 };
        int r;

        r = store_open(p->options->store_path, &store, e);
        if (r == 0)
                r = load_cursor(p, store, e);
        if (r == 0)
                r = store_backlog(store, p->cursor.interval_id, &backlog, e);
        if (r < 0)
                return r;
        if (backlog.lost > 0)
                log_warning("retention removed %" PRId64 " intervals before they were sent to %s",
                            backlog.lost, p->options->destination);

        progress_start(&p->progress, backlog.intervals);
        p->max_intervals = (size_t)p->options->batch_intervals;
        r = push_backlog(p, store, e);
        progress_clear(&p->progress);
        return r;
}

/* ---- push ---- */

static void format_summary(const struct push *p, char *ret, size_t size)
{
        double seconds = (double)(clock_monotonic_ns() - p->progress.start_ns) / NS_PER_S;
        char bytes[PROGRESS_SIZE_TEXT];

        progress_format_size(bytes, p->progress.bytes);
        (void)snprintf(
                ret, size,
                "%" PRId64
                " intervals (%zu samples, %zu batches, %s) acknowledged by %s in %.1f s; cursor %" PRId64,
                p->progress.intervals, p->progress.samples, p->progress.batches, bytes,
                p->options->destination, seconds, p->cursor.interval_id);
}

static int push_once(struct push *p)
{
        struct err e = { "" };
        char summary[256];
        int r;

        r = push_round(p, &e);
        if (p->progress.intervals > 0) {
                format_summary(p, summary, sizeof(summary));
                (void)printf("%s\n", summary);
        }
        if (r < 0)
                return log_error(r, "%s", e.text);
        if (p->progress.intervals > 0)
                return EXIT_DONE;
        (void)printf("nothing to send to %s\n", p->options->destination);
        return EXIT_NOTHING;
}

/* Nothing needs an orderly end: the cursor is moved by rename, and what was under way is sent again. */
static void on_signal(int sig)
{
        (void)sig;
        _exit(EXIT_DONE);
}

static _Noreturn void push_forever(struct push *p)
{
        const struct timespec pause = { .tv_sec = (time_t)(p->options->follow_interval_ms / 1000),
                                        .tv_nsec = (long)(p->options->follow_interval_ms % 1000 * 1000000) };
        struct sigaction action = { .sa_handler = on_signal };
        char summary[256];

        (void)sigaction(SIGTERM, &action, NULL); /* the first process of a container has no default action */
        (void)sigaction(SIGINT, &action, NULL);
        for (;;) {
                struct err e = { "" };
                int r;

                p->progress = (struct progress){ 0 };
                r = push_round(p, &e);
                if (p->progress.intervals > 0) {
                        format_summary(p, summary, sizeof(summary));
                        log_info("%s", summary);
                }
                if (r < 0)
                        (void)log_error(r, "%s; the next attempt follows in %g s", e.text,
                                        (double)p->options->follow_interval_ms / 1000);
                (void)nanosleep(&pause, NULL);
        }
}

static int run_push(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        const struct sender_options so = {
                .url = o->server_url,
                .token_file = o->server_token_file,
                .ca_file = o->server_ca_file,
                .timeout_ms = (long)o->timeout_ms,
                .attempts = (int)o->retry_attempts,
                .retry_base_ms = (uint64_t)o->retry_base_ms,
                .retry_max_ms = (uint64_t)o->retry_max_ms,
        };
        CLEANUP(sender_freep) struct sender *sender = NULL;
        CLEANUP(closep) int lock = -1;
        struct push p = { .options = o };
        struct err e = { "" };
        int r;

        (void)argc;
        (void)argv;
        r = cursor_lock(o->state_path, &lock, &e);
        if (r == 0)
                r = sender_new(&so, &sender, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        p.sender = sender;
        if (o->follow)
                push_forever(&p);
        return push_once(&p);
}

int main(int argc, char **argv)
{
        static const struct command commands[] = {
                { "push", "", 0, 0, "send the intervals that were not acknowledged yet", run_push },
                { "status", "", 0, 0, "how far the destination has acknowledged", status_run },
                { 0 },
        };
        static const struct program program = {
                .name = "wattloop-trainer-client",
                .summary = "delivers recorded samples to the model server",
                .config_default = "/etc/wattloop/trainer-client.yaml",
                .commands = commands,
                .options = options_table,
                .options_size = sizeof(struct options),
                .check = options_check,
        };

        return program_main(&program, argc, argv);
}
