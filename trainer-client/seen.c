/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/seen.h"

#include <stdlib.h>

#define SEEN_FIRST_CAP 256
#define SEEN_MAX       ((size_t)1 << 20) /* slots; beyond, entities are searched for again */

static int64_t *seen_slot(const struct seen *s, int64_t id)
{
        size_t at = (size_t)((uint64_t)id * UINT64_C(0x9e3779b97f4a7c15) >> 32);

        while (s->slot[at & (s->cap - 1)] != 0 && s->slot[at & (s->cap - 1)] != id)
                at++;
        return &s->slot[at & (s->cap - 1)];
}

bool seen_has(const struct seen *s, int64_t id)
{
        return s->cap > 0 && *seen_slot(s, id) == id;
}

void seen_add(struct seen *s, int64_t id)
{
        struct seen larger = { .epoch_id = s->epoch_id, .cap = s->cap ? 2 * s->cap : SEEN_FIRST_CAP };

        if (2 * (s->n + 1) > s->cap) {
                larger.slot = larger.cap <= SEEN_MAX ? calloc(larger.cap, sizeof(*larger.slot)) : NULL;
                if (!larger.slot)
                        larger.cap = 0;
                for (size_t i = 0; larger.cap > 0 && i < s->cap; i++)
                        if (s->slot[i] != 0)
                                *seen_slot(&larger, s->slot[i]) = s->slot[i];
                larger.n = larger.cap > 0 ? s->n : 0;
                larger.complete_to = larger.cap > 0 ? s->complete_to : 0;
                larger.last_id = s->last_id;
                free(s->slot);
                *s = larger;
        }
        if (s->cap == 0 || id == 0 || *seen_slot(s, id) == id)
                return;
        *seen_slot(s, id) = id;
        s->n++;
}

void seen_begin(struct seen *s, int64_t epoch_id, int64_t first_id)
{
        if (s->epoch_id == epoch_id && s->last_id < first_id)
                return;
        free(s->slot);
        *s = (struct seen){ .epoch_id = epoch_id };
}

void seen_done(struct seen *s)
{
        free(s->slot);
        *s = (struct seen){ 0 };
}
