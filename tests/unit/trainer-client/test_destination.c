/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/http.h"
#include "trainer-client/bundle_lines.h"
#include "trainer-client/destination.h"

static const struct destination_options own = { .retry_base_ms = 100, .retry_max_ms = 1000 };

static void the_back_off_doubles_up_to_its_limit(void **state)
{
        (void)state;
        assert_int_equal(backoff_ms(&own, 2, 0, 100), 100);
        assert_int_equal(backoff_ms(&own, 2, 0, 101), 0);
        assert_int_equal(backoff_ms(&own, 3, 0, 200), 200);
        assert_int_equal(backoff_ms(&own, 5, 0, 800), 800);
        assert_int_equal(backoff_ms(&own, 6, 0, 1000), 1000);
        assert_int_equal(backoff_ms(&own, 900, 0, 1000), 1000);
        for (uint64_t random = 0; random < 5000; random += 7)
                assert_true(backoff_ms(&own, 4, 0, random) <= 400);
}

static void the_server_may_ask_for_more_but_not_for_ever(void **state)
{
        (void)state;
        assert_int_equal(backoff_ms(&own, 2, 700, 0), 700);
        assert_int_equal(backoff_ms(&own, 2, UINT64_MAX, 0), 1000);
        assert_int_equal(backoff_ms(&own, 3, 50, 180), 180);
}

static void retry_after_is_seconds_or_a_date(void **state)
{
        const int64_t now_ms = INT64_C(784111777) * 1000; /* Sun, 06 Nov 1994 08:49:37 GMT */

        (void)state;
        assert_int_equal(http_retry_after_ms("7", now_ms), 7000);
        assert_int_equal(http_retry_after_ms("Sun, 06 Nov 1994 08:50:07 GMT", now_ms), 30000);
        assert_int_equal(http_retry_after_ms("Sunday, 06-Nov-94 08:50:07 GMT", now_ms), 30000);
        assert_int_equal(http_retry_after_ms("Sun Nov  6 08:50:07 1994", now_ms), 30000);
        assert_int_equal(http_retry_after_ms("Sun, 06 Nov 1994 08:49:00 GMT", now_ms), 0);
        assert_int_equal(http_retry_after_ms("", now_ms), 0);
        assert_int_equal(http_retry_after_ms("soon", now_ms), 0);
}

/* A destination that nobody listens for. */
static int open_nobody(struct options *o, struct destination **ret)
{
        struct err e = { "" };

        memset(o, 0, sizeof(*o));
        if (options_set_defaults(options_table, o, &e) < 0 ||
            options_set(options_table, "server.url", "http://127.0.0.1:1/", "test", o, &e) < 0 ||
            options_set(options_table, "retry.attempts", "2", "test", o, &e) < 0 ||
            options_set(options_table, "retry.base", "1ms", "test", o, &e) < 0)
                fail_msg("%s", e.text);
        return destination_open(o, KIND_MODEL_SERVER, ret, &e);
}

static void nobody_listening_is_worth_another_time(void **state)
{
        struct destination *d = NULL;
        struct parcel p;
        struct options o;
        struct err e = { "" };

        (void)state;
        assert_int_equal(open_nobody(&o, &d), 0);
        parcel_init(&p);
        (void)snprintf(p.name, sizeof(p.name), "n/e/1-2");
        assert_int_equal(destination_deliver(d, &p, &e), -EAGAIN);
        assert_non_null(strstr(e.text, "n/e/1-2"));
        parcel_done(&p);
        destination_free(d);
        options_done(options_table, &o);
}

static void an_unreadable_token_is_an_error_of_the_upload(void **state)
{
        struct destination *d = NULL;
        struct parcel p;
        struct options o;
        struct err e = { "" };

        (void)state;
        assert_int_equal(open_nobody(&o, &d), 0);
        parcel_init(&p);
        d->own.token_file = (char *)(uintptr_t) "/nonexistent/token";
        assert_int_equal(destination_deliver(d, &p, &e), -ENOENT);
        assert_non_null(strstr(e.text, "/nonexistent/token"));
        d->own.token_file = (char *)(uintptr_t) "/dev/null";
        assert_true(destination_deliver(d, &p, &e) < 0);
        parcel_done(&p);
        destination_free(d);
        options_done(options_table, &o);
}

static void a_url_for_a_query_is_escaped(void **state)
{
        char *text = destination_escape("sum(x{a=\"b\"}[1s])+Z~");

        (void)state;
        assert_string_equal(text, "sum%28x%7Ba%3D%22b%22%7D%5B1s%5D%29%2BZ~");
        free(text);
}

static void numbers_are_written_without_floating_point(void **state)
{
        static const struct {
                int64_t total;
                int decimals;
                const char *text;
        } cases[] = {
                { 0, 0, "0" },
                { 0, 6, "0" },
                { 7, 0, "7" },
                { -7, 0, "-7" },
                { 100500000, 6, "100.5" },
                { 200000001, 6, "200.000001" },
                { 5000000, 6, "5" },
                { 1, 6, "0.000001" },
                { 10, 9, "0.00000001" },
                { -1500000, 6, "-1.5" },
                { 1700000000123, 3, "1700000000.123" },
                { 1700000000000, 3, "1700000000" },
                { INT64_MAX, 0, "9223372036854775807" },
                { INT64_MAX, 6, "9223372036854.775807" },
                { INT64_MIN, 9, "-9223372036.854775808" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char text[PACK_NUMBER_MAX];

                text[pack_format(text, cases[i].total, cases[i].decimals)] = '\0';
                assert_string_equal(text, cases[i].text);
                assert_true(strtod(text, NULL) == pack_value(cases[i].total, cases[i].decimals));
        }
}

/* A bundle's line, taken apart and written again. */
static void lines_survive_the_way_through_series(void **state)
{
        static const char text[] =
                "{\"metric\":{\"__name__\":\"a\",\"x\":\"q\\\"],\\\"values\\\":[\"},\"values\":[1.5,2],"
                "\"timestamps\":[1,2]}\n"
                "{\"metric\":{\"__name__\":\"b\"},\"values\":[0.000000001],\"timestamps\":[5]}\n"
                "{\"metric\":{\"__name__\":\"c\"},\"values\":[9007199254740993],\"timestamps\":[5]}\n";
        const struct bundle_lines lines = { text, sizeof(text) - 1 };
        const struct series_source source = series_of_lines(&lines);
        CLEANUP(buf_done) struct buf out;
        struct err e = { "" };
        size_t samples = 0;

        (void)state;
        buf_init(&out, 4096);
        if (source.each(&source, pack_append_line, &out, &samples, &e) < 0)
                fail_msg("%s", e.text);
        assert_string_equal(out.data, text);
        assert_int_equal(samples, 4);
}

static void what_is_no_line_of_a_batch_is_refused(void **state)
{
        static const char *const texts[] = {
                "{}\n",
                "{\"metric\":{\"__name__\":\"a\"},\"values\":[1],\"timestamps\":[1]}", /* no end */
                "{\"metric\":{\"__name__\":\"a\"},\"values\":[1,2],\"timestamps\":[1]}\n",
                "{\"metric\":{\"__name__\":\"a\"},\"values\":[],\"timestamps\":[]}\n",
                "{\"metric\":{\"__name__\":7},\"values\":[1],\"timestamps\":[1]}\n",
                "{\"metric\":{\"b\":\"\",\"a\":\"\"},\"values\":[1],\"timestamps\":[1]}\n",
                "{\"metric\":{\"__name__\":\"a\"},\"values\":[1e300],\"timestamps\":[1]}\n",
                "{\"metric\":{\"__name__\":\"a\"},\"values\":[1],\"timestamps\":[1.5]}\n",
                "null\n",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                const struct bundle_lines lines = { texts[i], strlen(texts[i]) };
                const struct series_source source = series_of_lines(&lines);
                CLEANUP(buf_done) struct buf out;
                size_t samples = 0;

                buf_init(&out, 4096);
                assert_int_equal(source.each(&source, pack_append_line, &out, &samples, NULL), -EBADMSG);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_back_off_doubles_up_to_its_limit),
                cmocka_unit_test(the_server_may_ask_for_more_but_not_for_ever),
                cmocka_unit_test(retry_after_is_seconds_or_a_date),
                cmocka_unit_test(nobody_listening_is_worth_another_time),
                cmocka_unit_test(an_unreadable_token_is_an_error_of_the_upload),
                cmocka_unit_test(a_url_for_a_query_is_escaped),
                cmocka_unit_test(numbers_are_written_without_floating_point),
                cmocka_unit_test(lines_survive_the_way_through_series),
                cmocka_unit_test(what_is_no_line_of_a_batch_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
