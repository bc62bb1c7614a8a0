/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/index.h"

#include <errno.h>
#include <stdlib.h>

#define INDEX_CAP_MIN 64

static size_t slot_of(const struct index *index, uint64_t key)
{
        key *= UINT64_C(0x9e3779b97f4a7c15); /* inode numbers and clock readings differ in few bits */
        return (size_t)(key >> 20) & (index->cap - 1);
}

/* The slot of the key, or the empty one where it belongs; there is always an empty one. */
static struct index_slot *seek(const struct index *index, uint64_t key)
{
        size_t i = slot_of(index, key);

        while (index->slots[i].position != INDEX_NONE && index->slots[i].key != key)
                i = (i + 1) & (index->cap - 1);
        return &index->slots[i];
}

uint32_t index_find(const struct index *index, uint64_t key)
{
        return index->cap ? seek(index, key)->position : INDEX_NONE;
}

static int grow(struct index *index)
{
        size_t cap = index->cap ? index->cap * 2 : INDEX_CAP_MIN;
        struct index next = { .slots = calloc(cap, sizeof(*next.slots)), .cap = cap, .used = index->used };

        if (!next.slots)
                return -ENOMEM;
        index_clear(&next);
        next.used = index->used;
        for (size_t i = 0; i < index->cap; i++)
                if (index->slots[i].position != INDEX_NONE)
                        *seek(&next, index->slots[i].key) = index->slots[i];
        free(index->slots);
        *index = next;
        return 0;
}

int index_put(struct index *index, uint64_t key, uint32_t position)
{
        struct index_slot *slot;

        if (index->cap) {
                slot = seek(index, key);
                if (slot->position != INDEX_NONE) {
                        slot->position = position;
                        return 0;
                }
        }
        if ((index->used + 1) * 4 > index->cap * 3) {
                int r = grow(index);

                if (r < 0)
                        return r;
        }
        slot = seek(index, key);
        slot->key = key;
        slot->position = position;
        index->used++;
        return 0;
}

/* Close the gap: whatever follows and could have stood in it moves up, so that no search ends too early. */
void index_remove(struct index *index, uint64_t key)
{
        size_t mask = index->cap - 1, gap, i;

        if (index_find(index, key) == INDEX_NONE)
                return;
        gap = (size_t)(seek(index, key) - index->slots);
        for (i = (gap + 1) & mask; index->slots[i].position != INDEX_NONE; i = (i + 1) & mask) {
                size_t home = slot_of(index, index->slots[i].key);

                if (((i - home) & mask) < ((i - gap) & mask))
                        continue;
                index->slots[gap] = index->slots[i];
                gap = i;
        }
        index->slots[gap].position = INDEX_NONE;
        index->used--;
}

void index_clear(struct index *index)
{
        for (size_t i = 0; i < index->cap; i++)
                index->slots[i].position = INDEX_NONE;
        index->used = 0;
}

void index_done(struct index *index)
{
        free(index->slots);
        *index = (struct index){ 0 };
}
