/* SPDX-License-Identifier: Apache-2.0 */
#include "model/curve.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "model/sklearn.h"
#include "schema/vocabulary.h"

static void run_exponential(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (in += s->k; n > 0; n--, in += s->n_in, out++)
                *out = s->a[0] * exp(s->a[1] * *in) + s->a[2];
}

static void run_logarithmic(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (in += s->k; n > 0; n--, in += s->n_in, out++)
                *out = s->a[0] * log(s->a[1] * *in + 1) + s->a[2];
}

static void run_logistic(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (in += s->k; n > 0; n--, in += s->n_in, out++)
                *out = s->a[0] / (1 + exp(-s->a[2] * (*in - s->a[1]))) + s->a[3];
}

static const struct formula {
        const char *function, *kind;
        size_t parameters;
        void (*run)(const struct plan_stage *s, const double *in, double *out, size_t n);
} formulas[] = {
        { "expo_func", "exponential", 3, run_exponential },
        { "log_func", "logarithmic", 3, run_logarithmic },
        { "logi_func", "logistic", 4, run_logistic },
};

/* ---- the column ---- */

static bool has_all(const char *const *names, size_t n, const struct feature_group *group)
{
        for (size_t i = 0; i < GROUP_FEATURES_MAX && group->features[i]; i++) {
                size_t j = 0;

                while (j < n && strcmp(names[j], group->features[i]))
                        j++;
                if (j == n)
                        return false;
        }
        return true;
}

/* Upstream's sidecar takes the first group whose features are all there, and in it the place of that group's
 * main feature, which it then uses as an index into this model's features. */
static int upstream_column(const char *const *names, size_t n, const char *component, size_t *ret,
                           struct err *e)
{
        for (size_t g = 0; g < feature_groups_n; g++) {
                const struct feature_group *group = &feature_groups[g];
                const char *wanted = strcmp(component, "dram") ? group->main_feature : group->dram_feature;

                if (!has_all(names, n, group))
                        continue;
                for (size_t i = 0; i < n && group->features[i]; i++)
                        if (!strcmp(group->features[i], wanted)) {
                                *ret = i;
                                return 0;
                        }
        }
        return err_set(e, -ENOTSUP, "upstream has no feature group for these features");
}

int curve_column(const struct pickle_node *object, const char *const *names, size_t n, const char *component,
                 enum model_curve_index choice, size_t *ret, struct err *e)
{
        int64_t index;
        int r;

        if (!pickle_is_object(object, "CurveFitModel"))
                return err_set(e, -EBADMSG, "%s instead of a CurveFitModel", pickle_describe(object));
        if (choice == MODEL_CURVE_UPSTREAM)
                return upstream_column(names, n, component, ret, e);
        r = sklearn_integer(object, "feature_index", &index, e);
        if (r < 0)
                return r;
        if (index < 0 || (uint64_t)index >= n)
                return err_set(e, -EBADMSG, "the curve depends on feature %lld of %zu", (long long)index, n);
        *ret = (size_t)index;
        return 0;
}

/* ---- the curve ---- */

int curve_add(struct plan *plan, const struct pickle_node *object, size_t column, struct err *e)
{
        const struct pickle_node *function = pickle_attr(object, "fit_func");
        struct plan_stage *s = NULL;
        size_t i = 0;
        int r;

        if (!function || function->kind != PICKLE_CLASS)
                return err_set(e, -EBADMSG, "CurveFitModel names no function");
        while (i < ARRAY_SIZE(formulas) && strcmp(formulas[i].function, function->class->name))
                i++;
        if (i == ARRAY_SIZE(formulas))
                return err_set(e, -ENOTSUP, "curves of '%s' are not supported", function->class->name);
        if (column >= plan->columns)
                return err_set(e, -EBADMSG, "the curve depends on column %zu of %zu", column, plan->columns);
        plan->kind = formulas[i].kind;
        r = plan_add(plan, 1, formulas[i].run, &s, e);
        if (r < 0)
                return r;
        s->k = column;
        return sklearn_vector(plan, object, "popt", formulas[i].parameters, &s->a, e);
}
