/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/num.h"
#include "config/cli.h"
#include "model-server/chart.h"
#include "model-server/report.h"
#include "schema/vocabulary.h"

#define FILE_MAX      ((size_t)16 << 20)
#define PATH_MAX_HERE 4096
#define BARS_MAX      RECORDING_SETS_MAX

static const char *const components[] = { "package", "core", "uncore", "dram", "platform" };
static const char *const kind_names[TRAINER_KINDS] = { "local", "general, plain", "general, blend",
                                                       "general, blend, prev_" };

static int write_text(const char *out, const char *name, struct buf *text, struct err *e)
{
        char path[PATH_MAX_HERE];

        if (text->failed)
                return err_set(e, text->failed, "cannot write '%s': %s", name, strerror(-text->failed));
        if (path_join(path, sizeof(path), out, name) < 0)
                return err_set(e, -ENAMETOOLONG, "'%.150s' is too long", out);
        return file_write_atomic(path, text->data, text->size, 0644, e);
}

/* ---- report.json ---- */

static int add_result(json_t *list, const struct report_result *r, const char *output_type)
{
        return json_array_append_new(
                list,
                json_pack("{s:s, s:s, s:s, s:s, s:s#, s:f, s:f, s:f, s:f, s:s}", "kind",
                          r->kind == TRAINER_LOCAL ? "local" : "general", "output_type", output_type,
                          "component", r->set->components[r->component].name, "feature_group", r->set->group,
                          "protocol", &protocol_letters[r->protocol], 1, "mae", r->mae, "sd", r->sd,
                          "worst_fold", r->worst, "active_mae", r->active_mae, "model", r->model));
}

/* The best kind of general model first: who asks for a group finds the answer that counts. */
static int write_json_file(const struct report *p, const char *out, struct err *e)
{
        CLEANUP(json_decrefp) json_t *list = json_array();
        CLEANUP(json_decrefp) json_t *document = NULL;
        CLEANUP(buf_done) struct buf text = { 0 };
        int r = list ? 0 : -ENOMEM;

        for (int type = 0; output_types[type]; type++)
                for (int kind = TRAINER_KINDS; r == 0 && kind-- > 0;)
                        for (size_t i = 0; r == 0 && i < p->n; i++) {
                                const struct report_result *x = &p->results[i];

                                if (x->kind == (enum trainer_kind)kind &&
                                    (type == 0 || report_dynamic(p->recording, x->set)))
                                        r = add_result(list, x, output_types[type]) < 0 ? -ENOMEM : 0;
                        }
        buf_init(&text, FILE_MAX);
        document = json_pack("{s:O}", "results", list);
        if (r == 0)
                r = document ? json_write(document, &text) : -ENOMEM;
        if (r < 0)
                return err_set(e, r, "cannot write report.json: %s", strerror(-r));
        (void)buf_puts(&text, "\n");
        return write_text(out, "report.json", &text, e);
}

/* ---- what others said ---- */

static bool same_source(const char *a, const char *b)
{
        return !strcmp(a, b) || (strstr(a, "rapl") && strstr(b, "rapl"));
}

/* The least figure of a table for this group; NaN when it has none. Tables name columns alike. */
static double least_of(const struct csv *csv, const struct recording_set *s, const char *component,
                       const char *output_type, const char *column)
{
        static const char *const keys[] = { "energy_source", "output_type", "feature_group" };
        int at[3], value, part = csv ? csv_find(csv, "component") : -1;
        double least = NAN;

        for (size_t k = 0; csv && k < 3; k++)
                if ((at[k] = csv_find(csv, keys[k])) < 0)
                        return NAN;
        value = csv ? csv_find(csv, column) : -1;
        for (size_t i = 0; value >= 0 && i < csv_rows(csv); i++) {
                double v;

                if (same_source(csv_cell(csv, i, (size_t)at[0]), s->source) &&
                    !strcmp(csv_cell(csv, i, (size_t)at[1]), output_type) &&
                    !strcmp(csv_cell(csv, i, (size_t)at[2]), s->group) &&
                    (part < 0 || !strcmp(csv_cell(csv, i, (size_t)part), component)) &&
                    num_parse_double(csv_cell(csv, i, (size_t)value), &v) == 0)
                        least = fmin(least, v);
        }
        return least;
}

/* Published figures are of the worst component, which is never dram. */
static double published_of(const struct report *p, const struct recording_set *s, const char *component,
                           const char *output_type)
{
        return strcmp(component, "dram")
                       ? least_of(p->recording->published, s, component, output_type, "published_mae")
                       : NAN;
}

/* ---- report.md ---- */

static void put(struct buf *out, double v)
{
        if (isfinite(v))
                (void)buf_printf(out, " %.*f |", v < 10 ? 2 : 1, v);
        else
                (void)buf_puts(out, " |");
}

static double mae_of(const struct report *p, const struct recording_set *s, size_t c, enum trainer_kind kind,
                     enum protocol protocol)
{
        const struct report_result *r = report_find(p, s, c, kind, protocol);

        return r ? r->mae : NAN;
}

static int component_index(const struct recording_set *s, const char *name)
{
        for (size_t c = 0; c < s->n_components; c++)
                if (!strcmp(s->components[c].name, name))
                        return (int)c;
        return -1;
}

static double range_of(const struct recording_set *s, size_t c)
{
        double low = INFINITY, high = -INFINITY;

        for (size_t i = 0; i < s->table.n; i++) {
                low = fmin(low, s->components[c].watts[i]);
                high = fmax(high, s->components[c].watts[i]);
        }
        return high - low;
}

/* The general kind that a fleet would be given: with previous rows where it is the better one. */
static double best_general(const struct report *p, const struct recording_set *s, size_t c)
{
        return fmin(mae_of(p, s, c, TRAINER_BLEND_PREV, PROTOCOL_S),
                    mae_of(p, s, c, TRAINER_BLEND, PROTOCOL_S));
}

static void write_kepler_table(const struct report *p, struct buf *out)
{
        double step = p->recording->step_s;

        (void)buf_printf(
                out,
                "## In the layout of Kepler's documentation\n\n"
                "Mean absolute error under protocol S. Kepler's documentation gives **joules per step** "
                "(here "
                "%g s), although it does not say so: its training data are exactly the step times today's "
                "watts. Both are shown. Watts are what a model answers.\n\n"
                "| version | machine | pipeline | feature group | component source | total source | local "
                "MAE, W | sidecar MAE, W | reference range, W | local MAE, J/step | sidecar MAE, J/step | "
                "reference range, J/step |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
                step);
        for (size_t k = 0; k < ARRAY_SIZE(components); k++)
                for (size_t i = 0; i < p->recording->n_sets; i++) {
                        const struct recording_set *s = &p->recording->sets[i];
                        int c = component_index(s, components[k]);
                        double figures[3];
                        bool total = !strcmp(components[k], "platform");

                        if (c < 0 || !report_varies(s, (size_t)c))
                                continue;
                        figures[0] = mae_of(p, s, (size_t)c, TRAINER_LOCAL, PROTOCOL_S);
                        figures[1] = best_general(p, s, (size_t)c);
                        figures[2] = range_of(s, (size_t)c);
                        (void)buf_printf(out, "| wattloop %s | %s | report | %s | %s%s%s | %s%s |",
                                         WATTLOOP_VERSION, p->recording->name, s->group,
                                         total ? "" : s->source, total ? "" : ": ",
                                         total ? "" : components[k], total ? s->source : "",
                                         total ? ": platform" : "");
                        for (size_t f = 0; f < 3; f++)
                                put(out, figures[f]);
                        for (size_t f = 0; f < 3; f++)
                                put(out, figures[f] * step);
                        (void)buf_puts(out, "\n");
                }
        (void)buf_puts(out, "\n");
}

static void write_protocols(const struct report *p, struct buf *out, const char *component)
{
        bool any = false;

        for (size_t i = 0; i < p->recording->n_sets; i++) {
                const struct recording_set *s = &p->recording->sets[i];
                int c = component_index(s, component);

                if (c < 0 || !report_varies(s, (size_t)c))
                        continue;
                if (!any)
                        (void)buf_printf(
                                out,
                                "### %s\n\n| feature group | kind | model | R | S | B | W | H | F | S sd | S "
                                "worst fold | S active only | published |\n"
                                "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
                                component);
                any = true;
                for (int kind = 0; kind < TRAINER_KINDS; kind++) {
                        const struct report_result *r =
                                report_find(p, s, (size_t)c, (enum trainer_kind)kind, PROTOCOL_S);

                        if (!r)
                                continue;
                        (void)buf_printf(out, "| %s | %s | %s |", s->group, kind_names[kind], r->model);
                        for (int q = 0; q < PROTOCOL_N; q++)
                                put(out, mae_of(p, s, (size_t)c, (enum trainer_kind)kind, (enum protocol)q));
                        put(out, r->sd);
                        put(out, r->worst);
                        put(out, r->active_mae);
                        (void)buf_printf(out, " %s |\n",
                                         r->published ? "yes" : "**no**: H or F over the gate");
                }
        }
        if (any)
                (void)buf_printf(out, "\n![%s](%s.svg)\n\n", component, component);
}

static void write_upstream(const struct report *p, struct buf *out)
{
        (void)buf_puts(
                out,
                "## Beside upstream's figures\n\n"
                "`published`: the best that upstream's own table names for the group, one random tenth of "
                "the rows. "
                "`recomputed`: the least error of upstream's archives on all rows, most of which they were "
                "fitted "
                "on. Neither is a measurement of unseen workloads; R is the protocol nearest to them.\n\n"
                "| output type | component | feature group | published | recomputed | local R | local S | "
                "general R "
                "| general S |\n|---|---|---|---|---|---|---|---|---|\n");
        for (int type = 0; output_types[type]; type++)
                for (size_t i = 0; i < p->recording->n_sets; i++)
                        for (size_t c = 0; c < p->recording->sets[i].n_components; c++) {
                                const struct recording_set *s = &p->recording->sets[i];
                                const char *name = s->components[c].name;

                                if (!report_varies(s, c) || (type == 1 && !report_dynamic(p->recording, s)))
                                        continue;
                                (void)buf_printf(out, "| %s | %s | %s |", output_types[type], name, s->group);
                                put(out, published_of(p, s, name, output_types[type]));
                                put(out, least_of(p->recording->recomputed, s, name, output_types[type],
                                                  "full_data_mae"));
                                put(out, mae_of(p, s, c, TRAINER_LOCAL, PROTOCOL_R));
                                put(out, mae_of(p, s, c, TRAINER_LOCAL, PROTOCOL_S));
                                put(out, mae_of(p, s, c, TRAINER_BLEND_PREV, PROTOCOL_R));
                                put(out, mae_of(p, s, c, TRAINER_BLEND_PREV, PROTOCOL_S));
                                (void)buf_puts(out, "\n");
                        }
        (void)buf_puts(out, "\n");
}

static void write_identity(const struct report *p, struct buf *out)
{
        const struct report_identity *x = &p->identity;

        (void)buf_puts(
                out,
                "## DynPower\n\nWith the isolator `min`, DynPower is AbsPower less the least watts of the "
                "recording: a constant, which every trainer here fits exactly, so that both have the same "
                "errors. ");
        if (x->checked)
                (void)buf_printf(out,
                                 "Checked on the first fold of S, %s of %s, trained on the DynPower file "
                                 "itself: local "
                                 "%.3f W against %.3f W, plain trees %.3f W against %.3f W.\n\n",
                                 x->component, x->group, x->dynamic_mae[0], x->absolute_mae[0],
                                 x->dynamic_mae[1], x->absolute_mae[1]);
        else
                (void)buf_puts(out,
                               "The recording has no DynPower files, so no DynPower rows are shown.\n\n");
}

static void write_missing(const struct report *p, struct buf *out)
{
        for (size_t i = 0; i < p->recording->n_sets; i++)
                for (size_t c = 0; c < p->recording->sets[i].n_components; c++)
                        if (!report_varies(&p->recording->sets[i], c))
                                (void)buf_printf(out,
                                                 "- `%s` of %s never varies: a constant, not reported.\n",
                                                 p->recording->sets[i].components[c].name,
                                                 p->recording->sets[i].group);
        if (!p->recording->has_segments)
                (void)buf_puts(
                        out,
                        "- There is no segments.csv: segments are the stretches between beginnings of load, "
                        "and W (unseen workload) and F (unseen frequency) are left out.\n");
        (void)buf_puts(out, "\n");
}

static void write_head(const struct report *p, struct buf *out)
{
        const struct recording *r = p->recording;

        (void)buf_printf(
                out,
                "# Accuracy on %s\n\n%zu rows, %g s apart, in %zu segments (%zu workloads). Every figure is "
                "the "
                "mean absolute error, in watts, of an exported file: weight JSON or archive, loaded and "
                "evaluated as "
                "`wattloop-estimator` evaluates it, on rows that it was not trained on. libxgboost %s.\n\n"
                "Protocols: **R** random tenths, %d draws (flattered by neighbours; upstream's, of which it "
                "takes "
                "one); **S** ten folds of whole segments, the headline; **B** ten blocks of time; **W** one "
                "workload "
                "left out; **H** half predicts half; **F** one CPU frequency left out. A model whose H or F "
                "error "
                "is more than twice the local model's S error is not published. `general, plain` is the "
                "archive "
                "that Kepler's sidecar can load; `blend` needs wattloop-estimator, `prev_` also the previous "
                "row's "
                "features as columns.\n\n",
                r->name, r->sets[0].table.n, r->step_s, r->n_segments, r->n_workloads, boost_version(),
                FOLDS_RANDOM);
        write_missing(p, out);
}

static int write_markdown(const struct report *p, const char *out, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };

        buf_init(&text, FILE_MAX);
        write_head(p, &text);
        write_kepler_table(p, &text);
        (void)buf_puts(&text, "## By protocol\n\n");
        for (size_t k = 0; k < ARRAY_SIZE(components); k++)
                write_protocols(p, &text, components[k]);
        write_identity(p, &text);
        write_upstream(p, &text);
        (void)buf_puts(&text, "## Estimates of rows that were held back (S)\n\n");
        for (size_t k = 0; k < ARRAY_SIZE(components); k++)
                for (size_t i = 0; i < p->n_traces; i++)
                        if (!strcmp(p->traces[i].set->components[p->traces[i].component].name,
                                    components[k])) {
                                (void)buf_printf(&text,
                                                 "![%s in time](%s_time.svg)\n\n![%s, measured and "
                                                 "estimated](%s_scatter.svg)\n\n",
                                                 components[k], components[k], components[k], components[k]);
                                break;
                        }
        return write_text(out, "report.md", &text, e);
}

/* ---- plots ---- */

static int write_bars(const struct report *p, const char *out, const char *component, struct err *e)
{
        static const char *const legend[4] = { "local", "general, plain", "general, blend, prev_",
                                               "upstream, published (R)" };
        CLEANUP(buf_done) struct buf text = { 0 };
        struct chart_bar bars[BARS_MAX];
        char name[64], title[128];
        size_t n = 0;

        for (size_t i = 0; i < p->recording->n_sets && n < BARS_MAX; i++) {
                const struct recording_set *s = &p->recording->sets[i];
                int c = component_index(s, component);

                if (c < 0 || !report_varies(s, (size_t)c))
                        continue;
                bars[n++] = (struct chart_bar){ s->group,
                                                { mae_of(p, s, (size_t)c, TRAINER_LOCAL, PROTOCOL_S),
                                                  mae_of(p, s, (size_t)c, TRAINER_PLAIN, PROTOCOL_S),
                                                  mae_of(p, s, (size_t)c, TRAINER_BLEND_PREV, PROTOCOL_S),
                                                  published_of(p, s, component, "AbsPower") } };
        }
        if (n == 0)
                return 0;
        buf_init(&text, FILE_MAX);
        (void)snprintf(title, sizeof(title), "%s: mean absolute error, whole segments held back", component);
        (void)snprintf(name, sizeof(name), "%s.svg", component);
        chart_bars(&text, title, "W", legend, bars, n);
        return write_text(out, name, &text, e);
}

/* The trace of the group with the least error. */
static const struct report_trace *best_trace(const struct report *p, const char *component)
{
        const struct report_trace *best = NULL;
        double least = INFINITY;

        for (size_t i = 0; i < p->n_traces; i++) {
                const struct report_trace *t = &p->traces[i];
                double mae = mae_of(p, t->set, t->component, TRAINER_BLEND_PREV, PROTOCOL_S);

                if (strcmp(t->set->components[t->component].name, component) || !(mae < least))
                        continue;
                least = mae;
                best = t;
        }
        return best;
}

static int write_trace(const struct report *p, const char *out, const char *component, struct err *e)
{
        CLEANUP(buf_done) struct buf time = { 0 }, scatter = { 0 };
        const struct report_trace *t = best_trace(p, component);
        const double *watts;
        char name[64], title[160];
        int r;

        if (!t)
                return 0;
        watts = t->set->components[t->component].watts;
        buf_init(&time, FILE_MAX);
        buf_init(&scatter, FILE_MAX);
        (void)snprintf(title, sizeof(title), "%s, %s, blend with previous rows", component, t->set->group);
        chart_time(&time, title, watts, t->general, t->set->table.n);
        chart_scatter(&scatter, title, watts, t->general, t->set->table.n);
        (void)snprintf(name, sizeof(name), "%s_time.svg", component);
        r = write_text(out, name, &time, e);
        (void)snprintf(name, sizeof(name), "%s_scatter.svg", component);
        return r < 0 ? r : write_text(out, name, &scatter, e);
}

int report_write(const struct report *p, const char *out, struct err *e)
{
        int r = file_mkdirs(out, 0755, e);

        for (size_t k = 0; r == 0 && k < ARRAY_SIZE(components); k++) {
                r = write_bars(p, out, components[k], e);
                if (r == 0)
                        r = write_trace(p, out, components[k], e);
        }
        if (r == 0)
                r = write_markdown(p, out, e);
        return r < 0 ? r : write_json_file(p, out, e);
}
