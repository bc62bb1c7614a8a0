/* SPDX-License-Identifier: Apache-2.0 */
/* Replies in Kepler's shapes, key order and separators. Each function appends one JSON object to `out`. */
#pragma once

#include "common/buf.h"
#include "model/model.h"

/* Upstream's Go client reads a reply once, into a buffer of this size. */
#define REPLY_GO_MAX 4096

enum reply_precision {
        REPLY_SHORT, /* watts with at most 4 decimals: the mW that meters and clients resolve, and some */
        REPLY_EXACT, /* shortest text that reads back to the same double */
};

/* The request was rejected, or there is no model: {"powers": {}, "msg": "<prefix><text>"}. */
int reply_rejected(struct buf *out, const char *prefix, const char *text);

/* There is a model, but it cannot answer: {"powers": [], "msg": "<text>\n", "core_ratio": r}. */
int reply_unpredicted(struct buf *out, const char *text, double core_ratio);

/* Watts, n rows of the model's components, and the rows that they are for (see model_predict()). */
struct reply_rows {
        const double *watts;
        const double *rows;
        const size_t *index;
        size_t stride, n;
};

/* {"powers": {"package": [...], ...}, "msg": "", "core_ratio": r, "model": ..., "id": ..., "mae": ...,
 * "in_domain": [...], "provenance": ...}. The pedigree, the keys behind core_ratio, is left out where it
 * would push the reply over REPLY_GO_MAX, in_domain before the rest; and without an id (NULL). An empty id
 * and provenance "measured" are not written; an mae or a training range that is not known is null. */
int reply_powers(struct buf *out, const struct model *model, const struct reply_rows *rows, double core_ratio,
                 enum reply_precision precision, const char *id);
