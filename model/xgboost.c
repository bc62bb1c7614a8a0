/* SPDX-License-Identifier: Apache-2.0 */
/* XGBoost's trees, float32 all through: inputs, comparisons (strictly less goes left), sums in the order of
 * the trees, beginning with the base score. The base score is a text, in the space of the objective's output;
 * files of 1.x have 0.5 when nobody set it, those of 2.x the label's mean, those of 3.x a list of one.
 * Boosters: gbtree; dart, whose trees have weights; gblinear, which has no trees but coefficients. */
#include "model/xgboost.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/num.h"
#include "model/forest.h"
#include "model/tokens.h"

enum link { LINK_IDENTITY, LINK_EXP, LINK_LOGISTIC };

static const struct objective {
        const char *name;
        enum link link;
} objectives[] = {
        { "reg:squarederror", LINK_IDENTITY },
        { "reg:linear", LINK_IDENTITY },
        { "reg:squaredlogerror", LINK_IDENTITY },
        { "reg:pseudohubererror", LINK_IDENTITY },
        { "reg:absoluteerror", LINK_IDENTITY },
        { "reg:quantileerror", LINK_IDENTITY },
        { "reg:gamma", LINK_EXP },
        { "reg:tweedie", LINK_EXP },
        { "count:poisson", LINK_EXP },
        { "reg:logistic", LINK_LOGISTIC },
};

/* A growing column of one tree, reused for the next. */
struct column {
        double *v; /* owned */
        size_t n, room;
};

enum booster { BOOSTER_GBTREE, BOOSTER_DART, BOOSTER_GBLINEAR, BOOSTERS };
static const char *const booster_names[BOOSTERS] = { "gbtree", "dart", "gblinear" };

enum { LEFT, RIGHT, FEATURE, CONDITION, DEFAULT_LEFT, SPLIT_TYPE, COLUMNS };
static const char *const column_names[COLUMNS] = { "left_children",    "right_children", "split_indices",
                                                   "split_conditions", "default_left",   "split_type" };

/* What was read so far. Each tree is laid out when its object ends. */
struct reading {
        struct tokens t;
        struct plan *plan;
        struct forest *forest;
        struct column columns[COLUMNS];
        struct column weights; /* of dart's trees, or gblinear's coefficients */
        enum booster booster;
        size_t n_trees;
        double base;
        bool has_objective, has_trees;
        enum link link;
        double n_targets, n_classes, n_features, parallel, best_iteration;
};

static void reading_done(struct reading *x)
{
        for (size_t i = 0; i < COLUMNS; i++)
                free(x->columns[i].v);
        free(x->weights.v);
}

static int next(struct reading *x, struct err *e)
{
        return tokens_next(&x->t, e);
}

/* ---- walking the document ---- */

typedef int member_reader(struct reading *x, struct err *e);
struct member {
        const char *key;
        member_reader *read;
};

/* The rest of a value whose first token was read. */
static int skip_rest(struct reading *x, int token, struct err *e)
{
        size_t depth = 0;

        for (;;) {
                if (token < 0)
                        return token;
                depth += token == TOKEN_OBJECT || token == TOKEN_ARRAY;
                depth -= token == TOKEN_OBJECT_END || token == TOKEN_ARRAY_END;
                if (depth == 0)
                        return 0;
                token = next(x, e);
        }
}

static int skip(struct reading *x, struct err *e)
{
        return skip_rest(x, next(x, e), e);
}

static int expect(struct reading *x, int wanted, const char *what, struct err *e)
{
        int token = next(x, e);

        if (token < 0 || token == wanted)
                return token < 0 ? token : 0;
        return err_set(e, -EBADMSG, "%s is not %s", what, wanted == TOKEN_OBJECT ? "an object" : "an array");
}

/* An object's members, each by its reader; others are skipped. */
static int read_members(struct reading *x, const char *what, const struct member *members, struct err *e)
{
        int r = expect(x, TOKEN_OBJECT, what, e);

        while (r == 0) {
                const struct member *m = members;
                int token = next(x, e);

                if (token < 0 || token == TOKEN_OBJECT_END)
                        return token < 0 ? token : 0;
                while (m->key && strcmp(m->key, x->t.text))
                        m++;
                r = m->key ? m->read(x, e) : skip(x, e);
        }
        return r;
}

/* Numbers may be written as texts, and since 3.0 as texts of a list. */
static int read_number(struct reading *x, const char *what, double *ret, struct err *e)
{
        int token = next(x, e);
        char *s = x->t.text;
        size_t n;

        if (token < 0)
                return token;
        if (token == TOKEN_NUMBER) {
                *ret = x->t.number;
                return 0;
        }
        n = strlen(s);
        if (token == TOKEN_TEXT && n > 2 && s[0] == '[' && s[n - 1] == ']') {
                s[n - 1] = '\0';
                s++;
        }
        if (token != TOKEN_TEXT || num_parse_double(s, ret) < 0)
                return err_set(e, -EBADMSG, "'%s' is not a number", what);
        return 0;
}

/* ---- trees ---- */

static int column_add(struct column *c, double v, struct err *e)
{
        if (c->n == c->room) {
                size_t room = c->room * 2 + 128;
                double *more;

                if (room > FOREST_NODES_MAX)
                        return err_set(e, -E2BIG, "model has more than %zu nodes", FOREST_NODES_MAX);
                more = reallocarray(c->v, room, sizeof(*more));
                if (!more)
                        return err_set(e, -ENOMEM, "out of memory");
                c->v = more;
                c->room = room;
        }
        c->v[c->n++] = v;
        return 0;
}

static int read_numbers(struct reading *x, struct column *c, const char *name, struct err *e)
{
        int r = expect(x, TOKEN_ARRAY, name, e);

        if (r < 0)
                return r;
        for (c->n = 0;;) {
                int token = next(x, e);

                if (token < 0 || token == TOKEN_ARRAY_END)
                        return token < 0 ? token : 0;
                if (token != TOKEN_NUMBER && token != TOKEN_TRUE && token != TOKEN_FALSE)
                        return err_set(e, -EBADMSG, "'%s' has something else than numbers", name);
                r = column_add(c, token == TOKEN_NUMBER ? x->t.number : token == TOKEN_TRUE, e);
                if (r < 0)
                        return r;
        }
}

static int64_t index_of(double v)
{
        return v >= -1 && v < 1e9 ? (int64_t)v : INT64_MAX;
}

/* x < c is x <= the float32 below c; nothing that a request can say is below minus infinity. */
static double threshold_of(double condition)
{
        float c = (float)condition;

        return (double)nextafterf(c, -INFINITY);
}

static int check_columns(const struct reading *x, struct err *e)
{
        size_t n = x->columns[LEFT].n;

        for (size_t i = 0; i < COLUMNS; i++)
                if (x->columns[i].n != n && !(i >= DEFAULT_LEFT && x->columns[i].n == 0))
                        return err_set(e, -EBADMSG, "tree has %zu '%s' for %zu nodes", x->columns[i].n,
                                       column_names[i], n);
        for (size_t i = 0; i < x->columns[SPLIT_TYPE].n; i++)
                if (x->columns[SPLIT_TYPE].v[i] > 0)
                        return err_set(e, -ENOTSUP, "trees with categorical features are not supported");
        return 0;
}

struct scratch {
        int64_t *left, *right, *feature;
        double *threshold, *value;
        unsigned char *nan_left;
};

static void scratch_done(struct scratch *s)
{
        free(s->left);
        free(s->right);
        free(s->feature);
        free(s->threshold);
        free(s->value);
        free(s->nan_left);
}

static int add_tree(struct reading *x, struct err *e)
{
        CLEANUP(scratch_done) struct scratch s = { 0 };
        const struct column *c = x->columns;
        size_t n = c[LEFT].n;

        s.left = calloc(n + 1, sizeof(*s.left));
        s.right = calloc(n + 1, sizeof(*s.right));
        s.feature = calloc(n + 1, sizeof(*s.feature));
        s.threshold = calloc(n + 1, sizeof(*s.threshold));
        s.value = calloc(n + 1, sizeof(*s.value));
        s.nan_left = calloc(n + 1, sizeof(*s.nan_left));
        if (!s.left || !s.right || !s.feature || !s.threshold || !s.value || !s.nan_left)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < n; i++) {
                s.left[i] = index_of(c[LEFT].v[i]);
                s.right[i] = index_of(c[RIGHT].v[i]);
                s.feature[i] = index_of(c[FEATURE].v[i]);
                s.threshold[i] = threshold_of(c[CONDITION].v[i]);
                s.value[i] = (double)(float)c[CONDITION].v[i];
                s.nan_left[i] = c[DEFAULT_LEFT].n > 0 && c[DEFAULT_LEFT].v[i] > 0;
        }
        return forest_add(
                x->plan, x->forest,
                &(struct forest_source){ n, s.left, s.right, s.feature, s.threshold, s.nan_left, s.value },
                e);
}

#define COLUMN_READER(name, which)                                                                           \
        static int name(struct reading *x, struct err *e)                                                    \
        {                                                                                                    \
                return read_numbers(x, &x->columns[which], column_names[which], e);                          \
        }
COLUMN_READER(read_left, LEFT)
COLUMN_READER(read_right, RIGHT)
COLUMN_READER(read_feature, FEATURE)
COLUMN_READER(read_condition, CONDITION)
COLUMN_READER(read_default_left, DEFAULT_LEFT)
COLUMN_READER(read_split_type, SPLIT_TYPE)

static int read_leaf_size(struct reading *x, struct err *e)
{
        double size = 1;
        int r = read_number(x, "size_leaf_vector", &size, e);

        if (r == 0 && size > 1)
                return err_set(e, -ENOTSUP, "trees with several outputs are not supported");
        return r;
}

static int read_tree_param(struct reading *x, struct err *e)
{
        static const struct member members[] = { { "size_leaf_vector", read_leaf_size }, { 0 } };

        return read_members(x, "tree_param", members, e);
}

static int read_trees(struct reading *x, struct err *e)
{
        static const struct member members[] = {
                { "left_children", read_left },        { "right_children", read_right },
                { "split_indices", read_feature },     { "split_conditions", read_condition },
                { "default_left", read_default_left }, { "split_type", read_split_type },
                { "tree_param", read_tree_param },     { 0 },
        };
        int r = expect(x, TOKEN_ARRAY, "trees", e);

        if (r < 0)
                return r;
        if (x->has_trees)
                return err_set(e, -EBADMSG, "'trees' is there twice");
        x->has_trees = true;
        while (x->t.pos < x->t.size) {
                struct tokens before = x->t;
                int token = next(x, e);

                if (token < 0 || token == TOKEN_ARRAY_END)
                        return token < 0 ? token : 0;
                x->t = before; /* read_members() wants to see the object begin */
                for (size_t i = 0; i < COLUMNS; i++)
                        x->columns[i].n = 0;
                r = read_members(x, "a tree", members, e);
                if (r == 0)
                        r = check_columns(x, e);
                if (r == 0)
                        r = add_tree(x, e);
                if (r < 0)
                        return err_prefix(e, r, "tree %zu", x->n_trees);
                x->n_trees++;
        }
        return err_set(e, -EBADMSG, "'trees' does not end");
}

/* ---- the rest of the document ---- */

static int read_parallel(struct reading *x, struct err *e)
{
        return read_number(x, "num_parallel_tree", &x->parallel, e);
}

static int read_gbtree_param(struct reading *x, struct err *e)
{
        static const struct member members[] = { { "num_parallel_tree", read_parallel }, { 0 } };

        return read_members(x, "gbtree_model_param", members, e);
}

static int read_coefficients(struct reading *x, struct err *e)
{
        return read_numbers(x, &x->weights, "weights", e);
}

static int read_model(struct reading *x, struct err *e)
{
        static const struct member members[] = { { "trees", read_trees },
                                                 { "gbtree_model_param", read_gbtree_param },
                                                 { "weights", read_coefficients },
                                                 { 0 } };

        return read_members(x, "model", members, e);
}

static int read_booster_name(struct reading *x, struct err *e)
{
        int token = next(x, e);

        if (token < 0)
                return token;
        for (size_t i = 0; token == TOKEN_TEXT && i < BOOSTERS; i++)
                if (!strcmp(x->t.text, booster_names[i])) {
                        x->booster = (enum booster)i;
                        return 0;
                }
        return err_set(e, -ENOTSUP, "booster '%.40s' is not supported", token == TOKEN_TEXT ? x->t.text : "");
}

/* Dart has its trees one level further down. */
static int read_trees_of_dart(struct reading *x, struct err *e)
{
        static const struct member members[] = { { "model", read_model }, { 0 } };

        return read_members(x, "gbtree", members, e);
}

static int read_weight_drop(struct reading *x, struct err *e)
{
        return read_numbers(x, &x->weights, "weight_drop", e);
}

static int read_booster(struct reading *x, struct err *e)
{
        static const struct member members[] = { { "name", read_booster_name },
                                                 { "model", read_model },
                                                 { "gbtree", read_trees_of_dart },
                                                 { "weight_drop", read_weight_drop },
                                                 { 0 } };

        return read_members(x, "gradient_booster", members, e);
}

static int read_objective_name(struct reading *x, struct err *e)
{
        int token = next(x, e);

        if (token < 0)
                return token;
        for (size_t i = 0; token == TOKEN_TEXT && i < ARRAY_SIZE(objectives); i++)
                if (!strcmp(objectives[i].name, x->t.text)) {
                        x->link = objectives[i].link;
                        x->has_objective = true;
                        return 0;
                }
        return err_set(e, -ENOTSUP, "objective '%.40s' is not supported",
                       token == TOKEN_TEXT ? x->t.text : "");
}

static int read_objective(struct reading *x, struct err *e)
{
        static const struct member members[] = { { "name", read_objective_name }, { 0 } };

        return read_members(x, "objective", members, e);
}

static int read_base_score(struct reading *x, struct err *e)
{
        return read_number(x, "base_score", &x->base, e);
}

static int read_n_targets(struct reading *x, struct err *e)
{
        return read_number(x, "num_target", &x->n_targets, e);
}

static int read_n_classes(struct reading *x, struct err *e)
{
        return read_number(x, "num_class", &x->n_classes, e);
}

static int read_n_features(struct reading *x, struct err *e)
{
        return read_number(x, "num_feature", &x->n_features, e);
}

static int read_model_param(struct reading *x, struct err *e)
{
        static const struct member members[] = {
                { "base_score", read_base_score },
                { "num_target", read_n_targets },
                { "num_class", read_n_classes },
                { "num_feature", read_n_features },
                { 0 },
        };

        return read_members(x, "learner_model_param", members, e);
}

static int read_best_iteration(struct reading *x, struct err *e)
{
        return read_number(x, "best_iteration", &x->best_iteration, e);
}

static int read_attributes(struct reading *x, struct err *e)
{
        static const struct member members[] = { { "best_iteration", read_best_iteration }, { 0 } };

        return read_members(x, "attributes", members, e);
}

static int read_learner(struct reading *x, struct err *e)
{
        static const struct member members[] = {
                { "learner_model_param", read_model_param },
                { "objective", read_objective },
                { "gradient_booster", read_booster },
                { "attributes", read_attributes },
                { 0 },
        };

        return read_members(x, "learner", members, e);
}

static int read_document(struct reading *x, struct err *e)
{
        static const struct member members[] = { { "learner", read_learner }, { 0 } };
        int r = read_members(x, "the model", members, e);

        if (r < 0)
                return r;
        r = next(x, e);
        return r < 0 ? r : 0;
}

/* ---- from the output's space to the sum's, and back ---- */

static int margin_of(enum link link, double base, double *ret, struct err *e)
{
        float b = (float)base;

        if (!isfinite(b) || (link == LINK_EXP && !(b > 0)) || (link == LINK_LOGISTIC && !(b > 0 && b < 1)))
                return err_set(e, -EBADMSG, "base_score %g does not fit the objective", base);
        *ret = (double)(link == LINK_IDENTITY ? b : link == LINK_EXP ? logf(b) : -logf(1.0f / b - 1.0f));
        return 0;
}

static void run_exp(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        (void)s;
        for (size_t i = 0; i < n; i++)
                out[i] = (double)expf((float)in[i]);
}

static void run_logistic(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        (void)s;
        for (size_t i = 0; i < n; i++)
                out[i] = (double)(1.0f / (1.0f + expf(-(float)in[i])));
}

static int check_document(const struct reading *x, struct err *e)
{
        if (!x->has_trees && x->booster != BOOSTER_GBLINEAR)
                return err_set(e, -EBADMSG, "XGBoost model has no trees");
        if (!x->has_objective)
                return err_set(e, -EBADMSG, "XGBoost model has no objective");
        if (x->n_targets > 1 || x->n_classes > 1)
                return err_set(e, -ENOTSUP, "XGBoost models with several outputs are not supported");
        if (x->n_features > 0 && (size_t)index_of(x->n_features) != x->plan->columns)
                return err_set(e, -EBADMSG, "XGBoost model was trained on %g columns, here are %zu",
                               x->n_features, x->plan->columns);
        return 0;
}

/* a: the coefficients, c: bias and base score. A missing value counts nothing. */
static void run_gblinear(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (; n > 0; n--, in += s->n_in, out++) {
                float sum = (float)s->c;

                for (size_t j = 0; j < s->n_in; j++)
                        if (!isnan(in[j]))
                                sum += (float)in[j] * (float)s->a[j];
                *out = (double)sum;
        }
}

/* A coefficient per column, then the bias. */
static int add_coefficients(struct plan *plan, const struct column *weights, double margin, struct err *e)
{
        struct plan_stage *s = NULL;
        size_t columns = plan->columns;
        double *copy;

        if (weights->n != columns + 1)
                return err_set(e, -EBADMSG, "gblinear has %zu weights for %zu columns", weights->n, columns);
        for (size_t i = 0; i < weights->n; i++)
                if (!isfinite((float)weights->v[i]))
                        return err_set(e, -EBADMSG, "gblinear has a weight that is not finite");
        copy = plan_calloc(plan, columns, sizeof(*copy));
        if (!copy)
                return plan_no_memory(e);
        memcpy(copy, weights->v, columns * sizeof(*copy));
        (void)snprintf(plan->note, sizeof(plan->note), "%zu coefficients", columns);
        plan->kind = "XGBoost gblinear";
        if (plan_add(plan, 1, run_gblinear, &s, e) < 0)
                return -E2BIG;
        s->a = copy;
        s->c = (double)((float)weights->v[columns] + (float)margin);
        return 0;
}

static int weigh_trees(struct reading *x, struct err *e)
{
        if (x->weights.n != x->n_trees)
                return err_set(e, -EBADMSG, "dart has %zu weights for %zu trees", x->weights.n, x->n_trees);
        x->plan->kind = "XGBoost dart";
        for (size_t i = 0; i < x->n_trees; i++) {
                if (!isfinite((float)x->weights.v[i]))
                        return err_set(e, -EBADMSG, "dart has a weight that is not finite");
                (void)forest_weigh(x->forest, i, x->weights.v[i]); /* the tree is there */
        }
        return 0;
}

static int add_trees(struct reading *x, double margin, struct err *e)
{
        int r = x->booster == BOOSTER_DART ? weigh_trees(x, e) : 0;

        if (r < 0)
                return r;
        if (x->best_iteration >= 0 && x->parallel >= 1) /* stopped early: those after the best do not count */
                forest_cut(x->forest, (x->best_iteration + 1) * x->parallel);
        return forest_finish(x->plan, x->forest, margin, FOREST_FLOAT32, e);
}

int xgboost_add(struct plan *plan, const void *data, size_t size, struct err *e)
{
        CLEANUP(reading_done)
        struct reading x = { .plan = plan, .base = 0.5, .parallel = 1, .best_iteration = -1 };
        double margin = 0;
        int r;

        plan->kind = "XGBoost";
        tokens_init(&x.t, data, size);
        r = plan_add_float32(plan, e);
        if (r == 0)
                r = forest_new(plan, &x.forest, e);
        if (r == 0)
                r = read_document(&x, e);
        if (r == 0)
                r = check_document(&x, e);
        if (r == 0)
                r = margin_of(x.link, x.base, &margin, e);
        if (r == 0)
                r = x.booster == BOOSTER_GBLINEAR ? add_coefficients(plan, &x.weights, margin, e)
                                                  : add_trees(&x, margin, e);
        if (r < 0 || x.link == LINK_IDENTITY)
                return r;
        return plan_add(plan, 1, x.link == LINK_EXP ? run_exp : run_logistic, NULL, e);
}
