/* SPDX-License-Identifier: Apache-2.0 */
/* What can be served: the pipelines below models.path, read into memory. Immutable once loaded and counted by
 * references, so a request that began with one catalog ends with it while the next one is put in place. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "common/buf.h"
#include "model-server/serve/node_types.h"
#include "schema/vocabulary.h"

#define CATALOG_PIPELINES_MAX 64
#define PIPELINE_OFFERS_MAX   65536
#define CATALOG_PATH_MAX      1024
#define METADATA_MAX          ((size_t)1 << 20)

/* A model that can be asked for. */
struct offer {
        char name[MODEL_NAME_MAX]; /* "SGDRegressorTrainer_0" */
        char trainer[MODEL_NAME_MAX];
        int node_type; /* -1: the name has none */
        const struct energy_source *source;
        int output_type;     /* index into output_types */
        int group;           /* index into feature_groups */
        json_t *metadata;    /* owned */
        double mae;          /* NaN: the metadata have none, so it is never chosen */
        bool wattloop;       /* model_class weight: upstream's programs cannot load the archive */
        char *weights;       /* owned: the weight object, NULL when it has none */
        char *weights_named; /* with model_name, machine_spec and mae */
        char *archive_path;  /* owned: the zip, NULL when there is none */
        void *archive;       /* owned: its bytes when wattloop */
        size_t archive_size;
        time_t archive_time;
        char content_id[65];    /* over the entries of the archive; "" when there is none */
        const char *provenance; /* one of provenance_names */
        uint64_t rows;          /* 0 unknown */
};

struct pipeline;
/* `name` is the directory's. Models that cannot be read are left out with a warning each. -ENOENT: no such
 * pipeline, or no pipeline metadata in it. */
int pipeline_load(const char *models_path, const char *name, struct pipeline **ret, struct err *e);
void pipeline_unref(struct pipeline *p);
CLEANUP_DEFINE(struct pipeline *, pipeline_unref);
const char *pipeline_name(const struct pipeline *p);
const struct node_types *pipeline_node_types(const struct pipeline *p); /* NULL: it has no index */
size_t pipeline_offers(const struct pipeline *p);
const struct offer *pipeline_offer(const struct pipeline *p,
                                   size_t i); /* by source, output type, group, name */
const struct offer *pipeline_find(const struct pipeline *p, const struct energy_source *source,
                                  int output_type, int group, const char *name);

struct catalog;
/* All pipelines below models_path. `own` comes first; of the others the last name first, as upstream's server
 * lets the last one win. */
int catalog_load(const char *models_path, const char *own, struct catalog **ret, struct err *e);
/* The same with `own` replaced or added; takes over the reference. */
int catalog_with(const struct catalog *old, struct pipeline *own, struct catalog **ret, struct err *e);
struct catalog *catalog_ref(struct catalog *c);
void catalog_unref(struct catalog *c);
CLEANUP_DEFINE(struct catalog *, catalog_unref);
size_t catalog_pipelines(const struct catalog *c);
const struct pipeline *catalog_pipeline(const struct catalog *c, size_t i);

/* The archive's bytes, from memory or the disk. */
int offer_read_archive(const struct offer *offer, struct buf *out, struct err *e);
