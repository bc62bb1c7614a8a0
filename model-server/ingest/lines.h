/* SPDX-License-Identifier: Apache-2.0 */
/* A request body, gzip or plain, one line at a time: memory stays at one line whatever the body unpacks to.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "common/err.h"

#define LINE_BYTES_MAX ((size_t)8 << 20)

struct lines_limits {
        size_t plain_bytes; /* unpacked, all lines */
        size_t lines;
};

/* `line` is NUL-terminated behind size; number counts from 1. Empty lines are skipped. A negative result ends
 * the reading and becomes lines_read()'s. */
typedef int (*lines_fn)(const char *line, size_t size, size_t number, void *arg, struct err *e);

/* -EBADMSG damaged or truncated gzip; -EFBIG over a limit. */
int lines_read(const void *data, size_t size, bool gzip, const struct lines_limits *limits, lines_fn fn,
               void *arg, struct err *e);
