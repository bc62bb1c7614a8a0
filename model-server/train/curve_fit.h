/* SPDX-License-Identifier: Apache-2.0 */
/* Curves with least absolute deviations: the shape is searched, level and slope are solved for. */
#pragma once

#include <stddef.h>
#include "common/err.h"
#include "model-server/train/local.h"

/* x is scaled to at most 1 in size. Parameters in Kepler's order into ret, the sum of |residuals| into
 * *ret_loss. -EDOM: x does not vary. */
int curve_fit(enum local_form form, const double *x, const double *y, size_t n, double ret[4],
              double *ret_loss, struct err *e);
