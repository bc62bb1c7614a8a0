/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "estimator/client.h"

#define CLIENTS 4

struct fixture {
        struct client clients[CLIENTS];
        int peers[CLIENTS];
        struct client_service service;
        size_t buffered, reply_size;
};

static int answer(void *arg, const char *text, size_t size, struct buf *out)
{
        const struct fixture *f = arg;
        char *room = buf_reserve(out, f->reply_size);

        (void)text;
        (void)size;
        assert_non_null(room);
        memset(room, 'x', f->reply_size);
        buf_grew(out, f->reply_size);
        return 0;
}

static int reject(void *arg, const char *text, struct buf *out)
{
        (void)arg;
        return buf_puts(out, text);
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        f->service = (struct client_service){ answer, reject, f, 1 << 20, 8 << 20, &f->buffered };
        for (int i = 0; i < CLIENTS; i++) {
                int pair[2];

                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
                client_init(&f->clients[i], pair[0], 1 << 20);
                f->peers[i] = pair[1];
        }
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        for (int i = 0; i < CLIENTS; i++) {
                client_done(&f->clients[i], &f->service);
                (void)close(f->peers[i]);
        }
        assert_int_equal(f->buffered, 0);
        free(f);
        return 0;
}

static int ask(struct fixture *f, int i)
{
        assert_int_equal(write(f->peers[i], "{}", 2), 2);
        return client_handle(&f->clients[i], EPOLLIN, &f->service);
}

static void replies_that_nobody_reads_have_a_bound_together(void **state)
{
        struct fixture *f = *state;

        f->reply_size = 3 << 20;
        assert_int_equal(ask(f, 0), EPOLLOUT);
        assert_int_equal(ask(f, 1), EPOLLOUT);
        assert_true(ask(f, 2) < 0);
        client_done(&f->clients[2], &f->service);
        f->reply_size = 100; /* what the socket takes at once is never in the way */
        assert_int_equal(ask(f, 3), EPOLLIN);
}

static void reply_that_was_read_counts_no_more(void **state)
{
        static char sink[1 << 16];
        struct fixture *f = *state;
        int wanted;

        f->reply_size = 3 << 20;
        wanted = ask(f, 0);
        while (wanted == EPOLLOUT) {
                while (read(f->peers[0], sink, sizeof(sink)) > 0)
                        ;
                wanted = client_handle(&f->clients[0], EPOLLOUT, &f->service);
        }
        assert_int_equal(wanted, EPOLLIN);
        assert_int_equal(f->buffered, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(replies_that_nobody_reads_have_a_bound_together),
                TEST(reply_that_was_read_counts_no_more),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
