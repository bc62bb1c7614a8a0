/* SPDX-License-Identifier: Apache-2.0 */
/* Weight JSON, Kepler's portable form of a model: per component either a bias and a weight per feature, or
 * the parameters of a curve over one feature. Compiled here into terms and parameters; the kind is chosen by
 * the trainer in the model's name, as Kepler does, because a curve of three weights does not say which it is.
 */
#include "model/compiled.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/json.h"
#include "schema/vocabulary.h"

/* ---- evaluators: one row loop each ---- */

static void eval_linear(const struct model_component *c, const size_t *index, const double *rows,
                        size_t stride, size_t n, double *out, size_t out_stride)
{
        for (; n > 0; n--, rows += stride, out += out_stride) {
                double y = c->p[0];

                for (size_t t = 0; t < c->n_terms; t++)
                        y += c->terms[t].coefficient * rows[index[c->terms[t].feature]];
                *out = y;
        }
}

static inline double scaled(const struct model_component *c, const size_t *index, const double *row)
{
        return c->scale > 0 ? row[index[c->feature]] / c->scale : 0;
}

static void eval_logarithmic(const struct model_component *c, const size_t *index, const double *rows,
                             size_t stride, size_t n, double *out, size_t out_stride)
{
        for (; n > 0; n--, rows += stride, out += out_stride)
                *out = c->p[0] * log(c->p[1] * scaled(c, index, rows) + 1) + c->p[2];
}

static void eval_logistic(const struct model_component *c, const size_t *index, const double *rows,
                          size_t stride, size_t n, double *out, size_t out_stride)
{
        for (; n > 0; n--, rows += stride, out += out_stride)
                *out = c->p[0] / (1 + exp(-c->p[2] * (scaled(c, index, rows) - c->p[1]))) + c->p[3];
}

static void eval_exponential(const struct model_component *c, const size_t *index, const double *rows,
                             size_t stride, size_t n, double *out, size_t out_stride)
{
        for (; n > 0; n--, rows += stride, out += out_stride)
                *out = c->p[0] * exp(c->p[1] * scaled(c, index, rows)) + c->p[2];
}

/* ---- forms ---- */

struct form {
        const char *trainer, *kind;
        size_t curve_weights; /* 0: linear */
        void (*eval)(const struct model_component *c, const size_t *index, const double *rows, size_t stride,
                     size_t n, double *out, size_t out_stride);
};

static const struct form forms[] = {
        { "SGDRegressorTrainer", "linear", 0, eval_linear },
        { "LinearRegressionTrainer", "linear", 0, eval_linear },
        { "LogarithmicRegressionTrainer", "logarithmic", 3, eval_logarithmic },
        { "ExponentialRegressionTrainer", "exponential", 3, eval_exponential },
        { "LogisticRegressionTrainer", "logistic", 4, eval_logistic },
};
#define FORM_LINEAR   (&forms[0])
#define FORM_LOGISTIC (&forms[4])

/* The form that a model or trainer name stands for; NULL when it stands for none. */
static const struct form *form_of_name(const char *name)
{
        char trainer[MODEL_NAME_MAX];
        int node_type;

        if (!name || model_name_split(name, trainer, &node_type) < 0)
                return NULL;
        for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
                if (!strcmp(forms[i].trainer, trainer))
                        return &forms[i];
        return NULL;
}

/* The form of one component, from the trainer when it is known, else from what the weights show. */
static int choose_form(const struct form *trained, const json_t *weights, const struct form **ret,
                       struct err *e)
{
        const json_t *curve = json_object_get(weights, "CurveFit_Weights");
        bool linear = json_object_get(weights, "Bias_Weight");

        if (trained && trained->curve_weights > 0) {
                if (!curve)
                        return err_set(e, -EBADMSG, "no CurveFit_Weights, which %s needs", trained->trainer);
                *ret = trained;
                return 0;
        }
        if (linear) {
                *ret = FORM_LINEAR;
                return 0;
        }
        if (!trained && json_array_size(curve) == FORM_LOGISTIC->curve_weights) { /* no other has four */
                *ret = FORM_LOGISTIC;
                return 0;
        }
        if (trained && curve)
                return err_set(e, -EBADMSG, "curve weights, but %s is linear", trained->trainer);
        if (curve)
                return err_set(e, -EBADMSG, "curve weights, but no known trainer tells which curve");
        if (json_object_get(weights, "XGboost_Weights"))
                return err_set(e, -ENOTSUP, "XGBoost weights cannot be evaluated by this version");
        return err_set(e, -EBADMSG, "neither Bias_Weight nor CurveFit_Weights");
}

/* ---- loading ---- */

/* One entry of Numerical_Variables. Kepler 0.6 also wrote the mean and variance of a scaler; 0 in every
 * published file. A model that was really trained on centred data would be evaluated wrongly, so it is
 * refused. */
static int read_variable(const json_t *variable, bool linear, double *ret_scale, double *ret_weight,
                         struct err *e)
{
        double mean = 0;
        int r;

        r = json_get_number(variable, "scale", ret_scale, e);
        if (r < 0)
                return r;
        if (*ret_scale < 0)
                return err_set(e, -EBADMSG, "'scale' is negative");
        if (linear) {
                r = json_get_number(variable, "weight", ret_weight, e);
                if (r < 0)
                        return r;
        }
        if (json_object_get(variable, "mean")) {
                r = json_get_number(variable, "mean", &mean, e);
                if (r < 0)
                        return r;
        }
        if (mean < 0 || mean > 0)
                return err_set(e, -ENOTSUP, "scaling by a mean is not supported");
        return 0;
}

/* The scale is the largest absolute value of the training data (or 1, where that was 0). */
static void note_range(struct model *m, size_t feature, double scale)
{
        if (scale > 0)
                model_narrow_feature(m, feature, -scale, scale);
}

static int add_term(struct model_component *c, size_t feature, double scale, double weight, struct err *e)
{
        double coefficient = scale > 0 ? weight / scale : 0;

        if (!isfinite(coefficient))
                return err_set(e, -EBADMSG, "weight %g over scale %g is not finite", weight, scale);
        if (coefficient < 0 || coefficient > 0)
                c->terms[c->n_terms++] = (struct model_term){ feature, coefficient };
        return 0;
}

static int read_linear(struct model *m, struct model_component *c, const json_t *weights,
                       const json_t *variables, struct err *e)
{
        const char *name;
        json_t *variable;
        int r;

        r = json_get_number(weights, "Bias_Weight", &c->p[0], e);
        if (r < 0)
                return r;
        if (json_object_size(variables) > MODEL_FEATURES_MAX)
                return err_set(e, -E2BIG, "more than %d features", MODEL_FEATURES_MAX);
        c->terms = calloc(json_object_size(variables) + 1, sizeof(*c->terms));
        if (!c->terms)
                return err_set(e, -ENOMEM, "out of memory");

        json_object_foreach ((json_t *)(uintptr_t)variables, name, variable) { /* reads only */
                double scale, weight;
                size_t feature;

                r = read_variable(variable, true, &scale, &weight, e);
                if (r < 0)
                        return err_prefix(e, r, "variable '%.60s'", name);
                r = model_add_feature(m, name, scale, &feature, e);
                if (r < 0)
                        return r;
                note_range(m, feature, scale);
                r = add_term(c, feature, scale, weight, e);
                if (r < 0)
                        return err_prefix(e, r, "variable '%.60s'", name);
        }
        return 0;
}

static const char *first_present(const json_t *variables, const char *const *names, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (json_object_get(variables, names[i]))
                        return names[i];
        return NULL;
}

/* The feature that a component's curve is a function of: the main feature of the feature group, for dram its
 * dram feature. Upstream's Go client takes a random one and its sidecar an index into the wrong group; the
 * trainer, whose intention counts, means this one. Features that form no group (0.6 names, extra columns) are
 * decided by what the groups have in common: instructions before time, and the dram feature that belongs to
 * either. */
static const char *curve_feature(const json_t *variables, const char *component)
{
        static const char *const mains[] = { "cpu_instructions", "bpf_cpu_time_ms", "bpf_cpu_time_us" };
        const char *names[MODEL_FEATURES_MAX], *name, *main_feature, *dram_feature;
        const struct feature_group *group;
        bool dram = !strcmp(component, "dram");
        json_t *variable;
        size_t n = 0;

        json_object_foreach ((json_t *)(uintptr_t)variables, name, variable)
                names[n++] = name;
        group = feature_group_of(names, n);
        if (group)
                return dram ? group->dram_feature : group->main_feature;
        if (n == 1)
                return names[0];

        main_feature = first_present(variables, mains, ARRAY_SIZE(mains));
        if (!dram || !main_feature)
                return main_feature;
        dram_feature = main_feature == mains[0] ? "cache_miss" : "bpf_page_cache_hit";
        return json_object_get(variables, dram_feature) ? dram_feature : main_feature;
}

static int read_curve_weights(struct model_component *c, const struct form *form, const json_t *weights,
                              struct err *e)
{
        const json_t *curve = json_object_get(weights, "CurveFit_Weights");

        if (!json_is_array(curve))
                return err_set(e, -EBADMSG, "'CurveFit_Weights' is not an array");
        if (json_array_size(curve) != form->curve_weights)
                return err_set(e, -EBADMSG, "%zu curve weights, but %s has %zu", json_array_size(curve),
                               form->trainer, form->curve_weights);
        for (size_t i = 0; i < form->curve_weights; i++) {
                const json_t *w = json_array_get(curve, i);

                if (!json_is_number(w))
                        return err_set(e, -EBADMSG, "curve weight %zu is not a number", i);
                c->p[i] = json_number_value(w);
        }
        return 0;
}

static int read_curve(struct model *m, struct model_component *c, const struct form *form,
                      const json_t *weights, const json_t *variables, struct err *e)
{
        const char *name, *chosen;
        json_t *variable;
        int r;

        r = read_curve_weights(c, form, weights, e);
        if (r < 0)
                return r;
        if (json_object_size(variables) > MODEL_FEATURES_MAX)
                return err_set(e, -E2BIG, "more than %d features", MODEL_FEATURES_MAX);
        chosen = curve_feature(variables, c->name);
        if (!chosen)
                return err_set(e, -EBADMSG, "no variable that a curve could depend on");

        json_object_foreach ((json_t *)(uintptr_t)variables, name, variable) { /* reads only */
                double scale, none;
                size_t feature;

                r = read_variable(variable, false, &scale, &none, e);
                if (r < 0)
                        return err_prefix(e, r, "variable '%.60s'", name);
                r = model_add_feature(m, name, scale, &feature, e);
                if (r < 0)
                        return r;
                note_range(m, feature, scale);
                if (!strcmp(name, chosen)) {
                        c->feature = feature;
                        c->scale = scale;
                }
        }
        return 0;
}

static int check_categorical(const json_t *weights, struct err *e)
{
        const json_t *categorical = json_object_get(weights, "Categorical_Variables");

        if (!categorical || json_is_null(categorical))
                return 0;
        if (!json_is_object(categorical))
                return err_set(e, -EBADMSG, "'Categorical_Variables' is not an object");
        if (json_object_size(categorical) > 0)
                return err_set(e, -ENOTSUP, "categorical variables cannot be evaluated by this version");
        return 0;
}

static int read_component(struct model *m, const char *name, const json_t *weights,
                          const struct form *trained, struct err *e)
{
        const json_t *variables;
        const struct form *form = NULL;
        struct model_component *c;
        int r;

        if (!json_is_object(weights))
                return err_set(e, -EBADMSG, "'All_Weights' is missing or not an object");
        r = model_add_component(m, name, &c, e);
        if (r < 0)
                return r;
        r = check_categorical(weights, e);
        if (r < 0)
                return r;
        r = choose_form(trained, weights, &form, e);
        if (r < 0)
                return r;
        variables = json_object_get(weights, "Numerical_Variables");
        if (!json_is_object(variables))
                return err_set(e, -EBADMSG, "'Numerical_Variables' is missing or not an object");

        c->eval = form->eval;
        c->kind = form->kind;
        if (form->curve_weights > 0)
                return read_curve(m, c, form, weights, variables, e);
        return read_linear(m, c, weights, variables, e);
}

/* Everything at the top that is named like a component or has All_Weights is one; other siblings are ignored,
 * as upstream's readers do. */
static int read_components(struct model *m, const json_t *document, const struct form *trained, struct err *e)
{
        const char *key;
        json_t *member;
        int r;

        json_object_foreach ((json_t *)(uintptr_t)document, key, member) { /* reads only */
                const json_t *weights = json_object_get(member, "All_Weights");

                if (!weights && !energy_source_of_component(key))
                        continue;
                r = read_component(m, key, weights, trained, e);
                if (r < 0)
                        return err_prefix(e, r, "component '%.40s'", key);
        }
        if (m->n_components == 0)
                return err_set(e, -EBADMSG, "no component has weights");
        if (m->n_features == 0)
                return err_set(e, -EBADMSG, "no component has a numerical variable");
        model_sort_components(m);
        return 0;
}

int model_load_weight(const char *json, size_t size, const char *name_hint, struct model **ret, struct err *e)
{
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(json_decrefp) json_t *document = NULL;
        int r;

        if (size > MODEL_WEIGHT_MAX)
                return err_set(e, -E2BIG, "weights are larger than %zu bytes", MODEL_WEIGHT_MAX);
        r = json_parse(json, size, "weights", &document, e);
        if (r < 0)
                return r;
        if (!json_is_object(document))
                return err_set(e, -EBADMSG, "weights are not a JSON object");

        r = model_new(&m, e);
        if (r < 0)
                return r;
        if (name_hint && *name_hint) {
                r = model_set_name(m, name_hint, e);
                if (r < 0)
                        return r;
        }
        r = model_read_head(m, document, e);
        if (r < 0)
                return r;
        r = read_components(m, document, form_of_name(m->name), e);
        if (r < 0)
                return r == -ENOENT ? -EBADMSG
                                    : r; /* a member that is missing is a malformed document here */
        *ret = TAKE(m);
        return 0;
}
