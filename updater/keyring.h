/* SPDX-License-Identifier: Apache-2.0 */
/* The public keys on this machine: those of the configuration, and the list of release keys that was fetched
 * last, kept with its signature in `<store>/.state/` and verified again each time it is read. */
#pragma once

#include "common/minisign.h"
#include "updater/options.h"
#include "updater/trust.h"

#define KEYRING_ROOTS_MAX 8

struct keyring {
        struct minisign_public roots[KEYRING_ROOTS_MAX];
        size_t roots_n;
        struct key_list keys; /* version 0: no list was fetched yet */
};

/* -ENOENT, -EBADMSG: a key file that is missing or none. A kept list that is damaged or has expired is left
 * out, with a warning in ret_note: a new one will be fetched. */
int keyring_load(const struct options *options, int64_t now_s, struct keyring *ret, struct err *ret_note,
                 struct err *e);
/* Keep the list that the sandbox has fetched into `staging`, after verifying it again. */
int keyring_keep(const struct options *options, const char *staging, int64_t now_s, struct keyring *keyring,
                 struct err *e);
