/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses the model that answers a request, step by step as Kepler's model server does, with filters as they
 * were meant. Pure.
 *
 * Two things are decided here where upstream leaves them to chance: ties go to the first name, and of several
 * pipelines with models of a source the first in the catalog (ours) that has one that fits answers, the
 * others after it. An archive that upstream's programs cannot load does not exist for a request that does not
 * ask for Wattloop's. */
#pragma once

#include "model-server/serve/catalog.h"
#include "model-server/serve/request.h"

/* NULL: nothing fits. The catalog remembers the choice. */
const struct offer *select_model(struct catalog *catalog, const struct model_request *request);

/* GET /best-models: {"AbsPower": {group: model name}, …}. Members that are not asked for are NULL or -1.
 * -ENOENT: no pipeline has models of the source. A new reference in *ret. */
struct best_query {
        const struct energy_source *source;
        int output_type; /* -1 both */
        int group;       /* -1 all */
        int node_type;   /* -1 any */
        const char *filter;
};
int select_best(const struct catalog *catalog, const struct best_query *query, json_t **ret, struct err *e);
