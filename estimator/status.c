/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/status.h"

#include <inttypes.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "config/cli.h"

const unsigned int answer_bounds_us[ANSWER_BOUNDS] = { 50,   100,  250,   500,   1000,
                                                       2500, 5000, 10000, 50000, 250000 };

void counters_answered(struct counters *c, uint64_t took_ns)
{
        size_t i = 0;

        while (i < ANSWER_BOUNDS && took_ns > answer_bounds_us[i] * UINT64_C(1000))
                i++;
        c->answers[i]++;
        c->answer_ns += took_ns;
}

/* Counts are cumulative, as Prometheus has them. */
static void write_answers(struct buf *out, const struct counters *c)
{
        uint64_t n = 0;

        (void)buf_printf(out, "\"answer_us\": {\"sum\": %" PRIu64 ", \"bounds\": [", c->answer_ns / 1000);
        for (size_t i = 0; i < ANSWER_BOUNDS; i++)
                (void)buf_printf(out, "%s%u", i ? ", " : "", answer_bounds_us[i]);
        (void)buf_puts(out, "], \"counts\": [");
        for (size_t i = 0; i <= ANSWER_BOUNDS; i++)
                (void)buf_printf(out, "%s%" PRIu64, i ? ", " : "", n += c->answers[i]);
        (void)buf_puts(out, "]}");
}

static void write_member(struct buf *out, const char *key, const char *value)
{
        (void)buf_printf(out, "\"%s\": ", key); /* failure is sticky in the buffer */
        (void)json_write_string(out, value);
}

static void write_model(struct buf *out, size_t slot, const struct loaded_model *l)
{
        (void)buf_printf(
                out,
                "{\"energy_source\": \"%s\", \"output_type\": \"%s\", \"form\": \"%s\", \"id\": \"%s\", ",
                models_slot_source(slot), models_slot_output_type(slot), l->form, l->id);
        write_member(out, "model", model_name(l->model));
        (void)buf_printf(out,
                         ", \"loaded_ms\": %" PRId64 ", \"age_ms\": %" PRId64 ", \"load_ms\": %.3f"
                         ", \"requests\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"provenance\": \"%s\"}",
                         l->loaded_ms, clock_wall_ms() - l->loaded_ms, (double)l->load_us / 1000, l->requests,
                         l->errors, model_provenance(l->model));
}

int status_write(struct buf *out, const struct counters *c, const struct models *models, long long clients,
                 uint64_t now_ns)
{
        const char *separator = "";

        (void)buf_printf(out,
                         "{\"version\": \"%s\", \"pid\": %ld, \"uptime_ms\": %" PRIu64
                         ", \"requests\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"denied\": %" PRIu64
                         ", \"swaps\": %" PRIu64 ", \"reloads\": %" PRIu64 ", \"rows\": %" PRIu64
                         ", \"clients\": %lld, ",
                         WATTLOOP_VERSION, (long)getpid(), (now_ns - c->started_ns) / NS_PER_MS, c->requests,
                         c->errors, c->denied, c->swaps, c->reloads, c->rows, clients);
        write_answers(out, c);
        (void)buf_puts(out, ", \"models\": [");
        for (size_t i = 0; i < models_slots(); i++) {
                if (!models->slots[i])
                        continue;
                (void)buf_puts(out, separator);
                write_model(out, i, models->slots[i]);
                separator = ", ";
        }
        (void)buf_puts(out, "], \"refused\": [");
        for (size_t i = 0; i < models->n_refused; i++) {
                (void)buf_puts(out, i > 0 ? ", {" : "{");
                write_member(out, "path", models->refused[i].path);
                (void)buf_puts(out, ", ");
                write_member(out, "error", models->refused[i].error.text);
                (void)buf_puts(out, "}");
        }
        return buf_puts(out, "]}");
}
