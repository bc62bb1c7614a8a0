/* SPDX-License-Identifier: Apache-2.0 */
/* From watts that a meter shows now and then to the joules of an interval. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "collector/power.h"

#define METER_WATTS_MAX 1e6 /* a reading above is nonsense */

struct meter {
        double last_uw;
        bool based; /* last_uw is the reading of the interval before */
};

/* A reading at the end of an interval, averaged by the meter over the `average_ns` before it (0: not
 * averaged). That part of the interval had just this power; what comes before it is a trapezoid from the
 * reading before. A meter that averages over more than the interval smears: its joules are right in the long
 * run only. Returns false, and starts anew, on the first reading. */
bool meter_energy(struct meter *meter, double uw, uint64_t average_ns, uint64_t duration_ns, double *ret_uj);
/* The meter could not be read: the next reading is a first one. */
void meter_miss(struct meter *meter);

/* The platform's only meter, asked for its present watts: `error` is 0, or why there was no answer (a gap).
 */
void meter_platform(struct meter *meter, const char *source, const char *unit, int error, double watts,
                    uint64_t duration_ns, struct power_reading *ret);
