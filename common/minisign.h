/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and detached signatures in minisign's text format (https://jedisct1.github.io/minisign/): Ed25519 over
 * the BLAKE2b-512 of the data ("ED", what minisign writes) or over the data themselves ("Ed", read only). A
 * second signature covers the first and the trusted comment, so the comment can be believed after
 * minisign_verify() and not before. Files made here are taken by `minisign -V` and the other way round. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "common/buf.h"
#include "common/err.h"

#define MINISIGN_ID_SIZE     8
#define MINISIGN_ID_HEX_SIZE 17 /* as minisign prints it, with the terminator */
#define MINISIGN_COMMENT_MAX 2048
#define MINISIGN_TEXT_MAX    ((size_t)8 << 10) /* of a key or signature file */

struct minisign_public {
        unsigned char id[MINISIGN_ID_SIZE];
        unsigned char key[32];
};

struct minisign_secret {
        unsigned char id[MINISIGN_ID_SIZE];
        unsigned char key[64]; /* its second half is the public key */
};

struct minisign_signature {
        bool prehashed;
        unsigned char id[MINISIGN_ID_SIZE];
        unsigned char signature[64];
        unsigned char global[64]; /* over signature and trusted comment */
        char comment[MINISIGN_COMMENT_MAX];
};

void minisign_id_hex(const unsigned char id[MINISIGN_ID_SIZE], char ret[MINISIGN_ID_HEX_SIZE]);

/* A public key: the file's two lines, or its second line alone. -EBADMSG. */
int minisign_parse_public(const char *text, size_t size, struct minisign_public *ret, struct err *e);
/* The same from a file, which errors name. */
int minisign_read_public(const char *path, struct minisign_public *ret, struct err *e);
/* A secret key without password (`minisign -G -W`, minisign_write_secret()); one that is encrypted is
 * refused: no daemon can type. -EBADMSG, -EACCES: encrypted. */
int minisign_parse_secret(const char *text, size_t size, struct minisign_secret *ret, struct err *e);
int minisign_parse_signature(const char *text, size_t size, struct minisign_signature *ret, struct err *e);

/* -ENOKEY: made with another key; -EKEYREJECTED: the data or the trusted comment are not what was signed. */
int minisign_verify(const struct minisign_signature *signature, const struct minisign_public *key,
                    const void *data, size_t size, struct err *e);
/* The trusted comment alone, where the data are not at hand any more. */
int minisign_verify_comment(const struct minisign_signature *signature, const struct minisign_public *key,
                            struct err *e);

/* Append a signature file. -EINVAL: a comment with a line break or over the limit. */
int minisign_sign(const struct minisign_secret *key, const void *data, size_t size,
                  const char *trusted_comment, struct buf *out, struct err *e);

int minisign_generate(struct minisign_secret *ret, struct err *e);
void minisign_public_of(const struct minisign_secret *key, struct minisign_public *ret);
int minisign_write_public(const struct minisign_public *key, struct buf *out);
int minisign_write_secret(const struct minisign_secret *key, struct buf *out);
