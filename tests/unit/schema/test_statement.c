/* SPDX-License-Identifier: Apache-2.0 */
#include "schema/statement.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define TEXT                                                                                                 \
        "wattloop:1 version:7 time:1764288000 expires:0 id:" ID " slot:rapl-sysfs/AbsPower/archive "         \
        "model:M_0"

static void what_is_written_is_read(void **state)
{
        struct statement s = { 7, 1764288000, 0, ID, "rapl-sysfs/AbsPower/archive", "M_0", 0, false }, back;
        struct buf text;

        (void)state;
        buf_init(&text, 1024);
        assert_int_equal(statement_write(&s, &text), 0);
        assert_string_equal(text.data, TEXT);
        assert_int_equal(statement_parse(text.data, &back, NULL), 0);
        assert_memory_equal(&back, &s, sizeof(s));
        buf_done(&text);
}

static void a_rollout_is_told_only_while_it_lasts(void **state)
{
        struct statement s = { 7, 1764288000, 0, ID, "rapl-sysfs/AbsPower/archive", "M_0", 90, true }, back;
        struct buf text;

        (void)state;
        buf_init(&text, 1024);
        assert_int_equal(statement_write(&s, &text), 0);
        assert_string_equal(text.data, TEXT " rollout:10 halted:1");
        assert_int_equal(statement_parse(text.data, &back, NULL), 0);
        assert_memory_equal(&back, &s, sizeof(s));
        assert_int_equal(statement_parse(TEXT " rollout:0", &back, NULL), 0);
        assert_int_equal(back.held_back, 100);
        buf_done(&text);
}

static void words_may_be_more_and_in_another_order(void **state)
{
        struct statement s;

        (void)state;
        assert_int_equal(statement_parse("model:M_0 cohort:5%  id:" ID " slot:acpi/AbsPower/weight expires:9 "
                                         "time:8 version:3 wattloop:1 idle:1",
                                         &s, NULL),
                         0);
        assert_int_equal(s.version, 3);
        assert_int_equal(s.expires_s, 9);
        assert_string_equal(s.slot, "acpi/AbsPower/weight");
}

static void bad_statements_are_refused_by_name(void **state)
{
        static const struct {
                const char *from, *to, *words;
                int r;
        } cases[] = {
                { "version:7 ", "", "lacks 'version'", -EBADMSG },
                { "version:7", "version:7 version:8", "more than one 'version'", -EBADMSG },
                { "version:7", "version:-7", "useless 'version'", -EBADMSG },
                { "version:7", "version:99999999999999999999", "useless 'version'", -EBADMSG },
                { "time:1764288000", "time:now", "useless 'time'", -EBADMSG },
                { "id:0", "id:X", "useless 'id'", -EBADMSG },
                { "id:0", "id:00", "useless 'id'", -EBADMSG },
                { "model:M_0", "model:", "useless 'model'", -EBADMSG },
                { "wattloop:1", "wattloop:2", "version 2", -ENOTSUP },
                { "wattloop:1 ", "", "lacks 'wattloop'", -EBADMSG },
                { "model:M_0", "model:M_0 rollout:101", "useless 'rollout'", -EBADMSG },
                { "model:M_0", "model:M_0 rollout:", "useless 'rollout'", -EBADMSG },
                { "model:M_0", "model:M_0 rollout:1 rollout:2", "more than one 'rollout'", -EBADMSG },
                { "model:M_0", "model:M_0 halted:yes", "useless 'halted'", -EBADMSG },
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                const char *at = strstr(TEXT, cases[i].from);
                struct statement s;
                struct buf text;
                struct err e;

                assert_non_null(at);
                buf_init(&text, 1024);
                (void)buf_append(&text, TEXT, (size_t)(at - TEXT));
                (void)buf_puts(&text, cases[i].to);
                (void)buf_puts(&text, at + strlen(cases[i].from));
                assert_int_equal(statement_parse(text.data, &s, &e), cases[i].r);
                assert_non_null(strstr(e.text, cases[i].words));
                buf_done(&text);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_written_is_read),
                cmocka_unit_test(a_rollout_is_told_only_while_it_lasts),
                cmocka_unit_test(words_may_be_more_and_in_another_order),
                cmocka_unit_test(bad_statements_are_refused_by_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
