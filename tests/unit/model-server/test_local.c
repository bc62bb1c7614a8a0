/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/json.h"
#include "model-server/train/lsq.h"
#include "model-server/train/local.h"
#include "model/model.h"

#define N 240

static void near(double have, double want, double by)
{
        if (!(fabs(have - want) <= by))
                fail_msg("%.17g is not %.17g", have, want);
}

/* cpu rises and falls, misses are rare but strong; segments of ten rows. */
static void make_table(struct table *t, double (*watts)(double cpu, double miss))
{
        static const char *const names[] = { "bpf_cpu_time_ms", "cache_miss" };

        assert_int_equal(table_new(N, names, 2, t, NULL), 0);
        for (int i = 0; i < N; i++) {
                t->x[2 * i] = 8000.0 * (i * 37 % N) / N;
                t->x[2 * i + 1] = i % 3 ? 0 : 1e6 * (i * 11 % N) / N;
                t->y[i] = watts(t->x[2 * i], t->x[2 * i + 1]);
                t->segment[i] = i / 10;
        }
}

static double linear(double cpu, double miss)
{
        return 30 + cpu / 100 + miss / 1e5;
}

static double logarithmic(double cpu, double miss)
{
        (void)miss;
        return 12 * log(9 * cpu / 8000 + 1) + 31;
}

static double exponential(double cpu, double miss)
{
        (void)miss;
        return 5 * exp(2.5 * cpu / 8000) + 20;
}

static double logistic(double cpu, double miss)
{
        (void)miss;
        return 90 / (1 + exp(-11 * (cpu / 8000 - 0.4))) + 25;
}

static const struct {
        const char *trainer;
        double (*watts)(double cpu, double miss);
        double within;
} truths[] = {
        { "ols", linear, 1e-9 },      { "nnls", linear, 1e-6 },       { "lad", linear, 1e-4 },
        { "nnlad", linear, 1e-3 },    { "huber", linear, 1e-6 },      { "log", logarithmic, 0.02 },
        { "exp", exponential, 0.02 }, { "logistic", logistic, 0.05 },
};

static void each_trainer_recovers_the_truth_of_its_form(void **state)
{
        (void)state;
        for (size_t k = 0; k < ARRAY_SIZE(truths); k++) {
                CLEANUP(table_done) struct table t = { 0 };
                struct local_fit fit;
                double out[N];

                make_table(&t, truths[k].watts);
                assert_int_equal(local_fit(local_trainer_find(truths[k].trainer), &t, &fit, NULL), 0);
                assert_int_equal(local_replay(&fit, "package", &t, out, NULL), 0);
                for (int i = 0; i < N; i++)
                        near(out[i], t.y[i], truths[k].within);
        }
}

static void classes_are_those_that_readers_know_the_formula_of(void **state)
{
        (void)state;
        assert_string_equal(local_trainer_find("lad")->class, "SGDRegressorTrainer");
        assert_string_equal(local_trainer_find("nnls")->class, "LinearRegressionTrainer");
        assert_string_equal(local_trainer_find("log")->class, "LogarithmicRegressionTrainer");
        assert_string_equal(local_trainer_find("exp")->class, "ExponentialRegressionTrainer");
        assert_string_equal(local_trainer_find("logistic")->class, "LogisticRegressionTrainer");
        assert_null(local_trainer_find("gbr"));
}

/* Replaying is not an echo of the fit: the formula is worked out here by hand. */
static void the_exported_file_says_the_formula(void **state)
{
        CLEANUP(table_done) struct table t = { 0 };
        struct local_fit fit;
        const json_t *weights, *curve;
        json_t *document;
        double out[N], x;

        (void)state;
        make_table(&t, logistic);
        assert_int_equal(local_fit(local_trainer_find("logistic"), &t, &fit, NULL), 0);
        document = local_document("LogisticRegressionTrainer_3", "package", &fit);
        weights = json_object_get(json_object_get(document, "package"), "All_Weights");
        curve = json_object_get(weights, "CurveFit_Weights");
        assert_int_equal(json_array_size(curve), 4);
        assert_int_equal(json_object_size(json_object_get(weights, "Numerical_Variables")), 1);
        assert_int_equal(local_replay(&fit, "package", &t, out, NULL), 0);
        x = t.x[2 * 50] /
            json_number_value(json_object_get(
                    json_object_get(json_object_get(weights, "Numerical_Variables"), "bpf_cpu_time_ms"),
                    "scale"));
        near(out[50],
             json_number_value(json_array_get(curve, 0)) /
                             (1 + exp(-json_number_value(json_array_get(curve, 2)) *
                                      (x - json_number_value(json_array_get(curve, 1))))) +
                     json_number_value(json_array_get(curve, 3)),
             1e-9);
        json_decref(document);
}

static void the_choice_follows_the_data(void **state)
{
        static const struct {
                double (*watts)(double cpu, double miss);
                const char *class;
        } cases[] = {
                { logarithmic, "LogarithmicRegressionTrainer" },
                { exponential, "ExponentialRegressionTrainer" },
                { logistic, "LogisticRegressionTrainer" },
        };

        (void)state;
        for (size_t k = 0; k < ARRAY_SIZE(cases); k++) {
                CLEANUP(table_done) struct table t = { 0 };
                struct local_fit fit;

                make_table(&t, cases[k].watts);
                assert_int_equal(local_choose(&t, "package", &fit, NULL), 0);
                assert_string_equal(fit.trainer->class, cases[k].class);
                assert_string_equal(fit.features[fit.main], "bpf_cpu_time_ms");
        }
}

/* One row of 240 has cache misses: what they cost cannot be known, and must not be guessed from one. */
static void a_feature_that_training_barely_excited_gets_no_weight(void **state)
{
        CLEANUP(table_done) struct table t = { 0 };
        struct local_fit fit;

        (void)state;
        make_table(&t, linear);
        for (int i = 0; i < N; i++)
                t.x[2 * i + 1] = i == 7 ? 1e6 : 10;
        for (size_t k = 0; k < local_trainers_n; k++) {
                if (local_trainers[k].form != LOCAL_LINEAR)
                        continue;
                assert_int_equal(local_fit(&local_trainers[k], &t, &fit, NULL), 0);
                assert_true(fabs(fit.weight[1]) <= 0);
                assert_true(fit.weight[0] > 0);
        }
}

static void constant_features_and_few_rows_are_told(void **state)
{
        static const char *const names[] = { "bpf_cpu_time_ms" };
        CLEANUP(table_done) struct table t = { 0 };
        struct local_fit fit;
        struct err e;

        (void)state;
        assert_int_equal(table_new(2, names, 1, &t, NULL), 0);
        assert_int_equal(local_fit(local_trainer_find("ols"), &t, &fit, &e), -EDOM);
        assert_non_null(strstr(e.text, "too few"));
        table_done(&t);
        assert_int_equal(table_new(N, names, 1, &t, NULL), 0);
        assert_int_equal(local_fit(local_trainer_find("exp"), &t, &fit, &e), -EDOM);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_trainer_recovers_the_truth_of_its_form),
                cmocka_unit_test(classes_are_those_that_readers_know_the_formula_of),
                cmocka_unit_test(the_exported_file_says_the_formula),
                cmocka_unit_test(the_choice_follows_the_data),
                cmocka_unit_test(a_feature_that_training_barely_excited_gets_no_weight),
                cmocka_unit_test(constant_features_and_few_rows_are_told),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
