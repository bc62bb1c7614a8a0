/* SPDX-License-Identifier: Apache-2.0 */
/* All learners: one per node type, feature group and component. A row goes to every group whose features it
 * has. Pure, and transactional like the database behind it: what was learned since the last commit can be
 * dropped. */
#pragma once

#include <stdbool.h>
#include "model-server/row.h"
#include "model-server/train/learner.h"

/* What is learned so far; DynPower needs idle power taken apart, which comes with richer models. */
#define TRAINER_OUTPUT_TYPE "AbsPower"
#define NODE_TYPES_MAX      4096

struct learned {
        struct learner learner;
        enum provenance provenance;      /* the least trustworthy of its rows */
        char definition[DEFINITION_MAX]; /* of its rows; "mixed" when they differ */
};

struct learner_key {
        int node_type;
        int group; /* index into feature_groups */
        enum component_id component;
};

struct trainer;
int trainer_new(struct trainer **ret, struct err *e);
void trainer_free(struct trainer *trainer);
CLEANUP_DEFINE(struct trainer *, trainer_free);

/* -E2BIG: more node types than NODE_TYPES_MAX. A row that is not finite is left out. */
int trainer_learn(struct trainer *trainer, const struct row *row, struct err *e);
int trainer_put(struct trainer *trainer, struct learner_key key, const struct learned *learned,
                struct err *e);
void trainer_clear(struct trainer *trainer); /* committed at once */

void trainer_commit(struct trainer *trainer);
void trainer_rollback(struct trainer *trainer);

/* Everything learned (changed_only: since the last commit), by node type, group and component. */
typedef int (*trainer_fn)(struct learner_key key, const struct learned *learned, void *arg, struct err *e);
int trainer_each(const struct trainer *trainer, bool changed_only, trainer_fn fn, void *arg, struct err *e);

const struct learned *trainer_find(const struct trainer *trainer,
                                   struct learner_key key); /* NULL: nothing yet */
int trainer_node_types(const struct trainer *trainer);      /* one more than the largest */
int group_features_n(const struct feature_group *group);
