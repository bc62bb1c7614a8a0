/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/file.h"
#include "common/json.h"
#include "model-server/serve/request.h"

static json_t *parse(const char *text)
{
        json_t *value = NULL;

        assert_int_equal(json_parse(text, strlen(text), "request", &value, NULL), 0);
        return value;
}

static int read_request(const char *text, struct model_request *ret)
{
        json_t *body = parse(text); /* the request borrows from it; the test ends before it matters */
        struct err e;
        int r = request_from_json(body, ret, &e);

        json_decref(body);
        return r;
}

#define MIN "\"metrics\":[\"bpf_cpu_time_ms\"],\"output_type\":\"AbsPower\""

static void defaults_are_keplers(void **state)
{
        struct model_request r;

        (void)state;
        assert_int_equal(read_request("{" MIN "}", &r), 0);
        assert_string_equal(r.source->name, "rapl-sysfs");
        assert_int_equal(r.node_type, -1);
        assert_false(r.weight);
        assert_true(r.loose_node_type);
        assert_int_equal(r.filters_n, 0);
        assert_false(spec_usable(&r.spec));
}

static void node_type_is_read_in_all_its_forms(void **state)
{
        static const struct {
                const char *text;
                int type;
        } good[] = { { "null", -1 }, { "\"\"", -1 }, { "0", 0 }, { "\"7\"", 7 }, { "3.0", 3 }, { "-1", -1 } };
        struct model_request r;
        char text[256];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                (void)snprintf(text, sizeof(text), "{" MIN ",\"node_type\":%s}", good[i].text);
                assert_int_equal(read_request(text, &r), 0);
                assert_int_equal(r.node_type, good[i].type);
        }
}

static void requests_of_go_clients_are_read(void **state)
{
        struct model_request r;

        (void)state;
        assert_int_equal(
                read_request("{" MIN ",\"source\":\"intel_rapl\",\"node_type\":0,\"weight\":true,"
                             "\"trainer_name\":\"SGDRegressorTrainer\",\"filter\":\"\",\"machine_spec\":"
                             "{\"vendor\":\"acme\",\"processor\":\"acme_z1\",\"cores\":8,\"chips\":1,"
                             "\"memory\":31,\"frequency\":3100,\"threads_per_core\":2}}",
                             &r),
                0);
        assert_string_equal(r.source->name, "rapl-sysfs");
        assert_true(r.weight);
        assert_int_equal(r.node_type, 0);
        assert_true(r.spec.number[SPEC_FREQUENCY] == 3100);
}

static void bad_requests_are_refused_with_words(void **state)
{
        static const char *const bad[] = {
                "[]",
                "{}",
                "{" MIN ",\"surprise\":1}",
                "{\"metrics\":7,\"output_type\":\"AbsPower\"}",
                "{\"metrics\":[7],\"output_type\":\"AbsPower\"}",
                "{\"metrics\":[],\"output_type\":\"NoPower\"}",
                "{\"metrics\":[]}",
                "{" MIN ",\"source\":\"hamster\"}",
                "{" MIN ",\"source\":[]}",
                "{" MIN ",\"node_type\":\"abc\"}",
                "{" MIN ",\"node_type\":-2}",
                "{" MIN ",\"node_type\":99999999999}",
                "{" MIN ",\"trainer_name\":null}",
                "{" MIN ",\"filter\":null}",
                "{" MIN ",\"filter\":\"mae:low\"}",
                "{" MIN ",\"machine_spec\":[]}",
                "{" MIN ",\"machine_spec\":{\"cores\":\"many\"}}",
        };
        struct model_request r;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (read_request(bad[i], &r) != -EBADMSG)
                        fail_msg("taken: %s", bad[i]);
}

static void filter_items_need_just_one_colon(void **state)
{
        struct model_request r;

        (void)state;
        assert_int_equal(request_parse_filter("mae:5;nonsense;a:b:c;features:x,y;", &r, NULL), 0);
        assert_int_equal(r.filters_n, 2);
        assert_true(r.filters[0].threshold == 5);
        assert_string_equal(r.filters[1].value, "x,y");
}

static void repr_is_pythons(void **state)
{
        static const struct {
                const char *json, *repr;
        } cases[] = {
                { "{\"metrics\": [], \"output_type\": \"AbsPower\", \"weight\": true}",
                  "{'metrics': [], 'output_type': 'AbsPower', 'weight': True}" },
                { "[null, false, 1, 2.5, 3.0, \"it's\", \"say \\\"it's\\\"\", \"a\\\\b\\n\"]",
                  "[None, False, 1, 2.5, 3.0, \"it's\", 'say \"it\\'s\"', 'a\\\\b\\n']" },
        };
        struct buf out;

        (void)state;
        buf_init(&out, 1 << 20);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                json_t *value = parse(cases[i].json);

                buf_clear(&out);
                request_write_repr(value, &out);
                assert_string_equal(out.data, cases[i].repr);
                json_decref(value);
        }
        buf_done(&out);
}

static void long_requests_are_quoted_in_part(void **state)
{
        json_t *list = json_array();
        struct buf out;

        (void)state;
        for (int i = 0; i < 1000; i++)
                json_array_append_new(list, json_string("0123456789"));
        buf_init(&out, 1 << 20);
        request_write_repr(list, &out);
        assert_true(out.size <= REQUEST_REPR_MAX + 3);
        assert_string_equal(out.data + out.size - 3, "...");
        buf_done(&out);
        json_decref(list);
}

/* What upstream's server said to requests it had no model for: the words quote the request. */
static void captured_answers_quote_requests_alike(void **state)
{
        static const char dir[] = "../shared/captures/model-server/";
        DIR *d = opendir(dir);
        struct dirent *entry;
        int seen = 0;

        (void)state;
        if (!d)
                skip();
        while ((entry = readdir(d))) {
                char path[512], *body;
                struct buf request, answer, words;
                size_t n = strlen(entry->d_name);

                if (n < 9 || strcmp(entry->d_name + n - 9, ".body.txt") != 0)
                        continue;
                buf_init(&request, 1 << 20);
                buf_init(&answer, 1 << 20);
                buf_init(&words, 1 << 20);
                (void)snprintf(path, sizeof(path), "%s%s", dir, entry->d_name);
                assert_int_equal(file_read(path, &answer, NULL), 0);
                (void)snprintf(path, sizeof(path), "%s%.*s.request.http", dir, (int)(n - 9), entry->d_name);
                if (file_read(path, &request, NULL) == 0 && (body = strstr(request.data, "\r\n\r\n{")) &&
                    strncmp(answer.data, "cannot find model for", 21) == 0) {
                        json_t *value = parse(body + 4);

                        buf_puts(&words, "cannot find model for ");
                        request_write_repr(value, &words);
                        buf_puts(&words, " at the moment");
                        assert_string_equal(words.data, answer.data);
                        json_decref(value);
                        seen++;
                }
                buf_done(&request);
                buf_done(&answer);
                buf_done(&words);
        }
        closedir(d);
        assert_true(seen > 5);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(defaults_are_keplers),
                cmocka_unit_test(node_type_is_read_in_all_its_forms),
                cmocka_unit_test(requests_of_go_clients_are_read),
                cmocka_unit_test(bad_requests_are_refused_with_words),
                cmocka_unit_test(filter_items_need_just_one_colon),
                cmocka_unit_test(repr_is_pythons),
                cmocka_unit_test(long_requests_are_quoted_in_part),
                cmocka_unit_test(captured_answers_quote_requests_alike),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
