/* SPDX-License-Identifier: Apache-2.0 */
/* Batches that a destination refused, kept as they were sent with the server's words beside them:
 * <state>/quarantine/<destination>/<epoch>-<first>-<last>.<extension> and ….txt. */
#pragma once

#include <stdint.h>
#include "trainer-client/destination.h"

/* Durable when it returns 0. -EDQUOT: the destination's quarantine is full. */
int quarantine_put(const struct options *o, const struct destination *d, const struct parcel *p,
                   const char *words, struct err *e);

/* How many batches and bytes are there now. */
int quarantine_size(const struct options *o, const char *destination, int64_t *ret_batches,
                    int64_t *ret_bytes, struct err *e);

/* Send them once more, in order; what is acknowledged is removed. Returns how many were. */
int quarantine_resend(const struct options *o, struct destination *d, struct err *e);
