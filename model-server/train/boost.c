/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/train/boost.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xgboost/c_api.h>

struct boost_data {
        DMatrixHandle matrix;
        size_t n;
};

/* A booster that is freed when it goes out of scope. */
static void booster_done(BoosterHandle *b)
{
        if (*b)
                (void)XGBoosterFree(*b);
}

static int failed(const char *what, struct err *e)
{
        const char *words = XGBGetLastError();

        return err_set(e, -EINVAL, "libxgboost cannot %s: %.150s", what, words);
}

int boost_data_new(const float *x, size_t n, size_t p, struct boost_data **ret, struct err *e)
{
        CLEANUP(freep) struct boost_data *d = calloc(1, sizeof(*d));

        if (!d)
                return err_set(e, -ENOMEM, "out of memory");
        if (XGDMatrixCreateFromMat_omp(x, n, p, NAN, &d->matrix, 1))
                return failed("take the rows", e);
        d->n = n;
        *ret = TAKE(d);
        return 0;
}

void boost_data_free(struct boost_data *d)
{
        if (!d)
                return;
        (void)XGDMatrixFree(d->matrix);
        free(d);
}

struct setting {
        const char *key;
        char value[32];
};

static void set_double(struct setting *s, const char *key, double v)
{
        s->key = key;
        (void)snprintf(s->value, sizeof(s->value), "%.17g", v);
}

static int set_parameters(BoosterHandle b, double base, const struct boost_parameters *p, uint32_t seed,
                          struct err *e)
{
        struct setting s[16] = { { "objective", "reg:squarederror" },
                                 { "tree_method", "hist" },
                                 { "nthread", "1" },
                                 { "verbosity", "0" },
                                 { "validate_parameters", "0" } };
        size_t n = 5;

        set_double(&s[n++], "max_depth", p->depth);
        set_double(&s[n++], "max_bin", p->max_bin);
        set_double(&s[n++], "eta", p->eta);
        set_double(&s[n++], "min_child_weight", p->min_child_weight);
        set_double(&s[n++], "subsample", p->subsample);
        set_double(&s[n++], "colsample_bytree", p->colsample);
        set_double(&s[n++], "lambda", p->lambda);
        set_double(&s[n++], "base_score", base);
        set_double(&s[n++], "seed", seed);
        for (size_t i = 0; i < n; i++)
                if (XGBoosterSetParam(b, s[i].key, s[i].value))
                        return failed("take a parameter", e);
        return 0;
}

static int save(BoosterHandle b, enum boost_file format, struct buf *out, struct err *e)
{
        bst_ulong size;
        const char *data;

        if (XGBoosterSaveModelToBuffer(
                    b, format == BOOST_JSON ? "{\"format\":\"json\"}" : "{\"format\":\"ubj\"}", &size, &data))
                return failed("write the model", e);
        if (buf_append(out, data, size) < 0)
                return err_set(e, out->failed, "boosted trees of %zu bytes: %s", (size_t)size,
                               strerror(-out->failed));
        return 0;
}

int boost_train(struct boost_data *d, const float *y, double base, const struct boost_parameters *p,
                uint32_t seed, enum boost_file format, struct buf *out, struct err *e)
{
        CLEANUP(booster_done) BoosterHandle b = NULL;
        int r;

        if (XGDMatrixSetFloatInfo(d->matrix, "label", y, d->n))
                return failed("take the watts", e);
        if (XGBoosterCreate(&d->matrix, 1, &b))
                return failed("begin", e);
        r = set_parameters(b, base, p, seed, e);
        for (int i = 0; r == 0 && i < p->rounds; i++)
                if (XGBoosterUpdateOneIter(b, i, d->matrix))
                        r = failed("train", e);
        return r < 0 ? r : save(b, format, out, e);
}

const char *boost_version(void)
{
        static _Thread_local char text[32];
        int major, minor, patch;

        XGBoostVersion(&major, &minor, &patch);
        (void)snprintf(text, sizeof(text), "%d.%d.%d", major, minor, patch);
        return text;
}
