/* SPDX-License-Identifier: Apache-2.0 */
/* POST /train: requests for upstream's offline trainer, one after the other on a thread of their own, and
 * what became of those whose clients did not wait. */
#pragma once

#include "model-server/serve/api.h"

#define TRAININGS_WAITING_MAX 4  /* more are told to come back */
#define TRAININGS_KEPT_MAX    16 /* results of clients that did not wait; the oldest goes first */
#define TRAININGS_KEPT_BYTES  ((size_t)32 << 20) /* of them together; the newest is always kept */
#define TRAIN_BODY_MAX        ((size_t)16 << 20) /* memory is about ten times that */

struct trainings;
int trainings_start(struct trainings **ret, struct err *e);
/* The one in work is finished, the others are told that the server stops. */
void trainings_stop(struct trainings *trainings);

/* Of any thread. True: `done` is called, with the reply made, on the training thread, and call and reply must
 * stay until then. False: the reply is made. A request with `Prefer: respond-async` or ?async=true gets a 202
 * at once. */
bool trainings_submit(struct trainings *trainings, const struct call *call, struct reply *reply,
                      uint64_t seed, void (*done)(void *arg), void *arg);

/* GET /api/v1/train?id=…, GET /api/v1/train/result?id=… */
void trainings_status(struct trainings *trainings, const struct call *call, struct reply *reply);
void trainings_result(struct trainings *trainings, const struct call *call, struct reply *reply);
