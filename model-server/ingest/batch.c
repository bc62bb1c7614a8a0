/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/ingest/batch.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

#define CONTAINER_PREFIX "kepler_container_"
#define NODE_PREFIX      "kepler_node_"

/* The middle of "<prefix><middle><suffix>", or false. */
static bool cut_middle(const char *s, const char *prefix, const char *suffix, char ret[METRIC_NAME_MAX])
{
        size_t n = strlen(s), np = strlen(prefix), ns = strlen(suffix);

        if (n <= np + ns || n - np - ns >= METRIC_NAME_MAX || strncmp(s, prefix, np) != 0 ||
            strcmp(s + n - ns, suffix) != 0)
                return false;
        memcpy(ret, s + np, n - np - ns);
        ret[n - np - ns] = '\0';
        return true;
}

/* Provenance of an energy series by its wire source; -1: nothing to learn from. */
static int source_provenance(const char *source)
{
        if (!strcmp(source, provenance_names[PROVENANCE_SIMULATED]))
                return PROVENANCE_SIMULATED;
        if (!strcmp(source, provenance_names[PROVENANCE_VIRTUAL]))
                return PROVENANCE_VIRTUAL;
        if (!strcmp(source, "trained_power_model")) /* upstream's name for an estimate */
                return -1;
        for (size_t i = 0; i < energy_sources_n; i++)
                if (!strcmp(source, energy_sources[i].name))
                        return PROVENANCE_MEASURED;
        return -1;
}

struct series_class series_classify(const char *name, const char *source)
{
        struct series_class class = { SERIES_IGNORED, -1, PROVENANCE_MEASURED };
        char middle[METRIC_NAME_MAX];

        if (!strcmp(name, "wattloop_node")) {
                class.kind = SERIES_NODE;
        } else if (!strcmp(name, "wattloop_node_measured_seconds_total")) {
                class.kind = SERIES_MEASURED;
        } else if (cut_middle(name, CONTAINER_PREFIX, "_total", middle)) {
                class.what = feature_find(middle);
                if (class.what >= 0)
                        class.kind = SERIES_FEATURE;
        } else if (cut_middle(name, NODE_PREFIX, "_joules_total", middle)) {
                int provenance = source_provenance(source);

                class.what = component_find(middle);
                if (class.what >= 0 && provenance >= 0) {
                        class.kind = SERIES_ENERGY;
                        class.provenance = (enum provenance)provenance;
                }
        }
        return class;
}

static const char *label(const json_t *metric, const char *key)
{
        const char *value = json_string_value(json_object_get(metric, key));

        return value ? value : "";
}

static bool valid_label_name(const char *s)
{
        if (!isalpha((unsigned char)*s) && *s != '_' && *s != ':')
                return false;
        for (; *s; s++)
                if (!isalnum((unsigned char)*s) && *s != '_' && *s != ':')
                        return false;
        return true;
}

static int check_labels(json_t *metric, struct err *e)
{
        const char *key;
        json_t *value;

        if (json_object_size(metric) > BATCH_LABELS_MAX)
                return err_set(e, -E2BIG, "%zu labels; at most %d are taken", json_object_size(metric),
                               BATCH_LABELS_MAX);
        json_object_foreach (metric, key, value) {
                if (strlen(key) > BATCH_LABEL_NAME_MAX)
                        return err_set(e, -E2BIG, "a label name of %zu bytes; at most %d are taken",
                                       strlen(key), BATCH_LABEL_NAME_MAX);
                if (!valid_label_name(key))
                        return err_set(e, -EBADMSG, "label name '%.64s' is not one", key);
                if (!json_is_string(value))
                        return err_set(e, -EBADMSG, "label '%.64s' is not a string", key);
                if (json_string_length(value) > BATCH_LABEL_VALUE_MAX)
                        return err_set(e, -E2BIG, "label '%.64s' has %zu bytes; at most %d are taken", key,
                                       json_string_length(value), BATCH_LABEL_VALUE_MAX);
        }
        if (!valid_label_name(label(metric, "__name__")))
                return err_set(e, -EBADMSG, "no metric name (__name__)");
        return 0;
}

static int parse_samples(const json_t *values, const json_t *stamps, struct batch_line *line, struct err *e)
{
        size_t n = json_array_size(values);

        line->samples = malloc((n ? n : 1) * sizeof(*line->samples));
        if (!line->samples)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < n; i++) {
                const json_t *value = json_array_get(values, i), *ts = json_array_get(stamps, i);

                if (!json_is_integer(ts))
                        return err_set(e, -EBADMSG, "timestamp %zu is not an integer", i);
                if (json_integer_value(ts) < 0 || json_integer_value(ts) > BATCH_TS_MAX_MS)
                        return err_set(e, -EBADMSG, "timestamp %zu is not in milliseconds since 1970", i);
                if (json_is_null(value)) {
                        line->nulls++;
                        continue;
                }
                if (!json_is_number(value))
                        return err_set(e, -EBADMSG, "value %zu is not a number", i);
                line->samples[line->n++] =
                        (struct sample){ json_integer_value(ts), json_number_value(value) };
        }
        return 0;
}

static int parse_document(json_t *document, size_t max_samples, struct batch_line *line, struct err *e)
{
        json_t *metric = json_object_get(document, "metric");
        json_t *values = json_object_get(document, "values"),
               *stamps = json_object_get(document, "timestamps");
        int r;

        if (!json_is_object(metric) || !json_is_array(values) || !json_is_array(stamps))
                return err_set(e, -EBADMSG, "not an object with metric, values and timestamps");
        if (json_array_size(values) != json_array_size(stamps))
                return err_set(e, -EBADMSG, "%zu values, but %zu timestamps", json_array_size(values),
                               json_array_size(stamps));
        if (json_array_size(values) > max_samples)
                return err_set(e, -E2BIG, "%zu samples in a line; at most %zu are taken",
                               json_array_size(values), max_samples);
        r = check_labels(metric, e);
        if (r < 0)
                return r;

        line->metric = metric;
        line->name = label(metric, "__name__");
        line->source = label(metric, "source");
        line->node_id = label(metric, "node_id");
        line->node_name = label(metric, "instance");
        line->epoch = label(metric, "epoch");
        line->class = series_classify(line->name, line->source);
        if (!*line->node_id || !*line->epoch)
                line->class.kind = SERIES_IGNORED; /* no row could be made of it */
        if (line->class.kind != SERIES_IGNORED) {
                line->labels = json_dumps(metric, JSON_COMPACT | JSON_SORT_KEYS);
                if (!line->labels)
                        return err_set(e, -ENOMEM, "out of memory");
        }
        return parse_samples(values, stamps, line, e);
}

int batch_parse_line(const char *text, size_t size, size_t max_samples, struct batch_line *ret, struct err *e)
{
        struct batch_line line = { 0 };
        int r;

        r = json_parse(text, size, "series", &line.document, e);
        if (r < 0)
                return r;
        r = parse_document(line.document, max_samples, &line, e);
        if (r < 0) {
                batch_line_done(&line);
                return r;
        }
        *ret = line;
        return 0;
}

void batch_line_done(struct batch_line *line)
{
        free(line->labels);
        free(line->samples);
        json_decref(line->document);
        memset(line, 0, sizeof(*line));
}
