/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/meter.h"

#include <stdio.h>

#include "common/clock.h"

bool meter_energy(struct meter *m, double uw, uint64_t average_ns, uint64_t duration_ns, double *ret_uj)
{
        uint64_t averaged_ns = average_ns < duration_ns ? average_ns : duration_ns;
        double averaged = (double)averaged_ns / (double)NS_PER_S;
        double before = (double)(duration_ns - averaged_ns) / (double)NS_PER_S;
        bool based = m->based && duration_ns > 0;

        if (based)
                *ret_uj = uw * averaged + (m->last_uw + uw) / 2 * before;
        m->last_uw = uw;
        m->based = true;
        return based;
}

void meter_miss(struct meter *m)
{
        m->based = false;
}

void meter_platform(struct meter *meter, const char *source, const char *unit, int error, double watts,
                    uint64_t duration_ns, struct power_reading *ret)
{
        (void)snprintf(ret->source, sizeof(ret->source), "%s", source);
        (void)snprintf(ret->component, sizeof(ret->component), "platform");
        (void)snprintf(ret->unit, sizeof(ret->unit), "%s", unit);
        ret->idle_uj = -1;
        ret->error = error;
        if (error < 0) {
                meter_miss(meter);
                return;
        }
        ret->valid = meter_energy(meter, watts * 1e6, 0, duration_ns, &ret->energy_uj);
        ret->covered_ns = ret->valid ? duration_ns : 0;
}
