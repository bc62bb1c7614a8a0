/* SPDX-License-Identifier: Apache-2.0 */
/* What the window holds as Prometheus text, with Kepler's metric names and labels. Pure. */
#pragma once

#include "collector/estimator_status.h"
#include "collector/kubelet.h"
#include "collector/overhead.h"
#include "collector/window.h"
#include "common/buf.h"
#include "schema/machine.h"

#define METRICS_TEXT_MAX ((size_t)64 << 20)

/* What the collector says about itself. */
struct collector_stats {
        const char *feature_source;
        const char *cpu_info; /* samples of kepler_node_cpu_info; NULL or "" none */
        uint64_t ticks;
        uint64_t missed_ticks;
        uint64_t feature_errors; /* samples without features */
        uint64_t power_errors;   /* reads of a whole power source that failed */
        uint64_t store_errors;   /* intervals that could not be stored at once */
        uint64_t dropped_events;
        uint64_t overflowed_deaths;      /* that went through the feature source's overflow table */
        uint64_t processes;              /* seen in the last tick */
        uint64_t late_ns, late_total_ns; /* how late the last tick began, and all of them together */
        uint64_t attribution_errors;     /* ticks whose parts did not add up to the node */
        uint64_t tick_ns;                /* the last tick's work, and its parts */
        uint64_t features_ns, power_ns, store_ns, publish_ns; /* publish: when it was asked for before */
        struct overhead overhead;
        const struct kubelet_stats *kubelet;     /* NULL: none configured */
        const struct estimator_stats *estimator; /* NULL: none configured */
};

enum metrics_style { METRICS_KEPLER_07, METRICS_KEPLER_010 };

/* Failure (out of memory, too large) is sticky in `out`. */
void metrics_write(const struct window *window, const struct machine *machine,
                   const struct collector_stats *stats, enum metrics_style style, struct buf *out);
