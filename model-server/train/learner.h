/* SPDX-License-Identifier: Apache-2.0 */
/* Online least squares for one component: watts = bias + sum of weight * x / scale. Pure: rows in, weights
 * out.
 *
 * State is the triangular factor R of the matrix [1 | X | y] of all rows seen, brought up to date per row by
 * Givens rotations (Golub and Van Loan, Matrix Computations, 4th ed., 6.5.3: appending a row). The normal
 * equations X'X are never formed, so features of size 1e10 beside the constant 1 cost no digits, and memory
 * does not grow with the rows. The first row of R belongs to the constant; what is below it is the factor of
 * the *centred* data. That block is solved with columns scaled to length 1 and pivoted (LAPACK dgeqp3): a
 * column that never varied, or that is a combination of the others to 1 part in 1e7, gets weight 0.
 *
 * Each row is predicted before it is learned, once p + 2 rows were learned (prequential error, Dawid 1984).
 * Two means of |prediction - watts| are kept: over all rows scored, and over the last LEARNER_WINDOW of them.
 * The latter is what is published as `mae`: it forgets the first guesses and follows drift. */
#pragma once

#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"
#include "schema/vocabulary.h"

#define LEARNER_WINDOW      200
#define LEARNER_COLUMNS_MAX (GROUP_FEATURES_MAX + 2)

struct learner {
        int p; /* features */
        uint64_t rows;
        double r[LEARNER_COLUMNS_MAX][LEARNER_COLUMNS_MAX]; /* columns 1, x_1 … x_p, y; upper triangle */
        double max_abs[GROUP_FEATURES_MAX];                 /* largest |x_j| seen */
        uint64_t scored;
        double error_sum;              /* over all scored rows */
        double errors[LEARNER_WINDOW]; /* |error| of the last ones, a ring: row i is at i % LEARNER_WINDOW */
        double truths[LEARNER_WINDOW]; /* their watts */
};

struct weights {
        int p;
        double bias;
        double weight[GROUP_FEATURES_MAX]; /* of x / scale */
        double scale[GROUP_FEATURES_MAX];  /* largest |x| seen; 1 where that is 0 */
};

void learner_init(struct learner *l, int p);

/* Score (when there are rows enough) and learn one row. All inputs must be finite: -EINVAL, nothing learned.
 */
int learner_learn(struct learner *l, const double *x, double y);
/* The same without the score: when errors are found otherwise. */
int learner_absorb(struct learner *l, const double *x, double y);

/* The least-squares weights of all rows so far; all 0 when there are none. */
void learner_solve(const struct learner *l, struct weights *ret);

/* As the estimators do, in the same order: clamped at 0. */
double weights_predict(const struct weights *w, const double *x);

/* Means over the scored rows; NaN when none was scored. mape: in percent, over positive truths; -1 without.
 */
double learner_mae(const struct learner *l);
double learner_mae_total(const struct learner *l);
double learner_mape(const struct learner *l);

/* A versioned blob, the same on every machine. */
int learner_write(const struct learner *l, struct buf *out);
/* -EPROTO: another version's; -EBADMSG: damaged, or of another number of features than p. */
int learner_read(const void *data, size_t size, int p, struct learner *ret, struct err *e);
