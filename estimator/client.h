/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: bytes in, framed requests out to the service, replies back. Any number of requests,
 * answered in order; while a reply waits for its reader, nothing more is read, so a connection holds one
 * reply at most. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/buf.h"
#include "estimator/frame.h"

struct client_service {
        /* Append the reply to a complete request; negative: close the connection. */
        int (*answer)(void *arg, const char *text, size_t size, struct buf *out);
        /* Append an error reply to bytes that are no request; the connection ends after it. */
        int (*reject)(void *arg, const char *text, struct buf *out);
        void *arg;
        size_t request_max;
        size_t buffered_max;
        size_t *buffered; /* bytes that all clients hold of incomplete requests and unread replies */
};

struct client {
        int fd;
        struct buf in, out;
        struct frame frame; /* of what `in` begins with */
        size_t sent;        /* bytes of `out` */
        size_t counted;     /* our share of *buffered */
        bool ending;        /* close when `out` is written */
        bool progressed;    /* an exchange was completed; the caller, who watches the time, resets it */
};

void client_init(struct client *client, int fd, size_t request_max);
void client_done(struct client *client, const struct client_service *service);

/* Do what epoll's `events` allow. Returns the events to wait for next, or negative: the connection is over.
 */
int client_handle(struct client *client, uint32_t events, const struct client_service *service);
