/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/data/prometheus.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/http.h"
#include "common/json.h"
#include "common/num.h"
#include "config/cli.h"
#include "model-server/ingest/batch.h"

#define URL_MAX 2048

struct prometheus {
        struct http *http;
        char url[URL_MAX / 2]; /* without a slash at the end */
        int64_t step_ms;
};

int prometheus_new(const char *url, int64_t step_ms, struct prometheus **ret, struct err *e)
{
        CLEANUP(prometheus_freep) struct prometheus *p = calloc(1, sizeof(*p));
        size_t n = strlen(url);
        int r;

        if (!p)
                return err_set(e, -ENOMEM, "out of memory");
        while (n && url[n - 1] == '/')
                n--;
        if (!n || n >= sizeof(p->url))
                return err_set(e, -EINVAL, "data.prometheus_url is empty or too long");
        memcpy(p->url, url, n);
        p->step_ms = step_ms;
        r = http_new("wattloop-model-server/" WATTLOOP_VERSION, &p->http, e);
        if (r < 0)
                return r;
        *ret = TAKE(p);
        return 0;
}

void prometheus_free(struct prometheus *p)
{
        if (!p)
                return;
        http_free(p->http);
        free(p);
}

/* `data` of a successful answer; a new reference. */
static int get(struct prometheus *p, const char *path, json_t **ret, struct err *e)
{
        CLEANUP(json_decrefp) json_t *answer = NULL;
        char url[URL_MAX];
        const struct http_request request = { .method = "GET",
                                              .url = url,
                                              .max_response = PROMETHEUS_RESPONSE_MAX };
        struct http_response response;
        const char *words;
        int r;

        if (snprintf(url, sizeof(url), "%s%s", p->url, path) >= (int)sizeof(url))
                return err_set(e, -ENAMETOOLONG, "data.prometheus_url is too long");
        r = http_exchange(p->http, &request, &response, e);
        if (r < 0)
                return r;
        r = json_parse(response.body.data ? response.body.data : "", response.body.size, "its answer",
                       &answer, e);
        words = json_string_value(json_object_get(answer, "error"));
        if (response.status == 422 || response.status == 413)
                r = err_set(e, -EFBIG, "'%s' answers %ld: %.100s", p->url, response.status,
                            words ? words : "");
        else if (response.status != 200)
                r = err_set(e, response.status == 503 || response.status == 429 ? -EBUSY : -EPROTO,
                            "'%s' answers %ld: %.100s", p->url, response.status, words ? words : "");
        else if (r < 0 || !json_object_get(answer, "data"))
                r = err_set(e, -EPROTO, "'%s' does not answer as Prometheus does", p->url);
        else
                *ret = json_incref(json_object_get(answer, "data"));
        http_response_done(&response);
        return r;
}

static int query(struct prometheus *p, const char *name, int64_t from_ms, int64_t to_ms, json_t **ret,
                 struct err *e)
{
        char path[512];

        if (p->step_ms)
                (void)snprintf(path, sizeof(path),
                               "/api/v1/query_range?query=%s&start=%lld.%03d&end=%lld.%03d&step=%lld.%03d",
                               name, (long long)(from_ms / 1000), (int)(from_ms % 1000),
                               (long long)(to_ms / 1000), (int)(to_ms % 1000), (long long)(p->step_ms / 1000),
                               (int)(p->step_ms % 1000));
        else
                (void)snprintf(path, sizeof(path), "/api/v1/query?query=%s%%5B%lldms%%5D&time=%lld.%03d",
                               name, (long long)(to_ms - from_ms), (long long)(to_ms / 1000),
                               (int)(to_ms % 1000));
        return get(p, path, ret, e);
}

static const char *label(const json_t *metric, const char *name)
{
        const char *text = json_string_value(json_object_get(metric, name));

        return text ? text : "";
}

/* What a scrape renamed gets its own name again. */
static void restore_labels(json_t *metric)
{
        static const char *const names[] = { "instance", "job" };
        char exported[32];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                const char *text;

                (void)snprintf(exported, sizeof(exported), "exported_%s", names[i]);
                text = label(metric, exported);
                if (!*text)
                        continue;
                (void)json_object_set_new(metric, names[i], json_string(text));
                (void)json_object_del(metric, exported);
        }
}

struct reading {
        int64_t from_ms, to_ms;
        struct buf *out;
        int lines;
        bool native_seen;
        json_t *known;  /* instances whose series have a node_id: object, keys count */
        json_t *native; /* instance -> object of time stamps (ms, as text) of its energy */
};

static void reading_done(struct reading *r)
{
        json_decref(r->known);
        json_decref(r->native);
}

static int write_series(struct reading *in, const json_t *metric, const json_t *values, json_t *stamps,
                        struct err *e)
{
        size_t start = in->out->size, n = 0;

        (void)buf_puts(in->out, "{\"metric\":"); /* failure is sticky */
        (void)json_write(metric, in->out);
        (void)buf_puts(in->out, ",\"values\":[");
        for (int pass = 0; pass < 2; pass++) {
                n = 0;
                for (size_t i = 0; i < json_array_size(values); i++) {
                        const json_t *pair = json_array_get(values, i);
                        const char *text = json_string_value(json_array_get(pair, 1));
                        int64_t ts = (int64_t)llround(json_number_value(json_array_get(pair, 0)) * 1000);
                        double value;
                        char key[32];

                        if (!text || num_parse_double(text, &value) < 0 || ts <= in->from_ms ||
                            ts > in->to_ms)
                                continue; /* NaN marks a series that went stale */
                        if (pass)
                                (void)buf_printf(in->out, "%s%lld", n++ ? "," : "", (long long)ts);
                        else
                                (void)buf_printf(in->out, "%s%s", n++ ? "," : "", text);
                        if (pass && stamps) {
                                (void)snprintf(key, sizeof(key), "%lld", (long long)ts);
                                (void)json_object_set_new(stamps, key, json_true());
                        }
                }
                (void)buf_puts(in->out, pass ? "]}\n" : "],\"timestamps\":[");
        }
        if (in->out->failed)
                return err_set(e, in->out->failed, "more than %zu bytes of samples", in->out->max);
        if (n) {
                in->lines++;
                return 0;
        }
        in->out->size = start;
        in->out->data[start] = '\0';
        return 0;
}

/* One of Kepler's own: it gets a node and an epoch. */
static int write_native(struct reading *in, json_t *metric, const json_t *values, bool energy, struct err *e)
{
        const char *instance = label(metric, "instance");
        json_t *stamps = json_object_get(in->native, instance);

        if (!*instance || json_object_get(in->known, instance))
                return 0; /* the same machine is there with its identity */
        if (!stamps && energy) {
                stamps = json_object();
                (void)json_object_set_new(in->native, instance, stamps);
        }
        (void)json_object_set_new(metric, "node_id", json_string(instance));
        (void)json_object_set_new(metric, "epoch", json_string("kepler"));
        return write_series(in, metric, values, energy ? stamps : NULL, e);
}

/* Our own series are read first, so that `known` is complete before Kepler's come. */
static int write_result(struct reading *in, const json_t *data, bool native, struct err *e)
{
        const json_t *results = json_object_get(data, "result");
        int r = 0;

        if (!json_is_array(results) || strcmp(label(data, "resultType"), "matrix") != 0)
                return err_set(e, -EPROTO, "no matrix came back: raw samples are not offered; set data.step");
        for (size_t i = 0; r == 0 && i < json_array_size(results); i++) {
                json_t *metric = json_object_get(json_array_get(results, i), "metric");
                const json_t *values = json_object_get(json_array_get(results, i), "values");
                struct series_class class;

                if (!json_is_object(metric) || !json_is_array(values))
                        return err_set(e, -EPROTO, "a series without metric or values came back");
                restore_labels(metric);
                class = series_classify(label(metric, "__name__"), label(metric, "source"));
                if (class.kind == SERIES_IGNORED)
                        continue;
                if (*label(metric, "node_id") && *label(metric, "epoch")) {
                        (void)json_object_set_new(in->known, label(metric, "instance"), json_true());
                        if (!native)
                                r = write_series(in, metric, values, NULL, e);
                } else if (!native) {
                        in->native_seen = true;
                } else {
                        r = write_native(in, metric, values, class.kind == SERIES_ENERGY, e);
                }
        }
        return r;
}

/* What Kepler does not say: between two scrapes all was measured, on a machine that nobody described. */
static int write_clocks(struct reading *in, struct err *e)
{
        const char *instance, *stamp;
        json_t *stamps, *one;

        json_object_foreach (in->native, instance, stamps) {
                static const char *const names[] = { "wattloop_node",
                                                     "wattloop_node_measured_seconds_total" };

                for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                        CLEANUP(json_decrefp)
                        json_t *metric = json_pack("{s:s, s:s, s:s, s:s, s:s}", "__name__", names[i],
                                                   "instance", instance, "node_id", instance, "epoch",
                                                   "kepler", "definition", "kepler-0.7");
                        CLEANUP(json_decrefp) json_t *values = json_array();

                        json_object_foreach (stamps, stamp, one) {
                                double seconds = strtod(stamp, NULL) / 1000;
                                char text[NUM_TEXT_MAX];

                                (void)num_format_double(text, i ? seconds : 1);
                                (void)json_array_append_new(values, json_pack("[f, s]", seconds, text));
                        }
                        if (write_series(in, metric, values, NULL, e) < 0)
                                return in->out->failed;
                }
        }
        return 0;
}

static bool is_useful(const char *name)
{
        return name && strlen(name) < METRIC_NAME_MAX &&
               series_classify(name, energy_sources[0].name).kind != SERIES_IGNORED;
}

int prometheus_read(struct prometheus *p, int64_t from_ms, int64_t to_ms, struct buf *out, struct err *e)
{
        CLEANUP(json_decrefp) json_t *names = NULL;
        CLEANUP(reading_done)
        struct reading in = { .from_ms = from_ms,
                              .to_ms = to_ms,
                              .out = out,
                              .known = json_object(),
                              .native = json_object() };
        int r = get(p, "/api/v1/label/__name__/values", &names, e);

        if (r == 0 && json_array_size(names) > PROMETHEUS_NAMES_MAX)
                return err_set(e, -E2BIG, "'%s' has more than %d metric names", p->url, PROMETHEUS_NAMES_MAX);
        for (int native = 0; native < 2 && (!native || in.native_seen); native++)
                for (size_t i = 0; r == 0 && i < json_array_size(names); i++) {
                        const char *name = json_string_value(json_array_get(names, i));
                        CLEANUP(json_decrefp) json_t *data = NULL;

                        if (!is_useful(name))
                                continue;
                        r = query(p, name, from_ms, to_ms, &data, e);
                        if (r == 0)
                                r = write_result(&in, data, native, e);
                }
        if (r == 0)
                r = write_clocks(&in, e);
        return r < 0 ? r : in.lines;
}
