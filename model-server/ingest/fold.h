/* SPDX-License-Identifier: Apache-2.0 */
/* Folds cumulative samples of one node and epoch into rows. Pure.
 *
 * The time stamps of the measured-seconds series are the grid. For two neighbours a < b on it:
 *
 *   seconds  = measured(b) - measured(a);  a gap when below 95 % of b - a, or when b - a is too long
 *   rate(f)  = sum over containers (total_f(b) - total_f(a)) / seconds
 *   watts(c) = sum over packages and modes (joules_c(b) - joules_c(a)) / seconds
 *
 * A container without a sample at a or b has the total of its last one before; one that begins has its 0.
 * Energy is never carried: a component of which any unit has no sample at a or at b is left out of the row,
 * as is one of more than ROW_WATTS_MAX.
 */
#pragma once

#include <stddef.h>
#include "model-server/ingest/batch.h"

#define FOLD_INTERVAL_MAX_MS INT64_C(600000) /* a longer mean says little about any workload */
#define FOLD_MEASURED_MIN    0.95

struct fold_series {
        struct series_class class;
        char source[64];        /* energy: meters of different sources are never added up */
        struct sample *samples; /* sorted by time; the first may lie before the grid */
        size_t n;
};

struct fold_input {
        struct fold_series *series; /* owned */
        size_t n;
};
void fold_input_done(struct fold_input *in);

enum fold_verdict {
        FOLD_ROW,
        FOLD_GAP,        /* not measured throughout */
        FOLD_RESET,      /* a total went down, or up beyond belief */
        FOLD_INCOMPLETE, /* a container appears in mid-air: what came before is not here (yet) */
        FOLD_NO_POWER,   /* nothing to learn from */
        FOLD_NO_FEATURES,
        FOLD_VERDICTS
};
extern const char *const fold_verdict_names[FOLD_VERDICTS];

/* Called once per row: per interval one for each provenance that has power. */
typedef int (*fold_fn)(const struct row *row, void *arg, struct err *e);

/* Fold every interval of the grid that ends at or after from_ms. counts[FOLD_VERDICTS] is added to, once per
 * interval. node_type and definition of the rows are left empty. A negative result of fn ends it. */
int fold(const struct fold_input *in, int64_t from_ms, fold_fn fn, void *arg, uint64_t *counts,
         struct err *e);
