/* SPDX-License-Identifier: Apache-2.0 */
/* Reads server.db beside its writer: rows in the order in which they were added, in short reads that hold no
 * checkpoint up for long. The only file here with its SQL. */
#pragma once

#include <jansson.h>
#include "model-server/learn/dataset.h"

#define FEED_CHUNK 500 /* rows of one read */

struct feed;
int feed_open(const char *path, struct feed **ret, struct err *e); /* -ENOENT: no database yet */
void feed_close(struct feed *feed);
CLEANUP_DEFINE(struct feed *, feed_close);

typedef int (*feed_row_fn)(int64_t row_id, const char *node_id, const struct row *row, void *arg,
                           struct err *e);
/* Up to FEED_CHUNK rows with row_id in (after, up_to]; returns how many; *ret_last is the last one's.
 * node_type -1: of all kinds of machines. */
int feed_rows(struct feed *feed, int node_type, int64_t after, int64_t up_to, feed_row_fn fn, void *arg,
              int64_t *ret_last, struct err *e);
/* The last `limit` rows of a node type up to one, oldest first. */
int feed_recent(struct feed *feed, int node_type, int64_t up_to, int limit, feed_row_fn fn, void *arg,
                struct err *e);
int feed_last_row(struct feed *feed, int64_t *ret, struct err *e); /* 0: none */

/* Which rows a model may be made of. */
struct feed_rule {
        int node_type;
        unsigned int accepted; /* bits 1 << enum provenance */
        int64_t last_row;
        uint64_t max_rows;
        double node_share;
        const struct string_list *excluded; /* node ids */
};
int feed_dataset(struct feed *feed, const struct feed_rule *rule, struct dataset *ret, struct err *e);
/* SHA-256 of the batches that completed the dataset's rows, oldest first: a new array of strings. */
int feed_batches(struct feed *feed, const struct dataset *data, json_t **ret, struct err *e);

typedef int (*feed_type_fn)(int node_type, const char *spec, void *arg, struct err *e);
int feed_node_types(struct feed *feed, feed_type_fn fn, void *arg, struct err *e);
typedef int (*feed_node_fn)(const char *node_id, int node_type, void *arg, struct err *e);
int feed_nodes(struct feed *feed, feed_node_fn fn, void *arg, struct err *e);
