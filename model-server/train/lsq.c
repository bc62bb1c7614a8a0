/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/train/lsq.h"

#include <assert.h>
#include <errno.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "common/cleanup.h"

#define DEPENDENT      1e-7
#define ROUNDS_MAX     120
#define EPSILON_LEAST  1e-7 /* of the mean |y|: below it a residual counts as 0 */
#define CONVERGED      1e-10
#define LINE_CONVERGED 1e-7

struct gram {
        size_t p;
        double a[LSQ_COLUMNS_MAX * LSQ_COLUMNS_MAX]; /* column-major, both triangles */
        double b[LSQ_COLUMNS_MAX];
};

/* Four sums, so that an addition need not wait for the one before. */
static double dot(const double *a, const double *b, size_t n)
{
        double s[4] = { 0 };
        size_t i = 0;

        for (; i + 4 <= n; i += 4)
                for (size_t k = 0; k < 4; k++)
                        s[k] += a[i + k] * b[i + k];
        for (; i < n; i++)
                s[0] += a[i] * b[i];
        return (s[0] + s[1]) + (s[2] + s[3]);
}

static void make_gram(const struct design *d, const double *w, double *weighted, struct gram *g)
{
        g->p = d->p;
        for (size_t i = 0; i < d->p; i++) {
                for (size_t k = 0; k < d->n; k++)
                        weighted[k] = w[k] * d->columns[i][k];
                for (size_t j = 0; j <= i; j++)
                        g->a[i * d->p + j] = g->a[j * d->p + i] = dot(weighted, d->columns[j], d->n);
                g->b[i] = dot(weighted, d->y, d->n);
        }
}

/* Solve for the columns in `set` only; the others get 0. Cholesky with pivoting, of the matrix with its
 * diagonal scaled to 1, ends where the rest depends on what came before. */
static void solve_set(const struct gram *g, const bool *set, double *ret)
{
        double a[LSQ_COLUMNS_MAX * LSQ_COLUMNS_MAX], b[LSQ_COLUMNS_MAX], scale[LSQ_COLUMNS_MAX];
        lapack_int pivot[LSQ_COLUMNS_MAX] = { 0 }, rank = 0;
        size_t index[LSQ_COLUMNS_MAX], m = 0;

        memset(ret, 0, g->p * sizeof(*ret));
        for (size_t i = 0; i < g->p; i++)
                if (set[i] && g->a[i * g->p + i] > 0)
                        index[m++] = i;
        if (m == 0)
                return;
        for (size_t i = 0; i < m; i++)
                scale[i] = 1 / sqrt(g->a[index[i] * g->p + index[i]]);
        for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < m; j++)
                        a[i * m + j] = g->a[index[i] * g->p + index[j]] * scale[i] * scale[j];
        (void)LAPACKE_dpstrf(LAPACK_COL_MAJOR, 'U', (lapack_int)m, a, (lapack_int)m, pivot, &rank,
                             DEPENDENT * DEPENDENT); /* says that it is singular: that is what rank is for */
        if (rank < 1)
                return;
        for (lapack_int i = 0; i < rank; i++)
                b[i] = g->b[index[pivot[i] - 1]] * scale[pivot[i] - 1];
        if (LAPACKE_dpotrs(LAPACK_COL_MAJOR, 'U', rank, 1, a, (lapack_int)m, b, (lapack_int)m))
                return;
        for (lapack_int i = 0; i < rank; i++)
                ret[index[pivot[i] - 1]] = b[i] * scale[pivot[i] - 1];
}

static void solve_all(const struct gram *g, double *ret)
{
        bool set[LSQ_COLUMNS_MAX];

        memset(set, true, sizeof(set));
        solve_set(g, set, ret);
}

/* The column outside the set whose weight would help most when it grew; -1 when none would. */
static int most_wanted(const struct gram *g, const bool *set, const double *x)
{
        double best = 0;
        int found = -1;

        for (size_t i = 1; i < g->p; i++) {
                double slope = g->b[i] - dot(&g->a[i * g->p], x, g->p), size = sqrt(g->a[i * g->p + i]);

                if (!set[i] && size > 0 && slope / size > best && slope > 1e-9 * fabs(g->b[i])) {
                        best = slope / size;
                        found = (int)i;
                }
        }
        return found;
}

/* From x, which is feasible, towards `wanted` until the first weight would be negative; that one leaves. */
static bool step_to(size_t p, bool *set, double *x, const double *wanted)
{
        double step = 1;

        for (size_t i = 1; i < p; i++)
                if (set[i] && wanted[i] <= 0)
                        step = fmin(step, x[i] / (x[i] - wanted[i] + 1e-300));
        for (size_t i = 0; i < p; i++)
                x[i] += step * (wanted[i] - x[i]);
        for (size_t i = 1; step < 1 && i < p; i++)
                if (set[i] && x[i] <= 1e-14) {
                        set[i] = false;
                        x[i] = 0;
                }
        return step < 1;
}

/* Lawson and Hanson, Solving Least Squares Problems, chapter 23, on the normal equations. */
static void solve_nonnegative(const struct gram *g, double *x)
{
        bool set[LSQ_COLUMNS_MAX] = { true };
        double wanted[LSQ_COLUMNS_MAX];

        solve_set(g, set, x);
        for (size_t round = 0; round < 3 * g->p; round++) {
                int in = most_wanted(g, set, x);

                if (in < 0)
                        return;
                set[in] = true;
                do
                        solve_set(g, set, wanted);
                while (step_to(g->p, set, x, wanted));
        }
}

static void residuals_of(const struct design *d, const double *x, double *r)
{
        memcpy(r, d->y, d->n * sizeof(*r));
        for (size_t j = 0; j < d->p; j++)
                for (size_t i = 0; x[j] != 0 && i < d->n; i++)
                        r[i] -= x[j] * d->columns[j][i];
}

/* The weights of the next round, and what the loss is now. */
static double reweight(const struct lsq_options *o, const double *r, size_t n, double epsilon, double *w)
{
        double loss = 0;

        for (size_t i = 0; i < n; i++) {
                double size = fabs(r[i]);

                if (o->loss == LOSS_ABSOLUTE) {
                        w[i] = 1 / fmax(size, epsilon);
                        loss += size;
                } else {
                        w[i] = size <= o->delta ? 1 : o->delta / size;
                        loss += size <= o->delta ? size * size / 2 : o->delta * (size - o->delta / 2);
                }
        }
        return loss;
}

static double spread(const double *r, size_t n)
{
        double sum = 0;

        for (size_t i = 0; i < n; i++)
                sum += fabs(r[i]);
        return n > 0 ? sum / (double)n : 0;
}

/* QR with pivoting of the matrix itself: its digits are not squared away. */
static int fit_squares(const struct design *d, double *ret, struct err *e)
{
        size_t rows = d->n > d->p ? d->n : d->p;
        CLEANUP(freep) double *a = calloc(rows * d->p + 1, sizeof(*a));
        CLEANUP(freep) double *b = calloc(rows + 1, sizeof(*b));
        lapack_int pivot[LSQ_COLUMNS_MAX] = { 0 }, rank;
        double length[LSQ_COLUMNS_MAX];

        if (!a || !b)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t j = 0; j < d->p; j++) {
                length[j] = sqrt(dot(d->columns[j], d->columns[j], d->n));
                for (size_t i = 0; length[j] > 0 && i < d->n; i++)
                        a[j * rows + i] = d->columns[j][i] / length[j];
        }
        memcpy(b, d->y, d->n * sizeof(*b));
        if (LAPACKE_dgelsy(LAPACK_COL_MAJOR, (lapack_int)d->n, (lapack_int)d->p, 1, a, (lapack_int)rows, b,
                           (lapack_int)rows, pivot, DEPENDENT, &rank))
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t j = 0; j < d->p; j++)
                ret[j] = length[j] > 0 ? b[j] / length[j] : 0;
        return 0;
}

struct work {
        struct gram gram;
        double *r, *w, *weighted;
};

static void work_free(struct work *k)
{
        free(k->r);
        free(k->w);
        free(k->weighted);
        free(k);
}
CLEANUP_DEFINE(struct work *, work_free);

int lsq_fit(const struct design *d, const struct lsq_options *o, double *ret, struct err *e)
{
        CLEANUP(work_freep) struct work *k = calloc(1, sizeof(*k));
        double epsilon, least, before = INFINITY;

        assert(d->p > 0 && d->p <= LSQ_COLUMNS_MAX);
        if (o->loss == LOSS_SQUARED && !o->nonnegative)
                return fit_squares(d, ret, e);
        if (k) {
                k->r = calloc(d->n + 1, sizeof(double));
                k->w = calloc(d->n + 1, sizeof(double));
                k->weighted = calloc(d->n + 1, sizeof(double));
        }
        if (!k || !k->r || !k->w || !k->weighted)
                return err_set(e, -ENOMEM, "out of memory");

        for (size_t i = 0; i < d->n; i++)
                k->w[i] = 1;
        make_gram(d, k->w, k->weighted, &k->gram);
        (o->nonnegative ? solve_nonnegative : solve_all)(&k->gram, ret);
        if (o->loss == LOSS_SQUARED)
                return 0;
        residuals_of(d, ret, k->r);
        least = EPSILON_LEAST * spread(d->y, d->n);
        epsilon = fmax(least, spread(k->r, d->n));
        for (int round = 0; round < ROUNDS_MAX && epsilon > 0; round++) {
                double loss = reweight(o, k->r, d->n, epsilon, k->w);

                if (epsilon <= least && fabs(before - loss) <= CONVERGED * loss)
                        break;
                before = loss;
                epsilon = fmax(least, epsilon / 2);
                make_gram(d, k->w, k->weighted, &k->gram);
                (o->nonnegative ? solve_nonnegative : solve_all)(&k->gram, ret);
                residuals_of(d, ret, k->r);
        }
        return 0;
}

double lsq_line(const double *f, const double *y, size_t n, int iterations, double *r, double ret[2])
{
        double loss = 0, epsilon, before = INFINITY;

        for (size_t i = 0; i < n; i++)
                loss += fabs(r[i] = y[i] - ret[0] - ret[1] * f[i]);
        epsilon = loss / (double)n;
        for (int k = 0; k < iterations && epsilon > 0 && fabs(before - loss) > LINE_CONVERGED * loss; k++) {
                double s = 0, sf = 0, sff = 0, sy = 0, sfy = 0, det;

                for (size_t i = 0; i < n; i++) {
                        double size = fabs(r[i]), w = 1 / (size > epsilon ? size : epsilon), wf = w * f[i];

                        s += w;
                        sf += wf;
                        sff += wf * f[i];
                        sy += w * y[i];
                        sfy += wf * y[i];
                }
                det = s * sff - sf * sf;
                ret[1] = det > 1e-14 * s * sff ? (s * sfy - sf * sy) / det : 0;
                ret[0] = (sy - ret[1] * sf) / s;
                before = loss;
                loss = 0;
                for (size_t i = 0; i < n; i++)
                        loss += fabs(r[i] = y[i] - ret[0] - ret[1] * f[i]);
                epsilon = fmax(epsilon / 3, 1e-5 * loss / (double)n);
        }
        return loss;
}
