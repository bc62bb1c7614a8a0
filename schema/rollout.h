/* SPDX-License-Identifier: Apache-2.0 */
/* Staged rollout: which nodes a model is for while not all are to have it (docs/contracts.md, 4). Server and
 * updater decide by the same rule. Pure. */
#pragma once

#include <stdbool.h>
#include "schema/statement.h"

/* The node's place among all, for this model: 0 (always first) up to but not including 100. */
double rollout_place(const char *node_id, const char *model_id);

/* May this node (machine_discover()'s node_id) have the model now? */
bool rollout_admits(const struct statement *statement, const char *node_id);
