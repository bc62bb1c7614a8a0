/* SPDX-License-Identifier: Apache-2.0 */
/* What went wrong in words, beside the errno. A function that can fail returns 0 (or a meaningful positive
 * count) or a negative errno and fills the optional struct err; the first function that fails fills it. */
#pragma once

#include "common/cleanup.h"

struct err {
        char text[256]; /* always terminated; cut when longer */
};

/* Set the words and return r. e may be NULL. */
int err_set(struct err *e, int r, const char *fmt, ...) PRINTF(3, 4);

/* The same for a failed system call: appends ": <strerror(errno)>" and returns -errno. */
int err_sys(struct err *e, const char *fmt, ...) PRINTF(2, 3);

/* Put words in front of what is there ("cannot load 'x': <old text>"); returns r unchanged. */
int err_prefix(struct err *e, int r, const char *fmt, ...) PRINTF(3, 4);
