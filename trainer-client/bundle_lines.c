/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/bundle_lines.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include "common/json.h"

#define LINE_MAX_BYTES ((size_t)64 << 20)

/* Numbers come from pack_format(): totals with 0, 6 or 9 decimals. The first that gives back every value. */
static int to_totals(const json_t *values, struct pack_sample *samples, int *ret_decimals)
{
        static const int candidates[] = { 0, 6, 9 };
        static const double scale[] = { 1, 1e6, 1e9 };

        for (size_t c = 0; c < ARRAY_SIZE(candidates); c++) {
                const json_t *value;
                size_t i;
                bool exact = true;

                json_array_foreach (values, i, value) {
                        double v = json_number_value(value), total = v * scale[c];

                        if (!json_is_number(value) || !(fabs(total) < 9.2e18))
                                return -EBADMSG;
                        samples[i].total = json_is_integer(value) && c == 0
                                                   ? (int64_t)json_integer_value(value)
                                                   : llrint(total);
                        if (!json_is_integer(value) && pack_value(samples[i].total, candidates[c]) != v)
                                exact = false;
                }
                if (exact) {
                        *ret_decimals = candidates[c];
                        return 0;
                }
        }
        return -EBADMSG;
}

static int read_samples(const json_t *line, struct pack_series *s, struct pack_sample **ret_samples)
{
        const json_t *values = json_object_get(line, "values"), *times = json_object_get(line, "timestamps");
        const json_t *time;
        size_t i;
        int r;

        if (!json_is_array(values) || json_array_size(values) == 0 ||
            json_array_size(values) != json_array_size(times))
                return -EBADMSG;
        *ret_samples = calloc(json_array_size(values), sizeof(**ret_samples));
        if (!*ret_samples)
                return -ENOMEM;
        json_array_foreach (times, i, time) {
                if (!json_is_integer(time))
                        return -EBADMSG;
                (*ret_samples)[i].ts_ms = (int64_t)json_integer_value(time);
        }
        r = to_totals(values, *ret_samples, &s->decimals);
        s->samples = *ret_samples;
        s->n_samples = json_array_size(values);
        return r;
}

static int read_labels(json_t *line, struct pack_label labels[PACK_LABELS_MAX], struct pack_series *s)
{
        json_t *metric = json_object_get(line, "metric"), *value;
        const char *name;

        if (!json_is_object(metric) || json_object_size(metric) > PACK_LABELS_MAX)
                return -EBADMSG;
        json_object_foreach (metric, name, value) {
                if (!json_is_string(value) ||
                    (s->n_labels > 0 && strcmp(labels[s->n_labels - 1].name, name) >= 0))
                        return -EBADMSG;
                labels[s->n_labels++] = (struct pack_label){ name, json_string_value(value) };
        }
        s->labels = labels;
        return s->n_labels > 0 ? 0 : -EBADMSG;
}

/* The label set's own text: no string can hold what follows it, because its quotes would be escaped. */
static int find_metric(const char *text, struct pack_series *s)
{
        static const char begin[] = "{\"metric\":", end[] = ",\"values\":[";
        const char *stop = strstr(text, end);

        if (strncmp(text, begin, sizeof(begin) - 1) != 0 || !stop)
                return -EBADMSG;
        s->metric = text + sizeof(begin) - 1;
        s->metric_size = (size_t)(stop - s->metric);
        return 0;
}

static int emit_line(const char *text, size_t size, pack_emit_fn emit, void *userdata, size_t *samples)
{
        CLEANUP(json_decrefp) json_t *line = NULL;
        CLEANUP(freep) struct pack_sample *sample = NULL;
        struct pack_label labels[PACK_LABELS_MAX];
        struct pack_series s = { .n_labels = 0 };
        int r;

        r = json_parse(text, size, "line", &line, NULL);
        if (r == 0)
                r = find_metric(text, &s);
        if (r == 0)
                r = read_labels(line, labels, &s);
        if (r == 0)
                r = read_samples(line, &s, &sample);
        if (r == 0)
                r = emit(userdata, &s);
        if (r == 0)
                *samples += s.n_samples;
        return r;
}

static int each_line(const struct series_source *source, pack_emit_fn emit, void *userdata,
                     size_t *ret_samples, struct err *e)
{
        const struct bundle_lines *lines = source->data;
        const char *text = lines->text, *end = text + lines->size, *stop;
        size_t samples = 0, n = 1;

        for (; text < end; text = stop + 1, n++) {
                int r;

                stop = memchr(text, '\n', (size_t)(end - text));
                if (!stop || (size_t)(stop - text) > LINE_MAX_BYTES)
                        return err_set(e, -EBADMSG, "line %zu of the bundle has no end", n);
                r = emit_line(text, (size_t)(stop - text), emit, userdata, &samples);
                if (r < 0)
                        return err_set(e, r, "line %zu of the bundle: %s", n,
                                       r == -EBADMSG ? "no series of a batch" : strerror(-r));
        }
        *ret_samples = samples;
        return 0;
}

struct series_source series_of_lines(const struct bundle_lines *lines)
{
        return (struct series_source){ each_line, lines };
}
