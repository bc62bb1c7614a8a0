/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hash.h"

#include <errno.h>
#include <nettle/base16.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void end_hex(struct sha256_ctx *state, char ret[HASH_HEX_SIZE])
{
        uint8_t digest[SHA256_DIGEST_SIZE];

        sha256_digest(state, sizeof(digest), digest);
        base16_encode_update(ret, sizeof(digest), digest);
        ret[HASH_HEX_SIZE - 1] = '\0';
}

void hash_sha256_hex(const void *data, size_t size, char ret[HASH_HEX_SIZE])
{
        struct sha256_ctx state;

        sha256_init(&state);
        sha256_update(&state, size, data);
        end_hex(&state, ret);
}

static int by_name(const void *a, const void *b)
{
        const struct hash_entry *const *x = a, *const *y = b;

        return strcmp((*x)->name, (*y)->name);
}

static void add_sized(struct sha256_ctx *state, const void *data, size_t size)
{
        char length[32];
        int n = snprintf(length, sizeof(length), "%zu ", size);

        sha256_update(state, (size_t)n, (const uint8_t *)length);
        sha256_update(state, size, data);
}

int hash_entries_hex(const struct hash_entry *entries, size_t n, char ret[HASH_HEX_SIZE])
{
        const struct hash_entry *sorted[HASH_ENTRIES_MAX];
        struct sha256_ctx state;

        if (n > HASH_ENTRIES_MAX)
                return -E2BIG;
        for (size_t i = 0; i < n; i++)
                sorted[i] = &entries[i];
        if (n > 1)
                qsort(sorted, n, sizeof(sorted[0]), by_name);
        for (size_t i = 1; i < n; i++)
                if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
                        return -EEXIST; /* the order of twins would be chance */

        sha256_init(&state);
        for (size_t i = 0; i < n; i++) {
                add_sized(&state, sorted[i]->name, strlen(sorted[i]->name));
                add_sized(&state, sorted[i]->data, sorted[i]->size);
        }
        end_hex(&state, ret);
        return 0;
}
