/* SPDX-License-Identifier: Apache-2.0 */
#include "model/forest.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct node {
        double threshold; /* a leaf's value */
        uint32_t left;    /* within the tree; right is the next; a leaf: itself */
        uint16_t feature;
        uint8_t step; /* 1; a leaf: 0 */
        uint8_t nan_left;
};
_Static_assert(sizeof(struct node) == 16, "four nodes to a cache line");

struct tree {
        const struct node *nodes;
        size_t depth;
};

struct forest {
        struct tree *trees;
        size_t n_trees, room, n_nodes;
};

/* ---- running ---- */

/* The rows of a block go down a tree side by side, so that their steps do not wait for each other's memory.
 * `columns` has PLAN_ROWS values of each feature. Missing values are asked for only where there are some. */
static inline void walk(const struct tree *tree, const double *columns, uint32_t *at, size_t n, bool missing)
{
        const struct node *nodes = tree->nodes;

        for (size_t r = 0; r < n; r++)
                at[r] = 0;
        for (size_t d = 0; d < tree->depth; d++)
                for (size_t r = 0; r < n; r++) {
                        const struct node *node = &nodes[at[r]];
                        double x = columns[node->feature * PLAN_ROWS + r];
                        unsigned int right = !(x <= node->threshold);

                        if (missing)
                                right &= !(node->nan_left & isnan(x));
                        at[r] = node->left + (right & node->step);
                }
}

/* One row alone has nobody to wait for. */
static inline uint32_t walk_one(const struct tree *tree, const double *row)
{
        const struct node *node = tree->nodes;

        while (node->step) {
                double x = row[node->feature];

                node = tree->nodes + node->left + (!(x <= node->threshold) & !(node->nan_left & isnan(x)));
        }
        return (uint32_t)(node - tree->nodes);
}

static inline double plus(double sum, double leaf, bool float32)
{
        return float32 ? (double)((float)sum + (float)leaf) : sum + leaf;
}

/* True when a value is missing. */
static bool transpose(const struct plan_stage *s, const double *in, size_t n, double *columns)
{
        bool missing = false;

        for (size_t r = 0; r < n; r++)
                for (size_t j = 0; j < s->n_in; j++) {
                        columns[j * PLAN_ROWS + r] = in[r * s->n_in + j];
                        missing |= isnan(in[r * s->n_in + j]);
                }
        return missing;
}

static inline void run_trees(const struct plan_stage *s, const double *in, double *out, size_t n,
                             bool float32)
{
        double columns[PLAN_COLUMNS_MAX * PLAN_ROWS];
        const struct forest *f = s->data;
        uint32_t at[PLAN_ROWS];
        bool missing;

        for (size_t r = 0; r < n; r++)
                out[r] = s->c;
        if (n < PLAN_ROWS / 4) {
                for (size_t r = 0; r < n; r++)
                        for (size_t t = 0; t < f->n_trees; t++)
                                out[r] = plus(
                                        out[r],
                                        f->trees[t].nodes[walk_one(&f->trees[t], in + r * s->n_in)].threshold,
                                        float32);
                return;
        }
        missing = transpose(s, in, n, columns);
        for (size_t t = 0; t < f->n_trees; t++) {
                if (missing)
                        walk(&f->trees[t], columns, at, n, true);
                else if (n == PLAN_ROWS) /* the compiler unrolls this one */
                        walk(&f->trees[t], columns, at, PLAN_ROWS, false);
                else
                        walk(&f->trees[t], columns, at, n, false);
                for (size_t r = 0; r < n; r++)
                        out[r] = plus(out[r], f->trees[t].nodes[at[r]].threshold, float32);
        }
}

static void run_double(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        run_trees(s, in, out, n, false);
}

static void run_float32(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        run_trees(s, in, out, n, true);
}

static void run_mean(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        run_trees(s, in, out, n, false);
        for (size_t r = 0; r < n; r++)
                out[r] /= s->d;
}

/* ---- building ---- */

int forest_new(struct plan *plan, struct forest **ret, struct err *e)
{
        struct forest *f = plan_calloc(plan, 1, sizeof(*f));

        if (!f)
                return plan_no_memory(e);
        *ret = f;
        return 0;
}

/* Room for one more tree; the plan keeps the smaller tables it had before. */
static int reserve_tree(struct plan *plan, struct forest *f, struct err *e)
{
        struct tree *more;

        if (f->n_trees == FOREST_TREES_MAX)
                return err_set(e, -E2BIG, "model has more than %d trees", FOREST_TREES_MAX);
        if (f->n_trees < f->room)
                return 0;
        more = plan_calloc(plan, 2 * f->room + 128, sizeof(*more));
        if (!more)
                return plan_no_memory(e);
        if (f->n_trees > 0)
                memcpy(more, f->trees, f->n_trees * sizeof(*more));
        f->trees = more;
        f->room = 2 * f->room + 128;
        return 0;
}

static int check_node(const struct forest_source *s, size_t i, size_t columns, struct err *e)
{
        if (s->left[i] == -1 && s->right[i] == -1)
                return isfinite(s->value[i]) ? 0 : err_set(e, -EBADMSG, "tree has a leaf that is not finite");
        if (s->left[i] < 0 || s->right[i] < 0 || (uint64_t)s->left[i] >= s->n ||
            (uint64_t)s->right[i] >= s->n)
                return err_set(e, -EBADMSG, "tree has a node whose child is not there");
        if (s->feature[i] < 0 || (uint64_t)s->feature[i] >= columns)
                return err_set(e, -EBADMSG, "tree asks for feature %lld of %zu", (long long)s->feature[i],
                               columns);
        return 0;
}

/* Breadth first: `source[k]` is the file's number of node k. A tree in which a node is reached twice would be
 * longer than its file, so that is the end of loops as well. */
static int lay_out(const struct forest_source *s, size_t columns, struct node *nodes, uint32_t *source,
                   size_t *ret_n, size_t *ret_depth, struct err *e)
{
        size_t n = 1, level_end = 1, depth = 0;

        source[0] = 0;
        for (size_t k = 0; k < n; k++) {
                size_t i = source[k];
                int r = check_node(s, i, columns, e);

                if (r < 0)
                        return r;
                if (k == level_end) {
                        depth++;
                        level_end = n;
                }
                if (s->left[i] < 0) {
                        nodes[k] = (struct node){ .threshold = s->value[i], .left = (uint32_t)k };
                        continue;
                }
                if (n + 2 > s->n)
                        return err_set(e, -EBADMSG, "tree has a node with two parents");
                nodes[k] = (struct node){ .threshold = s->threshold[i],
                                          .left = (uint32_t)n,
                                          .feature = (uint16_t)s->feature[i],
                                          .step = 1,
                                          .nan_left = s->nan_left && s->nan_left[i] };
                source[n++] = (uint32_t)s->left[i];
                source[n++] = (uint32_t)s->right[i];
        }
        *ret_n = n;
        *ret_depth = depth;
        return 0;
}

int forest_add(struct plan *plan, struct forest *f, const struct forest_source *s, struct err *e)
{
        CLEANUP(freep) uint32_t *source = NULL;
        struct tree *tree;
        struct node *nodes;
        size_t n = 0;
        int r;

        if (s->n == 0)
                return err_set(e, -EBADMSG, "tree has no nodes");
        if (s->n > FOREST_NODES_MAX - f->n_nodes)
                return err_set(e, -E2BIG, "model has more than %zu nodes", FOREST_NODES_MAX);
        r = reserve_tree(plan, f, e);
        if (r < 0)
                return r;
        tree = &f->trees[f->n_trees];
        source = reallocarray(NULL, s->n, sizeof(*source));
        if (!source)
                return err_set(e, -ENOMEM, "out of memory");
        nodes = plan_calloc(plan, s->n, sizeof(*nodes));
        if (!nodes)
                return plan_no_memory(e);
        r = lay_out(s, plan->columns, nodes, source, &n, &tree->depth, e);
        if (r < 0)
                return r;
        if (tree->depth > FOREST_DEPTH_MAX)
                return err_set(e, -E2BIG, "tree is more than %d deep", FOREST_DEPTH_MAX);
        tree->nodes = nodes;
        f->n_trees++;
        f->n_nodes += n;
        return 0;
}

void forest_cut(struct forest *f, double n_trees)
{
        if (n_trees < (double)f->n_trees)
                f->n_trees = (size_t)n_trees;
}

int forest_finish(struct plan *plan, struct forest *f, double base, enum forest_sum sum, struct err *e)
{
        struct plan_stage *s = NULL;
        int r;

        (void)snprintf(plan->note, sizeof(plan->note), "%zu tree%s, %zu nodes", f->n_trees,
                       f->n_trees == 1 ? "" : "s", f->n_nodes);
        r = plan_add(plan, 1,
                     sum == FOREST_FLOAT32 ? run_float32
                     : sum == FOREST_MEAN  ? run_mean
                                           : run_double,
                     &s, e);
        if (r < 0)
                return r;
        s->data = f;
        s->c = base;
        s->d = (double)f->n_trees;
        return 0;
}
