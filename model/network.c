/* SPDX-License-Identifier: Apache-2.0 */
/* From a graph of layers to a row of steps: ordered, each tensor with a place in one scratch block that lies
 * on the caller's stack. Places are used again as soon as nobody needs what was there. */
#include "model/network.h"

#include <errno.h>
#include <string.h>

#define PLACE 8 /* tensors begin at multiples of so many doubles */

struct network {
        size_t n_features, rows; /* of a block */
        size_t n_steps;
        struct network_step *steps;
        size_t n_outputs;
        struct {
                size_t place, size, column;
        } outputs[MODEL_COMPONENTS_MAX];
};

/* ---- building ---- */

int network_graph_new(struct plan *plan, struct network_graph **ret, struct err *e)
{
        *ret = calloc(1, sizeof(**ret));
        if (!*ret)
                return err_set(e, -ENOMEM, "out of memory");
        (*ret)->plan = plan;
        return 0;
}

int network_add_layer(struct network_graph *g, const char *name, const char *type, struct network_layer **ret,
                      struct err *e)
{
        struct network_layer *l = &g->layers[g->n_layers];

        if (g->n_layers == NETWORK_LAYERS_MAX)
                return err_set(e, -E2BIG, "more than %d layers", NETWORK_LAYERS_MAX);
        if (!*name || strlen(name) >= NETWORK_NAME_MAX)
                return err_set(e, -EBADMSG, "a layer's name is empty or longer than %d bytes",
                               NETWORK_NAME_MAX - 1);
        for (size_t i = 0; i < g->n_layers; i++)
                if (!strcmp(g->layers[i].name, name))
                        return err_set(e, -EBADMSG, "layer '%.60s' is there twice", name);
        *l = (struct network_layer){ .type = network_type_find(type),
                                     .bias = true,
                                     .center = true,
                                     .scale = true,
                                     .epsilon = 1e-3,
                                     .axis = -1,
                                     .axes = { -1 },
                                     .n_axes = 1 };
        if (!l->type)
                return err_set(e, -ENOTSUP, "layer '%.60s': type '%.40s' is unknown", name, type);
        (void)snprintf(l->name, sizeof(l->name), "%s", name);
        g->n_layers++;
        *ret = l;
        return 0;
}

/* ---- the order ---- */

/* Inputs before those who take them; -EBADMSG names one layer of a cycle. */
static int sort_layers(const struct network_graph *g, size_t order[NETWORK_LAYERS_MAX], struct err *e)
{
        bool done[NETWORK_LAYERS_MAX] = { false };
        size_t n = 0;

        while (n < g->n_layers) {
                size_t before = n;

                for (size_t i = 0; i < g->n_layers; i++) {
                        const struct network_layer *l = &g->layers[i];
                        size_t k = 0;

                        while (!done[i] && k < l->n_inputs && done[l->inputs[k]])
                                k++;
                        if (done[i] || k < l->n_inputs)
                                continue;
                        done[i] = true;
                        order[n++] = i;
                }
                for (size_t i = 0; n == before && i < g->n_layers; i++)
                        if (!done[i])
                                return err_set(e, -EBADMSG, "layer '%.60s' depends on itself",
                                               g->layers[i].name);
        }
        return 0;
}

static int prepare(struct network_graph *g, struct network_layer *l, struct err *e)
{
        size_t size = 1;
        int r;

        if (l->n_inputs < l->type->fan_in_min || l->n_inputs > l->type->fan_in_max)
                return err_set(e, -EBADMSG, "layer '%.60s': %s does not take %zu inputs", l->name,
                               l->type->name, l->n_inputs);
        g->parameters += l->n_weights;
        if (g->parameters > NETWORK_PARAMETERS_MAX)
                return err_set(e, -E2BIG, "more than %zu parameters", NETWORK_PARAMETERS_MAX);
        r = l->type->prepare(g, l, e);
        if (r < 0)
                return err_prefix(e, r, "layer '%.60s'", l->name);
        for (size_t i = 0; i < l->shape.rank && size <= NETWORK_WIDTH_MAX; i++)
                size *= l->shape.dim[i];
        if (size > NETWORK_WIDTH_MAX)
                return err_set(e, -E2BIG, "layer '%.60s' has more than %d elements", l->name,
                               NETWORK_WIDTH_MAX);
        if (g->cost > NETWORK_COST_MAX)
                return err_set(e, -E2BIG, "layer '%.60s': a row costs more than %zu multiply-adds", l->name,
                               NETWORK_COST_MAX);
        return 0;
}

/* ---- places ---- */

struct places {
        size_t at[NETWORK_LAYERS_MAX];       /* of the layer's tensor */
        size_t owner[NETWORK_LAYERS_MAX];    /* the layer that computed it: another one's for identities */
        size_t last_use[NETWORK_LAYERS_MAX]; /* by owner: the step; SIZE_MAX an output */
        size_t top;                          /* doubles of a row, all together */
};

static size_t room(const struct network_graph *g, size_t layer)
{
        return (network_size(&g->layers[layer].shape) + PLACE - 1) / PLACE * PLACE;
}

/* The lowest place that no tensor which is still needed at this step overlaps. */
static size_t find_place(const struct network_graph *g, const struct places *p, const size_t *order,
                         size_t step, size_t features)
{
        size_t want = room(g, order[step]), at = features;

        for (size_t i = 0; i < step; i++) {
                size_t other = order[i];

                if (p->owner[other] == other && p->last_use[other] >= step &&
                    at < p->at[other] + room(g, other) && p->at[other] < at + want) {
                        at = p->at[other] + room(g, other);
                        i = SIZE_MAX; /* again from the first */
                }
        }
        return at;
}

static int place_tensors(const struct network_graph *g, const size_t *order, struct places *p, struct err *e)
{
        size_t features = (g->plan->columns + PLACE - 1) / PLACE * PLACE;

        for (size_t s = 0; s < g->n_layers; s++) {
                const struct network_layer *l = &g->layers[order[s]];

                p->owner[order[s]] = l->identity ? p->owner[l->inputs[0]] : order[s];
                p->last_use[order[s]] = 0;
                for (size_t k = 0; k < l->n_inputs; k++)
                        p->last_use[p->owner[l->inputs[k]]] = s;
        }
        for (size_t i = 0; i < g->n_outputs; i++)
                p->last_use[p->owner[g->outputs[i].layer]] = SIZE_MAX;
        for (size_t s = 0; s < g->n_layers; s++) {
                const struct network_layer *l = &g->layers[order[s]];
                size_t first = l->n_inputs > 0 ? p->owner[l->inputs[0]] : 0;
                bool alone = l->in_place && p->last_use[first] == s;

                for (size_t k = 1; k < l->n_inputs; k++)
                        alone &= p->owner[l->inputs[k]] != first;
                p->at[order[s]] = l->identity || alone ? p->at[first] : find_place(g, p, order, s, features);
                if (p->at[order[s]] + room(g, order[s]) > p->top)
                        p->top = p->at[order[s]] + room(g, order[s]);
        }
        if (p->top > NETWORK_SCRATCH)
                return err_set(e, -E2BIG, "tensors of %zu numbers are needed at once, more than %zu", p->top,
                               NETWORK_SCRATCH);
        return 0;
}

/* What nothing leads to an output from was a mistake of whoever wrote it. */
static int check_needed(const struct network_graph *g, const size_t *order, struct err *e)
{
        bool needed[NETWORK_LAYERS_MAX] = { false };

        for (size_t i = 0; i < g->n_outputs; i++)
                needed[g->outputs[i].layer] = true;
        for (size_t s = g->n_layers; s-- > 0;) {
                const struct network_layer *l = &g->layers[order[s]];

                if (!needed[order[s]])
                        return err_set(e, -EBADMSG, "layer '%.60s' leads to no output", l->name);
                for (size_t k = 0; k < l->n_inputs; k++)
                        needed[l->inputs[k]] = true;
        }
        return 0;
}

/* ---- running ---- */

static void run_network(const struct plan_stage *stage, const double *in, double *out, size_t n)
{
        _Alignas(64) double block[NETWORK_SCRATCH];
        const struct network *net = stage->data;

        while (n > 0) {
                size_t some = n < net->rows ? n : net->rows;

                memcpy(block, in, some * net->n_features * sizeof(*in));
                for (size_t s = 0; s < net->n_steps; s++)
                        net->steps[s].layer->run(&net->steps[s], block, some);
                for (size_t r = 0; r < some; r++)
                        for (size_t o = 0; o < net->n_outputs; o++)
                                *out++ = block[net->outputs[o].place * net->rows + r * net->outputs[o].size +
                                               net->outputs[o].column];
                in += some * net->n_features;
                n -= some;
        }
}

static void make_step(struct network *net, const struct network_graph *g, const struct places *p,
                      size_t index, struct network_layer *copy)
{
        struct network_step *s = &net->steps[net->n_steps++];

        *copy = g->layers[index];
        *s = (struct network_step){
                .layer = copy, .rows = net->rows, .out = p->at[index], .out_size = network_size(&copy->shape)
        };
        if (copy->n_inputs == 0)
                s->in_size[0] = net->n_features;
        for (size_t k = 0; k < copy->n_inputs; k++) {
                s->in[k] = p->at[copy->inputs[k]];
                s->in_size[k] = network_size(&g->layers[copy->inputs[k]].shape);
        }
}

static int emit(struct network_graph *g, const size_t *order, const struct places *p, struct err *e)
{
        struct network *net = plan_calloc(g->plan, 1, sizeof(*net));
        struct network_layer *copies = plan_calloc(g->plan, g->n_layers, sizeof(*copies));
        struct plan_stage *stage = NULL;
        int r;

        if (!net || !copies)
                return plan_no_memory(e);
        net->steps = plan_calloc(g->plan, g->n_layers, sizeof(*net->steps));
        if (!net->steps)
                return plan_no_memory(e);
        net->n_features = g->plan->columns;
        net->rows = NETWORK_SCRATCH / (p->top > 0 ? p->top : 1);
        if (net->rows > PLAN_ROWS)
                net->rows = PLAN_ROWS;
        for (size_t s = 0; s < g->n_layers; s++)
                if (!g->layers[order[s]].identity)
                        make_step(net, g, p, order[s], &copies[s]);
        for (size_t o = 0; o < g->n_outputs; o++) {
                net->outputs[o].place = p->at[g->outputs[o].layer];
                net->outputs[o].size = network_size(&g->layers[g->outputs[o].layer].shape);
                net->outputs[o].column = g->outputs[o].column;
        }
        net->n_outputs = g->n_outputs;
        r = plan_add(g->plan, g->n_outputs, run_network, &stage, e);
        if (r == 0)
                stage->data = net;
        return r;
}

int network_compile(struct network_graph *g, struct err *e)
{
        size_t order[NETWORK_LAYERS_MAX];
        struct places places = { .top = 0 };
        int r;

        if (g->n_outputs == 0)
                return err_set(e, -EBADMSG, "the network has no outputs");
        g->parameters = g->cost = 0;
        r = sort_layers(g, order, e);
        if (r == 0)
                r = check_needed(g, order, e);
        for (size_t s = 0; r == 0 && s < g->n_layers; s++)
                r = prepare(g, &g->layers[order[s]], e);
        for (size_t o = 0; r == 0 && o < g->n_outputs; o++)
                if (g->outputs[o].column >= network_size(&g->layers[g->outputs[o].layer].shape))
                        r = err_set(e, -EBADMSG, "output %zu is element %zu of layer '%.60s', which has %zu",
                                    o, g->outputs[o].column, g->layers[g->outputs[o].layer].name,
                                    network_size(&g->layers[g->outputs[o].layer].shape));
        if (r == 0)
                r = place_tensors(g, order, &places, e);
        if (r == 0)
                r = emit(g, order, &places, e);
        if (r == 0)
                (void)snprintf(g->plan->note, sizeof(g->plan->note), "%zu layers, %zu parameters",
                               g->n_layers, g->parameters);
        return r;
}
