/* SPDX-License-Identifier: Apache-2.0 */
/* From a saved Keras model to network.json. Every layer of Keras that is not on the list in keras_layers.c is
 * an error that names it. */
#pragma once

#include "config/option.h"
#include "model-server/convert/tensors.h"

/* x * factor + offset of each feature, before the network sees it; and what training saw, where known. */
struct scaling {
        size_t n; /* 0: none */
        double factor[MODEL_FEATURES_MAX], offset[MODEL_FEATURES_MAX];
        double low[MODEL_FEATURES_MAX], high[MODEL_FEATURES_MAX];
};

/* `feature_list`, `components` empty: the names of the model's inputs and outputs. The caller owns *ret and
 * frees the lists. */
int keras_convert(const struct saved *saved, struct string_list *feature_list, struct string_list *components,
                  const struct scaling *scaling, json_t **ret, struct err *e);

/* ---- between keras.c and keras_layers.c ---- */

struct conversion {
        const struct saved *saved;
        json_t *layers; /* owned: ours */
};

struct keras_layer {
        const char *name, *class;
        const json_t *config;
        const json_t *inputs;         /* names, borrowed */
        char group[NETWORK_NAME_MAX]; /* by order: "dense_1" */
        size_t taken;                 /* weights so far, in their order */
};

/* Add what the layer is in our words; the last layer has its name. */
int keras_lower(struct conversion *c, struct keras_layer *k, struct err *e);
/* A layer of ours with these inputs (a new reference, or NULL); the caller adds members to *ret, borrowed. */
int keras_emit(struct conversion *c, const char *name, const char *type, const json_t *inputs, json_t **ret,
               struct err *e);
/* An array of non-negative numbers with an optional null or -1 first one, which is left out. */
int keras_shape(const json_t *v, bool batch, struct network_shape *ret, struct err *e);
json_t *keras_shape_json(const struct network_shape *shape);
