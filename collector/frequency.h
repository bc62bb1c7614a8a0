/* SPDX-License-Identifier: Apache-2.0 */
/* How fast each CPU runs, and for how long the CPUs have run at which frequency. From perf's PMU msr where
 * the processor counts aperf and mperf (the mean over the interval while not idle), else from cpufreq (the
 * moment's). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"

struct frequency;

struct cpu_frequency {
        unsigned cpu;
        uint64_t hertz; /* 0: not known this time, as of a CPU that was idle or offline */
};
struct frequency_band {
        uint64_t hertz;
        uint64_t time_ns; /* that all CPUs together have spent at it */
};
struct frequency_reading {
        const struct cpu_frequency *cpus; /* borrowed until the next read */
        size_t n_cpus;
        const struct frequency_band *bands; /* since the read before */
        size_t n_bands;
};

/* -ENOENT: the machine tells neither; most virtual ones do not. */
int frequency_open(const char *sysfs_root, struct frequency **ret, struct err *e);
void frequency_close(struct frequency *f);
CLEANUP_DEFINE(struct frequency *, frequency_close);
/* `duration_ns` since the read before. A file that fails is a gap. */
void frequency_read(struct frequency *f, uint64_t duration_ns, struct frequency_reading *ret);
const char *frequency_source(const struct frequency *f); /* "aperf" or "cpufreq" */
bool frequency_has_bands(const struct frequency *f);

/* Mean frequency while not idle: the processor counts mperf at the rate of the time stamp counter and aperf
 * at its own, both only while not idle. Source: Intel SDM volume 3, "Hardware Coordination Feedback"; AMD's
 * the same. */
uint64_t frequency_of(uint64_t aperf, uint64_t mperf, uint64_t tsc, uint64_t duration_ns);
