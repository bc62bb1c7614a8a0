/* SPDX-License-Identifier: Apache-2.0 */
/* One line of a batch (contract 2): what series it is and its samples. Pure. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include "model-server/row.h"

#define BATCH_LABELS_MAX      32
#define BATCH_LABEL_NAME_MAX  128
#define BATCH_LABEL_VALUE_MAX 1024
#define BATCH_TS_MAX_MS       INT64_C(4102444800000) /* the year 2100: later stamps are in another unit */

enum series_kind {
        SERIES_IGNORED,  /* nothing is learned from it */
        SERIES_FEATURE,  /* kepler_container_<feature>_total */
        SERIES_ENERGY,   /* kepler_node_<component>_joules_total */
        SERIES_MEASURED, /* wattloop_node_measured_seconds_total */
        SERIES_NODE,     /* wattloop_node: identity and machine spec are in the labels */
};

struct series_class {
        enum series_kind kind;
        int what;                   /* enum feature_id or enum component_id */
        enum provenance provenance; /* SERIES_ENERGY */
};
/* From the metric name and the `source` label. Energy of an estimate, or of a source that nobody knows, is
 * ignored: what is not known to be measured is not called measured. */
struct series_class series_classify(const char *name, const char *source);

struct batch_line {
        struct series_class class;
        const char *name, *source, *node_id, *node_name,
                *epoch;         /* borrowed from `document`; "" when absent */
        json_t *metric;         /* borrowed from `document` */
        char *labels;           /* owned: canonical JSON of the label set; NULL when ignored */
        struct sample *samples; /* owned; in the line's order */
        size_t n;
        size_t nulls; /* values that were null: counted, not kept */
        json_t *document;
};

/* -EBADMSG malformed, -E2BIG over a limit; the words do not name the line number. Release with
 * batch_line_done() on success. */
int batch_parse_line(const char *line, size_t size, size_t max_samples, struct batch_line *ret,
                     struct err *e);
void batch_line_done(struct batch_line *line);
