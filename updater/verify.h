/* SPDX-License-Identifier: Apache-2.0 */
/* Is this a model that may be installed? From bytes to a loaded, tried model; nothing touches the disk. */
#pragma once

#include <stddef.h>
#include "common/err.h"
#include "common/hash.h"
#include "config/option.h"
#include "model/model.h"
#include "updater/slot.h"

/* A model that is worth installing. */
struct candidate {
        struct model_archive *entries; /* owned; form weight: weight.json alone, the bytes as they came */
        struct model *model;           /* owned */
        char id[HASH_HEX_SIZE];
};
void candidate_done(struct candidate *c);

/* Bytes as transported. -EBADMSG: not a model or a damaged one; -E2BIG; -ENOTSUP: a kind this version cannot
 * evaluate. name_hint as in model_load_weight(). */
int verify_unpack(enum form form, const void *data, size_t size, const char *name_hint, struct candidate *ret,
                  struct err *e);
/* The same from a directory's files. */
int verify_read_dir(enum form form, const char *path, const char *name_hint, struct candidate *ret,
                    struct err *e);

/* Output type, components and features against what was asked for. -EPROTO: another model than that. */
int verify_purpose(const struct candidate *c, const struct slot *slot, const struct string_list *supplied,
                   struct err *e);

struct samples;

/* Predict with both for what this machine did last. -EDOM: on average they are further apart than `percent`
 * of what `serving` says, and than VERIFY_APART_W: what is nearly 0 W is not worth a quarrel. Rows that lack
 * a feature of either are left out. */
#define VERIFY_APART_W 1.0
int verify_agreement(const struct candidate *c, const struct candidate *serving,
                     const struct samples *samples, double percent, struct err *e);

/* Predict for a machine at rest and at several loads: watts must be plausible. -EDOM: they are not. */
int verify_canary(const struct candidate *c, const struct slot *slot, struct err *e);
