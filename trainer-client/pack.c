/* SPDX-License-Identifier: Apache-2.0 */
/* Which samples a series gets:
 *  - one at the end of each interval in which it has a row;
 *  - one at the start of the epoch's first interval: zero, for what is there;
 *  - one at the start of an interval behind a gap: where the total stood before the gap, so that what
 * happened inside the gap is attributed to nothing;
 *  - for a container that was never there before: zero at the start of its first interval. */
#include "trainer-client/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "common/json.h"

#define PACK_METRIC_MAX ((size_t)64 << 20) /* bytes of all label sets of a batch */
#define BATCH_VERSION   "1"
#define JOB             "wattloop"

/* ---- ownership ---- */

struct pack_batch *pack_batch_new(void)
{
        return calloc(1, sizeof(struct pack_batch));
}

void pack_batch_free(struct pack_batch *b)
{
        if (!b)
                return;
        for (size_t i = 0; i < b->n_intervals; i++) {
                free(b->intervals[i].feature_source);
                free(b->intervals[i].definition);
        }
        for (size_t i = 0; i < b->n_entities; i++) {
                free(b->entities[i].key);
                free(b->entities[i].pod_name);
                free(b->entities[i].container_name);
                free(b->entities[i].container_namespace);
        }
        for (size_t i = 0; i < b->n_sensors; i++) {
                free(b->sensors[i].source);
                free(b->sensors[i].component);
                free(b->sensors[i].unit);
        }
        free(b->node.epoch);
        free(b->node.boot_id);
        free(b->node.node_id);
        free(b->node.node_name);
        free(b->intervals);
        free(b->entities);
        free(b->sensors);
        free(b->usage);
        free(b->power);
        free(b);
}

size_t pack_batch_first(const struct pack_batch *b)
{
        return b->has_previous ? 1 : 0;
}

size_t pack_batch_size(const struct pack_batch *b)
{
        return b->n_intervals - pack_batch_first(b);
}

/* ---- what kind of start an interval is ---- */

enum start {
        START_CONTIGUOUS, /* the sample before it is at its start already, or nothing is known */
        START_EPOCH,
        START_AFTER_GAP,
};

/* The totals of duration_ns in the epoch, so the two are equal in the epoch's first interval only. */
static bool is_first_of_epoch(const struct pack_interval *i)
{
        return i->measured_ns == i->duration_ns;
}

static enum start start_of(const struct pack_batch *b, size_t i)
{
        if (is_first_of_epoch(&b->intervals[i]))
                return START_EPOCH;
        if (i > 0 && b->intervals[i].start_ms > b->intervals[i - 1].end_ms)
                return START_AFTER_GAP;
        return START_CONTIGUOUS;
}

/* ---- series ---- */

enum what {
        WHAT_USAGE,    /* a: entity, b: feature */
        WHAT_POWER,    /* a: sensor, b: idle */
        WHAT_INFO,     /* - */
        WHAT_IDENTITY, /* a: interval whose way of measuring it names */
        WHAT_MEASURED, /* - */
};

/* A series that the batch may have: its name first, its samples when its turn comes. */
struct plan {
        enum what what;
        size_t a, b;
        size_t metric, metric_size; /* in packing.metrics */
        struct pack_label label[PACK_LABELS_MAX];
        size_t n_labels;
        const char *text; /* packing.metrics.data + metric, once it stands still */
};

struct packing {
        const struct pack_batch *batch;
        struct plan *plan; /* owned */
        size_t n, cap;
        struct buf metrics;
        const struct pack_usage **rows;                       /* owned; by entity, then interval */
        size_t *rows_end;                                     /* owned; of entity i in rows */
        char cores[16], chips[16], memory[16], frequency[16]; /* the node's spec; "" unknown */
        char (*name)[METRIC_NAME_MAX]; /* owned; of the features, then of the sensors */
        struct pack_sample *samples;   /* owned; of the series whose turn it is */
        size_t n_samples;
};

static int by_label_name(const void *a, const void *b)
{
        return strcmp(((const struct pack_label *)a)->name, ((const struct pack_label *)b)->name);
}

/* The label set as JSON: these labels and the node's, sorted ("__name__" comes first by itself). */
static void plan_name(struct packing *p, struct plan *plan, const char *name, const struct pack_label *labels)
{
        const struct pack_node *node = &p->batch->node;
        struct pack_label all[PACK_LABELS_MAX] = {
                { "__name__", name }, { "epoch", node->epoch },     { "instance", node->node_name },
                { "job", JOB },       { "node_id", node->node_id },
        };
        size_t n = 5;

        for (; labels && labels->name && n < PACK_LABELS_MAX; labels++)
                if (labels->value)
                        all[n++] = *labels;
        qsort(all, n, sizeof(all[0]), by_label_name);
        memcpy(plan->label, all, sizeof(all));
        plan->n_labels = n;

        plan->metric = p->metrics.size;
        (void)buf_puts(&p->metrics, "{"); /* failure is sticky in the buffer */
        for (size_t i = 0; i < n; i++) {
                (void)buf_puts(&p->metrics, i > 0 ? "," : "");
                (void)json_write_string(&p->metrics, all[i].name);
                (void)buf_puts(&p->metrics, ":");
                (void)json_write_string(&p->metrics, all[i].value);
        }
        (void)buf_puts(&p->metrics, "}");
        plan->metric_size = p->metrics.size - plan->metric;
}

static int add_plan(struct packing *p, enum what what, size_t a, size_t b, const char *name,
                    const struct pack_label *labels)
{
        struct plan *longer;

        if (p->n == p->cap) {
                longer = reallocarray(p->plan, p->cap ? 2 * p->cap : 64, sizeof(*longer));
                if (!longer)
                        return -ENOMEM;
                p->plan = longer;
                p->cap = p->cap ? 2 * p->cap : 64;
        }
        p->plan[p->n] = (struct plan){ .what = what, .a = a, .b = b };
        plan_name(p, &p->plan[p->n++], name, labels);
        return p->metrics.failed;
}

static int by_metric(const void *a, const void *b)
{
        const struct plan *x = a, *y = b;
        size_t n = x->metric_size < y->metric_size ? x->metric_size : y->metric_size;
        int r = memcmp(x->text, y->text, n);

        return r != 0 ? r : (x->metric_size > y->metric_size) - (x->metric_size < y->metric_size);
}

/* At most two samples an interval, so the array is large enough from the beginning. */
static void add_sample(struct packing *p, int64_t ts_ms, int64_t total)
{
        p->samples[p->n_samples++] = (struct pack_sample){ ts_ms, total };
}

/* ---- containers ---- */

/* The sample at an interval's start, if the series has one. `before` is the entity's row in the interval
 * before, NULL when it has none; `is_new`: it never had one. */
static void add_usage_start(struct packing *p, const struct pack_usage *row, const struct pack_usage *before,
                            bool is_new, size_t f)
{
        const struct pack_batch *b = p->batch;
        enum start start = start_of(b, row->interval);
        int64_t start_ms = b->intervals[row->interval].start_ms;

        if (start == START_EPOCH || is_new)
                add_sample(p, start_ms, 0);
        else if (start == START_AFTER_GAP && before && before->has[f])
                add_sample(p, start_ms, before->value[f]);
}

/* Did the entity appear in this row, its first in the batch? When retention removed what came before the
 * batch, nobody can tell. */
static bool is_new_in(const struct pack_batch *b, const struct pack_usage *row)
{
        return row->interval > 0 && !b->entities[row->entity].seen_before &&
               (b->has_previous || is_first_of_epoch(&b->intervals[0]));
}

static void fill_usage(struct packing *p, size_t entity, size_t f)
{
        const struct pack_batch *b = p->batch;
        const struct pack_usage *const *rows = p->rows + (entity > 0 ? p->rows_end[entity - 1] : 0);
        size_t n = p->rows_end[entity] - (entity > 0 ? p->rows_end[entity - 1] : 0);

        for (size_t i = 0; i < n; i++) {
                const struct pack_usage *row = rows[i], *before = NULL;
                bool is_new = i == 0 && is_new_in(b, row);

                if (row->interval < pack_batch_first(b) || !row->has[f])
                        continue;
                if (i > 0 && rows[i - 1]->interval + 1 == row->interval)
                        before = rows[i - 1];
                add_usage_start(p, row, before, is_new, f);
                add_sample(p, b->intervals[row->interval].end_ms, row->value[f]);
        }
}

/* Rows come ordered by interval; a series needs them by entity. */
static int sort_rows(struct packing *p)
{
        const struct pack_batch *b = p->batch;

        p->rows = calloc(b->n_usage + 1, sizeof(struct pack_usage *));
        p->rows_end = calloc(b->n_entities + 1, sizeof(*p->rows_end));
        if (!p->rows || !p->rows_end)
                return -ENOMEM;
        for (size_t i = 0; i < b->n_usage; i++)
                p->rows_end[b->usage[i].entity + 1]++;
        for (size_t i = 0; i < b->n_entities; i++)
                p->rows_end[i + 1] += p->rows_end[i]; /* now where entity i's rows begin ... */
        for (size_t i = 0; i < b->n_usage; i++)
                p->rows[p->rows_end[b->usage[i].entity]++] =
                        &b->usage[i]; /* ... and where they end once all are placed */
        return 0;
}

static int plan_entities(struct packing *p)
{
        const struct pack_batch *b = p->batch;
        int r = 0;

        for (int f = 0; f < FEATURE_N && r >= 0; f++)
                r = metric_container_feature(p->name[f], features[f].name);
        for (size_t i = 0; i < b->n_entities && r >= 0; i++) {
                const struct pack_entity *c = &b->entities[i];
                const struct pack_label labels[] = {
                        { "container_id", c->key },
                        { "container_name", c->container_name },
                        { "container_namespace", c->container_namespace },
                        { "pod_name", c->pod_name },
                        { "source", "bpf" },
                        { NULL, NULL },
                };

                for (size_t f = 0; f < FEATURE_N && r >= 0 && c->is_container; f++)
                        r = add_plan(p, WHAT_USAGE, i, f, p->name[f], labels);
        }
        return r < 0 ? r : 0;
}

/* ---- power ---- */

static int64_t microjoules(const struct pack_power *p, bool idle)
{
        return idle ? p->idle_uj : p->energy_uj - p->idle_uj;
}

static void fill_power(struct packing *p, size_t sensor, bool idle)
{
        const struct pack_batch *b = p->batch;
        const struct pack_power *before = NULL;

        for (size_t i = 0; i < b->n_power; i++) {
                const struct pack_power *row = &b->power[i];
                const struct pack_interval *interval = &b->intervals[row->interval];
                enum start start;

                if (row->sensor != sensor)
                        continue;
                start = start_of(b, row->interval);
                if (before && before->interval + 1 != row->interval)
                        before = NULL;
                if (row->interval >= pack_batch_first(b)) {
                        if (start == START_EPOCH)
                                add_sample(p, interval->start_ms, 0);
                        else if (start == START_AFTER_GAP && before)
                                add_sample(p, interval->start_ms, microjoules(before, idle));
                        add_sample(p, interval->end_ms, microjoules(row, idle));
                }
                before = row;
        }
}

static int plan_sensors(struct packing *p)
{
        const struct pack_batch *b = p->batch;
        int r = 0;

        for (size_t i = 0; i < 2 * b->n_sensors && r >= 0; i++) {
                const struct pack_sensor *sensor = &b->sensors[i / 2];
                bool idle = i % 2;
                char *name = p->name[FEATURE_N + i / 2];
                const struct pack_label labels[] = {
                        { "mode", idle ? "idle" : "dynamic" },
                        { "package", sensor->unit },
                        { "source", wire_source(sensor->source, sensor->provenance) },
                        { NULL, NULL },
                };

                r = metric_node_energy(name, sensor->component);
                if (r >= 0)
                        r = add_plan(p, WHAT_POWER, i / 2, idle, name, labels);
        }
        return r < 0 ? r : 0;
}

/* ---- the node ---- */

/* Where the power of an energy source's components comes from: of what is in the batch, the best provenance.
 */
static const char *power_source(const struct pack_batch *b, const char *energy_source)
{
        const struct pack_sensor *best = NULL;

        for (size_t i = 0; i < b->n_power; i++) {
                const struct pack_sensor *p = &b->sensors[b->power[i].sensor];
                const char *trains = energy_source_of_component(p->component);

                if (b->power[i].interval < pack_batch_first(b) || !trains ||
                    strcmp(trains, energy_source) != 0)
                        continue;
                if (!best || p->provenance < best->provenance)
                        best = p;
        }
        return best ? wire_source(best->source, best->provenance) : "none";
}

/* A constant 1 at each interval for which `like` (NULL: any) has the same definition and feature source. */
static void fill_constant(struct packing *p, const struct pack_interval *like)
{
        const struct pack_batch *b = p->batch;

        for (size_t i = pack_batch_first(b); i < b->n_intervals; i++) {
                const struct pack_interval *interval = &b->intervals[i];

                if (like && (strcmp(like->definition, interval->definition) != 0 ||
                             strcmp(like->feature_source, interval->feature_source) != 0))
                        continue;
                if (start_of(b, i) != START_CONTIGUOUS)
                        add_sample(p, interval->start_ms, 1);
                add_sample(p, interval->end_ms, 1);
        }
}

static int plan_info(struct packing *p)
{
        const struct pack_label labels[] = {
                { "components_power_source", power_source(p->batch, "rapl-sysfs") },
                { "cpu_architecture", p->batch->node.cpu_architecture },
                { "platform_power_source", power_source(p->batch, "acpi") },
                { "source", "os" },
                { NULL, NULL },
        };

        return add_plan(p, WHAT_INFO, 0, 0, "kepler_node_info", labels);
}

static const char *known(const char *text)
{
        return *text ? text : NULL; /* a label that is NULL is left out */
}

static int plan_identity(struct packing *p, size_t like)
{
        const struct pack_node *node = &p->batch->node;
        const struct pack_label labels[] = {
                { "batch_version", BATCH_VERSION },
                { "boot_id", node->boot_id },
                { "chips", known(p->chips) },
                { "cores", known(p->cores) },
                { "definition", p->batch->intervals[like].definition },
                { "feature_source", p->batch->intervals[like].feature_source },
                { "frequency", known(p->frequency) },
                { "memory", known(p->memory) },
                { "processor", known(node->spec.processor) },
                { NULL, NULL },
        };

        return add_plan(p, WHAT_IDENTITY, like, 0, "wattloop_node", labels);
}

/* One series for each way of measuring that occurs in the batch. */
static int plan_identities(struct packing *p)
{
        const struct pack_batch *b = p->batch;
        size_t first = p->n;
        int r = 0;

        for (size_t i = pack_batch_first(b); i < b->n_intervals && r == 0; i++) {
                bool seen = false;

                for (size_t j = first; j < p->n && !seen; j++) {
                        const struct pack_interval *known_way = &b->intervals[p->plan[j].a];

                        seen = strcmp(known_way->definition, b->intervals[i].definition) == 0 &&
                               strcmp(known_way->feature_source, b->intervals[i].feature_source) == 0;
                }
                if (!seen)
                        r = plan_identity(p, i);
        }
        return r;
}

static void fill_measured(struct packing *p)
{
        const struct pack_batch *b = p->batch;

        for (size_t i = pack_batch_first(b); i < b->n_intervals; i++) {
                const struct pack_interval *interval = &b->intervals[i];

                if (start_of(b, i) != START_CONTIGUOUS)
                        add_sample(p, interval->start_ms, interval->measured_ns - interval->duration_ns);
                add_sample(p, interval->end_ms, interval->measured_ns);
        }
}

/* ---- all of it ---- */

static void format_spec(struct packing *p)
{
        const struct machine_spec *spec = &p->batch->node.spec;
        const struct {
                int value;
                char *text;
        } numbers[] = {
                { spec->cores, p->cores },
                { spec->chips, p->chips },
                { spec->memory, p->memory },
                { spec->frequency, p->frequency },
        };

        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                if (numbers[i].value > 0)
                        (void)snprintf(numbers[i].text, sizeof(p->cores), "%d", numbers[i].value);
}

static int plan_all(struct packing *p)
{
        int r;

        p->name = calloc(FEATURE_N + p->batch->n_sensors, sizeof(*p->name));
        p->samples = calloc(2 * p->batch->n_intervals + 1, sizeof(*p->samples));
        if (!p->name || !p->samples)
                return -ENOMEM;
        format_spec(p);
        r = sort_rows(p);
        if (r == 0)
                r = plan_entities(p);
        if (r == 0)
                r = plan_sensors(p);
        if (r == 0)
                r = plan_info(p);
        if (r == 0)
                r = plan_identities(p);
        if (r == 0)
                r = add_plan(p, WHAT_MEASURED, 0, 0, "wattloop_node_measured_seconds_total", NULL);
        if (r < 0)
                return r;
        for (size_t i = 0; i < p->n; i++)
                p->plan[i].text = p->metrics.data + p->plan[i].metric;
        qsort(p->plan, p->n, sizeof(p->plan[0]), by_metric);
        return 0;
}

/* Fill the samples of a series; returns its decimals. */
static int fill(struct packing *p, const struct plan *plan)
{
        p->n_samples = 0;
        switch (plan->what) {
        case WHAT_USAGE:
                fill_usage(p, plan->a, plan->b);
                return features[plan->b].wire_scale < 1 ? 6 : 0;
        case WHAT_POWER:
                fill_power(p, plan->a, plan->b);
                return 6;
        case WHAT_INFO:
                fill_constant(p, NULL);
                return 0;
        case WHAT_IDENTITY:
                fill_constant(p, &p->batch->intervals[plan->a]);
                return 0;
        case WHAT_MEASURED:
                fill_measured(p);
                return 9;
        }
        return 0;
}

static int emit_all(struct packing *p, pack_emit_fn emit, void *userdata, size_t *ret_samples)
{
        size_t samples = 0;

        for (size_t i = 0; i < p->n; i++) {
                const struct plan *plan = &p->plan[i];
                struct pack_series series = { .labels = plan->label,
                                              .n_labels = plan->n_labels,
                                              .metric = plan->text,
                                              .metric_size = plan->metric_size,
                                              .samples = p->samples };
                int r;

                series.decimals = fill(p, plan);
                series.n_samples = p->n_samples;
                if (series.n_samples == 0)
                        continue;
                r = emit(userdata, &series);
                if (r < 0)
                        return r;
                samples += series.n_samples;
        }
        *ret_samples = samples;
        return 0;
}

int pack_each(const struct pack_batch *batch, pack_emit_fn emit, void *userdata, size_t *ret_samples,
              struct err *e)
{
        struct packing p = { .batch = batch };
        int r;

        buf_init(&p.metrics, PACK_METRIC_MAX);
        r = plan_all(&p);
        if (r == 0)
                r = emit_all(&p, emit, userdata, ret_samples);
        buf_done(&p.metrics);
        free(p.plan);
        free(p.rows);
        free(p.rows_end);
        free(p.name);
        free(p.samples);
        return r < 0 ? err_set(e, r, "cannot pack a batch: %s", strerror(-r)) : 0;
}
