/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is taken piece by piece up to a limit and given back as a whole: what a document was read into,
 * and what a model was compiled into. */
#pragma once

#include <stddef.h>

struct arena {
        struct arena_chunk *chunks; /* owned; the newest first */
        size_t used;                /* bytes taken from the limit, with their rounding */
        size_t max;
};

/* Zeroed bytes, aligned to 16; NULL when out of memory or over the limit. n * size must not overflow: it is
 * checked. */
void *arena_calloc(struct arena *arena, size_t n, size_t size);
void arena_done(struct arena *arena); /* frees everything, keeps max */
