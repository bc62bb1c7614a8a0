/* SPDX-License-Identifier: Apache-2.0 */
/* Loads sets of models on a thread of its own, one at a time, so that no request waits for a disk. A finished
 * load makes the loader's descriptor readable. */
#pragma once

#include <pthread.h>
#include "estimator/store.h"

struct loader {
        const char *store; /* borrowed */
        int fd;            /* eventfd */
        pthread_t thread;
        bool running;
        bool again; /* asked for while running: what it read may be old already */
        /* The thread's from its start to its join: */
        const struct models *previous; /* stays valid: the owner swaps only after the join */
        struct models *result;
        struct err error;
        int status;
};

int loader_init(struct loader *loader, const char *store, struct err *e);
void loader_done(struct loader *loader); /* waits for a load that is running */

/* Begin to load, or note that it must be done again. */
int loader_start(struct loader *loader, const struct models *previous, struct err *e);

/* After `fd` became readable: 1 and the new set, which the caller owns; 0 when nothing had finished; negative
 * when loading failed. When `again` was asked for, the caller starts the next. */
int loader_finish(struct loader *loader, struct models **ret, bool *ret_again, struct err *e);
