/* SPDX-License-Identifier: Apache-2.0 */
/* A mirror: a directory that any web server, object store or USB stick can offer to updaters. Plain files:
 *
 *     <slot>/current.minisig      the server's signature of the model that is current: its statement names
 * the id <slot>/<id>.zip or .json    the bytes that it signs; they never change, and the one before stays for
 * those who have just read the signature before api/v1/keys, keys.minisig   the list of release keys and its
 * signature, at the server's own paths
 *
 * Nothing is signed here: signatures are the server's, and are checked before anything is replaced. */
#pragma once

#include <stdbool.h>
#include "common/hash.h"
#include "updater/slot.h"

#define MIRROR_PATH_MAX (SLOT_TEXT_MAX + HASH_HEX_SIZE + 32)

/* "/<slot>/<id>.zip"; id NULL: "/<slot>/current.minisig" */
void mirror_path(const struct slot *slot, const char *id, char ret[MIRROR_PATH_MAX]);

/* Is this directory a mirror that offers something for the slot? */
bool mirror_has(const char *dir, const struct slot *slot);

int mirror_run(const void *options, int argc, char **argv); /* DIR */
