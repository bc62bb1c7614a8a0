/* SPDX-License-Identifier: Apache-2.0 */
/* Notices pipelines that others put below models.path, change or remove, and has them served without a
 * restart: at once where inotify tells, else (a network file system, a file written late) at the next look.
 */
#pragma once

#include "model-server/server.h"

#define WATCH_LOOK_MS  10000 /* without an event */
#define WATCH_QUIET_MS 200   /* after the last event: what comes in many files is read once */
#define WATCH_WAIT_MS  5000  /* and if they never end */

struct watch;
int watch_start(struct server *server, struct watch **ret, struct err *e);
void watch_stop(struct watch *watch);
