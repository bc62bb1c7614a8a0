/* SPDX-License-Identifier: Apache-2.0 */
/* What a sensor would show at rest, by two rules: the lowest power within a sliding window, and the intercept
 * of a regression of power over the node's CPU usage, whose memory fades with the same window. Pure. */
#pragma once

#include <stdint.h>

#define IDLE_BUCKETS 32 /* the window slides by a 32nd part of itself */

struct idle {
        double minima[IDLE_BUCKETS]; /* watts, by part of the window; NaN: none */
        int bucket;                  /* the one being filled */
        uint64_t bucket_ns;          /* how much of it has passed */
        /* weighted moments around the means (Welford's, with fading weights): x is CPUs busy, y watts */
        double weight, mean_x, mean_y, xx, xy, yy;
        uint64_t n; /* values in the regression */
};

/* min_watts: a minimum known from before, or NaN. */
void idle_init(struct idle *idle, double min_watts);
/* cpus: CPU seconds per second of the whole node; NaN when not known: nothing for the regression then. */
void idle_fold(struct idle *idle, double watts, double cpus, uint64_t duration_ns, uint64_t window_ns);
double idle_minimum(const struct idle *idle); /* NaN: not known */
/* NaN while its standard error is above a twentieth of the mean power: too few values, or usage too even. */
double idle_intercept(const struct idle *idle);
