/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a verified model to a directory of its own on the store's file system, completely and durably, where
 * nobody looks for it yet. */
#pragma once

#include <limits.h>
#include <stdint.h>
#include "common/err.h"
#include "schema/statement.h"
#include "updater/verify.h"

/* What wattloop.json says about where a model came from. */
struct origin {
        char *url; /* owned */
        int64_t fetched_ms;
        char digest[HASH_HEX_SIZE + 16]; /* of the bytes as transported; "" unknown */
        const char *signature;           /* borrowed: minisign's text; "" or NULL: not signed */
        struct statement statement;      /* what it says, when there is one */
};

/* Write entries into an empty directory and sync all of it. */
int stage_entries(const char *dir, const struct model_archive *entries, struct err *e);

/* On success ret is a new directory below staging_path with all entries and wattloop.json, synced. On failure
 * nothing is left behind. */
int stage_write(const char *staging_path, const struct candidate *c, const struct origin *origin,
                char ret[PATH_MAX], struct err *e);
