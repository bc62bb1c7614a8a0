/* SPDX-License-Identifier: Apache-2.0 */
/* Tells when the store's current models may have changed, by inotify: when a `current` link appears or goes,
 * or one of the directories above it. The store need not be there yet. */
#pragma once

#include <stdbool.h>
#include "common/err.h"

struct store_watch {
        int fd;            /* inotify, non-blocking; readable when something happened */
        const char *store; /* borrowed */
};

int store_watch_open(const char *store, struct store_watch *ret, struct err *e);
void store_watch_close(struct store_watch *watch);

/* After `fd` became readable: take the events, watch what is new. True: the store should be loaded again. */
bool store_watch_changed(struct store_watch *watch);
