/* SPDX-License-Identifier: Apache-2.0 */
/* The estimator's own figures, as the collector learned them from its status. */
#include "collector/metrics_internal.h"

#include <math.h>

#define NAME(n) "wattloop_estimator_" n

static const struct {
        const char *name, *type, *help;
        double scale;
} figures[ESTIMATOR_FIGURES] = {
        [ESTIMATOR_UPTIME_MS] = { NAME("uptime_seconds"), "gauge", "Time since the estimator began", 1e-3 },
        [ESTIMATOR_REQUESTS] = { NAME("requests_total"), "counter",
                                 "Power requests answered, with watts or with an error", 1 },
        [ESTIMATOR_FAILURES] = { NAME("failures_total"), "counter",
                                 "Power requests answered with an error, and bytes that were no request", 1 },
        [ESTIMATOR_ROWS] = { NAME("rows_total"), "counter", "Rows that were given watts", 1 },
        [ESTIMATOR_CLIENTS] = { NAME("clients"), "gauge", "Connections, the one that asks this among them",
                                1 },
        [ESTIMATOR_DENIED] = { NAME("denied_total"), "counter",
                               "Connections of users that may not ask (socket.allow)", 1 },
        [ESTIMATOR_SWAPS] = { NAME("swaps_total"), "counter",
                              "Models that were replaced, added or removed while serving", 1 },
        [ESTIMATOR_RELOADS] = { NAME("reloads_total"), "counter", "Looks at the whole model store", 1 },
};

static void single(struct buf *out, const char *name, const char *type, const char *help, double value)
{
        prom_family(out, name, type, help);
        prom_sample(out, name, NULL, value);
}

static void write_answers(struct buf *out, const struct estimator_report *r)
{
        char text[32];
        const struct prom_label le[] = { { "le", text }, { NULL, NULL } };

        if (r->n_bounds == 0)
                return;
        prom_family(out, NAME("answer_seconds"), "histogram",
                    "Time from a complete power request to its complete reply");
        for (size_t i = 0; i <= r->n_bounds; i++) {
                (void)snprintf(text, sizeof(text), i < r->n_bounds ? "%.9g" : "+Inf", r->bounds_us[i] / 1e6);
                prom_sample(out, NAME("answer_seconds_bucket"), le, r->counts[i]);
        }
        prom_sample(out, NAME("answer_seconds_sum"), NULL, r->answer_us / 1e6);
        prom_sample(out, NAME("answer_seconds_count"), NULL, r->counts[r->n_bounds]);
}

static double age_of(const struct estimator_model *m)
{
        return m->age_ms / 1e3;
}
static double load_of(const struct estimator_model *m)
{
        return m->load_ms / 1e3;
}
static double requests_of(const struct estimator_model *m)
{
        return m->requests;
}
static double errors_of(const struct estimator_model *m)
{
        return m->errors;
}

static const struct {
        const char *name, *type, *help;
        double (*value)(const struct estimator_model *m);
} model_families[] = {
        { NAME("model_age_seconds"), "gauge", "Time since the model was loaded", age_of },
        { NAME("model_load_seconds"), "gauge", "Time that reading, loading and checking it took", load_of },
        { NAME("model_requests_total"), "counter", "Requests that the model answered since it was loaded",
          requests_of },
        { NAME("model_failures_total"), "counter", "Of these without watts", errors_of },
};

static void write_models(struct buf *out, const struct estimator_report *r)
{
        static const char info[] = NAME("model_info");

        if (r->n_models == 0)
                return;
        prom_family(out, info, "gauge", "A loaded model: its content hash and what it was trained on");
        for (size_t i = 0; i < r->n_models; i++) {
                const struct estimator_model *m = &r->models[i];
                const struct prom_label labels[] = { { "energy_source", m->energy_source },
                                                     { "form", m->form },
                                                     { "id", m->id },
                                                     { "model", m->name },
                                                     { "output_type", m->output_type },
                                                     { "provenance", m->provenance },
                                                     { NULL, NULL } };

                prom_sample(out, info, labels, 1);
        }
        for (size_t f = 0; f < ARRAY_SIZE(model_families); f++) {
                prom_family(out, model_families[f].name, model_families[f].type, model_families[f].help);
                for (size_t i = 0; i < r->n_models; i++) {
                        const struct estimator_model *m = &r->models[i];
                        const struct prom_label labels[] = { { "energy_source", m->energy_source },
                                                             { "id", m->id },
                                                             { "output_type", m->output_type },
                                                             { NULL, NULL } };

                        if (!isnan(model_families[f].value(m)))
                                prom_sample(out, model_families[f].name, labels, model_families[f].value(m));
                }
        }
}

void metrics_estimator(const struct estimator_stats *s, struct buf *out)
{
        if (!s)
                return;
        single(out, NAME("up"), "gauge", "Whether the estimator answered the last question about its status",
               s->up);
        single(out, NAME("status_failures_total"), "counter",
               "Questions about its status without a usable answer", (double)s->failures);
        if (!s->up)
                return;
        for (int f = 0; f < ESTIMATOR_FIGURES; f++)
                if (!isnan(s->report.figures[f]))
                        single(out, figures[f].name, figures[f].type, figures[f].help,
                               s->report.figures[f] * figures[f].scale);
        single(out, NAME("refused_models"), "gauge", "Models in the store that do not load",
               (double)s->report.n_refused);
        write_answers(out, &s->report);
        write_models(out, &s->report);
}
