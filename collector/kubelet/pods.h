/* SPDX-License-Identifier: Apache-2.0 */
/* The kubelet's list of pods (GET /pods): who each container of this node is. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include "common/buf.h"
#include "common/err.h"

#define PODS_TEXT_MAX ((size_t)8 << 20)

struct pods_options {
        const char
                *url; /* "https://127.0.0.1:10250"; "http://…:10255" is the read-only port, without a token */
        const char *token_file; /* read again for each request, as it is rotated; "" none */
        const char *ca_file;    /* further trust anchors; "" none */
        bool verify_tls;
        long timeout_ms; /* of one request */
};

struct pods;

int pods_open(const struct pods_options *options, struct pods **ret, struct err *e);
/* Appends lines to `out`: "pod UID NAMESPACE NAME", "container ID UID NAMESPACE POD NAME". -EACCES: the token
 * is refused; -EPROTO: TLS, or no list of pods; -ETIMEDOUT and other errors of the network. */
int pods_read(struct pods *pods, struct buf *out, struct err *e);
void pods_close(struct pods *pods);
CLEANUP_DEFINE(struct pods *, pods_close);

/* The same from a list that is there. Pure. What has no name that fits is left out. */
void pods_write(const json_t *list, struct buf *out);
