/* SPDX-License-Identifier: Apache-2.0 */
/* MLPRegressor: layers of a matrix, a bias and an activation. */
#include "model/sklearn.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

/* a: matrix of n_in x n_out, b: biases. */
static void layer(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (; n > 0; n--, in += s->n_in, out += s->n_out) {
                for (size_t o = 0; o < s->n_out; o++)
                        out[o] = s->b[o];
                for (size_t j = 0; j < s->n_in; j++)
                        for (size_t o = 0; o < s->n_out; o++)
                                out[o] += in[j] * s->a[j * s->n_out + o];
        }
}

static void run_relu(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        layer(s, in, out, n);
        for (size_t i = 0; i < n * s->n_out; i++)
                out[i] = out[i] < 0 ? 0 : out[i];
}

static void run_tanh(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        layer(s, in, out, n);
        for (size_t i = 0; i < n * s->n_out; i++)
                out[i] = tanh(out[i]);
}

static void run_logistic(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        layer(s, in, out, n);
        for (size_t i = 0; i < n * s->n_out; i++)
                out[i] = 1 / (1 + exp(-out[i]));
}

static const struct {
        const char *name;
        void (*run)(const struct plan_stage *s, const double *in, double *out, size_t n);
} activations[] = {
        { "relu", run_relu },
        { "tanh", run_tanh },
        { "logistic", run_logistic },
        { "identity", layer },
};

static int add_layer(struct plan *plan, const struct pickle_node *matrix, const struct pickle_node *biases,
                     void (*run)(const struct plan_stage *s, const double *in, double *out, size_t n),
                     struct err *e)
{
        struct plan_stage *s = NULL;
        int r;

        if (matrix->kind != PICKLE_ARRAY || !matrix->array->dtype || matrix->array->rank != 2 ||
            matrix->array->shape[0] != plan->columns)
                return err_set(e, -EBADMSG, "MLPRegressor has a layer that does not fit the one before");
        r = plan_add(plan, matrix->array->shape[1], run, &s, e);
        if (r == 0)
                r = sklearn_numbers(plan, matrix, "coefs_", s->n_in * s->n_out, &s->a, e);
        if (r == 0)
                r = sklearn_numbers(plan, biases, "intercepts_", s->n_out, &s->b, e);
        return r;
}

int perceptron_add(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        const struct pickle_node *matrices = pickle_attr(object, "coefs_");
        const struct pickle_node *biases = pickle_attr(object, "intercepts_");
        size_t a = 0;
        int r = sklearn_expect(object, "out_activation_", "identity", e);

        if (r < 0)
                return r;
        while (a < ARRAY_SIZE(activations) &&
               !pickle_is_text(pickle_attr(object, "activation"), activations[a].name))
                a++;
        if (a == ARRAY_SIZE(activations))
                return sklearn_expect(object, "activation", "relu", e);
        if (!matrices || matrices->kind != PICKLE_LIST || !biases || biases->kind != PICKLE_LIST ||
            matrices->list.n != biases->list.n || matrices->list.n == 0)
                return err_set(e, -EBADMSG, "MLPRegressor has no layers");
        (void)snprintf(plan->note, sizeof(plan->note), "%zu layers", matrices->list.n);
        for (size_t i = 0; r == 0 && i < matrices->list.n; i++)
                r = add_layer(plan, matrices->list.items[i], biases->list.items[i],
                              i + 1 < matrices->list.n ? activations[a].run : layer, e);
        return r;
}
