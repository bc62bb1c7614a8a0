/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/train/general.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model-server/train/archive.h"
#include "model-server/train/lsq.h"
#include "model/blend.h"

#define HUBER_WATTS    3.0
#define HEADROOM       0.1   /* of the range: how far above what was seen an estimate may be */
#define GUARD_TAIL     0.005 /* share of the rows beyond a guard's range, either side */
#define CPU_TIME       "bpf_cpu_time"
#define ROWS_PER_ROUND 5
#define ROUNDS_LEAST   25

const struct general_settings general_settings[] = {
        { "KubeletOnly", NULL, { 3, 60, 64, 0.1, 10, 0.8, 0.8, 1 }, 0.5, 1, true },
        { "CgroupOnly", NULL, { 3, 60, 64, 0.1, 10, 0.8, 0.8, 1 }, 0.5, 1, true },
        { "CounterOnly", "dram", { 5, 200, 64, 0.08, 5, 0.8, 0.8, 1 }, 0.5, 3, true },
        { "CounterIRQCombined", "dram", { 5, 200, 64, 0.08, 5, 0.8, 0.8, 1 }, 0.5, 3, true },
        { NULL, NULL, { 5, 150, 128, 0.1, 5, 0.8, 0.8, 1 }, 0.5, 3, true },
};

static bool matches(const char *wanted, const char *name)
{
        return !wanted || !strcmp(wanted, name);
}

const struct general_settings *general_settings_find(const char *group, const char *component)
{
        const struct general_settings *s = general_settings;

        while (!matches(s->group, group) || !matches(s->component, component))
                s++; /* the last one matches all */
        return s;
}

/* ---- columns ---- */

struct derived {
        const char *op; /* "ratio", "difference" */
        size_t a, b;
};

/* What a component's trees and lines are made of. */
struct columns {
        size_t n, n_features, n_derived;
        struct derived derived[BLEND_COLUMNS_MAX];
        bool timed[BLEND_COLUMNS_MAX]; /* depends on the CPU time */
        bool guard[BLEND_COLUMNS_MAX];
        double low[BLEND_COLUMNS_MAX], high[BLEND_COLUMNS_MAX];
        double guard_low[BLEND_COLUMNS_MAX], guard_high[BLEND_COLUMNS_MAX];
        double *values[BLEND_COLUMNS_MAX]; /* a column of the table's rows each, owned */
};

static void columns_done(struct columns *c)
{
        for (size_t i = 0; i < c->n; i++)
                free(c->values[i]);
}

static bool begins(const char *s, const char *with)
{
        return !strncmp(s, with, strlen(with));
}

static bool is_prev(const struct table *t, size_t j)
{
        return begins(t->features[j], PREV_PREFIX);
}

static bool is_timed(const char *feature)
{
        return begins(feature + (begins(feature, PREV_PREFIX) ? strlen(PREV_PREFIX) : 0), CPU_TIME);
}

static int find_prefix(const struct table *t, const char *with)
{
        for (size_t j = 0; j < t->p; j++)
                if (begins(t->features[j], with))
                        return (int)j;
        return -1;
}

static void derive(struct columns *c, const char *op, int a, int b, bool guard)
{
        size_t i = c->n_features + c->n_derived;

        if (a < 0 || b < 0 || i == BLEND_COLUMNS_MAX)
                return;
        c->derived[c->n_derived++] = (struct derived){ op, (size_t)a, (size_t)b };
        c->timed[i] = c->timed[a] || c->timed[b];
        c->guard[i] = guard;
}

static void choose_derived(const struct table *t, struct columns *c)
{
        static const struct {
                const char *a, *b;
        } ratios[] = { { "cpu_instructions", "cpu_cycles" },
                       { "cache_miss", "cpu_cycles" },
                       { "cache_miss", "cpu_instructions" },
                       { "cpu_cycles", CPU_TIME },
                       { "cpu_instructions", CPU_TIME } };

        for (size_t j = 0; j < t->p; j++)
                c->timed[j] = is_timed(t->features[j]);
        for (size_t i = 0; i < sizeof(ratios) / sizeof(ratios[0]); i++)
                derive(c, "ratio", find_prefix(t, ratios[i].a), find_prefix(t, ratios[i].b), i == 3);
        for (size_t j = 0; j < t->p; j++)
                if (is_prev(t, j))
                        derive(c, "difference", table_find(t, t->features[j] + strlen(PREV_PREFIX)), (int)j,
                               false);
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static int guard_range(const double *v, size_t n, double *low, double *high, struct err *e)
{
        CLEANUP(freep) double *sorted = calloc(n + 1, sizeof(*sorted));
        size_t tail = (size_t)(GUARD_TAIL * (double)n);

        if (!sorted)
                return err_set(e, -ENOMEM, "out of memory");
        memcpy(sorted, v, n * sizeof(*v));
        qsort(sorted, n, sizeof(*sorted), by_value);
        *low = sorted[tail];
        *high = sorted[n - 1 - tail];
        return 0;
}

static double derived_value(const struct columns *c, const struct derived *d, size_t i)
{
        double x = c->values[d->a][i], y = c->values[d->b][i];

        if (*d->op == 'd')
                return x - y;
        return y > 0 ? x / y : 0;
}

static int make_columns(const struct table *t, struct columns *c, struct err *e)
{
        size_t total;

        c->n_features = t->p;
        choose_derived(t, c);
        total = t->p + c->n_derived;
        while (c->n < total) {
                double *v = calloc(t->n + 1, sizeof(*v));
                size_t j = c->n;

                if (!v)
                        return err_set(e, -ENOMEM, "out of memory");
                c->values[c->n++] = v;
                c->low[j] = INFINITY;
                c->high[j] = -INFINITY;
                for (size_t i = 0; i < t->n; i++) {
                        v[i] = j < t->p ? t->x[i * t->p + j] : derived_value(c, &c->derived[j - t->p], i);
                        c->low[j] = fmin(c->low[j], v[i]);
                        c->high[j] = fmax(c->high[j], v[i]);
                }
                if (c->guard[j] && guard_range(v, t->n, &c->guard_low[j], &c->guard_high[j], e) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* ---- boosters ---- */

struct boosting {
        const struct general_settings *settings;
        const struct table *t;
        const struct columns *c;
        const char *component;
        uint32_t seed;
        struct model_archive *archive;
        struct boost_data *data; /* of the side at work */
        size_t *use, n_use;      /* its columns */
};

/* Few rows bear few rounds. */
static int rounds_for(const struct boost_parameters *p, size_t rows)
{
        int bearable = (int)(rows / ROWS_PER_ROUND);

        if (bearable < ROUNDS_LEAST)
                bearable = ROUNDS_LEAST;
        return bearable < p->rounds ? bearable : p->rounds;
}

static bool is_constant(const double *y, size_t n)
{
        for (size_t i = 1; i < n; i++)
                if (fabs(y[i] - y[0]) > 1e-9)
                        return false;
        return true;
}

static int to_floats(const double *v, size_t n, float **ret, struct err *e)
{
        float *f = calloc(n + 1, sizeof(*f));

        if (!f)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < n; i++)
                f[i] = (float)v[i];
        *ret = f;
        return 0;
}

/* The columns in use as XGBoost's matrix. */
static int open_data(struct boosting *b, struct err *e)
{
        CLEANUP(freep) float *x = calloc(b->t->n * b->n_use + 1, sizeof(*x));

        if (!x)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t k = 0; k < b->n_use; k++)
                for (size_t i = 0; i < b->t->n; i++)
                        x[i * b->n_use + k] = (float)b->c->values[b->use[k]][i];
        return boost_data_new(x, b->t->n, b->n_use, &b->data, e);
}

static int train_files(struct boosting *b, const char *label, const double *y, json_t *names, struct err *e)
{
        struct boost_parameters p = b->settings->boost;
        CLEANUP(freep) float *targets = NULL;
        int r = to_floats(y, b->t->n, &targets, e), seeds = b->settings->seeds;

        p.rounds = rounds_for(&p, b->t->n);
        if (r == 0 && is_constant(y, b->t->n))
                seeds = p.rounds = 1; /* nothing to learn */
        for (int k = 0; r == 0 && k < seeds; k++) {
                CLEANUP(buf_done) struct buf file = { 0 };
                char name[MODEL_ENTRY_NAME_MAX];

                buf_init(&file, BOOST_FILE_MAX);
                (void)snprintf(name, sizeof(name), "%s.%s.%d.ubj", b->component, label, k);
                r = boost_train(b->data, targets, table_mean(y, b->t->n), &p, b->seed + (uint32_t)k,
                                BOOST_UBJ, &file, e);
                if (r == 0)
                        r = archive_add(b->archive, name, file.data, file.size, e);
                (void)json_array_append_new(names, json_string(name));
        }
        return r;
}

/* ---- the linear part ---- */

struct line {
        size_t n;
        size_t column[BLEND_COLUMNS_MAX];
        double x[BLEND_COLUMNS_MAX], root[BLEND_COLUMNS_MAX], bias;
};

/* Huber's loss over [1, x, √x] of the plain features; y minus what it says into rest. */
static int fit_line(const struct boosting *b, bool timed, struct line *ret, double *rest, struct err *e)
{
        const struct columns *c = b->c;
        const struct lsq_options huber = { LOSS_HUBER, HUBER_WATTS, false };
        size_t n = b->t->n;
        CLEANUP(freep) double *values = calloc((2 * c->n_features + 1) * n + 1, sizeof(*values));
        struct design d = { .n = n, .p = 1, .y = b->t->y, .columns = { values } };
        double w[LSQ_COLUMNS_MAX], scale[BLEND_COLUMNS_MAX];
        struct line line = { 0 };
        int r;

        if (!values)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < n; i++)
                values[i] = 1;
        for (size_t j = 0; j < c->n_features; j++) {
                double *x = values + d.p * n, *root = x + n;

                scale[line.n] = fmax(fabs(c->low[j]), fabs(c->high[j]));
                if (is_prev(b->t, j) || (c->timed[j] && !timed) || !(scale[line.n] > 0))
                        continue;
                for (size_t i = 0; i < n; i++) {
                        x[i] = c->values[j][i] / scale[line.n];
                        root[i] = sqrt(fabs(x[i]));
                }
                d.columns[d.p++] = x;
                d.columns[d.p++] = root;
                line.column[line.n++] = j;
        }
        r = lsq_fit(&d, &huber, w, e);
        if (r < 0)
                return r;
        memcpy(rest, d.y, n * sizeof(*rest));
        for (size_t k = 0; k < d.p; k++)
                for (size_t i = 0; i < n; i++)
                        rest[i] -= w[k] * d.columns[k][i];
        line.bias = w[0];
        for (size_t k = 0; k < line.n; k++) {
                line.x[k] = w[1 + 2 * k] / scale[k];
                line.root[k] = w[2 + 2 * k] / sqrt(scale[k]);
        }
        *ret = line;
        return 0;
}

/* ---- the document ---- */

static json_t *terms(const struct line *line, const double *w)
{
        json_t *list = json_array();

        for (size_t k = 0; k < line->n; k++)
                (void)json_array_append_new(list, json_pack("[I, f]", (json_int_t)line->column[k], w[k]));
        return list;
}

static json_t *member(const struct boosting *b, double weight, const struct line *line, json_t *trees)
{
        json_t *columns = json_array();

        for (size_t k = 0; k < b->n_use; k++)
                (void)json_array_append_new(columns, json_integer((json_int_t)b->use[k]));
        return json_pack("{s:f, s:f, s:o, s:o, s:o, s:o}", "weight", weight, "bias", line->bias, "x",
                         terms(line, line->x), "sqrt", terms(line, line->root), "columns", columns, "trees",
                         trees);
}

/* The members of one side, which sees the CPU time or not. */
static int train_side(struct boosting *b, const char *side, bool timed, json_t *members, struct err *e)
{
        static const struct line none;
        CLEANUP(freep) double *rest = calloc(b->t->n + 1, sizeof(*rest));
        double corrected = b->settings->corrected;
        size_t use[BLEND_COLUMNS_MAX];
        char label[32];
        int r;

        if (!rest)
                return err_set(e, -ENOMEM, "out of memory");
        b->use = use;
        b->n_use = 0;
        for (size_t j = 0; j < b->c->n; j++)
                if (timed || !b->c->timed[j])
                        use[b->n_use++] = j;
        r = open_data(b, e);
        if (r == 0 && corrected < 1) {
                json_t *trees = json_array();

                (void)snprintf(label, sizeof(label), "%s.trees", side);
                r = train_files(b, label, b->t->y, trees, e);
                (void)json_array_append_new(members, member(b, 1 - corrected, &none, trees));
        }
        if (r == 0 && corrected > 0) {
                json_t *trees = json_array();
                struct line line = { 0 };

                (void)snprintf(label, sizeof(label), "%s.rest", side);
                r = fit_line(b, timed, &line, rest, e);
                if (r == 0)
                        r = train_files(b, label, rest, trees, e);
                (void)json_array_append_new(members, member(b, corrected, &line, trees));
        }
        boost_data_free(b->data);
        b->data = NULL;
        return r;
}

static json_t *make_document(const struct columns *c, const struct table *t, json_t *inside, json_t *outside)
{
        json_t *clip = json_array(), *derived = json_array(), *guards = json_array();
        double low = INFINITY, high = -INFINITY;

        for (size_t j = 0; j < c->n; j++) {
                (void)json_array_append_new(clip, json_pack("[f, f]", c->low[j], c->high[j]));
                if (c->guard[j])
                        (void)json_array_append_new(guards, json_pack("[I, f, f]", (json_int_t)j,
                                                                      c->guard_low[j], c->guard_high[j]));
        }
        for (size_t i = 0; i < c->n_derived; i++)
                (void)json_array_append_new(derived, json_pack("[s, I, I]", c->derived[i].op,
                                                               (json_int_t)c->derived[i].a,
                                                               (json_int_t)c->derived[i].b));
        for (size_t i = 0; i < t->n; i++) {
                low = fmin(low, t->y[i]);
                high = fmax(high, t->y[i]);
        }
        return json_pack("{s:s, s:i, s:o, s:o, s:[f, f], s:o, s:o, s:o}", "format", "wattloop-blend",
                         "version", BLEND_VERSION, "clip", clip, "derived", derived, "output", low,
                         high + HEADROOM * (high - low), "guards", guards, "inside", inside, "outside",
                         outside);
}

/* ---- the trainers ---- */

/* The table's columns that a model takes. */
static int choose_features(const struct general_settings *s, const struct table *t, bool prev,
                           struct table *ret, const char **ret_features, size_t *ret_n, struct err *e)
{
        size_t keep[TABLE_FEATURES_MAX], n = 0;

        for (size_t j = 0; j < t->p; j++) {
                const char *name = t->features[j] + (is_prev(t, j) ? strlen(PREV_PREFIX) : 0);

                if (is_prev(t, j) && !prev)
                        continue;
                if (s->core_only && (begins(name, "cgroupfs_") || begins(name, "kubelet_")) &&
                    (find_prefix(t, CPU_TIME) >= 0 || find_prefix(t, "cpu_") >= 0))
                        continue;
                ret_features[n] = t->features[j];
                keep[n++] = j;
        }
        if (t->n < 2 || n == 0)
                return err_set(e, -EDOM, "%zu rows of %zu features are too few to train on", t->n, n);
        *ret_n = n;
        return table_select(t, NULL, true, keep, n, ret, e);
}

int general_train_blend(const struct general_settings *s, const struct table *all, const char *component,
                        uint32_t seed, struct model_archive *archive, const char **ret_features,
                        size_t *ret_n, struct err *e)
{
        CLEANUP(columns_done) struct columns c = { 0 };
        CLEANUP(json_decrefp) json_t *document = NULL;
        CLEANUP(table_done) struct table t = { 0 };
        struct boosting b = { s, &t, &c, component, seed, archive, NULL, NULL, 0 };
        json_t *inside = json_array(), *outside = json_array();
        bool guarded = false;
        char name[MODEL_ENTRY_NAME_MAX];
        int r = choose_features(s, all, true, &t, ret_features, ret_n, e);

        if (r == 0)
                r = make_columns(&t, &c, e);
        if (r == 0)
                r = train_side(&b, "inside", true, inside, e);
        for (size_t j = 0; j < c.n; j++)
                guarded |= c.guard[j];
        if (r == 0 && guarded)
                r = train_side(&b, "outside", false, outside, e);
        document = make_document(&c, &t, inside, outside);
        (void)snprintf(name, sizeof(name), "%s.json", component);
        return r < 0 ? r : archive_add_json(archive, name, document, e);
}

int general_train_plain(const struct general_settings *s, const struct table *all, const char *component,
                        uint32_t seed, struct model_archive *archive, const char **ret_features,
                        size_t *ret_n, struct err *e)
{
        CLEANUP(boost_data_freep) struct boost_data *data = NULL;
        CLEANUP(freep) float *x = NULL, *y = NULL;
        CLEANUP(table_done) struct table t = { 0 };
        CLEANUP(buf_done) struct buf file = { 0 };
        struct boost_parameters p = s->boost;
        char name[MODEL_ENTRY_NAME_MAX];
        int r = choose_features(s, all, false, &t, ret_features, ret_n, e);

        if (r == 0)
                r = to_floats(t.x, t.n * t.p, &x, e);
        if (r == 0)
                r = to_floats(t.y, t.n, &y, e);
        if (r == 0)
                r = boost_data_new(x, t.n, t.p, &data, e);
        if (r < 0)
                return r;
        p.rounds = is_constant(t.y, t.n) ? 1 : rounds_for(&p, t.n);
        buf_init(&file, BOOST_FILE_MAX);
        r = boost_train(data, y, table_mean(t.y, t.n), &p, seed, BOOST_JSON, &file, e);
        (void)snprintf(name, sizeof(name), "%s.json", component);
        return r < 0 ? r : archive_add(archive, name, file.data, file.size, e);
}
