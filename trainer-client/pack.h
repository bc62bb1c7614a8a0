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
        bool is_container; /* others are not sent and have no rows here */
        bool seen_before;  /* has a row in this epoch that is older than the batch's first row here */
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

/* One series of a batch. A sample's value is total / 10^decimals. Labels are sorted by name; `metric` is the
 * label set as a JSON object. Valid during the call that gets it. */
#define PACK_LABELS_MAX   16
#define PACK_DECIMALS_MAX 9
struct pack_label {
        const char *name, *value;
};
struct pack_sample {
        int64_t ts_ms, total;
};
struct pack_series {
        const struct pack_label *labels;
        size_t n_labels;
        const char *metric;
        size_t metric_size;
        const struct pack_sample *samples; /* by time, at least one */
        size_t n_samples;
        int decimals;
};
typedef int (*pack_emit_fn)(void *userdata, const struct pack_series *series);

/* Give out the series one by one, sorted by metric; a negative result of `emit` ends that. ret_samples: how
 * many samples there were. -ENOMEM, or what emit returned. */
int pack_each(const struct pack_batch *batch, pack_emit_fn emit, void *userdata, size_t *ret_samples,
              struct err *e);

/* An emit function: append the series as a line of contract 2 to the struct buf that userdata is. */
int pack_append_line(void *userdata, const struct pack_series *series);

/* Append the lines of contract 2. -ENOMEM, -EFBIG (out->max). */
int pack_lines(const struct pack_batch *batch, struct buf *out, size_t *ret_samples, struct err *e);

/* total / 10^decimals in its shortest exact form; returns the length. */
#define PACK_NUMBER_MAX 32
size_t pack_format(char ret[PACK_NUMBER_MAX], int64_t total, int decimals);
/* The double that this text reads back as. */
double pack_value(int64_t total, int decimals);
