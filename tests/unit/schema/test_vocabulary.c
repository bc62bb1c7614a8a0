/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include "schema/vocabulary.h"

static void every_feature_is_found_by_its_own_name(void **state)
{
        (void)state;
        for (int i = 0; i < FEATURE_N; i++) {
                assert_non_null(features[i].name);
                assert_int_equal(feature_find(features[i].name), i);
                assert_true(features[i].wire_scale > 0);
        }
        assert_int_equal(feature_find("cpu_time_ns"), -1); /* a column is not a feature name */
        assert_int_equal(feature_find(""), -1);
}

static void group_features_are_sorted_and_hold_their_curve_features(void **state)
{
        (void)state;
        for (size_t g = 0; g < feature_groups_n; g++) {
                const struct feature_group *group = &feature_groups[g];
                int has_main = 0, has_dram = 0;

                assert_ptr_equal(feature_group_find(group->name), group);
                for (size_t i = 0; i < GROUP_FEATURES_MAX && group->features[i]; i++) {
                        if (i > 0)
                                assert_true(strcmp(group->features[i - 1], group->features[i]) < 0);
                        has_main += strcmp(group->features[i], group->main_feature) == 0;
                        has_dram += strcmp(group->features[i], group->dram_feature) == 0;
                }
                assert_int_equal(has_main, 1);
                assert_int_equal(has_dram, 1);
        }
}

static void a_group_is_known_by_its_features_in_any_order(void **state)
{
        const char *const only[] = { "bpf_page_cache_hit", "bpf_cpu_time_ms" };
        const char *const twice[] = { "bpf_cpu_time_ms", "bpf_cpu_time_ms" };
        const char *const unknown[] = { "bpf_cpu_time_ms", "moon_phase" };

        (void)state;
        assert_string_equal(feature_group_of(only, 2)->name, "BPFOnly");
        assert_null(feature_group_of(only, 1));
        assert_null(feature_group_of(unknown, 2));
        assert_null(feature_group_of(twice, 2));
        assert_null(feature_group_find("bpfonly"));
}

static void sources_normalise_as_upstream(void **state)
{
        (void)state;
        assert_string_equal(energy_source_find(NULL)->name, "rapl-sysfs");
        assert_string_equal(energy_source_find("intel_rapl")->name, "rapl-sysfs");
        assert_string_equal(energy_source_find("rapl-msr")->name, "rapl-sysfs");
        assert_string_equal(energy_source_find("acpi")->name, "acpi");
        assert_null(energy_source_find("moon"));
        assert_string_equal(energy_source_of_component("dram"), "rapl-sysfs");
        assert_string_equal(energy_source_of_component("platform"), "acpi");
        assert_null(energy_source_of_component("psys"));
}

static void only_measured_power_names_its_sensor_on_the_wire(void **state)
{
        (void)state;
        assert_string_equal(wire_source("rapl-sysfs", PROVENANCE_MEASURED), "rapl-sysfs");
        assert_string_equal(wire_source("rapl-sysfs", PROVENANCE_ESTIMATED), "estimate");
        assert_string_equal(wire_source("rapl-sysfs", PROVENANCE_SIMULATED), "simulated");
        assert_string_equal(wire_source("rapl-sysfs", PROVENANCE_VIRTUAL), "virtual");
        for (int i = 0; i < PROVENANCE_N; i++)
                assert_int_equal(provenance_find(provenance_names[i]), i);
        assert_null(provenance_names[PROVENANCE_N]);
        assert_int_equal(provenance_find("guessed"), -1);
}

static void metric_names_are_keplers(void **state)
{
        char name[METRIC_NAME_MAX], overlong[METRIC_NAME_MAX + 1];

        (void)state;
        assert_int_equal(metric_container_feature(name, "bpf_cpu_time_ms"), 38);
        assert_string_equal(name, "kepler_container_bpf_cpu_time_ms_total");
        assert_true(metric_node_energy(name, "package") > 0);
        assert_string_equal(name, "kepler_node_package_joules_total");
        memset(overlong, 'x', METRIC_NAME_MAX);
        overlong[METRIC_NAME_MAX] = '\0';
        assert_true(metric_node_energy(name, overlong) < 0);
}

static void model_names_split_at_the_last_bar(void **state)
{
        static const struct {
                const char *name, *trainer;
                int r, node_type;
        } rows[] = {
                { "SGDRegressorTrainer_4", "SGDRegressorTrainer", 0, 4 },
                { "SGDRegressorTrainer_0", "SGDRegressorTrainer", 0, 0 },
                { "SGDRegressorTrainer", "SGDRegressorTrainer", 0, -1 },
                { "A_x", "A", 0, -1 },
                { "A_99999999999999999999", "A", 0, -1 },
                { "", "", -EINVAL, 0 },
                { "_4", "", -EINVAL, 0 },
        };
        char trainer[MODEL_NAME_MAX];
        int node_type;

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                assert_int_equal(model_name_split(rows[i].name, trainer, &node_type), rows[i].r);
                if (rows[i].r < 0)
                        continue;
                assert_string_equal(trainer, rows[i].trainer);
                assert_int_equal(node_type, rows[i].node_type);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_feature_is_found_by_its_own_name),
                cmocka_unit_test(group_features_are_sorted_and_hold_their_curve_features),
                cmocka_unit_test(a_group_is_known_by_its_features_in_any_order),
                cmocka_unit_test(sources_normalise_as_upstream),
                cmocka_unit_test(only_measured_power_names_its_sensor_on_the_wire),
                cmocka_unit_test(metric_names_are_keplers),
                cmocka_unit_test(model_names_split_at_the_last_bar),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
