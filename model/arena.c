/* SPDX-License-Identifier: Apache-2.0 */
#include "model/arena.h"

#include <stdlib.h>

#define CHUNK ((size_t)8 << 10)
#define ALIGN ((size_t)16)

struct arena_chunk {
        _Alignas(16) struct arena_chunk *next;
        size_t used, size;
        _Alignas(16) unsigned char data[];
};

void *arena_calloc(struct arena *arena, size_t n, size_t size)
{
        struct arena_chunk *c = arena->chunks;
        size_t bytes;

        if (size > 0 && n > (arena->max - arena->used) / size)
                return NULL;
        bytes = (n * size + ALIGN) & ~(ALIGN - 1); /* never 0, so that each result is its own */
        if (bytes > arena->max - arena->used)
                return NULL;
        if (!c || bytes > c->size - c->used) {
                size_t room = bytes > CHUNK ? bytes : CHUNK;

                c = calloc(1, sizeof(*c) + room);
                if (!c)
                        return NULL;
                c->size = room;
                c->next = arena->chunks;
                arena->chunks = c;
        }
        arena->used += bytes;
        c->used += bytes;
        return c->data + c->used - bytes;
}

void arena_done(struct arena *arena)
{
        while (arena->chunks) {
                struct arena_chunk *next = arena->chunks->next;

                free(arena->chunks);
                arena->chunks = next;
        }
        arena->used = 0;
}
