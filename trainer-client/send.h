/* SPDX-License-Identifier: Apache-2.0 */
/* Delivers packed batches to a model server and says whether they were acknowledged. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "common/err.h"

struct sender;

struct sender_options {
        const char *url;        /* base */
        const char *token_file; /* "": none */
        const char *ca_file;    /* "": the system's anchors only */
        long timeout_ms;
        int attempts;
        uint64_t retry_base_ms, retry_max_ms;
};

/* Borrows the options' strings. */
int sender_new(const struct sender_options *options, struct sender **ret_sender, struct err *e);
void sender_free(struct sender *sender);
CLEANUP_DEFINE(struct sender *, sender_free);

struct send_batch {
        char name[256];   /* "<node_id>/<epoch>/<first>-<last>", for the server's log */
        const void *body; /* gzip */
        size_t size;
        size_t samples;
};

/* Deliver with back-off; blocks. 0: acknowledged, and nothing else is. -E2BIG: too large for the server,
 * smaller batches may pass; -EAGAIN: no attempt worked, later ones may; -EBADMSG: refused, or the answer was
 * no acknowledgement: repeating does not help. */
int sender_deliver(struct sender *sender, const struct send_batch *batch, struct err *e);
size_t sender_retries(const struct sender *sender); /* attempts beyond the first, all batches together */

/* How long to wait before attempt 2, 3, …: between 0 and base * 2^(attempt - 2), both bounded by max; at
 * least what the server asked for, within max. random: any number. Pure. */
uint64_t send_backoff_ms(const struct sender_options *options, int attempt, uint64_t asked_ms,
                         uint64_t random);
