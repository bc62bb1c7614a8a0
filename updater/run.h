/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands that change the store share: the store with its lock, what is remembered and believed,
 * and one slot on its way. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"
#include "schema/machine.h"
#include "updater/examine.h"
#include "updater/keyring.h"
#include "updater/options.h"
#include "updater/state.h"
#include "updater/store.h"
#include "updater/trust.h"

#define ID_SHOWN 12 /* digits of an id in our messages */

struct run {
        const struct options *options;
        struct machine machine;
        struct store *store;
        struct state state;
        struct keyring keyring;
        bool kepler_changed; /* upstream's programs have something to reload */
        int64_t now_s;       /* the later of the clock and the newest signed time seen */
};

/* Errors as in store_open(), keyring_load(). */
int run_open(struct run *run, const struct options *o, struct err *e);
void run_done(struct run *run);
void run_save(struct run *run); /* a failure is a warning */

/* One slot and what becomes of it. */
struct update {
        struct run *run;
        struct slot slot;
        struct slot_state *state;
        struct installed before;
        struct examined found;
        const char *served; /* words for the report */
        bool changed;
};

int update_open(struct run *run, const char *name, struct update *u, struct err *e);
/* Into the history; a failure is a warning. */
void update_record(const struct update *u, const char *what, const char *words);
/* The content id of a directory's files, by reading and hashing alone. */
int update_hash_dir(const char *path, char ret[HASH_HEX_SIZE], struct err *e);
/* Has the installed model `id` ("" never) still the files that it had? */
bool update_is_whole(const struct update *u, const char *id);
struct trust update_trust(const struct update *u);
/* Fetch, check and stage in the sandbox; u->found says what came of it, also after some failures. For a
 * mirror the bytes are staged as they came. Errors of examine(), sandbox_run(). */
int update_examine(struct update *u, const struct trust *trust, bool for_mirror, struct err *e);
/* Keep the list of keys that the sandbox fetched, if it did, verified once more. */
int update_keep_keys(struct update *u, struct err *e);
/* 0: the estimator serves it, or there is none to ask. Errors of notify_until_served(). */
int update_notify(struct update *u, const char *id, struct err *e);
/* Upstream's layouts, where configured, hold it too. Errors of kepler_install(). */
int update_kepler(struct update *u, const char *id, struct err *e);
