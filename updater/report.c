/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/report.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "updater/history.h"
#include "updater/request.h"
#include "updater/sandbox.h"

#define REPORT_BODY_MAX  ((size_t)60 << 10)
#define REPORT_EVENT_MAX ((size_t)4 << 10)
#define REPORT_WORDS_MAX 512
#define REPORT_EXTRA_MS  5000

struct collection {
        int64_t since_ms, last_ms;
        struct buf text; /* members of the array */
        size_t n;
};

static bool is_outcome(const char *event)
{
        return strcmp(event, "installed") == 0 || strcmp(event, "refused") == 0 ||
               strcmp(event, "rolled-back") == 0;
}

static void write_member(const json_t *event, const char *from, const char *key, struct buf *out)
{
        char text[REPORT_WORDS_MAX + 1];
        const char *value = "";

        (void)json_get_string(event, from, &value, NULL);
        (void)snprintf(text, sizeof(text), "%s", value); /* cut, as the contract says */
        (void)buf_printf(out, ", \"%s\": ", key);
        (void)json_write_string(out, text);
}

/* An event that does not fit ends the collection. */
static int collect(const json_t *event, const char *line, size_t size, void *arg)
{
        CLEANUP(buf_done) struct buf one = { .max = REPORT_EVENT_MAX };
        struct collection *c = arg;
        const char *what = "";
        long long ms = 0;

        (void)line;
        (void)size;
        if (json_get_int(event, "time_ms", &ms, NULL) < 0 ||
            json_get_string(event, "event", &what, NULL) < 0 || ms <= c->since_ms || !is_outcome(what))
                return 0;
        (void)buf_printf(&one, "%s{\"time_ms\": %lld", c->n > 0 ? ", " : "", ms);
        write_member(event, "slot", "slot", &one);
        write_member(event, "event", "outcome", &one);
        write_member(event, "id", "id", &one);
        write_member(event, "model", "model", &one);
        write_member(event, "words", "why", &one);
        if (buf_puts(&one, "}") < 0 || c->n == REPORT_MAX || c->text.size + one.size >= c->text.max ||
            buf_append(&c->text, one.data, one.size) < 0)
                return 1;
        c->n++;
        c->last_ms = ms;
        return 0;
}

/* ---- sending, in the sandbox ---- */

struct order {
        const struct options *options;
        const struct buf *text;
};

static int send_report(void *arg, void *ret, struct err *e)
{
        const struct order *order = arg;

        (void)ret;
        return request_report(order->options, order->text, e);
}

static int send(const struct run *run, const struct buf *text, struct err *e)
{
        struct order order = { run->options, text };
        struct sandbox sandbox = { .writable = store_staging(run->store),
                                   .timeout_ms = run->options->timeout_ms + REPORT_EXTRA_MS };
        struct err note = { "" };
        char nothing = 0;

        sandbox_show_system(&sandbox);
        sandbox_show(&sandbox, run->options->server_ca_file);
        sandbox_show(&sandbox, run->options->server_token_file);
        sandbox_show(&sandbox, run->options->server_client_cert_file);
        sandbox_show(&sandbox, run->options->server_client_key_file);
        return sandbox_run(&sandbox, send_report, &order, &nothing, sizeof(nothing), &note, e);
}

static void write_report(const struct machine *machine, const struct buf *events, struct buf *out)
{
        (void)buf_printf(out, "{\"node_id\": \"%s\", \"node_name\": ", machine->node_id);
        (void)json_write_string(out, machine->node_name);
        (void)buf_printf(out, ", \"reports\": [%s]}", events->data);
}

void report_outcomes(struct run *run)
{
        struct collection c = { .since_ms = run->state.reported_ms };
        CLEANUP(buf_done) struct buf text;
        struct err e = { "" };
        int r;

        buf_init(&c.text, REPORT_BODY_MAX);
        buf_init(&text, REPORT_BODY_MAX + REPORT_EVENT_MAX);
        if (!run->options->server_report || (*run->options->from && !*run->options->server_report_url))
                return;
        if (c.since_ms > clock_wall_ms()) /* of a clock that was ahead: what was told already does no harm */
                c.since_ms = 0;
        r = history_each(run->options->store_path, collect, &c, &e);
        if (r >= 0 && c.n > 0) {
                write_report(&run->machine, &c.text, &text);
                r = text.failed ? err_set(&e, text.failed, "out of memory") : send(run, &text, &e);
        }
        buf_done(&c.text);
        if (r == -ENOENT || (r >= 0 && c.n > 0)) { /* a server that takes none is not asked for ever */
                run->state.reported_ms = c.last_ms;
                run_save(run);
        } else if (r < 0) {
                log_info("the outcome is not reported yet: %s", e.text);
        }
}
