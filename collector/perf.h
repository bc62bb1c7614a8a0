/* SPDX-License-Identifier: Apache-2.0 */
/* Hardware counters through perf: one event per counter and CPU, counting whatever runs there. The BPF
 * program at the context switch reads them and charges processes (bpf.c); here they are opened, and read for
 * what is running just now. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "bpf/features.h"
#include "common/err.h"

/* What to count. Software events stand in for the processor's where it has none, to try everything else: what
 * they count is another thing, and is recorded as such. */
enum counters_choice { COUNTERS_AUTO, COUNTERS_OFF, COUNTERS_SOFTWARE };
enum definition { DEFINITION_EXACT, DEFINITION_KEPLER_07, DEFINITION_SOFTWARE };
extern const char *const definition_names[]; /* "exact", "kepler-0.7", "software"; NULL-terminated */

#define COUNTERS_TEXT_MAX 128

struct counters;

/* In the order of FEATURE_CPU_CYCLES and the following. kepler-0.7 is exact but for cache misses, where that
 * version counts dTLB read accesses. -ENOENT: the machine has none; -EACCES: not allowed. A single counter
 * that the machine lacks is left out. */
int counters_open(const char *sysfs_root, enum definition definition, struct counters **ret, struct err *e);
void counters_close(struct counters *c);
CLEANUP_DEFINE(struct counters *, counters_close);

bool counters_has(const struct counters *c, unsigned counter);
/* "cpu_cycles=cycles cpu_instructions=instructions cache_miss=cache-misses" */
const char *counters_text(const struct counters *c);
/* -1: none there. */
int counters_fd(const struct counters *c, unsigned counter, unsigned cpu);

/* What the counters of a CPU show, those that are not there 0, and for how long they have been on and have
 * counted. False: none there. */
struct counters_value {
        uint64_t counter[COUNTERS_N];
        uint64_t enabled_ns, running_ns;
};
bool counters_read(const struct counters *c, unsigned cpu, struct counters_value *ret);
/* CPUs have come or gone: open them anew. */
bool counters_stale(const struct counters *c);
