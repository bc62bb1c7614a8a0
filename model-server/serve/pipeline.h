/* SPDX-License-Identifier: Apache-2.0 */
/* One pipeline below models.path, read into memory: the models of which it is made, each an offer. Immutable
 * once loaded and counted by references. */
#pragma once

#include <dirent.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "common/buf.h"
#include "model-server/serve/node_types.h"
#include "schema/vocabulary.h"

#define PIPELINE_OFFERS_MAX 65536
#define CATALOG_PATH_MAX    1024
#define METADATA_MAX        ((size_t)1 << 20)

#define DIGEST_MAX 48 /* "<base64 of SHA-256>" */

/* A text that is an answer, and its digest. */
struct answer {
        char *text; /* owned; NULL: there is none */
        size_t size;
        char digest[DIGEST_MAX];
};

/* A model that can be asked for. */
struct offer {
        char name[MODEL_NAME_MAX]; /* "SGDRegressorTrainer_0" */
        char trainer[MODEL_NAME_MAX];
        int node_type; /* -1: the name has none */
        const struct energy_source *source;
        int output_type;  /* index into output_types */
        int group;        /* index into feature_groups */
        char *metadata;   /* owned: JSON text; parsed again for filters only, as a tree it takes ten times as
                             much */
        json_t *features; /* owned: when they are not the group's (a model of v0.6); else NULL */
        double mae;       /* NaN: the metadata have none, so it is never chosen */
        bool wattloop;    /* not of a class that upstream's programs can load */
        bool ours;        /* made by a Wattloop model server */
        struct answer weights;       /* the weight object */
        struct answer weights_named; /* with model_name, machine_spec and mae */
        char *archive_path;          /* owned: the zip, NULL when there is none */
        struct answer archive;       /* its bytes, when it is ours and small */
        time_t archive_time;
        char content_id[65];    /* of what is ours, else "" */
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
/* By source, output type, group, name. */
const struct offer *pipeline_offer(const struct pipeline *p, size_t i);
/* Those of one group lie together: the first's index and how many. */
size_t pipeline_range(const struct pipeline *p, const struct energy_source *source, int output_type,
                      int group, size_t *ret_first);
const struct offer *pipeline_find(const struct pipeline *p, const struct energy_source *source,
                                  int output_type, int group, const char *name);
struct pipeline *pipeline_ref(struct pipeline *p);
bool pipeline_has_own_features(const struct pipeline *p); /* of a model: not its group's */

/* Base64 of the SHA-256. */
void digest_of(const void *data, size_t size, char ret[DIGEST_MAX]);
/* scandir()'s filter of directories of models. */
int pipeline_not_hidden(const struct dirent *d);
