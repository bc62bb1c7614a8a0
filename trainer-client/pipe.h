/* SPDX-License-Identifier: Apache-2.0 */
/* Packs a destination's batches ahead of their sending, on a thread of its own: while one is on the wire, the
 * next is read and compressed. */
#pragma once

#include "trainer-client/destination.h"
#include "trainer-client/store.h"

#define PIPE_ROW_BYTES 128 /* a recorded row takes about so much of a batch */

struct pipe;

/* Begin to pack what the cursor has not; the store and the destination are the pipe's until pipe_stop(), but
 * others may encode and send. `newest` is the last interval that counts. */
int pipe_start(struct store *store, struct destination *d, const struct cursor *cursor, int64_t newest,
               struct pipe **ret_pipe, struct err *e);
void pipe_stop(struct pipe *p);
CLEANUP_DEFINE(struct pipe *, pipe_stop);

/* The next parcel; valid until the next call. 1, 0 at the end, or an error. */
int pipe_next(struct pipe *p, struct parcel **ret_parcel, struct err *e);
/* The one behind it, if it is ready: (after, last], else false. */
bool pipe_peek(struct pipe *p, int64_t *ret_after, int64_t *ret_last);
/* Later batches hold at most so many intervals. */
void pipe_limit(struct pipe *p, size_t max_intervals);

/* The batch (after, at most last], or its first part when it is more than fits. 0: there are no intervals, or
 * too few yet. */
struct pipe_range {
        int64_t after, last, newest;
        size_t max_intervals;
};
int pipe_pack(struct store *store, struct destination *d, const struct pipe_range *range,
              struct parcel *parcel, struct err *e);
