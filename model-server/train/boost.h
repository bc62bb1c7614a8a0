/* SPDX-License-Identifier: Apache-2.0 */
/* Boosted trees by libxgboost, the only file that knows it. The same input, parameters and library give the
 * same bytes: one thread a booster, the seed given, histograms. Boosters of different threads do not meet. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"

#define BOOST_FILE_MAX ((size_t)32 << 20)

struct boost_parameters {
        int depth, rounds, max_bin;
        double eta, min_child_weight, subsample, colsample, lambda;
};

/* The matrix that boosters learn from: n rows of p floats. The caller keeps the numbers. */
struct boost_data;
int boost_data_new(const float *x, size_t n, size_t p, struct boost_data **ret, struct err *e);
void boost_data_free(struct boost_data *data);
CLEANUP_DEFINE(struct boost_data *, boost_data_free);

enum boost_file { BOOST_JSON, BOOST_UBJ };

/* Train on targets y from base score `base`, all of them floats, and write the model file. */
int boost_train(struct boost_data *data, const float *y, double base, const struct boost_parameters *p,
                uint32_t seed, enum boost_file format, struct buf *out, struct err *e);

/* "1.7.4": libxgboost's. */
const char *boost_version(void);
