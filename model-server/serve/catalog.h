/* SPDX-License-Identifier: Apache-2.0 */
/* What can be served: the pipelines below models.path, read into memory. Immutable once loaded and counted by
 * references, so a request that began with one catalog ends with it while the next one is put in place. */
#pragma once

#include "model-server/serve/pipeline.h"

#define CATALOG_PIPELINES_MAX 64

struct catalog;
/* All pipelines below models_path. `own` comes first; of the others the last name first, as upstream's server
 * lets the last one win. */
int catalog_load(const char *models_path, const char *own, struct catalog **ret, struct err *e);
/* The same with the pipeline of this name replaced, added or (NULL) left out; takes over the reference. */
int catalog_with(const struct catalog *old, const char *own, const char *name, struct pipeline *pipeline,
                 struct catalog **ret, struct err *e);
struct catalog *catalog_ref(struct catalog *c);
void catalog_unref(struct catalog *c);
CLEANUP_DEFINE(struct catalog *, catalog_unref);
size_t catalog_pipelines(const struct catalog *c);
const struct pipeline *catalog_pipeline(const struct catalog *c, size_t i);

/* Has models whose features are not their group's. */
bool catalog_has_own_features(const struct catalog *c);

/* Answers found before, for what asks again: by a hash of all that the choice depends on. */
#define CATALOG_KEY 16
bool catalog_recall(struct catalog *c, const unsigned char key[CATALOG_KEY], const struct offer **ret);
void catalog_remember(struct catalog *c, const unsigned char key[CATALOG_KEY], const struct offer *offer);

/* The archive, from memory (*ret_fd is -1 and the bytes are offer->archive's) or as an open file, with its
 * size and digest. The digest of a file is made when it is first asked for, and again when the file has
 * changed. */
int offer_open_archive(struct catalog *c, const struct offer *offer, int *ret_fd, size_t *ret_size,
                       char ret_digest[DIGEST_MAX], struct err *e);
