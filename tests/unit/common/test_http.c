/* SPDX-License-Identifier: Apache-2.0 */
/* The client against a server thread that answers each connection with fixed bytes. */
#include "common/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/http_probe.h"

/* One server for one answer. */
struct server {
        int fd, port;
        pthread_t thread;
        const char *answer; /* NULL: none, and the connection stays open until the client leaves */
        size_t answer_size;
        char request[4096]; /* what came, terminated */
};

static void read_request(struct server *s, int fd)
{
        size_t used = 0, wanted = SIZE_MAX;

        while (used < sizeof(s->request) - 1 && used < wanted) {
                ssize_t n = read(fd, s->request + used, sizeof(s->request) - 1 - used);
                const char *body, *length;

                if (n <= 0)
                        return;
                used += (size_t)n;
                s->request[used] = '\0';
                body = strstr(s->request, "\r\n\r\n");
                length = strcasestr(s->request, "content-length:");
                if (body)
                        wanted = (size_t)(body + 4 - s->request) +
                                 (length ? strtoul(length + strlen("content-length:"), NULL, 10) : 0);
        }
}

static void *serve_once(void *arg)
{
        struct server *s = arg;
        int fd = accept(s->fd, NULL, NULL);
        char c;

        if (fd < 0)
                return NULL;
        read_request(s, fd);
        if (s->answer)
                (void)!send(fd, s->answer, s->answer_size, MSG_NOSIGNAL);
        else
                (void)!read(fd, &c, 1); /* returns when the client gives up */
        close(fd);
        return NULL;
}

static void listen_on_loopback(struct server *s)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t size = sizeof(a);

        s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(s->fd >= 0);
        assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(s->fd, 8), 0);
        assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &size), 0);
        s->port = ntohs(a.sin_port);
}

static void server_start(struct server *s, const char *answer, size_t answer_size)
{
        memset(s, 0, sizeof(*s));
        s->answer = answer;
        s->answer_size = answer_size;
        listen_on_loopback(s);
        assert_int_equal(pthread_create(&s->thread, NULL, serve_once, s), 0);
}

static void server_stop(struct server *s)
{
        (void)shutdown(s->fd, SHUT_RDWR);
        pthread_join(s->thread, NULL);
        close(s->fd);
}

/* One exchange with a fresh client against one fixed answer. */
static int exchange(struct server *s, const char *answer, struct http_request request,
                    struct http_response *ret, struct err *e)
{
        CLEANUP(http_freep) struct http *http = NULL;
        char url[64];
        int r;

        server_start(s, answer, answer ? strlen(answer) : 0);
        snprintf(url, sizeof(url), "http://127.0.0.1:%d/path?x=1", s->port);
        request.url = url;
        request.method = request.method ? request.method : "GET";
        request.timeout_ms = request.timeout_ms ? request.timeout_ms : 5000;
        assert_int_equal(http_new("test/1", &http, e), 0);
        r = http_exchange(http, &request, ret, e);
        server_stop(s);
        return r;
}

static void an_answer_comes_with_its_headers(void **state)
{
        static const char answer[] =
                "HTTP/1.1 200 OK\r\nContent-Type:  application/json \r\nETag: \"abc\"\r\n"
                "Digest: sha-256=xyz\r\nContent-Length: 5\r\n\r\nhello";
        const char *const headers[] = { "X-Test: yes", NULL };
        struct http_response response;
        struct err e = { 0 };
        struct server s;

        (void)state;
        assert_int_equal(exchange(&s, answer, (struct http_request){ .headers = headers }, &response, &e), 0);
        assert_int_equal(response.status, 200);
        assert_string_equal(response.body.data, "hello");
        assert_string_equal(response.content_type, "application/json");
        assert_string_equal(response.etag, "\"abc\"");
        assert_string_equal(response.digest, "sha-256=xyz");
        assert_string_equal(response.retry_after, "");
        assert_non_null(strstr(s.request, "GET /path?x=1 HTTP/1.1\r\n"));
        assert_non_null(strstr(s.request, "User-Agent: test/1\r\n"));
        assert_non_null(strstr(s.request, "X-Test: yes\r\n"));
        http_response_done(&response);
}

static void a_body_is_posted_whole(void **state)
{
        static const char answer[] = "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
        const char *const headers[] = { "Content-Type: application/x-test", NULL };
        struct http_request request = {
                .method = "POST", .headers = headers, .body = "a\0b", .body_size = 3
        };
        struct http_response response;
        struct err e = { 0 };
        struct server s;
        char *body;

        (void)state;
        assert_int_equal(exchange(&s, answer, request, &response, &e), 0);
        assert_int_equal(response.status, 503);
        assert_string_equal(response.retry_after, "7");
        body = strstr(s.request, "\r\n\r\n");
        assert_non_null(body);
        assert_memory_equal(body + 4, "a\0b", 3);
        assert_non_null(strstr(s.request, "Content-Type: application/x-test\r\n"));
        assert_null(strstr(s.request, "Expect:"));
        http_response_done(&response);
}

static void redirects_are_answers_not_orders(void **state)
{
        static const char answer[] =
                "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n";
        struct http_response response;
        struct err e = { 0 };
        struct server s;

        (void)state;
        assert_int_equal(exchange(&s, answer, (struct http_request){ 0 }, &response, &e), 0);
        assert_int_equal(response.status, 302);
        http_response_done(&response);
}

static void a_truncated_body_is_an_error(void **state)
{
        static const char *const answers[] = {
                "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly this",
                "HTTP/1.1 200",
                "",
                "not http at all\r\n\r\n",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
                struct http_response response;
                struct err e = { 0 };
                struct server s;

                assert_int_equal(exchange(&s, answers[i], (struct http_request){ 0 }, &response, &e),
                                 -EPROTO);
                assert_non_null(strstr(e.text, "GET http://127.0.0.1:"));
        }
}

static void a_body_over_the_limit_is_an_error(void **state)
{
        static const char *const answers[] = {
                "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n12345678901",
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n1",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n",
                "HTTP/1.0 200 OK\r\n\r\n12345678901",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
                struct http_request request = { .max_response = 10 };
                struct http_response response;
                struct err e = { 0 };
                struct server s;

                assert_int_equal(exchange(&s, answers[i], request, &response, &e), -EFBIG);
                assert_non_null(strstr(e.text, "larger than 10 bytes"));
        }
}

/* A head of 3000 lines. */
static void write_long_head(struct buf *b, const char *status_line)
{
        buf_init(b, 1 << 20);
        buf_puts(b, status_line);
        for (int i = 0; i < 3000; i++)
                buf_printf(b, "X-%d: abcdefghijklmnopqrstuvwxyz\r\n", i);
        buf_puts(b, "Content-Length: 0\r\n\r\n");
}

static void endless_headers_are_an_error(void **state)
{
        CLEANUP(buf_done) struct buf b;
        struct http_response response;
        struct err e = { 0 };
        struct server s;

        (void)state;
        write_long_head(&b, "HTTP/1.1 200 OK\r\n");
        assert_int_equal(exchange(&s, b.data, (struct http_request){ 0 }, &response, &e), -EPROTO);
}

static void a_silent_server_ends_in_a_timeout(void **state)
{
        struct http_response response;
        uint64_t from_ns = clock_monotonic_ns();
        struct err e = { 0 };
        struct server s;

        (void)state;
        assert_int_equal(exchange(&s, NULL, (struct http_request){ .timeout_ms = 300 }, &response, &e),
                         -ETIMEDOUT);
        assert_true(clock_monotonic_ns() - from_ns < 5 * NS_PER_S);
}

static void nobody_there_is_connection_refused(void **state)
{
        CLEANUP(http_freep) struct http *http = NULL;
        struct http_request request = { .method = "GET" };
        struct http_response response;
        struct server s = { 0 };
        struct err e = { 0 };
        char url[64];

        (void)state;
        listen_on_loopback(&s); /* a port that was just free */
        close(s.fd);
        snprintf(url, sizeof(url), "http://user:secret@127.0.0.1:%d/", s.port);
        request.url = url;
        assert_int_equal(http_new("test/1", &http, &e), 0);
        assert_int_equal(http_exchange(http, &request, &response, &e), -ECONNREFUSED);
        assert_null(strstr(e.text, "secret"));
}

static void other_protocols_and_bad_urls_are_refused(void **state)
{
        static const char *const urls[] = { "file:///etc/passwd", "ftp://127.0.0.1/", "http://", "not a url",
                                            "" };
        CLEANUP(http_freep) struct http *http = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(http_new("test/1", &http, &e), 0);
        for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
                const struct http_request request = { .method = "GET", .url = urls[i] };
                struct http_response response;

                assert_int_equal(http_exchange(http, &request, &response, &e), -EINVAL);
        }
}

static void a_client_survives_failures(void **state)
{
        static const char good[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        static const char *const answers[] = { good, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
                                               good };
        const int expected[] = { 0, -EPROTO, 0 };
        CLEANUP(http_freep) struct http *http = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(http_new("test/1", &http, &e), 0);
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
                struct http_request request = { .method = "GET", .timeout_ms = 5000 };
                struct http_response response;
                struct server s;
                char url[64];
                int r;

                server_start(&s, answers[i], strlen(answers[i]));
                snprintf(url, sizeof(url), "http://127.0.0.1:%d/", s.port);
                request.url = url;
                r = http_exchange(http, &request, &response, &e);
                server_stop(&s);
                assert_int_equal(r, expected[i]);
                if (r == 0)
                        http_response_done(&response);
        }
}

/* ---- asking whether there is anything new ---- */

static const char *const conditional[] = { "If-None-Match: \"a\"", "X-Test: yes", NULL };

/* What http_probe() says to one fixed answer at http://127.0.0.1:PORT/PATH. */
static int probe(struct server *s, const char *answer, struct http_request request, struct http_response *ret,
                 struct err *e)
{
        char url[64];
        int r;

        server_start(s, answer, answer ? strlen(answer) : 0);
        snprintf(url, sizeof(url), "http://127.0.0.1:%d/path?x=1", s->port);
        request.url = request.url ? request.url : url;
        request.method = request.method ? request.method : "GET";
        request.timeout_ms = request.timeout_ms ? request.timeout_ms : 5000;
        r = http_probe("test/1", &request, ret, e);
        server_stop(s);
        return r;
}

static void a_probe_takes_answers_without_a_body(void **state)
{
        static const char *const answers[] = {
                "HTTP/1.1 304 Not Modified\r\nETag: \"b\"\r\n\r\n",
                "HTTP/1.0 304\r\netag: \"b\"\r\n\r\n",
                "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nETag:\"b\"\r\nContent-Length: 4\r\n\r\nbusy",
                "HTTP/1.1 429 Slowly\r\nETag: \"b\"\r\nRetry-After: 7\r\n\r\n",
        };
        const long statuses[] = { 304, 304, 503, 429 };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
                struct http_response response;
                struct err e = { 0 };
                struct server s;

                assert_int_equal(
                        probe(&s, answers[i], (struct http_request){ .headers = conditional }, &response, &e),
                        1);
                assert_int_equal(response.status, statuses[i]);
                assert_string_equal(response.etag, "\"b\"");
                assert_string_equal(response.retry_after, i < 2 ? "" : "7");
                assert_int_equal(response.body.size, 0);
                assert_non_null(strstr(s.request, "GET /path?x=1 HTTP/1.1\r\nHost: 127.0.0.1:"));
                assert_non_null(strstr(s.request, "\r\nUser-Agent: test/1\r\n"));
                assert_non_null(strstr(s.request, "\r\nIf-None-Match: \"a\"\r\nX-Test: yes\r\n\r\n"));
                http_response_done(&response);
        }
}

static void a_probe_leaves_every_other_answer(void **state)
{
        static const char *const answers[] = {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                "HTTP/1.1 3040 Hm\r\n\r\n",
                "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
                "HTTP/1.1 304 Not Modified\r\nETag: \"b\"\r\n",
                "HTTP/1.1 304",
                "HTTP/2 304\r\n\r\n",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n",
                "not http at all\r\n\r\n",
                "\r\n\r\n",
                "",
        };
        struct http_response response;
        struct err e = { 0 };
        struct server s;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
                assert_int_equal(
                        probe(&s, answers[i], (struct http_request){ .headers = conditional }, &response, &e),
                        0);
}

static void a_probe_leaves_endless_headers(void **state)
{
        CLEANUP(buf_done) struct buf b;
        struct http_response response;
        struct err e = { 0 };
        struct server s;

        (void)state;
        write_long_head(&b, "HTTP/1.1 304 Not Modified\r\n");
        assert_int_equal(probe(&s, b.data, (struct http_request){ .headers = conditional }, &response, &e),
                         0);
}

/* Nothing is sent: the server has no request when it is stopped. */
static void a_probe_does_not_ask_what_is_not_for_it(void **state)
{
        static const char *const unconditional[] = { "X-Test: yes", NULL };
        static const char *const split[] = { "If-None-Match: \"a\"\r\nX-Evil: yes", NULL };
        const struct http_request requests[] = {
                { .headers = NULL },
                { .headers = unconditional },
                { .headers = split },
                { .headers = conditional, .method = "POST" },
                { .headers = conditional, .proxy = "http://127.0.0.1:1" },
                { .headers = conditional, .userpwd = "user:secret" },
                { .headers = conditional, .url = "https://127.0.0.1/x" },
                { .headers = conditional, .url = "http://user:secret@127.0.0.1/x" },
                { .headers = conditional, .url = "http://127.0.0.1:1" },
                { .headers = conditional, .url = "http:///x" },
                { .headers = conditional, .url = "http://[::1/x" },
                { .headers = conditional, .url = "http://[::1]x/x" },
                { .headers = conditional, .url = "http://127.0.0.1:123456789/x" },
                { .headers = conditional, .url = "http://127.0.0.1:1/x y" },
                { .headers = conditional, .url = "http://127.0.0.1:1/x" }, /* nobody there */
        };
        static const char answer[] = "HTTP/1.1 304 Not Modified\r\n\r\n";
        struct http_response response;
        struct err e = { 0 };
        struct server s;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
                assert_int_equal(probe(&s, answer, requests[i], &response, &e), 0);
                assert_string_equal(s.request, "");
        }
        assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
        assert_int_equal(probe(&s, answer, (struct http_request){ .headers = conditional }, &response, &e),
                         0);
        assert_string_equal(s.request, "");
        assert_int_equal(unsetenv("http_proxy"), 0);
}

static void a_silent_server_ends_a_probe_in_a_timeout(void **state)
{
        struct http_request request = { .headers = conditional, .timeout_ms = 100 };
        struct http_response response;
        struct err e = { 0 };
        struct server s;

        (void)state;
        assert_int_equal(probe(&s, NULL, request, &response, &e), -ETIMEDOUT);
        assert_non_null(strstr(e.text, "/path: timed out"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_answer_comes_with_its_headers),
                cmocka_unit_test(a_body_is_posted_whole),
                cmocka_unit_test(redirects_are_answers_not_orders),
                cmocka_unit_test(a_truncated_body_is_an_error),
                cmocka_unit_test(a_body_over_the_limit_is_an_error),
                cmocka_unit_test(endless_headers_are_an_error),
                cmocka_unit_test(a_silent_server_ends_in_a_timeout),
                cmocka_unit_test(nobody_there_is_connection_refused),
                cmocka_unit_test(other_protocols_and_bad_urls_are_refused),
                cmocka_unit_test(a_client_survives_failures),
                cmocka_unit_test(a_probe_takes_answers_without_a_body),
                cmocka_unit_test(a_probe_leaves_every_other_answer),
                cmocka_unit_test(a_probe_leaves_endless_headers),
                cmocka_unit_test(a_probe_does_not_ask_what_is_not_for_it),
                cmocka_unit_test(a_silent_server_ends_a_probe_in_a_timeout),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
