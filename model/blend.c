/* SPDX-License-Identifier: Apache-2.0 */
#include "model/blend.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "common/json.h"
#include "model/xgboost.h"

#define TREE_STAGES_MAX 4

enum side { INSIDE, OUTSIDE, SIDES };
static const char *const side_names[SIDES] = { "inside", "outside" };

struct derived {
        bool ratio; /* else difference */
        size_t a, b;
};
struct range {
        double low, high;
};
struct guard {
        size_t column;
        struct range range;
};
struct term {
        size_t column;
        double c;
};
struct trees {
        size_t n_stages;
        struct plan_stage stages[TREE_STAGES_MAX];
};
struct member {
        double weight, bias;
        size_t n_x, n_sqrt, n_columns, n_trees;
        struct term x[BLEND_COLUMNS_MAX], sqrt[BLEND_COLUMNS_MAX];
        size_t columns[BLEND_COLUMNS_MAX];
        struct trees trees[BLEND_TREES_MAX];
};
struct blend {
        size_t n_features, n_derived, n_columns, n_guards;
        struct derived derived[BLEND_COLUMNS_MAX];
        struct range clip[BLEND_COLUMNS_MAX], output;
        struct guard guards[BLEND_COLUMNS_MAX];
        size_t n_members[SIDES];
        struct member members[SIDES][BLEND_MEMBERS_MAX];
};

/* ---- running ---- */

static inline double clip(double v, struct range range)
{
        return fmin(fmax(v, range.low), range.high); /* NaN becomes low */
}

/* The columns of a row, clipped; which side it is on. */
static enum side expand(const struct blend *b, const double *row, double *columns)
{
        enum side side = INSIDE;

        memcpy(columns, row, b->n_features * sizeof(*row));
        for (size_t i = 0; i < b->n_derived; i++) {
                double x = columns[b->derived[i].a], y = columns[b->derived[i].b];

                columns[b->n_features + i] = !b->derived[i].ratio ? x - y : y > 0 ? x / y : 0;
        }
        for (size_t i = 0; i < b->n_guards; i++) {
                double v = columns[b->guards[i].column];

                if (v < b->guards[i].range.low || v > b->guards[i].range.high)
                        side = OUTSIDE;
        }
        for (size_t i = 0; i < b->n_columns; i++)
                columns[i] = clip(columns[i], b->clip[i]);
        return b->n_members[OUTSIDE] > 0 ? side : INSIDE;
}

static double linear_part(const struct member *m, const double *columns)
{
        double y = m->bias;

        for (size_t i = 0; i < m->n_x; i++)
                y += m->x[i].c * columns[m->x[i].column];
        for (size_t i = 0; i < m->n_sqrt; i++)
                y += m->sqrt[i].c * sqrt(fabs(columns[m->sqrt[i].column]));
        return y;
}

/* Adds the trees' mean to what is in y. */
static void add_trees(const struct member *m, double (*rows)[BLEND_COLUMNS_MAX], size_t n, double *y)
{
        _Alignas(64) double blocks[2][PLAN_ROWS * BLEND_COLUMNS_MAX], sum[PLAN_ROWS] = { 0 };

        for (size_t t = 0; t < m->n_trees; t++) {
                size_t side = 0;

                for (size_t r = 0; r < n; r++)
                        for (size_t j = 0; j < m->n_columns; j++)
                                blocks[0][r * m->n_columns + j] = rows[r][m->columns[j]];
                for (size_t s = 0; s < m->trees[t].n_stages; s++, side = !side)
                        m->trees[t].stages[s].run(&m->trees[t].stages[s], blocks[side], blocks[!side], n);
                for (size_t r = 0; r < n; r++)
                        sum[r] += blocks[side][r];
        }
        for (size_t r = 0; r < n && m->n_trees > 0; r++)
                y[r] += sum[r] / (double)m->n_trees;
}

static void run_side(const struct blend *b, enum side side, double (*rows)[BLEND_COLUMNS_MAX], size_t n,
                     double *out)
{
        double total = 0;

        memset(out, 0, n * sizeof(*out));
        for (size_t i = 0; i < b->n_members[side]; i++) {
                const struct member *m = &b->members[side][i];
                double y[PLAN_ROWS];

                for (size_t r = 0; r < n; r++)
                        y[r] = linear_part(m, rows[r]);
                add_trees(m, rows, n, y);
                for (size_t r = 0; r < n; r++)
                        out[r] += m->weight * clip(y[r], b->output);
                total += m->weight;
        }
        for (size_t r = 0; r < n; r++)
                out[r] = clip(out[r] / total, b->output);
}

static void run_blend(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        const struct blend *b = s->data;
        double rows[SIDES][PLAN_ROWS][BLEND_COLUMNS_MAX], y[PLAN_ROWS];
        size_t from[SIDES][PLAN_ROWS], count[SIDES] = { 0 };

        for (size_t r = 0; r < n; r++) {
                double columns[BLEND_COLUMNS_MAX];
                enum side side = expand(b, in + r * s->n_in, columns);

                memcpy(rows[side][count[side]], columns, b->n_columns * sizeof(*columns));
                from[side][count[side]++] = r;
        }
        for (int side = 0; side < SIDES; side++) {
                if (count[side] == 0)
                        continue;
                run_side(b, (enum side)side, rows[side], count[side], y);
                for (size_t i = 0; i < count[side]; i++)
                        out[from[side][i]] = y[i];
        }
}

/* ---- loading ---- */

static int read_finite(const json_t *v, const char *what, double *ret, struct err *e)
{
        if (!json_is_number(v) || !isfinite(json_number_value(v)))
                return err_set(e, -EBADMSG, "%s: a number is missing", what);
        *ret = json_number_value(v);
        return 0;
}

static int read_index(const json_t *v, size_t limit, const char *what, size_t *ret, struct err *e)
{
        if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) >= limit)
                return err_set(e, -EBADMSG, "%s: a column's number is missing or too large", what);
        *ret = (size_t)json_integer_value(v);
        return 0;
}

static int read_range(const json_t *low, const json_t *high, const char *what, struct range *ret,
                      struct err *e)
{
        int r = read_finite(low, what, &ret->low, e);

        if (r == 0)
                r = read_finite(high, what, &ret->high, e);
        if (r == 0 && ret->low > ret->high)
                r = err_set(e, -EBADMSG, "%s: %g is more than %g", what, ret->low, ret->high);
        return r;
}

/* An array of at most `max` elements; one that is not there is empty when it may. */
static int read_array(const json_t *o, const char *key, size_t max, const json_t **ret, size_t *ret_n,
                      struct err *e)
{
        *ret = json_object_get(o, key);
        if (!json_is_array(*ret))
                return err_set(e, -EBADMSG, "'%s' is missing or not an array", key);
        *ret_n = json_array_size(*ret);
        if (*ret_n > max)
                return err_set(e, -E2BIG, "'%s' has more than %zu elements", key, max);
        return 0;
}

static int read_derived(struct blend *b, const json_t *o, struct err *e)
{
        const json_t *list;
        int r = read_array(o, "derived", BLEND_COLUMNS_MAX - b->n_features, &list, &b->n_derived, e);

        for (size_t i = 0; r == 0 && i < b->n_derived; i++) {
                const json_t *d = json_array_get(list, i);
                const char *op = json_string_value(json_array_get(d, 0));
                size_t before = b->n_features + i;

                b->derived[i].ratio = op && !strcmp(op, "ratio");
                if (!op || (!b->derived[i].ratio && strcmp(op, "difference")))
                        return err_set(e, -ENOTSUP, "derived column '%.40s' is not supported", op ? op : "");
                r = read_index(json_array_get(d, 1), before, "derived", &b->derived[i].a, e);
                if (r == 0)
                        r = read_index(json_array_get(d, 2), before, "derived", &b->derived[i].b, e);
        }
        b->n_columns = b->n_features + b->n_derived;
        return r;
}

static int read_clip(struct blend *b, const json_t *o, struct err *e)
{
        const json_t *list, *output = json_object_get(o, "output");
        size_t n;
        int r = read_array(o, "clip", BLEND_COLUMNS_MAX, &list, &n, e);

        if (r == 0 && n != b->n_columns)
                r = err_set(e, -EBADMSG, "'clip' has %zu ranges for %zu columns", n, b->n_columns);
        for (size_t i = 0; r == 0 && i < n; i++)
                r = read_range(json_array_get(json_array_get(list, i), 0),
                               json_array_get(json_array_get(list, i), 1), "clip", &b->clip[i], e);
        return r < 0 ? r
                     : read_range(json_array_get(output, 0), json_array_get(output, 1), "output", &b->output,
                                  e);
}

static int read_guards(struct blend *b, const json_t *o, struct err *e)
{
        const json_t *list;
        int r = read_array(o, "guards", BLEND_COLUMNS_MAX, &list, &b->n_guards, e);

        for (size_t i = 0; r == 0 && i < b->n_guards; i++) {
                const json_t *g = json_array_get(list, i);

                r = read_index(json_array_get(g, 0), b->n_columns, "guards", &b->guards[i].column, e);
                if (r == 0)
                        r = read_range(json_array_get(g, 1), json_array_get(g, 2), "guards",
                                       &b->guards[i].range, e);
        }
        return r;
}

static int read_terms(const struct blend *b, const json_t *o, const char *key, struct term *terms, size_t *n,
                      struct err *e)
{
        const json_t *list;
        int r = read_array(o, key, BLEND_COLUMNS_MAX, &list, n, e);

        for (size_t i = 0; r == 0 && i < *n; i++) {
                r = read_index(json_array_get(json_array_get(list, i), 0), b->n_columns, key,
                               &terms[i].column, e);
                if (r == 0)
                        r = read_finite(json_array_get(json_array_get(list, i), 1), key, &terms[i].c, e);
        }
        return r;
}

/* The stages that a tree file makes, taken out of the plan's row and kept for the member. */
static int read_tree_file(struct plan *plan, const struct model_archive *archive, const char *name,
                          size_t columns, struct trees *ret, struct err *e)
{
        const struct model_entry *file = name ? model_archive_find(archive, name) : NULL;
        size_t first = plan->n_stages, before = plan->columns;
        int r;

        if (!file)
                return err_set(e, -EBADMSG, "archive has no '%.100s'", name ? name : "");
        plan->columns = columns;
        r = xgboost_add(plan, file->data, file->size, e);
        if (r < 0)
                return err_prefix(e, r, "%.60s", name);
        ret->n_stages = plan->n_stages - first;
        if (ret->n_stages > TREE_STAGES_MAX)
                return err_set(e, -ENOTSUP, "'%.60s' has more than %d stages", name, TREE_STAGES_MAX);
        memcpy(ret->stages, plan->stages + first, ret->n_stages * sizeof(ret->stages[0]));
        memset(plan->stages + first, 0, ret->n_stages * sizeof(ret->stages[0]));
        plan->n_stages = first;
        plan->columns = before;
        return 0;
}

static int read_member(struct plan *plan, const struct model_archive *archive, const struct blend *b,
                       const json_t *o, struct member *m, struct err *e)
{
        const json_t *columns = NULL, *trees = NULL;
        int r = read_finite(json_object_get(o, "weight"), "weight", &m->weight, e);

        if (r == 0 && !(m->weight > 0))
                r = err_set(e, -EBADMSG, "a member's weight is not positive");
        if (r == 0)
                r = read_finite(json_object_get(o, "bias"), "bias", &m->bias, e);
        if (r == 0)
                r = read_terms(b, o, "x", m->x, &m->n_x, e);
        if (r == 0)
                r = read_terms(b, o, "sqrt", m->sqrt, &m->n_sqrt, e);
        if (r == 0)
                r = read_array(o, "columns", BLEND_COLUMNS_MAX, &columns, &m->n_columns, e);
        if (r == 0)
                r = read_array(o, "trees", BLEND_TREES_MAX, &trees, &m->n_trees, e);
        for (size_t i = 0; r == 0 && i < m->n_columns; i++)
                r = read_index(json_array_get(columns, i), b->n_columns, "columns", &m->columns[i], e);
        for (size_t i = 0; r == 0 && i < m->n_trees; i++)
                r = read_tree_file(plan, archive, json_string_value(json_array_get(trees, i)), m->n_columns,
                                   &m->trees[i], e);
        return r;
}

static int read_members(struct plan *plan, const struct model_archive *archive, struct blend *b,
                        const json_t *o, struct err *e)
{
        for (int side = 0; side < SIDES; side++) {
                const json_t *list;
                int r = read_array(o, side_names[side], BLEND_MEMBERS_MAX, &list, &b->n_members[side], e);

                for (size_t i = 0; r == 0 && i < b->n_members[side]; i++)
                        r = read_member(plan, archive, b, json_array_get(list, i), &b->members[side][i], e);
                if (r < 0)
                        return err_prefix(e, r, "%s", side_names[side]);
        }
        return b->n_members[INSIDE] > 0 ? 0 : err_set(e, -EBADMSG, "'inside' has no members");
}

static int read_head(const json_t *o, struct err *e)
{
        const char *format = NULL;
        long long version = 0;
        int r = json_get_string(o, "format", &format, e);

        if (r == 0)
                r = json_get_int(o, "version", &version, e);
        if (r < 0)
                return -EBADMSG;
        if (strcmp(format, "wattloop-blend"))
                return err_set(e, -EBADMSG, "format '%.40s' is not wattloop-blend", format);
        if (version != BLEND_VERSION)
                return err_set(e, -ENOTSUP, "wattloop-blend version %lld; this program knows %d", version,
                               BLEND_VERSION);
        return 0;
}

int blend_add(struct plan *plan, const struct model_archive *archive, const struct model_entry *file,
              struct err *e)
{
        struct blend *b = plan_calloc(plan, 1, sizeof(*b));
        CLEANUP(json_decrefp) json_t *o = NULL;
        struct plan_stage *s = NULL;
        int r;

        if (!b)
                return plan_no_memory(e);
        b->n_features = plan->columns;
        if (b->n_features > BLEND_COLUMNS_MAX)
                return err_set(e, -E2BIG, "more than %d columns", BLEND_COLUMNS_MAX);
        r = model_parse_entry(archive, file->name, &o, e);
        if (r == 0)
                r = read_head(o, e);
        if (r == 0)
                r = read_derived(b, o, e);
        if (r == 0)
                r = read_clip(b, o, e);
        if (r == 0)
                r = read_guards(b, o, e);
        if (r == 0)
                r = read_members(plan, archive, b, o, e);
        if (r == 0)
                r = plan_add(plan, 1, run_blend, &s, e);
        if (r < 0)
                return r;
        s->data = b;
        plan->scaled = true; /* it has ranges, which say as much as a scaler */
        for (size_t i = 0; i < b->n_features; i++)
                plan->typical[i] = fmax(fabs(b->clip[i].low), fabs(b->clip[i].high));
        plan->kind = "blend";
        (void)snprintf(plan->note, sizeof(plan->note), "%zu columns, %zu derived, %zu+%zu members",
                       b->n_columns, b->n_derived, b->n_members[INSIDE], b->n_members[OUTSIDE]);
        return 0;
}
