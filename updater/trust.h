/* SPDX-License-Identifier: Apache-2.0 */
/* Whom to believe: is this signature one of a release key that is good now, and does it speak of a model that
 * may be installed here? Pure: keys, bytes and the time are arguments. */
#pragma once

#include <stdint.h>
#include "common/minisign.h"
#include "schema/key_list.h"
#include "schema/statement.h"
#include "updater/slot.h"

/* What the machine knows when it judges. */
struct trust {
        struct key_list keys;
        int64_t now_s;    /* the later of the clock and the newest signed time seen */
        bool downgrade;   /* the user asked for an older or expired model */
        uint64_t version; /* of what is installed in the slot; 0: nothing signed */
        int64_t time_s;
};

/* Accept a list of release keys that one of the root keys signed. -ENOKEY, -EKEYREJECTED, -EBADMSG as in
 * minisign_verify(); -ESTALE: older than `known_version`; -EKEYEXPIRED. */
int trust_accept_keys(const struct minisign_public *roots, size_t n, const struct buf *list,
                      const struct buf *signature, int64_t known_version, int64_t now_s, struct key_list *ret,
                      struct err *e);

/* Add the keys of a list to the known ones. Each list's revocations count for all. */
void trust_merge_keys(struct trust *trust, const struct key_list *list);

/* The signature over bytes as transported. -ENOKEY: by none of the keys; -EKEYREVOKED; -EKEYEXPIRED;
 * -EKEYREJECTED: the bytes are not what was signed; -EBADMSG: no signature, or no statement in it; -EPROTO:
 * of another slot; -ESTALE: older than what is installed, or expired. */
int trust_check(const struct trust *trust, const struct slot *slot, const struct buf *signature,
                const void *data, size_t size, struct statement *ret, struct err *e);
/* The same of what stands in a directory: the statement, which was signed too, names the content id that the
 * files must have. Nothing but the signature is parsed. -EKEYREJECTED: the files are not what was signed. */
int trust_confirm(const struct trust *trust, const struct slot *slot, const struct buf *signature,
                  const char *id, struct statement *ret, struct err *e);
