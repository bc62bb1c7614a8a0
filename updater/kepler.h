/* SPDX-License-Identifier: Apache-2.0 */
/* The layouts from which upstream's programs read: an estimator sidecar's `<download>/<source>/<output
 * type>/`, the unpacked archive, and the exporter's `<source>_<output type>Model.json`, a weight. Both are
 * written beside the store, after a model was installed there, and replaced in one step. */
#pragma once

#include <stdbool.h>
#include "common/err.h"
#include "updater/options.h"
#include "updater/slot.h"

/* Let the layout that this slot's form belongs to, if one is configured, hold the model in `dir`, whose
 * content id is `id`. *ret_changed: it did not yet. -ENOTSUP: of a class that upstream's sidecar cannot load.
 */
int kepler_install(const struct options *options, const struct slot *slot, const char *dir, const char *id,
                   bool *ret_changed, struct err *e);

/* Run kepler.reload and wait for it, a minute at most. -ECANCELED: it failed. */
int kepler_reload(const struct options *options, struct err *e);
