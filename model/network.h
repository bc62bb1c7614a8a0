/* SPDX-License-Identifier: Apache-2.0 */
/* Neural networks (model class "network"): a directed acyclic graph of layers, data only. schema/network.json
 * describes the document; network_read.c reads it into a graph, network.c orders and compiles the graph into
 * steps over one scratch block, network_layers.c knows each layer's shape and formula. The perceptron of
 * scikit-learn builds its graph by itself and is evaluated by the same steps.
 *
 * Numbers are doubles; weights come as float32. A tensor is one row's: the batch is not among its dimensions.
 */
#pragma once

#include <stdint.h>
#include "model/plan.h"

#define NETWORK_VERSION        1
#define NETWORK_FILE           "network.json"
#define NETWORK_JSON_MAX       ((size_t)8 << 20) /* bytes of the document */
#define NETWORK_LAYERS_MAX     256
#define NETWORK_NAME_MAX       128
#define NETWORK_FAN_IN_MAX     16   /* inputs of a layer */
#define NETWORK_RANK_MAX       4    /* dimensions of a tensor */
#define NETWORK_WIDTH_MAX      4096 /* elements of a tensor */
#define NETWORK_PARAMETERS_MAX ((size_t)1 << 20)
#define NETWORK_COST_MAX       ((size_t)1 << 20) /* multiply-adds of a row; NETWORK_FUNCTION_COST a function */
#define NETWORK_FUNCTION_COST  16
#define NETWORK_SCRATCH        ((size_t)PLAN_ROWS * 1024) /* doubles on the stack: tensors alive at once */

struct network_shape {
        size_t rank, dim[NETWORK_RANK_MAX];
};
size_t network_size(const struct network_shape *shape);

struct network_step;
struct network_graph;
struct network_layer;

/* An activation function of each element, or of each group along the last dimension. */
struct network_activation {
        const char *name;
        void (*run)(double *x, size_t n, const double *p); /* in place, n elements; NULL: a group function */
        void (*run_group)(const double *in, double *out, size_t n, const double *p);
        const struct network_parameter {
                const char *name;
                double otherwise, low, high; /* NaN otherwise: must be there */
        } * parameters;
        bool halves; /* the group comes out half as long */
};
const struct network_activation *network_activation_find(const char *name);
void network_activation_run(const struct network_activation *f, double *x, size_t n, const double *p);
#define NETWORK_ACTIVATION_PARAMETERS_MAX 3

/* What a kind of layer is: one row of a table in network_layers.c. */
struct network_type {
        const char *name;
        /* Inputs' shapes are known: check them, tell this layer's, take its weights, choose how to run it. */
        int (*prepare)(struct network_graph *g, struct network_layer *l, struct err *e);
        size_t fan_in_min, fan_in_max;
};
const struct network_type *network_type_find(const char *name);

struct network_layer {
        char name[NETWORK_NAME_MAX];
        const struct network_type *type;
        size_t inputs[NETWORK_FAN_IN_MAX], n_inputs; /* layers */

        /* What the document says; the reader checked that numbers are finite. */
        const double *weights; /* in the plan's memory */
        size_t n_weights;
        size_t units;
        const struct network_activation *activation;
        double p[NETWORK_ACTIVATION_PARAMETERS_MAX];
        double epsilon;
        bool bias, center, scale, invert;
        long axis;
        long axes[NETWORK_RANK_MAX];
        size_t n_axes;
        struct network_shape target;     /* reshape; 0 in one place: whatever is left */
        const double *factors, *offsets; /* rescaling: in the plan's memory */
        size_t n_factors, n_offsets;
        uint16_t features[PLAN_COLUMNS_MAX]; /* input: columns of the plan */
        size_t n_features;

        /* What preparing found. */
        struct network_shape shape;
        bool identity; /* the input's elements, perhaps in another shape */
        bool in_place; /* its first input may be overwritten */
        void (*run)(const struct network_step *s, double *block, size_t n);
        size_t inner, outer;                      /* how the tensor is cut for it */
        const double *a, *b, *c;                  /* in the plan's memory */
        const uint32_t *maps[NETWORK_FAN_IN_MAX]; /* broadcasting: the input's element of each of ours */
};

/* Built by a reader, then compiled; lives only as long as that. */
struct network_graph {
        struct plan *plan; /* whose memory everything is in; its columns are the features */
        struct network_layer layers[NETWORK_LAYERS_MAX];
        size_t n_layers, parameters;
        size_t cost; /* multiply-adds of a row, of the layers prepared so far */
        struct network_output {
                size_t layer, column;
        } outputs[MODEL_COMPONENTS_MAX];
        size_t n_outputs;
};

int network_graph_new(struct plan *plan, struct network_graph **ret, struct err *e);

/* A new layer without inputs. -E2BIG; -EBADMSG for a name that is empty, too long or there already;
 * -ENOTSUP: an unknown type, which is named. */
int network_add_layer(struct network_graph *g, const char *name, const char *type, struct network_layer **ret,
                      struct err *e);

/* Order the layers, prepare each, place their tensors, and add the plan's stage. -EBADMSG: a cycle, shapes
 * that do not fit, a layer that no output needs; -E2BIG: over a limit. Each error names the layer. */
int network_compile(struct network_graph *g, struct err *e);

/* network_read.c: the document into the plan, whose columns become the outputs; what it says about them. */
struct network_document {
        json_t *json; /* owned */
        const char *features[MODEL_FEATURES_MAX];
        size_t n_features;
        const char *components[MODEL_COMPONENTS_MAX];
        size_t n_components;
};
int network_read(const void *data, size_t size, struct plan **ret_plan, struct network_document *ret,
                 struct err *e);
void network_document_done(struct network_document *d);

/* ---- what runs ---- */

/* A tensor of n rows is at block + place * rows of the block, row after row. */
struct network_step {
        const struct network_layer *layer; /* a copy in the plan's memory */
        size_t rows;                       /* of a block */
        size_t in[NETWORK_FAN_IN_MAX], in_size[NETWORK_FAN_IN_MAX], out, out_size;
};

/* network_dense.c: a matrix of n_in x n_out, row-major, packed for network_multiply(). */
size_t network_packed_size(size_t n_in, size_t n_out); /* doubles */
void network_pack(const double *matrix, size_t n_in, size_t n_out, double *ret);
/* out[r][o] = bias[o] + sum over j of in[r][j] * matrix[j][o]; bias may be NULL. By the best instructions
 * that this processor has: the last bits may differ between machines. */
void network_multiply(const double *in, size_t n, size_t n_in, const double *packed, const double *bias,
                      size_t n_out, double *out);
