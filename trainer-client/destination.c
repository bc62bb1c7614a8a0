/* SPDX-License-Identifier: Apache-2.0 */
/* The table of destinations, and the three that take our lines as they are. */
#include "trainer-client/destination.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include "common/http.h"
#include "common/json.h"
#include "config/cli.h"
#include "trainer-client/bundle.h"

#define ANSWER_MAX ((size_t)64 << 10)
#define ZIP_MAX    ((size_t)256 << 20)
#define BODY_MAX   ((size_t)256 << 20)
#define LINES_MAX  ((size_t)256 << 20)

static const char *const lines_headers[] = { "Content-Type: application/x-ndjson", "Content-Encoding: gzip",
                                             NULL };
static const char *const remote_write_headers[] = { "Content-Type: application/x-protobuf",
                                                    "Content-Encoding: snappy",
                                                    "X-Prometheus-Remote-Write-Version: 0.1.0", NULL };
static const char *const json_headers[] = { "Content-Type: application/json", NULL };

static int acknowledge_import(struct destination *d, struct parcel *p, const char *body, size_t size,
                              long status, struct err *e);
static int acknowledge_empty(struct destination *d, struct parcel *p, const char *body, size_t size,
                             long status, struct err *e);

const struct destination_kind destination_kinds[KIND_N] = {
        [KIND_MODEL_SERVER] = { .name = "model-server",
                                .path = "/api/v1/import",
                                .headers = lines_headers,
                                .max_answer = ANSWER_MAX,
                                .extension = "jsonl.gz",
                                .encode = encode_lines,
                                .acknowledge = acknowledge_import },
        [KIND_VICTORIAMETRICS] = { .name = "victoriametrics",
                                   .path = "/api/v1/import",
                                   .headers = lines_headers,
                                   .max_answer = ANSWER_MAX,
                                   .extension = "jsonl.gz",
                                   .encode = encode_lines,
                                   .acknowledge = acknowledge_empty },
        [KIND_REMOTE_WRITE] = { .name = "prometheus-remote-write",
                                .path = "",
                                .headers = remote_write_headers,
                                .max_answer = ANSWER_MAX,
                                .extension = "pb.snappy",
                                .encode = encode_remote_write,
                                .acknowledge = acknowledge_empty,
                                .refused = refused_remote_write },
        [KIND_KEPLER_TRAINER] = { .name = "kepler-trainer",
                                  .path = "/train",
                                  .headers = json_headers,
                                  .slow_answer = true,
                                  .max_answer = ZIP_MAX,
                                  .extension = "json",
                                  .encode = encode_kepler,
                                  .acknowledge = acknowledge_kepler },
        [KIND_FILE] = { .name = "file",
                        .extension = "jsonl.gz",
                        .encode = encode_lines,
                        .deliver = deliver_file },
};

/* ---- life ---- */

void parcel_init(struct parcel *p)
{
        *p = (struct parcel){ .after_id = 0 };
        buf_init(&p->body, BODY_MAX);
}

void parcel_done(struct parcel *p)
{
        buf_done(&p->body);
}

void destination_free(struct destination *d)
{
        if (!d)
                return;
        http_free(d->http);
        http_free(d->query_http);
        bundles_free(d->bundles);
        compressor_free(d->compressor);
        buf_done(&d->plain);
        (void)pthread_mutex_destroy(&d->encoding);
        free(d->url);
        free(d->query_url);
        free(d);
}

static char *join_url(const char *base, const char *path)
{
        size_t n = strlen(base);
        char *url;

        while (n > 0 && *path && base[n - 1] == '/')
                n--;
        return n <= INT_MAX && asprintf(&url, "%.*s%s", (int)n, base, path) >= 0 ? url : NULL;
}

/* Where questions go: what the options say, else what follows from the url. */
static char *find_query_url(const struct options *o, enum kind kind)
{
        static const char write_path[] = "/api/v1/write";
        const char *url = o->destination[kind].url, *set = o->audit_url[kind];
        size_t n;

        if (set && *set)
                return join_url(set, "");
        if (kind == KIND_VICTORIAMETRICS)
                return join_url(url, "");
        n = kind == KIND_REMOTE_WRITE ? strlen(url) : 0;
        if (n < sizeof(write_path) || strcmp(url + n - (sizeof(write_path) - 1), write_path) != 0)
                return strdup("");
        return strndup(url, n - (sizeof(write_path) - 1));
}

int destination_open(const struct options *o, enum kind kind, struct destination **ret, struct err *e)
{
        CLEANUP(destination_freep) struct destination *d = calloc(1, sizeof(*d));
        int r = 0;

        if (!d)
                return err_set(e, -ENOMEM, "out of memory");
        (void)pthread_mutex_init(&d->encoding, NULL);
        buf_init(&d->plain, LINES_MAX);
        d->kind = kind;
        d->row = &destination_kinds[kind];
        d->options = o;
        d->own = options_destination(o, kind);
        d->compressor = compressor_new();
        if (kind == KIND_FILE) {
                r = bundles_open(o->file.path, o->file.secret_key_file, (size_t)o->file.max_bundles,
                                 &d->bundles, e);
        } else {
                d->url = join_url(d->own.url, d->row->path);
                d->query_url = find_query_url(o, kind);
                r = http_new("wattloop-trainer-client/" WATTLOOP_VERSION, &d->http, e);
        }
        if (r < 0)
                return r;
        if (!d->compressor || (kind != KIND_FILE && (!d->url || !d->query_url)))
                return err_set(e, -ENOMEM, "out of memory");
        *ret = TAKE(d);
        return 0;
}

/* ---- lines ---- */

static int each_of_batch(const struct series_source *source, pack_emit_fn emit, void *userdata,
                         size_t *ret_samples, struct err *e)
{
        return pack_each(source->data, emit, userdata, ret_samples, e);
}

struct series_source series_of_batch(const struct pack_batch *batch)
{
        return (struct series_source){ each_of_batch, batch };
}

int encode_lines(struct destination *d, const struct series_source *source, struct parcel *p, struct err *e)
{
        int r;

        buf_clear(&d->plain);
        r = source->each(source, pack_append_line, &d->plain, &p->samples, e);
        if (r < 0)
                return r;
        p->plain_size = d->plain.size;
        return compressor_gzip(d->compressor, &d->plain, &p->body, e);
}

int destination_encode(struct destination *d, const struct pack_batch *batch, int64_t after_id,
                       struct parcel *p, struct err *e)
{
        const struct pack_interval *first = &batch->intervals[pack_batch_first(batch)];
        const struct pack_interval *last = &batch->intervals[batch->n_intervals - 1];
        const struct series_source source = series_of_batch(batch);
        int r;

        p->after_id = after_id;
        p->range =
                (struct cursor_range){ .first_id = first->id, .last_id = last->id, .end_ms = last->end_ms };
        p->first_end_ms = first->end_ms;
        p->intervals = (int64_t)pack_batch_size(batch);
        (void)snprintf(p->range.epoch, sizeof(p->range.epoch), "%s", batch->node.epoch);
        (void)snprintf(p->node_id, sizeof(p->node_id), "%s", batch->node.node_id);
        (void)snprintf(p->name, sizeof(p->name), "%.64s/%.64s/%lld-%lld", batch->node.node_id,
                       batch->node.epoch, (long long)first->id, (long long)last->id);
        buf_clear(&p->body);
        (void)pthread_mutex_lock(&d->encoding);
        r = d->row->encode(d, &source, p, e);
        (void)pthread_mutex_unlock(&d->encoding);
        return r == -EFBIG ? -E2BIG : r;
}

/* ---- acknowledgements ---- */

/* A 200 acknowledges when it counts every sample we sent. Anything else (a proxy's welcome page, another
 * service) must not move the cursor. */
static int acknowledge_import(struct destination *d, struct parcel *p, const char *body, size_t size,
                              long status, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        long long samples = 0, ignored = 0, fresh = 0;
        int r;

        (void)d;
        if (status == 204)
                return 0;
        r = json_parse(body, size, "answer", &object, e);
        if (r == 0)
                r = json_get_int(object, "samples", &samples, e);
        if (r < 0)
                return err_prefix(e, -EPROTO, "the server answered %ld without an acknowledgement", status);
        (void)json_get_int(object, "ignored", &ignored, NULL); /* 0 when it does not say */
        (void)json_get_int(object, "new", &fresh, NULL);
        p->answered_new = fresh;
        if (samples < 0 || ignored < 0 || (uint64_t)samples + (uint64_t)ignored < p->samples)
                return err_set(e, -EPROTO, "the server acknowledged %lld samples of %zu", samples,
                               p->samples);
        return 0;
}

/* A time series database says 204, or 200 with nothing in it. */
static int acknowledge_empty(struct destination *d, struct parcel *p, const char *body, size_t size,
                             long status, struct err *e)
{
        (void)p;
        (void)body;
        if (status == 204 || size == 0)
                return 0;
        return err_set(e, -EPROTO, "the server answered %ld with text, so it is no %s", status, d->row->name);
}
