/* SPDX-License-Identifier: Apache-2.0 */
/* The error of a trainer under a protocol. What is scored is always the written file: weights or archive are
 * made, loaded by model/ and evaluated as an estimator evaluates them. */
#pragma once

#include "model-server/train/archive.h"
#include "model-server/train/folds.h"
#include "model-server/train/general.h"
#include "model-server/train/local.h"

enum trainer_kind { TRAINER_LOCAL, TRAINER_PLAIN, TRAINER_BLEND, TRAINER_BLEND_PREV, TRAINER_KINDS };

struct score_sum {
        size_t rows, active_rows;
        double error, active_error; /* sums of |watts - estimate| */
};

/* Train on the rows that `mark` leaves, score the others. active: rows with load; NULL: none are told apart.
 * estimates: NULL, or room for t->n watts, of which those of the scored rows are written. */
int evaluate_fold(enum trainer_kind kind, const struct general_settings *settings, const struct table *t,
                  const char *component, const unsigned char *mark, const unsigned char *active,
                  double *estimates, struct score_sum *ret, struct err *e);

/* One component's part of an archive of a general kind, trained on all of t with the seed that folds have.
 * Appends its files; what the map says of it goes into *ret, whose errors stay unknown. */
int evaluate_train(enum trainer_kind kind, const struct general_settings *settings, const struct table *t,
                   const char *component, struct model_archive *archive, struct archive_component *ret,
                   struct err *e);
const char *evaluate_model_class(enum trainer_kind kind); /* "xgboost"; NULL for local */
const char *evaluate_class(enum trainer_kind kind);       /* the trainer's class name; NULL for local */
