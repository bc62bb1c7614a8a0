/* SPDX-License-Identifier: Apache-2.0 */
/* Reads from data.prometheus_url on a thread of its own and imports what is new through the worker. How far
 * it came is in the database, beside what was imported; the last minute is read again each time, for samples
 * that came late. */
#pragma once

#include "model-server/worker.h"

struct puller;
int puller_start(struct server *server, struct worker *worker, struct puller **ret, struct err *e);
void puller_stop(struct puller *puller);
