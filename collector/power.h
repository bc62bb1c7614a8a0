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
        bool valid; /* false: could not be read this time: a gap */
        int error;  /* not valid: why, a negative errno; 0: the first read, or a counter that was reset */
        double energy_uj;    /* since the last read */
        uint64_t covered_ns; /* the time energy_uj covers: longer than the interval when a counter could not
                                be read before and has caught up; 0: the interval */
        uint64_t stamp_ns;   /* counters: monotonic time of this read; 0: energy_uj is of the interval */
        double idle_uj;      /* part of energy_uj known to be idle; negative: not known, the window decides */
        char model[160];     /* estimated: "NAME ID"; else "" */
        char model_provenance[16]; /* what the model was trained on: "measured", "simulated"; "" not estimated
                                    */
};

/* What a model-based source needs: the node's features over the interval, as deltas. */
struct power_context {
        uint64_t duration_ns;       /* since the last read */
        const uint64_t *node_delta; /* [FEATURE_N] */
        const bool *measured;       /* [FEATURE_N]: false: NULL */
};

/* A sensor that is there but is not used, and why. */
#define POWER_NOTES_MAX 64
struct power_note {
        char source[SENSOR_TEXT_MAX], sensor[2 * SENSOR_TEXT_MAX], why[160];
};
struct power_notes {
        struct power_note items[POWER_NOTES_MAX];
        size_t n;
};
/* `notes` may be NULL; what is over the limit is left out. */
void power_note(struct power_notes *notes, const char *source, const char *sensor, const char *fmt, ...)
        PRINTF(4, 5);

struct redfish_options {
        const char *url;                   /* "" or NULL: no Redfish */
        const char *credentials, *ca_file; /* "" none */
        bool verify_tls;
        long long interval_ms;
        const char *helper; /* NULL: beside this program */
};

struct power_source;
struct power_source_options {
        struct power_notes *notes; /* for open() to fill; may be NULL */
        const char *sysfs_root;
        const char *procfs_root;
        const char *msr_root;         /* "/dev/cpu" */
        const char *ipmi_device;      /* "/dev/ipmi0" */
        const char *const *hwmon_use; /* "NAME[:LABEL]=COMPONENT" */
        size_t n_hwmon_use;
        struct redfish_options redfish;
        const char *estimator_socket;       /* estimate: unix socket; "" unset */
        const char *estimate_weight;        /* estimate: weight JSON file evaluated in process; "" unset */
        const char *estimate_energy_source; /* "rapl-sysfs" or "acpi" */
};

struct power_source_ops {
        const char *name; /* "rapl", "acpi", "estimate" */
        /* "rapl", "platform" or NULL. Sources of one group read the same thing in different ways: only the
         * first of the list that can be opened is used. */
        const char *group;
        bool counts; /* reads counters: what they show goes on between the features' stamp and the read */
        /* -ENOENT: no such sensor here (normal on most machines); -EACCES and others: there, but refused. */
        int (*open)(const struct power_source_options *options, struct power_source **ret, struct err *e);
        /* Fill at most SENSORS_MAX readings; returns how many, or a negative errno when the source as a whole
         * cannot be read (counted and retried at the next tick). The first read sets the base: nothing valid.
         */
        int (*read)(struct power_source *source, const struct power_context *context,
                    struct power_reading *ret, struct err *e);
        void (*close)(struct power_source *source);
        /* Called between two reads that are more than POWER_GUARD_MS apart, with the time since the last poll
         * or read: a look at counters that could wrap unseen. NULL: not needed. */
        void (*poll)(struct power_source *source, uint64_t ns);
};
#define POWER_GUARD_MS 10000
extern const struct power_source_ops power_source_rapl;      /* rapl.c */
extern const struct power_source_ops power_source_rapl_perf; /* rapl_perf.c */
extern const struct power_source_ops power_source_rapl_msr;  /* rapl_msr.c */
extern const struct power_source_ops power_source_acpi;      /* hwmon.c */
extern const struct power_source_ops power_source_hwmon;     /* hwmon.c */
extern const struct power_source_ops power_source_ipmi;      /* ipmi.c */
extern const struct power_source_ops power_source_redfish;   /* redfish.c */
extern const struct power_source_ops power_source_estimate;  /* estimate.c */

/* Whether an entry of hwmon.use can be understood; -EINVAL with words. */
int hwmon_use_check(const char *use, struct err *e);

/* measured when `path` is on a real sysfs, simulated when it is a plain directory tree. */
enum provenance power_path_provenance(const char *path);

/* power.c: the sources that a machine has. */
#define POWER_SOURCES_MAX 12
struct power_state {
        const struct power_source_ops *ops;
        struct power_source *source; /* NULL: not opened */
        int result;                  /* of opening; -ENOENT: no such sensor here */
        struct err error;            /* words for a negative result */
        uint64_t read_ns;            /* what the last read took */
        bool fallback;               /* not listed, but used because no listed source was found */
};
struct power_set {
        struct power_state states[POWER_SOURCES_MAX];
        struct power_notes notes;
        size_t n;
        uint64_t errors; /* reads of a whole source that failed */
};
const struct power_source_ops *power_source_find(const char *name);
const char *power_source_nth(size_t i); /* of the i-th of all sources; NULL behind the last */
/* Opens the named sources, in that order; what cannot be opened is told in its state. When none of them could
 * be opened and an estimator socket or a weight file is configured, `estimate` is opened though not listed.
 */
void power_open(const char *const *names, size_t n, const struct power_source_options *options,
                struct power_set *ret);
size_t power_usable(const struct power_set *set);
/* Reads all sources; returns how many readings. A source that fails as a whole is counted, and `e` has the
 * words of the last one that did. */
int power_read(struct power_set *set, const struct power_context *context,
               struct power_reading ret[SENSORS_MAX], int *ret_failed, struct err *e);
void power_poll(struct power_set *set, uint64_t ns);
void power_close(struct power_set *set);
