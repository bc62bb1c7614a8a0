/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon: one epoll loop for sockets, signals and finished loads. */
#pragma once

#include "estimator/options.h"

/* Serve until SIGTERM or SIGINT. SIGHUP reloads the store. Negative when it could not start to serve; it has
 * been logged then. */
int server_run(const struct options *options);
