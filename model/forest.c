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

/* A shallow tree over float32 inputs, filled up to a complete one: the children of node i are 2i and 2i + 1,
 * so a step is a comparison and a shift, and needs no look at what it leaves. Node 0 is not used. */
#define COMPLETE_DEPTH_MAX 8
#define COMPLETE_FILL_MAX  8 /* times the nodes that there are */

struct branch {
        float threshold;
        uint16_t column; /* of the feature in a block: its number times PLAN_ROWS */
        uint16_t nan_left;
};
_Static_assert(PLAN_COLUMNS_MAX *PLAN_ROWS <= UINT16_MAX, "a column is 16 bits wide");
_Static_assert(sizeof(struct branch) == 8, "eight branches to a cache line");

struct tree {
        struct node *nodes; /* NULL: a complete tree, with the rest */
        size_t n;           /* nodes */
        const struct branch *branches;
        double *leaves; /* 2^depth */
        size_t depth;
};

struct forest {
        struct tree *trees;
        size_t n_trees, room, n_nodes;
};

/* ---- running ---- */

/* The rows of a block go down a tree side by side, so that their steps do not wait for each other's memory.
 * `columns` has PLAN_ROWS values of each feature, none of them missing. */
static inline void walk(const struct tree *tree, const double *columns, double leaves[PLAN_ROWS])
{
        const struct node *nodes = tree->nodes;
        uint32_t at[PLAN_ROWS] = { 0 };

        for (size_t d = 0; d < tree->depth; d++)
                for (size_t r = 0; r < PLAN_ROWS; r++) {
                        const struct node *node = &nodes[at[r]];
                        unsigned int right = columns[node->feature * PLAN_ROWS + r] > node->threshold;

                        at[r] = node->left + (right & node->step);
                }
        for (size_t r = 0; r < PLAN_ROWS; r++)
                leaves[r] = nodes[at[r]].threshold;
}

#define LANES 8 /* rows that go down a complete tree together: as many as there are registers for */

static inline void walk_complete(const struct tree *tree, const float *columns, double leaves[PLAN_ROWS])
{
        const struct branch *branches = tree->branches;
        const double *first_leaf = tree->leaves - ((size_t)1 << tree->depth);

        for (size_t begin = 0; begin < PLAN_ROWS; begin += LANES, columns += LANES) {
                size_t i[LANES];

#pragma GCC unroll 8
                for (size_t r = 0; r < LANES; r++)
                        i[r] = 1;
                for (size_t d = 0; d < tree->depth; d++)
#pragma GCC unroll 8
                        for (size_t r = 0; r < LANES; r++) {
                                const struct branch *b = &branches[i[r]];

                                i[r] = 2 * i[r] + ((columns + b->column)[r] > b->threshold);
                        }
#pragma GCC unroll 8
                for (size_t r = 0; r < LANES; r++)
                        leaves[begin + r] = first_leaf[i[r]];
        }
}

static void leaves_of(const struct tree *tree, const double *columns, const float *columns32,
                      double leaves[PLAN_ROWS])
{
        if (tree->nodes)
                walk(tree, columns, leaves);
        else
                walk_complete(tree, columns32, leaves);
}

/* One row alone, which may lack values. */
static double leaf_of_one(const struct tree *tree, const double *row)
{
        const struct node *node = tree->nodes;
        size_t i = 1;

        if (!node) {
                for (size_t d = 0; d < tree->depth; d++) {
                        const struct branch *b = &tree->branches[i];
                        double x = row[b->column / PLAN_ROWS];

                        i = 2 * i + ((x > (double)b->threshold) | (isnan(x) & !b->nan_left));
                }
                return tree->leaves[i - ((size_t)1 << tree->depth)];
        }
        while (node->step) {
                double x = row[node->feature];

                node = tree->nodes + node->left + ((x > node->threshold) | (isnan(x) & !node->nan_left));
        }
        return node->threshold;
}

/* Sums go tree by tree, in double or, as XGBoost's, in float32. */
static inline double sum_of_one(const struct plan_stage *s, const double *row, bool float32)
{
        const struct forest *f = s->data;
        double sum = s->c;

        for (size_t t = 0; t < f->n_trees; t++) {
                double leaf = leaf_of_one(&f->trees[t], row);

                sum = float32 ? (double)((float)sum + (float)leaf) : sum + leaf;
        }
        return sum;
}

/* A block's rows, feature by feature; those that are not there are zeros. False when a value is missing. */
static bool transpose(const struct plan_stage *s, const double *in, size_t n, double *columns,
                      float *columns32)
{
        unsigned int missing = 0;

        for (size_t j = 0; j < s->n_in; j++, columns += PLAN_ROWS, columns32 += PLAN_ROWS)
                for (size_t r = 0; r < PLAN_ROWS; r++) {
                        columns[r] = r < n ? in[r * s->n_in + j] : 0;
                        columns32[r] = (float)columns[r];
                        missing |= isnan(columns[r]);
                }
        return !missing;
}

static inline void run_trees(const struct plan_stage *s, const double *in, double *out, size_t n,
                             bool float32)
{
        double columns[PLAN_COLUMNS_MAX * PLAN_ROWS], sum[PLAN_ROWS], leaves[PLAN_ROWS];
        float columns32[PLAN_COLUMNS_MAX * PLAN_ROWS], sum32[PLAN_ROWS];
        const struct forest *f = s->data;

        if (n < PLAN_ROWS / 4 || !transpose(s, in, n, columns, columns32)) {
                for (size_t r = 0; r < n; r++)
                        out[r] = sum_of_one(s, in + r * s->n_in, float32);
                return;
        }
        for (size_t r = 0; r < PLAN_ROWS; r++) {
                sum[r] = s->c;
                sum32[r] = (float)s->c;
        }
        for (size_t t = 0; t < f->n_trees; t++) {
                leaves_of(&f->trees[t], columns, columns32, leaves);
                if (float32)
                        for (size_t r = 0; r < PLAN_ROWS; r++)
                                sum32[r] += (float)leaves[r];
                else
                        for (size_t r = 0; r < PLAN_ROWS; r++)
                                sum[r] += leaves[r];
        }
        for (size_t r = 0; r < n; r++)
                out[r] = float32 ? (double)sum32[r] : sum[r];
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
        return isnan(s->threshold[i]) ? err_set(e, -EBADMSG, "tree has a threshold that is no number") : 0;
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

/* The largest float32 that is not above a threshold: what a float32 is compared with. */
static float threshold32(double threshold)
{
        float t = (float)threshold;

        return (double)t > threshold ? nextafterf(t, -INFINITY) : t;
}

/* Node `k` of the laid out tree becomes node `i` of the complete one; below a leaf both ways lead to it. */
static void fill(const struct node *nodes, size_t k, size_t i, size_t levels, struct branch *branches,
                 double *leaves)
{
        const struct node *node = &nodes[k];

        if (levels == 0) {
                leaves[i] = node->threshold;
                return;
        }
        if (node->step)
                branches[i] = (struct branch){ threshold32(node->threshold),
                                               (uint16_t)(node->feature * PLAN_ROWS), node->nan_left };
        fill(nodes, node->left, 2 * i, levels - 1, branches, leaves);
        fill(nodes, node->left + node->step, 2 * i + 1, levels - 1, branches, leaves);
}

static int complete(struct plan *plan, struct tree *tree, const struct node *nodes, struct err *e)
{
        size_t n = (size_t)1 << tree->depth;
        struct branch *branches = plan_calloc(plan, n, sizeof(*branches));
        double *leaves = plan_calloc(plan, n, sizeof(*leaves));

        if (!branches || !leaves)
                return plan_no_memory(e);
        fill(nodes, 0, 1, tree->depth, branches, leaves - n); /* the leaves' numbers begin at n */
        tree->branches = branches;
        tree->leaves = leaves;
        return 0;
}

/* Keep what was laid out, in one form or the other. */
static int keep(struct plan *plan, struct tree *tree, const struct node *nodes, size_t n, struct err *e)
{
        struct node *copy;

        if (plan->float32 && tree->depth <= COMPLETE_DEPTH_MAX &&
            (size_t)2 << tree->depth <= COMPLETE_FILL_MAX * (n + 1))
                return complete(plan, tree, nodes, e);
        copy = plan_calloc(plan, n, sizeof(*copy));
        if (!copy)
                return plan_no_memory(e);
        memcpy(copy, nodes, n * sizeof(*copy));
        tree->nodes = copy;
        tree->n = n;
        return 0;
}

int forest_add(struct plan *plan, struct forest *f, const struct forest_source *s, struct err *e)
{
        CLEANUP(freep) uint32_t *source = NULL;
        CLEANUP(freep) struct node *nodes = NULL;
        struct tree *tree;
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
        nodes = reallocarray(NULL, s->n, sizeof(*nodes));
        if (!source || !nodes)
                return err_set(e, -ENOMEM, "out of memory");
        r = lay_out(s, plan->columns, nodes, source, &n, &tree->depth, e);
        if (r < 0)
                return r;
        if (tree->depth > FOREST_DEPTH_MAX)
                return err_set(e, -E2BIG, "tree is more than %d deep", FOREST_DEPTH_MAX);
        r = keep(plan, tree, nodes, n, e);
        if (r < 0)
                return r;
        f->n_trees++;
        f->n_nodes += n;
        return 0;
}

void forest_cut(struct forest *f, double n_trees)
{
        if (n_trees < (double)f->n_trees)
                f->n_trees = (size_t)n_trees;
}

static double weighed(double leaf, double weight)
{
        return (double)((float)leaf * (float)weight);
}

int forest_weigh(struct forest *f, size_t tree, double weight)
{
        struct tree *t = &f->trees[tree];

        if (tree >= f->n_trees)
                return -ENOENT;
        for (size_t i = 0; t->nodes && i < t->n; i++)
                if (!t->nodes[i].step)
                        t->nodes[i].threshold = weighed(t->nodes[i].threshold, weight);
        for (size_t i = 0; !t->nodes && i < (size_t)1 << t->depth; i++)
                t->leaves[i] = weighed(t->leaves[i], weight);
        return 0;
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
