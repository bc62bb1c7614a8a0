/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ids of the entities that this run has met in an epoch: who was met before is not searched for. Open
 * addressing; 0 is no id. */
struct seen {
        int64_t epoch_id;
        int64_t last_id;     /* the newest interval that was read */
        int64_t complete_to; /* everybody up to this interval is in the set; 0: not so */
        int64_t *slot;       /* owned */
        size_t n, cap;       /* cap is a power of two */
};
bool seen_has(const struct seen *s, int64_t id);
/* A set that cannot grow forgets: then the database is asked. */
void seen_add(struct seen *s, int64_t id);
/* Another epoch, or a step back, as with the newest first: nobody was met before. */
void seen_begin(struct seen *s, int64_t epoch_id, int64_t first_id);
void seen_done(struct seen *s);
