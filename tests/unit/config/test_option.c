/* SPDX-License-Identifier: Apache-2.0 */
#include "config/option.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

struct options {
        bool on;
        long long n, ms, bytes;
        double d;
        char *s;
        int word;
        struct string_list list;
};

static const char *const words[] = { "first", "second", NULL };
static const struct option table[] = {
        { "on", OPTION_BOOL, offsetof(struct options, on), "false", 0, 0, NULL, "h" },
        { "n", OPTION_INT, offsetof(struct options, n), "-5", -10, 10, NULL, "h" },
        { "ms", OPTION_DURATION, offsetof(struct options, ms), "0", 0, 0, NULL, "h" },
        { "bytes", OPTION_SIZE, offsetof(struct options, bytes), "0", 0, 0, NULL, "h" },
        { "d", OPTION_DOUBLE, offsetof(struct options, d), "1e-3", 0, 0, NULL, "h" },
        { "s", OPTION_STRING, offsetof(struct options, s), NULL, 0, 0, NULL, "h" },
        { "word", OPTION_ENUM, offsetof(struct options, word), "second", 0, 0, words, "h" },
        { "list", OPTION_LIST, offsetof(struct options, list), "", 0, 0, NULL, "h" },
        { 0 },
};

static void defaults_come_from_the_table(void **state)
{
        struct options o = { 0 };

        (void)state;
        assert_int_equal(options_set_defaults(table, &o, NULL), 0);
        assert_false(o.on);
        assert_int_equal(o.n, -5);
        assert_true(o.d == 0.001);
        assert_string_equal(o.s, "");
        assert_int_equal(o.word, 1);
        assert_int_equal(o.list.n, 0);
        options_done(table, &o);
}

static void durations_and_sizes_have_units(void **state)
{
        static const struct {
                const char *key, *text;
                long long value;
        } rows[] = {
                { "ms", "500ms", 500 },         { "ms", "3s", 3000 },
                { "ms", "5m", 300000 },         { "ms", "12h", 43200000 },
                { "ms", "7d", 604800000 },      { "ms", "0", 0 },
                { "bytes", "4096", 4096 },      { "bytes", "64KiB", 64 << 10 },
                { "bytes", "10MiB", 10 << 20 }, { "bytes", "2GiB", 2LL << 30 },
        };
        struct options o = { 0 };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                assert_int_equal(options_set(table, rows[i].key, rows[i].text, "test", &o, NULL), 0);
                assert_true((*rows[i].key == 'm' ? o.ms : o.bytes) == rows[i].value);
        }
        options_done(table, &o);
}

static void bad_values_change_nothing(void **state)
{
        static const char *const rows[][2] = {
                { "ms", "5" },
                { "ms", "-3s" },
                { "ms", "1.5s" },
                { "ms", "3 s" },
                { "ms", "" },
                { "ms", "s" },
                { "bytes", "1kb" },
                { "bytes", "-1" },
                { "n", "11" },
                { "n", "5x" },
                { "d", "nan" },
                { "d", "1e999" },
                { "word", "third" },
                { "on", "1" },
                { "list", "a,,b" },
                { "s", "a\tb" },
                { "ms", "99999999999999d" },
                { "list", "a\033,b" },
                { "bytes", "99999999999999999999999999999999999999999999GiB" },
        };
        struct options o = { 0 };

        (void)state;
        assert_int_equal(options_set_defaults(table, &o, NULL), 0);
        o.ms = o.bytes = o.n = 7;
        assert_int_equal(options_set(table, "list", "kept", "test", &o, NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct err e = { 0 };

                assert_int_equal(options_set(table, rows[i][0], rows[i][1], "--test", &o, &e), -EINVAL);
                assert_memory_equal(e.text, "--test: ", 8);
        }
        assert_true(o.ms == 7 && o.bytes == 7 && o.n == 7 && o.d == 0.001 && o.word == 1 && !o.on);
        assert_string_equal(o.s, "");
        assert_int_equal(o.list.n, 1);
        options_done(table, &o);
}

static void setting_again_replaces(void **state)
{
        struct options o = { 0 };

        (void)state;
        assert_int_equal(options_set(table, "s", "one", "test", &o, NULL), 0);
        assert_int_equal(options_set(table, "s", "two", "test", &o, NULL), 0);
        assert_int_equal(options_set(table, "list", "a,b,c", "test", &o, NULL), 0);
        assert_int_equal(options_set(table, "list", "d", "test", &o, NULL), 0);
        assert_string_equal(o.s, "two");
        assert_int_equal(o.list.n, 1);
        assert_string_equal(o.list.items[0], "d");
        assert_int_equal(options_set(table, "list", "", "test", &o, NULL), 0);
        assert_int_equal(o.list.n, 0);
        options_done(table, &o);
        options_done(table, &o); /* harmless twice */
}

static void unknown_keys_are_refused(void **state)
{
        struct options o = { 0 };

        (void)state;
        assert_int_equal(options_set(table, "nope", "1", "test", &o, NULL), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(defaults_come_from_the_table),
                cmocka_unit_test(durations_and_sizes_have_units),
                cmocka_unit_test(bad_values_change_nothing),
                cmocka_unit_test(setting_again_replaces),
                cmocka_unit_test(unknown_keys_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
