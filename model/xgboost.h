/* SPDX-License-Identifier: Apache-2.0 */
/* XGBoost's own model files, JSON and UBJSON. */
#pragma once

#include "model/plan.h"

/* Add the file's trees to a plan whose columns are the trained features. -ENOTSUP: a booster, objective or
 * tree that this version does not evaluate, named. */
int xgboost_add(struct plan *plan, const void *data, size_t size, struct err *e);
