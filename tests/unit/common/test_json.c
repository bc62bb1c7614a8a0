/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void check_rewritten(const char *in, const char *expected)
{
        CLEANUP(json_decrefp) json_t *value = NULL;
        CLEANUP(buf_done) struct buf b;
        struct err e = { 0 };

        buf_init(&b, 4096);
        assert_int_equal(json_parse(in, strlen(in), "test", &value, &e), 0);
        assert_int_equal(json_write(value, &b), 0);
        assert_string_equal(b.data, expected);
}

/* Expected texts are json.dumps(..., sort_keys=True) of Python 3. */
static void writes_what_python_would_write(void **state)
{
        (void)state;
        check_rewritten("{\"b\":[1,2.50,true,null],\"a\":{}}", "{\"a\": {}, \"b\": [1, 2.5, true, null]}");
        check_rewritten("[3.0,1e22,1e15,-0.0,1e-7]", "[3.0, 1e+22, 1000000000000000.0, -0.0, 1e-07]");
        check_rewritten("[9223372036854775807,-1]", "[9223372036854775807, -1]");
        check_rewritten("[\"\\u00e9\\ud83d\\ude00\\u007f\\/\\\"\\\\\\n\\u0001\"]",
                        "[\"\\u00e9\\ud83d\\ude00\x7f/\\\"\\\\\\n\\u0001\"]");
        check_rewritten("[]", "[]");
        check_rewritten("[{}, [[]]]", "[{}, [[]]]");
}

static void bad_utf8_is_replaced_not_passed_on(void **state)
{
        static const char *const bad[] = { "\xff",         "\xc3",     "\xe2\x82",
                                           "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                CLEANUP(json_decrefp) json_t *value = NULL;
                CLEANUP(buf_done) struct buf b;

                buf_init(&b, 256);
                assert_int_equal(json_write_string(&b, bad[i]), 0);
                assert_memory_equal(b.data, "\"\\ufffd", 7);
                value = json_loadb(b.data, b.size, JSON_DECODE_ANY, NULL);
                assert_non_null(value);
        }
}

static void bad_texts_are_refused_with_their_place(void **state)
{
        static const struct {
                const char *text, *words;
        } table[] = {
                { "", "doc:1:" },
                { "{\n  \"a\": 1,\n  \"a\": 2}", "doc:3:" },
                { "{} x", "doc:1:" },
                { "[NaN]", "doc:1:" },
                { "[1e999]", "doc:1:" },
                { "[99999999999999999999]", "doc:1:" },
                { "[\"\\u0000\"]", "doc:1:" },
                { "[1,\n 2", "doc:2:" },
                { "\"plain\"", "doc:1:" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                json_t *value = NULL;
                struct err e = { 0 };

                assert_int_equal(json_parse(table[i].text, strlen(table[i].text), "doc", &value, &e),
                                 -EBADMSG);
                assert_non_null(strstr(e.text, table[i].words));
                assert_null(value);
        }
}

static void a_tower_of_brackets_is_refused(void **state)
{
        CLEANUP(freep) char *tower = malloc(100000);
        json_t *value = NULL;
        struct err e = { 0 };

        (void)state;
        assert_non_null(tower);
        memset(tower, '[', 100000);
        assert_int_equal(json_parse(tower, 100000, "doc", &value, &e), -EBADMSG);
}

static void members_are_checked_for_their_type(void **state)
{
        static const char text[] = "{\"s\":\"x\",\"i\":3,\"r\":3.5,\"n\":null}";
        CLEANUP(json_decrefp) json_t *object = NULL;
        struct err e = { 0 };
        const char *s;
        long long i;
        double d;

        (void)state;
        assert_int_equal(json_parse(text, strlen(text), "doc", &object, &e), 0);
        assert_int_equal(json_get_string(object, "s", &s, &e), 0);
        assert_string_equal(s, "x");
        assert_int_equal(json_get_int(object, "i", &i, &e), 0);
        assert_int_equal(i, 3);
        assert_int_equal(json_get_number(object, "i", &d, &e), 0);
        assert_int_equal(json_get_number(object, "r", &d, &e), 0);
        assert_true(d == 3.5);
        assert_int_equal(json_get_int(object, "r", &i, &e), -EBADMSG);
        assert_int_equal(json_get_string(object, "n", &s, &e), -EBADMSG);
        assert_int_equal(json_get_string(object, "q", &s, &e), -ENOENT);
        assert_string_equal(e.text, "'q' is missing");
        assert_int_equal(json_get_int(json_object_get(object, "s"), "q", &i, NULL), -EBADMSG);
}

static void the_buffer_limits_what_is_written(void **state)
{
        CLEANUP(json_decrefp) json_t *value = json_pack("{s:s}", "key", "a rather long value");
        CLEANUP(buf_done) struct buf b;

        (void)state;
        buf_init(&b, 10);
        assert_int_equal(json_write(value, &b), -EFBIG);
        buf_clear(&b);
        assert_int_equal(json_write(NULL, &b), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(writes_what_python_would_write),
                cmocka_unit_test(bad_utf8_is_replaced_not_passed_on),
                cmocka_unit_test(bad_texts_are_refused_with_their_place),
                cmocka_unit_test(a_tower_of_brackets_is_refused),
                cmocka_unit_test(members_are_checked_for_their_type),
                cmocka_unit_test(the_buffer_limits_what_is_written),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
