/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server (libmicrohttpd): connections, bodies, time limits. A few threads share all connections;
 * requests that touch the database wait, suspended, for the worker, so an upload holds nobody up. */
#pragma once

#include "model-server/serve/api.h"
#include "model-server/worker.h"

#define HTTPD_THREADS     4
#define TLS_FILE_MAX      ((size_t)1 << 20)
#define HTTPD_HEADER_MAX  ((size_t)32 << 10) /* request line and headers */
#define HTTPD_UPLOADS_MAX 64                 /* uploads in memory or in work; more are told to come back */
#define HTTPD_QUERIES_MAX 4  /* other requests that wait for the worker, before uploads wait too long */
#define HTTPD_REPORTS_MAX 64 /* of nodes; small and quick, and a fleet's come together */
#define HTTPD_REPLIES_MAX ((size_t)256 << 20) /* bytes of all answers that clients have not read yet */
#define HTTPD_REPLY_SMALL ((size_t)64 << 10)  /* not counted: acknowledgements and weights always get out */
#define HTTPD_DRAIN_MAX   ((size_t)64 << 20) /* of a refused body: read, so that the client sees the answer */

struct httpd;
int httpd_start(struct server *server, struct worker *worker, struct httpd **ret, struct err *e);
unsigned short httpd_port(const struct httpd *httpd);
/* Close connections that are over their time; call about once a second. */
void httpd_reap(struct httpd *httpd);
/* Stop accepting, let the requests in work finish for up to wait_ms, close. */
void httpd_drain(struct httpd *httpd, int wait_ms);
void httpd_stop(struct httpd *httpd);
