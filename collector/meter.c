/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/meter.h"

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
