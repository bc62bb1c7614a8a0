/* SPDX-License-Identifier: Apache-2.0 */
/* Support vector regression: a weighted sum of kernels to the support vectors. */
#include "model/sklearn.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

/* a: dual coefficients, b: support vectors, c: intercept, d: gamma, k: their number. */
static void run_rbf(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (; n > 0; n--, in += s->n_in, out++) {
                double y = 0;

                for (size_t i = 0; i < s->k; i++) {
                        const double *v = s->b + i * s->n_in;
                        double square = 0;

                        for (size_t j = 0; j < s->n_in; j++)
                                square += (in[j] - v[j]) * (in[j] - v[j]);
                        y += s->a[i] * exp(-s->d * square);
                }
                *out = y + s->c;
        }
}

static void run_dot(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (; n > 0; n--, in += s->n_in, out++) {
                double y = 0;

                for (size_t i = 0; i < s->k; i++) {
                        const double *v = s->b + i * s->n_in;
                        double dot = 0;

                        for (size_t j = 0; j < s->n_in; j++)
                                dot += in[j] * v[j];
                        y += s->a[i] * dot;
                }
                *out = y + s->c;
        }
}

int svr_add(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        bool linear = pickle_is_text(pickle_attr(object, "kernel"), "linear");
        const struct pickle_array *vectors = NULL;
        struct plan_stage *s = NULL;
        int r = linear ? 0 : sklearn_expect(object, "kernel", "rbf", e);

        if (r == 0)
                r = sklearn_array(object, "support_vectors_", &vectors, e);
        if (r < 0)
                return r;
        if (sklearn_flag(object, "_sparse", false))
                return err_set(e, -ENOTSUP, "SVR of sparse data is not supported");
        if (vectors->rank != 2 || (vectors->shape[0] > 0 && vectors->shape[1] != plan->columns))
                return err_set(e, -EBADMSG, "SVR was trained on %zu columns, here are %zu",
                               vectors->rank == 2 ? vectors->shape[1] : 0, plan->columns);
        r = plan_add(plan, 1, linear ? run_dot : run_rbf, &s, e);
        if (r < 0)
                return r;
        s->k = vectors->shape[0];
        (void)snprintf(plan->note, sizeof(plan->note), "%zu support vectors", s->k);
        r = sklearn_vector(plan, object, "support_vectors_", vectors->n, &s->b, e);
        if (r == 0)
                r = sklearn_vector(plan, object, "_dual_coef_", s->k, &s->a, e);
        if (r == 0)
                r = sklearn_number(object, "_intercept_", &s->c, e);
        if (r == 0 && !linear)
                r = sklearn_number(object, "_gamma", &s->d, e);
        return r;
}
