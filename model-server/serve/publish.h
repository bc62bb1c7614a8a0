/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a pipeline below models.path, all or nothing: the whole directory is built and synced in staging, then
 * exchanged with the one that is there. */
#pragma once

#include <stdbool.h>
#include "model-server/learn/pipeline.h"
#include "model-server/serve/catalog.h"

#define PUBLISH_STAGING ".staging"

/* Removes what a killed server left in staging. */
int publish_clean(const char *models_path, struct err *e);

/* 1 published, and *ret is the new pipeline as read back from the disk; 0: nothing differs from `old` (NULL:
 * none yet), or there is nothing and `withdraw` does not say to publish that; or an error, and the old one is
 * untouched. */
int publish_pipeline(const struct pipeline_input *in, bool withdraw, const char *models_path,
                     const struct pipeline *old, struct pipeline **ret, struct err *e);
