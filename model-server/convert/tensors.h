/* SPDX-License-Identifier: Apache-2.0 */
/* A saved Keras model as its readers leave it: the configuration as JSON, and its weights by name. */
#pragma once

#include <jansson.h>
#include "model/network.h"

#define TENSORS_MAX      2048
#define TENSOR_NAME_MAX  320
#define TENSOR_RANK_MAX  8
#define SAVED_CONFIG_MAX ((size_t)8 << 20)  /* bytes of a configuration */
#define SAVED_FILE_MAX   ((size_t)64 << 20) /* bytes of an .h5 file, which may hold an optimizer too */
#define SAVED_WEIGHTS_MAX                                                                                    \
        (NETWORK_PARAMETERS_MAX * sizeof(float) + 1048576) /* bytes of a file of weights                     \
                                                            */

struct tensor {
        char name[TENSOR_NAME_MAX]; /* "dense/kernel", or in the order of Keras 3 "dense_1/vars/0" */
        size_t rank, dim[TENSOR_RANK_MAX], n;
        float *data; /* owned */
};

struct saved {
        json_t *config;         /* owned: {"class_name": "Sequential" or "Functional", "config": {…}} */
        int keras;              /* major version: 2 (TensorFlow.js too) or 3 */
        bool by_order;          /* weights are named by class and number, not by layer */
        struct tensor *tensors; /* owned */
        size_t n_tensors, parameters;
};
void saved_done(struct saved *saved);

/* A new last tensor with room for its data, which the caller fills in. -EBADMSG: name, shape; -E2BIG. */
int saved_add(struct saved *saved, const char *name, const size_t *dim, size_t rank, struct tensor **ret,
              struct err *e);
const struct tensor *saved_find(const struct saved *saved, const char *layer, const char *weight);

/* The readers. -ENOTSUP: what this version does not take, named. */
int tfjs_read(const char *path, struct saved *ret, struct err *e);       /* model.json */
int keras_zip_read(const char *path, struct saved *ret, struct err *e);  /* .keras */
int keras_hdf5_read(const char *path, struct saved *ret, struct err *e); /* .h5 */
int keras_hdf5_parse(const void *data, size_t size, struct saved *ret, struct err *e);
