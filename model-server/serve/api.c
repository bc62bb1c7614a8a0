/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/api.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/num.h"
#include "model-server/reports.h"
#include "model-server/serve/page.h"
#include "model-server/serve/request.h"
#include "model-server/serve/rollouts.h"
#include "model-server/serve/seal.h"
#include "model-server/serve/select.h"
#include "model-server/serve/trainings.h"
#include "model/model.h"

#define REQUEST_BODY_MAX ((size_t)256 << 10) /* POST /model */
#define REPLY_BODY_MAX   ((size_t)64 << 20)
#define QUERY_VALUE_MAX  256
#define RETRY_AFTER      "5"

static const char type_json[] = "application/json";
static const char type_html[] = "text/html; charset=utf-8"; /* upstream's, for words */
static const char type_text[] = "text/plain; charset=utf-8";
static const char type_metrics[] = "text/plain; version=0.0.4; charset=utf-8";

void reply_init(struct reply *reply)
{
        memset(reply, 0, sizeof(*reply));
        reply->status = 200;
        reply->type = type_json;
        reply->fd = -1;
        buf_init(&reply->body, REPLY_BODY_MAX);
}

void reply_done(struct reply *reply)
{
        buf_done(&reply->body);
        free(reply->signature);
        if (reply->fd >= 0)
                (void)close(reply->fd);
}

void reply_header(struct reply *reply, const char *name, const char *fmt, ...)
{
        va_list ap;

        if (reply->headers_n == REPLY_HEADERS_MAX)
                return;
        (void)snprintf(reply->headers[reply->headers_n].name, sizeof(reply->headers[0].name), "%s", name);
        va_start(ap, fmt);
        (void)vsnprintf(reply->headers[reply->headers_n].value, sizeof(reply->headers[0].value), fmt, ap);
        va_end(ap);
        reply->headers_n++;
}

void reply_words(struct reply *reply, int status, const char *words)
{
        reply->status = status;
        reply->type = type_html;
        reply_header(reply, "Content-Security-Policy", "default-src 'none'; sandbox");
        reply_header(reply, "X-Content-Type-Options", "nosniff");
        (void)buf_puts(&reply->body, words); /* failure is sticky */
}

void reply_error(struct reply *reply, int status, const char *fmt, ...)
{
        char words[512];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(words, sizeof(words), fmt, ap);
        va_end(ap);
        reply->status = status;
        reply->type = type_json;
        buf_clear(&reply->body);
        (void)buf_puts(&reply->body, "{\"error\": ");
        (void)json_write_string(&reply->body, words);
        (void)buf_puts(&reply->body, "}");
}

void reply_digest(struct reply *reply)
{
        unsigned char hash[crypto_hash_sha256_BYTES];
        char text[sodium_base64_ENCODED_LEN(sizeof(hash), sodium_base64_VARIANT_ORIGINAL)];

        (void)crypto_hash_sha256(hash, (const unsigned char *)reply->body.data, reply->body.size);
        (void)sodium_bin2base64(text, sizeof(text), hash, sizeof(hash), sodium_base64_VARIANT_ORIGINAL);
        reply_header(reply, "Digest", "sha-256=%s", text);
}

static bool is_json_type(const char *type)
{
        size_t n = type ? strcspn(type, "; \t") : 0;

        return n == strlen(type_json) && !strncasecmp(type, type_json, n);
}

static const char *etag_of(const struct offer *offer, const char *digest)
{
        return offer->archive.text ? offer->content_id : digest;
}

/* Does If-None-Match name this? Weakly: our replies to a tag are the same bytes. */
static bool matches(const char *tags, const char *etag)
{
        size_t n = strlen(etag);

        if (!tags)
                return false;
        if (!strcmp(tags, "*"))
                return true;
        for (const char *p = strstr(tags, etag); p; p = strstr(p + 1, etag))
                if (p > tags && p[-1] == '"' && p[n] == '"')
                        return true;
        return false;
}

/* Caches may keep it, but ask each time whether it is still so. True: the client has it already. */
static bool reply_validators(const char *etag, const char *known, struct reply *reply)
{
        reply_header(reply, "ETag", "\"%s\"", etag);
        reply_header(reply, "Cache-Control", "no-cache");
        if (!matches(known, etag))
                return false;
        reply->status = 304;
        return true;
}

/* A model that cannot be signed now is not handed out as if signatures were not wanted here. */
static void check_sealed(int r, const struct err *e, const struct offer *offer, struct reply *reply)
{
        if (r == 0)
                return;
        (void)log_error(r, "model '%s' is not signed: %s", offer->name, e->text);
        if (r == -EBADMSG)
                return; /* nor would an updater take it */
        if (reply->fd >= 0)
                (void)close(reply->fd);
        reply->fd = -1;
        reply_error(reply, 503, "the model cannot be signed now");
        reply_header(reply, "Retry-After", RETRY_AFTER);
}

static void reply_archive(struct server *s, const struct choice *choice, const char *known,
                          struct reply *reply)
{
        const struct offer *offer = choice->offer;
        char when[64], digest[DIGEST_MAX];
        struct err e;
        struct tm tm;
        int r = offer_open_archive(choice->catalog, offer, &reply->fd, &reply->fd_size, digest, &e);

        if (r < 0) {
                (void)log_error(r, "cannot serve model '%s': %s", offer->name, e.text);
                reply_error(reply, 500, "cannot read the model");
                return;
        }
        reply->type = offer->wattloop ? ACCEPT_WATTLOOP : "application/zip";
        (void)gmtime_r(&offer->archive_time, &tm);
        (void)strftime(when, sizeof(when), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        reply_header(reply, "Last-Modified", "%s", when);
        if (reply_validators(etag_of(offer, digest), known, reply))
                return;
        reply_header(reply, "Content-Disposition", "attachment; filename=%s.zip", offer->name);
        reply_header(reply, "Digest", "sha-256=%s", digest);
        if (reply->fd < 0)
                (void)buf_append(&reply->body, offer->archive.text,
                                 offer->archive.size); /* failure is sticky */
        r = seal_archive(s, offer, digest, &choice->terms, reply, &e);
        check_sealed(r, &e, offer, reply);
}

static void reply_weights(struct server *s, const struct choice *choice, const struct answer *weights,
                          struct reply *reply)
{
        struct err e;
        int r;

        (void)buf_append(&reply->body, weights->text, weights->size); /* failure is sticky */
        reply_header(reply, "Digest", "sha-256=%s", weights->digest);
        r = seal_weights(s, choice->offer, weights, &choice->terms, reply, &e);
        check_sealed(r, &e, choice->offer, reply);
}

static void reply_no_model(const json_t *body, struct reply *reply)
{
        CLEANUP(buf_done) struct buf words = { 0 };

        buf_init(&words, REQUEST_REPR_MAX + 256);
        (void)buf_puts(&words, "cannot find model for ");
        request_write_repr(body, &words);
        (void)buf_puts(&words, " at the moment");
        reply_words(reply, 400, words.data ? words.data : "");
}

static void choice_done(struct choice *choice)
{
        catalog_unref(choice->catalog);
}

#define NODE_ID_DIGITS 32

/* NULL: the client does not say, or not as it should, which node it is. */
static const char *node_of(const struct call *call)
{
        const char *id = call->header(call, "Wattloop-Node");

        return id && strlen(id) == NODE_ID_DIGITS && strspn(id, "0123456789abcdef") == NODE_ID_DIGITS ? id
                                                                                                      : NULL;
}

/* False: the query names no wish that there is. */
static bool read_wish(const struct call *call, enum rollout_wish *ret)
{
        static const char *const names[] = { [WISH_STABLE] = "stable", [WISH_CANDIDATE] = "candidate" };
        const char *text = call->query(call, "rollout");

        *ret = WISH_OWN;
        for (int i = WISH_STABLE; text && i <= WISH_CANDIDATE; i++)
                if (!strcmp(text, names[i]))
                        *ret = (enum rollout_wish)i;
        return !text || *ret != WISH_OWN;
}

static void choose(struct server *s, const struct call *call, const struct model_request *request,
                   enum rollout_wish wish, struct choice *ret)
{
        *ret = (struct choice){ 0 };
        if (s->rollouts) {
                rollouts_choose(s->rollouts, request, node_of(call), wish, ret);
                return;
        }
        ret->catalog = server_catalog(s);
        if (wish != WISH_CANDIDATE)
                ret->offer = select_model(ret->catalog, request);
}

static const struct answer *weights_of(const struct choice *choice, const struct model_request *request)
{
        return request->node_type == -1 ? &choice->offer->weights_named : &choice->offer->weights;
}

static void answer_request(struct server *s, const struct call *call, const json_t *body,
                           struct model_request *request, struct reply *reply)
{
        CLEANUP(choice_done) struct choice choice = { 0 };

        /* Kepler's exporter never sets node_type, so that its 0 means "any" and its spec is what counts. */
        if (s->options->prefer_machine_spec && request->node_type == 0 && spec_usable(&request->spec))
                request->node_type = -1;
        choose(s, call, request, WISH_OWN, &choice);
        if (!choice.offer) {
                reply_no_model(body, reply);
        } else if (request->weight) {
                reply_weights(s, &choice, weights_of(&choice, request), reply);
        } else {
                reply_archive(s, &choice, NULL, reply);
        }
}

static void handle_model(struct server *s, const struct call *call, struct reply *reply)
{
        const char *accept = call->header(call, "Accept");
        CLEANUP(json_decrefp) json_t *body = NULL;
        struct model_request request;
        struct err e;
        int r;

        if (!is_json_type(call->header(call, "Content-Type"))) {
                reply_words(reply, 415, "Content-Type is not application/json");
                return;
        }
        r = json_parse(call->body ? call->body : "", call->size, "request", &body, &e);
        if (r == 0)
                r = request_from_json(body, &request, &e);
        if (r < 0) {
                reply_words(reply, 400, e.text);
                return;
        }
        request.wattloop = accept && strstr(accept, ACCEPT_WATTLOOP);
        answer_request(s, call, body, &request, reply);
}

/* Query parameters of GET /api/v1/models are the keys of POST /model; lists are separated by commas. */
enum query_kind { QUERY_TEXT, QUERY_BOOL, QUERY_LIST, QUERY_JSON };
static const struct {
        const char *name;
        enum query_kind kind;
} model_queries[] = { { "metrics", QUERY_LIST },      { "output_type", QUERY_TEXT },
                      { "source", QUERY_TEXT },       { "node_type", QUERY_TEXT },
                      { "weight", QUERY_BOOL },       { "trainer_name", QUERY_TEXT },
                      { "filter", QUERY_TEXT },       { "pipeline_name", QUERY_TEXT },
                      { "machine_spec", QUERY_JSON }, { "loose_node_type", QUERY_BOOL } };

static json_t *split_list(const char *text)
{
        json_t *list = json_array();

        for (;; text++) {
                size_t n = strcspn(text, ",");

                if (n)
                        (void)json_array_append_new(list, json_stringn(text, n));
                text += n;
                if (!*text)
                        return list;
        }
}

/* The attributes of a machine spec may also stand alone: processor=…&cores=… */
static void add_spec_queries(const struct call *call, json_t *body)
{
        json_t *spec = json_object_get(body, "machine_spec");

        for (int a = 0; a < SPEC_N; a++) {
                const char *value = call->query(call, spec_names[a]);

                if (!value)
                        continue;
                if (!spec) {
                        spec = json_object();
                        (void)json_object_set_new(body, "machine_spec", spec);
                }
                (void)json_object_set_new(spec, spec_names[a], json_string(value));
        }
}

static int body_from_query(const struct call *call, json_t **ret, struct err *e)
{
        CLEANUP(json_decrefp) json_t *body = json_object();

        for (size_t i = 0; i < ARRAY_SIZE(model_queries); i++) {
                const char *name = model_queries[i].name, *text = call->query(call, name);
                json_t *value = NULL;
                int r = 0;

                if (!text)
                        continue;
                if (model_queries[i].kind == QUERY_LIST)
                        value = split_list(text);
                else if (model_queries[i].kind == QUERY_BOOL)
                        value = json_boolean(!strcmp(text, "true") || !strcmp(text, "1"));
                else if (model_queries[i].kind == QUERY_JSON)
                        r = json_parse(text, strlen(text), name, &value, e);
                else
                        value = json_string(text);
                if (r < 0)
                        return r;
                (void)json_object_set_new(body, name, value);
        }
        add_spec_queries(call, body);
        *ret = TAKE(body);
        return 0;
}

/* The same choice as POST /model, as a resource: with a tag, and 304 to a client that has it. */
static void handle_models(struct server *s, const struct call *call, struct reply *reply)
{
        const char *accept = call->header(call, "Accept"), *known = call->header(call, "If-None-Match");
        CLEANUP(choice_done) struct choice choice = { 0 };
        CLEANUP(json_decrefp) json_t *body = NULL;
        struct model_request request;
        struct err e;
        enum rollout_wish wish;
        int r = body_from_query(call, &body, &e);

        if (r == 0)
                r = request_from_json(body, &request, &e);
        if (r == 0 && !read_wish(call, &wish))
                r = err_set(&e, -EINVAL, "rollout is neither 'stable' nor 'candidate'");
        if (r < 0) {
                reply_error(reply, 400, "%s", e.text);
                return;
        }
        request.wattloop = accept && strstr(accept, ACCEPT_WATTLOOP);
        if (s->rollouts || !request.weight)
                reply_header(reply, "Vary", "%s%s%s", request.weight ? "" : "Accept",
                             s->rollouts && !request.weight ? ", " : "", s->rollouts ? "Wattloop-Node" : "");
        choose(s, call, &request, wish, &choice);
        if (!choice.offer) {
                reply_error(reply, 404, "no model fits this request");
        } else if (!request.weight) {
                reply_archive(s, &choice, known, reply);
        } else {
                const struct answer *weights = weights_of(&choice, &request);

                if (!reply_validators(weights->digest, known, reply))
                        reply_weights(s, &choice, weights, reply);
        }
}

/* The list of release keys and its signature, as they are on the disk: who holds the root key puts new ones
 * there. */
static void reply_keys(struct server *s, const char *suffix, const char *type, struct reply *reply)
{
        char path[CATALOG_PATH_MAX];
        struct err e;
        int r = -ENOENT;

        if (*s->options->signing_keys_file &&
            snprintf(path, sizeof(path), "%s%s", s->options->signing_keys_file, suffix) < (int)sizeof(path))
                r = file_read(path, &reply->body, &e);
        if (r == -ENOENT) {
                reply_error(reply, 404, "this server has no list of keys");
        } else if (r < 0) {
                (void)log_error(r, "signing.keys_file: %s", e.text);
                reply_error(reply, 500, "cannot read the list of keys");
        } else {
                reply->type = type;
                reply_header(reply, "Cache-Control", "no-cache");
        }
}

static void handle_keys(struct server *s, const struct call *call, struct reply *reply)
{
        (void)call;
        reply_keys(s, "", type_json, reply);
}

static void handle_keys_signature(struct server *s, const struct call *call, struct reply *reply)
{
        (void)call;
        reply_keys(s, ".minisig", type_text, reply);
}

static void reply_best_failed(struct reply *reply, const char *why)
{
        char words[QUERY_VALUE_MAX + 128];

        (void)snprintf(words, sizeof(words), "failed to get best model list: %s", why);
        reply_words(reply, 400, words);
}

/* Fills the query from its parameters; false with the reply made. */
static bool read_best_query(const struct call *call, struct best_query *query, struct reply *reply)
{
        const char *source = call->query(call, "energy-source"), *type = call->query(call, "output-type");
        const char *group = call->query(call, "feature-group"), *node_type = call->query(call, "node-type");
        const char *filter = call->query(call, "filter"), *unknown = NULL;
        char quoted[QUERY_VALUE_MAX];
        int64_t n = -1;

        *query = (struct best_query){ energy_source_find(source), -1, -1, -1, filter ? filter : "" };
        for (int i = 0; type && output_types[i]; i++)
                if (!strcmp(type, output_types[i]))
                        query->output_type = i;
        if (group && feature_group_find(group))
                query->group = (int)(feature_group_find(group) - feature_groups);
        if (!query->source)
                unknown = source;
        else if (type && query->output_type < 0)
                unknown = type;
        else if (group && query->group < 0)
                unknown = group;
        else if (node_type && (num_parse_i64(node_type, &n) < 0 || n < -1 || n > INT32_MAX))
                unknown = node_type;
        query->node_type = (int)n;
        if (!unknown)
                return true;
        (void)snprintf(quoted, sizeof(quoted), "'%.200s'", unknown);
        reply_best_failed(reply, quoted);
        return false;
}

static void handle_best_models(struct server *s, const struct call *call, struct reply *reply)
{
        CLEANUP(catalog_unrefp) struct catalog *catalog = NULL;
        CLEANUP(json_decrefp) json_t *best = NULL;
        struct best_query query;
        struct err e;

        if (!read_best_query(call, &query, reply))
                return;
        catalog = server_catalog(s);
        if (select_best(catalog, &query, &best, &e) < 0) {
                reply_best_failed(reply, e.text);
                return;
        }
        (void)json_write(best, &reply->body);
}

static int import_status(int r)
{
        switch (r) {
        case -EBADMSG:
        case -E2BIG:
                return 400;
        case -EACCES:
                return 403;
        case -EFBIG:
                return 413;
        case -ENOSPC:
                return 507;
        case -EBUSY:
        case -ENOMEM:
                return 503;
        default:
                return 500;
        }
}

static void reply_import_failed(struct server *s, struct reply *reply, const char *batch, int r,
                                const char *words)
{
        int status = import_status(r);

        reply_error(reply, status, "%s", words);
        if (status == 503 || status == 507)
                reply_header(reply, "Retry-After", RETRY_AFTER);
        if (status >= 500)
                (void)log_error(r, "batch '%.128s' is not stored: %s", batch, words);
        else
                log_warning("batch '%.128s' is refused: %s", batch, words);
        server_note_refusal(s, batch, status, words);
}

/* Takes the upload apart; false with the reply made. */
static bool read_upload(struct server *s, const struct call *call, struct upload *ret, struct reply *reply)
{
        const char *encoding = call->header(call, "Content-Encoding"),
                   *name = call->header(call, "Wattloop-Batch");

        *ret = (struct upload){ .data = call->body ? call->body : "",
                                .size = call->size,
                                .gzip = encoding && !strcasecmp(encoding, "gzip"),
                                .name = name ? name : "",
                                .node_id = call->node_id };
        if (encoding && !ret->gzip && strcasecmp(encoding, "identity") != 0) {
                reply_error(reply, 415, "Content-Encoding '%.64s' is neither gzip nor identity", encoding);
                server_note_refusal(s, *ret->name ? ret->name : "(unnamed)", 415,
                                    "Content-Encoding is neither gzip nor identity");
                return false;
        }
        (void)crypto_hash_sha256(ret->hash, ret->data, ret->size);
        return true;
}

static void reply_upload(struct server *s, const struct upload *u, struct reply *reply)
{
        const struct import_counts *n = &u->counts;

        if (u->result < 0) {
                reply_import_failed(s, reply, *u->name ? u->name : "(unnamed)", u->result, u->e.text);
                return;
        }
        log_debug("batch '%.128s': %llu samples, %llu new, %llu rows", u->name,
                  (unsigned long long)n->samples, (unsigned long long)n->added, (unsigned long long)n->rows);
        (void)buf_printf(&reply->body,
                         "{\"samples\": %llu, \"new\": %llu, \"duplicate\": %llu, \"ignored\": %llu}",
                         (unsigned long long)n->samples, (unsigned long long)n->added,
                         (unsigned long long)n->duplicate, (unsigned long long)n->ignored);
}

static void handle_imports(struct server *s, const struct call *const calls[], struct reply *const replies[],
                           size_t n)
{
        CLEANUP(freep) struct upload *uploads = calloc(n, sizeof(*uploads));
        CLEANUP(freep) struct upload **good = calloc(n, sizeof(struct upload *));
        size_t good_n = 0;

        for (size_t i = 0; i < n; i++) {
                if (!uploads || !good)
                        reply_import_failed(s, replies[i], "(any)", -ENOMEM, "out of memory");
                else if (read_upload(s, calls[i], &uploads[i], replies[i]))
                        good[good_n++] = &uploads[i];
        }
        if (!good_n)
                return;
        server_import(s, good, good_n);
        for (size_t i = 0; i < good_n; i++)
                reply_upload(s, good[i], replies[good[i] - uploads]);
}

static void handle_report(struct server *s, const struct call *call, struct reply *reply)
{
        size_t added = 0, n = 0;
        struct err e;
        int r, status;

        if (!is_json_type(call->header(call, "Content-Type"))) {
                reply_error(reply, 415, "Content-Type is not application/json");
                return;
        }
        r = server_report(s, call->body ? call->body : "", call->size, call->node_id, &added, &n, &e);
        if (r >= 0) {
                (void)buf_printf(&reply->body, "{\"new\": %zu, \"duplicate\": %zu}", added, n - added);
                return;
        }
        status = import_status(r);
        reply_error(reply, status, "%s", e.text);
        if (status >= 500)
                (void)log_error(r, "a report is not stored: %s", e.text);
        if (status == 503 || status == 507)
                reply_header(reply, "Retry-After", RETRY_AFTER);
}

static void handle_status(struct server *s, const struct call *call, struct reply *reply)
{
        CLEANUP(json_decrefp) json_t *status = NULL;
        struct err e;
        int r = server_status(s, &status, &e);

        (void)call;
        if (r == 0)
                (void)json_write(status, &reply->body); /* failure is sticky */
        if (r < 0) {
                (void)log_error(r, "cannot tell the status: %s", e.text);
                reply_error(reply, 500, "%s", e.text);
        }
}

static void handle_metrics(struct server *s, const struct call *call, struct reply *reply)
{
        (void)call;
        reply->type = type_metrics;
        server_write_metrics(s, &reply->body);
}

static void handle_health(struct server *s, const struct call *call, struct reply *reply)
{
        (void)s;
        (void)call;
        reply->type = type_text;
        (void)buf_puts(&reply->body, "ok");
}

static bool submit_training(struct server *s, const struct call *call, struct reply *reply,
                            void (*done)(void *arg), void *arg)
{
        return trainings_submit(s->trainings, call, reply, (uint64_t)s->options->seed, done, arg);
}

static void handle_training(struct server *s, const struct call *call, struct reply *reply)
{
        trainings_status(s->trainings, call, reply);
}

static void handle_training_result(struct server *s, const struct call *call, struct reply *reply)
{
        trainings_result(s->trainings, call, reply);
}

#define ALLOW_GET  "GET, HEAD, OPTIONS"
#define ALLOW_POST "OPTIONS, POST"

static const struct route routes[] = {
        { "/", "GET", ALLOW_GET, REQUEST_BODY_MAX, false, true, page_handle, NULL, NULL },
        { "/model", "POST", ALLOW_POST, REQUEST_BODY_MAX, false, false, handle_model, NULL, NULL },
        { "/best-models", "GET", ALLOW_GET, REQUEST_BODY_MAX, false, false, handle_best_models, NULL, NULL },
        { "/api/v1/models", "GET", ALLOW_GET, REQUEST_BODY_MAX, false, false, handle_models, NULL, NULL },
        { "/api/v1/keys", "GET", ALLOW_GET, REQUEST_BODY_MAX, false, false, handle_keys, NULL, NULL },
        { "/api/v1/keys.minisig", "GET", ALLOW_GET, REQUEST_BODY_MAX, false, false, handle_keys_signature,
          NULL, NULL },
        { "/api/v1/import", "POST", ALLOW_POST, 0, true, true, NULL, handle_imports, NULL },
        { "/api/v1/report", "POST", ALLOW_POST, REPORTS_BODY_MAX, true, true, handle_report, NULL, NULL },
        { "/api/v1/status", "GET", ALLOW_GET, REQUEST_BODY_MAX, false, true, handle_status, NULL, NULL },
        { "/train", "POST", ALLOW_POST, TRAIN_BODY_MAX, true, false, NULL, NULL, submit_training },
        { "/api/v1/train", "GET", ALLOW_GET, REQUEST_BODY_MAX, false, false, handle_training, NULL, NULL },
        { "/api/v1/train/result", "GET", ALLOW_GET, REQUEST_BODY_MAX, false, false, handle_training_result,
          NULL, NULL },
        { "/metrics", "GET", ALLOW_GET, REQUEST_BODY_MAX, false, false, handle_metrics, NULL, NULL },
        { "/healthz", "GET", ALLOW_GET, REQUEST_BODY_MAX, false, false, handle_health, NULL, NULL },
};

const struct route *route_find(const char *method, const char *path, struct reply *reply)
{
        const char *asked = strcmp(method, "HEAD") == 0 ? "GET" : method;

        for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
                if (strcmp(routes[i].path, path) != 0)
                        continue;
                if (!strcmp(routes[i].method, asked))
                        return &routes[i];
                if (!strcmp(method, "OPTIONS"))
                        reply->type = type_html;
                else
                        reply_error(reply, 405, "%s is answered to %s only", path, routes[i].allow);
                reply_header(reply, "Allow", "%s", routes[i].allow);
                return NULL;
        }
        reply_error(reply, 404, "there is no such thing here");
        return NULL;
}

size_t route_body_max(const struct route *route, const struct server *server)
{
        return route->body_max ? route->body_max : (size_t)server->options->import_bytes;
}
