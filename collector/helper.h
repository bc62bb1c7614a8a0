/* SPDX-License-Identifier: Apache-2.0 */
/* A helper process that speaks to somebody over TLS, so that neither that nor a slow peer is inside the
 * collector. It writes lines; they are read here without waiting, and it is started again when it died. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "common/cleanup.h"
#include "common/err.h"

#define HELPER_LINE_MAX 1024
#define HELPER_ARGS_MAX 24

struct helper_options {
        const char *name;             /* "wattloop-collector-redfish", found beside this program */
        const char *path;             /* NULL, or where it is instead */
        const char *const *arguments; /* NULL-terminated, behind the name */
        /* Called for each line, without its newline, which it may change. */
        void (*line)(void *context, char *line);
        void *context;
};

struct helper;

/* -ENOEXEC: it is not there; -EACCES and others: it cannot be started. */
int helper_start(const struct helper_options *options, struct helper **ret, struct err *e);
void helper_stop(struct helper *helper);
CLEANUP_DEFINE(struct helper *, helper_stop);

/* Takes the lines that are there; one that is gone is started again, some time after. `passed_ns` is the time
 * since the last call. 0 when it runs, -EPIPE while it does not, or why it could not be started again. */
int helper_tend(struct helper *helper, uint64_t passed_ns);
/* Waits for something to read, at most so long. */
void helper_wait(struct helper *helper, uint64_t wait_ns);
int helper_fd(const struct helper *helper); /* to be polled for input; -1: it does not run */
