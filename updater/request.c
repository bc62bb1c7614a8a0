/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/request.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>
#include "common/clock.h"
#include "common/file.h"
#include "common/hash.h"
#include "common/http.h"
#include "common/http_probe.h"
#include "common/json.h"
#include "common/minisign.h"
#include "config/cli.h"
#include "model/model.h"
#include "schema/statement.h"
#include "updater/mirror.h"

#define USER_AGENT        "wattloop-updater/" WATTLOOP_VERSION
#define REQUEST_PATH      "/model"
#define REQUEST_MODELS    "/api/v1/models"
#define REQUEST_KEYS      "/api/v1/keys"
#define REQUEST_KEYS_SIG  "/api/v1/keys.minisig"
#define REQUEST_BODY_MAX  ((size_t)64 << 10)
#define REQUEST_TOKEN_MAX 4096
#define REQUEST_WORDS_MAX 120 /* of a server's words in our messages */
#define SHA256_BYTES      32
#define ETAG_MAX          sizeof(((struct answer *)0)->etag)
#define REQUEST_REPORT    "/api/v1/report"

int request_format(const struct options *o, const struct slot *slot, const struct machine_spec *spec,
                   struct buf *out)
{
        CLEANUP(json_decrefp) json_t *machine = machine_spec_to_json(spec);

        if (!machine)
                return -ENOMEM;
        (void)buf_puts(out, "{\"metrics\": ["); /* failure is sticky in the buffer */
        for (size_t i = 0; i < o->features.n; i++) {
                (void)buf_puts(out, i > 0 ? ", " : "");
                (void)json_write_string(out, o->features.items[i]);
        }
        (void)buf_printf(out,
                         "], \"output_type\": \"%s\", \"source\": \"%s\", \"node_type\": -1, \"weight\": %s, "
                         "\"trainer_name\": ",
                         slot->output_type, slot->source->name, slot->form == FORM_WEIGHT ? "true" : "false");
        (void)json_write_string(out, o->trainer);
        (void)buf_puts(out, ", \"filter\": \"\", \"machine_spec\": ");
        (void)json_write(machine, out);
        return buf_puts(out, "}");
}

/* ---- digests ---- */

static void sha256(const void *data, size_t size, unsigned char ret[SHA256_BYTES])
{
        char hex[HASH_HEX_SIZE];

        hash_sha256_hex(data, size, hex);
        (void)sodium_hex2bin(ret, SHA256_BYTES, hex, strlen(hex), NULL, NULL, NULL); /* our own digits */
}

void request_digest(const void *data, size_t size, char ret[REQUEST_DIGEST_MAX])
{
        unsigned char hash[SHA256_BYTES];
        char base64[sodium_base64_ENCODED_LEN(SHA256_BYTES, sodium_base64_VARIANT_ORIGINAL)];

        sha256(data, size, hash);
        (void)sodium_bin2base64(base64, sizeof(base64), hash, sizeof(hash), sodium_base64_VARIANT_ORIGINAL);
        (void)snprintf(ret, REQUEST_DIGEST_MAX, "sha-256=%s", base64); /* always fits */
}

/* The list's SHA-256 value, "" when there is none: "md5=..., SHA-256=..." (RFC 3230). */
static const char *find_sha256(const char *header, size_t *ret_size)
{
        while (*header) {
                size_t n;

                header += strspn(header, ", \t");
                n = strcspn(header, ", \t");
                if (strncasecmp(header, "sha-256=", 8) == 0) {
                        *ret_size = n - 8;
                        return header + 8;
                }
                header += n;
        }
        return NULL;
}

int request_check_digest(const char *header, const void *data, size_t size, struct err *e)
{
        unsigned char claimed[SHA256_BYTES], is[SHA256_BYTES];
        size_t text_size = 0, n = 0;
        const char *text = find_sha256(header, &text_size);

        if (!text)
                return 0;
        sha256(data, size, is);
        if (sodium_base642bin(claimed, sizeof(claimed), text, text_size, NULL, &n, NULL,
                              sodium_base64_VARIANT_ORIGINAL) != 0 ||
            n != sizeof(claimed) || memcmp(claimed, is, sizeof(is)) != 0)
                return err_set(e, -EBADMSG, "the bytes do not have the digest that the server gave");
        return 0;
}

/* ---- whom we may ask, and how we say who we are ---- */

static int check_trust(const struct options *o, struct err *e)
{
        if (o->server_trust != TRUST_TLS || strncmp(o->server_url, "https://", 8) == 0)
                return 0;
        return err_set(e, -EPERM,
                       "'%.80s' is not https and server.trust is tls: nothing would vouch for the model. Use "
                       "https, or "
                       "accept models from this server as they come with server.trust: unsigned",
                       o->server_url);
}

static int read_token(const char *path, char *ret, size_t size, struct err *e)
{
        char token[REQUEST_TOKEN_MAX];
        int r;

        ret[0] = '\0';
        if (!*path)
                return 0;
        r = file_read_small(AT_FDCWD, path, token, sizeof(token));
        if (r < 0)
                return err_set(e, r, "cannot read server.token_file '%s': %s", path, strerror(-r));
        for (const char *p = token; *p; p++)
                if (*p <= ' ' || *p > '~')
                        return err_set(e, -EINVAL,
                                       "server.token_file '%s' holds blanks or control characters", path);
        if (r == 0 || snprintf(ret, size, "Authorization: Bearer %s", token) >= (int)size)
                return err_set(e, -EINVAL, "server.token_file '%s' holds no usable token", path);
        return 0;
}

/* What the server says, on one line. */
static void server_words(const struct http_response *response, char ret[REQUEST_WORDS_MAX + 1])
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        const char *words = response->body.data ? response->body.data : "";

        if (json_parse(words, response->body.size, "answer", &object, NULL) == 0)
                (void)json_get_string(object, "error", &words, NULL); /* else the text as it is */
        (void)snprintf(ret, REQUEST_WORDS_MAX + 1, "%s", *words ? words : "no explanation");
}

/* ---- the exchange ---- */

void answer_init(struct answer *a, const struct slot *slot)
{
        *a = (struct answer){ 0 };
        buf_init(&a->bytes, slot->form == FORM_WEIGHT ? MODEL_WEIGHT_MAX : MODEL_ARCHIVE_MAX);
        buf_init(&a->signature, MINISIGN_TEXT_MAX);
}

void answer_done(struct answer *a)
{
        buf_done(&a->bytes);
        buf_done(&a->signature);
}

/* One connection for all that is asked in one run, and what every request has. */
struct session {
        const struct options *options;
        const char *url;   /* borrowed: of the server */
        struct http *http; /* owned; NULL until something must be asked that http_probe() leaves */
        char authorization[REQUEST_TOKEN_MAX + 32];
        char node[64]; /* the header that says who asks; "" none */
};

static void session_done(struct session *s)
{
        http_free(s->http);
        sodium_memzero(s->authorization, sizeof(s->authorization));
}

static int session_open(struct session *s, const struct options *o, struct err *e)
{
        int r;

        *s = (struct session){ .options = o, .url = o->server_url };
        r = check_trust(o, e);
        if (r == 0)
                r = read_token(o->server_token_file, s->authorization, sizeof(s->authorization), e);
        return r;
}

#define SESSION_HEADERS_MAX 4

static const char *set(const char *option)
{
        return *option ? option : NULL;
}

static int session_ask(struct session *s, const char *method, const char *path, const struct buf *body,
                       const char *const *extra, size_t max, struct http_response *ret, struct err *e)
{
        const struct options *o = s->options;
        const char *headers[SESSION_HEADERS_MAX + 3] = { NULL };
        CLEANUP(freep) char *url = NULL;
        size_t n = strlen(s->url), h = 0;
        int r;
        struct http_request request = {
                .method = method,
                .headers = headers,
                .body = body ? body->data : NULL,
                .body_size = body ? body->size : 0,
                .timeout_ms = (long)o->timeout_ms,
                .max_response = max,
                .ca_file = set(o->server_ca_file),
                .client_cert = set(o->server_client_cert_file),
                .client_key = set(o->server_client_key_file),
                .proxy = set(o->server_proxy),
        };

        while (n > 0 && s->url[n - 1] == '/')
                n--;
        if (asprintf(&url, "%.*s%s", n > INT_MAX ? INT_MAX : (int)n, s->url, path) < 0) {
                url = NULL;
                return err_set(e, -ENOMEM, "out of memory");
        }
        request.url = url;
        while (h < SESSION_HEADERS_MAX && extra && extra[h]) {
                headers[h] = extra[h];
                h++;
        }
        if (*s->node)
                headers[h++] = s->node;
        if (*s->authorization)
                headers[h] = s->authorization;
        r = http_probe(USER_AGENT, &request, ret, e);
        if (r != 0)
                return r < 0 ? r : 0;
        if (!s->http)
                r = http_new(USER_AGENT, &s->http, e);
        return r < 0 ? r : http_exchange(s->http, &request, ret, e);
}

/* ---- a model ---- */

static int check_answer(const struct http_response *response, const struct slot *slot, struct err *e)
{
        const char *want = slot->form == FORM_WEIGHT ? "application/json" : "application/zip";
        char words[REQUEST_WORDS_MAX + 1];

        if (response->status != 200) {
                server_words(response, words);
                return err_set(e,
                               response->status == 400 || response->status == 404   ? -ENOENT
                               : response->status == 429 || response->status == 503 ? -EAGAIN
                                                                                    : -EBADMSG,
                               "the server answered %ld: %s", response->status, words);
        }
        if (*response->content_type && strncasecmp(response->content_type, want, strlen(want)) != 0 &&
            strncasecmp(response->content_type, "application/octet-stream", 24) != 0 &&
            strncasecmp(response->content_type, "application/vnd.wattloop.model+zip", 34) != 0)
                return err_set(e, -EBADMSG, "the server answered with '%.60s' where %s was asked for",
                               response->content_type, want);
        if (response->body.size == 0)
                return err_set(e, -EBADMSG, "the server answered with nothing");
        return request_check_digest(response->digest, response->body.data, response->body.size, e);
}

/* The header holds the whole of minisign's text in base64. */
static int take_signature(const char *header, struct buf *ret, struct err *e)
{
        size_t n = 0;
        char *room;

        if (!*header)
                return 0;
        room = buf_reserve(ret, HTTP_SIGNATURE_MAX);
        if (!room)
                return err_set(e, ret->failed, "out of memory");
        if (sodium_base642bin((unsigned char *)room, HTTP_SIGNATURE_MAX, header, strlen(header), NULL, &n,
                              NULL, sodium_base64_VARIANT_ORIGINAL) != 0)
                return err_set(e, -EBADMSG, "the signature that came along is no base64");
        buf_grew(ret, n);
        return 0;
}

static int take_answer(const struct http_response *response, const struct slot *slot, struct answer *ret,
                       struct err *e)
{
        int r;

        if (response->status == 304) {
                ret->unchanged = true;
                return 0;
        }
        ret->retry_after_ms = http_retry_after_ms(response->retry_after, clock_wall_ms());
        r = check_answer(response, slot, e);
        if (r == 0)
                r = take_signature(response->signature, &ret->signature, e);
        if (r == 0 && buf_append(&ret->bytes, response->body.data, response->body.size) < 0)
                r = err_set(e, ret->bytes.failed, "out of memory");
        if (r == 0)
                (void)snprintf(ret->etag, sizeof(ret->etag), "%s", response->etag);
        return r;
}

static void percent_encode(const char *text, struct buf *out)
{
        for (; *text; text++) {
                if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~,", *text))
                        (void)buf_append(out, text, 1);
                else
                        (void)buf_printf(out, "%%%02X", (unsigned char)*text);
        }
}

int request_path(const struct options *o, const struct slot *slot, const struct machine_spec *spec,
                 struct buf *out)
{
        CLEANUP(json_decrefp) json_t *machine = machine_spec_to_json(spec);
        CLEANUP(buf_done) struct buf text = { 0 };

        if (!machine)
                return -ENOMEM;
        buf_init(&text, REQUEST_BODY_MAX);
        (void)buf_puts(out, REQUEST_MODELS "?metrics="); /* failure is sticky in the buffer */
        for (size_t i = 0; i < o->features.n; i++) {
                (void)buf_puts(out, i > 0 ? "," : "");
                percent_encode(o->features.items[i], out);
        }
        (void)buf_printf(out,
                         "&output_type=%s&source=%s&node_type=-1&weight=%s&trainer_name=", slot->output_type,
                         slot->source->name, slot->form == FORM_WEIGHT ? "true" : "false");
        percent_encode(o->trainer, out);
        (void)buf_puts(out, "&machine_spec=");
        if (json_write(machine, &text) < 0)
                return text.failed;
        percent_encode(text.data, out);
        return out->failed;
}

/* Does the server not know our request at all? One that has no model says so in JSON. */
static bool is_unknown_there(const struct http_response *response)
{
        return (response->status == 403 || response->status == 404 || response->status == 405 ||
                response->status == 501) &&
               strncasecmp(response->content_type, "application/json", 16) != 0;
}

static const char accept_archive[] = "Accept: application/vnd.wattloop.model+zip, application/zip";

/* 1: the server does not know it. */
static int get_model(struct session *s, const struct slot *slot, const char *path, const char *etag,
                     struct answer *ret, struct err *e)
{
        char condition[ETAG_MAX + 32];
        const char *headers[SESSION_HEADERS_MAX] = { NULL };
        struct http_response response;
        size_t n = 0;
        int r;

        if (slot->form == FORM_ARCHIVE)
                headers[n++] = accept_archive;
        if (*etag &&
            snprintf(condition, sizeof(condition), "If-None-Match: %s", etag) < (int)sizeof(condition))
                headers[n] = condition;
        r = session_ask(s, "GET", path, NULL, headers, ret->bytes.max, &response, e);
        if (r < 0)
                return r;
        if (response.status == 304 && !*etag)
                r = err_set(e, -EBADMSG, "the server answered 304 to a question without a condition");
        else
                r = is_unknown_there(&response) ? 1 : take_answer(&response, slot, ret, e);
        http_response_done(&response);
        return r;
}

static int post_model(struct session *s, const struct question *q, struct answer *ret, struct err *e)
{
        /* upstream servers ignore what we accept and answer with what they have */
        const char *const headers[] = { "Content-Type: application/json",
                                        q->slot->form == FORM_ARCHIVE ? accept_archive : NULL, NULL };
        CLEANUP(buf_done) struct buf body;
        struct http_response response;
        int r;

        buf_init(&body, REQUEST_BODY_MAX);
        r = request_format(s->options, q->slot, q->spec, &body);
        if (r < 0)
                return err_set(e, r, "cannot make the request: %s", strerror(-r));
        r = session_ask(s, "POST", REQUEST_PATH, &body, headers, ret->bytes.max, &response, e);
        if (r < 0)
                return r;
        r = take_answer(&response, q->slot, ret, e);
        ret->etag[0] = '\0'; /* of a POST it means nothing */
        http_response_done(&response);
        return r;
}

/* ---- a mirror ---- */

/* One file of a mirror: 1 when it is not there. */
static int get_mirrored(struct session *s, const char *path, const char *etag, size_t max,
                        struct http_response *ret, struct err *e)
{
        char condition[ETAG_MAX + 32];
        const char *headers[SESSION_HEADERS_MAX] = { NULL };
        int r;

        if (*etag &&
            snprintf(condition, sizeof(condition), "If-None-Match: %s", etag) < (int)sizeof(condition))
                headers[0] = condition;
        r = session_ask(s, "GET", path, NULL, headers, max, ret, e);
        if (r < 0)
                return r;
        if (ret->status == 200 || (ret->status == 304 && *etag))
                return 0;
        r = ret->status == 403 || ret->status == 404
                    ? 1
                    : err_set(e, ret->status == 429 || ret->status >= 500 ? -EAGAIN : -EBADMSG,
                              "the mirror answered %ld", ret->status);
        http_response_done(ret);
        return r;
}

/* The signature of what is current says which file it is. Neither is believed here: whoever could lie about
 * the id could as well not tell of a new model at all. */
static int get_from_mirror(struct session *s, const struct question *q, struct answer *ret, struct err *e)
{
        struct minisign_signature signature;
        struct http_response response;
        struct statement statement;
        char path[MIRROR_PATH_MAX];
        int r;

        mirror_path(q->slot, NULL, path);
        r = get_mirrored(s, path, q->etag, MINISIGN_TEXT_MAX, &response, e);
        if (r != 0)
                return r;
        ret->is_mirror = true;
        ret->unchanged = response.status == 304;
        (void)snprintf(ret->etag, sizeof(ret->etag), "%s", response.etag);
        if (buf_append(&ret->signature, response.body.data ? response.body.data : "", response.body.size) < 0)
                r = err_set(e, ret->signature.failed, "out of memory");
        http_response_done(&response);
        if (r < 0 || ret->unchanged)
                return r;
        r = minisign_parse_signature(ret->signature.data, ret->signature.size, &signature, e);
        if (r == 0)
                r = statement_parse(signature.comment, &statement, e);
        if (r < 0)
                return r;
        ret->unchanged = strcmp(statement.id, q->current_id) == 0;
        if (ret->unchanged)
                return 0;
        mirror_path(q->slot, statement.id, path);
        r = get_mirrored(s, path, "", ret->bytes.max, &response, e);
        if (r != 0)
                return r < 0 ? r : err_set(e, -EBADMSG, "the mirror lacks the model that is current there");
        if (buf_append(&ret->bytes, response.body.data ? response.body.data : "", response.body.size) < 0)
                r = err_set(e, ret->bytes.failed, "out of memory");
        else if (ret->bytes.size == 0)
                r = err_set(e, -EBADMSG, "the server answered with nothing");
        http_response_done(&response);
        return r;
}

/* ---- whichever it is ---- */

int request_model(const struct options *o, const struct question *q, struct answer *ret, struct err *e)
{
        bool may_be_mirror = o->server_trust == TRUST_SIGNED;
        CLEANUP(session_done) struct session s = { 0 };
        CLEANUP(buf_done) struct buf path;
        int r;

        buf_init(&path, REQUEST_BODY_MAX);
        r = session_open(&s, o, e);
        if (r < 0)
                return r;
        r = request_path(o, q->slot, q->spec, &path);
        if (r < 0)
                return err_set(e, r, "cannot make the request: %s", strerror(-r));
        if (*q->node_id)
                (void)snprintf(s.node, sizeof(s.node), "Wattloop-Node: %.32s", q->node_id);
        r = q->is_mirror && may_be_mirror ? get_from_mirror(&s, q, ret, e) : 1;
        if (r == 1)
                r = get_model(&s, q->slot, path.data, q->etag, ret, e);
        if (r == 1 && may_be_mirror)
                r = get_from_mirror(&s, q, ret, e);
        return r == 1 ? post_model(&s, q, ret, e) : r;
}

/* ---- keys ---- */

static int get_file(struct session *s, const char *path, struct buf *ret, struct err *e)
{
        struct http_response response;
        int r;

        r = session_ask(s, "GET", path, NULL, NULL, ret->max, &response, e);
        if (r < 0)
                return r;
        if (response.status == 404)
                r = err_set(e, -ENOENT, "the server has no list of keys");
        else if (response.status != 200)
                r = err_set(e, -EBADMSG, "the server answered %ld to a request for its keys",
                            response.status);
        else if (buf_append(ret, response.body.data, response.body.size) < 0)
                r = err_set(e, ret->failed, "out of memory");
        http_response_done(&response);
        return r;
}

int request_keys(const struct options *o, struct buf *list, struct buf *signature, struct err *e)
{
        CLEANUP(session_done) struct session s = { 0 };
        int r;

        r = session_open(&s, o, e);
        if (r == 0)
                r = get_file(&s, REQUEST_KEYS, list, e);
        if (r == 0)
                r = get_file(&s, REQUEST_KEYS_SIG, signature, e);
        return r;
}

/* ---- reports ---- */

int request_report(const struct options *o, const struct buf *text, struct err *e)
{
        static const char *const headers[] = { "Content-Type: application/json", NULL };
        CLEANUP(session_done) struct session s = { 0 };
        struct http_response response;
        char words[REQUEST_WORDS_MAX + 1];
        int r;

        r = session_open(&s, o, e);
        if (r < 0)
                return r;
        if (*o->server_report_url)
                s.url = o->server_report_url;
        r = session_ask(&s, "POST", REQUEST_REPORT, text, headers, REQUEST_BODY_MAX, &response, e);
        if (r < 0)
                return r;
        server_words(&response, words);
        if (response.status == 404 || response.status == 405 || response.status == 501)
                r = err_set(e, -ENOENT, "the server takes no reports");
        else if (response.status != 200)
                r = err_set(e, -EAGAIN, "the server answered %ld to a report: %s", response.status, words);
        http_response_done(&response);
        return r;
}
