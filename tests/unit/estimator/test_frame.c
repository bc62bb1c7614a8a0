/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/cleanup.h"

static const struct {
        const char *text;
        size_t end;
} objects[] = {
        { "{}", 2 },
        { " \r\n\t{}", 6 },
        { "{}\n", 2 },
        { "{\"a\": {\"b\": [1, {}]}} {", 21 },
        { "{\"a\": \"}\"}", 10 },
        { "{\"a\": \"\\\"}\"}", 12 },
        { "{\"a\": \"\\\\\"}", 11 },
        { "{\"}\\\\\\\"{\": 1}", 13 },
        { "{\"caf\xc3\xa9 \xf0\x9f\x94\x8b\": 1}{}", 17 },
};

static void the_end_is_the_matching_brace_however_it_is_cut(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
                const char *text = objects[i].text;
                size_t n = strlen(text), end;

                for (size_t cut = 0; cut <= n; cut++) {
                        struct frame f = { 0 };
                        int r = frame_scan(&f, text, cut, &end);

                        assert_int_equal(r, cut >= objects[i].end);
                        if (r == 0)
                                assert_int_equal(frame_scan(&f, text, n, &end), 1);
                        assert_int_equal(end, objects[i].end);
                }
        }
}

static void byte_by_byte_is_the_same(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
                struct frame f = { 0 };
                size_t end;

                for (size_t n = 0; n < objects[i].end; n++)
                        assert_int_equal(frame_scan(&f, objects[i].text, n, &end), 0);
                assert_int_equal(frame_scan(&f, objects[i].text, objects[i].end, &end), 1);
        }
}

static void what_does_not_begin_with_a_brace_is_refused(void **state)
{
        static const char *const texts[] = { "x", "[1]", "\"{}\"", "}", "  ,{}", "1{}" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                struct frame f = { 0 };
                size_t end;

                assert_int_equal(frame_scan(&f, texts[i], strlen(texts[i]), &end), -EBADMSG);
        }
}

static void commas_are_counted_outside_strings(void **state)
{
        static const char text[] = "{\"a,b\": [1,2,[3,4]], \"c\": \",\"}";
        struct frame f = { 0 };
        size_t end;

        (void)state;
        assert_int_equal(frame_scan(&f, text, strlen(text), &end), 1);
        assert_int_equal(f.commas, 4);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_end_is_the_matching_brace_however_it_is_cut),
                cmocka_unit_test(byte_by_byte_is_the_same),
                cmocka_unit_test(what_does_not_begin_with_a_brace_is_refused),
                cmocka_unit_test(commas_are_counted_outside_strings),
        };

        return cmocka_run_group_tests_name("estimator/frame", tests, NULL, NULL);
}
