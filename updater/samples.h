/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine did last, for the canary: the node's rows of the collector's database as models see them,
 * per-second rates in wire units. The only file of the updater with SQL. */
#pragma once

#include <stddef.h>
#include "common/err.h"
#include "schema/vocabulary.h"

#define SAMPLES_MAX 120 /* rows: the last ones */

struct samples {
        size_t n;
        double rate[SAMPLES_MAX][FEATURE_N];   /* oldest first; NAN: cannot be measured here */
        double before[SAMPLES_MAX][FEATURE_N]; /* the row before; NAN where there was a gap */
};

/* -ENOENT: no such file; errors of db_open(). */
int samples_read(const char *path, struct samples **ret, struct err *e);
void samples_free(struct samples *samples);
CLEANUP_DEFINE(struct samples *, samples_free);

/* A model's feature ("bpf_cpu_time_ms", "prev_bpf_cpu_time_ms") of a row; NAN: not known. */
double samples_value(const struct samples *samples, size_t row, const char *feature);
