/* SPDX-License-Identifier: Apache-2.0 */
/* Writes what the learners know as a Kepler pipeline below models.path, all or nothing: the whole directory
 * is built and synced in staging, then exchanged with the one that is there. */
#pragma once

#include <stdbool.h>
#include "model-server/serve/catalog.h"
#include "model-server/train/trainer.h"

#define PUBLISH_TRAINER "SGDRegressorTrainer" /* linear weights on the wire */
#define PUBLISH_STAGING ".staging"

struct publish_node {
        int node_type;
        char *id; /* owned */
};
struct publish_input {
        const char *models_path, *pipeline;
        const struct trainer *trainer;
        uint64_t min_rows; /* a component needs as many */
        bool withdraw;     /* publish even that there is nothing: what was learned is not accepted now */
        int64_t now_ms;
        struct machine_spec *specs; /* by node type */
        int specs_n;
        const struct publish_node *nodes;
        size_t nodes_n;
};

/* What there is to publish now, as one number: how many models have all the rows they need. */
int publish_ready(const struct trainer *trainer, uint64_t min_rows);

/* Removes what a killed server left in staging. */
int publish_clean(const char *models_path, struct err *e);

/* 1 published, and *ret is the new pipeline as read back from the disk; 0: nothing differs from `old` (NULL:
 * none yet), or nothing is ready; or an error, and the old pipeline is untouched. */
int publish_pipeline(const struct publish_input *in, const struct pipeline *old, struct pipeline **ret,
                     struct err *e);
