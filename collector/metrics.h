/* SPDX-License-Identifier: Apache-2.0 */
/* What the window holds as Prometheus text, with Kepler's metric names and labels. Pure. */
#pragma once

#include "collector/window.h"
#include "common/buf.h"
#include "schema/machine.h"

#define METRICS_TEXT_MAX ((size_t)64 << 20)

/* What the collector says about itself. */
struct collector_stats {
        const char *feature_source;
        uint64_t ticks;
        uint64_t missed_ticks;
        uint64_t feature_errors; /* samples without features */
        uint64_t power_errors;   /* reads of a whole power source that failed */
        uint64_t store_errors;   /* intervals that could not be stored at once */
        uint64_t dropped_events;
        uint64_t tick_ns; /* the last tick's work */
};

/* Failure (out of memory, too large) is sticky in `out`. */
void metrics_write(const struct window *window, const struct machine *machine,
                   const struct collector_stats *stats, struct buf *out);
