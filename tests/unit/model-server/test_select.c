/* SPDX-License-Identifier: Apache-2.0 */
/* Selection over pipelines written into a temporary directory. */
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
#include "model-server/serve/select.h"
#include "model/model.h"

struct fixture {
        char dir[64];
        struct catalog *catalog;
        json_t *body;
};

#define WEIGHT                                                                                               \
        "{\"package\":{\"All_Weights\":{\"Bias_Weight\":1,\"Categorical_Variables\":{},"                     \
        "\"Numerical_Variables\":{\"bpf_cpu_time_ms\":{\"scale\":1,\"weight\":1}}}}}"

static void write_text(const char *dir, const char *name, const char *text)
{
        char path[512];

        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        assert_int_equal(file_mkdirs(dir, 0755, NULL), 0);
        assert_int_equal(file_write_atomic(path, text, strlen(text), 0644, NULL), 0);
}

static void add_model(const struct fixture *f, const char *group_path, const char *name, const char *class,
                      double mae)
{
        const char *group = strrchr(group_path, '/') + 1;
        char dir[512], metadata[1024], zip[160], features_text[512] = "";

        assert_true(snprintf(dir, sizeof(dir), "%s/%s/%s", f->dir, group_path, name) < 256);
        for (int i = 0; i < GROUP_FEATURES_MAX && feature_group_find(group)->features[i]; i++)
                (void)snprintf(features_text + strlen(features_text),
                               sizeof(features_text) - strlen(features_text), "%s\"%s\"", i ? "," : "",
                               feature_group_find(group)->features[i]);
        (void)snprintf(metadata, sizeof(metadata),
                       "{\"model_name\":\"%s\",\"model_class\":\"%s\",\"mae\":%g,\"features\":[%s],\"abs_max_"
                       "corr\":0.9}",
                       name, class, mae, features_text);
        write_text(dir, "metadata.json", metadata);
        write_text(dir, "weight.json", WEIGHT);
        (void)snprintf(zip, sizeof(zip), "%s.zip", name);
        *strrchr(dir, '/') = '\0';
        write_text(dir, zip, "a zip");
}

#define INDEX                                                                                                \
        "{\"0\":{\"attrs\":{\"processor\":\"a\",\"cores\":4.0,\"chips\":1,\"memory\":8,\"frequency\":2000}," \
        "\"members\":[\"m\"]},\"1\":{\"attrs\":{\"processor\":\"b\",\"cores\":64,\"chips\":2,\"memory\":"    \
        "256,"                                                                                               \
        "\"frequency\":3000},\"members\":[\"m\"]},\"10\":{\"attrs\":{\"processor\":\"c\",\"cores\":16,"      \
        "\"chips\":1,\"memory\":32,\"frequency\":3500},\"members\":[\"m\"]}}"

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        char path[128];

        (void)snprintf(f->dir, sizeof(f->dir), "/tmp/wattloop-test-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        (void)snprintf(path, sizeof(path), "%s/own", f->dir);
        write_text(path, "metadata.json", "{\"name\":\"own\"}");
        write_text(path, "node_type_index.json", INDEX);
        add_model(f, "own/rapl-sysfs/AbsPower/BPFOnly", "SGDRegressorTrainer_0", "scikit", 5);
        add_model(f, "own/rapl-sysfs/AbsPower/BPFOnly", "SGDRegressorTrainer_1", "scikit", 7);
        add_model(f, "own/rapl-sysfs/AbsPower/BPFOnly", "SGDRegressorTrainer_10", "scikit", 6);
        add_model(f, "own/rapl-sysfs/AbsPower/BPFOnly", "LogarithmicRegressionTrainer_0", "curvefit", 4);
        add_model(f, "own/rapl-sysfs/AbsPower/BPFOnly", "XgboostFitTrainer_0", "xgboost", 1);
        add_model(f, "own/rapl-sysfs/AbsPower/BPFIRQ", "SGDRegressorTrainer_0", "weight", 3);
        (void)snprintf(path, sizeof(path), "%s/other", f->dir);
        write_text(path, "metadata.json", "{\"name\":\"other\"}");
        add_model(f, "other/rapl-sysfs/AbsPower/BPFOnly", "SGDRegressorTrainer_0", "scikit", 0.5);
        add_model(f, "other/rapl-sysfs/DynPower/BPFOnly", "SGDRegressorTrainer_0", "scikit", 2);
        assert_int_equal(catalog_load(f->dir, "own", &f->catalog, NULL), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        json_decref(f->body);
        catalog_unref(f->catalog);
        assert_int_equal(file_remove_tree(f->dir, NULL), 0);
        free(f);
        return 0;
}

/* "pipeline/group/model" of what answers, with BPFOnly's metrics unless `irq`. */
static const char *answer(struct fixture *f, const char *more, bool irq, bool wattloop)
{
        static char ret[256];
        const struct offer *o;
        struct model_request r;
        char text[1024];

        (void)snprintf(text, sizeof(text),
                       "{\"metrics\":[\"bpf_page_cache_hit\",\"cpu_architecture\",%s"
                       "\"bpf_cpu_time_ms\"]%s}",
                       irq ? "\"bpf_net_rx_irq\",\"bpf_net_tx_irq\",\"bpf_block_irq\"," : "", more);
        json_decref(f->body);
        f->body = NULL;
        assert_int_equal(json_parse(text, strlen(text), "request", &f->body, NULL), 0);
        assert_int_equal(request_from_json(f->body, &r, NULL), 0);
        r.wattloop = wattloop;
        o = select_model(f->catalog, &r);
        if (!o)
                return "none";
        (void)snprintf(ret, sizeof(ret), "%s/%s/%g", feature_groups[o->group].name, o->name, o->mae);
        return ret;
}

#define ABS             ",\"output_type\":\"AbsPower\""
#define WEIGHT_OF(more) ABS ",\"weight\":true" more

static void smallest_error_wins(void **state)
{
        assert_string_equal(answer(*state, ABS, false, false), "BPFOnly/XgboostFitTrainer_0/1");
}

static void weights_come_from_trainers_that_kepler_evaluates(void **state)
{
        assert_string_equal(answer(*state, WEIGHT_OF(""), false, false),
                            "BPFOnly/LogarithmicRegressionTrainer_0/4");
}

static void trainer_is_matched_by_substring(void **state)
{
        assert_string_equal(answer(*state, WEIGHT_OF(",\"trainer_name\":\"SGD\""), false, false),
                            "BPFOnly/SGDRegressorTrainer_0/5");
        assert_string_equal(answer(*state, WEIGHT_OF(",\"trainer_name\":\"Nope\""), false, false), "none");
}

static void better_group_wins_when_its_features_are_there(void **state)
{
        assert_string_equal(answer(*state, WEIGHT_OF(""), true, false), "BPFIRQ/SGDRegressorTrainer_0/3");
}

static void node_type_is_kept_to(void **state)
{
        assert_string_equal(answer(*state, WEIGHT_OF(",\"node_type\":1"), false, false),
                            "BPFOnly/SGDRegressorTrainer_1/7");
        assert_string_equal(answer(*state, WEIGHT_OF(",\"node_type\":10"), false, false),
                            "BPFOnly/SGDRegressorTrainer_10/6");
}

static void unknown_node_type_falls_back_to_the_most_cores(void **state)
{
        assert_string_equal(answer(*state, WEIGHT_OF(",\"node_type\":77"), false, false),
                            "BPFOnly/SGDRegressorTrainer_1/7");
        assert_string_equal(
                answer(*state, WEIGHT_OF(",\"node_type\":77,\"loose_node_type\":false"), false, false),
                "none");
}

static void machine_spec_finds_the_node_type(void **state)
{
        assert_string_equal(answer(*state, WEIGHT_OF(",\"machine_spec\":{\"processor\":\"b\",\"cores\":64}"),
                                   false, false),
                            "BPFOnly/SGDRegressorTrainer_1/7");
        /* With a node type the spec does not count. */
        assert_string_equal(answer(*state,
                                   WEIGHT_OF(",\"node_type\":0,\"trainer_name\":\"SGD\",\"machine_spec\":"
                                             "{\"processor\":\"b\",\"cores\":64}"),
                                   false, false),
                            "BPFOnly/SGDRegressorTrainer_0/5");
}

static void filter_means_what_it_says(void **state)
{
        assert_string_equal(answer(*state, ABS ",\"filter\":\"mae:0.1\"", false, false), "none");
        assert_string_equal(answer(*state, ABS ",\"filter\":\"mae:1;abs_max_corr:0.8\"", false, false),
                            "BPFOnly/XgboostFitTrainer_0/1");
        assert_string_equal(answer(*state, ABS ",\"filter\":\"abs_max_corr:0.95\"", false, false), "none");
        assert_string_equal(answer(*state, ABS ",\"filter\":\"missing:1\"", false, false), "none");
        assert_string_equal(answer(*state, ABS ",\"filter\":\"features:bpf_cpu_time_ms,bpf_page_cache_hit\"",
                                   false, false),
                            "BPFOnly/XgboostFitTrainer_0/1");
        assert_string_equal(answer(*state, ABS ",\"filter\":\"features:bpf_cpu_time_ms\"", false, false),
                            "none");
}

static void wattloop_archives_are_for_those_who_ask_for_them(void **state)
{
        const char *irq = ABS ",\"trainer_name\":\"SGDRegressorTrainer_0\"";

        assert_string_equal(answer(*state, irq, true, false), "BPFOnly/SGDRegressorTrainer_0/5");
        assert_string_equal(answer(*state, irq, true, true), "BPFIRQ/SGDRegressorTrainer_0/3");
}

static void other_pipelines_answer_what_ours_cannot(void **state)
{
        assert_string_equal(answer(*state, ",\"output_type\":\"DynPower\",\"weight\":true", false, false),
                            "BPFOnly/SGDRegressorTrainer_0/2");
}

static void too_few_metrics_find_nothing(void **state)
{
        struct fixture *f = *state;
        struct model_request r;

        f->body = json_pack("{s:[s], s:s}", "metrics", "bpf_cpu_time_ms", "output_type", "AbsPower");
        assert_int_equal(request_from_json(f->body, &r, NULL), 0);
        assert_null(select_model(f->catalog, &r));
}

static void weight_replies_name_the_model_on_request(void **state)
{
        struct fixture *f = *state;
        const struct offer *o =
                pipeline_find(catalog_pipeline(f->catalog, 0), energy_source_find("rapl"), 0,
                              (int)(feature_group_find("BPFOnly") - feature_groups), "SGDRegressorTrainer_0");

        assert_string_equal(
                o->weights.text,
                "{\"package\": {\"All_Weights\": {\"Bias_Weight\": 1, \"Categorical_Variables\": {}, "
                "\"Numerical_Variables\": {\"bpf_cpu_time_ms\": {\"scale\": 1, \"weight\": 1}}}}}");
        /* The index had 4.0 cores; Go decodes integers only. */
        assert_non_null(strstr(o->weights_named.text, "\"machine_spec\": {\"chips\": 1, \"cores\": 4, "));
        assert_non_null(strstr(o->weights_named.text, "\"mae\": 5"));
        assert_non_null(strstr(o->weights_named.text, "\"model_name\": \"SGDRegressorTrainer_0\""));
}

static char *best(struct fixture *f, struct best_query query)
{
        static struct buf out;
        json_t *result = NULL;

        buf_done(&out);
        buf_init(&out, 1 << 20);
        query.source = query.source ? query.source : energy_source_find("rapl");
        query.filter = query.filter ? query.filter : "";
        if (select_best(f->catalog, &query, &result, NULL) < 0)
                return NULL;
        json_write(result, &out);
        json_decref(result);
        return out.data;
}

static void best_models_lists_winners_by_group(void **state)
{
        assert_string_equal(best(*state, (struct best_query){ NULL, -1, -1, -1, NULL }),
                            "{\"AbsPower\": {\"BPFIRQ\": \"SGDRegressorTrainer_0\", \"BPFOnly\": "
                            "\"XgboostFitTrainer_0\"}, "
                            "\"DynPower\": {\"BPFOnly\": \"SGDRegressorTrainer_0\"}}");
        assert_string_equal(best(*state, (struct best_query){ NULL, 0, 3, 1, NULL }),
                            "{\"AbsPower\": {\"BPFOnly\": \"SGDRegressorTrainer_1\"}}");
        assert_string_equal(best(*state, (struct best_query){ NULL, 0, -1, -1, "mae:0.01" }),
                            "{\"AbsPower\": {}}");
        assert_null(best(*state, (struct best_query){ energy_source_find("hmc"), -1, -1, -1, NULL }));
        (void)best(*state, (struct best_query){ NULL, 1, 0, -1, "mae:0" });
}

static void broken_models_are_left_out(void **state)
{
        struct fixture *f = *state;
        char dir[256];

        (void)snprintf(dir, sizeof(dir), "%s/own/rapl-sysfs/AbsPower/BPFOnly/SGDRegressorTrainer_0", f->dir);
        write_text(dir, "metadata.json", "{\"mae\":");
        (void)snprintf(dir, sizeof(dir), "%s/own/rapl-sysfs/AbsPower/BPFOnly/SGDRegressorTrainer_1", f->dir);
        write_text(dir, "weight.json", "[]");
        catalog_unref(f->catalog);
        assert_int_equal(catalog_load(f->dir, "own", &f->catalog, NULL), 0);
        assert_string_equal(answer(f, WEIGHT_OF(",\"trainer_name\":\"SGD\""), false, false),
                            "BPFOnly/SGDRegressorTrainer_10/6");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(smallest_error_wins),
                TEST(weights_come_from_trainers_that_kepler_evaluates),
                TEST(trainer_is_matched_by_substring),
                TEST(better_group_wins_when_its_features_are_there),
                TEST(node_type_is_kept_to),
                TEST(unknown_node_type_falls_back_to_the_most_cores),
                TEST(machine_spec_finds_the_node_type),
                TEST(filter_means_what_it_says),
                TEST(wattloop_archives_are_for_those_who_ask_for_them),
                TEST(other_pipelines_answer_what_ours_cannot),
                TEST(too_few_metrics_find_nothing),
                TEST(weight_replies_name_the_model_on_request),
                TEST(best_models_lists_winners_by_group),
                TEST(broken_models_are_left_out),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
