/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/metrics.h"

#include <math.h>
#include "tree.h"

#define SECOND UINT64_C(1000000000)

static struct window *window;
static struct usage_set usage;
static struct buf text;
static struct machine machine;
static struct collector_stats stats;
static struct power_reading readings[SENSORS_MAX];
static size_t n_readings;

static int set_up(void **state)
{
        (void)state;
        memset(&usage, 0, sizeof(usage));
        memset(&stats, 0, sizeof(stats));
        memset(&machine, 0, sizeof(machine));
        (void)snprintf(machine.node_name, sizeof(machine.node_name), "n1");
        (void)snprintf(machine.cpu_architecture, sizeof(machine.cpu_architecture), "Zed \"Lake\"");
        stats.feature_source = "bpf";
        n_readings = 0;
        buf_init(&text, METRICS_TEXT_MAX);
        if (window_new(&window) < 0)
                return -1;
        window_start(window, 1700000000123);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        window_free(window);
        usage_set_done(&usage);
        buf_done(&text);
        return 0;
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

static struct power_reading *power(const char *source, const char *component, enum provenance provenance,
                                   double watts)
{
        struct power_reading *r = &readings[n_readings++];

        *r = (struct power_reading){
                .provenance = provenance, .valid = true, .energy_uj = watts * 1e6, .idle_uj = -1
        };
        (void)snprintf(r->source, sizeof(r->source), "%s", source);
        (void)snprintf(r->component, sizeof(r->component), "%s", component);
        (void)snprintf(r->unit, sizeof(r->unit), "0");
        return r;
}

static void fold(void)
{
        static const bool measured[FEATURE_N] = { true, true };
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
        stats.ticks++;
}

static void written(void)
{
        buf_clear(&text);
        metrics_write(window, &machine, &stats, &text);
        assert_int_equal(text.failed, 0);
}

static void has(const char *line)
{
        char with_newline[512];

        (void)snprintf(with_newline, sizeof(with_newline), "\n%s\n", line);
        if (!strstr(text.data, with_newline))
                fail_msg("no line '%s' in\n%s", line, text.data);
}

static void has_not(const char *part)
{
        if (strstr(text.data, part))
                fail_msg("'%s' is in\n%s", part, text.data);
}

/* Two seconds: 10 W of idleness, then 50 W while c1 uses three quarters of the CPU time. */
static void play(enum provenance provenance)
{
        (void)power("rapl-sysfs", "package", provenance, 10);
        fold();
        usage_set_row(&usage, 1, false)->delta[FEATURE_CPU_TIME] = 300000000;
        usage_set_row(&usage, 0, false)->delta[FEATURE_CPU_TIME] = 100000000;
        usage_set_row(&usage, 1, false)->delta[FEATURE_PAGE_CACHE] = 250000;
        (void)power("rapl-sysfs", "package", provenance, 50);
        fold();
        written();
}

static void names_and_labels_are_keplers(void **state)
{
        (void)state;
        play(PROVENANCE_MEASURED);
        has("kepler_node_package_joules_total{instance=\"n1\",mode=\"dynamic\",package=\"0\",source=\"rapl-"
            "sysfs\"} 40");
        has("kepler_node_package_joules_total{instance=\"n1\",mode=\"idle\",package=\"0\",source=\"rapl-"
            "sysfs\"} 20");
        has("kepler_container_bpf_cpu_time_ms_total{container_id=\"c1\",container_name=\"\",container_"
            "namespace=\"\","
            "pod_name=\"\",source=\"bpf\"} 300");
        has("kepler_container_bpf_page_cache_hit_total{container_id=\"c1\",container_name=\"\","
            "container_namespace=\"\",pod_name=\"\",source=\"bpf\"} 0.25");
        has("kepler_container_bpf_cpu_time_ms_total{container_id=\"system_processes\",container_name="
            "\"system_processes\",container_namespace=\"system\",pod_name=\"system_processes\",source="
            "\"bpf\"} 100");
        has("kepler_container_package_joules_total{container_id=\"c1\",container_name=\"\",container_"
            "namespace=\"\","
            "mode=\"dynamic\",pod_name=\"\",source=\"rapl-sysfs\"} 30");
        has("kepler_container_joules_total{container_id=\"c1\",container_name=\"\",container_namespace=\"\","
            "mode=\"dynamic\",pod_name=\"\",source=\"\"} 30");
        has("wattloop_unattributed_joules_total{attribution=\"ratio\",component=\"package\",source=\"rapl-"
            "sysfs\"} 20");
        has("kepler_node_info{components_power_source=\"rapl-sysfs\",cpu_architecture=\"Zed \\\"Lake\\\"\","
            "platform_power_source=\"none\",source=\"os\"} 1");
        has("wattloop_collector_interval_end_seconds 1700000002.123");
        has("wattloop_collector_interval_seconds 1");
        has("wattloop_node_watts{component=\"package\",source=\"rapl-sysfs\",unit=\"0\"} 50");
        has("wattloop_collector_feature_source{source=\"bpf\"} 1");
        has_not("cpu_cycles"); /* not measured */
}

static void power_that_was_not_measured_never_uses_a_sensors_name(void **state)
{
        (void)state;
        play(PROVENANCE_SIMULATED);
        has("wattloop_node_watts{component=\"package\",source=\"simulated\",unit=\"0\"} 50");
        has_not("rapl-sysfs");
}

static void an_estimate_names_its_model_and_what_it_was_trained_on(void **state)
{
        struct power_reading *r = power("estimate", "package", PROVENANCE_ESTIMATED, 42);

        (void)state;
        (void)snprintf(r->model, sizeof(r->model), "SGDRegressorTrainer_0 0123abcd");
        (void)snprintf(r->model_provenance, sizeof(r->model_provenance), "simulated");
        fold();
        written();
        has("wattloop_estimate_info{id=\"0123abcd\",model=\"SGDRegressorTrainer_0\",provenance=\"simulated\"}"
            " 1");
        has("wattloop_node_watts{component=\"package\",source=\"estimate\",unit=\"0\"} 42");
        assert_non_null(strstr(text.data, "components_power_source=\"estimator\""));
}

static void a_gap_has_no_watts(void **state)
{
        (void)state;
        play(PROVENANCE_MEASURED);
        power("rapl-sysfs", "package", PROVENANCE_MEASURED, 0)->valid = false;
        fold();
        written();
        has_not("wattloop_node_watts{");
        has("kepler_node_package_joules_total{instance=\"n1\",mode=\"dynamic\",package=\"0\",source=\"rapl-"
            "sysfs\"} 40");
}

static void psys_is_shown_but_is_no_platform(void **state)
{
        (void)state;
        (void)power("rapl-sysfs", "psys", PROVENANCE_MEASURED, 70);
        (void)power("acpi", "platform", PROVENANCE_MEASURED, 90);
        fold();
        written();
        has("wattloop_node_watts{component=\"psys\",source=\"rapl-sysfs\",unit=\"0\"} 70");
        has("kepler_node_platform_joules_total{instance=\"n1\",mode=\"idle\",package=\"0\",source=\"acpi\"} "
            "90");
        has_not("kepler_node_psys");
        assert_non_null(strstr(text.data, "platform_power_source=\"acpi\""));
}

static void before_the_first_interval_there_is_no_time_stamp(void **state)
{
        (void)state;
        written();
        has_not("interval_end_seconds");
        has("wattloop_collector_ticks_total 0");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(names_and_labels_are_keplers),
                TEST(power_that_was_not_measured_never_uses_a_sensors_name),
                TEST(an_estimate_names_its_model_and_what_it_was_trained_on),
                TEST(a_gap_has_no_watts),
                TEST(psys_is_shown_but_is_no_platform),
                TEST(before_the_first_interval_there_is_no_time_stamp),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
