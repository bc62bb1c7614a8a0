/* SPDX-License-Identifier: Apache-2.0 */
/* What happens in the sandbox: fetch or read a model, check it in every way, stage it. The parent gets a
 * record of fixed size and believes none of it that a signature or a hash does not show (update.c). */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include "common/hash.h"
#include "common/minisign.h"
#include "schema/machine.h"
#include "updater/options.h"
#include "updater/slot.h"
#include "updater/trust.h"

#define EXAMINE_URL_MAX 512

struct examine_order {
        const struct options *options;
        const struct machine *machine;
        const char *staging; /* directory for the staged model and keys */
        struct slot slot;    /* --from: its form is what the file is */
        struct trust trust;
        struct minisign_public roots[8];
        size_t roots_n;
        int64_t keys_version;
        char current_id[HASH_HEX_SIZE]; /* "" none, or its files are not what they were */
        char etag[128];                 /* of the answer it came with; "" unknown */
        const char *current_dir;        /* where that is; "" none */
        bool is_mirror;                 /* the last answer came from a mirror */
        bool for_mirror;                /* stage the bytes as they came */
};

struct examined {
        bool unchanged;    /* the server says so, or it is the current model */
        bool held;         /* a staged rollout has not come to this machine, or was halted: unchanged, too */
        bool fetched;      /* the bytes came: id and model are known */
        bool is_mirror;    /* the answer came from a mirror */
        bool keys_fetched; /* staging holds keys.json and keys.json.minisig */
        int form;          /* enum form */
        char staged[PATH_MAX];
        char id[HASH_HEX_SIZE];
        char model[MODEL_NAME_MAX];
        char etag[128];
        char signature[MINISIGN_TEXT_MAX]; /* "" not signed */
        uint64_t retry_after_ms;
};

#define EXAMINE_KEYS     "keys.json"
#define EXAMINE_KEYS_SIG "keys.json.minisig"

/* For sandbox_run(): arg is a struct examine_order, ret a struct examined. Errors as in request.h, verify.h,
 * trust.h. */
int examine(void *order, void *ret, struct err *e);
