/* SPDX-License-Identifier: Apache-2.0 */
/* Signs what the server serves (docs/contracts.md, 4). All signatures of a generation carry its version and
 * time, which are on the disk before the first one leaves; a generation ends when something else is served or
 * when half of the statements' life is over. Of any thread. */
#pragma once

#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"
#include "common/minisign.h"
#include "schema/statement.h"

struct signer_settings {
        const char *key_file;   /* minisign secret key without a password */
        const char *keys_file;  /* the list of release keys, to warn when the key is not on it; "" none */
        const char *state_path; /* version and time of the last generation */
        int64_t life_s;         /* of a statement; 0: for ever */
};

struct signer;
/* -EPERM: others than its owner may read the key file; -EACCES: the key has a password; -EBADMSG. */
int signer_open(const struct signer_settings *settings, struct signer **ret, struct err *e);
void signer_free(struct signer *signer);
/* Read a secret key for signing; errors as above. */
int signer_read_key(const char *path, struct minisign_secret *ret, struct err *e);

/* Something else is served from now on: the next signature begins a generation. NULL is allowed. */
void signer_renew(struct signer *signer);

/* What is signed, when its signature is not remembered: the bytes as transported and their content id. */
struct signer_bytes {
        const void *data;
        size_t size;
        char id[HASH_HEX_SIZE];
};
typedef int (*signer_bytes_fn)(void *arg, struct signer_bytes *ret, struct err *e);
/* `what` has slot, name and rollout; id, version, time and expiry are filled in. `digest` tells the bytes
 * apart. Appends minisign's text. */
int signer_sign(struct signer *signer, const struct statement *what, const char *digest,
                signer_bytes_fn bytes, void *arg, struct buf *out, struct err *e);

/* max(last + 1, UNIX time): goes on growing even where the last one is lost. */
uint64_t signer_next_version(uint64_t last, int64_t now_s);
