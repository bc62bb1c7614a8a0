/* SPDX-License-Identifier: Apache-2.0 */
/* Talks to the estimator over its unix socket (docs/contracts.md, 6): makes it reload, and asks what it
 * serves. */
#pragma once

#include <jansson.h>
#include "common/err.h"
#include "updater/slot.h"

/* One command, one answer. -ENOTCONN: nobody listens there; -ETIMEDOUT; -EBADMSG: no JSON answer. */
int notify_command(const char *socket_path, const char *command, long long timeout_ms, json_t **ret_answer,
                   struct err *e);

enum notify_state {
        NOTIFY_OTHER, /* serves another model there, or none */
        NOTIFY_SERVED,
        NOTIFY_REFUSED, /* could not load it; the words say why */
};

/* What a status answer says about one model. Pure. */
enum notify_state notify_judge(const json_t *status, const struct slot *slot, const char *id,
                               struct err *words);

/* Make it reload, then ask until it serves the model. 0: it does. -ENOTCONN: no estimator is running;
 * -EPERM: it refused the model; -ETIMEDOUT: it did not serve it in time; others: no usable answer. */
int notify_until_served(const char *socket_path, const struct slot *slot, const char *id,
                        long long timeout_ms, struct err *e);
