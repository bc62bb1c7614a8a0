/* SPDX-License-Identifier: Apache-2.0 */
#include "schema/vocabulary.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/num.h"

const struct feature features[FEATURE_N] = {
        [FEATURE_CPU_TIME] = { "bpf_cpu_time_ms", "cpu_time_ns", 1e-6 },
        [FEATURE_PAGE_CACHE] = { "bpf_page_cache_hit", "page_cache_pages", 1e-6 },
        [FEATURE_NET_TX_IRQ] = { "bpf_net_tx_irq", "net_tx_irq", 1 },
        [FEATURE_NET_RX_IRQ] = { "bpf_net_rx_irq", "net_rx_irq", 1 },
        [FEATURE_BLOCK_IRQ] = { "bpf_block_irq", "block_irq", 1 },
        [FEATURE_CPU_CYCLES] = { "cpu_cycles", "cpu_cycles", 1 },
        [FEATURE_CPU_INSTRUCTIONS] = { "cpu_instructions", "cpu_instructions", 1 },
        [FEATURE_CACHE_MISS] = { "cache_miss", "cache_miss", 1 },
        [FEATURE_PAGE_CACHE_READ] = { "page_cache_read", "page_cache_read_pages", 1e-6 },
        [FEATURE_PAGE_CACHE_ADDED] = { "page_cache_added", "page_cache_added_pages", 1e-6 },
};

#define WORKLOAD                                                                                             \
        "accelerator_intel_qat", "bpf_block_irq", "bpf_cpu_time_ms", "bpf_net_rx_irq", "bpf_net_tx_irq",     \
                "bpf_page_cache_hit", "cache_miss", "cpu_cycles", "cpu_instructions"

const struct feature_group feature_groups[] = {
        { "Full",
          { WORKLOAD, "cpu_scaling_frequency_hertz", "node_info" },
          "cpu_instructions",
          "cache_miss" },
        { "WorkloadOnly", { WORKLOAD }, "cpu_instructions", "cache_miss" },
        { "CounterOnly",
          { "cache_miss", "cpu_cycles", "cpu_instructions" },
          "cpu_instructions",
          "cache_miss" },
        { "BPFOnly", { "bpf_cpu_time_ms", "bpf_page_cache_hit" }, "bpf_cpu_time_ms", "bpf_page_cache_hit" },
        { "BPFIRQ",
          { "bpf_block_irq", "bpf_cpu_time_ms", "bpf_net_rx_irq", "bpf_net_tx_irq", "bpf_page_cache_hit" },
          "bpf_cpu_time_ms",
          "bpf_page_cache_hit" },
        { "CounterIRQCombined",
          { "bpf_block_irq", "bpf_net_rx_irq", "bpf_net_tx_irq", "cache_miss", "cpu_cycles",
            "cpu_instructions" },
          "cpu_instructions",
          "cache_miss" },
        { "Basic",
          { "bpf_cpu_time_ms", "bpf_page_cache_hit", "cache_miss", "cpu_cycles", "cpu_instructions" },
          "cpu_instructions",
          "cache_miss" },
        { "AcceleratorOnly", { "accelerator_intel_qat" }, "accelerator_intel_qat", "accelerator_intel_qat" },
};
const size_t feature_groups_n = ARRAY_SIZE(feature_groups);

const struct energy_source energy_sources[] = {
        { "rapl-sysfs", { "package", "core", "uncore", "dram" }, 4 },
        { "rapl-msr", { "package", "core", "uncore", "dram" }, 4 },
        { "trained_power_model", { "package", "core", "uncore", "dram" }, 4 },
        { "acpi", { "platform" }, 1 },
        { "hmc", { "platform" }, 1 },
        { "redfish", { "platform" }, 1 },
};
const size_t energy_sources_n = ARRAY_SIZE(energy_sources);

const char *const provenance_names[PROVENANCE_N + 1] = { "measured", "estimated", "simulated", "virtual",
                                                         NULL };
const char *const output_types[3] = { "AbsPower", "DynPower", NULL };

int feature_find(const char *name)
{
        for (int i = 0; i < FEATURE_N; i++)
                if (!strcmp(features[i].name, name))
                        return i;
        return -1;
}

const struct feature_group *feature_group_find(const char *name)
{
        for (size_t i = 0; i < feature_groups_n; i++)
                if (!strcmp(feature_groups[i].name, name))
                        return &feature_groups[i];
        return NULL;
}

int group_features_n(const struct feature_group *g)
{
        int n = 0;

        while (n < GROUP_FEATURES_MAX && g->features[n])
                n++;
        return n;
}

static bool names_have(const char *const *names, size_t n, const char *name)
{
        for (size_t i = 0; i < n; i++)
                if (!strcmp(names[i], name))
                        return true;
        return false;
}

const struct feature_group *feature_group_of(const char *const *names, size_t n)
{
        for (size_t i = 0; i < feature_groups_n; i++) {
                const struct feature_group *g = &feature_groups[i];
                size_t hits = 0;

                if ((size_t)group_features_n(g) != n)
                        continue;
                for (size_t j = 0; j < n; j++)
                        hits += names_have(names, n, g->features[j]);
                if (hits == n)
                        return g;
        }
        return NULL;
}

const struct energy_source *energy_source_find(const char *name)
{
        if (!name || strstr(name, "rapl"))
                return &energy_sources[0];
        for (size_t i = 0; i < energy_sources_n; i++)
                if (!strcmp(energy_sources[i].name, name))
                        return &energy_sources[i];
        return NULL;
}

int provenance_find(const char *name)
{
        for (int i = 0; i < PROVENANCE_N; i++)
                if (!strcmp(provenance_names[i], name))
                        return i;
        return -1;
}

const char *wire_source(const char *sensor_source, enum provenance provenance)
{
        switch (provenance) {
        case PROVENANCE_MEASURED:
                return sensor_source;
        case PROVENANCE_ESTIMATED:
                return "estimate";
        case PROVENANCE_SIMULATED:
                return "simulated";
        default:
                return "virtual";
        }
}

const char *energy_source_of_component(const char *component)
{
        const struct energy_source *rapl = &energy_sources[0];

        for (size_t i = 0; i < rapl->n; i++)
                if (!strcmp(rapl->components[i], component))
                        return rapl->name;
        return strcmp(component, "platform") == 0 ? "acpi" : NULL;
}

int metric_container_feature(char ret[METRIC_NAME_MAX], const char *feature)
{
        int n = snprintf(ret, METRIC_NAME_MAX, "kepler_container_%s_total", feature);

        return n < METRIC_NAME_MAX ? n : -ENAMETOOLONG;
}

int metric_node_energy(char ret[METRIC_NAME_MAX], const char *component)
{
        int n = snprintf(ret, METRIC_NAME_MAX, "kepler_node_%s_joules_total", component);

        return n < METRIC_NAME_MAX ? n : -ENAMETOOLONG;
}

int model_name_split(const char *model_name, char ret_trainer[MODEL_NAME_MAX], int *ret_node_type)
{
        const char *bar = strrchr(model_name, '_');
        size_t n = bar ? (size_t)(bar - model_name) : strlen(model_name);
        uint64_t type;

        if (!n || n >= MODEL_NAME_MAX)
                return -EINVAL;
        memcpy(ret_trainer, model_name, n);
        ret_trainer[n] = '\0';
        *ret_node_type = bar && !num_parse_u64(bar + 1, &type) && type < INT32_MAX ? (int)type : -1;
        return 0;
}
