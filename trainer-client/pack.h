/* SPDX-License-Identifier: Apache-2.0 */
/* Recorded intervals become a batch: JSON lines, one per series (docs/contracts.md, 2). Pure: the same
 * intervals give the same bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"
#include "schema/machine.h"
#include "schema/vocabulary.h"

struct pack_node {
        char *epoch, *boot_id, *node_id, *node_name; /* owned, as all strings here */
        struct machine_spec spec;
        char cpu_architecture[MACHINE_TEXT_MAX]; /* "" unknown */
};

struct pack_interval {
        int64_t id;
        int64_t start_ms, end_ms;
        int64_t duration_ns, measured_ns;
        char *feature_source, *definition;
};

struct pack_entity {
        int64_t id;
        char *key, *pod_name, *container_name, *container_namespace;
        bool seen_before; /* has a row in this epoch that is older than the batch's first row here */
};

struct pack_sensor {
        int64_t id;
        char *source, *component, *unit;
        enum provenance provenance;
};

/* Totals at the end of intervals[interval]. */
struct pack_usage {
        size_t interval, entity;
        int64_t value[FEATURE_N];
        bool has[FEATURE_N]; /* false: cannot be measured */
};

struct pack_power {
        size_t interval, sensor;
        int64_t energy_uj, idle_uj;
};

/* A range of intervals of one epoch. With has_previous, intervals[0] is the one before the range: its rows
 * tell where the range's counters stood, but it is not sent. Rows are ordered by interval. */
struct pack_batch {
        struct pack_node node;
        struct pack_interval *intervals;
        struct pack_entity *entities;
        struct pack_sensor *sensors;
        struct pack_usage *usage;
        struct pack_power *power;
        size_t n_intervals, n_entities, n_sensors, n_usage, n_power;
        bool has_previous;
};

struct pack_batch *pack_batch_new(void); /* empty; NULL out of memory */
void pack_batch_free(struct pack_batch *batch);
CLEANUP_DEFINE(struct pack_batch *, pack_batch_free);

/* The range that is sent, without the previous interval. */
size_t pack_batch_first(const struct pack_batch *batch); /* index into intervals */
size_t pack_batch_size(const struct pack_batch *batch);  /* intervals */

/* Append the lines. ret_samples: how many samples they hold. -ENOMEM, -EFBIG (out->max). */
int pack_lines(const struct pack_batch *batch, struct buf *out, size_t *ret_samples, struct err *e);
