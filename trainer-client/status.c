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
#include "trainer-client/quarantine.h"
#include "trainer-client/store.h"

#define STATUS_MAX ((size_t)64 << 10)

struct status {
        const char *name, *kind;
        struct cursor cursor;
        struct store_backlog backlog;
        int64_t behind; /* intervals that are not done with */
        int64_t lag_ms; /* from the last acknowledged to the newest recorded moment */
        int64_t quarantine_batches, quarantine_bytes;
        int64_t removed_unsent; /* of the database: by retention, all in all */
        bool known;             /* the cursor belongs to this database */
};

static int read_status(const struct options *o, struct store *store, struct status *s, struct err *e)
{
        int r;

        r = cursor_load(o->state_path, s->name, &s->cursor, e);
        if (r < 0 && r != -ENOENT)
                return r;
        s->known = s->cursor.interval_id > 0;
        if (s->known) {
                r = store_knows(store, &s->cursor, e);
                if (r < 0)
                        return r;
                s->known = r > 0;
        }
        r = store_backlog(store, s->known ? s->cursor.interval_id : 0, &s->backlog, e);
        if (r == 0)
                r = store_removed_unsent(store, &s->removed_unsent, e);
        if (r == 0)
                r = quarantine_size(o, s->name, &s->quarantine_batches, &s->quarantine_bytes, e);
        if (r == 0 && s->known && s->backlog.newest_ms > s->cursor.end_ms)
                s->lag_ms = s->backlog.newest_ms - s->cursor.end_ms;
        s->behind = s->backlog.intervals;
        for (size_t i = 0; s->known && i < s->cursor.n_ranges; i++)
                s->behind -= s->cursor.ranges[i].last_id - s->cursor.ranges[i].first_id + 1;
        if (s->behind < 0)
                s->behind = 0;
        return r;
}

static void print_status(const struct status *s)
{
        char when[32] = "never";
        time_t acked = (time_t)(s->cursor.acked_ms / 1000);
        struct tm tm;

        if (s->cursor.acked_ms > 0 && gmtime_r(&acked, &tm))
                (void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
        (void)printf("destination:          %s\n", s->name);
        (void)printf("cursor:               %" PRId64 "%s\n", s->cursor.interval_id,
                     s->cursor.interval_id > 0 && !s->known ? " (of another database)" : "");
        (void)printf("last acknowledgement: %s\n", when);
        (void)printf("behind:               %" PRId64 " intervals", s->behind);
        if (s->known)
                (void)printf(", %.1f s", (double)s->lag_ms / 1000);
        (void)printf("\n");
        if (s->backlog.lost > 0)
                (void)printf("lost:                 %" PRId64 " intervals, removed before they were sent\n",
                             s->backlog.lost);
        if (s->removed_unsent > 0)
                (void)printf("removed unsent:       %" PRId64 " intervals, by retention over its size\n",
                             s->removed_unsent);
        if (s->cursor.refused_intervals > 0)
                (void)printf("refused:              %" PRId64 " intervals, parked for ever\n",
                             s->cursor.refused_intervals);
        if (s->quarantine_batches > 0)
                (void)printf("in quarantine:        %" PRId64 " batches, %" PRId64 " bytes\n",
                             s->quarantine_batches, s->quarantine_bytes);
}

/* Destination names need no escapes (options_check). */
static void write_status(struct buf *out, const struct status *s)
{
        (void)buf_printf(
                out, "\"destination\": \"%s\", \"kind\": \"%s\", \"interval_id\": %" PRId64 ", \"epoch\": ",
                s->name, s->kind, s->cursor.interval_id);
        (void)json_write_string(out, s->cursor.epoch);
        (void)buf_printf(out,
                         ", \"end_ms\": %" PRId64 ", \"acked_ms\": %" PRId64
                         ", \"known\": %s, \"lag_intervals\": %" PRId64 ", \"lag_ms\": ",
                         s->cursor.end_ms, s->cursor.acked_ms, s->known ? "true" : "false", s->behind);
        if (s->known)
                (void)buf_printf(out, "%" PRId64, s->lag_ms);
        else
                (void)buf_puts(out, "null");
        (void)buf_printf(out,
                         ", \"lost_intervals\": %" PRId64 ", \"removed_unsent\": %" PRId64
                         ", \"refused_intervals\": %" PRId64 ", \"quarantined_batches\": %" PRId64
                         ", \"quarantine_batches\": %" PRId64 ", \"quarantine_bytes\": %" PRId64,
                         s->backlog.lost, s->removed_unsent, s->cursor.refused_intervals,
                         s->cursor.quarantined_batches, s->quarantine_batches, s->quarantine_bytes);
}

/* All of them in a list; of a single one the members stand beside it, too. */
static int print_json(const struct status *s, size_t n)
{
        CLEANUP(buf_done) struct buf out;

        buf_init(&out, STATUS_MAX);
        (void)buf_puts(&out, "{");
        if (n == 1) {
                write_status(&out, &s[0]);
                (void)buf_puts(&out, ", ");
        }
        (void)buf_puts(&out, "\"destinations\": [");
        for (size_t i = 0; i < n; i++) {
                (void)buf_puts(&out, i > 0 ? ",\n{" : "{");
                write_status(&out, &s[i]);
                (void)buf_puts(&out, "}");
        }
        (void)buf_puts(&out, "]}\n");
        if (out.failed)
                return log_error(out.failed, "cannot print the status: %s", strerror(-out.failed));
        (void)fputs(out.data, stdout);
        return EXIT_DONE;
}

int status_run(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        CLEANUP(store_closep) struct store *store = NULL;
        struct status s[KIND_N] = { { .name = NULL } };
        struct err e = { "" };
        size_t n = 0;
        int r;

        (void)argc;
        (void)argv;
        r = store_open(o->store_path, &o->names, &store, &e);
        for (int kind = 0; kind < KIND_N && r == 0; kind++)
                if (options_enabled(o, (enum kind)kind)) {
                        s[n].name = options_destination(o, (enum kind)kind).name;
                        s[n].kind = destination_kinds[kind].name;
                        r = read_status(o, store, &s[n++], &e);
                }
        if (r < 0)
                return log_error(r, "%s", e.text);
        if (o->json)
                return print_json(s, n);
        for (size_t i = 0; i < n; i++) {
                (void)printf("%s", i > 0 ? "\n" : "");
                print_status(&s[i]);
        }
        return EXIT_DONE;
}
