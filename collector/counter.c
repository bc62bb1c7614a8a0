/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/counter.h"

#include "common/clock.h"

void counter_pass(struct counter *c, uint64_t ns)
{
        c->elapsed_ns += ns;
}

enum counter_step counter_judge(const struct counter *c, uint64_t now)
{
        double seconds = (double)c->elapsed_ns / (double)NS_PER_S, joules;

        if (!c->based)
                return COUNTER_BASE;
        if (c->modulus && seconds * COUNTER_WATTS_MAX > (double)c->modulus * c->count_uj / 1e6)
                return COUNTER_LOST;
        if (now >= c->last)
                return COUNTER_GREW;
        if (c->last > c->modulus)
                return COUNTER_RESET; /* the modulus is unknown or wrong */
        joules = ((double)(c->modulus - c->last) + (double)now) * c->count_uj / 1e6;
        return seconds > 0 && joules / seconds <= COUNTER_WATTS_MAX ? COUNTER_WRAPPED : COUNTER_RESET;
}

void counter_advance(struct counter *c, uint64_t now, enum counter_step step)
{
        if (step == COUNTER_GREW || step == COUNTER_WRAPPED) {
                uint64_t counts = step == COUNTER_GREW ? now - c->last : c->modulus - c->last + now;

                c->energy_uj += (double)counts * c->count_uj;
                c->covered_ns += c->elapsed_ns;
        } else if (step != COUNTER_BASE || c->elapsed_ns > 0) {
                c->lost = true; /* a counter that appears in the middle of an interval does not tell all of it
                                 */
        }
        c->last = now;
        c->based = true;
        c->elapsed_ns = 0;
}

bool counter_take(struct counter *c, double *ret_uj, uint64_t *ret_ns)
{
        bool known = c->based && !c->lost && c->covered_ns > 0;

        if (known) {
                *ret_uj = c->energy_uj;
                *ret_ns = c->covered_ns;
        }
        c->energy_uj = 0;
        c->covered_ns = 0;
        c->lost = false;
        return known;
}
