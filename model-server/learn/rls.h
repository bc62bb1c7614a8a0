/* SPDX-License-Identifier: Apache-2.0 */
/* Recursive least squares with forgetting, for one power component over one feature group: kept as the upper
 * triangular R of a QR decomposition of the weighted rows [1 x | y] (Golub & Van Loan, Matrix Computations,
 * 6.5.3: Givens rotations), so nothing is ever squared or inverted. A row costs O(p²): R is scaled by the
 * root of the forgetting factor, the row is rotated in; the weights are a back substitution.
 *
 * A column whose diagonal is below RLS_DEPENDENT of its length never varied, or is a combination of those
 * before it: its weight is 0. So no prior is needed, and the weights do not depend on the features' units. */
#pragma once

#include <stdint.h>
#include "common/buf.h"
#include "model-server/train/learner.h"

#define RLS_DEPENDENT 1e-6

struct rls {
        int p; /* features */
        uint64_t rows;
        double r[LEARNER_COLUMNS_MAX][LEARNER_COLUMNS_MAX]; /* upper triangle */
        double max_abs[GROUP_FEATURES_MAX];                 /* largest |x_j| seen */
};

void rls_init(struct rls *rls, int p);
/* One row; `forgetting` in (0, 1] is what a row's weight is multiplied with at each later one. All inputs
 * must be finite: -EINVAL, nothing learned. */
int rls_learn(struct rls *rls, double forgetting, const double *x, double y);
void rls_solve(const struct rls *rls, struct weights *ret);

/* A versioned blob, the same on every machine. -EPROTO another version's; -EBADMSG damaged or of another p.
 */
int rls_write(const struct rls *rls, struct buf *out);
int rls_read(const void *data, size_t size, int p, struct rls *ret, struct err *e);
