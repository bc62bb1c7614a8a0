/* SPDX-License-Identifier: Apache-2.0 */
/* Batch by batch, what was recorded is packed again and compared:
 *  - with a time series database by range queries: per series, how many samples there are and what the last
 * one says. Fewer is a hole, more is a sample twice;
 *  - with a model server by sending the batch again, which adds nothing that is there: what the server calls
 * new was a hole, and is filled;
 *  - with a directory of bundles by the digests of the manifest. */
#include "trainer-client/audit.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "config/cli.h"
#include "trainer-client/bundle.h"
#include "trainer-client/destination.h"
#include "trainer-client/pipe.h"
#include "trainer-client/store.h"

#define AUDIT_INTERVALS 500
#define AUDIT_ROWS      20000
#define HOLES_MAX       1000
#define KEY_MAX         4096
#define VALUE_TOLERANCE 1e-12 /* relative; a database that stores decimals may differ in the last bit */
#define SETTLE_S        2     /* a database shows what it has just been sent a moment later */
#define OUT_MAX         ((size_t)4 << 20)

/* A series as it should be, within the range that is asked for. */
struct expected {
        char *key; /* owned; its labels without the name */
        int64_t samples;
        double last;
        int64_t found;
        bool wrong; /* the last value differs */
};

struct audit {
        const struct options *options;
        struct destination *d;
        struct cursor cursor;
        /* the batch being compared */
        const struct pack_batch *batch;
        int64_t after_ms, end_ms; /* samples in (after_ms, end_ms] are compared */
        char metric[METRIC_NAME_MAX];
        struct expected *expected; /* owned; of the metric */
        size_t n, cap;
        /* the result */
        int64_t intervals, not_sent, samples_expected, samples_found, lost, doubled, wrong;
        int dedup; /* 1 on, 0 off, -1 unknown */
        size_t n_holes;
        struct buf holes; /* JSON objects */
        struct err e;
};

/* ---- findings ---- */

static void report(struct audit *a, const char *what, const char *series, int64_t expected, int64_t found)
{
        const struct pack_interval *first = &a->batch->intervals[pack_batch_first(a->batch)];
        const struct pack_interval *last = &a->batch->intervals[a->batch->n_intervals - 1];

        if (a->n_holes++ >= HOLES_MAX)
                return;
        if (!a->options->json)
                (void)printf(
                        "%s: %s: intervals %lld-%lld (ends %lld to %lld ms): %s{%s}: %lld of %lld samples\n",
                        a->d->own.name, what, (long long)first->id, (long long)last->id,
                        (long long)first->end_ms, (long long)last->end_ms, a->metric, series,
                        (long long)found, (long long)expected);
        (void)buf_printf(&a->holes,
                         "%s{\"what\": \"%s\", \"first\": %lld, \"last\": %lld, \"from_ms\": %lld, "
                         "\"to_ms\": %lld, \"metric\": ",
                         a->n_holes > 1 ? ",\n" : "", what, (long long)first->id, (long long)last->id,
                         (long long)first->end_ms, (long long)last->end_ms);
        (void)json_write_string(&a->holes, a->metric);
        (void)buf_puts(&a->holes, ", \"series\": ");
        (void)json_write_string(&a->holes, series);
        (void)buf_printf(&a->holes, ", \"expected\": %lld, \"found\": %lld}", (long long)expected,
                         (long long)found);
}

/* ---- time series databases ---- */

static void clear_expected(struct audit *a)
{
        for (size_t i = 0; i < a->n; i++)
                free(a->expected[i].key);
        a->n = 0;
}

/* "container_id=c1,epoch=…": labels without the name, sorted; empty ones are none. */
static void append_key(struct buf *key, const char *name, const char *value)
{
        if (strcmp(name, "__name__") != 0 && *value)
                (void)buf_printf(key, "%s%s=%s", key->size > 0 ? "," : "", name, value);
}

static int by_name(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int key_of_answer(const json_t *metric, struct buf *key)
{
        const char *names[64], *name;
        const json_t *value;
        size_t n = 0;

        json_object_foreach ((json_t *)(uintptr_t)metric, name, value) {
                if (n == ARRAY_SIZE(names))
                        return -EBADMSG;
                names[n++] = name;
        }
        qsort(names, n, sizeof(names[0]), by_name);
        buf_clear(key);
        for (size_t i = 0; i < n; i++) {
                const char *text = json_string_value(json_object_get(metric, names[i]));

                append_key(key, names[i], text ? text : "");
        }
        return key->failed;
}

static struct expected *find_expected(struct audit *a, const char *key)
{
        for (size_t i = 0; i < a->n; i++)
                if (strcmp(a->expected[i].key, key) == 0)
                        return &a->expected[i];
        return NULL;
}

/* function(metric{…}[range]) at the end of the range; per series its number. */
static int ask(struct audit *a, const char *function, json_t **ret, struct err *e)
{
        CLEANUP(freep) char *query = NULL, *escaped = NULL, *path = NULL, *body = NULL;
        size_t size = 0;
        int r;

        if (asprintf(&query, "%s(%s{node_id=\"%s\",epoch=\"%s\"}[%lldms])", function, a->metric,
                     a->batch->node.node_id, a->batch->node.epoch,
                     (long long)(a->end_ms - a->after_ms - 1)) < 0) {
                query = NULL;
                return err_set(e, -ENOMEM, "out of memory");
        }
        escaped = destination_escape(query);
        if (!escaped || asprintf(&path, "/api/v1/query?nocache=1&query=%s&time=%.3f", escaped,
                                 (double)a->end_ms / 1000) < 0) {
                path = NULL;
                return err_set(e, -ENOMEM, "out of memory");
        }
        r = destination_query(a->d, path, &body, &size, e);
        return r < 0 ? r : json_parse(body, size, "answer", ret, e);
}

static int take_answer(struct audit *a, json_t *answer, bool count, struct err *e)
{
        CLEANUP(buf_done) struct buf key = { 0 };
        const json_t *result = json_object_get(json_object_get(answer, "data"), "result"), *one;
        size_t i;

        buf_init(&key, KEY_MAX);
        if (!json_is_array(result))
                return err_set(e, -EBADMSG, "%s gave no result", a->d->own.name);
        json_array_foreach (result, i, one) {
                const char *text = json_string_value(json_array_get(json_object_get(one, "value"), 1));
                double value = text ? strtod(text, NULL) : 0;
                struct expected *x;

                if (key_of_answer(json_object_get(one, "metric"), &key) < 0)
                        continue; /* has more labels than any of ours */
                x = find_expected(a, key.data ? key.data : "");
                if (!x)
                        continue; /* another destination's or job's series */
                if (count)
                        x->found = (int64_t)value;
                else
                        x->wrong = fabs(value - x->last) > VALUE_TOLERANCE * fabs(x->last);
        }
        return 0;
}

static int ask_both(struct audit *a, struct err *e)
{
        static const char *const functions[] = { "count_over_time", "last_over_time" };
        int r = 0;

        for (size_t i = 0; i < a->n; i++)
                a->expected[i].found = 0;
        for (size_t f = 0; f < ARRAY_SIZE(functions) && r == 0; f++) {
                json_t *answer = NULL;

                r = ask(a, functions[f], &answer, e);
                if (r == 0)
                        r = take_answer(a, answer, f == 0, e);
                json_decref(answer);
        }
        return r;
}

static bool is_short(const struct audit *a)
{
        for (size_t i = 0; i < a->n; i++)
                if (a->expected[i].found < a->expected[i].samples)
                        return true;
        return false;
}

/* All series of one metric are collected. */
static int compare_metric(struct audit *a)
{
        int r;

        if (a->n == 0)
                return 0;
        r = ask_both(a, &a->e);
        if (r == 0 && is_short(a)) {
                (void)nanosleep(&(struct timespec){ .tv_sec = SETTLE_S }, NULL);
                r = ask_both(a, &a->e);
        }
        for (size_t i = 0; i < a->n && r == 0; i++) {
                const struct expected *x = &a->expected[i];

                a->samples_expected += x->samples;
                a->samples_found += x->found;
                if (x->found < x->samples) {
                        a->lost += x->samples - x->found;
                        report(a, "hole", x->key, x->samples, x->found);
                } else if (x->found > x->samples) {
                        a->doubled += x->found - x->samples;
                        report(a, "doubled", x->key, x->samples, x->found);
                } else if (x->wrong) {
                        a->wrong++;
                        report(a, "other value", x->key, x->samples, x->found);
                }
        }
        clear_expected(a);
        return r;
}

/* Series come sorted by their metric's name. */
static int collect_series(void *userdata, const struct pack_series *s)
{
        CLEANUP(buf_done) struct buf key = { 0 };
        struct audit *a = userdata;
        struct expected x = { .samples = 0 };
        int r;

        if (strcmp(s->labels[0].value, a->metric) != 0) {
                r = compare_metric(a);
                if (r < 0)
                        return r;
                (void)snprintf(a->metric, sizeof(a->metric), "%s", s->labels[0].value);
        }
        for (size_t i = 0; i < s->n_samples; i++)
                if (s->samples[i].ts_ms > a->after_ms && s->samples[i].ts_ms <= a->end_ms) {
                        x.samples++;
                        x.last = pack_value(s->samples[i].total, s->decimals);
                }
        if (x.samples == 0)
                return 0;
        buf_init(&key, KEY_MAX);
        for (size_t i = 0; i < s->n_labels; i++)
                append_key(&key, s->labels[i].name, s->labels[i].value);
        if (a->n == a->cap) {
                struct expected *longer = reallocarray(a->expected, a->cap ? 2 * a->cap : 64, sizeof(x));

                if (!longer)
                        return -ENOMEM;
                a->expected = longer;
                a->cap = a->cap ? 2 * a->cap : 64;
        }
        x.key = key.failed || !key.data ? NULL : strdup(key.data);
        if (!x.key)
                return -ENOMEM;
        a->expected[a->n++] = x;
        return 0;
}

/* The range begins behind the interval before; a first interval also has samples at its start. */
static int compare_batch(struct audit *a, struct err *e)
{
        const struct pack_batch *b = a->batch;
        size_t samples;
        int r;

        a->after_ms = b->has_previous ? b->intervals[0].end_ms : b->intervals[0].start_ms - 2;
        a->end_ms = b->intervals[b->n_intervals - 1].end_ms;
        a->metric[0] = '\0';
        r = pack_each(b, collect_series, a, &samples, e);
        if (r == 0)
                r = compare_metric(a);
        clear_expected(a);
        return r < 0 && *a->e.text ? err_set(e, r, "%s", a->e.text) : r;
}

/* VictoriaMetrics tells its flags as metrics. */
static void find_dedup(struct audit *a)
{
        static const char flag[] = "flag{name=\"dedup.minScrapeInterval\", value=\"";
        CLEANUP(freep) char *body = NULL;
        const char *value;
        size_t size = 0;

        a->dedup = -1;
        if (a->d->kind != KIND_VICTORIAMETRICS || destination_query(a->d, "/metrics", &body, &size, NULL) < 0)
                return;
        value = strstr(body, flag);
        if (value)
                a->dedup = strncmp(value + sizeof(flag) - 1, "0s\"", 3) != 0;
        if (a->dedup == 0)
                log_warning("%s at '%s' runs without -dedup.minScrapeInterval=1ms: what is sent twice counts "
                            "twice",
                            a->d->own.name, a->d->query_url);
}

/* ---- model servers ---- */

static int send_again(struct audit *a, struct err *e)
{
        struct parcel p;
        int r;

        parcel_init(&p);
        r = destination_encode(a->d, a->batch, a->batch->intervals[pack_batch_first(a->batch)].id - 1, &p, e);
        if (r == 0)
                r = destination_deliver(a->d, &p, e);
        if (r == 0) {
                a->samples_expected += (int64_t)p.samples;
                a->samples_found += (int64_t)p.samples - p.answered_new;
                if (p.answered_new > 0) {
                        a->lost += p.answered_new;
                        report(a, "hole (filled)", "", (int64_t)p.samples,
                               (int64_t)p.samples - p.answered_new);
                }
        }
        parcel_done(&p);
        return r;
}

/* ---- bundles ---- */

static int audit_bundles(struct audit *a, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        struct manifest all = { NULL, 0 };
        const char *dir = a->options->file.path;
        int r;

        r = manifest_load(dir, (size_t)a->options->file.max_bundles, &all, &text, e);
        for (size_t i = 0; i < all.n && r == 0; i++) {
                CLEANUP(buf_done) struct buf body;
                char name[BUNDLE_NAME_MAX], path[4096], digest[HASH_HEX_SIZE] = "";

                buf_init(&body, (size_t)all.bundle[i].bytes + 1);
                bundle_name(all.bundle[i].number, name);
                if (path_join(path, sizeof(path), dir, name) == 0 && file_read(path, &body, NULL) == 0)
                        hash_sha256_hex(body.data ? body.data : "", body.size, digest);
                a->samples_expected += all.bundle[i].samples;
                a->intervals += all.bundle[i].last_id - all.bundle[i].first_id + 1;
                if (strcmp(digest, all.bundle[i].sha256) == 0) {
                        a->samples_found += all.bundle[i].samples;
                        continue;
                }
                a->lost += all.bundle[i].samples;
                a->n_holes++;
                (void)buf_printf(&a->holes, "%s{\"what\": \"%s\", \"file\": \"%s\"}",
                                 a->n_holes > 1 ? ", " : "", *digest ? "damaged" : "taken away", name);
                if (!a->options->json)
                        (void)printf("%s: '%s' is %s\n", a->d->own.name, path,
                                     *digest ? "damaged" : "not there");
        }
        manifest_done(&all);
        return r;
}

/* ---- all of it ---- */

static bool is_done_with(const struct cursor *c, int64_t id)
{
        if (id <= c->interval_id)
                return true;
        for (size_t i = 0; i < c->n_ranges; i++)
                if (id >= c->ranges[i].first_id && id <= c->ranges[i].last_id)
                        return true;
        return false;
}

static int audit_store(struct audit *a, struct store *store, struct err *e)
{
        struct store_range range = { 0, INT64_MAX, AUDIT_INTERVALS, AUDIT_ROWS };
        int64_t from_ms = 0, to_ms = 0;
        int r;

        r = options_parse_time(a->options->from, INT64_MIN, &from_ms, e);
        if (r == 0)
                r = options_parse_time(a->options->to, INT64_MAX, &to_ms, e);
        if (r == 0)
                r = store_find(store, from_ms, to_ms, &range.after_id, &range.last_id, e);
        while (r == 0) {
                CLEANUP(pack_batch_freep) struct pack_batch *batch = NULL;
                struct store_range part = range;
                int64_t first;

                r = store_first(store, range.after_id, range.last_id, &first, e);
                if (r <= 0)
                        break;
                part.after_id = first - 1;
                if (!is_done_with(&a->cursor, first)) { /* one by one: what is not sent is few */
                        a->not_sent++;
                        range.after_id = first;
                        r = 0;
                        continue;
                }
                if (first <= a->cursor.interval_id && part.last_id > a->cursor.interval_id)
                        part.last_id = a->cursor.interval_id;
                for (size_t i = 0; i < a->cursor.n_ranges; i++)
                        if (first >= a->cursor.ranges[i].first_id && first <= a->cursor.ranges[i].last_id &&
                            part.last_id > a->cursor.ranges[i].last_id)
                                part.last_id = a->cursor.ranges[i].last_id;
                r = store_read(store, &part, &batch, e);
                if (r <= 0)
                        break;
                range.after_id = batch->intervals[batch->n_intervals - 1].id;
                a->batch = batch;
                a->intervals += (int64_t)pack_batch_size(batch);
                r = a->d->kind == KIND_MODEL_SERVER ? send_again(a, e) : compare_batch(a, e);
        }
        return r < 0 ? r : 0;
}

static void print_result(const struct audit *a)
{
        static const char *const words[] = { "null", "false", "true" };

        if (!a->options->json) {
                (void)printf("%s: %lld intervals compared, %lld not sent yet, %lld refused; %lld of %lld "
                             "samples found, "
                             "%lld lost, %lld doubled, %lld series with another value\n",
                             a->d->own.name, (long long)a->intervals, (long long)a->not_sent,
                             (long long)a->cursor.refused_intervals, (long long)a->samples_found,
                             (long long)a->samples_expected, (long long)a->lost, (long long)a->doubled,
                             (long long)a->wrong);
                return;
        }
        (void)printf(
                "{\"destination\": \"%s\", \"intervals\": %lld, \"not_sent_intervals\": %lld, "
                "\"refused_intervals\": %lld, \"quarantined_batches\": %lld, \"expected_samples\": %lld, "
                "\"found_samples\": %lld, \"lost_samples\": %lld, \"doubled_samples\": %lld, "
                "\"other_values\": %lld, \"dedup\": %s, \"holes\": [%s]}\n",
                a->d->own.name, (long long)a->intervals, (long long)a->not_sent,
                (long long)a->cursor.refused_intervals, (long long)a->cursor.quarantined_batches,
                (long long)a->samples_expected, (long long)a->samples_found, (long long)a->lost,
                (long long)a->doubled, (long long)a->wrong, words[a->dedup + 1],
                a->holes.data ? a->holes.data : "");
}

static int audit_one(const struct options *o, enum kind kind)
{
        CLEANUP(destination_freep) struct destination *d = NULL;
        CLEANUP(store_closep) struct store *store = NULL;
        struct audit a = { .options = o, .dedup = -1 };
        struct err e = { "" };
        int r;

        if (kind == KIND_KEPLER_TRAINER) {
                log_warning("kepler-trainer keeps no samples, so there is nothing to compare");
                return 0;
        }
        buf_init(&a.holes, OUT_MAX);
        r = destination_open(o, kind, &d, &e);
        if (r == 0)
                r = store_open(o->store_path, &o->names, &store, &e);
        if (r == 0) {
                r = cursor_load(o->state_path, d->own.name, &a.cursor, &e);
                r = r == -ENOENT ? 0 : r;
        }
        if (r == 0) {
                a.d = d;
                find_dedup(&a);
                r = kind == KIND_FILE ? audit_bundles(&a, &e) : audit_store(&a, store, &e);
        }
        if (r == 0)
                print_result(&a);
        free(a.expected);
        buf_done(&a.holes);
        if (r < 0)
                return log_error(r, "%s", e.text);
        return a.n_holes > 0 || a.dedup == 0 ? EXIT_FAILED : EXIT_DONE;
}

int audit_run(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        int status = EXIT_DONE;

        (void)argc;
        (void)argv;
        for (int kind = 0; kind < KIND_N; kind++) {
                int r = options_enabled(o, (enum kind)kind) ? audit_one(o, (enum kind)kind) : EXIT_DONE;

                if (r != EXIT_DONE)
                        status = r;
        }
        return status;
}
