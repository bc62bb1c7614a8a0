/* SPDX-License-Identifier: Apache-2.0 */
/* Upstream's offline trainer (kepler-model-server train/offline_trainer.py): a TrainRequest with its
 * recording in, a pipeline zip out. Pure but for the clock that stamps the pipeline; the caller's thread does
 * the work. */
#pragma once

#include <stdatomic.h>
#include "model-server/learn/pipeline.h"

struct offline_progress {
        atomic_int done, total; /* models */
};

struct offline_settings {
        uint64_t seed;
        size_t body_max;
};

struct offline_result {
        char name[128]; /* of the pipeline: fit for a file name */
        struct buf zip; /* owned */
        int models;
        uint64_t rows, skipped_intervals;
        char left_out[512]; /* trainers that were asked for and made nothing, with commas; "" */
};
void offline_result_done(struct offline_result *result);

/* -EBADMSG: the request is malformed, the words say where; -EINVAL: it asks for what is not offered;
 * -ENODATA: nothing could be trained; -E2BIG over a limit. */
int offline_train(const char *body, size_t size, const struct offline_settings *settings, int64_t now_ms,
                  struct offline_progress *progress, struct offline_result *ret, struct err *e);
