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

#define CAPTURES "../shared/captures/model-server/"
#define WEIGHTS                                                                                              \
        "{\"model_name\": \"SGDRegressorTrainer_2\", \"provenance\": \"simulated\", \"machine_spec\": "      \
        "{\"cores\": 8}, "                                                                                   \
        "\"mae\": 1.5, \"platform\": {\"All_Weights\": {\"Bias_Weight\": 10.0, \"Categorical_Variables\": "  \
        "{}, "                                                                                               \
        "\"Numerical_Variables\": {\"bpf_cpu_time_ms\": {\"scale\": 100.0, \"weight\": 5.0}}}}}"
#define METADATA(extra)                                                                                      \
        "{\"model_name\": \"SGDRegressorTrainer_2\", \"model_class\": \"weight\", "                          \
        "\"model_file\": \"SGDRegressorTrainer_2.json\", \"features\": [\"bpf_cpu_time_ms\"], "              \
        "\"fe_files\": [], "                                                                                 \
        "\"output_type\": \"DynPower\", \"mae\": 1.25, \"rows\": 100, \"wattloop_version\": 1" extra "}"
#define MAP                                                                                                  \
        "{\"platform\": {\"model_file\": \"weight.json\", \"features\": [\"bpf_cpu_time_ms\"], "             \
        "\"fe_files\": []}}"

struct text {
        const char *name, *data;
};

static struct model_archive *archive_of(const struct text *texts, size_t n)
{
        struct model_archive *a = calloc(1, sizeof(*a));

        assert_non_null(a);
        for (size_t i = 0; i < n && texts[i].name; i++) {
                (void)snprintf(a->entries[i].name, sizeof(a->entries[i].name), "%s", texts[i].name);
                a->entries[i].data = strdup(texts[i].data);
                a->entries[i].size = strlen(texts[i].data);
                a->n++;
        }
        return a;
}

static void a_wattloop_archive_loads(void **state)
{
        static const struct text texts[] = { { "weight.json", WEIGHTS },
                                             { "metadata.json", METADATA("") },
                                             { "SGDRegressorTrainer_2.json", MAP } };
        CLEANUP(model_archive_freep) struct model_archive *a = archive_of(texts, 3);
        CLEANUP(model_freep) struct model *m = NULL;
        static const char *const columns[] = { "bpf_cpu_time_ms" };
        size_t index[MODEL_FEATURES_MAX];
        double row = 50, out;
        struct err e = { 0 };

        (void)state;
        if (model_load_archive(a, &m, &e) < 0)
                fail_msg("%s", e.text);
        assert_string_equal(model_name(m), "SGDRegressorTrainer_2");
        assert_string_equal(model_output_type(m), "DynPower");
        assert_string_equal(model_provenance(m), "simulated");
        assert_true(fabs(model_mae(m) - 1.25) < 1e-12); /* metadata's */
        assert_int_equal(model_cores(m), 8);
        assert_int_equal(model_bind(m, columns, 1, index, &e), 0);
        model_predict(m, index, &row, 1, 1, &out);
        assert_true(fabs(out - 12.5) < 1e-12);
}

/* A model of 10 + 5 * (x / 100) W for the canary, with what its metadata declare. */
static void a_canary_far_from_the_declared_range_is_refused(void **state)
{
        static const struct {
                const char *range, *words; /* NULL: accepted */
        } cases[] = {
                { "\"power_range\": [0, 50], ", NULL },
                { "\"power_range\": 50, ", NULL },
                { "\"power_range\": null, ", NULL },
                { "\"power_range\": [50, 60], ", "power_range of 50 to 60" },
                { "\"power_range\": [0, 3], ", "power_range of 0 to 3" },
                { "\"power_range\": 1, ", "power_range of 1 W" },
                { "\"power_range\": [9, 1], ", "neither a width nor" },
                { "\"power_range\": \"big\", ", "neither a width nor" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char metadata[1024];
                struct text texts[] = { { "weight.json", WEIGHTS },
                                        { "metadata.json", metadata },
                                        { "SGDRegressorTrainer_2.json", MAP } };
                CLEANUP(model_archive_freep) struct model_archive *a = NULL;
                CLEANUP(model_freep) struct model *m = NULL;
                struct err e = { 0 };
                int r;

                (void)snprintf(metadata, sizeof(metadata), "{%s%s", cases[i].range, METADATA("") + 1);
                a = archive_of(texts, 3);
                r = model_load_archive(a, &m, &e);
                if (r == 0)
                        r = model_check(m, &e);
                if (cases[i].words ? r == 0 || !strstr(e.text, cases[i].words) : r != 0)
                        fail_msg("case %zu: %d '%s'", i, r, e.text);
        }
}

static void a_lone_weight_file_loads(void **state)
{
        static const struct text texts[] = { { "weight.json", WEIGHTS } };
        CLEANUP(model_archive_freep) struct model_archive *a = archive_of(texts, 1);
        CLEANUP(model_freep) struct model *m = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(model_load_archive(a, &m, &e), 0);
        assert_string_equal(model_name(m), "SGDRegressorTrainer_2");
}

static void broken_archives_are_refused_in_words(void **state)
{
        static const struct {
                struct text texts[4];
                int r;
                const char *words;
        } cases[] = {
                { { { "x.json", "{}" } }, -EBADMSG, "neither" },
                { { { "metadata.json", "{" } }, -EBADMSG, "metadata.json" },
                { { { "metadata.json", "[]" } }, -EBADMSG, "not a JSON object" },
                { { { "metadata.json", "{}" } }, -EBADMSG, "model_class" },
                { { { "metadata.json", "{\"model_class\": \"scikit\"}" }, { "weight.json", WEIGHTS } },
                  -EBADMSG,
                  "model_file" },
                { { { "metadata.json", "{\"model_class\": \"keras\"}" } }, -ENOTSUP, "model class 'keras'" },
                { { { "metadata.json", "{\"model_class\": \"weight\"}" } }, -EBADMSG, "model_name" },
                { { { "metadata.json", METADATA("") } }, -EBADMSG, "weight.json" },
                { { { "metadata.json", METADATA("") }, { "weight.json", WEIGHTS } },
                  -EBADMSG,
                  "SGDRegressorTrainer_2.json" },
                { { { "metadata.json", METADATA("") },
                    { "weight.json", "{}" },
                    { "SGDRegressorTrainer_2.json", MAP } },
                  -EBADMSG,
                  "no component" },
                { { { "metadata.json", METADATA("") },
                    { "weight.json", WEIGHTS },
                    { "SGDRegressorTrainer_2.json", "{}" } },
                  -EBADMSG,
                  "lacks" },
                { { { "metadata.json", METADATA("") },
                    { "weight.json", WEIGHTS },
                    { "SGDRegressorTrainer_2.json", "{\"platform\": {\"model_file\": \"platform.pkl\"}}" } },
                  -EBADMSG,
                  "platform.pkl" },
                { { { "metadata.json", METADATA("") },
                    { "weight.json", WEIGHTS },
                    { "SGDRegressorTrainer_2.json",
                      "{\"platform\": {\"model_file\": \"weight.json\", \"fe_files\": "
                      "[\"scaler.pkl\"]}}" } },
                  -ENOTSUP,
                  "fe_files" },
                { { { "metadata.json", METADATA("") },
                    { "weight.json", WEIGHTS },
                    { "SGDRegressorTrainer_2.json", "{\"package\": {\"model_file\": \"weight.json\"}}" } },
                  -EBADMSG,
                  "package" },
                { { { "metadata.json", METADATA(", \"provenance\": \"measured\"") },
                    { "weight.json", WEIGHTS },
                    { "SGDRegressorTrainer_2.json", MAP } },
                  -EBADMSG,
                  "provenance is both" },
                { { { "metadata.json",
                      "{\"model_name\": \"A_1\", \"model_class\": \"weight\", \"model_file\": "
                      "\"A_1.json\", \"features\": [\"cpu_cycles\"]}" },
                    { "weight.json", WEIGHTS },
                    { "A_1.json", MAP } },
                  -EBADMSG,
                  "lacks 'bpf_cpu_time_ms'" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(model_archive_freep) struct model_archive *a = archive_of(cases[i].texts, 4);
                CLEANUP(model_freep) struct model *m = NULL;
                struct err e = { 0 };

                if (model_load_archive(a, &m, &e) != cases[i].r || !strstr(e.text, cases[i].words))
                        fail_msg("case %zu: '%s'", i, e.text);
                assert_null(m);
        }
}

/* Upstream's own archives hold pickles, which are read as data; the weights beside them say the same. */
static void an_upstream_archive_predicts_as_its_weights_do(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        CLEANUP(model_freep) struct model *m = NULL, *w = NULL;
        CLEANUP(buf_done) struct buf zip, json;
        double row[MODEL_FEATURES_MAX], out[MODEL_COMPONENTS_MAX], want[MODEL_COMPONENTS_MAX];
        size_t index[MODEL_FEATURES_MAX], other[MODEL_FEATURES_MAX];
        const char *columns[MODEL_FEATURES_MAX];
        struct err e = { 0 };

        (void)state;
        buf_init(&zip, MODEL_ARCHIVE_MAX);
        buf_init(&json, MODEL_WEIGHT_MAX);
        if (file_read(CAPTURES "zip_rapl-sysfs_AbsPower_SGDRegressorTrainer.body.zip", &zip, &e) < 0 ||
            file_read(CAPTURES "weight_rapl-sysfs_AbsPower_SGDRegressorTrainer.body.json", &json, &e) < 0)
                skip();
        if (model_archive_unpack(zip.data, zip.size, &a, &e) < 0 || model_load_archive(a, &m, &e) < 0 ||
            model_load_weight(json.data, json.size, NULL, &w, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(model_features(m), model_features(w));
        assert_int_equal(model_components(m), model_components(w));
        for (size_t i = 0; i < model_features(m); i++) {
                columns[i] = model_feature(m, i);
                row[i] = model_feature_scale(m, i) * (i + 1) / 8;
        }
        assert_int_equal(model_bind(m, columns, model_features(m), index, &e), 0);
        assert_int_equal(model_bind(w, columns, model_features(m), other, &e), 0);
        model_predict(m, index, row, model_features(m), 1, out);
        model_predict(w, other, row, model_features(m), 1, want);
        for (size_t i = 0; i < model_components(m); i++)
                assert_true(fabs(out[i] - want[i]) < 1e-9);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_wattloop_archive_loads),
                cmocka_unit_test(a_lone_weight_file_loads),
                cmocka_unit_test(a_canary_far_from_the_declared_range_is_refused),
                cmocka_unit_test(broken_archives_are_refused_in_words),
                cmocka_unit_test(an_upstream_archive_predicts_as_its_weights_do),
        };

        return cmocka_run_group_tests_name("model/load", tests, NULL, NULL);
}
