/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/answer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/file.h"
#include "common/json.h"

#define COMPONENT(name, bias, weight)                                                                        \
        "\"" name "\": {\"All_Weights\": {\"Bias_Weight\": " bias                                            \
        ", \"Categorical_Variables\": {}, \"Numerical_Variables\": {\"bpf_cpu_time_ms\": {\"scale\": 1000, " \
        "\"weight\": " weight "}, \"bpf_page_cache_hit\": {\"scale\": 1, \"weight\": 0}}}}"
#define WEIGHTS(extra)                                                                                       \
        "{\"model_name\": \"SGDRegressorTrainer_3\", \"machine_spec\": {\"cores\": 8}, \"mae\": 2.5, " extra \
                COMPONENT("dram", "1.00006", "0") ", " COMPONENT("package", "10", "30") ", " COMPONENT(      \
                        "core", "0", "0") ", " COMPONENT("uncore", "-3", "3") "}"
#define REQUEST(type, source, values, trainer)                                                               \
        "{\"metrics\":[\"bpf_page_cache_hit\",\"extra\",\"bpf_cpu_time_ms\"],\"values\":" values             \
        ",\"output_type\":\"" type "\",\"source\":" source ",\"system_features\":[\"cpu_architecture\"],"    \
        "\"system_values\":[\"x\"],\"trainer_name\":\"" trainer "\",\"filter\":\"\"}"

struct fixture {
        char dir[64];
        struct models *models;
        struct answerer a;
        struct buf out;
};

static struct models *load(const char *dir, const char *weights)
{
        struct models *models;
        struct err e = { 0 };
        char path[128];

        (void)snprintf(path, sizeof(path), "%s/SGDRegressorTrainer_3.json", dir);
        assert_int_equal(file_write_atomic(path, weights, strlen(weights), 0644, NULL), 0);
        if (models_load_one(path, &models, &e) < 0)
                fail_msg("%s", e.text);
        return models;
}

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        (void)snprintf(f->dir, sizeof(f->dir), "/tmp/wattloop-test-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        f->models = load(f->dir, WEIGHTS(""));
        f->a = (struct answerer){ .models = f->models, .cpus = 2, .precision = REPLY_SHORT };
        buf_init(&f->out, REPLY_MAX);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        models_free(f->models);
        buf_done(&f->out);
        assert_int_equal(file_remove_tree(f->dir, NULL), 0);
        free(f);
        return 0;
}

static const char *ask(struct fixture *f, const char *text, enum answer_kind kind)
{
        buf_clear(&f->out);
        assert_int_equal(answer_request(&f->a, text, strlen(text), &f->out), kind);
        return f->out.data;
}

static void a_reply_has_kepler_s_shape_then_the_pedigree(void **state)
{
        struct fixture *f = *state;
        const char *reply =
                ask(f, REQUEST("AbsPower", "\"intel_rapl\"", "[[-2,9,0],[2,9,500.0011]]", ""), ANSWER_WATTS);
        static const char head[] = "{\"powers\": {\"package\": [10.0, 25.0], \"core\": [0.0, 0.0], "
                                   "\"uncore\": [0.0, 0.0], \"dram\": [1.0001, 1.0001]}, \"msg\": \"\", "
                                   "\"core_ratio\": 0.25, \"model\": \"SGDRegressorTrainer_3\", \"id\": \"";

        assert_memory_equal(reply, head, strlen(head));
        assert_null(strstr(reply, "provenance"));
        assert_string_equal(reply + strlen(head) + 64, "\", \"mae\": 2.5, \"in_domain\": [false, false]}");
        reply = ask(f, REQUEST("AbsPower", "\"rapl\"", "[[1,9,1000],[0,9,1000.5],[0.5,9,0]]", ""),
                    ANSWER_WATTS);
        assert_non_null(strstr(reply, ", \"in_domain\": [true, false, true]}"));
        f->a.no_pedigree = true;
        reply = ask(f, REQUEST("AbsPower", "\"rapl\"", "[[0,9,0]]", ""), ANSWER_WATTS);
        assert_non_null(strstr(reply, "\"core_ratio\": 0.25}"));
}

static void an_error_that_nobody_measured_is_null(void **state)
{
        struct fixture *f = *state;

        models_free(f->models);
        f->a.models = f->models = load(f->dir, "{" COMPONENT("package", "10", "30") "}");
        assert_non_null(strstr(ask(f, REQUEST("AbsPower", "\"rapl\"", "[[0,9,0]]", ""), ANSWER_WATTS),
                               "\"mae\": null, \"in_domain\": [true]}"));
}

static void every_reply_has_the_same_core_ratio(void **state)
{
        struct fixture *f = *state;

        for (int i = 0; i < 3; i++)
                assert_non_null(strstr(ask(f, REQUEST("AbsPower", "null", "[[0,9,0]]", ""), ANSWER_WATTS),
                                       "\"core_ratio\": 0.25,"));
        f->a.cpus = -1;
        assert_non_null(strstr(ask(f, REQUEST("AbsPower", "null", "[[0,9,0]]", ""), ANSWER_WATTS),
                               "\"core_ratio\": 1,"));
}

static void exact_watts_read_back_to_the_same_double(void **state)
{
        struct fixture *f = *state;

        f->a.precision = REPLY_EXACT;
        assert_non_null(
                strstr(ask(f, REQUEST("AbsPower", "\"rapl-sysfs\"", "[[0,9,0.1]]", ""), ANSWER_WATTS),
                       "{\"package\": [10.003], \"core\": [0.0], \"uncore\": [0.0], \"dram\": [1.00006]}"));
}

static void provenance_is_told_unless_measured(void **state)
{
        struct fixture *f = *state;

        models_free(f->models);
        f->a.models = f->models = load(f->dir, WEIGHTS("\"provenance\": \"simulated\", "));
        assert_non_null(strstr(ask(f, REQUEST("AbsPower", "\"rapl\"", "[[0,9,0]]", ""), ANSWER_WATTS),
                               ", \"provenance\": \"simulated\"}"));
}

/* The Go client reads 4,096 bytes once: the pedigree goes before the watts do. */
static void the_pedigree_never_pushes_a_reply_over_the_limit(void **state)
{
        struct fixture *f = *state;
        bool with = false, without = false;

        for (int rows = 1; rows < 300; rows++) {
                CLEANUP(buf_done) struct buf values;
                CLEANUP(json_decrefp) json_t *reply = NULL;
                bool told, domain;

                buf_init(&values, 1 << 20);
                (void)buf_puts(&values,
                               "{\"metrics\":[\"bpf_page_cache_hit\",\"bpf_cpu_time_ms\"],\"values\":[");
                for (int i = 0; i < rows; i++)
                        (void)buf_printf(&values, "%s[0,%d]", i ? "," : "", i);
                assert_int_equal(
                        buf_puts(&values,
                                 "],\"output_type\":\"AbsPower\",\"source\":\"rapl\",\"system_features\":"
                                 "[],\"system_values\":[]}"),
                        0);
                (void)ask(f, values.data, ANSWER_WATTS);
                assert_int_equal(json_parse(f->out.data, f->out.size, "reply", &reply, NULL), 0);
                told = json_object_get(reply, "id");
                domain = json_object_get(reply, "in_domain");
                assert_true(!told || f->out.size <= REPLY_GO_MAX);
                assert_true(told || f->out.size + 134 > REPLY_GO_MAX);
                assert_true(told || !domain);
                assert_true(!domain || json_array_size(json_object_get(reply, "in_domain")) == (size_t)rows);
                with |= told;
                without |= !told;
        }
        assert_true(with && without);
}

static void errors_have_kepler_s_shapes(void **state)
{
        struct fixture *f = *state;
        static const struct {
                const char *request, *reply;
        } cases[] = {
                { "{\"metrics\": 1}",
                  "{\"powers\": {}, \"msg\": \"failed to handle request: 'values' is missing\"}" },
                { REQUEST("Power", "\"acpi\"", "[[0,9,0]]", ""),
                  "{\"powers\": {}, \"msg\": \"output type Power is not supported\"}" },
                { REQUEST("AbsPower", "\"coal\"", "[[0,9,0]]", ""),
                  "{\"powers\": {}, \"msg\": \"failed to get model from request: no AbsPower model for "
                  "coal\"}" },
                { REQUEST("AbsPower", "\"rapl\"", "[[0,9,0]]", "XgboostFitTrainer"),
                  "{\"powers\": {}, \"msg\": \"failed to get model from request: model "
                  "'SGDRegressorTrainer_3' is not "
                  "of trainer 'XgboostFitTrainer'\"}" },
                { REQUEST("AbsPower", "\"rapl\"", "[]", ""),
                  "{\"powers\": [], \"msg\": \"no rows to predict\\n\", \"core_ratio\": 0.25}" },
                { "{\"metrics\":[\"bpf_cpu_time_ms\"],\"values\":[[1]],\"output_type\":\"AbsPower\","
                  "\"source\":\"rapl\","
                  "\"system_features\":[],\"system_values\":[]}",
                  "{\"powers\": [], \"msg\": \"feature 'bpf_page_cache_hit' of model 'SGDRegressorTrainer_3' "
                  "is "
                  "missing\\n\", \"core_ratio\": 0.25}" },
                { "{\"command\": \"status\"}",
                  "{\"powers\": {}, \"msg\": \"failed to handle request: command 'status' is unknown\"}" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_string_equal(ask(f, cases[i].request, ANSWER_REFUSED), cases[i].reply);
}

static void a_matching_trainer_is_served(void **state)
{
        struct fixture *f = *state;

        (void)ask(f, REQUEST("AbsPower", "\"rapl\"", "[[0,9,0]]", "SGDRegressorTrainer"), ANSWER_WATTS);
}

static void hostile_text_makes_a_short_valid_reply(void **state)
{
        struct fixture *f = *state;
        CLEANUP(buf_done) struct buf long_text;

        buf_init(&long_text, 1 << 20);
        (void)buf_puts(&long_text, "{\"metrics\":[],\"values\":[],\"output_type\":\"");
        for (int i = 0; i < 10000; i++)
                (void)buf_puts(&long_text, "\\u20ac\\n");
        assert_int_equal(
                buf_puts(&long_text, "\",\"source\":\"x\",\"system_features\":[],\"system_values\":[]}"), 0);
        (void)ask(f, long_text.data, ANSWER_REFUSED);
        assert_true(f->out.size < 1024);
        for (size_t i = 0; i < f->out.size; i++)
                assert_true(f->out.data[i] >= ' ' && f->out.data[i] <= '~');
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_reply_has_kepler_s_shape_then_the_pedigree, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(an_error_that_nobody_measured_is_null, set_up, tear_down),
                cmocka_unit_test_setup_teardown(every_reply_has_the_same_core_ratio, set_up, tear_down),
                cmocka_unit_test_setup_teardown(exact_watts_read_back_to_the_same_double, set_up, tear_down),
                cmocka_unit_test_setup_teardown(provenance_is_told_unless_measured, set_up, tear_down),
                cmocka_unit_test_setup_teardown(the_pedigree_never_pushes_a_reply_over_the_limit, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(errors_have_kepler_s_shapes, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_matching_trainer_is_served, set_up, tear_down),
                cmocka_unit_test_setup_teardown(hostile_text_makes_a_short_valid_reply, set_up, tear_down),
        };

        return cmocka_run_group_tests_name("estimator/answer", tests, NULL, NULL);
}
