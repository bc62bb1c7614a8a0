/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/train/learner.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <lapacke.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define UNEXCITED 1e-9 /* of a column's length: what varied less is rounding */
#define DEPENDENT 1e-7 /* of the longest pivot */

void learner_init(struct learner *l, int p)
{
        assert(p > 0 && p <= GROUP_FEATURES_MAX);
        memset(l, 0, sizeof(*l));
        l->p = p;
}

/* Rotate the row v into R from the left; v becomes 0. */
static void rotate_in(struct learner *l, double *v, int columns)
{
        for (int k = 0; k < columns; k++) {
                double length = hypot(l->r[k][k], v[k]);
                double c, s;

                if (v[k] == 0 || length == 0)
                        continue;
                c = l->r[k][k] / length;
                s = v[k] / length;
                l->r[k][k] = length;
                for (int j = k + 1; j < columns; j++) {
                        double upper = l->r[k][j];

                        l->r[k][j] = c * upper + s * v[j];
                        v[j] = c * v[j] - s * upper;
                }
        }
}

static void score(struct learner *l, const double *x, double y)
{
        struct weights w;
        double error;

        if (l->rows < (uint64_t)l->p + 2)
                return;
        learner_solve(l, &w);
        error = fabs(weights_predict(&w, x) - y);
        l->error_sum += error;
        l->errors[l->scored % LEARNER_WINDOW] = error;
        l->truths[l->scored % LEARNER_WINDOW] = y;
        l->scored++;
}

static bool all_finite(const struct learner *l, const double *x, double y)
{
        for (int j = 0; j < l->p; j++)
                if (!isfinite(x[j]))
                        return false;
        return isfinite(y);
}

int learner_absorb(struct learner *l, const double *x, double y)
{
        double v[LEARNER_COLUMNS_MAX];

        if (!all_finite(l, x, y))
                return -EINVAL;
        v[0] = 1;
        for (int j = 0; j < l->p; j++) {
                v[j + 1] = x[j];
                l->max_abs[j] = fmax(l->max_abs[j], fabs(x[j]));
        }
        v[l->p + 1] = y;
        rotate_in(l, v, l->p + 2);
        l->rows++;
        return 0;
}

int learner_learn(struct learner *l, const double *x, double y)
{
        if (!all_finite(l, x, y))
                return -EINVAL;
        score(l, x, y);
        return learner_absorb(l, x, y);
}

/* Solve S u = z in the least-squares sense by QR with column pivoting; u is 0 in dependent columns. S is m x
 * n, column-major with leading dimension m, and is overwritten, as is z. */
static void solve_pivoted(double *s, double *z, int m, int n, double *u)
{
        lapack_int pivot[GROUP_FEATURES_MAX] = { 0 };
        double tau[GROUP_FEATURES_MAX];
        int rank = 0;

        memset(u, 0, (size_t)n * sizeof(*u));
        if (LAPACKE_dgeqp3(LAPACK_COL_MAJOR, m, n, s, m, pivot, tau) ||
            LAPACKE_dormqr(LAPACK_COL_MAJOR, 'L', 'T', m, 1, n, s, m, tau, z, m))
                return; /* only for arguments that are not there, or no memory: the mean is a model too */
        while (rank < n && fabs(s[rank + rank * m]) > DEPENDENT * fabs(s[0]))
                rank++;
        if (!rank || LAPACKE_dtrtrs(LAPACK_COL_MAJOR, 'U', 'N', 'N', rank, 1, s, m, z, m))
                return;
        for (int i = 0; i < rank; i++)
                u[pivot[i] - 1] = z[i];
}

/* Slopes in the features' own units. */
static void solve_slopes(const struct learner *l, double *ret)
{
        double s[GROUP_FEATURES_MAX * GROUP_FEATURES_MAX], z[GROUP_FEATURES_MAX], u[GROUP_FEATURES_MAX];
        double length[GROUP_FEATURES_MAX];
        int columns[GROUP_FEATURES_MAX], p = l->p, n = 0;

        for (int j = 0; j < p; j++) {
                double square = 0;

                ret[j] = 0;
                for (int i = 0; i <= j; i++)
                        square += l->r[i + 1][j + 1] * l->r[i + 1][j + 1];
                length[j] = sqrt(square);
                if (length[j] <= UNEXCITED * hypot(length[j], l->r[0][j + 1]))
                        continue; /* also when both are 0 */
                for (int i = 0; i < p; i++)
                        s[i + n * p] = i <= j ? l->r[i + 1][j + 1] / length[j] : 0;
                columns[n++] = j;
        }
        if (!n)
                return;
        for (int i = 0; i < p; i++)
                z[i] = l->r[i + 1][p + 1];
        solve_pivoted(s, z, p, n, u);
        for (int k = 0; k < n; k++)
                ret[columns[k]] = u[k] / length[columns[k]];
}

void learner_solve(const struct learner *l, struct weights *ret)
{
        double slope[GROUP_FEATURES_MAX];

        memset(ret, 0, sizeof(*ret));
        ret->p = l->p;
        for (int j = 0; j < l->p; j++)
                ret->scale[j] = l->max_abs[j] > 0 ? l->max_abs[j] : 1;
        if (!l->rows)
                return;

        solve_slopes(l, slope);
        ret->bias = l->r[0][l->p + 1];
        for (int j = 0; j < l->p; j++) {
                ret->bias -= l->r[0][j + 1] * slope[j];
                ret->weight[j] = slope[j] * ret->scale[j];
        }
        ret->bias /= l->r[0][0];
}

double weights_predict(const struct weights *w, const double *x)
{
        double y = w->bias;

        for (int j = 0; j < w->p; j++)
                y += w->weight[j] * (x[j] / w->scale[j]);
        return y > 0 ? y : 0;
}

static uint64_t window(const struct learner *l)
{
        return l->scored < LEARNER_WINDOW ? l->scored : LEARNER_WINDOW;
}

double learner_mae(const struct learner *l)
{
        double sum = 0;

        if (!l->scored)
                return NAN;
        for (uint64_t i = 0; i < window(l); i++)
                sum += l->errors[i];
        return sum / (double)window(l);
}

double learner_mae_total(const struct learner *l)
{
        return l->scored ? l->error_sum / (double)l->scored : NAN;
}

double learner_mape(const struct learner *l)
{
        double sum = 0;
        int n = 0;

        if (!l->scored)
                return NAN;
        for (uint64_t i = 0; i < window(l); i++) {
                if (l->truths[i] <= 0)
                        continue;
                sum += l->errors[i] / l->truths[i];
                n++;
        }
        return n ? 100 * sum / n : -1;
}

/* The blob: magic, version, p, rows, scored, error_sum, R's upper triangle, max_abs, the window's errors and
 * truths; integers and doubles as 64 bits, little endian. */
#define BLOB_MAGIC   UINT64_C(0x524e524c4c57) /* "WLLRNR" */
#define BLOB_VERSION 1

static void write_u64(struct buf *out, uint64_t v)
{
        v = htole64(v);
        (void)buf_append(out, &v, sizeof(v)); /* failure is sticky */
}

static void write_double(struct buf *out, double d)
{
        uint64_t v;

        memcpy(&v, &d, sizeof(v));
        write_u64(out, v);
}

int learner_write(const struct learner *l, struct buf *out)
{
        write_u64(out, BLOB_MAGIC);
        write_u64(out, BLOB_VERSION);
        write_u64(out, (uint64_t)l->p);
        write_u64(out, l->rows);
        write_u64(out, l->scored);
        write_double(out, l->error_sum);
        for (int i = 0; i < l->p + 2; i++)
                for (int j = i; j < l->p + 2; j++)
                        write_double(out, l->r[i][j]);
        for (int j = 0; j < l->p; j++)
                write_double(out, l->max_abs[j]);
        for (uint64_t i = 0; i < window(l); i++) {
                write_double(out, l->errors[i]);
                write_double(out, l->truths[i]);
        }
        return out->failed;
}

struct cursor {
        const unsigned char *data;
        size_t left;
        bool bad;
};

static uint64_t read_u64(struct cursor *c)
{
        uint64_t v = 0;

        if (c->left < sizeof(v)) {
                c->bad = true;
                return 0;
        }
        memcpy(&v, c->data, sizeof(v));
        c->data += sizeof(v);
        c->left -= sizeof(v);
        return le64toh(v);
}

static double read_double(struct cursor *c)
{
        uint64_t v = read_u64(c);
        double d;

        memcpy(&d, &v, sizeof(d));
        if (!isfinite(d))
                c->bad = true;
        return d;
}

int learner_read(const void *data, size_t size, int p, struct learner *ret, struct err *e)
{
        struct cursor c = { data, size, false };
        struct learner l;
        uint64_t version;

        learner_init(&l, p);
        if (read_u64(&c) != BLOB_MAGIC)
                return err_set(e, -EBADMSG, "not a learner's state");
        version = read_u64(&c);
        if (!c.bad && version != BLOB_VERSION)
                return err_set(e, -EPROTO, "a learner's state of version %llu; this program knows %d",
                               (unsigned long long)version, BLOB_VERSION);
        if (read_u64(&c) != (uint64_t)p)
                return err_set(e, -EBADMSG, "a learner's state with another number of features than %d", p);
        l.rows = read_u64(&c);
        l.scored = read_u64(&c);
        l.error_sum = read_double(&c);
        for (int i = 0; i < p + 2; i++)
                for (int j = i; j < p + 2; j++)
                        l.r[i][j] = read_double(&c);
        for (int j = 0; j < p; j++)
                l.max_abs[j] = read_double(&c);
        for (uint64_t i = 0; i < window(&l); i++) {
                l.errors[i] = read_double(&c);
                l.truths[i] = read_double(&c);
        }
        if (c.bad || c.left || l.scored > l.rows || (l.rows && l.r[0][0] <= 0))
                return err_set(e, -EBADMSG, "a learner's state is damaged");
        *ret = l;
        return 0;
}
