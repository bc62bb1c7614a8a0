/* SPDX-License-Identifier: Apache-2.0 */
/* Regression trees as one flat array, whatever made them. Siblings stand next to each other and a leaf leads
 * to itself, so that a walk of a tree's depth needs no question on the way. */
#pragma once

#include "model/plan.h"

#define FOREST_TREES_MAX 10000
#define FOREST_NODES_MAX ((size_t)4 << 20)
#define FOREST_DEPTH_MAX 4096

/* One tree as its file has it, node by node. */
struct forest_source {
        size_t n;
        const int64_t *left, *right; /* -1, -1: a leaf */
        const int64_t *feature;
        const double *threshold;       /* left when x <= threshold */
        const unsigned char *nan_left; /* a missing value goes left */
        const double *value;           /* what a leaf adds */
};

enum forest_sum {
        FOREST_DOUBLE,  /* the base, then tree by tree */
        FOREST_MEAN,    /* the sum divided by the number of trees */
        FOREST_FLOAT32, /* as XGBoost: added up as float32 */
};

struct forest;

int forest_new(struct plan *plan, struct forest **ret, struct err *e);
/* The next tree. Checks that it is one: each node has one parent, features exist, leaves are finite. */
int forest_add(struct plan *plan, struct forest *forest, const struct forest_source *tree, struct err *e);
/* Keep only the first trees. */
void forest_cut(struct forest *forest, double n_trees);
/* Multiply the leaves of a tree, as float32. -ENOENT: there is no such tree. */
int forest_weigh(struct forest *forest, size_t tree, double weight);
/* The stage that runs all trees. */
int forest_finish(struct plan *plan, struct forest *forest, double base, enum forest_sum sum, struct err *e);
