/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a pipeline below models.path, all or nothing: the whole directory is built and synced in staging, then
 * exchanged with the one that is there. */
#pragma once

#include <stdbool.h>
#include "model-server/learn/pipeline.h"
#include "model-server/serve/catalog.h"

#define PUBLISH_STAGING ".staging"

/* A whole directory from staging to its name: exchanged with the one that is there, so that the name always
 * leads to a whole pipeline. Where a file system cannot exchange (NFS), the old one is moved away first; a
 * server that is killed in between finds it with publish_clean(). What was there is left at `staged`. */
int publish_put_in_place(const char *staged, const char *models_path, const char *name, struct err *e);

/* Removes what a killed server left in staging, and puts back a pipeline that it had moved away. */
int publish_clean(const char *models_path, struct err *e);

/* 1 published, and *ret is the new pipeline as read back from the disk; 0: nothing differs from `old` (NULL:
 * none yet), or there is nothing and `withdraw` does not say to publish that; or an error, and the old one is
 * untouched. */
int publish_pipeline(const struct pipeline_input *in, bool withdraw, const char *models_path,
                     const struct pipeline *old, struct pipeline **ret, struct err *e);
