/* SPDX-License-Identifier: Apache-2.0 */
/* Bundles for places that no network reaches: <directory>/000001.jsonl.gz, …, each a batch, and manifest.json
 * with its detached signature manifest.json.minisig. The manifest is what counts: a bundle that is not in it
 * does not exist. */
#pragma once

#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"
#include "common/hash.h"
#include "common/minisign.h"

#define BUNDLE_TEXT_MAX 128

struct bundle {
        int64_t number;
        char sha256[HASH_HEX_SIZE];
        int64_t bytes, samples;
        char node_id[BUNDLE_TEXT_MAX], epoch[BUNDLE_TEXT_MAX];
        int64_t first_id, last_id, first_end_ms, end_ms;
};

struct manifest {
        struct bundle *bundle; /* owned; by number */
        size_t n;
};
void manifest_done(struct manifest *m);

/* "000001.jsonl.gz" */
#define BUNDLE_NAME_MAX 40
void bundle_name(int64_t number, char ret[BUNDLE_NAME_MAX]);

/* -ENOENT: there is none. */
int manifest_load(const char *dir, size_t max, struct manifest *ret, struct buf *ret_text, struct err *e);
/* Is the manifest's text signed with one of the keys? -ENOKEY, -EKEYREJECTED, -ENOENT. */
int manifest_verify(const char *dir, const struct buf *text, const struct minisign_public *keys, size_t n,
                    struct err *e);

/* The writing side. A directory that does not exist is made. */
struct bundles;
int bundles_open(const char *dir, const char *secret_key_file, size_t max, struct bundles **ret,
                 struct err *e);
void bundles_free(struct bundles *b);

/* Make the bundle durable, bundle->number at the earliest: its number and digest are filled in. What is there
 * already is not written again. -ENOSPC: the disk is full, or there are max bundles. */
int bundles_add(struct bundles *b, struct bundle *bundle, const struct buf *body, struct err *e);

/* Public keys, one a line (comment lines of minisign are skipped); the caller frees *ret. */
int bundle_read_keys(const char *path, struct minisign_public **ret, size_t *ret_n, struct err *e);
