/* SPDX-License-Identifier: Apache-2.0 */
/* The one growing buffer: bytes with a limit that its initialiser names. Always NUL-terminated behind size.
 */
#pragma once

#include <stddef.h>
#include "common/cleanup.h"

struct buf {
        char *data;  /* owned; NULL while nothing was appended */
        size_t size; /* bytes in use, without the terminator */
        size_t cap;
        size_t max; /* size never exceeds this */
        int failed; /* 0, -ENOMEM or -EFBIG: sticky, so a caller may append many times and check once */
};

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);  /* frees the bytes, keeps max */
void buf_clear(struct buf *b); /* size = 0, failed = 0; keeps the memory */

/* 0, -EFBIG beyond max, -ENOMEM; also recorded in b->failed, after which every append fails. */
int buf_append(struct buf *b, const void *data, size_t size);
int buf_puts(struct buf *b, const char *s);
int buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);

/* Room for `size` more bytes at data + size; the caller writes them and calls buf_grew(). NULL on failure. */
char *buf_reserve(struct buf *b, size_t size);
void buf_grew(struct buf *b, size_t size);

/* Remove the first `size` bytes. */
void buf_consume(struct buf *b, size_t size);
