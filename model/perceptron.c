/* SPDX-License-Identifier: Apache-2.0 */
/* MLPRegressor as a network. */
#include "model/sklearn.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "model/network.h"

static const struct {
        const char *name, *function; /* ours; NULL: none */
} activations[] = {
        { "relu", "relu" },
        { "tanh", "tanh" },
        { "logistic", "sigmoid" },
        { "identity", NULL },
};

static int chain(struct network_graph *g, const char *type, struct network_layer **ret, struct err *e)
{
        char name[32];
        int r;

        (void)snprintf(name, sizeof(name), "%zu", g->n_layers);
        r = network_add_layer(g, name, type, ret, e);
        if (r == 0 && g->n_layers > 1)
                (*ret)->inputs[(*ret)->n_inputs++] = g->n_layers - 2;
        return r;
}

/* coefs_[i] is inputs x outputs; the network wants the biases behind it. */
static int add_dense(struct network_graph *g, size_t n_in, const struct pickle_node *matrix,
                     const struct pickle_node *biases, struct err *e)
{
        const double *coefs = NULL, *intercepts = NULL;
        struct network_layer *l = NULL;
        double *weights;
        int r = chain(g, "dense", &l, e);

        if (r < 0)
                return r;
        l->units = matrix->array->shape[1];
        if (l->units == 0 || l->units > NETWORK_WIDTH_MAX)
                return err_set(e, -E2BIG, "MLPRegressor has a layer of %zu units", l->units);
        r = sklearn_numbers(g->plan, matrix, "coefs_", n_in * l->units, &coefs, e);
        if (r == 0)
                r = sklearn_numbers(g->plan, biases, "intercepts_", l->units, &intercepts, e);
        if (r < 0)
                return r;
        l->n_weights = (n_in + 1) * l->units;
        weights = plan_calloc(g->plan, l->n_weights, sizeof(*weights));
        if (!weights)
                return plan_no_memory(e);
        memcpy(weights, coefs, n_in * l->units * sizeof(*weights));
        memcpy(weights + n_in * l->units, intercepts, l->units * sizeof(*weights));
        l->weights = weights;
        return 0;
}

static int add_function(struct network_graph *g, const char *name, struct err *e)
{
        struct network_layer *l = NULL;
        int r = chain(g, "activation", &l, e);

        if (r < 0)
                return r;
        l->activation = network_activation_find(name);
        l->p[0] = INFINITY; /* relu: without an upper bound */
        return 0;
}

static int add_layers(struct network_graph *g, const struct pickle_node *matrices,
                      const struct pickle_node *biases, const char *function, struct err *e)
{
        size_t columns = g->plan->columns;
        struct network_layer *input = NULL;
        int r = chain(g, "input", &input, e);

        if (r == 0 && columns > PLAN_COLUMNS_MAX)
                r = err_set(e, -E2BIG, "MLPRegressor has more than %d inputs", PLAN_COLUMNS_MAX);
        for (size_t i = 0; r == 0 && i < columns; i++)
                input->features[input->n_features++] = (uint16_t)i;
        for (size_t i = 0; r == 0 && i < matrices->list.n; i++) {
                const struct pickle_node *matrix = matrices->list.items[i];

                if (matrix->kind != PICKLE_ARRAY || !matrix->array->dtype || matrix->array->rank != 2 ||
                    matrix->array->shape[0] != columns)
                        return err_set(e, -EBADMSG,
                                       "MLPRegressor has a layer that does not fit the one before");
                r = add_dense(g, columns, matrix, biases->list.items[i], e);
                columns = matrix->array->shape[1];
                if (r == 0 && function && i + 1 < matrices->list.n)
                        r = add_function(g, function, e);
        }
        if (r < 0)
                return r;
        for (; g->n_outputs < columns && g->n_outputs < MODEL_COMPONENTS_MAX; g->n_outputs++)
                g->outputs[g->n_outputs] = (struct network_output){ g->n_layers - 1, g->n_outputs };
        return network_compile(g, e);
}

int perceptron_add(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        const struct pickle_node *matrices = pickle_attr(object, "coefs_");
        const struct pickle_node *biases = pickle_attr(object, "intercepts_");
        CLEANUP(freep) struct network_graph *g = NULL;
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
        r = network_graph_new(plan, &g, e);
        if (r == 0)
                r = add_layers(g, matrices, biases, activations[a].function, e);
        if (r == 0)
                (void)snprintf(plan->note, sizeof(plan->note), "%zu layers", matrices->list.n);
        return r;
}
