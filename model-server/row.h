/* SPDX-License-Identifier: Apache-2.0 */
/* The record that walks through the model server: samples come in, a row is what a node did and what that
 * cost over one interval. */
#pragma once

#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"
#include "schema/vocabulary.h"

struct sample {
        int64_t ts_ms; /* wall clock, Unix ms */
        double value;
};

enum component_id {
        COMPONENT_PACKAGE,
        COMPONENT_CORE,
        COMPONENT_UNCORE,
        COMPONENT_DRAM,
        COMPONENT_PLATFORM,
        COMPONENT_N
};
extern const char *const component_names[COMPONENT_N];
int component_find(const char *name); /* or -1 */

#define DEFINITION_MAX 32

/* More than any machine does: a counter that leapt, or a client that makes numbers up. Far below where sums
 * of squares would overflow. */
#define ROW_FEATURE_MAX 1e18
#define ROW_WATTS_MAX   1e6

struct row {
        int64_t start_ms, end_ms;
        double seconds;             /* measured seconds within */
        enum provenance provenance; /* of the watts */
        int node_type;
        char definition[DEFINITION_MAX];
        unsigned int has_feature;   /* bit 1 << enum feature_id */
        unsigned int has_watts;     /* bit 1 << enum component_id */
        double features[FEATURE_N]; /* wire units per second */
        double watts[COMPONENT_N];
};

/* The two JSON objects of the row table. */
int row_write_features(const struct row *row, struct buf *out);
int row_write_watts(const struct row *row, struct buf *out);
/* Unknown names and values that are not finite are -EBADMSG. */
int row_read(const char *features, const char *watts, struct row *ret, struct err *e);
