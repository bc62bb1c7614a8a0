/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include "common/err.h"

/* What is in a model (an archive, a weight JSON or an unpacked directory): its kind, features, components,
 * sizes, errors, and every class that its pickles name. As lines for people or as one JSON object. Returns 0
 * or a negative errno that has been logged. */
int inspect_run(const char *path, bool json, FILE *out);
