/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the signature of a model into the reply that carries it. */
#pragma once

#include "model-server/serve/api.h"
#include "schema/statement.h"

/* Whom the model is for (schema/rollout.h); all zero: for everybody. */
struct seal_terms {
        unsigned int held_back;
        bool halted;
};

/* A model that was chosen for a request, and the catalog that it is in. */
struct choice {
        struct catalog *catalog;   /* owned: a reference */
        const struct offer *offer; /* NULL: nothing fits */
        struct seal_terms terms;
};

/* The reply holds the offer's archive or weights. 0 without signing.key_file. -EBADMSG: the archive is none
 * that an updater could take, so it goes unsigned; others: it cannot be signed now. */
int seal_archive(struct server *server, const struct offer *offer, const char *digest,
                 const struct seal_terms *terms, struct reply *reply, struct err *e);
int seal_weights(struct server *server, const struct offer *offer, const struct answer *weights,
                 const struct seal_terms *terms, struct reply *reply, struct err *e);

/* Content id of a weight object: an archive of the one entry weight.json. */
int seal_weight_id(const void *data, size_t size, char ret[HASH_HEX_SIZE]);
/* "rapl-sysfs/AbsPower/archive" */
void seal_slot(const struct offer *offer, bool weight, char ret[STATEMENT_SLOT_MAX]);
