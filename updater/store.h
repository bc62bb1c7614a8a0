/* SPDX-License-Identifier: Apache-2.0 */
/* The model store on disk (docs/contracts.md, 5). Whenever this program ends, `current` names a complete
 * model or does not exist: directories appear by rename, links change by rename, and nothing that is linked
 * is touched. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"
#include "common/hash.h"
#include "common/minisign.h"
#include "updater/slot.h"

struct store;

/* Make the directories, be the only one that changes the store, remove what a killed run left. -EBUSY:
 * another updater is at work. */
int store_open(const char *path, struct store **ret_store, struct err *e);
void store_close(struct store *store);
CLEANUP_DEFINE(struct store *, store_close);
const char *store_staging(const struct store *store); /* directory for stage_write() */

/* What the links of a slot name; "" for a link that is missing or names no id. */
struct installed {
        char current[HASH_HEX_SIZE];
        char previous[HASH_HEX_SIZE];
};
void store_look(const char *store_path, const struct slot *slot, struct installed *ret);

/* "<store>/<slot>/<id>" */
int store_model_path(const char *store_path, const struct slot *slot, const char *id, char ret[PATH_MAX],
                     struct err *e);

/* Move a staged directory to its id. What is there already under the id is exchanged for it and removed. */
int store_place(struct store *store, const struct slot *slot, const char *staged, const char *id,
                struct err *e);
/* Make id current, and what was current before previous. */
int store_switch(struct store *store, const struct slot *slot, const char *id, const struct installed *before,
                 struct err *e);
/* Put both links back to what they were. */
int store_restore(struct store *store, const struct slot *slot, const struct installed *before,
                  struct err *e);
/* Remove the models of a slot that neither link names. */
int store_prune(struct store *store, const struct slot *slot, struct err *e);

/* wattloop.json of an installed model. */
struct store_info {
        char model_name[MODEL_NAME_MAX];
        char source_url[512]; /* cut when longer */
        int64_t fetched_ms;
        uint64_t version; /* signed; 0: not signed */
        int64_t time_s;
        char signature[MINISIGN_TEXT_MAX]; /* minisign's text; "" not signed */
};
int store_read_info(const char *store_path, const struct slot *slot, const char *id, struct store_info *ret,
                    struct err *e);
