/* SPDX-License-Identifier: Apache-2.0 */
/* What a trainer learns from: rows of features and one component's watts. Features are named; those called
 * "prev_<feature>" hold the feature's value one row earlier. A row belongs to a segment, a stretch of one
 * workload: neighbours in a segment tell each other's answers, so errors are measured over whole segments. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "common/err.h"

#define TABLE_FEATURES_MAX 32
#define TABLE_ROWS_MAX     ((size_t)1 << 20)
#define PREV_PREFIX        "prev_"

struct table {
        size_t n, p;
        const char *features[TABLE_FEATURES_MAX]; /* borrowed */
        double *x;                                /* n rows of p, owned */
        double *y;                                /* watts, owned */
        int *segment;                             /* numbered from 0 in order of time, owned */
};

/* Zeroed room; -E2BIG over the limits. */
int table_new(size_t n, const char *const *features, size_t p, struct table *ret, struct err *e);
void table_done(struct table *t);

/* A copy of the rows for which mark[i] == wanted; columns (NULL: all p) name the features to keep, in order.
 */
int table_select(const struct table *t, const unsigned char *mark, bool wanted, const size_t *columns,
                 size_t p, struct table *ret, struct err *e);

/* Index of a feature, or -1. */
int table_find(const struct table *t, const char *feature);
bool table_has_prev(const struct table *t);

double table_mean(const double *v, size_t n);
double table_sd(const double *v, size_t n); /* of the whole */
