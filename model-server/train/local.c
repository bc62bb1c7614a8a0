/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/train/local.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/json.h"
#include "model-server/train/curve_fit.h"
#include "model-server/train/folds.h"
#include "model-server/train/lsq.h"
#include "model/model.h"

#define HUBER_WATTS   3.0
#define INNER_FOLDS   5
#define INNER_DEALS   2 /* of all segments to folds */
#define MAIN_FEATURES 2
#define EXCITED       0.05 /* of its largest value: a feature that fewer rows reach has not been seen at work */
#define EXCITED_MIN   0.02 /* share of the rows */

/* In the order of preference: a later one must be better by more than its margin. Where watts never fall as
 * activity grows, workloads that were not seen are estimated best, so weights that may be negative have to
 * prove themselves; three per cent is what chance makes of inner folds. */
const struct local_trainer local_trainers[] = {
        { "nnlad", "SGDRegressorTrainer", LOCAL_LINEAR, LOSS_ABSOLUTE, true, 0.03 },
        { "nnls", "LinearRegressionTrainer", LOCAL_LINEAR, LOSS_SQUARED, true, 0.03 },
        { "logistic", "LogisticRegressionTrainer", LOCAL_LOGISTIC, LOSS_ABSOLUTE, false, 0.03 },
        { "exp", "ExponentialRegressionTrainer", LOCAL_EXPONENTIAL, LOSS_ABSOLUTE, false, 0.03 },
        { "log", "LogarithmicRegressionTrainer", LOCAL_LOGARITHMIC, LOSS_ABSOLUTE, false, 0.03 },
        { "huber", "SGDRegressorTrainer", LOCAL_LINEAR, LOSS_HUBER, false, 0.15 },
        { "lad", "SGDRegressorTrainer", LOCAL_LINEAR, LOSS_ABSOLUTE, false, 0.15 },
        { "ols", "SGDRegressorTrainer", LOCAL_LINEAR, LOSS_SQUARED, false, 0.15 },
};
const size_t local_trainers_n = ARRAY_SIZE(local_trainers);

const struct local_trainer *local_trainer_find(const char *name)
{
        for (size_t i = 0; i < local_trainers_n; i++)
                if (!strcmp(local_trainers[i].name, name))
                        return &local_trainers[i];
        return NULL;
}

/* ---- linear ---- */

static bool excited(const struct table *t, size_t j, double scale)
{
        size_t hits = 0;

        for (size_t i = 0; i < t->n; i++)
                hits += fabs(t->x[i * t->p + j]) >= EXCITED * scale;
        return (double)hits >= EXCITED_MIN * (double)t->n;
}

static int fit_linear(const struct table *t, struct local_fit *f, struct err *e)
{
        CLEANUP(freep) double *columns = calloc((t->p + 1) * t->n + 1, sizeof(*columns));
        struct lsq_options o = { (enum loss)f->trainer->loss, HUBER_WATTS, f->trainer->nonnegative };
        struct design d = { .n = t->n, .y = t->y };
        double w[LSQ_COLUMNS_MAX];
        size_t of[LSQ_COLUMNS_MAX];
        int r;

        if (!columns)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < t->n; i++)
                columns[i] = 1;
        d.columns[d.p++] = columns;
        for (size_t j = 0; j < t->p; j++) {
                double *column = columns + d.p * t->n;

                if (!excited(t, j, f->scale[j]))
                        continue;
                for (size_t i = 0; i < t->n; i++)
                        column[i] = t->x[i * t->p + j] / f->scale[j];
                of[d.p] = j;
                d.columns[d.p++] = column;
        }
        r = lsq_fit(&d, &o, w, e);
        if (r < 0)
                return r;
        f->bias = w[0];
        for (size_t k = 1; k < d.p; k++)
                f->weight[of[k]] = w[k];
        return 0;
}

/* ---- curves ---- */

static double correlation(const struct table *t, size_t j)
{
        double sx = 0, sy = 0, sxx = 0, sxy = 0, mean_y = table_mean(t->y, t->n), n = (double)t->n;

        for (size_t i = 0; i < t->n; i++) {
                double x = t->x[i * t->p + j], y = t->y[i] - mean_y;

                sx += x;
                sy += y;
                sxx += x * x;
                sxy += x * y;
        }
        sxx -= sx * sx / n;
        return sxx > 0 ? fabs(sxy - sx * sy / n) / sqrt(sxx) : 0;
}

/* The features that a curve may be a function of: those that go with the watts most. */
static size_t main_features(const struct table *t, const struct local_fit *f, size_t ret[MAIN_FEATURES])
{
        double found[MAIN_FEATURES] = { 0 };
        size_t n = 0;

        for (size_t j = 0; j < t->p; j++) {
                double c = excited(t, j, f->scale[j]) ? correlation(t, j) : -1;
                size_t at = n;

                while (at > 0 && c > found[at - 1])
                        at--;
                if (!(c >= 0) || at == MAIN_FEATURES)
                        continue;
                n += n < MAIN_FEATURES;
                for (size_t k = n - 1; k > at; k--) {
                        found[k] = found[k - 1];
                        ret[k] = ret[k - 1];
                }
                found[at] = c;
                ret[at] = j;
        }
        return n;
}

static int fit_curve(const struct table *t, struct local_fit *f, struct err *e)
{
        CLEANUP(freep) double *x = calloc(t->n + 1, sizeof(*x));
        double least = INFINITY, curve[4], loss;
        size_t candidates[MAIN_FEATURES], n;
        int r;

        if (!x)
                return err_set(e, -ENOMEM, "out of memory");
        n = main_features(t, f, candidates);
        for (size_t k = 0; k < n; k++) {
                size_t j = candidates[k];

                for (size_t i = 0; i < t->n; i++)
                        x[i] = t->x[i * t->p + j] / f->scale[j];
                r = curve_fit(f->trainer->form, x, t->y, t->n, curve, &loss, e);
                if (r < 0 && r != -EDOM)
                        return r;
                if (r < 0 || loss >= least)
                        continue;
                least = loss;
                f->main = j;
                memcpy(f->curve, curve, sizeof(curve));
        }
        return isfinite(least) ? 0 : err_set(e, -EDOM, "no feature varies enough for a curve");
}

int local_fit(const struct local_trainer *trainer, const struct table *t, struct local_fit *ret,
              struct err *e)
{
        struct local_fit f = { .trainer = trainer, .p = t->p };
        int r;

        if (t->n < t->p + 2)
                return err_set(e, -EDOM, "%zu rows are too few for %zu features", t->n, t->p);
        memcpy(f.features, t->features, sizeof(f.features));
        for (size_t j = 0; j < t->p; j++) {
                for (size_t i = 0; i < t->n; i++)
                        f.scale[j] = fmax(f.scale[j], fabs(t->x[i * t->p + j]));
                if (!(f.scale[j] > 0))
                        f.scale[j] = 1;
        }
        r = trainer->form == LOCAL_LINEAR ? fit_linear(t, &f, e) : fit_curve(t, &f, e);
        if (r == 0)
                *ret = f;
        return r;
}

/* ---- the exported file ---- */

json_t *local_weights(const struct local_fit *f)
{
        bool linear = f->trainer->form == LOCAL_LINEAR;
        json_t *variables = json_object(), *curve;

        for (size_t j = 0; linear && j < f->p; j++)
                (void)json_object_set_new(
                        variables, f->features[j],
                        json_pack("{s:f, s:f}", "scale", f->scale[j], "weight", f->weight[j]));
        if (linear)
                return json_pack("{s:{s:f, s:{}, s:o}}", "All_Weights", "Bias_Weight", f->bias,
                                 "Categorical_Variables", "Numerical_Variables", variables);
        (void)json_object_set_new(variables, f->features[f->main],
                                  json_pack("{s:f}", "scale", f->scale[f->main]));
        curve = json_array();
        for (size_t i = 0; i < (f->trainer->form == LOCAL_LOGISTIC ? 4 : 3); i++)
                (void)json_array_append_new(curve, json_real(f->curve[i]));
        return json_pack("{s:{s:{}, s:o, s:o}}", "All_Weights", "Categorical_Variables",
                         "Numerical_Variables", variables, "CurveFit_Weights", curve);
}

json_t *local_document(const char *model_name, const char *component, const struct local_fit *f)
{
        return json_pack("{s:s, s:o}", "model_name", model_name, component, local_weights(f));
}

static int load(const struct local_fit *f, const char *component, struct model **ret, struct err *e)
{
        CLEANUP(json_decrefp) json_t *document = local_document(f->trainer->class, component, f);
        CLEANUP(buf_done) struct buf text = { 0 };
        int r;

        buf_init(&text, MODEL_WEIGHT_MAX);
        r = document ? json_write(document, &text) : -ENOMEM;
        if (r < 0)
                return err_set(e, r, "cannot write weights: %s", strerror(-r));
        return model_load_weight(text.data, text.size, NULL, ret, e);
}

int local_replay(const struct local_fit *f, const char *component, const struct table *t, double *out,
                 struct err *e)
{
        CLEANUP(model_freep) struct model *model = NULL;
        size_t index[MODEL_FEATURES_MAX];
        int r = load(f, component, &model, e);

        if (r == 0)
                r = model_bind(model, t->features, t->p, index, e);
        if (r == 0)
                model_predict(model, index, t->x, t->p, t->n, out);
        return r;
}

/* ---- the choice ---- */

/* Sum of |error| of a fold's rows after training on the others; -EDOM when it does not fit. */
static int fold_error(const struct local_trainer *trainer, const struct table *t, const char *component,
                      const unsigned char *mark, double *ret, struct err *e)
{
        CLEANUP(table_done) struct table fitted = { 0 }, held = { 0 };
        CLEANUP(freep) double *out = NULL;
        struct local_fit fit;
        int r = table_select(t, mark, false, NULL, 0, &fitted, e);

        if (r == 0)
                r = table_select(t, mark, true, NULL, 0, &held, e);
        if (r == 0)
                r = local_fit(trainer, &fitted, &fit, e);
        if (r < 0)
                return r;
        out = calloc(held.n + 1, sizeof(*out));
        if (!out)
                return err_set(e, -ENOMEM, "out of memory");
        r = local_replay(&fit, component, &held, out, e);
        for (size_t i = 0; r == 0 && i < held.n; i++)
                *ret += fabs(out[i] - held.y[i]);
        return r;
}

/* Of all deals and folds. */
static int inner_error(const struct local_trainer *trainer, const struct table *t, const char *component,
                       const struct folds deals[INNER_DEALS], double *ret, struct err *e)
{
        *ret = 0;
        for (size_t d = 0; d < INNER_DEALS; d++)
                for (size_t k = 0; k < deals[d].n; k++) {
                        int r = fold_error(trainer, t, component, deals[d].mark[k], ret, e);

                        if (r < 0)
                                return r;
                }
        return isfinite(*ret) ? 0 : err_set(e, -EDOM, "predictions are not finite");
}

static int choose(const struct table *t, const char *component, const char *class,
                  const struct folds deals[INNER_DEALS], const struct local_trainer **ret, struct err *e)
{
        double least = INFINITY;

        *ret = NULL;
        for (size_t i = 0; i < local_trainers_n; i++) {
                const struct local_trainer *trainer = &local_trainers[i];
                double error;
                int r;

                if (class && strcmp(trainer->class, class) != 0)
                        continue;
                r = inner_error(trainer, t, component, deals, &error, e);
                if (r < 0 && r != -EDOM && r != -EBADMSG)
                        return r;
                if (r == 0 && (!*ret || error < (1 - trainer->margin) * least)) {
                        least = error;
                        *ret = trainer;
                }
        }
        return *ret ? 0 : err_set(e, -EDOM, "no local trainer fits these rows");
}

int local_choose_class(const struct table *t, const char *component, const char *class, struct local_fit *ret,
                       struct err *e)
{
        struct folds deals[INNER_DEALS] = { 0 };
        const struct local_trainer *best = NULL;
        int r = 0;

        for (size_t d = 0; r == 0 && d < INNER_DEALS; d++)
                r = folds_by_segment(t->segment, t->n, INNER_FOLDS, d, &deals[d], e);
        if (r == 0)
                r = choose(t, component, class, deals, &best, e);
        for (size_t d = 0; d < INNER_DEALS; d++)
                folds_done(&deals[d]);
        return r < 0 ? r : local_fit(best, t, ret, e);
}

int local_choose(const struct table *t, const char *component, struct local_fit *ret, struct err *e)
{
        return local_choose_class(t, component, NULL, ret, e);
}
