/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/learn/rls.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "model-server/learn/blob.h"

void rls_init(struct rls *rls, int p)
{
        assert(p > 0 && p <= GROUP_FEATURES_MAX);
        memset(rls, 0, sizeof(*rls));
        rls->p = p;
}

static void forget(struct rls *rls, double factor)
{
        double root = sqrt(factor);

        if (factor == 1)
                return;
        for (int i = 0; i < rls->p + 2; i++)
                for (int j = i; j < rls->p + 2; j++)
                        rls->r[i][j] *= root;
}

int rls_learn(struct rls *rls, double forgetting, const double *x, double y)
{
        double v[LEARNER_COLUMNS_MAX] = { 1 };
        int n = rls->p + 2;

        for (int j = 0; j < rls->p; j++)
                if (!isfinite(x[j]))
                        return -EINVAL;
        if (!isfinite(y))
                return -EINVAL;
        for (int j = 0; j < rls->p; j++) {
                v[j + 1] = x[j];
                rls->max_abs[j] = fmax(rls->max_abs[j], fabs(x[j]));
        }
        v[n - 1] = y;
        forget(rls, forgetting);
        for (int k = 0; k < n; k++) {
                double length = hypot(rls->r[k][k], v[k]), c, s;

                if (v[k] == 0 || length == 0)
                        continue;
                c = rls->r[k][k] / length;
                s = v[k] / length;
                rls->r[k][k] = length;
                for (int j = k + 1; j < n; j++) {
                        double upper = rls->r[k][j];

                        rls->r[k][j] = c * upper + s * v[j];
                        v[j] = c * v[j] - s * upper;
                }
        }
        rls->rows++;
        return 0;
}

static double column_length(const struct rls *rls, int j)
{
        double square = 0;

        for (int i = 0; i <= j; i++)
                square += rls->r[i][j] * rls->r[i][j];
        return sqrt(square);
}

void rls_solve(const struct rls *rls, struct weights *ret)
{
        double u[LEARNER_COLUMNS_MAX] = { 0 };
        int last = rls->p + 1;

        memset(ret, 0, sizeof(*ret));
        ret->p = rls->p;
        for (int k = rls->p; k >= 0; k--) {
                double z = rls->r[k][last];

                if (fabs(rls->r[k][k]) <= RLS_DEPENDENT * column_length(rls, k))
                        continue; /* also when both are 0 */
                for (int j = k + 1; j <= rls->p; j++)
                        z -= rls->r[k][j] * u[j];
                u[k] = z / rls->r[k][k];
        }
        ret->bias = u[0];
        for (int j = 0; j < rls->p; j++) {
                ret->scale[j] = rls->max_abs[j] > 0 ? rls->max_abs[j] : 1;
                ret->weight[j] = u[j + 1] * ret->scale[j];
        }
}

#define BLOB_MAGIC   UINT64_C(0x534c524c57) /* "WLRLS" */
#define BLOB_VERSION 1

int rls_write(const struct rls *rls, struct buf *out)
{
        blob_write_u64(out, BLOB_MAGIC);
        blob_write_u64(out, BLOB_VERSION);
        blob_write_u64(out, (uint64_t)rls->p);
        blob_write_u64(out, rls->rows);
        for (int i = 0; i < rls->p + 2; i++)
                for (int j = i; j < rls->p + 2; j++)
                        blob_write_double(out, rls->r[i][j]);
        for (int j = 0; j < rls->p; j++)
                blob_write_double(out, rls->max_abs[j]);
        return out->failed;
}

int rls_read(const void *data, size_t size, int p, struct rls *ret, struct err *e)
{
        struct blob b = { data, size, false };
        struct rls rls;

        rls_init(&rls, p);
        if (blob_read_u64(&b) != BLOB_MAGIC)
                return err_set(e, -EBADMSG, "not an online learner's state");
        if (blob_read_u64(&b) != BLOB_VERSION)
                return err_set(e, -EPROTO, "an online learner's state of another version than %d",
                               BLOB_VERSION);
        if (blob_read_u64(&b) != (uint64_t)p)
                return err_set(e, -EBADMSG, "an online learner's state with other features");
        rls.rows = blob_read_u64(&b);
        for (int i = 0; i < p + 2; i++)
                for (int j = i; j < p + 2; j++)
                        rls.r[i][j] = blob_read_double(&b);
        for (int j = 0; j < p; j++)
                rls.max_abs[j] = blob_read_double(&b);
        if (b.bad || b.left)
                return err_set(e, -EBADMSG, "an online learner's state is damaged");
        *ret = rls;
        return 0;
}
