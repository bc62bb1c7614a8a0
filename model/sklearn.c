/* SPDX-License-Identifier: Apache-2.0 */
#include "model/sklearn.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define PIPELINE_NESTING_MAX 4
#define PIPELINE_STEPS_MAX   32 /* with the nesting: a step may be the same object many times */

static const struct sklearn_class {
        const char *name;
        bool transformer;
        sklearn_adder *add;
} classes[] = {
        { "MaxAbsScaler", true, scaler_add_max_abs },
        { "MinMaxScaler", true, scaler_add_min_max },
        { "StandardScaler", true, scaler_add_standard },
        { "RobustScaler", true, scaler_add_robust },
        { "PolynomialFeatures", true, polynomial_add },
        { "LinearRegression", false, linear_add },
        { "SGDRegressor", false, linear_add },
        { "Ridge", false, linear_add },
        { "Lasso", false, linear_add },
        { "ElasticNet", false, linear_add },
        { "HuberRegressor", false, linear_add },
        { "RidgeCV", false, linear_add },
        { "LassoCV", false, linear_add },
        { "ElasticNetCV", false, linear_add },
        { "Lars", false, linear_add },
        { "LassoLars", false, linear_add },
        { "LarsCV", false, linear_add },
        { "LassoLarsCV", false, linear_add },
        { "LassoLarsIC", false, linear_add },
        { "BayesianRidge", false, linear_add },
        { "ARDRegression", false, linear_add },
        { "OrthogonalMatchingPursuit", false, linear_add },
        { "OrthogonalMatchingPursuitCV", false, linear_add },
        { "TheilSenRegressor", false, linear_add },
        { "QuantileRegressor", false, linear_add },
        { "PassiveAggressiveRegressor", false, linear_add },
        { "LinearSVR", false, linear_add },
        { "PoissonRegressor", false, linear_add_log },
        { "GammaRegressor", false, linear_add_log },
        { "TweedieRegressor", false, linear_add_tweedie },
        { "SVR", false, svr_add },
        { "NuSVR", false, svr_add },
        { "KNeighborsRegressor", false, neighbours_add },
        { "DecisionTreeRegressor", false, trees_add_decision_tree },
        { "ExtraTreeRegressor", false, trees_add_decision_tree },
        { "RandomForestRegressor", false, trees_add_forest },
        { "ExtraTreesRegressor", false, trees_add_forest },
        { "GradientBoostingRegressor", false, trees_add_gradient_boosting },
        { "HistGradientBoostingRegressor", false, trees_add_histogram },
        { "MLPRegressor", false, perceptron_add },
};

/* ---- attributes ---- */

static const struct pickle_node *attr(const struct pickle_node *object, const char *name, struct err *e)
{
        const struct pickle_node *node = pickle_attr(object, name);

        if (!node)
                (void)err_set(e, -EBADMSG, "%s has no '%s'", pickle_describe(object), name);
        return node;
}

static size_t count(const struct pickle_node *node)
{
        switch (node->kind) {
        case PICKLE_ARRAY:
                return node->array->dtype ? node->array->n : 0;
        case PICKLE_LIST:
        case PICKLE_TUPLE:
                return node->list.n;
        default:
                return 1;
        }
}

static int number_at(const struct pickle_node *node, size_t i, double *ret)
{
        switch (node->kind) {
        case PICKLE_ARRAY:
                return pickle_element(node->array, i, ret);
        case PICKLE_LIST:
        case PICKLE_TUPLE:
                return pickle_number(node->list.items[i], ret);
        default:
                return pickle_number(node, ret);
        }
}

int sklearn_numbers(struct plan *plan, const struct pickle_node *node, const char *what, size_t n,
                    const double **ret, struct err *e)
{
        double *numbers;

        if (count(node) != n)
                return err_set(e, -EBADMSG, "'%s' has %zu numbers instead of %zu", what, count(node), n);
        numbers = plan_calloc(plan, n, sizeof(*numbers));
        if (!numbers)
                return plan_no_memory(e);
        for (size_t i = 0; i < n; i++)
                if (number_at(node, i, &numbers[i]) < 0 || !isfinite(numbers[i]))
                        return err_set(e, -EBADMSG, "'%s' has something else than finite numbers", what);
        *ret = numbers;
        return 0;
}

int sklearn_vector(struct plan *plan, const struct pickle_node *object, const char *name, size_t n,
                   const double **ret, struct err *e)
{
        const struct pickle_node *node = attr(object, name, e);
        int r;

        if (!node)
                return -EBADMSG;
        r = sklearn_numbers(plan, node, name, n, ret, e);
        return r < 0 ? err_prefix(e, r, "%s", pickle_describe(object)) : 0;
}

int sklearn_number(const struct pickle_node *object, const char *name, double *ret, struct err *e)
{
        const struct pickle_node *node = attr(object, name, e);

        if (!node)
                return -EBADMSG;
        if (pickle_number(node, ret) < 0 || !isfinite(*ret))
                return err_set(e, -EBADMSG, "%s: '%s' is %s, not a finite number", pickle_describe(object),
                               name, pickle_describe(node));
        return 0;
}

int sklearn_integer(const struct pickle_node *object, const char *name, int64_t *ret, struct err *e)
{
        const struct pickle_node *node = attr(object, name, e);

        if (!node)
                return -EBADMSG;
        if (pickle_integer(node, ret) < 0)
                return err_set(e, -EBADMSG, "%s: '%s' is %s, not an integer", pickle_describe(object), name,
                               pickle_describe(node));
        return 0;
}

int sklearn_array(const struct pickle_node *object, const char *name, const struct pickle_array **ret,
                  struct err *e)
{
        const struct pickle_node *node = attr(object, name, e);

        if (!node)
                return -EBADMSG;
        if (node->kind != PICKLE_ARRAY || !node->array->dtype)
                return err_set(e, -EBADMSG, "%s: '%s' is %s, not an array", pickle_describe(object), name,
                               pickle_describe(node));
        *ret = node->array;
        return 0;
}

bool sklearn_flag(const struct pickle_node *object, const char *name, bool otherwise)
{
        const struct pickle_node *node = pickle_attr(object, name);
        double v;

        return pickle_number(node, &v) < 0 ? otherwise : v < 0 || v > 0;
}

bool sklearn_is_none(const struct pickle_node *object, const char *name)
{
        const struct pickle_node *node = pickle_attr(object, name);

        return !node || node->kind == PICKLE_NONE;
}

int sklearn_expect(const struct pickle_node *object, const char *name, const char *text, struct err *e)
{
        const struct pickle_node *node = attr(object, name, e);

        if (!node)
                return -EBADMSG;
        if (pickle_is_text(node, text))
                return 0;
        return err_set(e, -ENOTSUP, "%s with %s '%.40s' is not supported", pickle_describe(object), name,
                       node->kind == PICKLE_TEXT ? node->text.data : pickle_describe(node));
}

/* ---- objects ---- */

/* What was fitted on another number of columns would read another model's. */
static int check_columns(const struct plan *plan, const struct pickle_node *object, struct err *e)
{
        int64_t n;

        if (pickle_integer(pickle_attr(object, "n_features_in_"), &n) < 0)
                return 0; /* its vectors will tell */
        if (n < 0 || (uint64_t)n != plan->columns)
                return err_set(e, -EBADMSG, "%s was trained on %lld columns, here are %zu",
                               pickle_describe(object), (long long)n, plan->columns);
        return 0;
}

static int add(struct plan *plan, const struct pickle_node *object, bool transformer, int nesting,
               struct err *e);

static bool is_nothing(const struct pickle_node *step)
{
        return step->kind == PICKLE_NONE || pickle_is_text(step, "passthrough");
}

/* steps: [(name, object or None), ...]; the last is the model. */
static int add_pipeline(struct plan *plan, const struct pickle_node *pipeline, bool transformer, int nesting,
                        struct err *e)
{
        const struct pickle_node *steps = pickle_attr(pipeline, "steps");

        if (nesting == PIPELINE_NESTING_MAX)
                return err_set(e, -E2BIG, "pipelines are nested more than %d deep", PIPELINE_NESTING_MAX);
        if (!steps || steps->kind != PICKLE_LIST || steps->list.n == 0)
                return err_set(e, -EBADMSG, "Pipeline has no list of steps");
        if (steps->list.n > PIPELINE_STEPS_MAX)
                return err_set(e, -E2BIG, "Pipeline has more than %d steps", PIPELINE_STEPS_MAX);
        for (size_t i = 0; i < steps->list.n; i++) {
                const struct pickle_node *step = steps->list.items[i];
                bool last = i + 1 == steps->list.n;
                int r;

                if ((step->kind != PICKLE_TUPLE && step->kind != PICKLE_LIST) || step->list.n != 2)
                        return err_set(e, -EBADMSG, "Pipeline has a malformed step");
                step = step->list.items[1];
                if (is_nothing(step) && (!last || transformer))
                        continue;
                r = add(plan, step, !last || transformer, nesting + 1, e);
                if (r < 0)
                        return err_prefix(e, r, "Pipeline");
        }
        return 0;
}

static int add(struct plan *plan, const struct pickle_node *object, bool transformer, int nesting,
               struct err *e)
{
        const char *name = pickle_describe(object);
        int r;

        if (object->kind != PICKLE_OBJECT)
                return err_set(e, -EBADMSG, "%s instead of a %s", name,
                               transformer ? "transformer" : "model");
        if (pickle_is_object(object, "Pipeline"))
                return add_pipeline(plan, object, transformer, nesting, e);
        for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
                if (strcmp(classes[i].name, name) || classes[i].transformer != transformer)
                        continue;
                r = check_columns(plan, object, e);
                if (r == 0)
                        r = classes[i].add(plan, object, e);
                if (r == 0 && !transformer)
                        plan->kind = classes[i].name;
                if (r == 0 && transformer && strstr(name, "Scaler"))
                        plan->scaled = true;
                return r;
        }
        return err_set(e, -ENOTSUP, "'%s' is not a %s that this version evaluates", name,
                       transformer ? "transformer" : "model");
}

int sklearn_add_transformer(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        return add(plan, object, true, 0, e);
}

int sklearn_add_regressor(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        int r = add(plan, object, false, 0, e);

        if (r == 0 && plan->columns != 1)
                return err_set(e, -EBADMSG, "model has %zu outputs", plan->columns);
        return r;
}
