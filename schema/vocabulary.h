/* SPDX-License-Identifier: Apache-2.0 */
/* The words that programs share: features, feature groups, power sources, components, provenance, and the
 * metric names made from them. One table each; everything else is derived. Names are Kepler's where Kepler
 * has one (feature names as its models know them). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A feature is recorded as an unsigned cumulative total in its column's unit and leaves the machine as
 * `name` = total * wire_scale. Models see per-second rates of the wire value. */
struct feature {
        const char *name; /* "bpf_cpu_time_ms": model feature; kepler_container_<name>_total is its metric */
        const char *column; /* "cpu_time_ns": column in samples.db, field in BPF and C */
        double wire_scale;
};

/* Recorded features, in the order of samples.db's columns. */
enum feature_id {
        FEATURE_CPU_TIME,   /* ns on a CPU, the scheduler's own account */
        FEATURE_PAGE_CACHE, /* pages written to the page cache (task_io_accounting.write_bytes / 4096);
                               wire: millions, not truncated */
        FEATURE_NET_TX_IRQ, /* softirqs raised while the entity was on the CPU */
        FEATURE_NET_RX_IRQ,
        FEATURE_BLOCK_IRQ,
        FEATURE_CPU_CYCLES, /* hardware counters: NULL on machines without */
        FEATURE_CPU_INSTRUCTIONS,
        FEATURE_CACHE_MISS,
        FEATURE_PAGE_CACHE_READ, /* pages of 4096 bytes asked for by read(), cached or not; ours, not Kepler's
                                  */
        FEATURE_PAGE_CACHE_ADDED, /* pages that were not in the cache; ours */
        FEATURE_N,
};
extern const struct feature features[FEATURE_N];
int feature_find(const char *name); /* by wire name; index, or -1 */

/* Feature groups in upstream's order of trial, features sorted; main_feature and dram_feature are what a
 * curve of that group depends on. Source: kepler-model-server train_types. */
#define GROUP_FEATURES_MAX 12
struct feature_group {
        const char *name;
        const char *features[GROUP_FEATURES_MAX]; /* NULL-terminated */
        const char *main_feature;
        const char *dram_feature;
};
extern const struct feature_group feature_groups[];
extern const size_t feature_groups_n;
const struct feature_group *feature_group_find(const char *name);
int group_features_n(const struct feature_group *group);
/* The group with exactly these features, or NULL. */
const struct feature_group *feature_group_of(const char *const *names, size_t n);

/* Energy sources and their components, in upstream's order. */
#define COMPONENTS_MAX 4
struct energy_source {
        const char *name;                       /* "rapl-sysfs" */
        const char *components[COMPONENTS_MAX]; /* NULL-terminated unless all four are there */
        size_t n;
};
extern const struct energy_source energy_sources[];
extern const size_t energy_sources_n;
/* Normalises as upstream does: NULL and anything that contains "rapl" are "rapl-sysfs". NULL when unknown. */
const struct energy_source *energy_source_find(const char *name);

/* How a power value came to be. Kept with every reading; training takes `measured` only unless told. */
enum provenance {
        PROVENANCE_MEASURED,
        PROVENANCE_ESTIMATED,
        PROVENANCE_SIMULATED,
        PROVENANCE_VIRTUAL,
        PROVENANCE_N
};
extern const char *const provenance_names[PROVENANCE_N + 1]; /* NULL-terminated; "measured", ... */
int provenance_find(const char *name);                       /* or -1 */

/* The `source` label on the wire: the sensor's own name only when it was measured, else "estimate",
 * "simulated" or "virtual". */
const char *wire_source(const char *sensor_source, enum provenance provenance);

/* The energy source whose models a row with this wire source and component trains: "rapl-sysfs" for
 * package, core, uncore and dram, "acpi" for platform. NULL when the component is unknown. */
const char *energy_source_of_component(const char *component);

/* "kepler_container_bpf_cpu_time_ms_total", "kepler_node_package_joules_total"; negative when it does not
 * fit. */
#define METRIC_NAME_MAX 96
int metric_container_feature(char ret[METRIC_NAME_MAX], const char *feature);
int metric_node_energy(char ret[METRIC_NAME_MAX], const char *component);

/* Output types. */
extern const char *const output_types[3]; /* "AbsPower", "DynPower", NULL */

/* Trainer class and node type of a model name "SGDRegressorTrainer_4". Copies the trainer; node_type is -1
 * when the name has none. -EINVAL for an empty or overlong name. */
#define MODEL_NAME_MAX 128
int model_name_split(const char *model_name, char ret_trainer[MODEL_NAME_MAX], int *ret_node_type);
