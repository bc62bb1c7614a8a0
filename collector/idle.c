/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/idle.h"

#include <math.h>

#define FIT_MIN   30   /* values before an intercept is told */
#define FIT_ERROR 0.05 /* its standard error, as a part of the mean power, may be this at most */

void idle_init(struct idle *idle, double min_watts)
{
        *idle = (struct idle){ .minima[0] = min_watts };
        for (int i = 1; i < IDLE_BUCKETS; i++)
                idle->minima[i] = NAN;
}

/* Time passes: the oldest buckets make room. */
static void slide(struct idle *idle, uint64_t duration_ns, uint64_t window_ns)
{
        uint64_t width_ns = window_ns / IDLE_BUCKETS ? window_ns / IDLE_BUCKETS : 1;

        idle->bucket_ns += duration_ns;
        for (int i = 0; i < IDLE_BUCKETS && idle->bucket_ns > width_ns; i++) {
                idle->bucket_ns -= width_ns;
                idle->bucket = (idle->bucket + 1) % IDLE_BUCKETS;
                idle->minima[idle->bucket] = NAN;
        }
        if (idle->bucket_ns > width_ns) /* longer than the window */
                idle->bucket_ns = 0;
}

static void fit(struct idle *idle, double x, double y, double kept)
{
        double dx, dy;

        idle->weight = idle->weight * kept + 1;
        idle->xx *= kept;
        idle->xy *= kept;
        idle->yy *= kept;
        dx = x - idle->mean_x;
        dy = y - idle->mean_y;
        idle->mean_x += dx / idle->weight;
        idle->mean_y += dy / idle->weight;
        idle->xx += dx * (x - idle->mean_x);
        idle->xy += dx * (y - idle->mean_y);
        idle->yy += dy * (y - idle->mean_y);
        idle->n++;
}

void idle_fold(struct idle *idle, double watts, double cpus, uint64_t duration_ns, uint64_t window_ns)
{
        slide(idle, duration_ns, window_ns);
        idle->minima[idle->bucket] =
                fmin(idle->minima[idle->bucket], watts); /* of NaN and a number: the number */
        if (!isnan(cpus))
                fit(idle, cpus, watts, exp(-(double)duration_ns / (double)window_ns));
}

double idle_minimum(const struct idle *idle)
{
        double watts = NAN;

        for (int i = 0; i < IDLE_BUCKETS; i++)
                watts = fmin(watts, idle->minima[i]);
        return watts;
}

/* Intercept and its standard error as in any text on simple linear regression, with weights for counts. */
double idle_intercept(const struct idle *idle)
{
        double slope, residual, error;

        if (idle->n < FIT_MIN || !(idle->xx > 0) || idle->weight <= 2)
                return NAN;
        slope = idle->xy / idle->xx;
        residual = fmax(idle->yy - slope * idle->xy, 0) / (idle->weight - 2);
        error = sqrt(residual * (1 / idle->weight + idle->mean_x * idle->mean_x / idle->xx));
        if (!(error <= FIT_ERROR * idle->mean_y))
                return NAN;
        return fmax(idle->mean_y - slope * idle->mean_x, 0);
}
