/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/data/recording.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/num.h"
#include "model-server/ingest/batch.h"
#include "model-server/store.h"

#define GAP_STEPS 2.5 /* an interval longer than so many of the usual ones is a gap */

enum what { WHAT_FEATURE, WHAT_ENERGY, WHAT_NODE_TYPE };

struct series {
        enum what what;
        int index; /* enum feature_id or component_id */
        int node;
        struct sample *samples; /* owned; by time */
        size_t n, next;
};

struct parsed {
        struct series *items; /* owned */
        size_t n, cap, samples;
        char **nodes; /* owned: instances with energy */
        size_t nodes_n;
        bool energy; /* being collected; then features, which may only name known nodes */
};

static void parsed_done(struct parsed *p)
{
        for (size_t i = 0; i < p->n; i++)
                free(p->items[i].samples);
        for (size_t i = 0; i < p->nodes_n; i++)
                free(p->nodes[i]);
        free(p->items);
        free(p->nodes);
}

static const char *label(const json_t *metric, const char *name)
{
        const char *text = json_string_value(json_object_get(metric, name));

        return text ? text : "";
}

static int find_node(struct parsed *p, const char *name, struct err *e)
{
        char **nodes;

        for (size_t i = 0; i < p->nodes_n; i++)
                if (!strcmp(p->nodes[i], name))
                        return (int)i;
        if (!p->energy)
                return p->nodes_n == 1
                               ? 0
                               : -ENOENT; /* of one machine, whatever its containers' scrape is called */
        nodes = realloc(p->nodes, (p->nodes_n + 1) * sizeof(*nodes));
        if (!nodes)
                return err_set(e, -ENOMEM, "out of memory");
        p->nodes = nodes;
        nodes[p->nodes_n] = strdup(name);
        return nodes[p->nodes_n] ? (int)p->nodes_n++ : err_set(e, -ENOMEM, "out of memory");
}

static int by_time(const void *a, const void *b)
{
        const struct sample *x = a, *y = b;

        return (x->ts_ms > y->ts_ms) - (x->ts_ms < y->ts_ms);
}

static bool read_number(const json_t *value, double *ret)
{
        if (json_is_string(value))
                return num_parse_double(json_string_value(value), ret) == 0; /* not NaN, not infinite */
        if (!json_is_number(value))
                return false;
        *ret = json_number_value(value);
        return isfinite(*ret);
}

static int read_samples(const json_t *values, struct series *s, struct err *e)
{
        size_t n = json_array_size(values), unique = 0;

        s->samples = malloc((n + 1) * sizeof(*s->samples));
        if (!s->samples)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < n; i++) {
                const json_t *pair = json_array_get(values, i);
                double ts, value;

                if (json_array_size(pair) != 2 || !json_is_number(json_array_get(pair, 0)))
                        return err_set(e, -EBADMSG, "value %zu is not [time, \"number\"]", i);
                ts = json_number_value(json_array_get(pair, 0));
                if (!(ts >= 0) || ts * 1000 > (double)BATCH_TS_MAX_MS)
                        return err_set(e, -EBADMSG, "value %zu: its time is not in seconds since 1970", i);
                if (!json_is_string(json_array_get(pair, 1)) && !json_is_number(json_array_get(pair, 1)))
                        return err_set(e, -EBADMSG, "value %zu is not [time, \"number\"]", i);
                if (read_number(json_array_get(pair, 1), &value))
                        s->samples[s->n++] = (struct sample){ (int64_t)llround(ts * 1000), value };
        }
        qsort(s->samples, s->n, sizeof(*s->samples), by_time);
        for (size_t i = 0; i < s->n; i++)
                if (!unique || s->samples[unique - 1].ts_ms != s->samples[i].ts_ms)
                        s->samples[unique++] = s->samples[i];
        s->n = unique;
        return 0;
}

static int add_series(struct parsed *p, const json_t *result, enum what what, int index, int node,
                      struct err *e)
{
        const json_t *values = json_object_get(result, "values");
        struct series *s;

        if (!json_is_array(values))
                return err_set(e, -EBADMSG, "a series without values: the result of a range query is needed");
        if (p->n == RECORDING_SERIES_MAX || p->samples + json_array_size(values) > RECORDING_SAMPLES_MAX)
                return err_set(e, -E2BIG, "more than %d series or %zu samples", RECORDING_SERIES_MAX,
                               RECORDING_SAMPLES_MAX);
        if (p->n == p->cap) {
                size_t cap = p->cap ? 2 * p->cap : 64;

                s = realloc(p->items, cap * sizeof(*s));
                if (!s)
                        return err_set(e, -ENOMEM, "out of memory");
                p->items = s;
                p->cap = cap;
        }
        s = &p->items[p->n++];
        *s = (struct series){ .what = what, .index = index, .node = node };
        p->samples += json_array_size(values);
        return read_samples(values, s, e);
}

static bool is_wanted(const struct recording_query *q, enum what what, const json_t *metric)
{
        bool vm = !strcmp(label(metric, "job"), q->vm_job);

        if (vm != q->virtual_machines)
                return false;
        if (what == WHAT_ENERGY && !q->virtual_machines &&
            strcmp(label(metric, "source"), q->source->name) != 0)
                return false;
        return what != WHAT_FEATURE || !q->background ||
               !json_object_get(q->background, label(metric, "container_name"));
}

/* All series of one metric. */
static int add_metric(struct parsed *p, const json_t *recording, const struct recording_query *q,
                      const char *name, enum what what, int index, struct err *e)
{
        const json_t *results = json_object_get(recording, name);
        int r = 0;

        if (results && !json_is_array(results))
                return err_set(e, -EBADMSG, "'%s' is not an array of series", name);
        for (size_t i = 0; r >= 0 && i < json_array_size(results); i++) {
                const json_t *result = json_array_get(results, i),
                             *metric = json_object_get(result, "metric");

                if (!json_is_object(metric))
                        r = err_set(e, -EBADMSG, "series %zu has no metric", i);
                if (r == 0 && !is_wanted(q, what, metric))
                        continue;
                if (r == 0)
                        r = find_node(p, label(metric, "instance"), e);
                if (r == -ENOENT)
                        r = 0;
                else if (r >= 0)
                        r = add_series(p, result, what, index, r, e);
                if (r < 0)
                        return err_prefix(e, r, "%s", name);
        }
        return 0;
}

static int parse_all(const json_t *recording, const struct recording_query *q, struct parsed *p,
                     struct err *e)
{
        char name[METRIC_NAME_MAX];
        int r = 0;

        if (!json_is_object(recording))
                return err_set(e, -EBADMSG, "a recording is an object from metric name to series");
        p->energy = true;
        for (size_t i = 0; r == 0 && i < q->source->n; i++) {
                (void)snprintf(name, sizeof(name), "kepler_%s_%s_joules_total",
                               q->virtual_machines ? "vm" : "node", q->source->components[i]);
                r = add_metric(p, recording, q, name, WHAT_ENERGY, component_find(q->source->components[i]),
                               e);
        }
        p->energy = false;
        for (int f = 0; r == 0 && f < FEATURE_N; f++) {
                (void)snprintf(name, sizeof(name), "kepler_%s_%s_total",
                               q->virtual_machines ? "process" : "container", features[f].name);
                r = add_metric(p, recording, q, name, WHAT_FEATURE, f, e);
        }
        return r < 0 ? r : add_metric(p, recording, q, "kepler_node_node_info", WHAT_NODE_TYPE, 0, e);
}

static int by_value(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return (x > y) - (x < y);
}

/* The node's clock: all times of its energy samples. */
static int make_grid(const struct parsed *p, int node, int64_t **ret, size_t *ret_n, struct err *e)
{
        CLEANUP(freep) int64_t *grid = NULL;
        size_t n = 0, unique = 0;

        for (size_t i = 0; i < p->n; i++)
                if (p->items[i].what == WHAT_ENERGY && p->items[i].node == node)
                        n += p->items[i].n;
        grid = malloc((n + 1) * sizeof(*grid));
        if (!grid)
                return err_set(e, -ENOMEM, "out of memory");
        n = 0;
        for (size_t i = 0; i < p->n; i++)
                for (size_t j = 0;
                     p->items[i].what == WHAT_ENERGY && p->items[i].node == node && j < p->items[i].n; j++)
                        grid[n++] = p->items[i].samples[j].ts_ms;
        qsort(grid, n, sizeof(*grid), by_value);
        for (size_t i = 0; i < n; i++)
                if (!unique || grid[unique - 1] != grid[i])
                        grid[unique++] = grid[i];
        *ret_n = unique;
        *ret = TAKE(grid);
        return 0;
}

static int median_step(const int64_t *grid, size_t n, double *ret, struct err *e)
{
        CLEANUP(freep) int64_t *steps = malloc((n + 1) * sizeof(*steps));

        if (!steps)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 1; i < n; i++)
                steps[i - 1] = grid[i] - grid[i - 1];
        qsort(steps, n - 1, sizeof(*steps), by_value);
        *ret = (double)steps[(n - 1) / 2];
        return 0;
}

/* What one series did between a and b. */
struct step {
        const struct sample *before, *last; /* at or before a; in (a, b]; NULL: none */
        bool begins;                        /* its first sample is in (a, b] */
};

static struct step step_series(struct series *s, int64_t a, int64_t b)
{
        struct step step = { 0 };
        size_t first;

        while (s->next < s->n && s->samples[s->next].ts_ms <= a)
                s->next++;
        first = s->next;
        step.before = first ? &s->samples[first - 1] : NULL;
        step.begins = !first;
        while (s->next < s->n && s->samples[s->next].ts_ms <= b)
                s->next++;
        step.last = s->next > first ? &s->samples[s->next - 1] : NULL;
        return step;
}

/* False: the interval gives no row. */
static bool add_step(const struct series *s, const struct step *step, int64_t a, int64_t b, struct row *row)
{
        double delta;

        if (s->what == WHAT_NODE_TYPE) {
                const struct sample *now = step->last ? step->last : step->before;

                if (now && now->value >= 0 && now->value < NODE_TYPES_MAX)
                        row->node_type = (int)now->value;
                return true;
        }
        if (s->what == WHAT_FEATURE) {
                if (!step->last)
                        return step->begins ||
                               s->next == s->n; /* to come, or gone; else a sample is missing */
                if (step->before && step->before->ts_ms < a)
                        return false; /* a sample was missing: what happened when is not known */
                delta = step->last->value - (step->begins ? 0 : step->before->value);
                row->features[s->index] += delta;
                row->has_feature |= 1u << s->index;
                return delta >= 0;
        }
        if (!step->before || !step->last || step->before->ts_ms != a || step->last->ts_ms != b)
                return false; /* energy is never carried over a missing sample */
        delta = step->last->value - step->before->value;
        row->watts[s->index] += delta;
        row->has_watts |= 1u << s->index;
        return delta >= 0;
}

static bool is_believable(const struct row *row)
{
        double watts = 0;

        for (int f = 0; f < FEATURE_N; f++)
                if (!(row->features[f] <= ROW_FEATURE_MAX))
                        return false;
        for (int c = 0; c < COMPONENT_N; c++) {
                if (!(row->watts[c] <= ROW_WATTS_MAX))
                        return false;
                watts += row->watts[c];
        }
        return watts > 0; /* as upstream: a machine that draws nothing was not measured */
}

/* Containers there from the start have done something before, nobody knows what. */
static void skip_to(struct parsed *p, int node, int64_t start)
{
        for (size_t i = 0; i < p->n; i++) {
                struct series *s = &p->items[i];

                while (s->node == node && s->next < s->n && s->samples[s->next].ts_ms <= start)
                        s->next++;
        }
}

static int extract_node(struct parsed *p, int node, struct dataset *ret, uint64_t *skipped, struct err *e)
{
        CLEANUP(freep) int64_t *grid = NULL;
        int at = dataset_node(ret, p->nodes[node], e), r;
        uint64_t turn = 0;
        double usual = 0;
        size_t n = 0;

        r = at < 0 ? at : make_grid(p, node, &grid, &n, e);
        if (r < 0 || n < 2)
                return r;
        r = median_step(grid, n, &usual, e);
        if (r < 0)
                return r;
        skip_to(p, node, grid[0]);
        for (size_t i = 1; r == 0 && i < n; i++) {
                struct example x = { .node = at, .row_id = (int64_t)ret->n };
                bool good = (double)(grid[i] - grid[i - 1]) <= GAP_STEPS * usual;

                x.row = (struct row){ .start_ms = grid[i - 1],
                                      .end_ms = grid[i],
                                      .seconds = (double)(grid[i] - grid[i - 1]) / 1000,
                                      .definition = "kepler-0.7" };
                for (size_t j = 0; j < p->n; j++) {
                        struct step step;

                        if (p->items[j].node != node)
                                continue;
                        step = step_series(&p->items[j], grid[i - 1], grid[i]);
                        good &= add_step(&p->items[j], &step, grid[i - 1], grid[i], &x.row);
                }
                for (int f = 0; f < FEATURE_N; f++)
                        x.row.features[f] /= x.row.seconds;
                for (int c = 0; c < COMPONENT_N; c++)
                        x.row.watts[c] /= x.row.seconds;
                if (!good || !x.row.has_feature || !is_believable(&x.row)) {
                        (*skipped)++;
                        continue;
                }
                x.turn = turn++;
                r = dataset_add(ret, &x, e);
        }
        return r;
}

/* A feature that the node has at all is 0 where none of its containers was sampled, and a group needs all of
 * its. */
static void complete_features(struct dataset *data)
{
        for (size_t node = 0; node < data->nodes_n; node++) {
                unsigned int has = 0;

                for (size_t i = 0; i < data->n; i++)
                        has |= data->rows[i].node == (int)node ? data->rows[i].row.has_feature : 0;
                for (size_t i = 0; i < data->n; i++)
                        if (data->rows[i].node == (int)node)
                                data->rows[i].row.has_feature = has;
        }
}

int recording_extract(const json_t *recording, const struct recording_query *q, struct dataset *ret,
                      uint64_t *ret_skipped, struct err *e)
{
        CLEANUP(parsed_done) struct parsed p = { 0 };
        CLEANUP(dataset_done) struct dataset data = { 0 };
        uint64_t skipped = 0;
        int r = parse_all(recording, q, &p, e);

        for (size_t node = 0; r == 0 && node < p.nodes_n; node++)
                r = extract_node(&p, (int)node, &data, &skipped, e);
        if (r < 0)
                return r;
        complete_features(&data);
        *ret_skipped = skipped;
        *ret = data;
        data = (struct dataset){ 0 };
        return 0;
}

json_t *recording_containers(const json_t *recording)
{
        json_t *names = json_object();
        const json_t *results;
        const char *metric;

        json_object_foreach ((json_t *)(uintptr_t)recording, metric, results) {
                if (strncmp(metric, "kepler_container_", strlen("kepler_container_")) != 0)
                        continue;
                for (size_t i = 0; i < json_array_size(results); i++) {
                        const char *name = label(json_object_get(json_array_get(results, i), "metric"),
                                                 "container_name");

                        if (*name)
                                (void)json_object_set_new(names, name, json_true());
                }
        }
        return names;
}
