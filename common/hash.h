/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (nettle: it uses the processor's own instructions, where libsodium does not). */
#pragma once

#include <stddef.h>

#define HASH_HEX_SIZE 65 /* 64 hex digits and the terminator */

void hash_sha256_hex(const void *data, size_t size, char ret[HASH_HEX_SIZE]);

/* Content id of a set of named entries: SHA-256 over the entries sorted by name, each as
 * "<name length> <name><content length> <content>" in decimal text. Independent of archive packing. */
struct hash_entry {
        const char *name;
        const void *data;
        size_t size;
};
#define HASH_ENTRIES_MAX 256
int hash_entries_hex(const struct hash_entry *entries, size_t n, char ret[HASH_HEX_SIZE]);
