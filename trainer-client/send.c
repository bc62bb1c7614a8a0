/* SPDX-License-Identifier: Apache-2.0 */
/* One upload, what its answer means, and when to try again. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "common/clock.h"
#include "common/file.h"
#include "common/http.h"
#include "common/json.h"
#include "common/log.h"
#include "config/cli.h"
#include "trainer-client/destination.h"

#define SECRET_MAX      4096
#define WORDS_MAX       160 /* of a server's words in our messages */
#define QUERY_TIMEOUT   60000L
#define QUERY_MAX       ((size_t)64 << 20)
#define REQUEST_HEADERS 80

/* ---- credentials, read again for every upload so that a rotated one needs no restart ---- */

/* A token is printable ASCII without blanks; a password may hold anything but control characters. */
static bool fits(unsigned char c, bool token)
{
        return token ? c > ' ' && c <= '~' : c >= ' ' && c != 0x7f;
}

static int read_secret(const char *what, const char *path, bool token, char ret[SECRET_MAX], struct err *e)
{
        int r = file_read_small(AT_FDCWD, path, ret, SECRET_MAX);

        if (r < 0)
                return err_set(e, r, "cannot read %s '%s': %s", what, path, strerror(-r));
        if (r == 0)
                return err_set(e, -EINVAL, "%s '%s' is empty", what, path);
        for (const char *p = ret; *p; p++)
                if (!fits((unsigned char)*p, token))
                        return err_set(e, -EINVAL, "%s '%s' holds %scontrol characters", what, path,
                                       token ? "blanks or " : "");
        return 0;
}

/* The texts of one request; the headers point into it. */
struct request_texts {
        char authorization[SECRET_MAX + 32], userpwd[2 * SECRET_MAX], name[320];
        const char *headers[REQUEST_HEADERS];
        size_t n;
};

static void add_header(struct request_texts *t, const char *header)
{
        if (t->n + 1 < REQUEST_HEADERS)
                t->headers[t->n++] = header;
}

static int add_credentials(const struct destination_options *o, struct request_texts *t,
                           struct http_request *request, struct err *e)
{
        char secret[SECRET_MAX] = "";
        int r = 0;

        if (*o->token_file) {
                r = read_secret("the token file", o->token_file, true, secret, e);
                (void)snprintf(t->authorization, sizeof(t->authorization), "Authorization: Bearer %s",
                               secret);
                add_header(t, t->authorization);
        }
        if (r == 0 && *o->user) {
                secret[0] = '\0';
                if (*o->password_file)
                        r = read_secret("the password file", o->password_file, false, secret, e);
                (void)snprintf(t->userpwd, sizeof(t->userpwd), "%s:%s", o->user, secret);
                request->userpwd = t->userpwd;
        }
        explicit_bzero(secret, sizeof(secret));
        return r;
}

static const char *file_or_null(const char *path)
{
        return *path ? path : NULL;
}

static int prepare(const struct destination *d, struct request_texts *t, struct http_request *request,
                   struct err *e)
{
        const struct destination_options *o = &d->own;

        for (size_t i = 0; i < o->headers.n; i++)
                add_header(t, o->headers.items[i]);
        request->headers = t->headers;
        request->ca_file = file_or_null(o->ca_file);
        request->client_cert = file_or_null(o->client_cert_file);
        request->client_key = file_or_null(o->client_key_file);
        request->proxy = file_or_null(o->proxy);
        return add_credentials(o, t, request, e);
}

/* ---- what an answer means ---- */

/* What the server says, on one line: its JSON "error", else the beginning of its text. */
static void server_words(const struct http_response *response, char ret[WORDS_MAX + 1])
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        const char *words = response->body.data ? response->body.data : "";
        size_t n;

        if (json_parse(words, response->body.size, "answer", &object, NULL) == 0)
                (void)json_get_string(object, "error", &words, NULL); /* else the text as it is */
        (void)snprintf(ret, WORDS_MAX + 1, "%s", *words ? words : "no explanation");
        for (char *p = ret; *p; p++)
                if ((unsigned char)*p < ' ')
                        *p = ' ';
        for (n = strlen(ret); n > 0 && ret[n - 1] == ' '; n--)
                ret[n - 1] = '\0';
}

static int judge_refusal(struct destination *d, struct parcel *p, long status, const char *words,
                         struct err *e)
{
        switch (status) {
        case 413:
                return err_set(e, -E2BIG, "the server answered 413: %s", words);
        case 408:
        case 425:
        case 429:
                return err_set(e, -EAGAIN, "the server answered %ld: %s", status, words);
        case 401:
        case 402:
        case 403:
        case 404:
        case 405:
        case 407:
        case 410:
        case 451:
                return err_set(e, -EPERM, "the server answered %ld: %s", status, words);
        default:
                break;
        }
        if (status == 400 && d->row->refused)
                return d->row->refused(d, p, words, e);
        return err_set(e, -EBADMSG, "the server refused the batch with %ld: %s", status, words);
}

static int judge(struct destination *d, struct parcel *p, const struct http_response *response, struct err *e)
{
        const char *body = response->body.data ? response->body.data : "";
        char words[WORDS_MAX + 1];
        int r;

        if (response->status >= 200 && response->status < 300) {
                r = d->row->acknowledge(d, p, body, response->body.size, response->status, e);
                return r == -EPROTO ? -EPERM : r;
        }
        server_words(response, words);
        if (response->status >= 500)
                return err_set(e, -EAGAIN, "the server answered %ld: %s", response->status, words);
        if (response->status >= 400)
                return judge_refusal(d, p, response->status, words, e);
        return err_set(e, -EPERM, "the server answered %ld, which acknowledges nothing", response->status);
}

/* The network may be better later; -EPROTO also means a certificate that is not trusted, which a person has
 * to look at, but trying again does no harm. */
static bool is_temporary(int r)
{
        return r == -ETIMEDOUT || r == -ECONNREFUSED || r == -EPROTO || r == -EHOSTUNREACH;
}

/* ---- one attempt ---- */

static int attempt_http(struct destination *d, struct parcel *p, struct err *e)
{
        struct request_texts t = { .n = 0 };
        struct http_request request = {
                .method = "POST",
                .url = d->url,
                .body = p->body.data,
                .body_size = p->body.size,
                .timeout_ms = (long)d->own.timeout_ms,
                .max_response = d->row->max_answer,
                .slow_answer = d->row->slow_answer,
        };
        struct http_response response;
        int r;

        for (const char *const *h = d->row->headers; *h; h++)
                add_header(&t, *h);
        (void)snprintf(t.name, sizeof(t.name), "Wattloop-Batch: %s", p->name);
        add_header(&t, t.name);
        r = prepare(d, &t, &request, e);
        if (r < 0)
                return r;
        r = http_exchange(d->http, &request, &response, e);
        if (r < 0) {
                p->again = true; /* it may have arrived */
                return is_temporary(r) ? -EAGAIN : r == -ENOMEM ? r : -EPERM;
        }
        r = judge(d, p, &response, e);
        p->asked_ms = http_retry_after_ms(response.retry_after, clock_wall_ms());
        p->again |= response.status >= 500; /* a proxy's word on what it does not know */
        http_response_done(&response);
        return r;
}

int destination_attempt(struct destination *d, struct parcel *p, struct err *e)
{
        p->asked_ms = 0;
        if (d->own.limit_bytes > 0 && p->body.size > (size_t)d->own.limit_bytes)
                return err_set(e, -E2BIG, "it is %zu bytes, limit_bytes is %lld", p->body.size,
                               d->own.limit_bytes);
        return d->row->deliver ? d->row->deliver(d, p, e) : attempt_http(d, p, e);
}

/* ---- all attempts ---- */

uint64_t backoff_ms(const struct destination_options *o, int attempt, uint64_t asked_ms, uint64_t random)
{
        int doublings = attempt > 2 ? attempt - 2 : 0;
        uint64_t limit = (uint64_t)o->retry_base_ms, max = (uint64_t)o->retry_max_ms, wait;

        for (; doublings > 0 && limit < max; doublings--)
                limit *= 2;
        if (limit > max)
                limit = max;
        wait = random % (limit + 1);
        if (wait < asked_ms)
                wait = asked_ms < max ? asked_ms : max;
        return wait;
}

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

int destination_deliver(struct destination *d, struct parcel *p, struct err *e)
{
        for (int n = 1;; n++) {
                struct err words = { "" };
                uint64_t wait;
                bool later;
                int r;

                r = destination_attempt(d, p, &words);
                p->last_answer = words;
                /* what cannot be split gets more than one chance: a proxy may say 413, too */
                later = r == -EAGAIN || (r == -E2BIG && p->intervals == 1 && d->own.limit_bytes == 0);
                if (!later || n >= d->own.retry_attempts)
                        return r < 0 ? err_set(e, r, "%s: batch %s: %s", d->own.name, p->name, words.text)
                                     : 0;
                wait = backoff_ms(&d->own, n + 1, p->asked_ms, random_u64());
                log_debug("%s: attempt %d of %lld failed: %s; the next one in %llu ms", d->own.name, n,
                          d->own.retry_attempts, words.text, (unsigned long long)wait);
                wait_ms(wait);
        }
}

/* ---- questions ---- */

int destination_query(struct destination *d, const char *path, char **ret_body, size_t *ret_size,
                      struct err *e)
{
        CLEANUP(freep) char *url = NULL;
        struct request_texts t = { .n = 0 };
        struct http_request request = {
                .method = "GET", .timeout_ms = QUERY_TIMEOUT, .max_response = QUERY_MAX, .slow_answer = true
        };
        struct http_response response;
        int r;

        if (!d->query_url || !*d->query_url)
                return err_set(e, -ENOENT, "%s has no query API that is known", d->own.name);
        if (!d->query_http) {
                r = http_new("wattloop-trainer-client/" WATTLOOP_VERSION, &d->query_http, e);
                if (r < 0)
                        return r;
        }
        if (asprintf(&url, "%s%s", d->query_url, path) < 0) {
                url = NULL;
                return err_set(e, -ENOMEM, "out of memory");
        }
        request.url = url;
        r = prepare(d, &t, &request, e);
        if (r == 0)
                r = http_exchange(d->query_http, &request, &response, e);
        if (r < 0)
                return r;
        if (response.status != 200) {
                char words[WORDS_MAX + 1];

                server_words(&response, words);
                r = err_set(e, response.status == 404 ? -ENOENT : -EIO, "%s answered a question with %ld: %s",
                            d->own.name, response.status, words);
        } else {
                *ret_size = response.body.size;
                *ret_body = response.body.data ? TAKE(response.body.data) : strdup("");
        }
        http_response_done(&response);
        return r < 0 ? r : *ret_body ? 0 : err_set(e, -ENOMEM, "out of memory");
}

char *destination_escape(const char *text)
{
        static const char hex[] = "0123456789ABCDEF";
        char *escaped = malloc(3 * strlen(text) + 1), *p = escaped;

        for (; escaped && *text; text++)
                if (strchr("-_.~", *text) || (*text >= '0' && *text <= '9') ||
                    ((*text | 32) >= 'a' && (*text | 32) <= 'z')) {
                        *p++ = *text;
                } else {
                        *p++ = '%';
                        *p++ = hex[(unsigned char)*text >> 4];
                        *p++ = hex[*text & 15];
                }
        if (escaped)
                *p = '\0';
        return escaped;
}
