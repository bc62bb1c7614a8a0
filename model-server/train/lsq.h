/* SPDX-License-Identifier: Apache-2.0 */
/* Least squares and what is made of it: least absolute deviations and Huber's loss by iterated reweighting,
 * weights that must not be negative. A design matrix is an array of columns of n values; the caller puts the
 * constant column 1 first and scales the others to about 1. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "common/err.h"

#define LSQ_COLUMNS_MAX 72

struct design {
        size_t n, p;
        const double *columns[LSQ_COLUMNS_MAX];
        const double *y;
};

enum loss {
        LOSS_SQUARED,
        LOSS_ABSOLUTE, /* IRLS, weights 1/max(|r|, eps), eps falling to 1e-7 of the mean |y| */
        LOSS_HUBER,    /* IRLS, weights min(1, delta/|r|) */
};

struct lsq_options {
        enum loss loss;
        double delta;     /* Huber's, in watts */
        bool nonnegative; /* all but the first column's weight (Lawson and Hanson's active set) */
};

/* Weights of the columns. A column that depends on the others to 1 part in 1e7 gets 0. -ENOMEM. */
int lsq_fit(const struct design *d, const struct lsq_options *options, double *ret, struct err *e);

/* The same for one slope and one level: y = ret[0] + ret[1] * f, least absolute deviations, beginning at
 * what is in ret. `residuals` has room for n. Returns the sum of |residuals|. */
double lsq_line(const double *f, const double *y, size_t n, int iterations, double *residuals, double ret[2]);
