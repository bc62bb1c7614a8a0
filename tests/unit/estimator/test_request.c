/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/request.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/buf.h"
#include "common/file.h"

#define REQUEST(metrics, values, features, system)                                                           \
        "{\"metrics\":" metrics ",\"values\":" values                                                        \
        ",\"output_type\":\"AbsPower\",\"source\":\"intel_rapl\","                                           \
        "\"system_features\":" features ",\"system_values\":" system "}"

static void parses_kepler_s_request(void **state)
{
        static const char text[] =
                "{\"metrics\":[\"a\",\"b\"],\"values\":[[1,2.5],[3,0]],\"output_type\":\"AbsPower\","
                "\"source\":\"intel_rapl\",\"system_features\":[\"cpu_architecture\"],"
                "\"system_values\":[\"Zed \\u003c Lake\"],\"trainer_name\":\"SGD\",\"filter\":\"\"}";
        struct request q;
        struct err e = { 0 };

        (void)state;
        if (request_parse(text, strlen(text), &q, &e) < 0)
                fail_msg("%s", e.text);
        assert_null(q.command);
        assert_string_equal(q.output_type, "AbsPower");
        assert_string_equal(q.source, "intel_rapl");
        assert_string_equal(q.trainer_name, "SGD");
        assert_int_equal(q.n_rows, 2);
        assert_int_equal(q.n_columns, 2); /* an architecture is nothing to compute with */
        assert_string_equal(q.columns[1], "b");
        assert_true(q.rows[1] > 2.4 && q.rows[1] < 2.6 && q.rows[2] > 2.9);
        request_done(&q);
}

static void numeric_system_values_are_columns_of_every_row(void **state)
{
        static const char text[] =
                REQUEST("[\"a\"]", "[[1],[2]]", "[\"x\",\"node_info\",\"hz\"]", "[\"1GHz\",\"7\",9.5,0]");
        struct request q;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(request_parse(text, strlen(text), &q, &e), 0);
        assert_int_equal(q.n_columns, 3);
        assert_string_equal(q.columns[1], "node_info");
        assert_string_equal(q.columns[2], "hz");
        for (size_t r = 0; r < 2; r++) {
                assert_true(q.rows[r * 3 + 1] > 6.9 && q.rows[r * 3 + 1] < 7.1);
                assert_true(q.rows[r * 3 + 2] > 9.4 && q.rows[r * 3 + 2] < 9.6);
        }
        request_done(&q);
}

static void null_source_and_empty_rows_are_fine(void **state)
{
        static const char text[] =
                "{\"metrics\":[],\"values\":[],\"output_type\":\"DynPower\",\"source\":null,"
                "\"system_features\":[],\"system_values\":[],\"trainer_name\":null}";
        struct request q;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(request_parse(text, strlen(text), &q, &e), 0);
        assert_null(q.source);
        assert_string_equal(q.trainer_name, "");
        assert_int_equal(q.n_rows, 0);
        request_done(&q);
}

static void commands_are_objects_with_that_key_alone(void **state)
{
        struct request q;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(request_parse("{\"command\":\"status\"}", 20, &q, &e), 0);
        assert_string_equal(q.command, "status");
        request_done(&q);
        assert_int_equal(request_parse("{\"command\":3}", 13, &q, &e), -EBADMSG);
        assert_int_equal(request_parse("{\"command\":\"a\",\"b\":1}", 21, &q, &e), -EBADMSG);
}

static void bad_requests_are_refused_in_words(void **state)
{
        static const struct {
                const char *text, *words;
        } cases[] = {
                { "", "request" },
                { "[]", "not a JSON object" },
                { "{}", "'metrics' is missing" },
                { REQUEST("[\"a\"]", "[[1]]", "[]", "[]") "x", "end of file" },
                { "{\"metrics\":[],\"values\":[],\"output_type\":\"AbsPower\",\"source\":\"\",\"system_"
                  "features\":[],"
                  "\"system_values\":[],\"more\":1}",
                  "unknown key 'more'" },
                { REQUEST("[\"a\"]", "[[1,2]]", "[]", "[]"), "row 0: a row has 2 values" },
                { REQUEST("[\"a\"]", "[[1],[]]", "[]", "[]"), "row 1" },
                { REQUEST("[\"a\"]", "[1]", "[]", "[]"), "not an array" },
                { REQUEST("[\"a\"]", "[[null]]", "[]", "[]"), "not a number" },
                { REQUEST("[\"a\"]", "[[NaN]]", "[]", "[]"), "request:1" },
                { REQUEST("[\"a\"]", "[[1e999]]", "[]", "[]"), "request:1" },
                { REQUEST("[\"a\",\"a\"]", "[[1,1]]", "[]", "[]"), "'a' is there twice" },
                { REQUEST("[1]", "[[1]]", "[]", "[]"), "not a string" },
                { REQUEST("{}", "[[1]]", "[]", "[]"), "'metrics' is not an array" },
                { REQUEST("[\"a\"]", "[[1]]", "[\"x\",\"y\"]", "[\"1\"]"), "2 system_features, but 1" },
                { "{\"metrics\":[],\"values\":[],\"output_type\":1,\"source\":\"\",\"system_features\":[],"
                  "\"system_values\":[]}",
                  "output_type" },
                { "{\"metrics\":[],\"values\":[],\"output_type\":\"AbsPower\",\"source\":\"\",\"system_"
                  "features\":[],"
                  "\"system_values\":[],\"filter\":7}",
                  "filter" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct request q;
                struct err e = { 0 };

                if (request_parse(cases[i].text, strlen(cases[i].text), &q, &e) != -EBADMSG ||
                    !strstr(e.text, cases[i].words))
                        fail_msg("case %zu: '%s'", i, e.text);
        }
}

static void too_many_columns_are_refused(void **state)
{
        CLEANUP(buf_done) struct buf b;
        struct request q;
        struct err e = { 0 };

        (void)state;
        buf_init(&b, 1 << 20);
        (void)buf_puts(&b, "{\"metrics\":[");
        for (int i = 0; i <= REQUEST_COLUMNS_MAX / 2; i++)
                (void)buf_printf(&b, "%s\"m%d\"", i ? "," : "", i);
        assert_int_equal(buf_puts(&b, "],\"values\":[],\"output_type\":\"AbsPower\",\"source\":\"acpi\","
                                      "\"system_features\":[],\"system_values\":[]}"),
                         0);
        assert_int_equal(request_parse(b.data, b.size, &q, &e), -E2BIG);
}

static void upstream_s_own_requests_parse(void **state)
{
        static const char *const names[] = { "SGDRegressorTrainer_acpi_AbsPower_n100",
                                             "XgboostFitTrainer_acpi_AbsPower_n2",
                                             "SGDRegressorTrainer_rapl-sysfs_AbsPower_n1000" };
        static const size_t rows[] = { 100, 2, 1000 };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                CLEANUP(buf_done) struct buf b;
                struct request q;
                struct err e = { 0 };
                char path[256];

                buf_init(&b, 1 << 24);
                (void)snprintf(path, sizeof(path), "../shared/captures/estimator/%s.request.json", names[i]);
                if (file_read(path, &b, &e) < 0)
                        skip();
                if (request_parse(b.data, b.size, &q, &e) < 0)
                        fail_msg("%s: %s", names[i], e.text);
                assert_int_equal(q.n_rows, rows[i]);
                request_done(&q);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(parses_kepler_s_request),
                cmocka_unit_test(numeric_system_values_are_columns_of_every_row),
                cmocka_unit_test(null_source_and_empty_rows_are_fine),
                cmocka_unit_test(commands_are_objects_with_that_key_alone),
                cmocka_unit_test(bad_requests_are_refused_in_words),
                cmocka_unit_test(too_many_columns_are_refused),
                cmocka_unit_test(upstream_s_own_requests_parse),
        };

        return cmocka_run_group_tests_name("estimator/request", tests, NULL, NULL);
}
