/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/status.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/num.h"
#include "config/cli.h"
#include "updater/notify.h"
#include "updater/options.h"
#include "updater/store.h"
#include "updater/verify.h"

#define STATUS_MAX ((size_t)1 << 20) /* bytes of the JSON */

struct row {
        struct slot slot;
        struct installed installed;
        struct store_info info;
        double mae; /* NaN unknown */
        int64_t age_ms;
        const char *served; /* "yes", "no", "refused", "unknown" */
        struct err broken;  /* "" sound */
};

static const char *served_word(const json_t *estimator, const struct row *row)
{
        struct err words = { "" };

        if (!estimator)
                return "unknown";
        switch (notify_judge(estimator, &row->slot, row->installed.current, &words)) {
        case NOTIFY_SERVED:
                return "yes";
        case NOTIFY_REFUSED:
                return "refused";
        default:
                return "no";
        }
}

static void read_row(const struct options *o, const json_t *estimator, struct row *row)
{
        struct candidate c = { 0 };
        char path[PATH_MAX];
        int r;

        row->mae = NAN;
        row->served = served_word(estimator, row);
        r = store_read_info(o->store_path, &row->slot, row->installed.current, &row->info, &row->broken);
        if (r == 0)
                r = store_model_path(o->store_path, &row->slot, row->installed.current, path, &row->broken);
        if (r == 0)
                r = verify_read_dir(row->slot.form, path, row->info.model_name, &c, &row->broken);
        if (r == 0 && strcmp(c.id, row->installed.current) != 0)
                (void)err_set(&row->broken, -EBADMSG, "its files are not what they were");
        if (r == 0)
                row->mae = model_mae(c.model);
        row->age_ms = clock_wall_ms() - row->info.fetched_ms;
        candidate_done(&c);
}

static void print_row(const struct row *row)
{
        (void)printf("%s\n  id:      %s\n", row->slot.text, row->installed.current);
        if (*row->broken.text) {
                (void)printf("  broken:  %s\n", row->broken.text);
                return;
        }
        (void)printf("  model:   %s\n", row->info.model_name);
        if (isfinite(row->mae))
                (void)printf("  mae:     %.3g W\n", row->mae);
        (void)printf("  age:     %.1f h\n  source:  %s\n  served:  %s\n", (double)row->age_ms / 3600e3,
                     row->info.source_url, row->served);
        if (*row->installed.previous)
                (void)printf("  before:  %s\n", row->installed.previous);
}

static void write_row(const struct row *row, struct buf *out)
{
        char mae[NUM_TEXT_MAX] = "null";

        if (isfinite(row->mae))
                (void)num_format_double(mae, row->mae);
        (void)buf_printf(
                out,
                "{\"energy_source\": \"%s\", \"output_type\": \"%s\", \"form\": \"%s\", \"id\": \"%s\", "
                "\"previous\": \"%s\", \"model\": ",
                row->slot.source->name, row->slot.output_type, form_names[row->slot.form],
                row->installed.current, row->installed.previous);
        (void)json_write_string(out, row->info.model_name);
        (void)buf_printf(out, ", \"mae\": %s, \"fetched_ms\": %" PRId64 ", \"source_url\": ", mae,
                         row->info.fetched_ms);
        (void)json_write_string(out, row->info.source_url);
        (void)buf_printf(out, ", \"served\": \"%s\", \"broken\": ", row->served);
        (void)json_write_string(out, row->broken.text);
        (void)buf_puts(out, "}");
}

/* Every place a model may be installed in, whatever the configuration asks for now. */
static size_t print_all(const struct options *o, const json_t *estimator, struct buf *json)
{
        size_t n = 0;

        for (size_t s = 0; s < energy_sources_n; s++)
                for (int t = 0; output_types[t]; t++)
                        for (int f = 0; f < FORM_N; f++) {
                                struct row row = { .mae = NAN };
                                char text[SLOT_TEXT_MAX];

                                (void)snprintf(text, sizeof(text), "%s/%s/%s", energy_sources[s].name,
                                               output_types[t], form_names[f]);
                                (void)slot_parse(text, &row.slot, NULL); /* made of known words */
                                store_look(o->store_path, &row.slot, &row.installed);
                                if (!*row.installed.current)
                                        continue;
                                read_row(o, estimator, &row);
                                if (json) {
                                        (void)buf_puts(json, n > 0 ? ", " : "");
                                        write_row(&row, json);
                                } else {
                                        print_row(&row);
                                }
                                n++;
                        }
        return n;
}

int status_run(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        CLEANUP(json_decrefp) json_t *estimator = NULL;
        CLEANUP(buf_done) struct buf json;
        struct err e = { "" };
        size_t n;

        (void)argc;
        (void)argv;
        if (*o->estimator_socket &&
            notify_command(o->estimator_socket, "status", o->estimator_timeout_ms, &estimator, &e) < 0)
                log_debug("%s", e.text);
        buf_init(&json, STATUS_MAX);
        (void)buf_puts(&json, "{\"models\": [");
        n = print_all(o, estimator, o->json ? &json : NULL);
        (void)buf_puts(&json, "]}\n");
        if (json.failed)
                return log_error(json.failed, "cannot print the status: %s", strerror(-json.failed));
        if (o->json)
                (void)fputs(json.data, stdout);
        else if (n == 0)
                (void)printf("no models in '%s'\n", o->store_path);
        return n > 0 ? EXIT_DONE : EXIT_NOTHING;
}
