/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include "tree.h"

static struct server *server;

static int set_up(void **state)
{
        struct err e = { 0 };

        (void)state;
        return server_open("127.0.0.1:0", &server, &e);
}

static int tear_down(void **state)
{
        (void)state;
        server_close(server);
        return 0;
}

/* Send a request and run the server until it has closed the connection. */
static const char *ask(const char *request)
{
        static char reply[65536];
        struct listen_address a;
        struct err e = { 0 };
        size_t used = 0;
        int fd;

        assert_int_equal(listen_address_parse(server_address(server), &a, &e), 0);
        fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&a.address, a.size), 0);
        assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
        for (;;) {
                struct pollfd fds[] = { { .fd = fd, .events = POLLIN },
                                        { .fd = server_fd(server), .events = POLLIN } };
                ssize_t n;

                assert_true(poll(fds, 2, 5000) > 0);
                if (fds[1].revents)
                        server_run(server);
                if (!fds[0].revents)
                        continue;
                n = recv(fd, reply + used, sizeof(reply) - 1 - used, 0);
                if (n <= 0)
                        break;
                used += (size_t)n;
        }
        reply[used] = '\0';
        close(fd);
        return reply;
}

#define REQUEST(line) line " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

static void metrics_are_the_published_text(void **state)
{
        const char *reply;

        (void)state;
        assert_int_equal(server_publish(server, "a 1\n", 4), 0);
        assert_int_equal(server_publish(server, "b 2\n", 4), 0);
        reply = ask(REQUEST("GET /metrics"));
        assert_memory_equal(reply, "HTTP/1.1 200", 12);
        assert_non_null(strstr(reply, "text/plain; version=0.0.4"));
        assert_non_null(strstr(reply, "\r\n\r\nb 2\n"));
}

static void render(void *context)
{
        char text[16];

        (void)snprintf(text, sizeof(text), "n %d\n", ++*(int *)context);
        assert_int_equal(server_publish(server, text, strlen(text)), 0);
}

static void a_text_is_made_when_somebody_asks_and_once(void **state)
{
        int rendered = 0;

        (void)state;
        server_on_demand(server, render, NULL, &rendered);
        server_outdate(server);
        assert_int_equal(rendered, 0);
        assert_non_null(strstr(ask(REQUEST("GET /metrics")), "\r\n\r\nn 1\n"));
        assert_non_null(strstr(ask(REQUEST("GET /metrics")), "\r\n\r\nn 1\n"));
        (void)ask(REQUEST("GET /healthz"));
        server_outdate(server);
        assert_non_null(strstr(ask(REQUEST("GET /metrics")), "\r\n\r\nn 2\n"));
}

static void health_and_the_front_page_are_there(void **state)
{
        (void)state;
        assert_non_null(strstr(ask(REQUEST("GET /healthz")), "\r\n\r\nok"));
        assert_non_null(strstr(ask(REQUEST("GET /")), "href=\"/metrics\""));
}

static void other_requests_are_refused(void **state)
{
        (void)state;
        assert_memory_equal(ask(REQUEST("GET /nothing")), "HTTP/1.1 404", 12);
        assert_memory_equal(
                ask("POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"),
                "HTTP/1.1 405", 12);
        (void)ask("garbage\r\n\r\n");                                /* an answer or none */
        assert_non_null(strstr(ask(REQUEST("GET /healthz")), "ok")); /* still there */
}

static void a_port_in_use_is_told(void **state)
{
        struct server *second = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(server_open(server_address(server), &second, &e), -EADDRINUSE);
        assert_non_null(strstr(e.text, "cannot listen"));
}

static void addresses_are_checked(void **state)
{
        static const char *const bad[] = { "8888",       ":8888",          "localhost:80",
                                           "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999999",
                                           "[::1]",      "1.2.3.4.5:80" };
        struct listen_address a;

        (void)state;
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                if (listen_address_parse(bad[i], &a, NULL) != -EINVAL)
                        fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(listen_address_parse("127.0.0.1:8888", &a, NULL), 0);
        assert_true(a.loopback);
        assert_int_equal(listen_address_parse("[::1]:8888", &a, NULL), 0);
        assert_true(a.loopback);
        assert_int_equal(listen_address_parse("0.0.0.0:9102", &a, NULL), 0);
        assert_false(a.loopback);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(metrics_are_the_published_text),
                TEST(health_and_the_front_page_are_there),
                TEST(a_text_is_made_when_somebody_asks_and_once),
                TEST(health_and_the_front_page_are_there),
                TEST(other_requests_are_refused),
                TEST(a_port_in_use_is_told),
                cmocka_unit_test(addresses_are_checked),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
