/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include "updater/notify.h"

#define ID    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OTHER "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define MODEL(source, form, id)                                                                              \
        "{\"energy_source\": \"" source "\", \"output_type\": \"AbsPower\", \"form\": \"" form               \
        "\", \"id\": \"" id "\"}"

static void a_status_is_judged(void **state)
{
        static const struct {
                const char *status;
                enum notify_state want;
        } rows[] = {
                { "{}", NOTIFY_OTHER },
                { "{\"models\": 7, \"refused\": {}}", NOTIFY_OTHER },
                { "{\"models\": [" MODEL("acpi", "archive", ID) "]}", NOTIFY_SERVED },
                { "{\"models\": [" MODEL("acpi", "archive", OTHER) ", " MODEL("acpi", "archive", ID) "]}",
                  NOTIFY_SERVED },
                { "{\"models\": [" MODEL("acpi", "weight", ID) "]}", NOTIFY_OTHER },
                { "{\"models\": [" MODEL("rapl-sysfs", "archive", ID) "]}", NOTIFY_OTHER },
                { "{\"models\": [" MODEL("acpi", "archive",
                                         OTHER) "], \"refused\": "
                                                "[{\"path\": \"/m/acpi/AbsPower/archive/" ID
                                                "\", \"error\": \"words\"}]}",
                  NOTIFY_REFUSED },
                { "{\"refused\": [{\"path\": \"/m/acpi/AbsPower/archive/" OTHER "\", \"error\": \"words\"}]}",
                  NOTIFY_OTHER },
                { "{\"refused\": [{\"path\": \"/m/acpi/AbsPower/weight/" ID "\", \"error\": \"words\"}]}",
                  NOTIFY_OTHER },
        };
        struct slot slot;

        (void)state;
        assert_int_equal(slot_parse("acpi/AbsPower/archive", &slot, NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                CLEANUP(json_decrefp) json_t *status = json_loads(rows[i].status, 0, NULL);
                struct err words = { "" };

                assert_non_null(status);
                assert_int_equal(notify_judge(status, &slot, ID, &words), rows[i].want);
                assert_int_equal(strstr(words.text, "words") != NULL, rows[i].want == NOTIFY_REFUSED);
        }
}

static void no_estimator_is_told_apart_from_a_broken_one(void **state)
{
        struct err e = { "" };
        json_t *answer;

        (void)state;
        assert_int_equal(notify_command("/nonexistent/estimator.sock", "status", 100, &answer, &e),
                         -ENOTCONN);
        assert_non_null(strstr(e.text, "/nonexistent/estimator.sock"));
}

static void an_overlong_socket_path_is_an_error(void **state)
{
        struct err e = { "" };
        char path[300];
        json_t *answer;

        (void)state;
        memset(path, 'x', sizeof(path));
        path[sizeof(path) - 1] = '\0';
        assert_int_equal(notify_command(path, "status", 100, &answer, &e), -ENAMETOOLONG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_status_is_judged),
                cmocka_unit_test(no_estimator_is_told_apart_from_a_broken_one),
                cmocka_unit_test(an_overlong_socket_path_is_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
