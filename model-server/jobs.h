/* SPDX-License-Identifier: Apache-2.0 */
/* Many independent computations on all processors, with a progress bar when standard error is a terminal. */
#pragma once

#include <stddef.h>
#include "common/err.h"

/* Runs fn(arg, i) for each i below n, each on one of `threads` threads (0: as many as processors), in any
 * order. `cost`: what each takes, for the estimate of the time left; NULL: the same. The first error ends it
 * and is returned. */
int jobs_run(const char *what, size_t n, const double *cost, int threads,
             int (*fn)(void *arg, size_t i, struct err *e), void *arg, struct err *e);
