/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in, replies out; no sockets. One table of routes says what there is. */
#pragma once

#include "model-server/server.h"

#define ACCEPT_WATTLOOP   "application/vnd.wattloop.model+zip"
#define REPLY_HEADERS_MAX 8

struct call {
        const char *method, *path;
        /* Header or query parameter by name; NULL: not sent. */
        const char *(*header)(const struct call *call, const char *name);
        const char *(*query)(const struct call *call, const char *name);
        void *arg;           /* of the two */
        const char *node_id; /* whose series the client may upload; NULL: anybody's */
        const char *body;
        size_t size;
};

struct reply {
        int status;
        const char *type; /* media type; static */
        struct buf body;
        int fd; /* owned: instead of body, when not -1 */
        size_t fd_size;
        struct {
                char name[32], value[256];
        } headers[REPLY_HEADERS_MAX];
        size_t headers_n;
        char *signature; /* owned: header Wattloop-Signature; NULL: none */
};
void reply_init(struct reply *reply);
void reply_done(struct reply *reply);
void reply_header(struct reply *reply, const char *name, const char *fmt, ...) PRINTF(3, 4);
/* {"error": "…"} */
void reply_error(struct reply *reply, int status, const char *fmt, ...) PRINTF(3, 4);

/* Words that quote the client; whatever they look like, no browser runs them. */
void reply_words(struct reply *reply, int status, const char *words);
void reply_digest(struct reply *reply); /* of the body as it is */

struct route {
        const char *path, *method, *allow;
        size_t body_max; /* 0: the option limits.import_bytes */
        bool needs_token;
        bool worker; /* touches the database: runs on the worker's thread */
        void (*handle)(struct server *server, const struct call *call, struct reply *reply);
        /* Instead: all that wait at a time, on the worker. */
        void (*handle_all)(struct server *server, const struct call *const calls[],
                           struct reply *const replies[], size_t n);
        /* Instead: true when the reply comes later, and done(arg) says so; false when it is made. */
        bool (*submit)(struct server *server, const struct call *call, struct reply *reply,
                       void (*done)(void *arg), void *arg);
};
/* NULL with a 404 or 405 (or the answer to OPTIONS) in the reply. */
const struct route *route_find(const char *method, const char *path, struct reply *reply);
size_t route_body_max(const struct route *route, const struct server *server);
