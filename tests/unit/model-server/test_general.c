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

#include "model-server/train/archive.h"
#include "model-server/train/evaluate.h"
#include "model-server/train/general.h"

#define N 300

static const char *const names[] = { "bpf_cpu_time_ms",  "cache_miss",           "cpu_cycles",
                                     "cpu_instructions", "prev_bpf_cpu_time_ms", "prev_cache_miss",
                                     "prev_cpu_cycles",  "prev_cpu_instructions" };
#define P ARRAY_SIZE(names)

static const struct general_settings quick = { NULL, NULL, { 3, 30, 64, 0.2, 2, 0.8, 0.8, 1 }, 0.5, 2, true };

static void make_table(struct table *t, const char *const *features)
{
        uint64_t state = 3;

        assert_int_equal(table_new(N, features, P, t, NULL), 0);
        for (int i = 0; i < N; i++) {
                double cpu = 8000 * (double)(folds_random(&state) % 1000) / 1000,
                       ipc = 0.5 + (i / 7 % 5) / 3.0;
                double *x = t->x + (size_t)i * P;

                x[0] = cpu;
                x[1] = 1e5 * (i % 11);
                x[2] = cpu * 2e6;
                x[3] = x[2] * ipc;
                for (size_t j = 0; j < P / 2; j++)
                        x[P / 2 + j] = i > 0 ? x[j - P] : x[j];
                t->y[i] = 40 + cpu / 100 * ipc;
                t->segment[i] = i / 7;
        }
}

static int finish(struct model_archive *a, const char *class, const char *const *features, size_t n)
{
        struct archive_component c = { .name = "package", .n_features = n, .mae = 1.234, .mape = 5.678 };
        struct archive_head h = { .trainer = "TestTrainer",
                                  .model_class = class,
                                  .output_type = "AbsPower",
                                  .provenance = "measured",
                                  .node_type = 7,
                                  .n_features = n,
                                  .rows = N };

        memcpy(c.features, features, n * sizeof(*features));
        memcpy(h.features, features, n * sizeof(*features));
        return archive_finish(a, &h, &c, 1, NULL);
}

static void train(bool blend, const struct table *t, struct model_archive **ret_archive, struct model **ret)
{
        const char *features[TABLE_FEATURES_MAX];
        size_t n = 0;
        struct err e = { "" };

        *ret_archive = calloc(1, sizeof(**ret_archive));
        assert_int_equal((blend ? general_train_blend : general_train_plain)(&quick, t, "package", 5,
                                                                             *ret_archive, features, &n, &e),
                         0);
        assert_int_equal(finish(*ret_archive, blend ? "wattloop-blend" : "xgboost", features, n), 0);
        if (model_load_archive(*ret_archive, ret, &e) < 0)
                fail_msg("%s", e.text);
}

static double error_of(const struct model *m, const struct table *t)
{
        size_t index[MODEL_FEATURES_MAX];
        double out[N], sum = 0;

        assert_int_equal(model_bind(m, t->features, t->p, index, NULL), 0);
        model_predict(m, index, t->x, t->p, t->n, out);
        for (int i = 0; i < N; i++)
                sum += fabs(out[i] - t->y[i]);
        return sum / N;
}

static void both_kinds_learn_and_load(void **state)
{
        (void)state;
        for (int blend = 0; blend <= 1; blend++) {
                CLEANUP(model_archive_freep) struct model_archive *a = NULL;
                CLEANUP(model_freep) struct model *m = NULL;
                CLEANUP(table_done) struct table t = { 0 };

                make_table(&t, names);
                train(blend, &t, &a, &m);
                assert_string_equal(model_name(m), "TestTrainer_7");
                assert_int_equal(model_features(m), blend ? P : P / 2);
                assert_true(error_of(m, &t) < 0.1 * table_sd(t.y, N));
        }
}

static void the_same_rows_and_seed_give_the_same_bytes(void **state)
{
        (void)state;
        for (int blend = 0; blend <= 1; blend++) {
                CLEANUP(model_archive_freep) struct model_archive *a = NULL, *b = NULL;
                CLEANUP(model_freep) struct model *m = NULL, *n = NULL;
                CLEANUP(table_done) struct table t = { 0 };
                char one[65], two[65];

                make_table(&t, names);
                train(blend, &t, &a, &m);
                train(blend, &t, &b, &n);
                assert_int_equal(model_archive_id(a, one), 0);
                assert_int_equal(model_archive_id(b, two), 0);
                assert_string_equal(one, two);
        }
}

static void what_kepler_loads_has_no_pickles_and_no_objects_in_its_metadata(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(table_done) struct table t = { 0 };
        const struct model_entry *entry;
        json_t *metadata, *value;
        const char *key;

        (void)state;
        make_table(&t, names);
        train(false, &t, &a, &m);
        for (size_t i = 0; i < a->n; i++)
                assert_non_null(strstr(a->entries[i].name, ".json"));
        entry = model_archive_find(a, "metadata.json");
        metadata = json_loadb(entry->data, entry->size, 0, NULL);
        assert_non_null(metadata);
        json_object_foreach (metadata, key, value) {
                assert_false(json_is_object(value));
        }
        assert_string_equal(json_string_value(json_object_get(metadata, "model_class")), "xgboost");
        assert_int_equal(json_array_size(json_object_get(metadata, "fe_files")), 0);
        json_decref(metadata);
}

/* Ten times what was ever seen: trees and clipped lines stay where they were. */
static void a_blend_never_leaves_the_range_it_saw(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(table_done) struct table t = { 0 };
        size_t index[MODEL_FEATURES_MAX];
        double low = 1e9, high = 0, row[P], out;

        (void)state;
        make_table(&t, names);
        train(true, &t, &a, &m);
        for (int i = 0; i < N; i++) {
                low = fmin(low, t.y[i]);
                high = fmax(high, t.y[i]);
        }
        assert_int_equal(model_bind(m, t.features, P, index, NULL), 0);
        for (int scale = -10; scale <= 1000; scale += 101) {
                for (size_t j = 0; j < P; j++)
                        row[j] = scale * t.x[17 * P + j];
                model_predict(m, index, row, P, 1, &out);
                assert_true(out >= low && out <= high + 0.1 * (high - low));
        }
}

/* Much work that no process was charged for: CPU time says idle, the counters say busy. */
static void rows_with_cycles_nobody_was_charged_for_are_judged_by_counters(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(table_done) struct table t = { 0 };
        size_t index[MODEL_FEATURES_MAX], busy = 0;
        double row[P], out;

        (void)state;
        make_table(&t, names);
        train(true, &t, &a, &m);
        assert_int_equal(model_bind(m, t.features, P, index, NULL), 0);
        for (size_t i = 0; i < N; i++)
                if (t.y[i] > t.y[busy])
                        busy = i;
        memcpy(row, t.x + busy * P, sizeof(row));
        row[0] = row[4] = 50;
        model_predict(m, index, row, P, 1, &out);
        assert_true(fabs(out - t.y[busy]) < 0.15 * t.y[busy]);
}

static void without_previous_columns_a_blend_needs_none(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(table_done) struct table t = { 0 }, plain = { 0 };
        const size_t columns[] = { 0, 1, 2, 3 };

        (void)state;
        make_table(&t, names);
        assert_int_equal(table_select(&t, NULL, true, columns, 4, &plain, NULL), 0);
        train(true, &plain, &a, &m);
        assert_int_equal(model_features(m), 4);
        assert_true(error_of(m, &plain) < 0.1 * table_sd(t.y, N));
}

static void a_component_that_never_varies_is_that_constant(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(table_done) struct table t = { 0 };

        (void)state;
        make_table(&t, names);
        for (int i = 0; i < N; i++)
                t.y[i] = 3.5;
        train(true, &t, &a, &m);
        assert_true(error_of(m, &t) < 1e-6);
}

static void folds_are_scored_on_rows_that_were_not_trained_on(void **state)
{
        CLEANUP(table_done) struct table t = { 0 };
        unsigned char mark[N] = { 0 }, active[N] = { 0 };
        struct score_sum score;

        (void)state;
        make_table(&t, names);
        for (int i = 0; i < N; i++) {
                mark[i] = i < 30;
                active[i] = i >= 10;
                if (mark[i])
                        t.y[i] += 1000; /* nobody can know */
        }
        for (int kind = 0; kind < TRAINER_KINDS; kind++) {
                assert_int_equal(evaluate_fold((enum trainer_kind)kind, &quick, &t, "package", mark, active,
                                               NULL, &score, NULL),
                                 0);
                assert_int_equal(score.rows, 30);
                assert_int_equal(score.active_rows, 20);
                assert_true(score.error / 30 > 900);
                assert_true(score.active_error < score.error);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(both_kinds_learn_and_load),
                cmocka_unit_test(the_same_rows_and_seed_give_the_same_bytes),
                cmocka_unit_test(what_kepler_loads_has_no_pickles_and_no_objects_in_its_metadata),
                cmocka_unit_test(a_blend_never_leaves_the_range_it_saw),
                cmocka_unit_test(rows_with_cycles_nobody_was_charged_for_are_judged_by_counters),
                cmocka_unit_test(without_previous_columns_a_blend_needs_none),
                cmocka_unit_test(a_component_that_never_varies_is_that_constant),
                cmocka_unit_test(folds_are_scored_on_rows_that_were_not_trained_on),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
