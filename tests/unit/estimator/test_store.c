/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "common/file.h"

#define WEIGHTS(name, bias)                                                                                  \
        "{\"model_name\": \"" name "\", \"platform\": {\"All_Weights\": {\"Bias_Weight\": " bias             \
        ", \"Numerical_Variables\": {\"bpf_cpu_time_ms\": {\"scale\": 10, \"weight\": 1}}}}}"
#define CURVE                                                                                                \
        "{\"platform\": {\"All_Weights\": {\"CurveFit_Weights\": [1, 2, 3], \"Numerical_Variables\": "       \
        "{\"bpf_cpu_time_ms\": {\"scale\": 10}}}}}"
#define METADATA(type)                                                                                       \
        "{\"model_name\": \"Archived_1\", \"model_class\": \"weight\", \"model_file\": "                     \
        "\"Archived_1.json\", "                                                                              \
        "\"features\": [\"bpf_cpu_time_ms\"], \"output_type\": \"" type "\"}"
#define MAP "{\"platform\": {\"model_file\": \"weight.json\", \"fe_files\": []}}"

static int set_up(void **state)
{
        char *dir = strdup("/tmp/wattloop-test-XXXXXX");

        assert_non_null(dir);
        assert_non_null(mkdtemp(dir));
        *state = dir;
        return 0;
}

static int tear_down(void **state)
{
        assert_int_equal(file_remove_tree(*state, NULL), 0);
        free(*state);
        return 0;
}

static void write_file(const char *dir, const char *name, const char *text)
{
        char path[512];

        assert_int_equal(path_join(path, sizeof(path), dir, name), 0);
        assert_int_equal(file_write_atomic(path, text, strlen(text), 0644, NULL), 0);
}

static void point_current_at(const char *form_dir, const char *target)
{
        char path[512];

        assert_int_equal(path_join(path, sizeof(path), form_dir, "current"), 0);
        (void)unlink(path); /* not there the first time */
        assert_int_equal(symlink(target, path), 0);
}

struct text {
        const char *name, *data;
};

/* Install as the updater does, and point `current` at it. Returns the directory under the id. */
static void install(const char *store, const char *place, const struct text *texts, size_t n,
                    char ret_dir[512])
{
        struct hash_entry entries[8];
        char form_dir[256], id[HASH_HEX_SIZE];

        for (size_t i = 0; i < n; i++)
                entries[i] = (struct hash_entry){ texts[i].name, texts[i].data, strlen(texts[i].data) };
        assert_int_equal(hash_entries_hex(entries, n, id), 0);
        (void)snprintf(form_dir, sizeof(form_dir), "%s/%s", store, place);
        assert_int_equal(path_join(ret_dir, 512, form_dir, id), 0);
        assert_int_equal(file_mkdirs(ret_dir, 0755, NULL), 0);
        for (size_t i = 0; i < n; i++)
                write_file(ret_dir, texts[i].name, texts[i].data);
        point_current_at(form_dir, id);
}

static void install_weight(const char *store, const char *place, const char *weights, char ret_dir[512])
{
        const struct text text = { "weight.json", weights };

        install(store, place, &text, 1, ret_dir);
}

static struct models *load(const char *store, const struct models *previous)
{
        struct models *models;
        struct err e = { 0 };

        if (models_load(store, previous, &models, &e) < 0)
                fail_msg("%s", e.text);
        return models;
}

static const char *name_for(const struct models *models, const char *source, const char *type)
{
        const struct loaded_model *l = models_find(models, source, type);

        return l ? model_name(l->model) : "none";
}

static void an_absent_store_is_an_empty_set(void **state)
{
        CLEANUP(models_freep)
        struct models *none = load("/nonexistent/store", NULL), *empty = load(*state, NULL);

        assert_int_equal(none->n_refused, 0);
        assert_int_equal(empty->n_refused, 0);
        assert_null(models_find(none, "acpi", "AbsPower"));
        assert_null(models_find(none, "coal", "AbsPower"));
        assert_null(models_find(none, "acpi", "Power"));
}

static void current_is_loaded_for_its_place_only(void **state)
{
        CLEANUP(models_freep) struct models *models = NULL;
        char dir[512];

        install_weight(*state, "acpi/AbsPower/weight", WEIGHTS("A_1", "1"), dir);
        models = load(*state, NULL);
        assert_int_equal(models->n_refused, 0);
        assert_string_equal(name_for(models, "acpi", "AbsPower"), "A_1");
        assert_string_equal(name_for(models, "acpi", "DynPower"), "none");
        assert_string_equal(name_for(models, "intel_rapl", "AbsPower"), "none");
        assert_string_equal(models_find(models, "acpi", "AbsPower")->form, "weight");
        assert_non_null(strstr(dir, models_find(models, "acpi", "AbsPower")->id));
}

static void an_archive_is_preferred_and_a_bad_one_stepped_over(void **state)
{
        CLEANUP(models_freep) struct models *models = NULL, *fallback = NULL;
        const struct text texts[] = { { "metadata.json", METADATA("AbsPower") },
                                      { "Archived_1.json", MAP },
                                      { "weight.json", WEIGHTS("Archived_1", "1") } };
        char dir[512];

        install_weight(*state, "acpi/AbsPower/weight", WEIGHTS("A_1", "1"), dir);
        install(*state, "acpi/AbsPower/archive", texts, 3, dir);
        models = load(*state, NULL);
        assert_string_equal(name_for(models, "acpi", "AbsPower"), "Archived_1");

        write_file(dir, "metadata.json", "{}");
        fallback = load(*state, NULL);
        assert_int_equal(fallback->n_refused, 1);
        assert_string_equal(name_for(fallback, "acpi", "AbsPower"), "A_1");
}

static void an_unchanged_model_is_shared_and_a_new_one_replaces_it(void **state)
{
        struct models *first, *second, *third;
        char dir[512];

        install_weight(*state, "acpi/AbsPower/weight", WEIGHTS("A_1", "1"), dir);
        first = load(*state, NULL);
        second = load(*state, first);
        assert_ptr_equal(models_find(first, "acpi", "AbsPower"), models_find(second, "acpi", "AbsPower"));
        models_free(first);
        assert_string_equal(name_for(second, "acpi", "AbsPower"), "A_1");

        install_weight(*state, "acpi/AbsPower/weight", WEIGHTS("A_2", "2"), dir);
        third = load(*state, second);
        assert_string_equal(name_for(second, "acpi", "AbsPower"), "A_1");
        assert_string_equal(name_for(third, "acpi", "AbsPower"), "A_2");
        models_free(second);
        models_free(third);
}

static void a_bad_model_is_refused_by_name_and_the_old_one_stays(void **state)
{
        static const struct {
                const char *weights, *words;
        } bad[] = {
                { "{", "weights" },
                { WEIGHTS("A_2", "\"NaN\""), "Bias_Weight" },
                { WEIGHTS("A_2", "1e7"), "predicts" },
                { CURVE, "known trainer" },
        };
        char dir[512];

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                CLEANUP(models_freep) struct models *old = NULL, *new = NULL;

                install_weight(*state, "acpi/AbsPower/weight", WEIGHTS("A_1", "1"), dir);
                old = load(*state, NULL);
                install_weight(*state, "acpi/AbsPower/weight", bad[i].weights, dir);
                new = load(*state, old);
                assert_string_equal(name_for(new, "acpi", "AbsPower"), "A_1");
                assert_int_equal(new->n_refused, 1);
                assert_string_equal(new->refused[0].path, dir);
                if (!strstr(new->refused[0].error.text, bad[i].words))
                        fail_msg("'%s'", new->refused[0].error.text);
        }
}

static void a_note_names_weights_that_do_not(void **state)
{
        CLEANUP(models_freep) struct models *models = NULL;
        char dir[512];

        install_weight(*state, "acpi/AbsPower/weight", CURVE, dir);
        write_file(dir, "wattloop.json", "{\"model_name\": \"LogarithmicRegressionTrainer_4\"}");
        models = load(*state, NULL);
        assert_string_equal(name_for(models, "acpi", "AbsPower"), "LogarithmicRegressionTrainer_4");
}

static void damage_and_misplacement_are_refused(void **state)
{
        const struct text texts[] = { { "metadata.json", METADATA("DynPower") },
                                      { "Archived_1.json", MAP },
                                      { "weight.json", WEIGHTS("Archived_1", "1") } };
        CLEANUP(models_freep) struct models *models = NULL;
        char dir[512], form_dir[256];

        install_weight(*state, "acpi/AbsPower/weight", WEIGHTS("A_1", "1"), dir);
        write_file(dir, "weight.json", WEIGHTS("A_1", "2")); /* not what the id says */
        install_weight(*state, "rapl-sysfs/AbsPower/weight", WEIGHTS("A_1", "1"), dir); /* platform */
        install(*state, "hmc/AbsPower/archive", texts, 3, dir);                         /* DynPower */
        install_weight(*state, "redfish/AbsPower/weight", WEIGHTS("A_1", "1"), dir);
        (void)snprintf(form_dir, sizeof(form_dir), "%s/redfish/AbsPower/weight", (const char *)*state);
        point_current_at(form_dir, "../../../acpi");
        install_weight(*state, "redfish/DynPower/weight", WEIGHTS("A_1", "1"), dir);
        assert_int_equal(file_remove_tree(dir, NULL), 0); /* `current` leads nowhere */

        models = load(*state, NULL);
        assert_int_equal(models->n_refused, 5);
        for (size_t i = 0; i < MODELS_SLOTS_MAX; i++)
                assert_null(models->slots[i]);
        assert_non_null(strstr(models->refused[0].error.text, "rapl-sysfs has not"));
        assert_non_null(strstr(models->refused[1].error.text, "not what its id says"));
        assert_non_null(strstr(models->refused[2].error.text, "is for DynPower"));
        assert_non_null(strstr(models->refused[3].error.text, "not a model id"));
        assert_non_null(strstr(models->refused[4].error.text, "No such file"));
}

static void a_model_that_is_taken_away_is_gone(void **state)
{
        CLEANUP(models_freep) struct models *old = NULL, *new = NULL;
        char dir[512], current[512];

        install_weight(*state, "acpi/AbsPower/weight", WEIGHTS("A_1", "1"), dir);
        old = load(*state, NULL);
        (void)snprintf(current, sizeof(current), "%s/acpi/AbsPower/weight/current", (const char *)*state);
        assert_int_equal(unlink(current), 0);
        new = load(*state, old);
        assert_null(models_find(new, "acpi", "AbsPower"));
        assert_int_equal(new->n_refused, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(an_absent_store_is_an_empty_set, set_up, tear_down),
                cmocka_unit_test_setup_teardown(current_is_loaded_for_its_place_only, set_up, tear_down),
                cmocka_unit_test_setup_teardown(an_archive_is_preferred_and_a_bad_one_stepped_over, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(an_unchanged_model_is_shared_and_a_new_one_replaces_it,
                                                set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_bad_model_is_refused_by_name_and_the_old_one_stays, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(a_note_names_weights_that_do_not, set_up, tear_down),
                cmocka_unit_test_setup_teardown(damage_and_misplacement_are_refused, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_model_that_is_taken_away_is_gone, set_up, tear_down),
        };

        return cmocka_run_group_tests_name("estimator/store", tests, NULL, NULL);
}
