/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/attribution.h"

#include <errno.h>
#include "collector/attribution_model.h"
#include "tree.h"

#define SECOND UINT64_C(1000000000)

static struct window *window;
static struct usage_set usage;
static bool measured[FEATURE_N];
static struct power_reading readings[4];
static size_t n_readings;

static int set_up(void **state)
{
        memset(&usage, 0, sizeof(usage));
        memset(measured, 0, sizeof(measured));
        measured[FEATURE_CPU_TIME] = measured[FEATURE_PAGE_CACHE] = true;
        if (tree_set_up(state) < 0 || window_new(&window) < 0)
                return -1;
        window_start(window, 1700000000000);
        return 0;
}

static int tear_down(void **state)
{
        window_free(window);
        usage_set_done(&usage);
        return tree_tear_down(state);
}

static const struct cgroup_info *find_cgroup(void *context, uint64_t id)
{
        static struct cgroup_info info;

        (void)context;
        memset(&info, 0, sizeof(info));
        if (id)
                (void)snprintf(info.container, sizeof(info.container), "c%llu", (unsigned long long)id);
        return &info;
}

static void use(uint64_t id, enum feature_id feature, uint64_t amount)
{
        usage_set_row(&usage, id, false)->delta[feature] += amount;
}

static void power(const char *component, double watts, double idle_watts)
{
        struct power_reading *r = &readings[n_readings++];

        *r = (struct power_reading){ .source = "rapl-sysfs",
                                     .unit = "0",
                                     .provenance = PROVENANCE_MEASURED,
                                     .valid = true,
                                     .energy_uj = watts * 1e6,
                                     .idle_uj = idle_watts * 1e6 };
        (void)snprintf(r->component, sizeof(r->component), "%s", component);
}

static void fold(void)
{
        const struct window_lookup lookup = { .cgroup = find_cgroup };
        const struct sample sample = { .duration_ns = SECOND,
                                       .wall_ms = window->base_ms + 1000,
                                       .usage = &usage,
                                       .measured = measured,
                                       .readings = readings,
                                       .n_readings = n_readings };

        window_fold(window, &sample, &lookup);
        window_stored(window);
        usage_set_clear(&usage);
        n_readings = 0;
}

static double watts_of(const char *key, enum split_component c)
{
        const struct entity *entity = window_find(window, key);

        assert_non_null(entity);
        return entity->energy_uj[c] / 1e6;
}

static void dram_goes_by_cache_misses_where_they_are_counted(void **state)
{
        (void)state;
        measured[FEATURE_CACHE_MISS] = true;
        use(1, FEATURE_CPU_TIME, 750000000);
        use(2, FEATURE_CPU_TIME, 250000000);
        use(1, FEATURE_CACHE_MISS, 100);
        use(2, FEATURE_CACHE_MISS, 300);
        power("package", 30, 10);
        power("dram", 5, 1);
        fold();
        assert_float_equal(watts_of("c1", SPLIT_PACKAGE), 15, 1e-6);
        assert_float_equal(watts_of("c1", SPLIT_DRAM), 1, 1e-6);
        assert_float_equal(watts_of("c2", SPLIT_DRAM), 3, 1e-6);
        assert_int_equal(window->split[SPLIT_DRAM].feature, FEATURE_CACHE_MISS);
        assert_int_equal(window->split[SPLIT_PACKAGE].feature, FEATURE_CPU_TIME);
}

static void else_by_page_cache_and_else_by_cpu_time(void **state)
{
        (void)state;
        use(1, FEATURE_CPU_TIME, 750000000);
        use(2, FEATURE_CPU_TIME, 250000000);
        use(2, FEATURE_PAGE_CACHE, 10);
        power("dram", 5, 1);
        fold();
        assert_float_equal(watts_of("c2", SPLIT_DRAM), 4, 1e-6);
        use(1, FEATURE_CPU_TIME, 750000000);
        use(2, FEATURE_CPU_TIME, 250000000);
        power("dram", 5, 1);
        fold();
        assert_float_equal(watts_of("c2", SPLIT_DRAM), 1, 1e-6);
}

static void dynamic_power_without_activity_is_nobodys(void **state)
{
        (void)state;
        use(1, FEATURE_CPU_TIME, 1);
        power("package", 30, 10);
        fold();
        power("package", 30, 10);
        fold();
        assert_float_equal(watts_of("c1", SPLIT_PACKAGE), 0, 0);
        assert_float_equal(window->split[SPLIT_PACKAGE].ownerless_uj, 20e6, 1);
        assert_float_equal(window->split[SPLIT_PACKAGE].idle_uj, 10e6, 1);
}

/* Whatever happens, the parts are the node. */
static void the_parts_add_up_at_every_tick(void **state)
{
        uint32_t seed = 7;

        (void)state;
        for (int i = 0; i < 2000; i++) {
                for (int j = 0; j < 20; j++) {
                        seed = seed * 1664525 + 1013904223;
                        use(1 + seed % 40, j % 3 ? FEATURE_CPU_TIME : FEATURE_PAGE_CACHE, seed % 90000000);
                }
                power("package", 10 + (double)(seed >> 8) / 1e5, seed % 2 ? -1e-6 : 5);
                power("dram", 1 + (double)(seed >> 8) / 1e6, -1e-6);
                power("platform", 40 + (double)(seed >> 8) / 1e5, -1e-6);
                fold();
                if (attribution_error(window) > ATTRIBUTION_ERROR_MAX)
                        fail_msg("off by %g W at tick %d", attribution_error(window), i);
        }
}

static void a_difference_is_seen(void **state)
{
        (void)state;
        use(1, FEATURE_CPU_TIME, 1000);
        power("package", 30, 10);
        fold();
        assert_true(attribution_error(window) < 1e-9);
        window->entities[0]->energy_uj[SPLIT_PACKAGE] += 2000; /* 2 mW */
        assert_true(attribution_error(window) > ATTRIBUTION_ERROR_MAX);
}

#define WEIGHT(cpu, cache)                                                                                   \
        "{\"package\":{\"All_Weights\":{\"Bias_Weight\":1,\"Categorical_Variables\":{},\"Numerical_"         \
        "Variables\":{"                                                                                      \
        "\"bpf_cpu_time_ms\":{\"scale\":1,\"weight\":" cpu                                                   \
        "},\"bpf_page_cache_hit\":{\"scale\":1,\"weight\":" cache                                            \
        "}}}},\"model_name\":\"SGDRegressorTrainer_0\"}"

static void the_model_decides_the_shares_and_the_node_the_sum(void **state)
{
        CLEANUP(dynamic_model_freep) struct dynamic_model *model = NULL;
        struct attribution_model rule;
        char path[128];
        struct err e = { 0 };

        (void)state;
        (void)snprintf(path, sizeof(path), "%s/weight.json", tree);
        assert_int_equal(dynamic_model_new(path, &model), 0);
        rule = dynamic_model_rule(model);
        window->model = &rule;
        assert_int_equal(dynamic_model_refresh(model, &e), -ENOENT); /* by ratio until it is there */
        use(1, FEATURE_CPU_TIME, 500000000);
        use(2, FEATURE_CPU_TIME, 500000000);
        power("package", 30, 10);
        fold();
        assert_float_equal(watts_of("c1", SPLIT_PACKAGE), 10, 1e-6);
        assert_int_equal(window->split[SPLIT_PACKAGE].rule, ATTRIBUTION_RATIO);

        tree_write("weight.json", WEIGHT("0.01", "4"));
        assert_int_equal(dynamic_model_refresh(model, &e), 0);
        use(1, FEATURE_CPU_TIME, 500000000);
        use(2, FEATURE_CPU_TIME, 500000000);
        use(2, FEATURE_PAGE_CACHE, 1500000);
        power("package", 30, 10);
        power("dram", 3, 1);
        fold();
        assert_int_equal(window->split[SPLIT_PACKAGE].rule, ATTRIBUTION_MODEL);
        assert_float_equal(watts_of("c1", SPLIT_PACKAGE), 20 * 6.0 / 18, 1e-6); /* 1 + 5, of 1 + 5 + 6 more */
        assert_float_equal(watts_of("c2", SPLIT_PACKAGE), 20 * 12.0 / 18, 1e-6);
        assert_int_equal(window->split[SPLIT_DRAM].rule, ATTRIBUTION_RATIO); /* the model does not know it */
        assert_true(attribution_error(window) < 1e-6);

        use(1, FEATURE_CPU_TIME, 500000000); /* c2 did nothing: the bias is not its */
        power("package", 30, 10);
        fold();
        assert_float_equal(watts_of("c1", SPLIT_PACKAGE), 20, 1e-6);
        assert_float_equal(watts_of("c2", SPLIT_PACKAGE), 0, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(dram_goes_by_cache_misses_where_they_are_counted),
                TEST(else_by_page_cache_and_else_by_cpu_time),
                TEST(dynamic_power_without_activity_is_nobodys),
                TEST(the_parts_add_up_at_every_tick),
                TEST(a_difference_is_seen),
                TEST(the_model_decides_the_shares_and_the_node_the_sum),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
