/* SPDX-License-Identifier: Apache-2.0 */
/* The list of release keys: which keys sign models, until when, and which must not be believed any more. An
 * offline root key signs the list (minisign, a file of its own beside it), so that losing a release key costs
 * a new list and not a visit to every machine (docs/contracts.md, 4).
 *
 *     {"wattloop_keys": 1, "version": 3, "time_s": …, "expires_s": …,
 *      "keys": [{"key": "RW…", "expires_s": …}], "revoked": ["<16 hex digits>"]}
 *
 * expires_s 0: never. `key` is the second line of minisign's public key file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"
#include "common/minisign.h"

#define KEY_LIST_MAX         ((size_t)64 << 10) /* bytes */
#define KEY_LIST_KEYS_MAX    16
#define KEY_LIST_REVOKED_MAX 64

struct release_key {
        struct minisign_public key;
        int64_t expires_s; /* UNIX seconds; 0: never */
};

struct key_list {
        int64_t version; /* a list of a lower version is an old one */
        int64_t time_s, expires_s;
        struct release_key keys[KEY_LIST_KEYS_MAX];
        size_t n;
        unsigned char revoked[KEY_LIST_REVOKED_MAX][MINISIGN_ID_SIZE];
        size_t revoked_n;
};

/* Shape only: the caller verifies the signature over the same bytes first. -EBADMSG; -E2BIG; -ENOTSUP: of a
 * later version of the format. */
int key_list_parse(const char *json, size_t size, struct key_list *ret, struct err *e);
int key_list_write(const struct key_list *list, struct buf *out); /* failure is sticky in the buffer */
bool key_list_revokes(const struct key_list *list, const unsigned char id[MINISIGN_ID_SIZE]);
/* NULL: not on the list. */
const struct release_key *key_list_find(const struct key_list *list,
                                        const unsigned char id[MINISIGN_ID_SIZE]);
