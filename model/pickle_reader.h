/* SPDX-License-Identifier: Apache-2.0 */
/* Between the pickle machine and what numpy and joblib mean by its values. */
#pragma once

#include "model/arena.h"
#include "model/pickle.h"

struct pickle {
        struct arena arena;
        const unsigned char *data; /* the file; borrowed */
        size_t size, pos;
        struct pickle_node *root;
        bool seen[PICKLE_CLASSES_MAX];
};

struct pickle_node *pickle_node_new(struct pickle *p, enum pickle_kind kind, struct err *e);

/* REDUCE: what a function of numpy's would have made of `args`. */
int pickle_reduce(struct pickle *p, const struct pickle_class *function, struct pickle_node *args,
                  struct pickle_node **ret, struct err *e);

/* BUILD: give `object` its state. A joblib wrapper instead tells of raw bytes at the reading position:
 * *ret_raw is then the array to fill with pickle_read_raw() or, for objects, with a nested pickle. */
int pickle_build(struct pickle *p, struct pickle_node *object, struct pickle_node *state,
                 struct pickle_array **ret_raw, struct err *e);

/* Padding and bytes of a joblib array, from the reading position. */
int pickle_read_raw(struct pickle *p, struct pickle_array *array, bool padded, struct err *e);
/* The wrapper's array of objects from the nested pickle's result. */
int pickle_take_objects(struct pickle_array *array, const struct pickle_node *nested, struct err *e);
bool pickle_wrapper_is_padded(const struct pickle_node *state);
