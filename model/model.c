/* SPDX-License-Identifier: Apache-2.0 */
/* What all kinds of models share: the head, names, binding, and the prediction of a batch. */
#include "model/compiled.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/json.h"
#include "model/plan.h"
#include "schema/machine.h"
#include "schema/vocabulary.h"

#define MODEL_UNNAMED "unnamed"

static const struct model_range anything = { -INFINITY, INFINITY };

int model_new(struct model **ret, struct err *e)
{
        struct model *m = calloc(1, sizeof(*m));

        if (!m)
                return err_set(e, -ENOMEM, "out of memory");
        m->output_type = "";
        m->class = "weight";
        m->provenance = -1;
        m->mae = NAN;
        for (size_t i = 0; i < MODEL_FEATURES_MAX; i++)
                m->range[i] = anything;
        m->watts = anything;
        m->spread = INFINITY;
        *ret = m;
        return 0;
}

static void component_done(struct model_component *c)
{
        free(c->terms);
        plan_free(c->plan);
}

void model_free(struct model *m)
{
        if (!m)
                return;
        for (size_t i = 0; i < m->n_features; i++)
                free(m->features[i]);
        for (size_t i = 0; i < m->n_components; i++)
                component_done(&m->components[i]);
        plan_free(m->shared);
        free(m->name);
        free(m);
}

int model_set_name(struct model *m, const char *name, struct err *e)
{
        char *copy;

        if (!*name || strlen(name) >= MODEL_NAME_MAX)
                return err_set(e, -EBADMSG, "the model's name is empty or longer than %d bytes",
                               MODEL_NAME_MAX - 1);
        copy = strdup(name);
        if (!copy)
                return err_set(e, -ENOMEM, "out of memory");
        free(m->name);
        m->name = copy;
        return 0;
}

/* A member that says something: there and not null. */
static const json_t *said(const json_t *document, const char *key)
{
        const json_t *v = json_object_get(document, key);

        return v && !json_is_null(v) ? v : NULL;
}

static int read_name(struct model *m, const json_t *document, struct err *e)
{
        const char *name;
        int r;

        if (!said(document, "model_name"))
                return 0;
        r = json_get_string(document, "model_name", &name, e);
        if (r < 0)
                return r;
        return *name ? model_set_name(m, name, e) : 0;
}

static int read_output_type(struct model *m, const json_t *document, struct err *e)
{
        const char *type;
        int r;

        if (!said(document, "output_type"))
                return 0;
        r = json_get_string(document, "output_type", &type, e);
        if (r < 0)
                return r;
        for (size_t i = 0; output_types[i]; i++)
                if (!strcmp(output_types[i], type)) {
                        m->output_type = output_types[i];
                        return 0;
                }
        return err_set(e, -EBADMSG, "output type '%.40s' is unknown", type);
}

static int read_provenance(struct model *m, const json_t *document, struct err *e)
{
        const char *text;
        int r;

        if (!said(document, "provenance"))
                return 0;
        r = json_get_string(document, "provenance", &text, e);
        if (r < 0)
                return r;
        r = provenance_find(text);
        if (r < 0)
                return err_set(e, -EBADMSG, "provenance '%.40s' is unknown", text);
        if (m->provenance >= 0 && m->provenance != r)
                return err_set(e, -EBADMSG, "provenance is both '%s' and '%s'",
                               provenance_names[m->provenance], provenance_names[r]);
        m->provenance = r;
        return 0;
}

/* "power_range": [least, largest] watts, or as Kepler 0.6 wrote it into its tables the width alone. */
static int read_power_range(struct model *m, const json_t *document, struct err *e)
{
        const json_t *range = said(document, "power_range");
        const json_t *low = json_array_get(range, 0), *high = json_array_get(range, 1);

        if (!range)
                return 0;
        if (json_is_number(range) && json_number_value(range) > 0)
                m->spread = json_number_value(range);
        else if (json_array_size(range) == 2 && json_is_number(low) && json_is_number(high) &&
                 json_number_value(low) <= json_number_value(high))
                m->watts = (struct model_range){ json_number_value(low), json_number_value(high) };
        else
                return err_set(e, -EBADMSG, "'power_range' is neither a width nor [least, largest]");
        return 0;
}

int model_read_head(struct model *m, const json_t *document, struct err *e)
{
        const json_t *spec = said(document, "machine_spec");
        int r;

        r = read_name(m, document, e);
        if (r < 0)
                return r;
        r = read_output_type(m, document, e);
        if (r < 0)
                return r;
        r = read_provenance(m, document, e);
        if (r < 0)
                return r;

        r = read_power_range(m, document, e);
        if (r < 0)
                return r;

        if (said(document, "mae")) {
                r = json_get_number(document, "mae", &m->mae, e);
                if (r < 0)
                        return r;
        }
        if (spec) {
                struct machine_spec machine;

                r = machine_spec_from_json(spec, &machine, e);
                if (r < 0)
                        return err_prefix(e, r, "machine_spec");
                m->cores = machine.cores > 0 ? machine.cores : 0;
        }
        return 0;
}

int model_add_feature(struct model *m, const char *name, double scale, size_t *ret_feature, struct err *e)
{
        size_t i;

        for (i = 0; i < m->n_features; i++)
                if (!strcmp(m->features[i], name))
                        break;
        if (i == MODEL_FEATURES_MAX)
                return err_set(e, -E2BIG, "more than %d features", MODEL_FEATURES_MAX);
        if (i == m->n_features) {
                if (!*name || strlen(name) >= MODEL_NAME_MAX)
                        return err_set(e, -EBADMSG, "a feature's name is empty or longer than %d bytes",
                                       MODEL_NAME_MAX - 1);
                m->features[i] = strdup(name);
                if (!m->features[i])
                        return err_set(e, -ENOMEM, "out of memory");
                m->n_features++;
        }
        if (scale > m->feature_scale[i])
                m->feature_scale[i] = scale;
        *ret_feature = i;
        return 0;
}

void model_narrow_feature(struct model *m, size_t feature, double low, double high)
{
        struct model_range *range = &m->range[feature];

        range->low = fmax(range->low, low);
        range->high = fmin(range->high, high);
}

/* Rank in the order package, core, uncore, dram, platform, and the static name; -1 when there is none. */
static int component_rank(const char *name, const char **ret_name)
{
        int rank = 0;

        for (size_t s = 0; s < energy_sources_n; s++)
                for (size_t i = 0; i < energy_sources[s].n; i++, rank++)
                        if (!strcmp(energy_sources[s].components[i], name)) {
                                if (ret_name)
                                        *ret_name = energy_sources[s].components[i];
                                return rank;
                        }
        return -1;
}

int model_add_component(struct model *m, const char *name, struct model_component **ret, struct err *e)
{
        const char *known;

        if (component_rank(name, &known) < 0)
                return err_set(e, -EBADMSG, "component '%.40s' is unknown", name);
        if (m->n_components == MODEL_COMPONENTS_MAX)
                return err_set(e, -E2BIG, "more than %d components", MODEL_COMPONENTS_MAX);
        *ret = &m->components[m->n_components++];
        (*ret)->name = known;
        return 0;
}

static int by_rank(const void *a, const void *b)
{
        const struct model_component *x = a, *y = b;

        return component_rank(x->name, NULL) - component_rank(y->name, NULL);
}

void model_sort_components(struct model *m)
{
        qsort(m->components, m->n_components, sizeof(m->components[0]), by_rank);
}

const char *model_name(const struct model *m)
{
        return m->name ? m->name : MODEL_UNNAMED;
}

const char *model_output_type(const struct model *m)
{
        return m->output_type;
}

const char *model_provenance(const struct model *m)
{
        return provenance_names[m->provenance >= 0 ? m->provenance : PROVENANCE_MEASURED];
}

double model_mae(const struct model *m)
{
        return m->mae;
}

int model_cores(const struct model *m)
{
        return m->cores;
}

size_t model_components(const struct model *m)
{
        return m->n_components;
}

const char *model_component(const struct model *m, size_t i)
{
        return m->components[i].name;
}

const char *model_class(const struct model *m)
{
        return m->class;
}

const char *model_component_kind(const struct model *m, size_t i)
{
        const struct model_component *c = &m->components[i];

        return c->plan ? c->plan->kind : c->kind;
}

const char *model_component_note(const struct model *m, size_t i)
{
        return m->components[i].plan ? m->components[i].plan->note : "";
}

double model_component_mae(const struct model *m, size_t i)
{
        return m->components[i].plan ? m->components[i].plan->mae : NAN;
}

size_t model_features(const struct model *m)
{
        return m->n_features;
}

const char *model_feature(const struct model *m, size_t i)
{
        return m->features[i];
}

double model_feature_scale(const struct model *m, size_t i)
{
        return m->feature_scale[i] > 0 ? m->feature_scale[i] : 1;
}

bool model_feature_range(const struct model *m, size_t i, double *ret_low, double *ret_high)
{
        *ret_low = m->range[i].low;
        *ret_high = m->range[i].high;
        return isfinite(*ret_low) || isfinite(*ret_high);
}

bool model_has_domain(const struct model *m)
{
        double low, high;

        for (size_t i = 0; i < m->n_features; i++)
                if (model_feature_range(m, i, &low, &high))
                        return true;
        return false;
}

bool model_in_domain(const struct model *m, const size_t *index, const double *row)
{
        for (size_t i = 0; i < m->n_features; i++) {
                double v = row[index[i]];

                if (!(v >= m->range[i].low && v <= m->range[i].high))
                        return false;
        }
        return true;
}

int model_bind(const struct model *m, const char *const *columns, size_t n, size_t *ret_index, struct err *e)
{
        for (size_t i = 0; i < m->n_features; i++) {
                size_t c = 0;

                while (c < n && strcmp(columns[c], m->features[i]))
                        c++;
                if (c == n)
                        return err_set(e, -ENOENT, "feature '%.100s' of model '%.100s' is missing",
                                       m->features[i], model_name(m));
                ret_index[i] = c;
        }
        return 0;
}

static void eval_rows(const struct model *m, const size_t *index, const double *rows, size_t stride, size_t n,
                      double *out)
{
        if (m->shared) {
                plan_run(m->shared, index, rows, stride, n, out, m->n_components);
                return;
        }
        for (size_t i = 0; i < m->n_components; i++)
                m->components[i].eval(&m->components[i], index, rows, stride, n, out + i, m->n_components);
}

void model_predict(const struct model *m, const size_t *index, const double *rows, size_t stride, size_t n,
                   double *out)
{
        eval_rows(m, index, rows, stride, n, out);
        for (size_t i = 0; i < n * m->n_components; i++)
                out[i] = out[i] > 0 && isfinite(out[i]) ? out[i] : 0;
}

/* Rows of the canary, and what they are in words. */
static const struct {
        double activity; /* times every feature's scale */
        const char *words;
} canaries[] = { { 0, "zero activity" }, { 0.5, "half activity" }, { 1, "full activity" } };
#define CANARIES ARRAY_SIZE(canaries)

#define NEGATIVE_TOLERANCE 1e-3 /* W; what a constant component comes to */

static int check_watts(const struct model *m, const char *component, const double watts[CANARIES],
                       struct err *e)
{
        double beyond = isfinite(m->watts.low) ? (m->watts.high - m->watts.low) / 2 : 0;
        double least = INFINITY, largest = -INFINITY;

        for (size_t r = 0; r < CANARIES; r++) {
                double answer = fmax(watts[r], 0);

                if (!isfinite(watts[r]) || fabs(watts[r]) > MODEL_WATTS_MAX)
                        return err_set(e, -EDOM, "model '%.100s' predicts %g W for %s at %s", model_name(m),
                                       watts[r], component, canaries[r].words);
                if (answer < m->watts.low - beyond || answer > m->watts.high + beyond)
                        return err_set(e, -EDOM,
                                       "model '%.100s' predicts %g W for %s at %s, far from its power_range "
                                       "of %g to %g W",
                                       model_name(m), answer, component, canaries[r].words, m->watts.low,
                                       m->watts.high);
                least = fmin(least, answer);
                largest = fmax(largest, watts[r]);
        }
        if (largest < -NEGATIVE_TOLERANCE)
                return err_set(e, -EDOM, "model '%.100s' predicts negative power for %s, at best %g W",
                               model_name(m), component, largest);
        if (largest - least > 1.5 * m->spread)
                return err_set(e, -EDOM,
                               "model '%.100s' predicts %g to %g W for %s, far more than its power_range of "
                               "%g W",
                               model_name(m), least, largest, component, m->spread);
        return 0;
}

int model_check(const struct model *m, struct err *e)
{
        double row[MODEL_FEATURES_MAX], out[CANARIES][MODEL_COMPONENTS_MAX];
        size_t index[MODEL_FEATURES_MAX];

        for (size_t r = 0; r < CANARIES; r++) {
                for (size_t i = 0; i < m->n_features; i++) {
                        index[i] = i;
                        row[i] = canaries[r].activity * model_feature_scale(m, i);
                }
                eval_rows(m, index, row, MODEL_FEATURES_MAX, 1, out[r]);
        }
        for (size_t i = 0; i < m->n_components; i++) {
                double watts[CANARIES];
                int r;

                for (size_t k = 0; k < CANARIES; k++)
                        watts[k] = out[k][i];
                r = check_watts(m, m->components[i].name, watts, e);
                if (r < 0)
                        return r;
        }
        return 0;
}
