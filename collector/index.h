/* SPDX-License-Identifier: Apache-2.0 */
/* Where in an array the element with a 64-bit key is: an open-addressed hash of positions. The owner of the
 * array tells it about every element put in, moved or removed. Zero-initialise it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define INDEX_NONE UINT32_MAX

struct index_slot {
        uint64_t key;
        uint32_t position; /* INDEX_NONE: empty */
};

struct index {
        struct index_slot *slots; /* owned */
        size_t cap;               /* 0 or a power of two */
        size_t used;
};

uint32_t index_find(const struct index *index, uint64_t key);        /* INDEX_NONE when not there */
int index_put(struct index *index, uint64_t key, uint32_t position); /* new or moved; -ENOMEM */
void index_remove(struct index *index, uint64_t key);
void index_clear(struct index *index); /* keeps the memory */
void index_done(struct index *index);
