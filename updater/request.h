/* SPDX-License-Identifier: Apache-2.0 */
/* Asks a model server for a model (Kepler's POST /model) and takes the bytes only when they are what the
 * answer claims. */
#pragma once

#include "common/buf.h"
#include "common/err.h"
#include "schema/machine.h"
#include "updater/options.h"
#include "updater/slot.h"

#define REQUEST_DIGEST_MAX 64 /* "sha-256=<base64>" and the terminator */

/* The request's JSON, keys in upstream's order. Pure. */
int request_format(const struct options *options, const struct slot *slot, const struct machine_spec *spec,
                   struct buf *out);

/* "sha-256=<base64>" of these bytes. */
void request_digest(const void *data, size_t size, char ret[REQUEST_DIGEST_MAX]);
/* Does a Digest header fit the bytes? 0: it does, or names no SHA-256; -EBADMSG: it does not. */
int request_check_digest(const char *header, const void *data, size_t size, struct err *e);

/* Fetch into ret (limited by its max). -EPERM: server.trust forbids this server; -ENOENT: the server has no
 * such model; -EBADMSG: not a model, or damaged; -EFBIG; errors of http_exchange(). */
int request_model(const struct options *options, const struct slot *slot, const struct machine_spec *spec,
                  struct buf *ret, struct err *e);
