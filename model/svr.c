/* SPDX-License-Identifier: Apache-2.0 */
/* Support vector regression: a weighted sum of kernels to the support vectors. */
#include "model/sklearn.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

struct kernel {
        double coef0;
        int64_t degree;
};

/* a: dual coefficients, b: support vectors, c: intercept, d: gamma, k: their number, data: a struct kernel.
 */
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

static inline double dot(const double *a, const double *b, size_t n)
{
        double sum = 0;

        for (size_t j = 0; j < n; j++)
                sum += a[j] * b[j];
        return sum;
}

static void run_linear(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (; n > 0; n--, in += s->n_in, out++) {
                double y = 0;

                for (size_t i = 0; i < s->k; i++)
                        y += s->a[i] * dot(in, s->b + i * s->n_in, s->n_in);
                *out = y + s->c;
        }
}

/* As libsvm multiplies. */
static double power(double base, int64_t times)
{
        double product = 1;

        for (; times > 0; times /= 2, base *= base)
                if (times % 2 == 1)
                        product *= base;
        return product;
}

static void run_polynomial(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        const struct kernel *kernel = s->data;

        for (; n > 0; n--, in += s->n_in, out++) {
                double y = 0;

                for (size_t i = 0; i < s->k; i++)
                        y += s->a[i] * power(s->d * dot(in, s->b + i * s->n_in, s->n_in) + kernel->coef0,
                                             kernel->degree);
                *out = y + s->c;
        }
}

static void run_sigmoid(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        const struct kernel *kernel = s->data;

        for (; n > 0; n--, in += s->n_in, out++) {
                double y = 0;

                for (size_t i = 0; i < s->k; i++)
                        y += s->a[i] * tanh(s->d * dot(in, s->b + i * s->n_in, s->n_in) + kernel->coef0);
                *out = y + s->c;
        }
}

static const struct {
        const char *name;
        void (*run)(const struct plan_stage *s, const double *in, double *out, size_t n);
} kernels[] = {
        { "rbf", run_rbf },
        { "linear", run_linear },
        { "poly", run_polynomial },
        { "sigmoid", run_sigmoid },
};

static int read_kernel(struct plan *plan, struct plan_stage *s, const struct pickle_node *object,
                       struct err *e)
{
        struct kernel *kernel = plan_calloc(plan, 1, sizeof(*kernel));
        int r = kernel ? sklearn_number(object, "coef0", &kernel->coef0, e) : plan_no_memory(e);

        if (r == 0)
                r = sklearn_integer(object, "degree", &kernel->degree, e);
        s->data = kernel;
        return r;
}

int svr_add(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        const struct pickle_array *vectors = NULL;
        struct plan_stage *s = NULL;
        size_t kernel = 0;
        int r;

        while (kernel < ARRAY_SIZE(kernels) &&
               !pickle_is_text(pickle_attr(object, "kernel"), kernels[kernel].name))
                kernel++;
        if (kernel == ARRAY_SIZE(kernels))
                return sklearn_expect(object, "kernel", "rbf", e);
        r = sklearn_array(object, "support_vectors_", &vectors, e);
        if (r < 0)
                return r;
        if (sklearn_flag(object, "_sparse", false))
                return err_set(e, -ENOTSUP, "SVR of sparse data is not supported");
        if (vectors->rank != 2 || (vectors->shape[0] > 0 && vectors->shape[1] != plan->columns))
                return err_set(e, -EBADMSG, "SVR was trained on %zu columns, here are %zu",
                               vectors->rank == 2 ? vectors->shape[1] : 0, plan->columns);
        r = plan_add(plan, 1, kernels[kernel].run, &s, e);
        if (r < 0)
                return r;
        s->k = vectors->shape[0];
        (void)snprintf(plan->note, sizeof(plan->note), "%zu support vectors", s->k);
        r = sklearn_vector(plan, object, "support_vectors_", vectors->n, &s->b, e);
        if (r == 0)
                r = sklearn_vector(plan, object, "_dual_coef_", s->k, &s->a, e);
        if (r == 0)
                r = sklearn_number(object, "_intercept_", &s->c, e);
        if (r == 0 && s->run != run_linear)
                r = sklearn_number(object, "_gamma", &s->d, e);
        if (r == 0 && (s->run == run_polynomial || s->run == run_sigmoid))
                r = read_kernel(plan, s, object, e);
        return r;
}
