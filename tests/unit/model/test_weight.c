/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/file.h"

/* Weights of one component; the macros spell the documents that the tests need. */
#define BPF_VARIABLES "{\"bpf_cpu_time_ms\": {\"scale\": 8000.0}, \"bpf_page_cache_hit\": {\"scale\": 0.6}}"
#define CURVE(component, weights, variables)                                                                 \
        "\"" component                                                                                       \
        "\": {\"All_Weights\": {\"Categorical_Variables\": {}, \"CurveFit_Weights\": " weights               \
        ", \"Numerical_Variables\": " variables "}}"
#define LINEAR(component, bias, variables)                                                                   \
        "\"" component "\": {\"All_Weights\": {\"Bias_Weight\": " bias                                       \
        ", \"Categorical_Variables\": {}, \"Numerical_Variables\": " variables "}}"
#define NAMED(name) "\"model_name\": \"" name "\", "
#define LINEAR_VARIABLES                                                                                     \
        "{\"bpf_cpu_time_ms\": {\"scale\": 7900.0, \"weight\": 44.0}, "                                      \
        "\"bpf_page_cache_hit\": {\"scale\": 0.5, \"weight\": 3.0}}"

static int load(const char *json, const char *hint, struct model **ret, struct err *e)
{
        return model_load_weight(json, strlen(json), hint, ret, e);
}

static size_t component_index(const struct model *m, const char *name)
{
        for (size_t i = 0; i < model_components(m); i++)
                if (!strcmp(model_component(m, i), name))
                        return i;
        fail_msg("model has no component %s", name);
        return 0;
}

/* Watts of one component for a row of named columns. */
static double watts(const struct model *m, const char *component, const char *const *columns,
                    const double *row, size_t n)
{
        size_t index[MODEL_FEATURES_MAX];
        double out[MODEL_COMPONENTS_MAX];
        struct err e = { 0 };

        if (model_bind(m, columns, n, index, &e) < 0)
                fail_msg("%s", e.text);
        model_predict(m, index, row, n, 1, out);
        return out[component_index(m, component)];
}

static const char *const bpf[] = { "bpf_page_cache_hit", "cpu_architecture", "bpf_cpu_time_ms" };

static double watts_bpf(const struct model *m, const char *component, double cpu_ms, double page_cache)
{
        const double row[] = { page_cache, NAN, cpu_ms };

        return watts(m, component, bpf, row, 3);
}

/* Expected values were computed with Python from the formulas of the weight JSON's specification. */
static void each_form_computes_its_formula(void **state)
{
        static const struct {
                const char *json, *component;
                double cpu_ms, page_cache, watts;
        } vectors[] = {
                { "{" NAMED("SGDRegressorTrainer_0") LINEAR("platform", "21.5", LINEAR_VARIABLES) "}",
                  "platform", 3950, 0.25, 45.0 },
                { "{" NAMED("LogarithmicRegressionTrainer_0")
                          CURVE("package", "[31.0, 12.5, 9.0]", BPF_VARIABLES) "}",
                  "package", 2000, 0.3, 52.92904661338597 },
                { "{" NAMED("LogarithmicRegressionTrainer_0")
                          CURVE("package", "[31.0, 12.5, 9.0]", BPF_VARIABLES) "}",
                  "package", 0, 0, 9.0 },
                { "{" NAMED("LogarithmicRegressionTrainer_0")
                          CURVE("dram", "[4.0, 2.0, 11.0]", BPF_VARIABLES) "}",
                  "dram", 2000, 0.3, 13.772588722239782 },
                { "{" NAMED("LogisticRegressionTrainer_0")
                          CURVE("platform", "[80.0, 0.5, 6.25, 40.0]",
                                "{\"bpf_cpu_time_ms\": {\"scale\": 10000}, \"bpf_page_cache_hit\": "
                                "{\"scale\": 1}}") "}",
                  "platform", 2500, 7, 53.86305647434612 },
                { "{" NAMED("ExponentialRegressionTrainer_0")
                          CURVE("package", "[15.0, 1.5, 35.0]", BPF_VARIABLES) "}",
                  "package", 1000, 0, 53.09345374131471 },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
                CLEANUP(model_freep) struct model *m = NULL;
                struct err e = { 0 };

                if (load(vectors[i].json, NULL, &m, &e) < 0)
                        fail_msg("%s", e.text);
                assert_true(
                        fabs(watts_bpf(m, vectors[i].component, vectors[i].cpu_ms, vectors[i].page_cache) -
                             vectors[i].watts) < 1e-9);
                assert_int_equal(model_check(m, &e), 0);
        }
}

/* Upstream published these numbers for its own files. */
static void published_weights_give_published_watts(void **state)
{
        static const struct {
                const char *trainer, *component;
                double cpu_ms, watts;
        } vectors[] = {
                { "SGDRegressorTrainer", "package", 30000, 149.0845161605461 },
                { "SGDRegressorTrainer", "dram", 30000, 24.53582761254645 },
                { "LogarithmicRegressionTrainer", "package", 30000, 180.53564298266687 },
                { "LogarithmicRegressionTrainer", "package", 0, 22.07181593220226 },
                { "LogarithmicRegressionTrainer", "dram", 30000, 23.73917774828313 }, /* of page cache 0 */
                { "ExponentialRegressionTrainer", "package", 30000, 241.41175482608378 },
                { "ExponentialRegressionTrainer", "package", 0, 143.6090370977763 },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
                CLEANUP(model_freep) struct model *m = NULL;
                CLEANUP(buf_done) struct buf b;
                struct err e = { 0 };
                char path[256];

                buf_init(&b, MODEL_WEIGHT_MAX);
                (void)snprintf(path, sizeof(path),
                               "../shared/captures/model-server/weight_rapl-sysfs_AbsPower_%s.body.json",
                               vectors[i].trainer);
                if (access(path, R_OK) < 0)
                        skip();
                assert_int_equal(file_read(path, &b, &e), 0);
                assert_int_equal(model_load_weight(b.data, b.size, NULL, &m, &e), 0);
                assert_true(fabs(watts_bpf(m, vectors[i].component, vectors[i].cpu_ms, 0) -
                                 vectors[i].watts) < 1e-9);
                assert_int_equal(model_components(m), 4);
                assert_string_equal(model_component(m, 0), "package");
                assert_string_equal(model_component(m, 3), "dram");
                assert_true(model_cores(m) == 72 || model_cores(m) == 96);
                assert_true(model_mae(m) > 0);
                assert_int_equal(model_check(m, &e), 0);
        }
}

static void a_curve_uses_the_main_feature_of_its_group(void **state)
{
        static const struct {
                const char *variables; /* in an order that does not help */
                const char *main_feature, *dram_feature;
        } groups[] = {
                { "{\"bpf_block_irq\": {\"scale\": 1}, \"bpf_cpu_time_ms\": {\"scale\": 1}, "
                  "\"bpf_net_rx_irq\": "
                  "{\"scale\": 1}, \"bpf_net_tx_irq\": {\"scale\": 1}, \"bpf_page_cache_hit\": {\"scale\": "
                  "1}}",
                  "bpf_cpu_time_ms", "bpf_page_cache_hit" },
                { "{\"cpu_cycles\": {\"scale\": 1}, \"cache_miss\": {\"scale\": 1}, \"cpu_instructions\": "
                  "{\"scale\": 1}}",
                  "cpu_instructions", "cache_miss" },
                { "{\"bpf_cpu_time_ms\": {\"scale\": 1}, \"bpf_page_cache_hit\": {\"scale\": 1}, "
                  "\"cache_miss\": "
                  "{\"scale\": 1}, \"cpu_cycles\": {\"scale\": 1}, \"cpu_instructions\": {\"scale\": 1}}",
                  "cpu_instructions", "cache_miss" },
                /* no group: */
                { "{\"x\": {\"scale\": 1}, \"bpf_cpu_time_ms\": {\"scale\": 1}, \"bpf_page_cache_hit\": "
                  "{\"scale\": 1}}",
                  "bpf_cpu_time_ms", "bpf_page_cache_hit" },
                { "{\"x\": {\"scale\": 1}, \"bpf_cpu_time_ms\": {\"scale\": 1}, \"cpu_instructions\": "
                  "{\"scale\": 1}}",
                  "cpu_instructions", "cpu_instructions" },
                { "{\"bpf_cpu_time_us\": {\"scale\": 1, \"mean\": 0, \"variance\": 0, \"weight\": 0}}",
                  "bpf_cpu_time_us", "bpf_cpu_time_us" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
                CLEANUP(model_freep) struct model *m = NULL;
                const char *columns[MODEL_FEATURES_MAX];
                double row[MODEL_FEATURES_MAX];
                struct err e = { 0 };
                char json[2048];
                size_t n;

                (void)snprintf(
                        json, sizeof(json),
                        "{\"model_name\": \"ExponentialRegressionTrainer_0\", "
                        "\"package\": {\"All_Weights\": {\"CurveFit_Weights\": [1, 1, 0], "
                        "\"Numerical_Variables\": %s}}, \"dram\": {\"All_Weights\": {\"CurveFit_Weights\": "
                        "[1, 1, 0], \"Numerical_Variables\": %s}}}",
                        groups[i].variables, groups[i].variables);
                assert_int_equal(load(json, NULL, &m, &e), 0);
                n = model_features(m);
                for (size_t f = 0; f < n; f++)
                        columns[f] = model_feature(m, f);
                for (size_t f = 0; f < n; f++) { /* 1 in one feature: e where it is the one, 1 elsewhere */
                        memset(row, 0, sizeof(row));
                        row[f] = 1;
                        assert_true(fabs(watts(m, "package", columns, row, n) -
                                         (strcmp(columns[f], groups[i].main_feature) ? 1 : M_E)) < 1e-12);
                        assert_true(fabs(watts(m, "dram", columns, row, n) -
                                         (strcmp(columns[f], groups[i].dram_feature) ? 1 : M_E)) < 1e-12);
                }
        }
}

static void the_trainer_decides_and_the_hint_helps(void **state)
{
        static const struct {
                const char *json, *hint;
                int r; /* 0, or the error */
        } cases[] = {
                { "{" LINEAR("platform", "1", LINEAR_VARIABLES) "}", NULL, 0 },
                { "{" LINEAR("platform", "1", LINEAR_VARIABLES) "}", "LinearRegressionTrainer_7", 0 },
                { "{" LINEAR("platform", "1", LINEAR_VARIABLES) "}", "weight", 0 },
                { "{" LINEAR("platform", "1", LINEAR_VARIABLES) "}", "LogisticRegressionTrainer_7",
                  -EBADMSG },
                { "{" CURVE("platform", "[1, 2, 3, 4]", BPF_VARIABLES) "}", NULL, 0 },
                { "{" CURVE("platform", "[1, 2, 3, 4]", BPF_VARIABLES) "}", "LogisticRegressionTrainer", 0 },
                { "{" CURVE("platform", "[1, 2, 3, 4]", BPF_VARIABLES) "}", "LogarithmicRegressionTrainer_0",
                  -EBADMSG },
                { "{" CURVE("platform", "[1, 2, 3]", BPF_VARIABLES) "}", NULL, -EBADMSG },
                { "{" CURVE("platform", "[1, 2, 3]", BPF_VARIABLES) "}", "mystery_0", -EBADMSG },
                { "{" CURVE("platform", "[1, 2, 3]", BPF_VARIABLES) "}", "ExponentialRegressionTrainer_0",
                  0 },
                { "{" CURVE("platform", "[1, 2, 3]", BPF_VARIABLES) "}", "SGDRegressorTrainer_0", -EBADMSG },
                { "{" CURVE("platform", "[1, 2]", BPF_VARIABLES) "}", "ExponentialRegressionTrainer_0",
                  -EBADMSG },
                { "{" CURVE("platform", "[]", BPF_VARIABLES) "}", "ExponentialRegressionTrainer_0",
                  -EBADMSG },
                { "{" CURVE("platform", "[1, 2, \"3\"]", BPF_VARIABLES) "}", "ExponentialRegressionTrainer_0",
                  -EBADMSG },
                /* the document's own name wins over the hint */
                { "{" NAMED("ExponentialRegressionTrainer_0")
                          CURVE("platform", "[1, 2, 3]", BPF_VARIABLES) "}",
                  "SGDRegressorTrainer", 0 },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(model_freep) struct model *m = NULL;
                struct err e = { 0 };

                if (load(cases[i].json, cases[i].hint, &m, &e) != cases[i].r)
                        fail_msg("case %zu: '%s'", i, e.text);
        }
}

static void bad_weights_are_refused_in_words(void **state)
{
        static const struct {
                const char *json;
                int r;
                const char *words;
        } cases[] = {
                { "", -EBADMSG, "weights:" },
                { "{", -EBADMSG, "weights:" },
                { "[]", -EBADMSG, "not a JSON object" },
                { "{}", -EBADMSG, "no component" },
                { "{\"platform\": {}}", -EBADMSG, "All_Weights" },
                { "{\"platform\": {\"All_Weights\": []}}", -EBADMSG, "All_Weights" },
                { "{\"gpu\": {\"All_Weights\": {}}}", -EBADMSG, "'gpu' is unknown" },
                { "{" LINEAR("platform", "NaN", LINEAR_VARIABLES) "}", -EBADMSG, "weights:" },
                { "{" LINEAR("platform", "1e999", LINEAR_VARIABLES) "}", -EBADMSG, "weights:" },
                { "{" LINEAR("platform", "\"1\"", LINEAR_VARIABLES) "}", -EBADMSG, "Bias_Weight" },
                { "{" LINEAR("platform", "1", "{}") "}", -EBADMSG, "numerical variable" },
                { "{" LINEAR("platform", "1", "[]") "}", -EBADMSG, "Numerical_Variables" },
                { "{" LINEAR("platform", "1", "{\"f\": 1}") "}", -EBADMSG, "variable 'f'" },
                { "{" LINEAR("platform", "1", "{\"f\": {\"scale\": 1}}") "}", -EBADMSG, "weight" },
                { "{" LINEAR("platform", "1", "{\"f\": {\"scale\": -1, \"weight\": 1}}") "}", -EBADMSG,
                  "negative" },
                { "{" LINEAR("platform", "1", "{\"f\": {\"scale\": 1e-300, \"weight\": 1e300}}") "}",
                  -EBADMSG, "not finite" },
                { "{" LINEAR("platform", "1", "{\"\": {\"scale\": 1, \"weight\": 1}}") "}", -EBADMSG,
                  "empty" },
                { "{" LINEAR("platform", "1", "{\"f\": {\"scale\": 1, \"weight\": 1, \"mean\": 3}}") "}",
                  -ENOTSUP, "mean" },
                { "{\"platform\": {\"All_Weights\": {\"Bias_Weight\": 1, \"Categorical_Variables\": {\"a\": "
                  "{}}, "
                  "\"Numerical_Variables\": " LINEAR_VARIABLES "}}}",
                  -ENOTSUP, "categorical" },
                { "{\"platform\": {\"All_Weights\": {\"XGboost_Weights\": \"e30=\"}}}", -ENOTSUP, "XGBoost" },
                { "{\"platform\": {\"All_Weights\": {\"Numerical_Variables\": {}}}}", -EBADMSG, "neither" },
                { "{" NAMED("a\", \"model_name\": \"b") LINEAR("platform", "1", LINEAR_VARIABLES) "}",
                  -EBADMSG, "duplicate" },
                { "{\"provenance\": \"guessed\", " LINEAR("platform", "1", LINEAR_VARIABLES) "}", -EBADMSG,
                  "guessed" },
                { "{\"model_name\": 3, " LINEAR("platform", "1", LINEAR_VARIABLES) "}", -EBADMSG,
                  "model_name" },
                { "{\"mae\": \"low\", " LINEAR("platform", "1", LINEAR_VARIABLES) "}", -EBADMSG, "mae" },
                { "{\"output_type\": \"abs\", " LINEAR("platform", "1", LINEAR_VARIABLES) "}", -EBADMSG,
                  "abs" },
                { "{\"machine_spec\": [], " LINEAR("platform", "1", LINEAR_VARIABLES) "}", -EBADMSG,
                  "machine_spec" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(model_freep) struct model *m = NULL;
                struct err e = { 0 };

                if (load(cases[i].json, NULL, &m, &e) != cases[i].r || !strstr(e.text, cases[i].words))
                        fail_msg("case %zu: '%s'", i, e.text);
                assert_null(m);
        }
}

static void limits_are_enforced(void **state)
{
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(freep) char *blank = malloc(MODEL_WEIGHT_MAX + 1);
        CLEANUP(buf_done) struct buf b;
        struct err e = { 0 };

        (void)state;
        assert_non_null(blank);
        memset(blank, ' ', MODEL_WEIGHT_MAX + 1);
        assert_int_equal(model_load_weight(blank, MODEL_WEIGHT_MAX + 1, NULL, &m, &e), -E2BIG);

        for (int n = MODEL_FEATURES_MAX; n <= MODEL_FEATURES_MAX + 1; n++) {
                buf_init(&b, 1 << 20);
                (void)buf_puts(
                        &b,
                        "{\"platform\": {\"All_Weights\": {\"Bias_Weight\": 1, \"Numerical_Variables\": {");
                for (int i = 0; i < n; i++)
                        (void)buf_printf(&b, "%s\"f%d\": {\"scale\": 1, \"weight\": 1}", i ? ", " : "", i);
                assert_int_equal(buf_puts(&b, "}}}}"), 0);
                assert_int_equal(model_load_weight(b.data, b.size, NULL, &m, &e),
                                 n > MODEL_FEATURES_MAX ? -E2BIG : 0);
                if (n <= MODEL_FEATURES_MAX)
                        model_free(TAKE(m));
                buf_done(&b);
        }
}

static void a_missing_feature_is_named(void **state)
{
        CLEANUP(model_freep) struct model *m = NULL;
        static const char *const columns[] = { "bpf_cpu_time_ms", "bpf_page_cache" };
        size_t index[MODEL_FEATURES_MAX];
        struct err e = { 0 };

        (void)state;
        assert_int_equal(
                load("{" LINEAR("platform", "1", LINEAR_VARIABLES) "}", "SGDRegressorTrainer_0", &m, &e), 0);
        assert_int_equal(model_bind(m, columns, 2, index, &e), -ENOENT);
        assert_non_null(strstr(e.text, "'bpf_page_cache_hit'"));
        assert_non_null(strstr(e.text, "SGDRegressorTrainer_0"));
}

static void watts_are_never_negative_nor_infinite(void **state)
{
        CLEANUP(model_freep) struct model *m = NULL, *log_model = NULL, *hot = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(load("{" LINEAR("platform", "-50", LINEAR_VARIABLES) "}", NULL, &m, &e), 0);
        assert_true(watts_bpf(m, "platform", 0, 0) <= 0 && watts_bpf(m, "platform", 0, 0) >= 0);
        assert_true(watts_bpf(m, "platform", NAN, 0) <= 0);
        assert_true(watts_bpf(m, "platform", INFINITY, 0) <= 0);
        assert_true(watts_bpf(m, "platform", 79000, 0) > 300);

        assert_int_equal(load("{" CURVE("platform", "[1, -100, 3]", BPF_VARIABLES) "}",
                              "LogarithmicRegressionTrainer", &log_model, &e),
                         0);
        assert_true(watts_bpf(log_model, "platform", 8000, 0) <= 0); /* logarithm of a negative number */
        assert_int_equal(model_check(log_model, &e), -EDOM);
        assert_non_null(strstr(e.text, "half activity"));

        assert_int_equal(load("{" CURVE("platform", "[1, 1000, 3]", BPF_VARIABLES) "}",
                              "ExponentialRegressionTrainer", &hot, &e),
                         0);
        assert_int_equal(model_check(hot, &e), -EDOM);
}

static void a_feature_of_scale_0_counts_nothing(void **state)
{
        CLEANUP(model_freep) struct model *m = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(load("{" LINEAR("platform", "5",
                                         "{\"bpf_cpu_time_ms\": {\"scale\": 0, \"weight\": 9}, "
                                         "\"bpf_page_cache_hit\": {\"scale\": 2, \"weight\": 4}}") "}",
                              NULL, &m, &e),
                         0);
        assert_true(fabs(watts_bpf(m, "platform", 1000, 1) - 7) < 1e-12);
        assert_true(model_feature_scale(m, 0) > 0);
}

static void the_head_is_read_and_siblings_are_ignored(void **state)
{
        CLEANUP(model_freep) struct model *m = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(
                load("{\"mape\": 3, \"later\": {\"x\": 1}, \"mae\": 2.5, \"provenance\": \"simulated\", "
                     "\"machine_spec\": {\"cores\": 8.0, \"processor\": \"acme_z1\"}, " NAMED("Acme_4")
                             LINEAR("dram", "1", LINEAR_VARIABLES) ", " LINEAR("package", "2",
                                                                               LINEAR_VARIABLES) "}",
                     "Hint_1", &m, &e),
                0);
        assert_string_equal(model_name(m), "Acme_4");
        assert_string_equal(model_provenance(m), "simulated");
        assert_string_equal(model_output_type(m), "");
        assert_int_equal(model_cores(m), 8);
        assert_true(fabs(model_mae(m) - 2.5) < 1e-12);
        assert_int_equal(model_components(m), 2);
        assert_string_equal(model_component(m, 0), "package");
        assert_string_equal(model_component(m, 1), "dram");
        assert_int_equal(model_features(m), 2);
}

static void a_batch_is_its_rows_one_by_one(void **state)
{
        enum { ROWS = 257 };
        CLEANUP(model_freep) struct model *m = NULL;
        static const char *const columns[] = { "bpf_cpu_time_ms", "x", "bpf_page_cache_hit" };
        double rows[ROWS * 3], all[ROWS * 2], one[2];
        size_t index[MODEL_FEATURES_MAX];
        struct err e = { 0 };

        (void)state;
        assert_int_equal(load("{" NAMED("ExponentialRegressionTrainer_0")
                                      CURVE("package", "[15.0, 1.5, 35.0]",
                                            BPF_VARIABLES) ", " CURVE("dram", "[1, 2, 3]", BPF_VARIABLES) "}",
                              NULL, &m, &e),
                         0);
        assert_int_equal(model_bind(m, columns, 3, index, &e), 0);
        for (int i = 0; i < ROWS * 3; i++)
                rows[i] = (double)((i * 7919) % 1000) / 500;
        model_predict(m, index, rows, 3, ROWS, all);
        for (int i = 0; i < ROWS; i++) {
                model_predict(m, index, rows + (size_t)i * 3, 3, 1, one);
                assert_memory_equal(one, all + (size_t)i * 2, sizeof(one));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_form_computes_its_formula),
                cmocka_unit_test(published_weights_give_published_watts),
                cmocka_unit_test(a_curve_uses_the_main_feature_of_its_group),
                cmocka_unit_test(the_trainer_decides_and_the_hint_helps),
                cmocka_unit_test(bad_weights_are_refused_in_words),
                cmocka_unit_test(limits_are_enforced),
                cmocka_unit_test(a_missing_feature_is_named),
                cmocka_unit_test(watts_are_never_negative_nor_infinite),
                cmocka_unit_test(a_feature_of_scale_0_counts_nothing),
                cmocka_unit_test(the_head_is_read_and_siblings_are_ignored),
                cmocka_unit_test(a_batch_is_its_rows_one_by_one),
        };

        return cmocka_run_group_tests_name("model/weight", tests, NULL, NULL);
}
