/* SPDX-License-Identifier: Apache-2.0 */
/* k nearest neighbours by a Minkowski distance. Training data have many equal rows, so it is common that more
 * rows than needed lie at the distance of the last neighbour. Which of them count is decided by
 * scikit-learn's order of visit: that of the stored tree (k-d or ball), or of the rows when there is none.
 * Distances are compared without their root. */
#include "model/sklearn.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define NEIGHBOURS_MAX 256
#define ROWS_MAX       ((size_t)1 << 20)
#define LEVELS_MAX     40 /* of a tree; it is balanced */

/* A node of the tree and where its rows are: between two corners, or around a centre. */
struct box {
        size_t begin, end; /* a leaf's range of `order` */
        bool leaf;
        const double *low, *high; /* per column; of a ball `low` is the centre, `high` is NULL */
        double radius;
};

enum metric { EUCLIDEAN, MANHATTAN, CHEBYSHEV, MINKOWSKI };

struct neighbours {
        const double *rows, *y;
        size_t n;
        const uint32_t *order; /* of the rows, as the tree has them; without a tree their own */
        const struct box *boxes;
        size_t n_boxes;
        enum metric metric;
        double p;         /* of MINKOWSKI */
        bool by_distance; /* a neighbour counts with 1 / distance */
};

/* ---- the k best so far: a max-heap, as scikit-learn's ---- */

struct best {
        size_t k;
        double distance[NEIGHBOURS_MAX];
        uint32_t row[NEIGHBOURS_MAX];
};

static void best_push(struct best *b, double distance, uint32_t row)
{
        size_t i = 0;

        if (!(distance < b->distance[0]))
                return;
        for (;;) {
                size_t child = 2 * i + 1;

                if (child >= b->k)
                        break;
                if (child + 1 < b->k && b->distance[child + 1] > b->distance[child])
                        child++;
                if (!(b->distance[child] > distance))
                        break;
                b->distance[i] = b->distance[child];
                b->row[i] = b->row[child];
                i = child;
        }
        b->distance[i] = distance;
        b->row[i] = row;
}

/* The metric is a constant where these are used, see run(). */
#define ALWAYS inline __attribute__((always_inline))

/* ---- distances, to the power of p where there is a root ---- */

static ALWAYS double add_difference(const struct neighbours *nn, enum metric metric, double sum, double d)
{
        switch (metric) {
        case EUCLIDEAN:
                return sum + d * d;
        case MANHATTAN:
                return sum + fabs(d);
        case CHEBYSHEV:
                return fmax(sum, fabs(d));
        default:
                return sum + pow(fabs(d), nn->p);
        }
}

static ALWAYS double distance_to(const struct neighbours *nn, enum metric metric, const double *a,
                                 const double *b, size_t columns)
{
        double sum = 0;

        for (size_t j = 0; j < columns; j++)
                sum = add_difference(nn, metric, sum, a[j] - b[j]);
        return sum;
}

static double root(const struct neighbours *nn, double distance)
{
        return nn->metric == EUCLIDEAN   ? sqrt(distance)
               : nn->metric == MINKOWSKI ? pow(distance, 1 / nn->p)
                                         : distance;
}

static ALWAYS void visit(const struct neighbours *nn, enum metric metric, const double *x, size_t columns,
                         size_t begin, size_t end, struct best *best)
{
        for (size_t i = begin; i < end; i++)
                best_push(best, distance_to(nn, metric, x, nn->rows + nn->order[i] * columns, columns),
                          nn->order[i]);
}

/* Least distance that a row of the box can have. */
static ALWAYS double bound(const struct neighbours *nn, enum metric metric, const struct box *box,
                           const double *x, size_t columns)
{
        double sum = 0;

        if (!box->high) {
                double d = fmax(0, root(nn, distance_to(nn, metric, x, box->low, columns)) - box->radius);

                return nn->metric == EUCLIDEAN ? d * d : nn->metric == MINKOWSKI ? pow(d, nn->p) : d;
        }
        for (size_t j = 0; j < columns; j++) {
                double low = box->low[j] - x[j], high = x[j] - box->high[j];

                sum = add_difference(nn, metric, sum, 0.5 * (low + fabs(low) + (high + fabs(high))));
        }
        return sum;
}

/* Depth first, the nearer child first, the left one when both are as near. */
static ALWAYS void search(const struct neighbours *nn, enum metric metric, const double *x, size_t columns,
                          struct best *best)
{
        struct {
                size_t box;
                double bound;
        } stack[LEVELS_MAX + 1];
        size_t depth = 1;

        stack[0].box = 0;
        stack[0].bound = bound(nn, metric, &nn->boxes[0], x, columns);
        while (depth > 0) {
                size_t i = stack[--depth].box, left = 2 * i + 1, right = left + 1;
                const struct box *box = &nn->boxes[i];
                double to_left, to_right;
                bool left_first;

                if (stack[depth].bound > best->distance[0])
                        continue;
                if (box->leaf) {
                        visit(nn, metric, x, columns, box->begin, box->end, best);
                        continue;
                }
                to_left = bound(nn, metric, &nn->boxes[left], x, columns);
                to_right = bound(nn, metric, &nn->boxes[right], x, columns);
                left_first = to_left <= to_right;
                stack[depth].box = left_first ? right : left;
                stack[depth++].bound = left_first ? to_right : to_left;
                stack[depth].box = left_first ? left : right;
                stack[depth++].bound = left_first ? to_left : to_right;
        }
}

/* The mean of the neighbours; by distance, those at no distance count alone. */
static double mean(const struct neighbours *nn, const struct best *best)
{
        double sum = 0, weights = 0;
        bool exact = false;

        if (!nn->by_distance) {
                for (size_t i = 0; i < best->k; i++)
                        sum += nn->y[best->row[i]];
                return sum / (double)best->k;
        }
        for (size_t i = 0; i < best->k; i++)
                exact |= !(best->distance[i] > 0);
        for (size_t i = 0; i < best->k; i++) {
                double weight = exact ? !(best->distance[i] > 0) : 1 / root(nn, best->distance[i]);

                sum += nn->y[best->row[i]] * weight;
                weights += weight;
        }
        return sum / weights;
}

static ALWAYS void run(const struct plan_stage *s, const double *in, double *out, size_t n, bool tree,
                       enum metric metric)
{
        const struct neighbours *nn = s->data;
        struct best best;

        best.k = s->k;
        for (; n > 0; n--, in += s->n_in, out++) {
                for (size_t i = 0; i < best.k; i++) {
                        best.distance[i] = INFINITY;
                        best.row[i] = 0;
                }
                if (tree)
                        search(nn, metric, in, s->n_in, &best);
                else
                        visit(nn, metric, in, s->n_in, 0, nn->n, &best);
                *out = mean(nn, &best);
        }
}

#define RUNNER(name, tree, metric)                                                                           \
        static void name(const struct plan_stage *s, const double *in, double *out, size_t n)                \
        {                                                                                                    \
                run(s, in, out, n, tree, metric);                                                            \
        }
RUNNER(run_tree, true, EUCLIDEAN) /* nearly every model's */
RUNNER(run_brute, false, EUCLIDEAN)
RUNNER(run_tree_other, true, ((const struct neighbours *)s->data)->metric)
RUNNER(run_brute_other, false, ((const struct neighbours *)s->data)->metric)

/* ---- loading ---- */

static const struct pickle_array *tree_array(const struct pickle_node *state, size_t i)
{
        const struct pickle_node *node = i < state->list.n ? state->list.items[i] : NULL;

        return node && node->kind == PICKLE_ARRAY && node->array->dtype ? node->array : NULL;
}

static int read_order(struct plan *plan, struct neighbours *nn, const struct pickle_array *order,
                      struct err *e)
{
        uint32_t *copy;

        if (order && order->n != nn->n)
                return err_set(e, -EBADMSG, "tree has %zu rows instead of %zu", order->n, nn->n);
        copy = plan_calloc(plan, nn->n, sizeof(*copy));
        if (!copy)
                return plan_no_memory(e);
        for (size_t i = 0; i < nn->n; i++) {
                double v = (double)i;

                if (order && (pickle_element(order, i, &v) < 0 || !(v >= 0 && v < (double)nn->n)))
                        return err_set(e, -EBADMSG, "tree names a row that is not there");
                copy[i] = (uint32_t)v;
        }
        nn->order = copy;
        return 0;
}

static int read_box(const struct pickle_array *data, size_t i, const struct pickle_field *const f[4],
                    const struct neighbours *nn, struct box *box, struct err *e)
{
        double begin = pickle_field_get(data, i, f[0]), end = pickle_field_get(data, i, f[1]);

        if (!(begin >= 0 && begin <= end && end <= (double)nn->n))
                return err_set(e, -EBADMSG, "tree has a node with rows that are not there");
        box->begin = (size_t)begin;
        box->end = (size_t)end;
        box->leaf = pickle_field_get(data, i, f[2]) > 0;
        box->radius = pickle_field_get(data, i, f[3]);
        if (!box->leaf && 2 * i + 2 >= nn->n_boxes)
                return err_set(e, -EBADMSG, "tree has a node without children");
        return 0;
}

/* Nodes with their bounds, which the pickle has as (2, nodes, columns); balls: (1, nodes, columns). */
static int read_boxes(struct plan *plan, struct neighbours *nn, const struct pickle_array *data,
                      const struct pickle_array *bounds, bool ball, struct err *e)
{
        const struct pickle_field *f[4] = { pickle_field_find(data->dtype, "idx_start"),
                                            pickle_field_find(data->dtype, "idx_end"),
                                            pickle_field_find(data->dtype, "is_leaf"),
                                            pickle_field_find(data->dtype, "radius") };
        size_t columns = plan->columns, sides = ball ? 1 : 2;
        struct box *boxes;
        double *copy;

        if (!f[0] || !f[1] || !f[2] || !f[3] || data->n == 0 || data->n > 2 * nn->n + 1 ||
            bounds->n != sides * data->n * columns)
                return err_set(e, -EBADMSG, "tree is malformed");
        nn->n_boxes = data->n;
        boxes = plan_calloc(plan, data->n, sizeof(*boxes));
        copy = plan_calloc(plan, bounds->n, sizeof(*copy));
        if (!boxes || !copy)
                return plan_no_memory(e);
        for (size_t i = 0; i < bounds->n; i++)
                if (pickle_element(bounds, i, &copy[i]) < 0 || isnan(copy[i]))
                        return err_set(e, -EBADMSG, "tree has malformed bounds");
        for (size_t i = 0; i < data->n; i++) {
                int r = read_box(data, i, f, nn, &boxes[i], e);

                if (r < 0)
                        return r;
                boxes[i].low = copy + i * columns;
                boxes[i].high = ball ? NULL : copy + (data->n + i) * columns;
        }
        nn->boxes = boxes;
        return 0;
}

/* (data, idx_array, node_data, node_bounds, leaf_size, ...) */
static int read_tree(struct plan *plan, struct neighbours *nn, const struct pickle_node *object, bool ball,
                     struct err *e)
{
        const struct pickle_node *tree = pickle_attr(object, "_tree"), *state;
        const struct pickle_array *order, *data, *bounds;
        int r;

        if (!pickle_is_object(tree, "newObj") || !tree->object.state ||
            tree->object.state->kind != PICKLE_TUPLE)
                return err_set(e, -EBADMSG, "KNeighborsRegressor has no tree");
        state = tree->object.state;
        order = tree_array(state, 1);
        data = tree_array(state, 2);
        bounds = tree_array(state, 3);
        if (!order || !data || !bounds)
                return err_set(e, -EBADMSG, "tree is malformed");
        r = read_order(plan, nn, order, e);
        return r < 0 ? r : read_boxes(plan, nn, data, bounds, ball, e);
}

static int read_metric(struct neighbours *nn, const struct pickle_node *object, struct err *e)
{
        static const struct {
                const char *name;
                enum metric metric;
        } metrics[] = {
                { "euclidean", EUCLIDEAN }, { "l2", EUCLIDEAN },        { "manhattan", MANHATTAN },
                { "cityblock", MANHATTAN }, { "l1", MANHATTAN },        { "chebyshev", CHEBYSHEV },
                { "infinity", CHEBYSHEV },  { "minkowski", MINKOWSKI }, { "p", MINKOWSKI },
        };
        const struct pickle_node *params = pickle_attr(object, "effective_metric_params_");
        size_t i = 0;

        while (i < ARRAY_SIZE(metrics) &&
               !pickle_is_text(pickle_attr(object, "effective_metric_"), metrics[i].name))
                i++;
        if (i == ARRAY_SIZE(metrics))
                return sklearn_expect(object, "effective_metric_", "euclidean", e);
        nn->metric = metrics[i].metric;
        if (nn->metric != MINKOWSKI)
                return 0;
        if (pickle_number(pickle_item(params, "p"), &nn->p) < 0 || !(nn->p >= 1) || !isfinite(nn->p))
                return err_set(e, -EBADMSG, "KNeighborsRegressor has a Minkowski metric without 'p'");
        if (pickle_item(params, "w") && pickle_item(params, "w")->kind != PICKLE_NONE)
                return err_set(e, -ENOTSUP, "KNeighborsRegressor with weighted columns is not supported");
        return 0;
}

static int read_rows(struct plan *plan, struct neighbours *nn, const struct pickle_node *object,
                     struct err *e)
{
        const struct pickle_array *rows = NULL;
        int r = sklearn_array(object, "_fit_X", &rows, e);

        if (r < 0)
                return r;
        if (rows->rank != 2 || rows->shape[1] != plan->columns || rows->shape[0] == 0)
                return err_set(e, -EBADMSG, "KNeighborsRegressor was trained on %zu columns, here are %zu",
                               rows->rank == 2 ? rows->shape[1] : 0, plan->columns);
        if (rows->shape[0] > ROWS_MAX)
                return err_set(e, -E2BIG, "KNeighborsRegressor has more than %zu rows", ROWS_MAX);
        nn->n = rows->shape[0];
        r = sklearn_vector(plan, object, "_fit_X", rows->n, &nn->rows, e);
        return r < 0 ? r : sklearn_vector(plan, object, "_y", nn->n, &nn->y, e);
}

int neighbours_add(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        struct neighbours *nn = plan_calloc(plan, 1, sizeof(*nn));
        bool ball = pickle_is_text(pickle_attr(object, "_fit_method"), "ball_tree");
        bool tree = ball || pickle_is_text(pickle_attr(object, "_fit_method"), "kd_tree");
        struct plan_stage *s = NULL;
        int64_t k = 0;
        int r;

        if (!nn)
                return plan_no_memory(e);
        nn->by_distance = pickle_is_text(pickle_attr(object, "weights"), "distance");
        r = nn->by_distance ? 0 : sklearn_expect(object, "weights", "uniform", e);
        if (r == 0)
                r = read_metric(nn, object, e);
        if (r == 0 && !tree)
                r = sklearn_expect(object, "_fit_method", "brute", e);
        if (r == 0)
                r = sklearn_integer(object, "n_neighbors", &k, e);
        if (r == 0)
                r = read_rows(plan, nn, object, e);
        if (r < 0)
                return r;
        if (k < 1 || k > NEIGHBOURS_MAX || (uint64_t)k > nn->n)
                return err_set(e, -EBADMSG, "KNeighborsRegressor asks %lld neighbours of %zu rows",
                               (long long)k, nn->n);
        r = tree ? read_tree(plan, nn, object, ball, e) : read_order(plan, nn, NULL, e);
        if (r == 0)
                r = plan_add(plan, 1,
                             nn->metric == EUCLIDEAN ? tree ? run_tree : run_brute
                             : tree                  ? run_tree_other
                                                     : run_brute_other,
                             &s, e);
        if (r < 0)
                return r;
        (void)snprintf(plan->note, sizeof(plan->note), "%zu rows, %lld neighbours, %s", nn->n, (long long)k,
                       ball   ? "ball tree"
                       : tree ? "k-d tree"
                              : "all compared");
        s->k = (size_t)k;
        s->data = nn;
        return 0;
}
