/* SPDX-License-Identifier: Apache-2.0 */
/* One batch, one transaction: lines -> samples -> rows -> learners. All of it is durable or none of it
 * happened, so there is nothing that a restart would have to catch up with. */
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
        uint64_t learned;                  /* of these, by accepted provenance */
        uint64_t intervals[FOLD_VERDICTS]; /* looked at */
};

/* -EBADMSG, -E2BIG bad content, -EFBIG too big, -ENOSPC disk full, -EIO bad database: nothing is stored. On
 * success the batch is durable. */
int import_batch(struct store *store, struct trainer *trainer, const struct import_settings *settings,
                 const void *data, size_t size, bool gzip, int64_t now_ms, struct import_counts *ret,
                 struct err *e);

/* At start: load the learners, or learn all stored rows again when the accepted provenances or the states'
 * version changed, or a state is damaged. Returns 1 when it learned again. */
int import_restore(struct store *store, struct trainer *trainer, unsigned int accepted, struct err *e);
