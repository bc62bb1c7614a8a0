/* SPDX-License-Identifier: Apache-2.0 */
/* Kepler's pickled curve fits: an object that names its formula's function, a word here, and holds its
 * parameters. */
#pragma once

#include "model/pickle.h"
#include "model/plan.h"

/* Among the component's features, the column that the curve is a function of. */
int curve_column(const struct pickle_node *object, const char *const *features, size_t n,
                 const char *component, enum model_curve_index choice, size_t *ret, struct err *e);

int curve_add(struct plan *plan, const struct pickle_node *object, size_t column, struct err *e);
