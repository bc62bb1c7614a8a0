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

/* {"powers": {"package": [...], ...}, "msg": "", "core_ratio": r, "model": ..., "id": ..., "provenance": ...}
 * `watts` is n rows of the model's components. The keys behind core_ratio are left out where they would push
 * the reply over REPLY_GO_MAX; provenance also when it is "measured", id when it is empty. */
int reply_powers(struct buf *out, const struct model *model, const char *id, const double *watts, size_t n,
                 double core_ratio, enum reply_precision precision);
