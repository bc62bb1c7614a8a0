/* SPDX-License-Identifier: Apache-2.0 */
/* Training rows of one kind of machine in memory, and which of all rows these are. Pure: feed.c fills it from
 * the database, data/ from a recording.
 *
 * A node gives at most `node_share` of the rows (as long as there are others that give the rest), and all of
 * them together at most max_rows; what is left out is spread evenly over the node's time. */
#pragma once

#include "common/hash.h"
#include "config/option.h"
#include "model-server/row.h"

#define DATASET_NODE_FREE 30 /* rows that a node may always give */

struct example {
        int64_t row_id;
        int node;      /* index into the dataset's nodes */
        uint64_t turn; /* which of its node's rows it is */
        struct row row;
};

struct dataset {
        struct example *rows; /* owned; in the order in which they came */
        size_t n, cap;
        char **nodes; /* owned; ids */
        size_t nodes_n;
};
void dataset_done(struct dataset *data);
int dataset_node(struct dataset *data, const char *node_id, struct err *e); /* its index, or -ENOMEM */
int dataset_add(struct dataset *data, const struct example *example, struct err *e);

/* How many rows each of n nodes may give: ret[i] <= counts[i]. */
void dataset_caps(const uint64_t *counts, size_t n, double node_share, uint64_t max_rows, uint64_t *ret);
/* Whether a node's row number `turn` (from 0) of `count` is among the `cap` that are taken. */
bool dataset_takes(uint64_t turn, uint64_t count, uint64_t cap);

/* Rows that a group and component can learn from; `values` are the group's features in its order. */
bool example_features(const struct example *example, int group, double *values);

/* SHA-256 over what the rows say (contract 4): order, node, times, features and watts, as stored. */
int dataset_hash(const struct dataset *data, char ret[HASH_HEX_SIZE]);

/* Isolators: AbsPower rows -> DynPower rows. `min`: each node's lowest power of each component is its idle
 * power. */
enum isolator { ISOLATOR_NONE, ISOLATOR_MIN, ISOLATOR_PROFILE, ISOLATORS_N };
extern const char *const isolator_names[ISOLATORS_N + 1]; /* "none", "min", "profile" */
void dataset_subtract_min(struct dataset *data);
void dataset_subtract(struct dataset *data, const double watts[COMPONENT_N]); /* floor 0 */
