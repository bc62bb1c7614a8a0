/* SPDX-License-Identifier: Apache-2.0 */
/* Folds samples into what is recorded: totals since the epoch began, per entity and per sensor; the idle part
 * of each sensor's energy; and the split of the node's dynamic energy to entities. Pure: no clock, file or
 * log; what it must look up comes through callbacks. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "collector/features.h"
#include "collector/power.h"

#define WINDOW_ENTITIES_MAX 16384 /* kept in memory; what comes on top counts as system_processes */
#define ENTITY_KEY_MAX      80
/* An entity without activity for this long is no longer written; when it returns its total is looked up. */
#define ENTITY_FORGET_NS (UINT64_C(600) * 1000000000)

#define ENTITY_SYSTEM "system_processes"
#define ENTITY_KERNEL "kernel_processes"

/* Components that are split to entities. psys is not: it contains the others. */
enum split_component { SPLIT_PACKAGE, SPLIT_CORE, SPLIT_UNCORE, SPLIT_DRAM, SPLIT_PLATFORM, SPLIT_N };
extern const char *const split_names[SPLIT_N];

struct entity {
        char key[ENTITY_KEY_MAX]; /* container id, ENTITY_SYSTEM or ENTITY_KERNEL */
        char cgroup[256];         /* path when it was first seen */
        uint64_t total[FEATURE_N];
        uint64_t delta[FEATURE_N];       /* in the last sample */
        double energy_uj[SPLIT_N];       /* dynamic energy of the last sample */
        double energy_total_uj[SPLIT_N]; /* since the program started */
        uint64_t idle_ns;                /* time since it was last active */
        int64_t store_id;                /* the store's; 0 unknown */
};

struct sensor {
        struct power_reading reading; /* the last one; names the sensor */
        bool valid;                   /* read in the last sample */
        int64_t energy_uj, idle_uj;   /* totals, whole: so that their difference never shrinks */
        double watts, idle_watts;     /* of the last valid reading */
        double min_watts;             /* lowest power seen; NaN: none yet */
        int64_t store_id;
};

/* The split of one component's energy in the last sample. All of it goes somewhere: dynamic energy to
 * entities by their CPU time, idle energy and what has no owner to `unattributed`. */
struct split {
        int source; /* index of the first of the sensors it comes from; -1: component not read */
        double dynamic_uj, idle_uj; /* the node's */
        double unattributed_uj;
        double unattributed_total_uj;
};

struct window {
        struct entity **entities; /* owned, sorted by key */
        size_t n, cap;
        struct sensor sensors[SENSORS_MAX];
        size_t n_sensors;
        struct split split[SPLIT_N];
        bool measured[FEATURE_N];
        uint64_t total[FEATURE_N]; /* the node: the sum of all entities, the forgotten included */
        uint64_t delta[FEATURE_N];
        int64_t node_store_id;

        int64_t base_ms;          /* wall clock where the interval that is not stored yet begins */
        uint64_t pending_ns;      /* its duration up to the last sample */
        uint64_t measured_ns;     /* of the epoch, up to base_ms */
        int64_t start_ms, end_ms; /* of the interval as it would be stored now */
        uint64_t last_ns;         /* duration of the last sample */
        uint64_t overflowed;      /* activities counted as system_processes because the window was full */
};

/* Where the window learns what it cannot know. */
struct window_lookup {
        /* What a cgroup is; never NULL. */
        const struct cgroup_info *(*cgroup)(void *cgroup_context, uint64_t cgroup_id);
        void *cgroup_context;
        /* Totals of an entity or sensor that the window does not hold: 1 known, 0 new, or a negative errno
         * (it then counts from zero). NULL: all are new. */
        int (*restore_entity)(void *restore_context, const char *key, uint64_t ret_total[FEATURE_N]);
        /* ret_min_watts is NaN when not known. */
        int (*restore_sensor)(void *restore_context, const struct power_reading *sensor,
                              int64_t *ret_energy_uj, int64_t *ret_idle_uj, double *ret_min_watts);
        void *restore_context;
};

/* One reading of everything. */
struct sample {
        uint64_t duration_ns; /* since the sample before */
        int64_t wall_ms;
        const struct usage_set *usage;
        const bool *measured; /* [FEATURE_N] */
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
int window_restore_entity(struct window *window, const char *key, const char *cgroup,
                          const uint64_t total[FEATURE_N]);

/* -ENOMEM leaves totals consistent: what could not be told apart counts as system_processes. */
void window_fold(struct window *window, const struct sample *sample, const struct window_lookup *lookup);

/* What window_fold made was recorded: the next interval begins where this one ended. Forgets entities. */
void window_stored(struct window *window);

const struct entity *window_find(const struct window *window, const char *key);

/* Start and end of an interval that follows `base_ms`, took `duration_ns` and ended when the wall clock said
 * `wall_ms`. The end always grows: when the clock was set back, the duration decides; when it was set forward
 * (or the machine slept), the time it jumped is a gap before the interval. */
void window_stamp(int64_t base_ms, int64_t wall_ms, uint64_t duration_ns, int64_t *ret_start_ms,
                  int64_t *ret_end_ms);
