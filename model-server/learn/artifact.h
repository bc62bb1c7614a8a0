/* SPDX-License-Identifier: Apache-2.0 */
/* A trained model as it is exported: its place in a pipeline and the entries of its archive (contract 4).
 * What is scored, published and replayed is this, never the model in a trainer's memory. Pure. */
#pragma once

#include <jansson.h>
#include "model/model.h"
#include "schema/vocabulary.h"

struct artifact {
        const struct energy_source *source;
        int output_type; /* index into output_types */
        int group;       /* index into feature_groups */
        int node_type;
        char name[MODEL_NAME_MAX];     /* "SGDRegressorTrainer_0" */
        struct model_archive *archive; /* owned */
        json_t *metadata;              /* owned: metadata.json */
        char content_id[65];
};

/* Where a model belongs. */
struct place {
        const struct energy_source *source;
        int output_type, group, node_type;
        const char *trainer; /* class name */
};

/* Takes over `metadata` and `archive`, which has all entries but metadata.json; on failure too. */
int artifact_new(const struct place *place, json_t *metadata, struct model_archive *archive,
                 struct artifact **ret, struct err *e);
/* From the bytes of its zip. */
int artifact_unpack(const struct place *place, const void *zip, size_t size, struct artifact **ret,
                    struct err *e);
void artifact_free(struct artifact *artifact);
CLEANUP_DEFINE(struct artifact *, artifact_free);

/* weight.json, or NULL when the model has none that local regressors could use. */
const struct model_entry *artifact_weight(const struct artifact *artifact);
double artifact_mae(const struct artifact *artifact);                        /* NaN unknown */
const char *artifact_text(const struct artifact *artifact, const char *key); /* of the metadata; "" */
long long artifact_number(const struct artifact *artifact, const char *key); /* 0 when absent */

/* Adds an entry to an archive under construction. */
int archive_put(struct model_archive *archive, const char *name, const void *data, size_t size,
                struct err *e);
int archive_put_json(struct model_archive *archive, const char *name, const json_t *object, struct err *e);
