/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP endpoint: /metrics, /api/v1/top, /healthz and a page with links. It serves a text that is ready,
 * or that is made when somebody asks; it runs on the caller's event loop and has no thread of its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "common/buf.h"
#include "common/err.h"

struct listen_address {
        struct sockaddr_storage address;
        socklen_t size;
        bool loopback;
};

/* "127.0.0.1:8888", "[::1]:8888", "0.0.0.0:9102". -EINVAL with words. */
int listen_address_parse(const char *text, struct listen_address *ret, struct err *e);

struct server;
int server_open(const char *listen_text, struct server **ret, struct err *e);
void server_close(struct server *server);
CLEANUP_DEFINE(struct server *, server_close);

/* The text of /metrics from now on; copied. -ENOMEM leaves the old one. */
int server_publish(struct server *server, const char *text, size_t size);
/* When somebody asks for a text that is out of date, `render` is called first, to publish a new one; what
 * /api/v1/top answers is what `render_top`, which may be NULL, appends. */
#define SERVER_TOP_MAX ((size_t)64 << 20)
void server_on_demand(struct server *server, void (*render)(void *context),
                      void (*render_top)(void *context, struct buf *out), void *context);
void server_outdate(struct server *server);
/* From now on the text of /metrics ends with how long this moment was ago when it is asked for. */
void server_ticked(struct server *server, uint64_t now_ns);

int server_fd(const struct server *server);         /* to be polled for input */
int server_timeout_ms(const struct server *server); /* until server_run() is due anyway; -1: never */
void server_run(struct server *server);
const char *server_address(const struct server *server); /* as it was bound: "127.0.0.1:8888" */
