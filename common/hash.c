/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hash.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void to_hex(const unsigned char digest[crypto_hash_sha256_BYTES], char ret[HASH_HEX_SIZE])
{
        (void)sodium_bin2hex(ret, HASH_HEX_SIZE, digest, crypto_hash_sha256_BYTES);
}

void hash_sha256_hex(const void *data, size_t size, char ret[HASH_HEX_SIZE])
{
        unsigned char digest[crypto_hash_sha256_BYTES];

        (void)crypto_hash_sha256(digest, data, size); /* always 0 */
        to_hex(digest, ret);
}

static int by_name(const void *a, const void *b)
{
        const struct hash_entry *const *x = a, *const *y = b;

        return strcmp((*x)->name, (*y)->name);
}

static void add_sized(crypto_hash_sha256_state *state, const void *data, size_t size)
{
        char length[32];
        int n = snprintf(length, sizeof(length), "%zu ", size);

        (void)crypto_hash_sha256_update(state, (const unsigned char *)length, (unsigned long long)n);
        (void)crypto_hash_sha256_update(state, data, size);
}

int hash_entries_hex(const struct hash_entry *entries, size_t n, char ret[HASH_HEX_SIZE])
{
        const struct hash_entry *sorted[HASH_ENTRIES_MAX];
        unsigned char digest[crypto_hash_sha256_BYTES];
        crypto_hash_sha256_state state;

        if (n > HASH_ENTRIES_MAX)
                return -E2BIG;
        for (size_t i = 0; i < n; i++)
                sorted[i] = &entries[i];
        if (n > 1)
                qsort(sorted, n, sizeof(sorted[0]), by_name);
        for (size_t i = 1; i < n; i++)
                if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
                        return -EEXIST; /* the order of twins would be chance */

        (void)crypto_hash_sha256_init(&state);
        for (size_t i = 0; i < n; i++) {
                add_sized(&state, sorted[i]->name, strlen(sorted[i]->name));
                add_sized(&state, sorted[i]->data, sorted[i]->size);
        }
        (void)crypto_hash_sha256_final(&state, digest);
        to_hex(digest, ret);
        return 0;
}
