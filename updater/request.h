/* SPDX-License-Identifier: Apache-2.0 */
/* Asks a model server for a model (Kepler's POST /model) and takes the bytes only when they are what the
 * answer claims. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"
#include "schema/machine.h"
#include "updater/options.h"
#include "updater/slot.h"

#define REQUEST_DIGEST_MAX 64 /* "sha-256=<base64>" and the terminator */

/* The request's JSON, keys in upstream's order. Pure. */
int request_format(const struct options *options, const struct slot *slot, const struct machine_spec *spec,
                   struct buf *out);

/* The same as path and query of GET /api/v1/models. Pure. */
int request_path(const struct options *options, const struct slot *slot, const struct machine_spec *spec,
                 struct buf *out);

/* "sha-256=<base64>" of these bytes. */
void request_digest(const void *data, size_t size, char ret[REQUEST_DIGEST_MAX]);
/* Does a Digest header fit the bytes? 0: it does, or names no SHA-256; -EBADMSG: it does not. */
int request_check_digest(const char *header, const void *data, size_t size, struct err *e);

/* What a server answered. */
struct answer {
        bool unchanged;          /* it has what we have; nothing else is filled */
        struct buf bytes;        /* as transported; its max is the limit */
        struct buf signature;    /* minisign's text; empty: none came along */
        char etag[128];          /* to be shown the next time; "" none */
        bool is_mirror;          /* it is one */
        uint64_t retry_after_ms; /* after a failure: what the server asks for; 0: nothing */
};
void answer_init(struct answer *answer, const struct slot *slot);
void answer_done(struct answer *answer);

/* Ask for a model: GET /api/v1/models?..., conditional on `etag` when it is not "". A server that does not
 * know that is taken for a mirror (mirror.h) where models are signed, else asked as Kepler's exporter asks
 * (POST /model). -EPERM: server.trust forbids this server; -ENOENT: the server has no such model; -EBADMSG:
 * not a model, or damaged; -EFBIG; -EAGAIN: it asked to come later; errors of http_exchange(). */
struct question {
        const struct slot *slot;
        const struct machine_spec *spec;
        const char *etag;       /* of what we have; "" unknown */
        const char *current_id; /* what we have; "" nothing: a mirror that has it too has nothing new */
        const char *node_id;    /* who asks, which decides in a staged rollout; "" nobody: what is stable */
        bool is_mirror;         /* the last answer came from a mirror: it is asked as one first */
};
int request_model(const struct options *options, const struct question *question, struct answer *ret,
                  struct err *e);
/* POST /api/v1/report. The text is the body. -ENOENT: this server takes none. */
int request_report(const struct options *options, const struct buf *text, struct err *e);
/* The server's list of release keys and its signature. -ENOENT: it has none. */
int request_keys(const struct options *options, struct buf *list, struct buf *signature, struct err *e);
