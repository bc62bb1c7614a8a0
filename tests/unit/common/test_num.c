/* SPDX-License-Identifier: Apache-2.0 */
#include "common/num.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/cleanup.h"

static void doubles_print_as_python_prints_them(void **state)
{
        static const struct {
                double value;
                const char *text;
        } table[] = {
                { 0.0, "0" },
                { -0.0, "-0" },
                { 3.0, "3" },
                { 0.1, "0.1" },
                { 0.1 + 0.2, "0.30000000000000004" },
                { 1.0 / 3.0, "0.3333333333333333" },
                { 2.0 / 3.0, "0.6666666666666666" },
                { 1e15, "1000000000000000" },
                { 9007199254740993.0, "9007199254740992" },
                { 1e16, "1e+16" },
                { 12345678901234568.0, "1.2345678901234568e+16" },
                { 1e22, "1e+22" },
                { 0.0001, "0.0001" },
                { 0.00001, "1e-05" },
                { 123456.789e-9, "0.000123456789" },
                { 5e-324, "5e-324" },
                { 2.2250738585072014e-308, "2.2250738585072014e-308" },
                { 1.7976931348623157e308, "1.7976931348623157e+308" },
                { 1765432100.125, "1765432100.125" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                char text[NUM_TEXT_MAX];

                assert_int_equal(num_format_double(text, table[i].value), strlen(table[i].text));
                assert_string_equal(text, table[i].text);
        }
}

static void special_values_print_as_prometheus_writes_them(void **state)
{
        char text[NUM_TEXT_MAX];

        (void)state;
        num_format_double(text, NAN);
        assert_string_equal(text, "NaN");
        num_format_double(text, INFINITY);
        assert_string_equal(text, "+Inf");
        num_format_double(text, -INFINITY);
        assert_string_equal(text, "-Inf");
}

/* xorshift: the same numbers in every run */
static uint64_t next_bits(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static void any_double_reads_back_bit_for_bit(void **state)
{
        uint64_t seed = 88172645463325252u;

        (void)state;
        for (int i = 0; i < 100000; i++) {
                uint64_t bits = next_bits(&seed);
                char text[NUM_TEXT_MAX];
                double v, back = 0;

                if (i % 2)
                        v = (double)(int64_t)bits / 1e9; /* the sizes that we meet in practice */
                else
                        memcpy(&v, &bits, sizeof(v));
                if (!isfinite(v))
                        continue;
                num_format_double(text, v);
                assert_int_equal(num_parse_double(text, &back), 0);
                assert_memory_equal(&v, &back, sizeof(v));
        }
}

static void no_shorter_text_would_do(void **state)
{
        uint64_t seed = 1234567;

        (void)state;
        for (int i = 0; i < 20000; i++) {
                double v = (double)(int64_t)next_bits(&seed) / 1e6;
                char text[NUM_TEXT_MAX], shorter[NUM_TEXT_MAX];
                int digits = 0;

                num_format_double(text, v);
                for (const char *p = text; *p && *p != 'e'; p++)
                        digits += *p >= '0' && *p <= '9' && (digits > 0 || *p != '0');
                if (digits < 2)
                        continue;
                snprintf(shorter, sizeof(shorter), "%.*e", digits - 2, v);
                assert_true(strtod(shorter, NULL) != v || strtod(text, NULL) == floor(v));
        }
}

static void parsers_take_whole_numbers_only(void **state)
{
        static const char *const bad[] = { "",     " 1",    "1 ",  "+",   "-",  "1x",
                                           "0x10", "1.5.2", "nan", "inf", "one" };
        uint64_t u = 7;
        int64_t i = 7;
        double d = 7;

        (void)state;
        for (size_t n = 0; n < ARRAY_SIZE(bad); n++) {
                assert_int_equal(num_parse_u64(bad[n], &u), -EINVAL);
                assert_int_equal(num_parse_i64(bad[n], &i), -EINVAL);
                assert_int_equal(num_parse_double(bad[n], &d), -EINVAL);
        }
        assert_int_equal(num_parse_u64("-1", &u), -EINVAL);
        assert_true(u == 7 && i == 7 && d == 7); /* outputs are written only on success */
}

static void parsers_know_their_limits(void **state)
{
        uint64_t u;
        int64_t i;
        double d;

        (void)state;
        assert_int_equal(num_parse_u64("18446744073709551615", &u), 0);
        assert_true(u == UINT64_MAX);
        assert_int_equal(num_parse_u64("18446744073709551616", &u), -ERANGE);
        assert_int_equal(num_parse_i64("-9223372036854775808", &i), 0);
        assert_true(i == INT64_MIN);
        assert_int_equal(num_parse_i64("9223372036854775808", &i), -ERANGE);
        assert_int_equal(num_parse_double("1e309", &d), -ERANGE);
        assert_int_equal(num_parse_double("-1.25e-3", &d), 0);
        assert_true(d == -0.00125);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(doubles_print_as_python_prints_them),
                cmocka_unit_test(special_values_print_as_prometheus_writes_them),
                cmocka_unit_test(any_double_reads_back_bit_for_bit),
                cmocka_unit_test(no_shorter_text_would_do),
                cmocka_unit_test(parsers_take_whole_numbers_only),
                cmocka_unit_test(parsers_know_their_limits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
