/* SPDX-License-Identifier: Apache-2.0 */
/* From the text of a request to the text of its reply. The same code answers on the socket and in `predict`.
 */
#pragma once

#include "common/buf.h"
#include "estimator/reply.h"
#include "estimator/store.h"

#define REPLY_MAX ((size_t)64 << 20) /* bytes; far above what the largest request makes */

struct answerer {
        const struct models *models; /* one set answers the whole request */
        long cpus;                   /* logical CPUs of this machine, for core_ratio */
        enum reply_precision precision;
        bool no_pedigree; /* replies end with core_ratio */
        /* What {"command": name} does: append a reply, or -ENOENT for an unknown name. NULL: no commands. */
        int (*command)(void *arg, const char *name, struct buf *out);
        void *arg;
        uint64_t *rows; /* rows that got watts are added here; NULL: nobody counts them */
};

enum answer_kind {
        ANSWER_WATTS,
        ANSWER_COMMAND,
        ANSWER_REFUSED, /* `out` tells the client why */
};

/* Append the reply to one complete request. Negative only when not even an error reply could be made. */
int answer_request(const struct answerer *answerer, const char *text, size_t size, struct buf *out);
