/* SPDX-License-Identifier: Apache-2.0 */
/* A cumulative energy counter that wraps, may be reset, and cannot always be read: what its readings mean,
 * and the energy that they add up to. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Nothing that one counter counts draws more. A counter that went down has wrapped when that implies less
 * than this, else it was reset; and in a gap long enough for a whole round at this power, rounds may be
 * missing. */
#define COUNTER_WATTS_MAX 2000.0

struct counter {
        double count_uj;     /* microjoules of one count */
        uint64_t modulus;    /* counts of a whole round; 0: not known */
        uint64_t last;       /* the last reading */
        bool based;          /* `last` is one */
        bool lost;           /* since the last take, some energy could not be known */
        uint64_t elapsed_ns; /* since `last` was read */
        double energy_uj;    /* since the last take */
        uint64_t covered_ns; /* the time of energy_uj */
};

enum counter_step {
        COUNTER_BASE, /* the first reading */
        COUNTER_GREW, /* or stood still */
        COUNTER_WRAPPED,
        COUNTER_RESET,
        COUNTER_LOST, /* whole rounds may be missing */
};

/* Time has passed, whether the counter can be read or not. */
void counter_pass(struct counter *counter, uint64_t ns);
/* What a reading means. */
enum counter_step counter_judge(const struct counter *counter, uint64_t now);
/* Accept a reading. A reset or lost step makes the energy since the last take unknown. */
void counter_advance(struct counter *counter, uint64_t now, enum counter_step step);
/* The energy since the last take, and the time that it covers; false when it is not known. */
bool counter_take(struct counter *counter, double *ret_uj, uint64_t *ret_ns);
