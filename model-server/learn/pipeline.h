/* SPDX-License-Identifier: Apache-2.0 */
/* A Kepler pipeline made of artifacts: its files, one after the other, for a directory or for a zip. */
#pragma once

#include "common/buf.h"
#include "model-server/learn/artifact.h"
#include "schema/machine.h"

struct pipeline_node {
        int node_type;
        char *id; /* owned */
};
struct pipeline_input {
        const char *name, *isolator;
        int64_t now_ms;
        const struct artifact *const *artifacts; /* by source */
        size_t n;
        const struct machine_spec *specs; /* by node type; NULL: no node_type_index.json */
        int specs_n;
        const struct pipeline_node *nodes;
        size_t nodes_n;
};

/* `path` is relative to the pipeline. */
typedef int (*pipeline_file_fn)(const char *path, const void *data, size_t size, void *arg, struct err *e);
int pipeline_each_file(const struct pipeline_input *in, pipeline_file_fn fn, void *arg, struct err *e);

/* Into an existing empty directory, synced. */
int pipeline_write(const struct pipeline_input *in, const char *directory, struct err *e);
/* As upstream's offline trainer answers: the files at the root of a zip. */
int pipeline_zip(const struct pipeline_input *in, struct buf *out, struct err *e);
