/* SPDX-License-Identifier: Apache-2.0 */
/* Power sources: joules per sensor since recording began. One interface for counters (RAPL), meters (ACPI)
 * and models (estimate); the differences stay inside the source. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"
#include "schema/vocabulary.h"

#define SENSORS_MAX     64
#define SENSOR_TEXT_MAX 64

struct power_reading {
        char source[SENSOR_TEXT_MAX];    /* "rapl-sysfs", "acpi", "estimate" */
        char component[SENSOR_TEXT_MAX]; /* "package", "dram", "platform", … */
        char unit[SENSOR_TEXT_MAX];      /* "0", "energy1" */
        enum provenance provenance;
        bool valid;        /* false: could not be read this time: a gap */
        double energy_uj;  /* since the last read */
        double idle_uj;    /* part of energy_uj known to be idle; negative: not known, the window decides */
        char model[160];   /* estimated: "NAME ID"; else "" */
};

/* What a model-based source needs: the node's features over the interval, as deltas. */
struct power_context {
        uint64_t duration_ns;              /* since the last read */
        const uint64_t *node_delta;        /* [FEATURE_N] */
        const bool *measured;              /* [FEATURE_N]: false: NULL */
};

struct power_source;
struct power_source_options {
        const char *sysfs_root;
        const char *procfs_root;
        const char *estimator_socket;   /* estimate: unix socket; "" unset */
        const char *estimate_weight;    /* estimate: weight JSON file evaluated in process; "" unset */
        const char *estimate_energy_source; /* "rapl-sysfs" or "acpi" */
};

struct power_source_ops {
        const char *name; /* "rapl", "acpi", "estimate" */
        /* -ENOENT: no such sensor here (normal on most machines); -EACCES and others: there, but refused. */
        int (*open)(const struct power_source_options *options, struct power_source **ret, struct err *e);
        /* Fill at most SENSORS_MAX readings; returns how many, or a negative errno when the source as a whole
         * cannot be read (counted and retried at the next tick). The first read sets the base: nothing valid. */
        int (*read)(struct power_source *source, const struct power_context *context,
                    struct power_reading *ret, struct err *e);
        void (*close)(struct power_source *source);
};
extern const struct power_source_ops power_source_rapl;     /* rapl.c */
extern const struct power_source_ops power_source_acpi;     /* acpi.c */
extern const struct power_source_ops power_source_estimate; /* estimate.c */

/* measured when `path` is on a real sysfs, simulated when it is a plain directory tree. */
enum provenance power_path_provenance(const char *path);
