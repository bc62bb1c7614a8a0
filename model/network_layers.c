/* SPDX-License-Identifier: Apache-2.0 */
/* Each kind of layer: the shape it makes of its inputs' shapes, the weights it takes, and its formula. */
#include "model/network.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define KERAS_EPSILON 1e-7 /* keras.config.epsilon(): the least standard deviation of a Normalization */

static const double *input_at(const struct network_step *s, const double *block, size_t i)
{
        return block + s->in[i] * s->rows;
}

static double *output_at(const struct network_step *s, double *block)
{
        return block + s->out * s->rows;
}

static const struct network_shape *input_shape(const struct network_graph *g, const struct network_layer *l,
                                               size_t i)
{
        return &g->layers[l->inputs[i]].shape;
}

static bool same_shape(const struct network_shape *a, const struct network_shape *b)
{
        return a->rank == b->rank && !memcmp(a->dim, b->dim, a->rank * sizeof(a->dim[0]));
}

size_t network_size(const struct network_shape *s)
{
        size_t n = 1;

        for (size_t i = 0; i < s->rank; i++)
                n *= s->dim[i];
        return n;
}

static int fit_weights(const struct network_layer *l, size_t n, struct err *e)
{
        return l->n_weights == n ? 0 : err_set(e, -EBADMSG, "%zu weights instead of %zu", l->n_weights, n);
}

/* Without the batch; from the end when negative. */
static int find_axis(const struct network_shape *s, long axis, size_t *ret, struct err *e)
{
        long at = axis < 0 ? axis + (long)s->rank : axis;

        if (at < 0 || (size_t)at >= s->rank)
                return err_set(e, -EBADMSG, "axis %ld of a tensor of rank %zu", axis, s->rank);
        *ret = (size_t)at;
        return 0;
}

/* ---- input, identity, reshape ---- */

static void run_input(const struct network_step *s, double *block, size_t n)
{
        const double *in = block; /* the features are the block's first tensor */
        double *out = output_at(s, block);

        for (; n > 0; n--, in += s->in_size[0])
                for (size_t j = 0; j < s->out_size; j++)
                        *out++ = in[s->layer->features[j]];
}

static int prepare_input(struct network_graph *g, struct network_layer *l, struct err *e)
{
        if (l->n_features == 0)
                return err_set(e, -EBADMSG, "an input without features");
        for (size_t i = 0; i < l->n_features; i++)
                if (l->features[i] >= g->plan->columns)
                        return err_set(e, -EBADMSG, "feature %u of %zu", l->features[i], g->plan->columns);
        l->shape = (struct network_shape){ 1, { l->n_features } };
        l->run = run_input;
        return 0;
}

static int prepare_identity(struct network_graph *g, struct network_layer *l, struct err *e)
{
        (void)e;
        l->shape = *input_shape(g, l, 0);
        l->identity = true;
        return 0;
}

/* One dimension may be 0: whatever is left. No dimensions at all: flatten. */
static int prepare_reshape(struct network_graph *g, struct network_layer *l, struct err *e)
{
        size_t size = network_size(input_shape(g, l, 0)), known = 1, free_dim = NETWORK_RANK_MAX;

        l->shape = l->target.rank > 0 ? l->target : (struct network_shape){ 1, { 0 } };
        for (size_t i = 0; i < l->shape.rank; i++)
                if (l->shape.dim[i] == 0 && free_dim < NETWORK_RANK_MAX)
                        return err_set(e, -EBADMSG, "two dimensions are left open");
                else if (l->shape.dim[i] == 0)
                        free_dim = i;
                else
                        known *= l->shape.dim[i]; /* each at most NETWORK_WIDTH_MAX, four of them */
        if (free_dim < NETWORK_RANK_MAX && size % known == 0)
                l->shape.dim[free_dim] = size / known;
        if (network_size(&l->shape) != size)
                return err_set(e, -EBADMSG, "%zu elements do not fit the shape", size);
        l->identity = true;
        return 0;
}

/* ---- dense ---- */

static void run_dense(const struct network_step *s, double *block, size_t n)
{
        const struct network_layer *l = s->layer;

        network_multiply(input_at(s, block, 0), n * l->outer, l->inner, l->a, l->b, l->units,
                         output_at(s, block));
}

static int prepare_dense(struct network_graph *g, struct network_layer *l, struct err *e)
{
        const struct network_shape *in = input_shape(g, l, 0);
        double *packed;
        int r;

        if (l->units == 0)
                return err_set(e, -EBADMSG, "'units' is missing");
        l->inner = in->dim[in->rank - 1];
        l->outer = network_size(in) / l->inner;
        l->shape = *in;
        l->shape.dim[in->rank - 1] = l->units;
        r = fit_weights(l, (l->inner + l->bias) * l->units, e);
        if (r < 0)
                return r;
        packed = plan_calloc(g->plan, network_packed_size(l->inner, l->units), sizeof(*packed));
        if (!packed)
                return plan_no_memory(e);
        network_pack(l->weights, l->inner, l->units, packed);
        l->a = packed;
        l->b = l->bias ? l->weights + l->inner * l->units : NULL;
        l->run = run_dense;
        g->cost += l->outer * l->inner * l->units;
        return 0;
}

/* ---- activations ---- */

static void run_activation(const struct network_step *s, double *block, size_t n)
{
        double *out = output_at(s, block);

        if (s->in[0] != s->out)
                memcpy(out, input_at(s, block, 0), n * s->out_size * sizeof(*out));
        network_activation_run(s->layer->activation, out, n * s->out_size, s->layer->p);
}

static void run_group_activation(const struct network_step *s, double *block, size_t n)
{
        const struct network_layer *l = s->layer;
        const double *in = input_at(s, block, 0);
        double *out = output_at(s, block);
        size_t step = l->activation->halves ? l->inner / 2 : l->inner;

        for (n *= l->outer; n > 0; n--, in += l->inner, out += step)
                l->activation->run_group(in, out, l->inner, l->p);
}

static int prepare_activation(struct network_graph *g, struct network_layer *l, struct err *e)
{
        const struct network_shape *in = input_shape(g, l, 0);
        size_t axis = 0;
        int r = find_axis(in, l->axis, &axis, e);

        if (r < 0)
                return r;
        if (!l->activation)
                return err_set(e, -EBADMSG, "'function' is missing");
        if (axis + 1 != in->rank)
                return err_set(e, -ENOTSUP, "%s over another axis than the last", l->activation->name);
        l->shape = *in;
        l->inner = in->dim[in->rank - 1];
        l->outer = network_size(in) / l->inner;
        if (l->activation->halves && l->inner % 2 != 0)
                return err_set(e, -EBADMSG, "%s of %zu elements", l->activation->name, l->inner);
        if (l->activation->halves)
                l->shape.dim[in->rank - 1] /= 2;
        l->run = l->activation->run ? run_activation : run_group_activation;
        l->in_place = l->activation->run != NULL;
        g->cost += network_size(in) * NETWORK_FUNCTION_COST;
        return 0;
}

/* ---- what is done to each element: (x - c) * a + b ---- */

static void run_affine(const struct network_step *s, double *block, size_t n)
{
        const struct network_layer *l = s->layer;
        const double *in = input_at(s, block, 0);
        double *out = output_at(s, block);

        for (; n > 0; n--, in += s->out_size, out += s->out_size)
                for (size_t j = 0; j < s->out_size; j++)
                        out[j] = (in[j] - l->c[j]) * l->a[j] + l->b[j];
}

static void run_prelu(const struct network_step *s, double *block, size_t n)
{
        const struct network_layer *l = s->layer;
        const double *in = input_at(s, block, 0);
        double *out = output_at(s, block);

        for (; n > 0; n--, in += s->out_size, out += s->out_size)
                for (size_t j = 0; j < s->out_size; j++)
                        out[j] = in[j] < 0 ? in[j] * l->a[j] : in[j];
}

/* How many weights a vector over the layer's axes has, and for each element of the tensor which one. */
static int over_axes(struct network_graph *g, const struct network_layer *l, size_t *ret_n, uint32_t **ret,
                     struct err *e)
{
        const struct network_shape *in = input_shape(g, l, 0);
        size_t size = network_size(in), stride[NETWORK_RANK_MAX] = { 0 }, n = 1, kept = 0;
        bool keep[NETWORK_RANK_MAX] = { false };

        for (size_t i = 0; i < l->n_axes; i++) {
                size_t axis = 0;
                int r = find_axis(in, l->axes[i], &axis, e);

                if (r < 0)
                        return r;
                if (keep[axis])
                        return err_set(e, -EBADMSG, "axis %ld is there twice", l->axes[i]);
                keep[axis] = true;
                kept++;
        }
        for (size_t i = in->rank; i-- > 0;)
                if (keep[i]) {
                        stride[i] = n;
                        n *= in->dim[i];
                }
        *ret = plan_calloc(g->plan, size, sizeof(**ret));
        if (!*ret)
                return plan_no_memory(e);
        for (size_t k = 0; k < size; k++) {
                size_t rest = k;

                for (size_t i = in->rank; i-- > 0; rest /= in->dim[i])
                        (*ret)[k] += (uint32_t)(rest % in->dim[i] * stride[i]);
        }
        *ret_n = n;
        return 0;
}

/* Space for a, b and c of every element. */
static int new_affine(struct network_graph *g, struct network_layer *l, double **a, double **b, double **c,
                      struct err *e)
{
        size_t size;

        l->shape = *input_shape(g, l, 0);
        size = network_size(&l->shape);
        *a = plan_calloc(g->plan, 3 * size, sizeof(**a));
        if (!*a)
                return plan_no_memory(e);
        *b = *a + size;
        *c = *b + size;
        l->a = *a;
        l->b = *b;
        l->c = *c;
        l->run = run_affine;
        l->in_place = true;
        g->cost += size;
        return 0;
}

/* Weights: mean, variance. */
static int prepare_normalization(struct network_graph *g, struct network_layer *l, struct err *e)
{
        uint32_t *map = NULL;
        double *a, *b, *c;
        size_t n = 0;
        int r = over_axes(g, l, &n, &map, e);

        if (r == 0)
                r = fit_weights(l, 2 * n, e);
        if (r == 0)
                r = new_affine(g, l, &a, &b, &c, e);
        for (size_t k = 0; r == 0 && k < network_size(&l->shape); k++) {
                double mean = l->weights[map[k]], variance = l->weights[n + map[k]];
                double deviation = fmax(sqrt(variance), KERAS_EPSILON);

                if (variance < 0)
                        return err_set(e, -EBADMSG, "a variance of %g", variance);
                a[k] = l->invert ? deviation : 1 / deviation;
                b[k] = l->invert ? mean : 0;
                c[k] = l->invert ? 0 : mean;
        }
        return r;
}

/* Weights: gamma if scaled, beta if centered, moving mean, moving variance. */
static int prepare_batch_normalization(struct network_graph *g, struct network_layer *l, struct err *e)
{
        const double *gamma = NULL, *beta = NULL, *at = l->weights;
        uint32_t *map = NULL;
        double *a, *b, *c;
        size_t n = 0;
        int r = over_axes(g, l, &n, &map, e);

        if (r == 0)
                r = fit_weights(l, (2 + (size_t)l->scale + (size_t)l->center) * n, e);
        if (r == 0)
                r = new_affine(g, l, &a, &b, &c, e);
        if (r < 0)
                return r;
        if (l->scale) {
                gamma = at;
                at += n;
        }
        if (l->center) {
                beta = at;
                at += n;
        }
        for (size_t k = 0; k < network_size(&l->shape); k++) {
                double variance = at[n + map[k]];

                if (!(variance >= 0) || !(variance + l->epsilon > 0))
                        return err_set(e, -EBADMSG, "a variance of %g", variance);
                a[k] = (gamma ? gamma[map[k]] : 1) / sqrt(variance + l->epsilon);
                b[k] = beta ? beta[map[k]] : 0;
                c[k] = at[map[k]];
        }
        return 0;
}

/* x * scale + offset; each a number or one for each element of the last dimension. */
static int prepare_rescaling(struct network_graph *g, struct network_layer *l, struct err *e)
{
        const struct network_shape *in = input_shape(g, l, 0);
        size_t last = in->dim[in->rank - 1];
        double *a, *b, *c;
        int r;

        if ((l->n_factors != 1 && l->n_factors != last) || (l->n_offsets != 1 && l->n_offsets != last))
                return err_set(e, -EBADMSG, "%zu scales and %zu offsets for %zu elements", l->n_factors,
                               l->n_offsets, last);
        r = new_affine(g, l, &a, &b, &c, e);
        for (size_t k = 0; r == 0 && k < network_size(&l->shape); k++) {
                a[k] = l->factors[k % last % l->n_factors];
                b[k] = l->offsets[k % last % l->n_offsets];
        }
        return r;
}

static int prepare_prelu(struct network_graph *g, struct network_layer *l, struct err *e)
{
        uint32_t *map = NULL;
        double *a, *b, *c;
        size_t n = 0;
        int r = over_axes(g, l, &n, &map, e);

        if (r == 0)
                r = fit_weights(l, n, e);
        if (r == 0)
                r = new_affine(g, l, &a, &b, &c, e);
        for (size_t k = 0; r == 0 && k < network_size(&l->shape); k++)
                a[k] = l->weights[map[k]];
        l->run = run_prelu;
        return r;
}

/* ---- layer normalization: over the last dimensions ---- */

static void run_layer_normalization(const struct network_step *s, double *block, size_t n)
{
        const struct network_layer *l = s->layer;
        const double *in = input_at(s, block, 0);
        double *out = output_at(s, block), size = (double)l->inner;

        for (n *= l->outer; n > 0; n--, in += l->inner, out += l->inner) {
                double mean = 0, variance = 0;

                for (size_t j = 0; j < l->inner; j++)
                        mean += in[j] / size;
                for (size_t j = 0; j < l->inner; j++)
                        variance += (in[j] - mean) * (in[j] - mean) / size;
                variance = 1 / sqrt(variance + l->epsilon);
                for (size_t j = 0; j < l->inner; j++)
                        out[j] = (in[j] - mean) * variance * (l->a ? l->a[j] : 1) + (l->b ? l->b[j] : 0);
        }
}

static int prepare_layer_normalization(struct network_graph *g, struct network_layer *l, struct err *e)
{
        const struct network_shape *in = input_shape(g, l, 0);
        bool keep[NETWORK_RANK_MAX] = { false };
        int r;

        l->shape = *in;
        l->inner = 1;
        for (size_t i = 0; i < l->n_axes; i++) {
                size_t axis = 0;

                r = find_axis(in, l->axes[i], &axis, e);
                if (r < 0)
                        return r;
                if (keep[axis])
                        return err_set(e, -EBADMSG, "axis %ld is there twice", l->axes[i]);
                keep[axis] = true;
        }
        if (l->n_axes == 0)
                return err_set(e, -EBADMSG, "'axes' is empty");
        for (size_t i = 0; i < l->n_axes; i++) {
                if (!keep[in->rank - 1 - i])
                        return err_set(e, -ENOTSUP, "axes other than the last are not supported");
                l->inner *= in->dim[in->rank - 1 - i];
        }
        l->outer = network_size(in) / l->inner;
        r = fit_weights(l, ((size_t)l->scale + (size_t)l->center) * l->inner, e);
        if (r < 0)
                return r;
        if (!(l->epsilon > 0))
                return err_set(e, -EBADMSG, "an epsilon of %g", l->epsilon);
        l->a = l->scale ? l->weights : NULL;
        l->b = l->center ? l->weights + (l->scale ? l->inner : 0) : NULL;
        l->run = run_layer_normalization;
        l->in_place = true;
        g->cost += 4 * network_size(in);
        return 0;
}

/* ---- merging ---- */

static void run_concatenate(const struct network_step *s, double *block, size_t n)
{
        const struct network_layer *l = s->layer;
        double *out = output_at(s, block);

        for (size_t k = 0; k < n * l->outer; k++)
                for (size_t i = 0; i < l->n_inputs; i++) {
                        size_t chunk = s->in_size[i] / l->outer;

                        memcpy(out, input_at(s, block, i) + k * chunk, chunk * sizeof(*out));
                        out += chunk;
                }
}

static int prepare_concatenate(struct network_graph *g, struct network_layer *l, struct err *e)
{
        size_t axis = 0;
        int r;

        l->shape = *input_shape(g, l, 0);
        r = find_axis(&l->shape, l->axis, &axis, e);
        if (r < 0)
                return r;
        for (size_t i = 1; i < l->n_inputs; i++) {
                struct network_shape other = *input_shape(g, l, i), mine = l->shape;

                if (other.rank == mine.rank)
                        mine.dim[axis] = other.dim[axis];
                if (!same_shape(&mine, &other))
                        return err_set(e, -EBADMSG, "inputs '%.40s' and '%.40s' differ in shape",
                                       g->layers[l->inputs[0]].name, g->layers[l->inputs[i]].name);
                l->shape.dim[axis] += other.dim[axis];
        }
        l->outer = 1;
        for (size_t i = 0; i < axis; i++)
                l->outer *= l->shape.dim[i];
        l->run = run_concatenate;
        g->cost += network_size(&l->shape);
        return 0;
}

#define MERGE(name, expression)                                                                              \
        static void name(const struct network_step *s, double *block, size_t n)                              \
        {                                                                                                    \
                const struct network_layer *l = s->layer;                                                    \
                double *out = output_at(s, block);                                                           \
                                                                                                             \
                for (size_t r = 0; r < n; r++, out += s->out_size)                                           \
                        for (size_t i = 0; i < l->n_inputs; i++) {                                           \
                                const double *in = input_at(s, block, i) + r * s->in_size[i];                \
                                const uint32_t *map = l->maps[i];                                            \
                                                                                                             \
                                for (size_t j = 0; j < s->out_size; j++) {                                   \
                                        double x = out[j], y = map ? in[map[j]] : in[j];                     \
                                                                                                             \
                                        out[j] = i == 0 ? y : (expression);                                  \
                                }                                                                            \
                        }                                                                                    \
        }                                                                                                    \
        struct merge_semicolon_##name

MERGE(run_add, x + y);
MERGE(run_subtract, x - y);
MERGE(run_multiply, x *y);
MERGE(run_maximum, y > x || isnan(y) ? y : x);
MERGE(run_minimum, y < x || isnan(y) ? y : x);

static void run_average(const struct network_step *s, double *block, size_t n)
{
        double *out = output_at(s, block);

        run_add(s, block, n);
        for (size_t i = 0; i < n * s->out_size; i++)
                out[i] /= (double)s->layer->n_inputs;
}

/* A dimension of 1 is repeated; missing first dimensions count as 1. */
static int broadcast(struct network_graph *g, struct network_layer *l, size_t i, struct err *e)
{
        const struct network_shape *in = input_shape(g, l, i), *out = &l->shape;
        size_t size = network_size(out), missing = out->rank - in->rank;
        uint32_t *map;

        if (same_shape(in, out))
                return 0;
        map = plan_calloc(g->plan, size, sizeof(*map));
        if (!map)
                return plan_no_memory(e);
        for (size_t k = 0; k < size; k++) {
                size_t rest = k, stride = 1;

                for (size_t d = out->rank; d-- > missing; rest /= out->dim[d]) {
                        size_t have = in->dim[d - missing];

                        map[k] += (uint32_t)(rest % out->dim[d] % have * stride);
                        stride *= have;
                }
        }
        l->maps[i] = map;
        return 0;
}

static int prepare_merge(struct network_graph *g, struct network_layer *l,
                         void (*run)(const struct network_step *s, double *block, size_t n), struct err *e)
{
        struct network_shape *out = &l->shape;

        *out = (struct network_shape){ 0 };
        for (size_t i = 0; i < l->n_inputs; i++)
                if (input_shape(g, l, i)->rank > out->rank)
                        out->rank = input_shape(g, l, i)->rank;
        for (size_t d = 0; d < out->rank; d++)
                out->dim[d] = 1;
        for (size_t i = 0; i < l->n_inputs; i++) {
                const struct network_shape *in = input_shape(g, l, i);

                for (size_t d = 0; d < in->rank; d++) {
                        size_t *dim = &out->dim[d + out->rank - in->rank];

                        if (*dim == 1)
                                *dim = in->dim[d];
                        else if (in->dim[d] != 1 && in->dim[d] != *dim)
                                return err_set(e, -EBADMSG,
                                               "inputs do not fit each other: %zu and %zu elements",
                                               in->dim[d], *dim);
                }
        }
        if (network_size(out) > NETWORK_WIDTH_MAX)
                return err_set(e, -E2BIG, "more than %d elements", NETWORK_WIDTH_MAX);
        for (size_t i = 0; i < l->n_inputs; i++) {
                int r = broadcast(g, l, i, e);

                if (r < 0)
                        return r;
        }
        l->run = run;
        l->in_place = l->maps[0] == NULL;
        for (size_t i = 1; i < l->n_inputs; i++)
                l->in_place &= l->inputs[i] != l->inputs[0]; /* it would read what it has overwritten */
        g->cost += l->n_inputs * network_size(out);
        return 0;
}

#define PREPARE_MERGE(name)                                                                                  \
        static int prepare_##name(struct network_graph *g, struct network_layer *l, struct err *e)           \
        {                                                                                                    \
                return prepare_merge(g, l, run_##name, e);                                                   \
        }                                                                                                    \
        struct prepare_semicolon_##name

PREPARE_MERGE(add);
PREPARE_MERGE(subtract);
PREPARE_MERGE(multiply);
PREPARE_MERGE(average);
PREPARE_MERGE(maximum);
PREPARE_MERGE(minimum);

static const struct network_type types[] = {
        { "input", prepare_input, 0, 0 },
        { "dense", prepare_dense, 1, 1 },
        { "activation", prepare_activation, 1, 1 },
        { "prelu", prepare_prelu, 1, 1 },
        { "normalization", prepare_normalization, 1, 1 },
        { "batch_normalization", prepare_batch_normalization, 1, 1 },
        { "layer_normalization", prepare_layer_normalization, 1, 1 },
        { "rescaling", prepare_rescaling, 1, 1 },
        { "reshape", prepare_reshape, 1, 1 },
        { "identity", prepare_identity, 1, 1 },
        { "concatenate", prepare_concatenate, 1, NETWORK_FAN_IN_MAX },
        { "add", prepare_add, 1, NETWORK_FAN_IN_MAX },
        { "subtract", prepare_subtract, 2, 2 },
        { "multiply", prepare_multiply, 1, NETWORK_FAN_IN_MAX },
        { "average", prepare_average, 1, NETWORK_FAN_IN_MAX },
        { "maximum", prepare_maximum, 1, NETWORK_FAN_IN_MAX },
        { "minimum", prepare_minimum, 1, NETWORK_FAN_IN_MAX },
};

const struct network_type *network_type_find(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (!strcmp(types[i].name, name))
                        return &types[i];
        return NULL;
}
