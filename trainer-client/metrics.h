/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics of a push in the Prometheus text format, for a textfile collector: metrics.textfile is replaced by
 * rename. */
#pragma once

#include "trainer-client/destination.h"
#include "trainer-client/store.h"

/* Of one destination, since the program began. */
struct metrics {
        int64_t batches, samples, bytes, plain_bytes, attempts, failed_rounds, lost;
        int64_t removed_unsent;              /* of the database: by retention, all in all */
        const struct store_backlog *backlog; /* as the round began */
};

/* Take up the destination's state, and write the file: at most every few seconds unless `now`. Failure is
 * logged. */
void metrics_write(const struct options *o, const struct destination *d, const struct cursor *c,
                   const struct metrics *m, bool now);
