/* SPDX-License-Identifier: Apache-2.0 */
/* One request to an estimator's unix socket (contract 6), bounded in time and size. A connection carries one
 * request; the reply ends where its JSON object is complete, because Kepler's server does not close. */
#pragma once

#include <jansson.h>
#include "common/err.h"

#define ESTIMATOR_TIMEOUT_MS 500
#define ESTIMATOR_REPLY_MAX  ((size_t)64 << 10)

/* A new reference in ret. -ENOENT, -ECONNREFUSED: nobody listens; -ETIMEDOUT; -EBADMSG: no JSON object;
 * -EFBIG; -EPIPE: closed before the reply was complete. */
int estimator_ask(const char *socket_path, const json_t *request, json_t **ret, struct err *e);
