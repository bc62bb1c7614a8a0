/* SPDX-License-Identifier: Apache-2.0 */
/* How rows are split into what is learned and what is predicted: the evaluation protocols.
 *
 *   R  random tenths, FOLDS_RANDOM draws: comparable with upstream's single draw, and flattered by neighbours
 *   S  ten folds of whole segments
 *   B  ten contiguous blocks of time
 *   W  one workload (stressor) left out
 *   H  the first half predicts the second, and back
 *   F  one CPU frequency left out */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"

#define FOLDS_MAX    64
#define FOLDS_RANDOM 20
#define FOLDS_TENTHS 10

struct folds {
        size_t n;
        unsigned char *mark[FOLDS_MAX]; /* owned: 1 for the rows that fold k holds back */
};
void folds_done(struct folds *folds);

/* What a recording says about each row; see segment in table.h. -1: unknown, such a row is never held back.
 */
struct labels {
        size_t n;
        const int *segment, *s_fold, *workload, *frequency;
};

enum protocol { PROTOCOL_R, PROTOCOL_S, PROTOCOL_B, PROTOCOL_W, PROTOCOL_H, PROTOCOL_F, PROTOCOL_N };
extern const char protocol_letters[PROTOCOL_N + 1]; /* "RSBWHF" */

/* No folds at all (ret->n == 0) when the labels do not tell enough: fewer than two workloads or frequencies.
 */
int folds_make(enum protocol protocol, const struct labels *labels, struct folds *ret, struct err *e);

/* Whole segments dealt out to k folds after shuffling by seed; fewer folds when there are fewer segments. */
int folds_by_segment(const int *segment, size_t n, size_t k, uint64_t seed, struct folds *ret, struct err *e);

/* The same numbers on every machine (SplitMix64, Steele et al. 2014). */
uint64_t folds_random(uint64_t *state);
