/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client (libcurl, loaded when it is first needed): time limits, size limit, TLS verification and
 * user agent are set here. Only http:// and https:// are spoken; redirects are not followed. No other file
 * includes curl.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"

struct http_request {
        const char *method; /* "GET", "POST" */
        const char *url;
        const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
        const void *body;           /* may be NULL */
        size_t body_size;
        long timeout_ms;     /* whole exchange; 0: HTTP_TIMEOUT_MS */
        size_t max_response; /* bytes of body; 0: HTTP_RESPONSE_MAX */
        const char *ca_file; /* extra trust anchor; NULL: the system's */
        bool insecure;       /* takes any certificate: only where the user said so */
        /* NULL: none, and the environment's proxy (http_proxy, https_proxy, no_proxy) */
        const char *client_cert, *client_key; /* PEM files; without a key file the certificate's holds it */
        const char *proxy;                    /* URL */
        bool slow_answer; /* the peer may be silent for as long as timeout_ms, without being taken for stuck
                           */
        const char *userpwd; /* "user:password" for basic authentication */
};

#define HTTP_TIMEOUT_MS   30000L
#define HTTP_CONNECT_MS   5000L
#define HTTP_RESPONSE_MAX ((size_t)16 << 20)

#define HTTP_SIGNATURE_MAX 4096

struct http_response {
        long status;
        struct buf body;
        char content_type[128]; /* "" when absent; these are cut when longer */
        char etag[128];
        char retry_after[64];
        char digest[128];
        char signature[HTTP_SIGNATURE_MAX]; /* Wattloop-Signature */
};

struct http; /* a reusable connection; not thread-safe */

int http_new(const char *user_agent, struct http **ret_http, struct err *e);
void http_free(struct http *http);
CLEANUP_DEFINE(struct http *, http_free);

/* Any status is a success of this call. -ETIMEDOUT, -ECONNREFUSED, -EFBIG (body over the limit), -EPROTO
 * (short body, TLS or protocol error), -EINVAL (bad URL), -EHOSTUNREACH (name or route). The caller releases
 * `ret` with http_response_done() after success. */
int http_exchange(struct http *http, const struct http_request *request, struct http_response *ret,
                  struct err *e);
void http_response_done(struct http_response *response);
/* For whoever reads a head: one line of it, "Name: value", into its field if it has one. */
void http_take_header(struct http_response *response, const char *line, size_t size);

/* What a Retry-After asks for, in ms from now (wall clock): seconds or a date. 0: nothing, or no sense. */
uint64_t http_retry_after_ms(const char *retry_after, int64_t now_ms);
