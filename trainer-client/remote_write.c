/* SPDX-License-Identifier: Apache-2.0 */
/* A batch for a Prometheus remote-write receiver: protobuf, snappy (the block format). One TimeSeries after
 * the other is appended as a field of the WriteRequest, so no more than one is unpacked at a time. */
#include <errno.h>
#include <snappy-c.h>
#include <string.h>
#include "common/json.h"
#include "remote_write.pb-c.h"
#include "trainer-client/destination.h"

#define FIELD_TIMESERIES 0x0a /* field 1, length-delimited */

struct writing {
        struct buf *out;
        Remote__Sample *sample; /* owned, as the next */
        Remote__Sample **samples;
        size_t cap;
};

static int make_room(struct writing *w, size_t n)
{
        if (n <= w->cap)
                return 0;
        free(w->sample);
        free(w->samples);
        w->sample = calloc(n, sizeof(*w->sample));
        w->samples = calloc(n, sizeof(Remote__Sample *));
        w->cap = w->sample && w->samples ? n : 0;
        for (size_t i = 0; i < w->cap; i++)
                w->samples[i] = &w->sample[i];
        return w->cap ? 0 : -ENOMEM;
}

static int append_message(struct buf *out, const Remote__TimeSeries *series)
{
        size_t size = remote__time_series__get_packed_size(series), rest = size;
        uint8_t head[1 + 10] = { FIELD_TIMESERIES };
        size_t n = 1;
        char *room;

        for (; rest >= 0x80; rest >>= 7)
                head[n++] = (uint8_t)(rest | 0x80);
        head[n++] = (uint8_t)rest;
        if (buf_append(out, head, n) < 0 || !(room = buf_reserve(out, size)))
                return out->failed;
        buf_grew(out, remote__time_series__pack(series, (uint8_t *)room));
        return 0;
}

/* An empty label is no label there, and some receivers refuse it. */
static int append_series(void *userdata, const struct pack_series *s)
{
        struct writing *w = userdata;
        Remote__Label label[PACK_LABELS_MAX], *labels[PACK_LABELS_MAX];
        Remote__TimeSeries series = REMOTE__TIME_SERIES__INIT;

        if (make_room(w, s->n_samples) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < s->n_labels; i++) {
                if (!*s->labels[i].value)
                        continue;
                remote__label__init(&label[series.n_labels]);
                label[series.n_labels].name =
                        (char *)(uintptr_t)s->labels[i].name; /* protobuf-c lacks const */
                label[series.n_labels].value = (char *)(uintptr_t)s->labels[i].value;
                labels[series.n_labels] = &label[series.n_labels];
                series.n_labels++;
        }
        for (size_t i = 0; i < s->n_samples; i++) {
                remote__sample__init(&w->sample[i]);
                w->sample[i].value = pack_value(s->samples[i].total, s->decimals);
                w->sample[i].timestamp = s->samples[i].ts_ms;
        }
        series.labels = labels;
        series.samples = w->samples;
        series.n_samples = s->n_samples;
        return append_message(w->out, &series);
}

int encode_remote_write(struct destination *d, const struct series_source *source, struct parcel *p,
                        struct err *e)
{
        struct writing w = { .out = &d->plain };
        size_t size;
        char *room;
        int r;

        buf_clear(&d->plain);
        r = source->each(source, append_series, &w, &p->samples, e);
        free(w.sample);
        free(w.samples);
        if (r < 0)
                return r;
        p->plain_size = d->plain.size;
        size = snappy_max_compressed_length(d->plain.size);
        room = buf_reserve(&p->body, size);
        if (!room)
                return err_set(e, p->body.failed, "a batch is too large");
        if (snappy_compress(d->plain.data, d->plain.size, room, &size) != SNAPPY_OK)
                return err_set(e, -EIO, "cannot compress a batch");
        buf_grew(&p->body, size);
        return 0;
}

/* ---- a receiver that is past our samples ---- */

/* Does the receiver hold the batch? It takes a request whole or not at all, so the one series that every
 * batch has tells of all. 1, 0, or an error when it cannot be asked. */
static int holds(struct destination *d, const struct parcel *p, struct err *e)
{
        CLEANUP(json_decrefp) json_t *answer = NULL;
        CLEANUP(freep) char *query = NULL, *escaped = NULL, *path = NULL, *body = NULL;
        const json_t *value;
        size_t size = 0;
        int r;

        /* a range reaches back from its end and may leave out its beginning */
        if (asprintf(&query,
                     "sum(count_over_time(wattloop_node_measured_seconds_total{node_id=\"%s\",epoch=\"%s\"}[%"
                     "lldms]))",
                     p->node_id, p->range.epoch, (long long)(p->range.end_ms - p->first_end_ms + 1)) < 0) {
                query = NULL;
                return -ENOMEM;
        }
        escaped = destination_escape(query);
        if (!escaped || asprintf(&path, "/api/v1/query?query=%s&time=%.3f", escaped,
                                 (double)p->range.end_ms / 1000) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        r = destination_query(d, path, &body, &size, e);
        if (r == 0)
                r = json_parse(body, size, "answer", &answer, e);
        if (r < 0)
                return r;
        value = json_array_get(
                json_object_get(json_array_get(json_object_get(json_object_get(answer, "data"), "result"), 0),
                                "value"),
                1);
        return json_is_string(value) && strtoll(json_string_value(value), NULL, 10) >= p->intervals;
}

static bool is_past(const char *words)
{
        static const char *const said[] = { "out of bounds", "out of order",     "out-of-order",
                                            "too old",       "duplicate sample", "duplicate-timestamp",
                                            "too-old" };

        for (size_t i = 0; i < ARRAY_SIZE(said); i++)
                if (strcasestr(words, said[i]))
                        return true;
        return false;
}

int refused_remote_write(struct destination *d, struct parcel *p, const char *words, struct err *e)
{
        int r;

        if (!is_past(words))
                return err_set(e, -EBADMSG, "the receiver refused the batch with 400: %s", words);
        r = holds(d, p, NULL);
        if (r > 0 || (r < 0 && p->again)) /* an earlier attempt arrived: it is there already */
                return 0;
        return err_set(e, -ESTALE, "the receiver is past these samples: %s", words);
}
