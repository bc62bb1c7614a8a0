/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http.h"

#define CURL_DISABLE_TYPECHECK /* its macros call functions, not pointers to them */
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include "common/library.h"
#include "common/num.h"

#define HTTP_MAX_HEADERS ((size_t)64 << 10) /* bytes of response headers */
#define HTTP_LOW_SPEED   32L                /* a peer below this many bytes a second ... */
#define HTTP_LOW_SPEED_S 30L                /* ... for so long is taken for stuck */
#define HTTP_URL_MAX     512                /* of a URL in an error message */

struct http {
        CURL *curl;
        char *user_agent; /* owned */
        char *no_proxy;   /* owned; loopback never goes through a proxy */
};

/* What the callbacks of one exchange share. */
struct exchange {
        struct http_response *response;
        size_t header_bytes;
        bool too_large, bad_headers;
};

/* libcurl, loaded for the first exchange. */
#define HTTP_LIB "libcurl.so.4" /* of every release since 2006 */
/* clang-format off */
#define HTTP_FUNCTIONS(X) \
        X(curl_easy_cleanup) X(curl_easy_getinfo) X(curl_easy_init) X(curl_easy_perform) X(curl_easy_reset) \
        X(curl_easy_setopt) X(curl_easy_strerror) X(curl_free) X(curl_getdate) X(curl_global_init) \
        X(curl_slist_append) X(curl_slist_free_all) X(curl_url) X(curl_url_cleanup) X(curl_url_get) \
        X(curl_url_set)
/* clang-format on */

static struct {
        HTTP_FUNCTIONS(LIBRARY_POINTER)
} lib;

static struct err lib_error;
static int lib_status;

static void load_lib(void)
{
        static const char *const names[] = { HTTP_FUNCTIONS(LIBRARY_NAME) };
        CURLcode code;

        lib_status = library_load(HTTP_LIB, names, ARRAY_SIZE(names), &lib, &lib_error);
        if (lib_status < 0)
                return;
        code = lib.curl_global_init(CURL_GLOBAL_DEFAULT);
        if (code != CURLE_OK)
                lib_status =
                        err_set(&lib_error, -EIO, "cannot start libcurl: %s", lib.curl_easy_strerror(code));
}

static int lib_ready(struct err *e)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        (void)pthread_once(&once, load_lib); /* cannot fail */
        return lib_status == 0 ? 0 : err_set(e, lib_status, "%s", lib_error.text);
}

static char *make_no_proxy(void)
{
        const char *set = getenv("no_proxy");
        char *text;

        if (!set)
                set = getenv("NO_PROXY");
        if (asprintf(&text, "%s%slocalhost,127.0.0.1,::1", set ? set : "", set ? "," : "") < 0)
                return NULL;
        return text;
}

int http_new(const char *user_agent, struct http **ret_http, struct err *e)
{
        CLEANUP(http_freep) struct http *http = NULL;
        int r = lib_ready(e);

        if (r < 0)
                return r;
        http = calloc(1, sizeof(*http));
        if (http) {
                http->user_agent = strdup(user_agent);
                http->no_proxy = make_no_proxy();
                http->curl = lib.curl_easy_init();
        }
        if (!http || !http->user_agent || !http->no_proxy || !http->curl)
                return err_set(e, -ENOMEM, "out of memory");
        *ret_http = TAKE(http);
        return 0;
}

void http_free(struct http *http)
{
        if (!http)
                return;
        lib.curl_easy_cleanup(http->curl);
        free(http->user_agent);
        free(http->no_proxy);
        free(http);
}

void http_response_done(struct http_response *response)
{
        buf_done(&response->body);
}

/* The URL without user name, password and query, for messages: the first two are secrets, the last would
 * leave no room for the reason. Schemes that we do not speak are refused. */
static int public_url(const char *url, char ret[HTTP_URL_MAX])
{
        CURLU *u = lib.curl_url();
        char *text = NULL, *scheme = NULL;
        CURLUcode code;

        if (!u)
                return -ENOMEM;
        code = lib.curl_url_set(u, CURLUPART_URL, url, 0);
        if (code == CURLUE_OK)
                code = lib.curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
        if (code == CURLUE_OK && strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
                code = CURLUE_UNSUPPORTED_SCHEME;
        if (code == CURLUE_OK) {
                (void)lib.curl_url_set(u, CURLUPART_USER, NULL, 0);
                (void)lib.curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
                (void)lib.curl_url_set(u, CURLUPART_QUERY, NULL, 0);
                code = lib.curl_url_get(u, CURLUPART_URL, &text, 0);
        }
        if (code == CURLUE_OK)
                (void)snprintf(ret, HTTP_URL_MAX, "%s", text);
        lib.curl_free(text);
        lib.curl_free(scheme);
        lib.curl_url_cleanup(u);
        return code == CURLUE_OK ? 0 : code == CURLUE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL;
}

static size_t on_body(char *data, size_t one, size_t size, void *userdata)
{
        struct exchange *x = userdata;

        (void)one; /* always 1 */
        if (buf_append(&x->response->body, data, size) < 0) {
                x->too_large = x->response->body.failed == -EFBIG;
                return CURL_WRITEFUNC_ERROR;
        }
        return size;
}

static void copy_value(char *ret, size_t ret_size, const char *value, size_t size)
{
        while (size > 0 && strchr(" \t\r\n", value[size - 1]))
                size--;
        while (size > 0 && (*value == ' ' || *value == '\t')) {
                value++;
                size--;
        }
        (void)snprintf(ret, ret_size, "%.*s", (int)size, value); /* cut when longer, by contract */
}

void http_take_header(struct http_response *response, const char *line, size_t size)
{
        const struct {
                const char *name;
                char *value;
                size_t size;
        } wanted[] = {
                { "content-type:", response->content_type, sizeof(response->content_type) },
                { "etag:", response->etag, sizeof(response->etag) },
                { "retry-after:", response->retry_after, sizeof(response->retry_after) },
                { "digest:", response->digest, sizeof(response->digest) },
                { "wattloop-signature:", response->signature, sizeof(response->signature) },
        };

        for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
                size_t n = strlen(wanted[i].name);

                if (size >= n && strncasecmp(line, wanted[i].name, n) == 0)
                        copy_value(wanted[i].value, wanted[i].size, line + n, size - n);
        }
}

static size_t on_header(char *line, size_t one, size_t size, void *userdata)
{
        struct exchange *x = userdata;

        (void)one;
        x->header_bytes += size;
        if (x->header_bytes > HTTP_MAX_HEADERS) {
                x->bad_headers = true;
                return 0;
        }
        http_take_header(x->response, line, size);
        return size;
}

static int add_header(struct curl_slist **list, const char *header)
{
        struct curl_slist *longer = lib.curl_slist_append(*list, header);

        if (!longer)
                return -ENOMEM;
        *list = longer;
        return 0;
}

static int make_headers(const struct http_request *request, struct curl_slist **ret)
{
        bool typed = false;
        int r = add_header(ret, "Expect:"); /* no waiting for "100 Continue" */

        for (const char *const *h = request->headers; r == 0 && h && *h; h++) {
                typed |= strncasecmp(*h, "content-type:", strlen("content-type:")) == 0;
                r = add_header(ret, *h);
        }
        if (r == 0 && !typed)
                r = add_header(ret, "Content-Type:"); /* else libcurl claims a web form */
        return r;
}

static void set_limits(CURL *curl, const struct http_request *request, size_t max)
{
        long timeout_ms = request->timeout_ms > 0 ? request->timeout_ms : HTTP_TIMEOUT_MS;

        lib.curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
        lib.curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
        lib.curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        lib.curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, HTTP_CONNECT_MS);
        lib.curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
        lib.curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, request->slow_answer ? 0L : HTTP_LOW_SPEED);
        lib.curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, HTTP_LOW_SPEED_S);
        lib.curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)max);
        lib.curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2); /* or later */
        lib.curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, request->insecure ? 0L : 1L);
        lib.curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, request->insecure ? 0L : 2L);
        if (request->client_cert)
                lib.curl_easy_setopt(curl, CURLOPT_SSLCERT, request->client_cert);
        if (request->client_key)
                lib.curl_easy_setopt(curl, CURLOPT_SSLKEY, request->client_key);
        if (request->proxy)
                lib.curl_easy_setopt(curl, CURLOPT_PROXY, request->proxy);
        if (request->userpwd)
                lib.curl_easy_setopt(curl, CURLOPT_USERPWD, request->userpwd);
        if (request->ca_file) /* beside the system's directory of anchors */
                lib.curl_easy_setopt(curl, CURLOPT_CAINFO, request->ca_file);
}

static void set_method(CURL *curl, const struct http_request *request)
{
        if (request->body || strcmp(request->method, "POST") == 0) {
                lib.curl_easy_setopt(curl, CURLOPT_POST, 1L);
                lib.curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body ? request->body : "");
                lib.curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_size);
        }
        lib.curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
        if (strcmp(request->method, "HEAD") == 0)
                lib.curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
}

static int connect_errno(CURL *curl)
{
        long sys = 0;

        (void)lib.curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &sys);
        switch (sys) {
        case ETIMEDOUT:
                return -ETIMEDOUT;
        case EHOSTUNREACH:
        case ENETUNREACH:
        case ENETDOWN:
                return -EHOSTUNREACH;
        default:
                return -ECONNREFUSED;
        }
}

uint64_t http_retry_after_ms(const char *retry_after, int64_t now_ms)
{
        uint64_t seconds;
        time_t date;

        if (num_parse_u64(retry_after, &seconds) == 0)
                return seconds < UINT64_MAX / 1000 ? seconds * 1000 : UINT64_MAX;
        date = *retry_after && lib_ready(NULL) == 0 ? lib.curl_getdate(retry_after, NULL) : -1;
        return date > 0 && (int64_t)date > now_ms / 1000 ? (uint64_t)((int64_t)date * 1000 - now_ms) : 0;
}

static int to_errno(CURL *curl, CURLcode code, const struct exchange *x)
{
        if (x->too_large)
                return -EFBIG;
        switch (code) {
        case CURLE_OPERATION_TIMEDOUT:
                return -ETIMEDOUT;
        case CURLE_COULDNT_CONNECT:
                return connect_errno(curl);
        case CURLE_FILESIZE_EXCEEDED:
                return -EFBIG;
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
                return -EHOSTUNREACH;
        case CURLE_URL_MALFORMAT:
                return -EINVAL;
        case CURLE_OUT_OF_MEMORY:
                return -ENOMEM;
        case CURLE_WRITE_ERROR:
                return x->bad_headers ? -EPROTO : -ENOMEM;
        default:
                return -EPROTO;
        }
}

static int perform(struct http *http, const struct http_request *request, const char *url, struct exchange *x,
                   struct err *e)
{
        char words[CURL_ERROR_SIZE] = "";
        CURLcode code;
        int r;

        lib.curl_easy_setopt(http->curl, CURLOPT_ERRORBUFFER, words);
        code = lib.curl_easy_perform(http->curl);
        lib.curl_easy_setopt(http->curl, CURLOPT_ERRORBUFFER,
                             NULL); /* `words` ends here, the handle does not */
        if (code == CURLE_OK) {
                (void)lib.curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &x->response->status);
                return 0;
        }
        r = to_errno(http->curl, code, x);
        if (r == -EFBIG)
                return err_set(e, r, "%s %s: response is larger than %zu bytes", request->method, url,
                               x->response->body.max);
        if (x->bad_headers)
                return err_set(e, r, "%s %s: response headers are larger than %zu bytes", request->method,
                               url, HTTP_MAX_HEADERS);
        return err_set(e, r, "%s %s: %s", request->method, url,
                       *words ? words : lib.curl_easy_strerror(code));
}

int http_exchange(struct http *http, const struct http_request *request, struct http_response *ret,
                  struct err *e)
{
        size_t max = request->max_response > 0 ? request->max_response : HTTP_RESPONSE_MAX;
        struct http_response response = { 0 };
        struct exchange x = { .response = &response };
        struct curl_slist *headers = NULL;
        char url[HTTP_URL_MAX];
        int r;

        r = public_url(request->url, url);
        if (r < 0) /* its text may hold a password, so it is not repeated */
                return err_set(e, r, r == -EINVAL ? "not a valid http or https URL" : "out of memory");
        buf_init(&response.body, max);
        lib.curl_easy_reset(http->curl); /* forgets options, keeps connections */
        set_limits(http->curl, request, max);
        set_method(http->curl, request);
        lib.curl_easy_setopt(http->curl, CURLOPT_URL, request->url);
        lib.curl_easy_setopt(http->curl, CURLOPT_USERAGENT, http->user_agent);
        lib.curl_easy_setopt(http->curl, CURLOPT_NOPROXY, request->proxy ? "" : http->no_proxy);
        lib.curl_easy_setopt(http->curl, CURLOPT_WRITEFUNCTION, on_body);
        lib.curl_easy_setopt(http->curl, CURLOPT_WRITEDATA, &x);
        lib.curl_easy_setopt(http->curl, CURLOPT_HEADERFUNCTION, on_header);
        lib.curl_easy_setopt(http->curl, CURLOPT_HEADERDATA, &x);

        r = make_headers(request, &headers);
        if (r == 0) {
                lib.curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, headers);
                r = perform(http, request, url, &x, e);
        } else {
                (void)err_set(e, r, "out of memory");
        }
        lib.curl_slist_free_all(headers);
        if (r < 0) {
                http_response_done(&response);
                return r;
        }
        *ret = response;
        return 0;
}
