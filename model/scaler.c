/* SPDX-License-Identifier: Apache-2.0 */
/* scikit-learn's transformers. Each does the same operations in the same order, so that the last bit is the
 * same. */
#include "model/sklearn.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#define POLYNOMIAL_DEGREE_MAX 6

/* ---- scalers: a and b per column ---- */

static void run_divide(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (; n > 0; n--, in += s->n_in, out += s->n_in)
                for (size_t j = 0; j < s->n_in; j++)
                        out[j] = in[j] / s->a[j];
}

static void run_subtract_divide(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (; n > 0; n--, in += s->n_in, out += s->n_in)
                for (size_t j = 0; j < s->n_in; j++)
                        out[j] = (in[j] - s->b[j]) / s->a[j];
}

static void run_multiply_add(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (; n > 0; n--, in += s->n_in, out += s->n_in)
                for (size_t j = 0; j < s->n_in; j++) {
                        double product = in[j] * s->a[j]; /* rounded by itself, as numpy does */

                        out[j] = product + s->b[j];
                }
}

static void run_clip(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (size_t i = 0; i < n * s->n_in; i++)
                out[i] = in[i] < s->c ? s->c : in[i] > s->d ? s->d : in[i];
}

/* A scaler that sees the raw inputs knows what a large value of each is, and between which bounds they were
 * or are likely to have been. */
static void note_input(struct plan *plan, size_t column, double large, double low, double high)
{
        if (plan->n_stages > 1)
                return;
        if (isfinite(large) && large > 0)
                plan->typical[column] = large;
        if (low <= high) {
                plan->low[column] = low;
                plan->high[column] = high;
        }
}

/* An attribute that not every version has; NULL without it. */
static const double *known(struct plan *plan, const struct pickle_node *object, const char *name)
{
        const double *v = NULL;

        if (pickle_attr(object, name))
                (void)sklearn_vector(plan, object, name, plan->columns, &v, NULL);
        return v;
}

static int check_divisors(const struct plan_stage *s, const struct pickle_node *object, struct err *e)
{
        for (size_t j = 0; j < s->n_in; j++)
                if (!(s->a[j] > 0))
                        return err_set(e, -EBADMSG, "%s divides by %g", pickle_describe(object), s->a[j]);
        return 0;
}

int scaler_add_max_abs(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        const double *largest = known(plan, object, "max_abs_");
        struct plan_stage *s = NULL;
        int r;

        if (sklearn_flag(object, "clip", false))
                return err_set(e, -ENOTSUP, "MaxAbsScaler with clip is not supported");
        r = plan_add(plan, plan->columns, run_divide, &s, e);
        if (r == 0)
                r = sklearn_vector(plan, object, "scale_", plan->columns, &s->a, e);
        if (r == 0)
                r = check_divisors(s, object, e);
        for (size_t j = 0; r == 0 && j < plan->columns; j++)
                note_input(plan, j, s->a[j], largest ? -largest[j] : -s->a[j],
                           largest ? largest[j] : s->a[j]);
        return r;
}

static int add_clip(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        const struct pickle_node *range = pickle_attr(object, "feature_range");
        struct plan_stage *s = NULL;
        int r;

        if (!range || range->kind != PICKLE_TUPLE || range->list.n != 2)
                return err_set(e, -EBADMSG, "MinMaxScaler has no 'feature_range'");
        r = plan_add(plan, plan->columns, run_clip, &s, e);
        if (r < 0)
                return r;
        if (pickle_number(range->list.items[0], &s->c) < 0 || pickle_number(range->list.items[1], &s->d) < 0)
                return err_set(e, -EBADMSG, "MinMaxScaler's 'feature_range' is malformed");
        return 0;
}

int scaler_add_min_max(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        const double *low = known(plan, object, "data_min_"), *high = known(plan, object, "data_max_");
        struct plan_stage *s = NULL;
        int r;

        r = plan_add(plan, plan->columns, run_multiply_add, &s, e);
        if (r == 0)
                r = sklearn_vector(plan, object, "scale_", plan->columns, &s->a, e);
        if (r == 0)
                r = sklearn_vector(plan, object, "min_", plan->columns, &s->b, e);
        for (size_t j = 0; r == 0 && j < plan->columns; j++)
                note_input(plan, j, (1 - s->b[j]) / s->a[j], low && high ? low[j] : -INFINITY,
                           low && high ? high[j] : INFINITY);
        if (r == 0 && sklearn_flag(object, "clip", false))
                r = add_clip(plan, object, e);
        return r;
}

/* (x - centre) / scale, either of which may be switched off. */
static int add_centred(struct plan *plan, const struct pickle_node *object, const char *centre,
                       const char *flag_centre, const char *flag_scale, struct err *e)
{
        bool centred = sklearn_flag(object, flag_centre, true),
             scaled = sklearn_flag(object, flag_scale, true);
        struct plan_stage *s = NULL;
        double *ones;
        int r;

        r = plan_add(plan, plan->columns, centred ? run_subtract_divide : run_divide, &s, e);
        if (r == 0 && centred)
                r = sklearn_vector(plan, object, centre, plan->columns, &s->b, e);
        if (r == 0 && scaled)
                r = sklearn_vector(plan, object, "scale_", plan->columns, &s->a, e);
        if (r < 0)
                return r;
        if (!scaled) {
                s->a = ones = plan_calloc(plan, plan->columns, sizeof(*ones));
                if (!ones)
                        return plan_no_memory(e);
                for (size_t j = 0; j < plan->columns; j++)
                        ones[j] = 1;
        }
        for (size_t j = 0; j < plan->columns; j++) {
                double middle = centred ? s->b[j] : 0, width = MODEL_SIGMAS * s->a[j];
                bool tells = centred && scaled;

                note_input(plan, j, middle + width, tells ? middle - width : -INFINITY,
                           tells ? middle + width : INFINITY);
        }
        return check_divisors(s, object, e);
}

int scaler_add_standard(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        return add_centred(plan, object, "mean_", "with_mean", "with_std", e);
}

int scaler_add_robust(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        return add_centred(plan, object, "center_", "with_centering", "with_scaling", e);
}

/* ---- polynomials: every column is an earlier one times an input ---- */

struct product {
        unsigned short factor; /* output column, or the bias of 1 when it is its own */
        unsigned short input;
};

static void run_products(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        const struct product *products = s->data;

        for (; n > 0; n--, in += s->n_in, out += s->n_out) {
                size_t j = 0;

                for (; j < s->k; j++) /* the bias, when there is one */
                        out[j] = 1;
                for (; j < s->k + s->n_in; j++)
                        out[j] = in[j - s->k];
                for (; j < s->n_out; j++)
                        out[j] = out[products[j].factor] * in[products[j].input];
        }
}

/* scikit-learn's order: by degree, within it lexicographic; x1x1, x1x2, ... Returns the number of columns. */
static size_t list_products(struct product *products, size_t inputs, size_t bias, int64_t degree,
                            bool interaction_only)
{
        size_t begin = bias, end = bias + inputs, n = end;

        for (size_t j = 0; j < inputs; j++)
                products[bias + j].input = (unsigned short)j;
        for (int64_t d = 2; d <= degree; d++) {
                for (size_t j = begin; j < end; j++)
                        for (size_t i = products[j].input + interaction_only; i < inputs; i++) {
                                if (n == PLAN_COLUMNS_MAX)
                                        return PLAN_COLUMNS_MAX + 1;
                                products[n++] = (struct product){ (unsigned short)j, (unsigned short)i };
                        }
                begin = end;
                end = n;
        }
        return n;
}

static int read_degree(const struct pickle_node *object, int64_t *ret, struct err *e)
{
        int64_t least = 0;

        if (pickle_integer(pickle_attr(object, "_max_degree"), ret) < 0 &&
            pickle_integer(pickle_attr(object, "degree"), ret) < 0)
                return err_set(e, -EBADMSG, "PolynomialFeatures has no 'degree'");
        (void)pickle_integer(pickle_attr(object, "_min_degree"), &least); /* newer versions have it */
        if (*ret < 1 || *ret > POLYNOMIAL_DEGREE_MAX || least > 1)
                return err_set(e, -ENOTSUP, "PolynomialFeatures of degree %lld to %lld is not supported",
                               (long long)least, (long long)*ret);
        return 0;
}

int polynomial_add(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        bool bias = sklearn_flag(object, "include_bias", true);
        bool interaction_only = sklearn_flag(object, "interaction_only", false);
        struct product *products;
        struct plan_stage *s = NULL;
        int64_t degree, columns;
        size_t n, inputs = plan->columns;
        int r;

        r = read_degree(object, &degree, e);
        if (r == 0)
                r = sklearn_integer(object, "n_output_features_", &columns, e);
        if (r < 0)
                return r;
        if (inputs + bias > PLAN_COLUMNS_MAX)
                return err_set(e, -E2BIG, "PolynomialFeatures makes more than %d columns", PLAN_COLUMNS_MAX);
        products = plan_calloc(plan, PLAN_COLUMNS_MAX, sizeof(*products));
        if (!products)
                return plan_no_memory(e);
        n = list_products(products, inputs, bias, degree, interaction_only);
        if (n > PLAN_COLUMNS_MAX)
                return err_set(e, -E2BIG, "PolynomialFeatures makes more than %d columns", PLAN_COLUMNS_MAX);
        if (columns < 0 || (uint64_t)columns != n)
                return err_set(e, -EBADMSG, "PolynomialFeatures says %lld columns and makes %zu",
                               (long long)columns, n);
        r = plan_add(plan, n, run_products, &s, e);
        if (r < 0)
                return r;
        s->k = bias;
        s->data = products;
        return 0;
}
