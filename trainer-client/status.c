/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/status.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include "common/json.h"
#include "common/log.h"
#include "config/cli.h"
#include "trainer-client/cursor.h"
#include "trainer-client/options.h"
#include "trainer-client/store.h"

struct status {
        struct cursor cursor;
        struct store_backlog backlog;
        int64_t lag_ms; /* from the last acknowledged to the newest recorded moment */
        bool known;     /* the cursor belongs to this database */
};

static int read_status(const struct options *o, struct status *s, struct err *e)
{
        CLEANUP(store_closep) struct store *store = NULL;
        int r;

        r = cursor_load(o->state_path, o->destination, &s->cursor, e);
        if (r < 0 && r != -ENOENT)
                return r;
        r = store_open(o->store_path, &store, e);
        if (r < 0)
                return r;
        s->known = s->cursor.interval_id > 0;
        if (s->known) {
                r = store_knows(store, &s->cursor, e);
                if (r < 0)
                        return r;
                s->known = r > 0;
        }
        r = store_backlog(store, s->known ? s->cursor.interval_id : 0, &s->backlog, e);
        if (r == 0 && s->known && s->backlog.newest_ms > s->cursor.end_ms)
                s->lag_ms = s->backlog.newest_ms - s->cursor.end_ms;
        return r;
}

static void print_status(const struct options *o, const struct status *s)
{
        char when[32] = "never";
        time_t acked = (time_t)(s->cursor.acked_ms / 1000);
        struct tm tm;

        if (s->cursor.acked_ms > 0 && gmtime_r(&acked, &tm))
                (void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
        (void)printf("destination:          %s\n", o->destination);
        (void)printf("cursor:               %" PRId64 "%s\n", s->cursor.interval_id,
                     s->cursor.interval_id > 0 && !s->known ? " (of another database)" : "");
        (void)printf("last acknowledgement: %s\n", when);
        (void)printf("behind:               %" PRId64 " intervals", s->backlog.intervals);
        if (s->known)
                (void)printf(", %.1f s", (double)s->lag_ms / 1000);
        (void)printf("\n");
        if (s->backlog.lost > 0)
                (void)printf("lost:                 %" PRId64 " intervals, removed before they were sent\n",
                             s->backlog.lost);
}

/* Destination names need no escapes (options_check); an epoch is hexadecimal digits. */
static int print_status_json(const struct options *o, const struct status *s)
{
        CLEANUP(buf_done) struct buf out;

        buf_init(&out, 4096);
        (void)buf_printf(&out, "{\"destination\": \"%s\", \"interval_id\": %" PRId64 ", \"epoch\": ",
                         o->destination, s->cursor.interval_id);
        (void)json_write_string(&out, s->cursor.epoch);
        (void)buf_printf(&out,
                         ", \"end_ms\": %" PRId64 ", \"acked_ms\": %" PRId64
                         ", \"known\": %s, \"lag_intervals\": %" PRId64 ", \"lag_ms\": ",
                         s->cursor.end_ms, s->cursor.acked_ms, s->known ? "true" : "false",
                         s->backlog.intervals);
        if (s->known)
                (void)buf_printf(&out, "%" PRId64, s->lag_ms);
        else
                (void)buf_puts(&out, "null");
        (void)buf_printf(&out, ", \"lost_intervals\": %" PRId64 "}\n", s->backlog.lost);
        if (out.failed)
                return log_error(out.failed, "cannot print the status: %s", strerror(-out.failed));
        (void)fputs(out.data, stdout);
        return EXIT_DONE;
}

int status_run(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        struct status s = { 0 };
        struct err e = { "" };
        int r;

        (void)argc;
        (void)argv;
        r = read_status(o, &s, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        if (o->json)
                return print_status_json(o, &s);
        print_status(o, &s);
        return EXIT_DONE;
}
