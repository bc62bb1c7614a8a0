/* SPDX-License-Identifier: Apache-2.0 */
/* The archive of a trained model: entries, then the component map and metadata that make it one. */
#pragma once

#include <jansson.h>
#include "model-server/train/table.h"
#include "model/model.h"

struct archive_component {
        const char *name;
        const char *file;                         /* the map's model_file; NULL: "<name>.json" */
        const char *features[TABLE_FEATURES_MAX]; /* borrowed */
        size_t n_features;
        double mae, mape; /* mae NaN: not known; mape -1: no positive truth */
};

struct archive_head {
        const char *trainer, *model_class, *output_type, *provenance;
        int node_type;
        const char *features[TABLE_FEATURES_MAX];
        size_t n_features;
        size_t rows;
        const json_t
                *extra; /* more members of metadata.json, scalars only: Kepler's sidecar takes no objects */
};

/* -E2BIG: too many entries. Copies the data. */
int archive_add(struct model_archive *archive, const char *name, const void *data, size_t size,
                struct err *e);
int archive_add_json(struct model_archive *archive, const char *name, const json_t *document, struct err *e);

/* Add "<trainer>_<node type>.json" (component map) and metadata.json. */
int archive_finish(struct model_archive *archive, const struct archive_head *head,
                   const struct archive_component *components, size_t n, struct err *e);
