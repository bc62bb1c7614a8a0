/* SPDX-License-Identifier: Apache-2.0 */
/* What a signature says of a model: the trusted comment of its minisign signature (docs/contracts.md, 4). The
 * server signs it, the updater believes it after the signature was verified. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"
#include "common/hash.h"

#define STATEMENT_SLOT_MAX 96
#define STATEMENT_NAME_MAX 128

struct statement {
        uint64_t version;              /* grows with each publication of a slot by one server */
        int64_t time_s;                /* when it was signed, UNIX seconds */
        int64_t expires_s;             /* not to be installed later than this; 0: never expires */
        char id[HASH_HEX_SIZE];        /* content id of the entries (common/hash.h) */
        char slot[STATEMENT_SLOT_MAX]; /* "rapl-sysfs/AbsPower/archive" */
        char name[STATEMENT_NAME_MAX]; /* of the model */
        unsigned int
                held_back; /* percent of the nodes that have to wait (schema/rollout.h); 0: it is for all */
        bool halted;       /* for nobody any more */
};

/* "wattloop:1 version:7 time:1764288000 expires:0 id:<hex> slot:rapl-sysfs/AbsPower/archive model:<name>":
 * and " rollout:<100 - held_back>", " halted:1" where they are not 100 and 0. The words of a later version
 * may be more and stand in another order. -EBADMSG: a word is missing, is there twice, or is not what it
 * should be; -ENOTSUP: of a later, incompatible version. */
int statement_parse(const char *text, struct statement *ret, struct err *e);
/* Failure is sticky in the buffer. */
int statement_write(const struct statement *statement, struct buf *out);
