/* SPDX-License-Identifier: Apache-2.0 */
/* The live table of watts: what a running collector offers as /api/v1/top, and the terminal view that asks
 * it. */
#pragma once

#include "collector/options.h"
#include "collector/window.h"
#include "common/buf.h"
#include "common/err.h"

/* The last interval: the node's sensors, and every container, virtual machine and process with its dynamic
 * watts. Components that were not read are null. Failure is sticky in `out`. */
void top_write(const struct window *window, const char *node_name, struct buf *out);

/* Asks the collector at metrics.listen. On a terminal a table that is renewed until `q` or a signal; else, or
 * with --once or --json, one table. Waits for the collector for TOP_PATIENCE_S at most. -ECONNREFUSED: none
 * is there. */
#define TOP_PATIENCE_S 5
int top_run(const struct options *options, struct err *e);
