/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/request.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>
#include "common/file.h"
#include "common/hash.h"
#include "common/http.h"
#include "common/json.h"
#include "config/cli.h"

#define REQUEST_PATH      "/model"
#define REQUEST_BODY_MAX  ((size_t)64 << 10)
#define REQUEST_TOKEN_MAX 4096
#define REQUEST_WORDS_MAX 120 /* of a server's words in our messages */
#define SHA256_BYTES      32

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

/* ---- the exchange ---- */

static int check_trust(const struct options *o, struct err *e)
{
        if (o->server_trust == TRUST_UNSIGNED || strncmp(o->server_url, "https://", 8) == 0)
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

static int check_answer(const struct http_response *response, const struct slot *slot, struct err *e)
{
        const char *want = slot->form == FORM_WEIGHT ? "application/json" : "application/zip";
        char words[REQUEST_WORDS_MAX + 1];

        if (response->status != 200) {
                server_words(response, words);
                return err_set(e, response->status == 400 ? -ENOENT : -EBADMSG, "the server answered %ld: %s",
                               response->status, words);
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

static int exchange(const struct options *o, const struct slot *slot, const struct buf *body, const char *url,
                    struct buf *ret, struct err *e)
{
        CLEANUP(http_freep) struct http *http = NULL;
        char authorization[REQUEST_TOKEN_MAX + 32];
        const char *headers[4] = { "Content-Type: application/json" };
        struct http_request request = {
                .method = "POST",
                .url = url,
                .headers = headers,
                .body = body->data,
                .body_size = body->size,
                .timeout_ms = (long)o->timeout_ms,
                .max_response = ret->max,
                .ca_file = *o->server_ca_file ? o->server_ca_file : NULL,
        };
        struct http_response response;
        size_t n = 1;
        int r;

        r = read_token(o->server_token_file, authorization, sizeof(authorization), e);
        if (r < 0)
                return r;
        if (slot->form == FORM_ARCHIVE) /* upstream servers ignore it and answer with what they have */
                headers[n++] = "Accept: application/vnd.wattloop.model+zip, application/zip";
        if (*authorization)
                headers[n++] = authorization;

        r = http_new("wattloop-updater/" WATTLOOP_VERSION, &http, e);
        if (r == 0)
                r = http_exchange(http, &request, &response, e);
        if (r < 0)
                return r;
        r = check_answer(&response, slot, e);
        if (r == 0 && buf_append(ret, response.body.data, response.body.size) < 0)
                r = err_set(e, ret->failed, "out of memory");
        http_response_done(&response);
        return r;
}

int request_model(const struct options *o, const struct slot *slot, const struct machine_spec *spec,
                  struct buf *ret, struct err *e)
{
        CLEANUP(freep) char *url = NULL;
        CLEANUP(buf_done) struct buf body;
        size_t n = strlen(o->server_url);
        int r;

        buf_init(&body, REQUEST_BODY_MAX);
        r = check_trust(o, e);
        if (r < 0)
                return r;
        r = request_format(o, slot, spec, &body);
        if (r < 0)
                return err_set(e, r, "cannot make the request: %s", strerror(-r));
        while (n > 0 && o->server_url[n - 1] == '/')
                n--;
        if (asprintf(&url, "%.*s%s", n > INT_MAX ? INT_MAX : (int)n, o->server_url, REQUEST_PATH) < 0) {
                url = NULL;
                return err_set(e, -ENOMEM, "out of memory");
        }
        return exchange(o, slot, &body, url, ret, e);
}
