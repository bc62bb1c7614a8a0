/* SPDX-License-Identifier: Apache-2.0 */
/* What clients ask for: the body of POST /model, the query of GET /best-models. Pure. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include "common/buf.h"
#include "model-server/serve/node_types.h"
#include "schema/vocabulary.h"

#define REQUEST_METRICS_MAX 1024
#define REQUEST_FILTERS_MAX 16
#define REQUEST_REPR_MAX    ((size_t)4096) /* bytes of a request quoted in an answer */

/* "attribute:threshold", joined by ';'. Items without just one ':' are dropped, as upstream does. */
struct filter {
        char attribute[64];
        char value[256];  /* attribute `features`: a comma list */
        double threshold; /* else: at most this, or for abs_max_corr at least this */
};

struct model_request {
        const json_t *metrics; /* array of strings; borrowed */
        int output_type;       /* index into output_types */
        const struct energy_source *source;
        int node_type; /* -1 any */
        bool weight;
        const char *trainer_name, *pipeline_name; /* borrowed; "" when absent */
        struct filter filters[REQUEST_FILTERS_MAX];
        size_t filters_n;
        struct spec spec;
        bool loose_node_type;
        bool wattloop; /* the client takes Wattloop archives (Accept); not in the body */
};

/* `body` must outlive the request. -EBADMSG with words for the client. */
int request_from_json(const json_t *body, struct model_request *ret, struct err *e);
int request_parse_filter(const char *text, struct model_request *ret, struct err *e);

/* As Python's repr() writes it; ends with "..." beyond REQUEST_REPR_MAX. */
void request_write_repr(const json_t *value, struct buf *out);
