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
#include "common/num.h"

#define PACK_LABELS_MAX 16
#define PACK_TEXT_MAX   ((size_t)64 << 20) /* bytes of one series' values or time stamps */
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

/* ---- lines ---- */

struct label {
        const char *name, *value; /* value NULL: unknown, the label is left out */
};

/* One series being written. */
struct series {
        struct buf metric, values, timestamps;
        size_t samples;
};

struct lines {
        const struct pack_batch *batch;
        struct line {
                char *text;        /* owned */
                size_t metric_end; /* text[0, metric_end) is what lines are sorted by */
        } * line;
        size_t n, cap;
        size_t samples;
        char *cores, *chips, *memory, *frequency; /* owned; texts of the node's spec */
};

static void series_init(struct series *s)
{
        buf_init(&s->metric, PACK_TEXT_MAX);
        buf_init(&s->values, PACK_TEXT_MAX);
        buf_init(&s->timestamps, PACK_TEXT_MAX);
        s->samples = 0;
}

static void series_done(struct series *s)
{
        buf_done(&s->metric);
        buf_done(&s->values);
        buf_done(&s->timestamps);
}

static int by_label_name(const void *a, const void *b)
{
        return strcmp(((const struct label *)a)->name, ((const struct label *)b)->name);
}

/* Give the series its label set: these labels and the node's, sorted ("__name__" comes first by itself). */
static void series_name(struct series *s, const struct pack_node *node, const char *name,
                        const struct label *labels)
{
        struct label all[PACK_LABELS_MAX] = {
                { "__name__", name }, { "epoch", node->epoch },     { "instance", node->node_name },
                { "job", JOB },       { "node_id", node->node_id },
        };
        size_t n = 5;

        for (; labels && labels->name && n < PACK_LABELS_MAX; labels++)
                all[n++] = *labels;
        qsort(all, n, sizeof(all[0]), by_label_name);

        (void)buf_puts(&s->metric, "{"); /* failure is sticky in the buffer */
        for (size_t i = 0; i < n; i++) {
                if (!all[i].value)
                        continue;
                (void)buf_puts(&s->metric, i > 0 ? "," : "");
                (void)json_write_string(&s->metric, all[i].name);
                (void)buf_puts(&s->metric, ":");
                (void)json_write_string(&s->metric, all[i].value);
        }
        (void)buf_puts(&s->metric, "}");
}

static void series_add(struct series *s, int64_t ts_ms, double value)
{
        char text[NUM_TEXT_MAX];

        (void)num_format_double(text, value);
        (void)buf_printf(&s->values, "%s%s", s->samples > 0 ? "," : "", text);
        (void)buf_printf(&s->timestamps, "%s%lld", s->samples > 0 ? "," : "", (long long)ts_ms);
        s->samples++;
}

/* Store the series as a line, unless it is empty. */
static int lines_add(struct lines *l, const struct series *s)
{
        struct line *longer, *line;
        int n;

        if (s->samples == 0)
                return 0;
        if (s->metric.failed || s->values.failed || s->timestamps.failed)
                return s->metric.failed   ? s->metric.failed
                       : s->values.failed ? s->values.failed
                                          : s->timestamps.failed;
        if (l->n == l->cap) {
                longer = reallocarray(l->line, l->cap ? 2 * l->cap : 64, sizeof(*longer));
                if (!longer)
                        return -ENOMEM;
                l->line = longer;
                l->cap = l->cap ? 2 * l->cap : 64;
        }
        line = &l->line[l->n];
        n = asprintf(&line->text, "{\"metric\":%s,\"values\":[%s],\"timestamps\":[%s]}\n", s->metric.data,
                     s->values.data, s->timestamps.data);
        if (n < 0)
                return -ENOMEM;
        line->metric_end = strlen("{\"metric\":") + s->metric.size;
        l->n++;
        l->samples += s->samples;
        return 0;
}

static int by_metric(const void *a, const void *b)
{
        const struct line *x = a, *y = b;
        size_t n = x->metric_end < y->metric_end ? x->metric_end : y->metric_end;
        int r = memcmp(x->text, y->text, n);

        return r != 0 ? r : (x->metric_end > y->metric_end) - (x->metric_end < y->metric_end);
}

/* ---- containers ---- */

/* 1e-6 is no double, 1e6 is: dividing gives the nearest and so the shortest number. */
static double wire_value(enum feature_id f, int64_t total)
{
        double scale = features[f].wire_scale;

        return scale < 1 ? (double)total / (1 / scale) : (double)total * scale;
}

/* The sample at an interval's start, if the series has one. `before` is the entity's row in the interval
 * before, NULL when it has none; `is_new`: it never had one. */
static void add_usage_start(struct series *s, const struct pack_batch *b, const struct pack_usage *row,
                            const struct pack_usage *before, bool is_new, enum feature_id f)
{
        enum start start = start_of(b, row->interval);
        int64_t start_ms = b->intervals[row->interval].start_ms;

        if (start == START_EPOCH || is_new)
                series_add(s, start_ms, 0);
        else if (start == START_AFTER_GAP && before && before->has[f])
                series_add(s, start_ms, wire_value(f, before->value[f]));
}

/* Did the entity appear in this row, its first in the batch? When retention removed what came before the
 * batch, nobody can tell. */
static bool is_new_in(const struct pack_batch *b, const struct pack_usage *row)
{
        return row->interval > 0 && !b->entities[row->entity].seen_before &&
               (b->has_previous || is_first_of_epoch(&b->intervals[0]));
}

/* rows: this entity's, by interval. */
static void add_usage(struct series *s, const struct pack_batch *b, const struct pack_usage *const *rows,
                      size_t n, enum feature_id f)
{
        for (size_t i = 0; i < n; i++) {
                const struct pack_usage *row = rows[i], *before = NULL;
                bool is_new = i == 0 && is_new_in(b, row);

                if (row->interval < pack_batch_first(b) || !row->has[f])
                        continue;
                if (i > 0 && rows[i - 1]->interval + 1 == row->interval)
                        before = rows[i - 1];
                add_usage_start(s, b, row, before, is_new, f);
                series_add(s, b->intervals[row->interval].end_ms, wire_value(f, row->value[f]));
        }
}

static int add_entity(struct lines *l, size_t entity, const struct pack_usage *const *rows, size_t n)
{
        const struct pack_entity *c = &l->batch->entities[entity];
        const struct label labels[] = {
                { "container_id", c->key },
                { "container_name", c->container_name },
                { "container_namespace", c->container_namespace },
                { "pod_name", c->pod_name },
                { "source", "bpf" },
                { NULL, NULL },
        };
        int r = 0;

        for (int f = 0; f < FEATURE_N && r == 0; f++) {
                char name[METRIC_NAME_MAX];
                struct series s;

                series_init(&s);
                r = metric_container_feature(name, features[f].name);
                if (r >= 0) {
                        add_usage(&s, l->batch, rows, n, (enum feature_id)f);
                        series_name(&s, &l->batch->node, name, labels);
                        r = lines_add(l, &s);
                }
                series_done(&s);
        }
        return r;
}

/* Rows come ordered by interval; a series needs them by entity. */
static int add_entities(struct lines *l)
{
        const struct pack_batch *b = l->batch;
        CLEANUP(freep) const struct pack_usage **rows = calloc(b->n_usage + 1, sizeof(*rows));
        CLEANUP(freep) size_t *end = calloc(b->n_entities + 1, sizeof(*end));
        size_t start = 0;
        int r = 0;

        if (!rows || !end)
                return -ENOMEM;
        for (size_t i = 0; i < b->n_usage; i++)
                end[b->usage[i].entity + 1]++;
        for (size_t i = 0; i < b->n_entities; i++)
                end[i + 1] += end[i]; /* end[i] is now where entity i's rows begin ... */
        for (size_t i = 0; i < b->n_usage; i++)
                rows[end[b->usage[i].entity]++] =
                        &b->usage[i]; /* ... and where they end once all are placed */
        for (size_t i = 0; i < b->n_entities && r == 0; i++) {
                r = add_entity(l, i, rows + start, end[i] - start);
                start = end[i];
        }
        return r;
}

/* ---- power ---- */

static double joules(const struct pack_power *p, bool idle)
{
        return (double)(idle ? p->idle_uj : p->energy_uj - p->idle_uj) / 1e6;
}

static void add_power(struct series *s, const struct pack_batch *b, size_t sensor, bool idle)
{
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
                                series_add(s, interval->start_ms, 0);
                        else if (start == START_AFTER_GAP && before)
                                series_add(s, interval->start_ms, joules(before, idle));
                        series_add(s, interval->end_ms, joules(row, idle));
                }
                before = row;
        }
}

static int add_sensor(struct lines *l, size_t sensor, bool idle)
{
        const struct pack_sensor *p = &l->batch->sensors[sensor];
        const struct label labels[] = {
                { "mode", idle ? "idle" : "dynamic" },
                { "package", p->unit },
                { "source", wire_source(p->source, p->provenance) },
                { NULL, NULL },
        };
        char name[METRIC_NAME_MAX];
        struct series s;
        int r;

        r = metric_node_energy(name, p->component);
        if (r < 0)
                return r;
        series_init(&s);
        add_power(&s, l->batch, sensor, idle);
        series_name(&s, &l->batch->node, name, labels);
        r = lines_add(l, &s);
        series_done(&s);
        return r;
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
static void add_constant(struct series *s, const struct pack_batch *b, const struct pack_interval *like)
{
        for (size_t i = pack_batch_first(b); i < b->n_intervals; i++) {
                const struct pack_interval *interval = &b->intervals[i];

                if (like && (strcmp(like->definition, interval->definition) != 0 ||
                             strcmp(like->feature_source, interval->feature_source) != 0))
                        continue;
                if (start_of(b, i) != START_CONTIGUOUS)
                        series_add(s, interval->start_ms, 1);
                series_add(s, interval->end_ms, 1);
        }
}

static int add_info(struct lines *l)
{
        const struct label labels[] = {
                { "components_power_source", power_source(l->batch, "rapl-sysfs") },
                { "cpu_architecture", l->batch->node.cpu_architecture },
                { "platform_power_source", power_source(l->batch, "acpi") },
                { "source", "os" },
                { NULL, NULL },
        };
        struct series s;
        int r;

        series_init(&s);
        add_constant(&s, l->batch, NULL);
        series_name(&s, &l->batch->node, "kepler_node_info", labels);
        r = lines_add(l, &s);
        series_done(&s);
        return r;
}

static int add_identity(struct lines *l, const struct pack_interval *like)
{
        const struct pack_node *node = &l->batch->node;
        const struct label labels[] = {
                { "batch_version", BATCH_VERSION },
                { "boot_id", node->boot_id },
                { "chips", l->chips },
                { "cores", l->cores },
                { "definition", like->definition },
                { "feature_source", like->feature_source },
                { "frequency", l->frequency },
                { "memory", l->memory },
                { "processor", *node->spec.processor ? node->spec.processor : NULL },
                { NULL, NULL },
        };
        struct series s;
        int r;

        series_init(&s);
        add_constant(&s, l->batch, like);
        series_name(&s, node, "wattloop_node", labels);
        r = lines_add(l, &s);
        series_done(&s);
        return r;
}

/* One series for each way of measuring that occurs in the batch. */
static int add_identities(struct lines *l)
{
        const struct pack_batch *b = l->batch;
        int r = 0;

        for (size_t i = pack_batch_first(b); i < b->n_intervals && r == 0; i++) {
                bool seen = false;

                for (size_t j = pack_batch_first(b); j < i && !seen; j++)
                        seen = strcmp(b->intervals[j].definition, b->intervals[i].definition) == 0 &&
                               strcmp(b->intervals[j].feature_source, b->intervals[i].feature_source) == 0;
                if (!seen)
                        r = add_identity(l, &b->intervals[i]);
        }
        return r;
}

static int add_measured(struct lines *l)
{
        const struct pack_batch *b = l->batch;
        struct series s;
        int r;

        series_init(&s);
        for (size_t i = pack_batch_first(b); i < b->n_intervals; i++) {
                const struct pack_interval *interval = &b->intervals[i];

                if (start_of(b, i) != START_CONTIGUOUS)
                        series_add(&s, interval->start_ms,
                                   (double)(interval->measured_ns - interval->duration_ns) / 1e9);
                series_add(&s, interval->end_ms, (double)interval->measured_ns / 1e9);
        }
        series_name(&s, &b->node, "wattloop_node_measured_seconds_total", NULL);
        r = lines_add(l, &s);
        series_done(&s);
        return r;
}

/* ---- all of it ---- */

/* NULL for what is unknown, which leaves the label out. */
static int format_spec(struct lines *l)
{
        const struct machine_spec *spec = &l->batch->node.spec;
        const struct {
                int value;
                char **text;
        } numbers[] = {
                { spec->cores, &l->cores },
                { spec->chips, &l->chips },
                { spec->memory, &l->memory },
                { spec->frequency, &l->frequency },
        };

        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                if (numbers[i].value > 0 && asprintf(numbers[i].text, "%d", numbers[i].value) < 0) {
                        *numbers[i].text = NULL;
                        return -ENOMEM;
                }
        return 0;
}

static int add_all(struct lines *l)
{
        int r = format_spec(l);

        if (r == 0)
                r = add_entities(l);
        for (size_t i = 0; i < l->batch->n_sensors && r == 0; i++) {
                r = add_sensor(l, i, false);
                if (r == 0)
                        r = add_sensor(l, i, true);
        }
        if (r == 0)
                r = add_info(l);
        if (r == 0)
                r = add_identities(l);
        if (r == 0)
                r = add_measured(l);
        return r;
}

int pack_lines(const struct pack_batch *batch, struct buf *out, size_t *ret_samples, struct err *e)
{
        struct lines l = { .batch = batch };
        int r = add_all(&l);

        if (r == 0 && l.n > 0)
                qsort(l.line, l.n, sizeof(l.line[0]), by_metric);
        for (size_t i = 0; i < l.n; i++) {
                if (r == 0)
                        r = buf_puts(out, l.line[i].text);
                free(l.line[i].text);
        }
        free(l.line);
        free(l.cores);
        free(l.chips);
        free(l.memory);
        free(l.frequency);
        if (r < 0)
                return err_set(e, r, "cannot pack a batch: %s", strerror(-r));
        *ret_samples = l.samples;
        return 0;
}
