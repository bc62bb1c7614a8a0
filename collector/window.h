/* SPDX-License-Identifier: Apache-2.0 */
/* Folds samples into what is recorded: totals since the epoch began, per entity and per sensor; the idle part
 * of each sensor's energy; and the split of the node's dynamic energy to entities. Pure: no clock, file or
 * log; what it must look up comes through callbacks. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "collector/cgroup_name.h"
#include "collector/features.h"
#include "collector/frequency.h"
#include "collector/idle.h"
#include "collector/power.h"

#define WINDOW_ENTITIES_MAX 16384 /* kept in memory; what comes on top counts as system_processes */
#define ENTITY_KEY_MAX      80
/* An entity without activity for this long is no longer written; when it returns its total is looked up. */
#define ENTITY_FORGET_NS (UINT64_C(600) * 1000000000)

#define IDLE_WINDOW_NS (UINT64_C(86400) * 1000000000) /* the default */
#define CLOCK_BACK_MS  INT64_C(60000)                 /* set back by more: a new epoch */

#define PROCESS_FORGET_NS (UINT64_C(60) * 1000000000)

#define ENTITY_SYSTEM "system_processes"
#define ENTITY_KERNEL "kernel_processes"
#define ENTITY_REST   "other_containers" /* in /metrics: those without series of their own */

/* Components that are split to entities. psys is not: it contains the others. */
enum split_component { SPLIT_PACKAGE, SPLIT_CORE, SPLIT_UNCORE, SPLIT_DRAM, SPLIT_PLATFORM, SPLIT_N };
extern const char *const split_names[SPLIT_N];

/* Containers (and the two that are none) add up to the node; virtual machines and processes are parts of
 * them. */
enum entity_kind { ENTITY_CONTAINER, ENTITY_VM, ENTITY_PROCESS, ENTITY_KINDS };
extern const char *const entity_kind_names[ENTITY_KINDS]; /* as in samples.db */

/* Who an entity is, where somebody knows. */
struct entity_names {
        char pod_id[64], pod_name[254], container_name[64], container_namespace[64]; /* "" not known */
};

struct entity {
        enum entity_kind kind;
        char key[ENTITY_KEY_MAX];     /* container id, ENTITY_SYSTEM or ENTITY_KERNEL; struct vm's key */
        struct entity_names *names;   /* owned; NULL: nothing known */
        char cgroup[CGROUP_PATH_MAX]; /* path when it was first seen */
        char pod_id[POD_ID_MAX];      /* from it; "" in no pod */
        char name[ENTITY_KEY_MAX];    /* of a virtual machine; the command of a process */
        char container[ENTITY_KEY_MAX], vm[ENTITY_KEY_MAX]; /* keys of what a process was in at first */
        const char *hypervisor;                             /* virtual machines only */
        bool shown;                                         /* has series of its own in /metrics */
        uint64_t total[FEATURE_N];
        uint64_t delta[FEATURE_N];       /* in the last sample */
        double energy_uj[SPLIT_N];       /* dynamic energy of the last sample */
        double energy_total_uj[SPLIT_N]; /* since the program started */
        double other_uj;                 /* of the platform beyond package and dram, since then */
        uint64_t idle_ns;                /* time since it was last active */
        int64_t store_id;                /* the store's; 0 unknown */
};

/* Which watts count as idle; known by both rules they are recorded. */
enum idle_rule { IDLE_MINIMUM, IDLE_REGRESSION };

/* A counter is read a moment after the features, at a stamp of its own. So that energy and usage are of the
 * same window, its total is taken back to the features' stamp by its power: energy_uj is raw_uj interpolated.
 */
struct sensor {
        struct power_reading reading;          /* the last one; names the sensor */
        bool valid;                            /* read in the last sample */
        int64_t energy_uj, idle_uj;            /* totals, whole: so that their difference never shrinks */
        int64_t raw_uj;                        /* total at the sensor's own stamp */
        uint64_t stamp_ns;                     /* that stamp; 0: none yet */
        int64_t lag_ns;                        /* how long after the features' it is */
        double interval_uj, interval_idle_uj;  /* of energy_uj and idle_uj, in the last sample */
        double watts, idle_watts;              /* of the last valid reading */
        double idle_min_watts, idle_fit_watts; /* idle by either rule; NaN: not known */
        struct idle idle;
        int64_t store_id;
};

/* What a sensor had reached before the window knew it. */
struct sensor_past {
        int64_t energy_uj, idle_uj, raw_uj;
        double idle_min_watts; /* NaN: not known */
};

/* The split of one component's energy in the last sample. All of it goes somewhere: dynamic energy to
 * entities by a rule, idle energy and what has no owner to `unattributed`. */
enum attribution_rule { ATTRIBUTION_RATIO, ATTRIBUTION_MODEL };
struct split {
        int source; /* index of the first of the sensors it comes from; -1: component not read */
        enum attribution_rule rule;
        enum feature_id feature;                  /* ratio: whose shares */
        double node_uj, dynamic_uj, idle_uj;      /* the node's, and its parts */
        double ownerless_uj;                      /* dynamic, but nobody's */
        double idle_total_uj, ownerless_total_uj; /* since the program started */
};

struct attribution_model;
struct pod;

struct window {
        struct entity **entities; /* owned, sorted by kind and key */
        size_t n, cap;
        struct sensor sensors[SENSORS_MAX];
        size_t n_sensors;
        struct split split[SPLIT_N];
        bool measured[FEATURE_N];
        struct frequency_reading frequency; /* of the last sample: borrowed from its source */
        struct frequency_band *bands;       /* owned: totals since the epoch began */
        size_t n_bands;
        char counters[COUNTERS_TEXT_MAX];
        double counters_running;   /* in the last sample; NaN: none */
        uint64_t total[FEATURE_N]; /* the node: the sum of all entities, the forgotten included */
        uint64_t delta[FEATURE_N];
        int64_t node_store_id;
        double other_uj, other_idle_uj; /* as an entity's other_uj: the node's dynamic and idle part */
        struct pod *pods;               /* owned, sorted by id */
        size_t n_pods;
        struct entity rest; /* the sum of the containers that are not shown */
        size_t n_shown, n_hidden;

        int64_t base_ms;          /* wall clock where the interval that is not stored yet begins */
        uint64_t pending_ns;      /* its duration up to the last sample */
        uint64_t measured_ns;     /* of the epoch, up to base_ms */
        int64_t start_ms, end_ms; /* of the interval as it would be stored now */
        uint64_t last_ns;         /* duration of the last sample */
        uint64_t idle_window_ns;  /* set by the owner after window_new(), which gives the defaults */
        enum idle_rule idle_rule;
        size_t shown_max;                      /* entities with series of their own; 0: all */
        size_t processes_max, n_processes;     /* processes with series of their own: at most, and now */
        const struct attribution_model *model; /* borrowed; NULL: the rule is `ratio` */
        uint64_t overflowed; /* activities counted as system_processes because the window was full */
};

/* Where the window learns what it cannot know. */
struct window_lookup {
        /* What a cgroup is; never NULL. */
        const struct cgroup_info *(*cgroup)(void *cgroup_context, uint64_t cgroup_id);
        /* The name of a process's command; "" when it is gone. NULL: not known. */
        void (*command)(void *cgroup_context, uint32_t tgid, char ret[16]);
        /* What a virtual machine is; NULL when it is not known any more. May be NULL. */
        const struct vm *(*vm)(void *cgroup_context, uint64_t id);
        void *cgroup_context;
        /* Totals of an entity or sensor that the window does not hold: 1 known, 0 new, or a negative errno
         * (it then counts from zero). NULL: all are new. */
        int (*restore_entity)(void *restore_context, enum entity_kind kind, const char *key,
                              uint64_t ret_total[FEATURE_N]);
        int (*restore_sensor)(void *restore_context, const struct power_reading *sensor,
                              struct sensor_past *ret);
        void *restore_context;
};

/* One reading of everything. */
struct sample {
        uint64_t duration_ns; /* since the sample before */
        uint64_t stamp_ns;    /* monotonic, when the features were read */
        int64_t wall_ms;
        const struct usage_set *usage;
        struct frequency_reading frequency;
        const char *counters;    /* what the hardware counters are; "" or NULL: none */
        double counters_running; /* the part of the time in which they counted; NaN: none */
        const bool *measured;    /* [FEATURE_N] */
        const struct power_reading *readings;
        size_t n_readings;
};

int window_new(struct window **ret);
void window_free(struct window *window);
CLEANUP_DEFINE(struct window *, window_free);

/* Recording begins (again) at `wall_ms`: what lies between the last stored interval and this is a gap. */
void window_start(struct window *window, int64_t wall_ms);
/* Totals restart: a new epoch. */
void window_reset(struct window *window);

/* Put an entity with its total into the window. -ENOMEM; -ENOSPC when full. */
int window_restore_entity(struct window *window, enum entity_kind kind, const char *key, const char *cgroup,
                          const uint64_t total[FEATURE_N]);

/* The wall clock was set back by so much that the stamps of this sample would be ahead of it for long: time
 * for a new epoch, whose stamps may begin where the clock is. Not while something waits to be stored. */
bool window_clock_went_back(const struct window *window, const struct sample *sample);

/* Put a frequency's total into the window. -ENOMEM. */
int window_restore_band(struct window *window, uint64_t hertz, uint64_t time_ns);

/* -ENOMEM leaves totals consistent: what could not be told apart counts as system_processes. */
void window_fold(struct window *window, const struct sample *sample, const struct window_lookup *lookup);

/* What window_fold made was recorded: the next interval begins where this one ended. Forgets entities. */
void window_stored(struct window *window);

/* A container. */
const struct entity *window_find(const struct window *window, const char *key);

/* Start and end of an interval that follows `base_ms`, took `duration_ns` and ended when the wall clock said
 * `wall_ms`. The end always grows: when the clock was set back, the duration decides; when it was set forward
 * (or the machine slept), the time it jumped is a gap before the interval. */
void window_stamp(int64_t base_ms, int64_t wall_ms, uint64_t duration_ns, int64_t *ret_start_ms,
                  int64_t *ret_end_ms);
