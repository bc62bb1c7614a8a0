/* SPDX-License-Identifier: Apache-2.0 */
/* Who may upload: the bearer tokens of auth.token_file, read again when the file has changed.
 *
 * A line is "TOKEN" (the fleet's) or "NODE_ID TOKEN" (one node's, for its series alone); for TOKEN may stand
 * "sha256:HEX", its SHA-256, and behind that a note. Lines with '#' are comments. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "common/cleanup.h"
#include "common/err.h"

#define TOKENS_MAX      4096
#define TOKEN_FILE_MAX  ((size_t)1 << 20)
#define TOKEN_NODE_MAX  128
#define TOKEN_HASH_SIZE 32

struct token {
        unsigned char hash[TOKEN_HASH_SIZE]; /* SHA-256 */
        char node_id[TOKEN_NODE_MAX];        /* "": the fleet's */
        bool hashed;                         /* in the file, too */
};

/* A line without its end. 1: a token; 0: a comment, or empty; -EBADMSG. ret_note, which may be NULL: what is
 * behind a hash, within the line. */
int bearer_parse(const char *line, size_t size, struct token *ret, const char **ret_note, struct err *e);

/* May be used by several threads at a time. */
struct bearers;
/* -EACCES: everybody can write to the file; -EBADMSG: a line is wrong; -E2BIG. */
int bearers_open(const char *path, struct bearers **ret, struct err *e);
void bearers_free(struct bearers *bearers);
CLEANUP_DEFINE(struct bearers *, bearers_free);

/* Of a header "Authorization", NULL when there was none. Looks whether the file has changed first, so that a
 * token that was taken out is good for nothing from then on. A file that cannot be read, or has a mistake,
 * leaves those of before in force, and is logged. ret_node_id: whose series it may upload; "": anybody's. */
bool bearers_ok(struct bearers *bearers, const char *authorization, char ret_node_id[TOKEN_NODE_MAX]);
