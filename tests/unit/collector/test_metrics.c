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
static enum metrics_style style;
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
        (void)snprintf(info.path, sizeof(info.path),
                       "/kubepods.slice/kubepods-pod11111111_2222_3333_4444_555555555555.slice/"
                       "cri-containerd-%064llx.scope",
                       (unsigned long long)id);
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
        metrics_write(window, &machine, &stats, style, &text);
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
        has("wattloop_unattributed_joules_total{attribution=\"ratio\",component=\"package\",mode=\"idle\","
            "source="
            "\"rapl-sysfs\"} 20");
        has("wattloop_unattributed_joules_total{attribution=\"ratio\",component=\"package\",mode=\"dynamic\","
            "source="
            "\"rapl-sysfs\"} 0");
        has("wattloop_attribution_info{component=\"package\",feature=\"bpf_cpu_time_ms\",rule=\"ratio\"} 1");
        has("# HELP kepler_node_package_joules_total Aggregated value in package value from rapl-sysfs");
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

static void other_is_what_the_platform_draws_beyond_package_and_dram(void **state)
{
        (void)state;
        for (int busy = 0; busy <= 1; busy++) {
                (void)power("rapl-sysfs", "package", PROVENANCE_MEASURED, busy ? 50 : 10);
                (void)power("rapl-sysfs", "dram", PROVENANCE_MEASURED, busy ? 4 : 2);
                (void)power("acpi", "platform", PROVENANCE_MEASURED, busy ? 90 : 30);
                if (busy)
                        usage_set_row(&usage, 1, false)->delta[FEATURE_CPU_TIME] = 300000000;
                fold();
        }
        written();
        has("kepler_node_other_joules_total{instance=\"n1\",mode=\"dynamic\",package=\"socket0\",source="
            "\"rapl-"
            "sysfs\"} 18");
        has("kepler_node_other_joules_total{instance=\"n1\",mode=\"idle\",package=\"socket0\",source=\"rapl-"
            "sysfs\"}"
            " 36");
        has("kepler_container_other_joules_total{container_id=\"c1\",container_name=\"\",container_namespace="
            "\"\","
            "mode=\"dynamic\",pod_name=\"\",source=\"rapl-sysfs\"} 18");
        has("kepler_container_joules_total{container_id=\"c1\",container_name=\"\",container_namespace=\"\","
            "mode=\"dynamic\",pod_name=\"\",source=\"\"} 60");
}

static void two_simulated_meters_do_not_share_a_series(void **state)
{
        const char *first;

        (void)state;
        (void)power("rapl-sysfs", "package", PROVENANCE_SIMULATED, 10);
        (void)power("fam15h_power", "package", PROVENANCE_SIMULATED, 20);
        fold();
        written();
        first = strstr(text.data, "\nkepler_node_package_joules_total{");
        assert_non_null(first);
        first = strstr(first + 1, "\nkepler_node_package_joules_total{"); /* the other mode */
        assert_non_null(first);
        assert_null(strstr(first + 1, "\nkepler_node_package_joules_total{"));
}

static void containers_over_the_limit_share_one_series_that_only_grows(void **state)
{
        (void)state;
        window->shown_max = 2;
        usage_set_row(&usage, 0, true)->delta[FEATURE_PAGE_CACHE] =
                1; /* what is in no container takes nobody's place */
        for (int round = 1; round <= 2; round++) {
                for (uint64_t id = 1; id <= 5; id++)
                        usage_set_row(&usage, id, false)->delta[FEATURE_CPU_TIME] = 1000000 * id;
                fold();
        }
        written();
        has("kepler_container_bpf_cpu_time_ms_total{container_id=\"other_containers\",container_name=\"other_"
            "containers\",container_namespace=\"\",pod_name=\"other_containers\",source=\"bpf\"} 24");
        has("wattloop_collector_hidden_containers 3");
        has_not("container_id=\"c3\"");
        has("wattloop_node_usage_total{feature=\"bpf_cpu_time_ms\"} 30");
        for (int i = 0; i < 700; i++) /* the hidden are forgotten: what they did stays */
                fold();
        written();
        has("kepler_container_bpf_cpu_time_ms_total{container_id=\"other_containers\",container_name=\"other_"
            "containers\",container_namespace=\"\",pod_name=\"other_containers\",source=\"bpf\"} 24");
        has("wattloop_collector_hidden_containers 0");
}

static void kepler_0_10_has_zones_runtimes_and_pods(void **state)
{
        (void)state;
        style = METRICS_KEPLER_010;
        machine.spec.cores = 4;
        stats.cpu_info = "kepler_node_cpu_info{processor=\"0\"} 1\n";
        play(PROVENANCE_MEASURED);
        has("kepler_node_cpu_joules_total{node_name=\"n1\",path=\"rapl-sysfs/package-0\",zone=\"package\"} "
            "60");
        has("kepler_node_cpu_active_joules_total{node_name=\"n1\",path=\"rapl-sysfs/"
            "package-0\",zone=\"package\"} 40");
        has("kepler_node_cpu_idle_joules_total{node_name=\"n1\",path=\"rapl-sysfs/"
            "package-0\",zone=\"package\"} 20");
        has("kepler_node_cpu_watts{node_name=\"n1\",path=\"rapl-sysfs/package-0\",zone=\"package\"} 50");
        has("kepler_node_cpu_active_watts{node_name=\"n1\",path=\"rapl-sysfs/package-0\",zone=\"package\"} "
            "40");
        has("kepler_node_cpu_idle_watts{node_name=\"n1\",path=\"rapl-sysfs/package-0\",zone=\"package\"} 10");
        has("kepler_node_cpu_usage_ratio{node_name=\"n1\"} 0.1");
        has("kepler_node_cpu_info{processor=\"0\"} 1");
        has("kepler_container_cpu_joules_total{container_id=\"c1\",container_name=\"\",node_name=\"n1\",pod_"
            "id="
            "\"11111111-2222-3333-4444-555555555555\",runtime=\"containerd\",state=\"running\",zone="
            "\"package\"} 30");
        has("kepler_container_cpu_watts{container_id=\"c1\",container_name=\"\",node_name=\"n1\",pod_id="
            "\"11111111-2222-3333-4444-555555555555\",runtime=\"containerd\",state=\"running\",zone="
            "\"package\"} 30");
        has("kepler_pod_cpu_joules_total{node_name=\"n1\",pod_id=\"11111111-2222-3333-4444-555555555555\","
            "pod_name="
            "\"\",pod_namespace=\"\",state=\"running\",zone=\"package\"} 30");
        has_not("kepler_node_package_joules_total");
        has_not("kepler_exporter_build_info");
        style = METRICS_KEPLER_07;
}

static void the_units_of_a_zone_are_added_up(void **state)
{
        (void)state;
        style = METRICS_KEPLER_010;
        (void)power("rapl-sysfs", "package", PROVENANCE_MEASURED, 10);
        (void)snprintf(power("rapl-sysfs", "package", PROVENANCE_MEASURED, 15)->unit, SENSOR_TEXT_MAX, "1");
        (void)power("rapl-sysfs", "psys", PROVENANCE_MEASURED, 44);
        (void)power("redfish", "platform", PROVENANCE_MEASURED, 80);
        fold();
        written();
        has("kepler_node_cpu_watts{node_name=\"n1\",path=\"aggregated-package\",zone=\"package\"} 25");
        has("kepler_node_cpu_watts{node_name=\"n1\",path=\"rapl-sysfs/psys-0\",zone=\"psys\"} 44");
        has("kepler_platform_watts{bmc_id=\"\",chassis_id=\"0\",node_name=\"n1\",power_control_id=\"\",power_"
            "control_"
            "name=\"\",source=\"redfish\"} 80");
        has_not("zone=\"platform\"");
        style = METRICS_KEPLER_07;
}

static void the_cost_of_bpf_programs_is_shown_only_where_it_is_measured(void **state)
{
        (void)state;
        written();
        has_not("bpf_run");
        stats.overhead.n = 1;
        stats.overhead.programs[0] = (struct bpf_run){ "on_exit", 2500000, 17 };
        written();
        has("wattloop_collector_bpf_run_seconds_total{program=\"on_exit\"} 0.0025");
        has("wattloop_collector_bpf_runs_total{program=\"on_exit\"} 17");
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
                TEST(other_is_what_the_platform_draws_beyond_package_and_dram),
                TEST(two_simulated_meters_do_not_share_a_series),
                TEST(containers_over_the_limit_share_one_series_that_only_grows),
                TEST(kepler_0_10_has_zones_runtimes_and_pods),
                TEST(the_units_of_a_zone_are_added_up),
                TEST(the_cost_of_bpf_programs_is_shown_only_where_it_is_measured),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
