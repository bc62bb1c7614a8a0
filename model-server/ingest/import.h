/* SPDX-License-Identifier: Apache-2.0 */
/* Batches: lines -> samples -> rows. All of a batch is durable or none of it happened. Batches that wait at
 * the same time share a transaction, and so the wait for the disk. What the rows teach is learned later,
 * elsewhere (model-server/learn/). */
#pragma once

#include "model-server/ingest/lines.h"
#include "model-server/store.h"

#define IMPORT_EPOCHS_MAX 256 /* different nodes and epochs in one batch */

struct import_settings {
        struct lines_limits lines;
        size_t line_samples;   /* of one series in one batch */
        unsigned int accepted; /* bit 1 << enum provenance: trained on */
};

struct import_counts {
        uint64_t samples, added, duplicate, ignored;
        uint64_t rows;                     /* added */
        uint64_t accepted;                 /* of these, by provenance */
        uint64_t intervals[FOLD_VERDICTS]; /* looked at */
};

/* One batch: what came, and what became of it. */
struct upload {
        const void *data;
        size_t size;
        bool gzip;
        const char *name;       /* for the record; "" */
        const char *node_id;    /* whose series it may hold; NULL: anybody's */
        unsigned char hash[32]; /* SHA-256 of data */
        int result;   /* 0 durable; or -EBADMSG, -E2BIG bad content, -EFBIG too big, -EACCES another node's,
                         -ENOSPC disk full,   -EIO bad database: nothing of it is stored */
        struct err e; /* the words, when it is not 0 */
        struct import_counts counts;
};
void import_uploads(struct store *store, const struct import_settings *settings,
                    struct upload *const uploads[], size_t n, int64_t now_ms);
