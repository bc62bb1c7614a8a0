/* SPDX-License-Identifier: Apache-2.0 */
/* scikit-learn's trees: alone, averaged (RandomForest, ExtraTrees), added up (GradientBoosting), and those of
 * histograms, which have a node layout of their own. */
#include "model/sklearn.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "model/forest.h"

/* The columns of one tree, reused for the next. */
struct columns {
        size_t room;
        int64_t *left, *right, *feature;
        double *threshold, *value;
        unsigned char *nan_left;
};

static void columns_done(struct columns *c)
{
        free(c->left);
        free(c->right);
        free(c->feature);
        free(c->threshold);
        free(c->value);
        free(c->nan_left);
}

static int columns_reserve(struct columns *c, size_t n, struct err *e)
{
        if (n <= c->room)
                return 0;
        columns_done(c);
        *c = (struct columns){ 0 };
        if (n > FOREST_NODES_MAX)
                return err_set(e, -E2BIG, "model has more than %zu nodes", FOREST_NODES_MAX);
        c->left = calloc(n, sizeof(*c->left));
        c->right = calloc(n, sizeof(*c->right));
        c->feature = calloc(n, sizeof(*c->feature));
        c->threshold = calloc(n, sizeof(*c->threshold));
        c->value = calloc(n, sizeof(*c->value));
        c->nan_left = calloc(n, sizeof(*c->nan_left));
        if (!c->left || !c->right || !c->feature || !c->threshold || !c->value || !c->nan_left)
                return err_set(e, -ENOMEM, "out of memory");
        c->room = n;
        return 0;
}

static int add_columns(struct plan *plan, struct forest *f, const struct columns *c, size_t n, struct err *e)
{
        return forest_add(plan, f,
                          &(struct forest_source){ .n = n,
                                                   .left = c->left,
                                                   .right = c->right,
                                                   .feature = c->feature,
                                                   .threshold = c->threshold,
                                                   .nan_left = c->nan_left,
                                                   .value = c->value },
                          e);
}

/* A number of a node that is used as an index; anything that is none becomes a child that is not there. */
static int64_t index_of(double v)
{
        return v >= -1 && v < 1e9 ? (int64_t)v : INT64_MAX;
}

static int find_fields(const struct pickle_array *nodes, const char *const *names,
                       const struct pickle_field **fields, size_t n, struct err *e)
{
        if (nodes->dtype->letter != 'V' || nodes->rank != 1)
                return err_set(e, -EBADMSG, "tree's nodes are not records");
        for (size_t i = 0; i < n; i++) {
                fields[i] = pickle_field_find(nodes->dtype, names[i]);
                if (!fields[i] || fields[i]->letter == 'V')
                        return err_set(e, -EBADMSG, "tree's nodes have no number '%s'", names[i]);
        }
        return 0;
}

/* ---- trees of sklearn.tree ---- */

/* Both layouts, of 56 and of 64 bytes: the newer says where missing values go. */
static int read_nodes(struct columns *c, const struct pickle_array *nodes, struct err *e)
{
        static const char *const names[] = { "left_child", "right_child", "feature", "threshold" };
        const struct pickle_field *f[ARRAY_SIZE(names)], *nan;
        int r = find_fields(nodes, names, f, ARRAY_SIZE(names), e);

        if (r < 0)
                return r;
        nan = pickle_field_find(nodes->dtype, "missing_go_to_left");
        if (nan && nan->letter == 'V')
                return err_set(e, -EBADMSG, "tree's nodes are malformed");
        for (size_t i = 0; i < nodes->n; i++) {
                c->left[i] = index_of(pickle_field_get(nodes, i, f[0]));
                c->right[i] = index_of(pickle_field_get(nodes, i, f[1]));
                c->feature[i] = index_of(pickle_field_get(nodes, i, f[2]));
                c->threshold[i] = pickle_field_get(nodes, i, f[3]);
                c->nan_left[i] = nan && pickle_field_get(nodes, i, nan) > 0;
                if (c->left[i] >= 0 && c->left[i] <= (int64_t)i) /* what they are not, a forgery may be */
                        return err_set(e, -EBADMSG, "tree has a child before its parent");
        }
        return 0;
}

/* `object` is a DecisionTreeRegressor; its leaves are multiplied by `factor`. */
static int add_tree(struct plan *plan, struct forest *forest, struct columns *c,
                    const struct pickle_node *object, double factor, struct err *e)
{
        const struct pickle_node *tree = pickle_attr(object, "tree_");
        const struct pickle_array *nodes = NULL, *values = NULL;
        int64_t count = 0;
        int r;

        if (!pickle_is_object(tree, "Tree"))
                return err_set(e, -EBADMSG, "%s has no tree", pickle_describe(object));
        r = sklearn_integer(tree, "node_count", &count, e);
        if (r == 0)
                r = sklearn_array(tree, "nodes", &nodes, e);
        if (r == 0)
                r = sklearn_array(tree, "values", &values, e);
        if (r < 0)
                return r;
        if (count < 1 || (uint64_t)count != nodes->n || values->n != nodes->n)
                return err_set(e, -EBADMSG, "tree says %lld nodes, has %zu and %zu values", (long long)count,
                               nodes->n, values->n);
        r = columns_reserve(c, nodes->n, e);
        if (r == 0)
                r = read_nodes(c, nodes, e);
        if (r < 0)
                return r;
        for (size_t i = 0; i < nodes->n; i++) {
                if (pickle_element(values, i, &c->value[i]) < 0)
                        return err_set(e, -EBADMSG, "tree's values are not numbers");
                c->value[i] *= factor;
        }
        return add_columns(plan, forest, c, nodes->n, e);
}

static bool is_tree(const struct pickle_node *node)
{
        return pickle_is_object(node, "DecisionTreeRegressor") ||
               pickle_is_object(node, "ExtraTreeRegressor");
}

int trees_add_decision_tree(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        CLEANUP(columns_done) struct columns c = { 0 };
        struct forest *forest = NULL;
        int r = plan_add_float32(plan, e);

        if (r == 0)
                r = forest_new(plan, &forest, e);
        if (r == 0)
                r = add_tree(plan, forest, &c, object, 1, e);
        return r < 0 ? r : forest_finish(plan, forest, 0, FOREST_DOUBLE, e);
}

/* A list, or an array of objects. */
static int list_trees(const struct pickle_node *object, struct pickle_node *const **ret, size_t *ret_n,
                      struct err *e)
{
        const struct pickle_node *node = pickle_attr(object, "estimators_");

        if (node && node->kind == PICKLE_LIST) {
                *ret = node->list.items;
                *ret_n = node->list.n;
        } else if (node && node->kind == PICKLE_ARRAY && node->array->dtype &&
                   node->array->dtype->letter == 'O') {
                *ret = node->array->objects;
                *ret_n = node->array->n;
        } else {
                return err_set(e, -EBADMSG, "%s has no 'estimators_'", pickle_describe(object));
        }
        for (size_t i = 0; i < *ret_n; i++)
                if (!is_tree((*ret)[i]))
                        return err_set(e, -EBADMSG, "%s has %s among its trees", pickle_describe(object),
                                       pickle_describe((*ret)[i]));
        return *ret_n > 0 ? 0 : err_set(e, -EBADMSG, "%s has no trees", pickle_describe(object));
}

static int add_all(struct plan *plan, const struct pickle_node *object, double factor, double base,
                   enum forest_sum sum, struct err *e)
{
        CLEANUP(columns_done) struct columns c = { 0 };
        struct pickle_node *const *trees = NULL;
        struct forest *forest = NULL;
        size_t n = 0;
        int r = list_trees(object, &trees, &n, e);

        if (r == 0)
                r = plan_add_float32(plan, e);
        if (r == 0)
                r = forest_new(plan, &forest, e);
        for (size_t i = 0; r == 0 && i < n; i++)
                r = add_tree(plan, forest, &c, trees[i], factor, e);
        return r < 0 ? r : forest_finish(plan, forest, base, sum, e);
}

int trees_add_forest(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        return add_all(plan, object, 1, 0, FOREST_MEAN, e);
}

/* What the trees correct: a constant that init_ found, or 0. */
static int read_init(const struct pickle_node *object, double *ret, struct err *e)
{
        const struct pickle_node *init = pickle_attr(object, "init_");

        if (pickle_is_text(init, "zero")) {
                *ret = 0;
                return 0;
        }
        if (!pickle_is_object(init, "DummyRegressor"))
                return err_set(e, -ENOTSUP, "GradientBoostingRegressor that begins with %s is not supported",
                               pickle_describe(init));
        return sklearn_number(init, "constant_", ret, e);
}

int trees_add_gradient_boosting(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        double rate = 0, base = 0;
        int r = sklearn_number(object, "learning_rate", &rate, e);

        if (r == 0)
                r = read_init(object, &base, e);
        return r < 0 ? r : add_all(plan, object, rate, base, FOREST_DOUBLE, e);
}

/* ---- trees of histograms ---- */

static int read_predictor(struct columns *c, const struct pickle_array *nodes, struct err *e)
{
        static const char *const names[] = {
                "left",    "right", "feature_idx",   "num_threshold", "missing_go_to_left",
                "is_leaf", "value", "is_categorical"
        };
        const struct pickle_field *f[ARRAY_SIZE(names)];
        int r = find_fields(nodes, names, f, ARRAY_SIZE(names), e);

        if (r == 0)
                r = columns_reserve(c, nodes->n, e);
        if (r < 0)
                return r;
        for (size_t i = 0; i < nodes->n; i++) {
                bool leaf = pickle_field_get(nodes, i, f[5]) > 0;

                if (!leaf && pickle_field_get(nodes, i, f[7]) > 0)
                        return err_set(e, -ENOTSUP, "trees with categorical features are not supported");
                c->left[i] = leaf ? -1 : index_of(pickle_field_get(nodes, i, f[0]));
                c->right[i] = leaf ? -1 : index_of(pickle_field_get(nodes, i, f[1]));
                c->feature[i] = index_of(pickle_field_get(nodes, i, f[2]));
                c->threshold[i] = pickle_field_get(nodes, i, f[3]);
                c->nan_left[i] = pickle_field_get(nodes, i, f[4]) > 0;
                c->value[i] = pickle_field_get(nodes, i, f[6]);
        }
        return 0;
}

/* One element of _predictors: a list with one TreePredictor, since there is one output. */
static int add_predictor(struct plan *plan, struct forest *forest, struct columns *c,
                         const struct pickle_node *iteration, struct err *e)
{
        const struct pickle_array *nodes = NULL;
        int r;

        if (iteration->kind != PICKLE_LIST || iteration->list.n != 1 ||
            !pickle_is_object(iteration->list.items[0], "TreePredictor"))
                return err_set(e, -EBADMSG, "HistGradientBoostingRegressor has a malformed iteration");
        r = sklearn_array(iteration->list.items[0], "nodes", &nodes, e);
        if (r == 0)
                r = read_predictor(c, nodes, e);
        return r < 0 ? r : add_columns(plan, forest, c, nodes->n, e);
}

/* The losses whose prediction is the sum itself, and those of which it is the sum's exponential. */
static int check_loss(const struct pickle_node *object, bool *ret_exp, struct err *e)
{
        const struct pickle_node *loss = pickle_attr(object, "loss");

        *ret_exp = pickle_is_text(loss, "poisson") || pickle_is_text(loss, "gamma");
        if (*ret_exp || pickle_is_text(loss, "absolute_error") || pickle_is_text(loss, "quantile"))
                return 0;
        return sklearn_expect(object, "loss", "squared_error", e);
}

int trees_add_histogram(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        CLEANUP(columns_done) struct columns c = { 0 };
        const struct pickle_node *iterations = pickle_attr(object, "_predictors");
        struct forest *forest = NULL;
        double base = 0;
        bool takes_exp = false;
        int r = check_loss(object, &takes_exp, e);

        if (r == 0)
                r = sklearn_number(object, "_baseline_prediction", &base, e);
        if (r < 0)
                return r;
        if (!iterations || iterations->kind != PICKLE_LIST)
                return err_set(e, -EBADMSG, "HistGradientBoostingRegressor has no '_predictors'");
        r = forest_new(plan, &forest, e);
        for (size_t i = 0; r == 0 && i < iterations->list.n; i++)
                r = add_predictor(plan, forest, &c, iterations->list.items[i], e);
        if (r == 0)
                r = forest_finish(plan, forest, base, FOREST_DOUBLE, e);
        return r == 0 && takes_exp ? sklearn_add_exp(plan, e) : r;
}
