/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include "trainer-client/send.h"

static const struct sender_options options = {
        .url = "http://127.0.0.1:1/",
        .token_file = "",
        .ca_file = "",
        .timeout_ms = 1000,
        .attempts = 2,
        .retry_base_ms = 100,
        .retry_max_ms = 1000,
};

static void the_back_off_doubles_up_to_its_limit(void **state)
{
        (void)state;
        assert_int_equal(send_backoff_ms(&options, 2, 0, 100), 100);
        assert_int_equal(send_backoff_ms(&options, 2, 0, 101), 0);
        assert_int_equal(send_backoff_ms(&options, 3, 0, 200), 200);
        assert_int_equal(send_backoff_ms(&options, 5, 0, 800), 800);
        assert_int_equal(send_backoff_ms(&options, 6, 0, 1000), 1000);
        assert_int_equal(send_backoff_ms(&options, 900, 0, 1000), 1000);
        for (uint64_t random = 0; random < 5000; random += 7)
                assert_true(send_backoff_ms(&options, 4, 0, random) <= 400);
}

static void the_server_may_ask_for_more_but_not_for_ever(void **state)
{
        (void)state;
        assert_int_equal(send_backoff_ms(&options, 2, 700, 0), 700);
        assert_int_equal(send_backoff_ms(&options, 2, UINT64_MAX, 0), 1000);
        assert_int_equal(send_backoff_ms(&options, 3, 50, 180), 180);
}

static void nobody_listening_is_worth_another_time(void **state)
{
        CLEANUP(sender_freep) struct sender *sender = NULL;
        struct send_batch batch = { .name = "n/e/1-2", .body = "x", .size = 1, .samples = 1 };
        struct err e = { "" };

        (void)state;
        assert_int_equal(sender_new(&options, &sender, &e), 0);
        assert_int_equal(sender_deliver(sender, &batch, &e), -EAGAIN);
        assert_int_equal(sender_retries(sender), 1);
        assert_non_null(strstr(e.text, "n/e/1-2"));
}

static void an_unreadable_token_is_an_error(void **state)
{
        struct sender_options with_token = options;
        struct sender *sender = NULL;
        struct err e = { "" };

        (void)state;
        with_token.token_file = "/nonexistent/token";
        assert_int_equal(sender_new(&with_token, &sender, &e), -ENOENT);
        assert_non_null(strstr(e.text, "/nonexistent/token"));
        with_token.token_file = "/dev/null";
        assert_int_equal(sender_new(&with_token, &sender, &e), -EINVAL);
        assert_null(sender);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_back_off_doubles_up_to_its_limit),
                cmocka_unit_test(the_server_may_ask_for_more_but_not_for_ever),
                cmocka_unit_test(nobody_listening_is_worth_another_time),
                cmocka_unit_test(an_unreadable_token_is_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
