/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>
#include "estimator/options.h"

/* A power request per line of `in`, a reply per line on `out`, computed by the model in `path` (an archive, a
 * weight JSON or an unpacked directory). Returns 0, 1 when a line was answered with an error, or a negative
 * errno that has been logged. */
int predict_run(const struct options *options, const char *path, int in, FILE *out);
