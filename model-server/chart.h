/* SPDX-License-Identifier: Apache-2.0 */
/* Charts as SVG files of their own; no style sheet, no script. */
#pragma once

#include <stdbool.h>
#include "common/buf.h"

struct chart_bar {
        const char *label; /* under the group of bars */
        double values[4];  /* NaN: no bar */
};

/* Groups of bars, up to four in each, whose meanings the legend tells. */
void chart_bars(struct buf *out, const char *title, const char *unit, const char *const legend[4],
                const struct chart_bar *bars, size_t n);

/* Estimates against measurements, and the line where they are equal. */
void chart_scatter(struct buf *out, const char *title, const double *measured, const double *estimated,
                   size_t n);

/* Measured and estimated in the order of time. */
void chart_time(struct buf *out, const char *title, const double *measured, const double *estimated,
                size_t n);
