/* SPDX-License-Identifier: Apache-2.0 */
/* A batch for Kepler's offline trainer: POST /train with the recording as `prom_response` (an object from
 * metric name to the result of a range query) and an idle recording of the same shape. The trainer answers,
 * when it has trained, with a pipeline as zip, which goes where a model server looks for pipelines.
 *
 * Of the idle recording upstream takes the background power, and its metric names decide which feature groups
 * are trained: so it has all of them. Unless the options name a time, it is the quietest stretch of the
 * batch.
 *
 * Upstream wants every component of the energy source. Kepler's exporter has a counter for each, at zero
 * where the machine has no such meter, so we say the same: zero, at the time stamps of the node's other
 * counters. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include "common/file.h"
#include "common/json.h"
#include "trainer-client/destination.h"

#define ZIP_MODE 0644
#define DIR_MODE 0755
#define ZIP_EOCD 22 /* bytes of the record that ends a zip */

struct training {
        struct destination *d;
        struct buf *out;
        int64_t from_ms, to_ms;     /* of the samples that are written, both included */
        char name[METRIC_NAME_MAX]; /* of the metric being written; "" none yet */
        bool in_metric;
        bool empty_metric;       /* no series yet */
        unsigned int components; /* bits of those that have samples of the source */
        unsigned int features;   /* bits of those that have samples */
        size_t samples;
};

static const char *label_of(const struct pack_series *s, const char *name)
{
        for (size_t i = 0; i < s->n_labels; i++)
                if (strcmp(s->labels[i].name, name) == 0)
                        return s->labels[i].value;
        return "";
}

static const struct energy_source *source_of(const struct training *t)
{
        return energy_source_find(t->d->options->kepler.energy_source);
}

/* Index of the wanted source's component whose node energy this series is, whatever its own source; -1:
 * another series. */
static int component_of(const struct training *t, const struct pack_series *s)
{
        const struct energy_source *source = source_of(t);
        char name[METRIC_NAME_MAX];

        for (size_t i = 0; i < source->n; i++)
                if (metric_node_energy(name, source->components[i]) >= 0 &&
                    strcmp(name, label_of(s, "__name__")) == 0)
                        return (int)i;
        return -1;
}

static bool is_of_source(const struct training *t, const struct pack_series *s)
{
        return strcmp(label_of(s, "source"), source_of(t)->name) == 0;
}

/* Remember which features there are. */
static void note_feature(struct training *t, const char *metric)
{
        char name[METRIC_NAME_MAX];

        for (int f = 0; f < FEATURE_N; f++)
                if (metric_container_feature(name, features[f].name) >= 0 && strcmp(name, metric) == 0)
                        t->features |= 1u << f;
}

static bool has_group(const struct training *t)
{
        for (size_t i = 0; i < feature_groups_n; i++) {
                const char *const *name = feature_groups[i].features;
                bool all = *name;

                for (; *name && all; name++) {
                        int f = feature_find(*name);

                        all = f >= 0 && t->features & 1u << f;
                }
                if (all)
                        return true;
        }
        return false;
}

/* ---- writing ---- */

static void write_seconds(struct buf *out, int64_t ms)
{
        char text[PACK_NUMBER_MAX];

        (void)buf_append(out, text, pack_format(text, ms, 3));
}

static void end_metric(struct training *t)
{
        if (t->in_metric)
                (void)buf_puts(t->out, "]");
        t->in_metric = false;
}

static void begin_metric(struct training *t, const char *name)
{
        bool first = !*t->name;

        if (t->in_metric && strcmp(t->name, name) == 0)
                return;
        end_metric(t);
        (void)snprintf(t->name, sizeof(t->name), "%s", name);
        (void)buf_puts(t->out, first ? "" : ",");
        (void)json_write_string(t->out, name);
        (void)buf_puts(t->out, ":[");
        t->in_metric = t->empty_metric = true;
}

static void begin_series(struct training *t)
{
        (void)buf_puts(t->out, t->empty_metric ? "{\"metric\":" : ",{\"metric\":");
        t->empty_metric = false;
}

/* Values are strings, as Prometheus has them; time stamps are seconds. */
static int append_series(void *userdata, const struct pack_series *s)
{
        struct training *t = userdata;
        int component = component_of(t, s);
        size_t n = 0;

        if (component >= 0 && !is_of_source(t, s)) /* upstream skips them, too */
                return 0;
        begin_metric(t, label_of(s, "__name__"));
        for (size_t i = 0; i < s->n_samples; i++) {
                char text[PACK_NUMBER_MAX];

                if (s->samples[i].ts_ms < t->from_ms || s->samples[i].ts_ms > t->to_ms)
                        continue;
                if (n++ == 0) {
                        begin_series(t);
                        (void)buf_append(t->out, s->metric, s->metric_size);
                        (void)buf_puts(t->out, ",\"values\":[[");
                } else {
                        (void)buf_puts(t->out, ",[");
                }
                write_seconds(t->out, s->samples[i].ts_ms);
                (void)buf_puts(t->out, ",\"");
                (void)buf_append(t->out, text, pack_format(text, s->samples[i].total, s->decimals));
                (void)buf_puts(t->out, "\"]");
        }
        if (n > 0)
                (void)buf_puts(t->out, "]}");
        if (n > 0 && component >= 0)
                t->components |= 1u << component;
        if (n > 0)
                note_feature(t, t->name);
        t->samples += n;
        return t->out->failed;
}

/* The node's clock: every batch has it. Its time stamps carry the counters of meters that are not there. */
struct absent {
        struct training *t;
        int component;
};

static int append_absent(void *userdata, const struct pack_series *s)
{
        struct absent *a = userdata;
        struct training *t = a->t;
        const struct energy_source *source = source_of(t);
        char name[METRIC_NAME_MAX];
        size_t n = 0;

        if (strcmp(label_of(s, "__name__"), "wattloop_node_measured_seconds_total") != 0)
                return 0;
        if (metric_node_energy(name, source->components[a->component]) < 0)
                return -EINVAL;
        begin_metric(t, name);
        for (size_t i = 0; i < s->n_samples; i++) {
                if (s->samples[i].ts_ms < t->from_ms || s->samples[i].ts_ms > t->to_ms)
                        continue;
                if (n++ == 0) {
                        begin_series(t);
                        (void)buf_puts(t->out, "{\"__name__\":");
                        (void)json_write_string(t->out, name);
                        (void)buf_puts(t->out, ",\"instance\":");
                        (void)json_write_string(t->out, label_of(s, "instance"));
                        (void)buf_puts(t->out, ",\"job\":");
                        (void)json_write_string(t->out, label_of(s, "job"));
                        (void)buf_puts(t->out, ",\"mode\":\"dynamic\",\"package\":\"0\",\"source\":");
                        (void)json_write_string(t->out, source->name);
                        (void)buf_puts(t->out, "},\"values\":[[");
                } else {
                        (void)buf_puts(t->out, ",[");
                }
                write_seconds(t->out, s->samples[i].ts_ms);
                (void)buf_puts(t->out, ",\"0\"]");
        }
        if (n > 0)
                (void)buf_puts(t->out, "]}");
        return t->out->failed;
}

/* A recording, as an object. Components without samples follow behind the others. */
static int write_recording(struct training *t, const struct series_source *source, struct err *e)
{
        const struct energy_source *wanted = source_of(t);
        size_t ignored;
        int r;

        t->components = t->features = 0;
        t->name[0] = '\0';
        (void)buf_puts(t->out, "{");
        r = source->each(source, append_series, t, &ignored, e);
        if (r == 0 && t->components == 0)
                r = err_set(e, -EBADMSG, "there is no measured power of %s in it", wanted->name);
        if (r == 0 && !has_group(t))
                r = err_set(e, -EBADMSG, "no feature group is complete in it");
        for (size_t i = 0; i < wanted->n && r == 0; i++)
                if (!(t->components & 1u << i))
                        r = source->each(source, append_absent, &(struct absent){ t, (int)i }, &ignored, e);
        end_metric(t);
        (void)buf_puts(t->out, "}");
        return r;
}

/* ---- the quietest stretch ---- */

/* The node's energy at its time stamps: sums over the sensors, as they come. */
struct quiet {
        const struct training *t;
        struct point {
                int64_t ts_ms;
                double joules;
        } * point; /* owned; by time once sorted */
        size_t n, cap;
};

static int collect_energy(void *userdata, const struct pack_series *s)
{
        struct quiet *q = userdata;

        if (component_of(q->t, s) < 0 || !is_of_source(q->t, s))
                return 0;
        for (size_t i = 1; i < s->n_samples; i++) {
                if (q->n == q->cap) {
                        struct point *longer =
                                reallocarray(q->point, q->cap ? 2 * q->cap : 1024, sizeof(*longer));

                        if (!longer)
                                return -ENOMEM;
                        q->point = longer;
                        q->cap = q->cap ? 2 * q->cap : 1024;
                }
                q->point[q->n++] = (struct point){ s->samples[i].ts_ms,
                                                   pack_value(s->samples[i].total, s->decimals) -
                                                           pack_value(s->samples[i - 1].total, s->decimals) };
        }
        return 0;
}

static int by_time(const void *a, const void *b)
{
        const struct point *x = a, *y = b;

        return (x->ts_ms > y->ts_ms) - (x->ts_ms < y->ts_ms);
}

/* One point per time stamp. */
static void merge_points(struct quiet *q)
{
        size_t n = 0;

        qsort(q->point, q->n, sizeof(*q->point), by_time);
        for (size_t i = 0; i < q->n; i++) {
                if (n > 0 && q->point[n - 1].ts_ms == q->point[i].ts_ms)
                        q->point[n - 1].joules += q->point[i].joules;
                else
                        q->point[n++] = q->point[i];
        }
        q->n = n;
}

static int find_quiet(struct training *t, const struct series_source *source, struct err *e)
{
        struct quiet q = { .t = t };
        size_t width = (size_t)t->d->options->kepler.idle_intervals, ignored, best = 0;
        double sum = 0, least = 0;
        int r = source->each(source, collect_energy, &q, &ignored, e);

        if (r == 0 && q.n > 0) {
                merge_points(&q);
                if (width > q.n)
                        width = q.n;
                for (size_t i = 0; i < q.n; i++) {
                        sum += q.point[i].joules;
                        if (i >= width)
                                sum -= q.point[i - width].joules;
                        if (i + 1 >= width && (i + 1 == width || sum < least)) {
                                least = sum;
                                best = i + 1 - width;
                        }
                }
                t->from_ms = best > 0 ? q.point[best - 1].ts_ms : INT64_MIN;
                t->to_ms = q.point[best + width - 1].ts_ms;
        }
        free(q.point);
        return r;
}

/* ---- the request ---- */

static void write_list(struct buf *out, const char *key, const struct string_list *list)
{
        (void)buf_printf(out, "\"%s\":[", key);
        for (size_t i = 0; i < list->n; i++) {
                (void)buf_puts(out, i > 0 ? "," : "");
                (void)json_write_string(out, list->items[i]);
        }
        (void)buf_puts(out, "],");
}

static int write_trainer(struct training *t, const struct series_source *source, struct err *e)
{
        const struct options *o = t->d->options;
        int r;

        (void)buf_puts(t->out, "{");
        write_list(t->out, "abs_trainers", &o->kepler.abs_trainers);
        write_list(t->out, "dyn_trainers", &o->kepler.dyn_trainers);
        (void)buf_puts(t->out, "\"idle_prom_response\":");
        if (*o->kepler.idle_start) {
                (void)options_parse_time(o->kepler.idle_start, 0, &t->from_ms, NULL); /* was checked */
                (void)options_parse_time(o->kepler.idle_end, 0, &t->to_ms, NULL);
                r = 0;
        } else {
                r = find_quiet(t, source, e);
        }
        if (r == 0)
                r = write_recording(t, source, e);
        if (r == -EBADMSG && *o->kepler.idle_start)
                r = err_prefix(e, r, "kepler_trainer.idle_start to idle_end");
        (void)buf_puts(t->out, ",\"isolator\":");
        (void)json_write_string(t->out, o->kepler.isolator);
        (void)buf_puts(t->out, ",\"isolator_args\":{");
        if (*o->kepler.abs_pipeline) {
                (void)buf_puts(t->out, "\"abs_pipeline_name\":");
                (void)json_write_string(t->out, o->kepler.abs_pipeline);
        }
        (void)buf_puts(t->out, "}}");
        return r;
}

int encode_kepler(struct destination *d, const struct series_source *source, struct parcel *p, struct err *e)
{
        const struct options *o = d->options;
        struct training t = { .d = d, .out = &p->body };
        int r;

        (void)buf_puts(&p->body, "{\"name\":");
        (void)json_write_string(&p->body, o->kepler.name);
        (void)buf_puts(&p->body, ",\"energy_source\":");
        (void)json_write_string(&p->body, o->kepler.energy_source);
        (void)buf_puts(&p->body, ",\"use_vm_metrics\":false,\"trainer\":");
        r = write_trainer(&t, source, e);
        if (r < 0)
                return r;
        (void)buf_puts(&p->body, ",\"prom_response\":");
        t.from_ms = INT64_MIN;
        t.to_ms = INT64_MAX;
        t.samples = 0;
        r = write_recording(&t, source, e);
        if (r < 0)
                return r;
        if (buf_puts(&p->body, "}") < 0)
                return err_set(e, p->body.failed, "a batch is too large");
        p->samples = t.samples;
        p->plain_size = p->body.size;
        return 0;
}

/* ---- the reply ---- */

/* A zip begins with a local header and ends with its directory's end record. */
static bool is_zip(const char *body, size_t size)
{
        static const char begin[] = "PK\3\4", end[] = "PK\5\6";

        if (size < ZIP_EOCD + sizeof(begin) || memcmp(body, begin, 4) != 0)
                return false;
        for (size_t back = ZIP_EOCD; back <= size && back < ZIP_EOCD + 65536; back++)
                if (memcmp(body + size - back, end, 4) == 0)
                        return true;
        return false;
}

int acknowledge_kepler(struct destination *d, struct parcel *p, const char *body, size_t size, long status,
                       struct err *e)
{
        const struct options *o = d->options;
        char path[PATH_MAX];
        int r;

        (void)p;
        if (!is_zip(body, size))
                return err_set(e, -EPROTO, "the trainer answered %ld without a pipeline (zip)", status);
        if (snprintf(path, sizeof(path), "%s/%s.zip", o->kepler.store_path, o->kepler.name) >=
            (int)sizeof(path))
                return err_set(e, -ENAMETOOLONG, "kepler_trainer.models_path is too long");
        r = file_mkdirs(o->kepler.store_path, DIR_MODE, e);
        if (r == 0)
                r = file_write_atomic(path, body, size, ZIP_MODE, e);
        return r < 0 ? err_prefix(e, r, "the pipeline cannot be stored") : 0;
}
