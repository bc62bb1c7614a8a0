/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/send.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "common/clock.h"
#include "common/file.h"
#include "common/http.h"
#include "common/json.h"
#include "common/log.h"
#include "common/num.h"
#include "config/cli.h"

#define SEND_PATH         "/api/v1/import"
#define SEND_RESPONSE_MAX ((size_t)64 << 10)
#define SEND_TOKEN_MAX    4096
#define SEND_WORDS_MAX    120 /* of a server's words in our messages */

struct sender {
        struct sender_options options;
        struct http *http;
        char *url;           /* owned; of the import */
        char *authorization; /* owned; NULL: none */
        size_t retries;
};

void sender_free(struct sender *s)
{
        if (!s)
                return;
        http_free(s->http);
        free(s->url);
        free(s->authorization);
        free(s);
}

static int read_token(const char *path, char **ret_header, struct err *e)
{
        char token[SEND_TOKEN_MAX];
        int r;

        r = file_read_small(AT_FDCWD, path, token, sizeof(token));
        if (r < 0)
                return err_set(e, r, "cannot read server.token_file '%s': %s", path, strerror(-r));
        if (r == 0)
                return err_set(e, -EINVAL, "server.token_file '%s' is empty", path);
        for (const char *p = token; *p; p++)
                if (*p <= ' ' || *p > '~')
                        return err_set(e, -EINVAL,
                                       "server.token_file '%s' holds blanks or control characters", path);
        if (asprintf(ret_header, "Authorization: Bearer %s", token) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        return 0;
}

int sender_new(const struct sender_options *options, struct sender **ret_sender, struct err *e)
{
        CLEANUP(sender_freep) struct sender *s = calloc(1, sizeof(*s));
        size_t n = strlen(options->url);
        int r;

        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        s->options = *options;
        while (n > 0 && options->url[n - 1] == '/')
                n--;
        if (n > INT_MAX || asprintf(&s->url, "%.*s%s", (int)n, options->url, SEND_PATH) < 0) {
                s->url = NULL;
                return err_set(e, -ENOMEM, "out of memory");
        }
        if (*options->token_file) {
                r = read_token(options->token_file, &s->authorization, e);
                if (r < 0)
                        return r;
        }
        r = http_new("wattloop-trainer-client/" WATTLOOP_VERSION, &s->http, e);
        if (r < 0)
                return r;
        *ret_sender = TAKE(s);
        return 0;
}

size_t sender_retries(const struct sender *s)
{
        return s->retries;
}

uint64_t send_backoff_ms(const struct sender_options *o, int attempt, uint64_t asked_ms, uint64_t random)
{
        int doublings = attempt > 2 ? attempt - 2 : 0;
        uint64_t limit = o->retry_base_ms, wait;

        for (; doublings > 0 && limit < o->retry_max_ms; doublings--)
                limit *= 2;
        if (limit > o->retry_max_ms)
                limit = o->retry_max_ms;
        wait = random % (limit + 1);
        if (wait < asked_ms)
                wait = asked_ms < o->retry_max_ms ? asked_ms : o->retry_max_ms;
        return wait;
}

/* ---- one attempt ---- */

/* What the server says, on one line: its JSON "error", else the beginning of its text. */
static void server_words(const struct http_response *response, char ret[SEND_WORDS_MAX + 1])
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        const char *words = response->body.data ? response->body.data : "";

        if (json_parse(words, response->body.size, "answer", &object, NULL) == 0)
                (void)json_get_string(object, "error", &words, NULL); /* else the text as it is */
        (void)snprintf(ret, SEND_WORDS_MAX + 1, "%s", *words ? words : "no explanation");
}

/* A 200 acknowledges when it counts every sample we sent. Anything else (a proxy's welcome page, another
 * service) must not move the cursor. */
static int check_acknowledgement(const struct http_response *response, size_t sent, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        long long samples = 0, ignored = 0;
        int r;

        if (response->status == 204)
                return 0;
        r = json_parse(response->body.data ? response->body.data : "", response->body.size, "answer", &object,
                       e);
        if (r == 0)
                r = json_get_int(object, "samples", &samples, e);
        if (r < 0)
                return err_prefix(e, -EBADMSG, "the server answered 200 without an acknowledgement");
        (void)json_get_int(object, "ignored", &ignored, NULL); /* 0 when it does not say */
        if (samples < 0 || ignored < 0 || (uint64_t)samples + (uint64_t)ignored < sent)
                return err_set(e, -EBADMSG, "the server acknowledged %lld samples of %zu", samples, sent);
        return 0;
}

static int judge(const struct http_response *response, size_t sent, struct err *e)
{
        char words[SEND_WORDS_MAX + 1];
        long status = response->status;

        if (status == 200 || status == 204)
                return check_acknowledgement(response, sent, e);
        server_words(response, words);
        if (status == 413)
                return err_set(e, -E2BIG, "the server answered 413: %s", words);
        if (status == 408 || status == 429 || status >= 500)
                return err_set(e, -EAGAIN, "the server answered %ld: %s", status, words);
        return err_set(e, -EBADMSG, "the server refused the batch with %ld: %s", status, words);
}

/* Seconds; a date is not understood, and the ordinary back-off is used. */
static uint64_t retry_after_ms(const struct http_response *response)
{
        uint64_t seconds;

        if (num_parse_u64(response->retry_after, &seconds) < 0)
                return 0;
        return seconds < UINT64_MAX / 1000 ? seconds * 1000 : UINT64_MAX;
}

static bool is_temporary(int r)
{
        return r == -ETIMEDOUT || r == -ECONNREFUSED || r == -EPROTO || r == -EHOSTUNREACH;
}

static int attempt(struct sender *s, const struct send_batch *batch, uint64_t *ret_asked_ms, struct err *e)
{
        char name_header[sizeof(batch->name) + 32];
        const char *headers[] = { "Content-Type: application/x-ndjson", "Content-Encoding: gzip", name_header,
                                  s->authorization, NULL };
        const struct http_request request = {
                .method = "POST",
                .url = s->url,
                .headers = headers,
                .body = batch->body,
                .body_size = batch->size,
                .timeout_ms = s->options.timeout_ms,
                .max_response = SEND_RESPONSE_MAX,
                .ca_file = *s->options.ca_file ? s->options.ca_file : NULL,
        };
        struct http_response response;
        int r;

        *ret_asked_ms = 0;
        (void)snprintf(name_header, sizeof(name_header), "Wattloop-Batch: %s", batch->name); /* always fits */
        r = http_exchange(s->http, &request, &response, e);
        if (r < 0)
                return is_temporary(r) ? -EAGAIN : r == -ENOMEM ? r : -EBADMSG;
        r = judge(&response, batch->samples, e);
        *ret_asked_ms = retry_after_ms(&response);
        http_response_done(&response);
        return r;
}

/* ---- all attempts ---- */

static void wait_ms(uint64_t ms)
{
        struct timespec t = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * 1000000) };

        while (nanosleep(&t, &t) < 0 && errno == EINTR)
                ;
}

static uint64_t random_u64(void)
{
        uint64_t v;

        if (getrandom(&v, sizeof(v), 0) != sizeof(v))
                v = clock_monotonic_ns(); /* jitter need not be good */
        return v;
}

int sender_deliver(struct sender *s, const struct send_batch *batch, struct err *e)
{
        for (int n = 1;; n++) {
                struct err words = { "" };
                uint64_t asked_ms, wait;
                int r;

                r = attempt(s, batch, &asked_ms, &words);
                if (r != -EAGAIN || n >= s->options.attempts)
                        return r < 0 ? err_set(e, r, "batch %s: %s", batch->name, words.text) : 0;
                wait = send_backoff_ms(&s->options, n + 1, asked_ms, random_u64());
                log_debug("attempt %d of %d failed: %s; the next one in %llu ms", n, s->options.attempts,
                          words.text, (unsigned long long)wait);
                s->retries++;
                wait_ms(wait);
        }
}
