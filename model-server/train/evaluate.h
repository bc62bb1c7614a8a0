/* SPDX-License-Identifier: Apache-2.0 */
/* The error of a trainer under a protocol. What is scored is always the written file: weights or archive are
 * made, loaded by model/ and evaluated as an estimator evaluates them. */
#pragma once

#include "model-server/train/folds.h"
#include "model-server/train/general.h"
#include "model-server/train/local.h"

enum trainer_kind { TRAINER_LOCAL, TRAINER_PLAIN, TRAINER_BLEND, TRAINER_BLEND_PREV, TRAINER_KINDS };

struct score_sum {
        size_t rows, active_rows;
        double error, active_error; /* sums of |watts - estimate| */
};

/* Train on the rows that `mark` leaves, score the others. active: rows with load; NULL: none are told apart.
 */
int evaluate_fold(enum trainer_kind kind, const struct general_settings *settings, const struct table *t,
                  const char *component, const unsigned char *mark, const unsigned char *active,
                  struct score_sum *ret, struct err *e);

const char *evaluate_class(enum trainer_kind kind); /* the trainer's class name; NULL for local */
