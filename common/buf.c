/* SPDX-License-Identifier: Apache-2.0 */
#include "common/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#define BUF_FIRST_CAP 256

void buf_init(struct buf *b, size_t max)
{
        *b = (struct buf){ .max = max };
}

void buf_done(struct buf *b)
{
        free(b->data);
        buf_init(b, b->max);
}

void buf_clear(struct buf *b)
{
        b->size = 0;
        b->failed = 0;
        if (b->data)
                b->data[0] = '\0';
}

static int fail(struct buf *b, int r)
{
        b->failed = r;
        return r;
}

/* Make room for `size` more bytes and the terminator. */
static int grow(struct buf *b, size_t size)
{
        size_t need, cap;
        char *data;

        if (b->failed)
                return b->failed;
        if (size > b->max - b->size)
                return fail(b, -EFBIG);
        need = b->size + size;
        if (b->data && need < b->cap)
                return 0;

        cap = b->cap ? b->cap : BUF_FIRST_CAP;
        while (cap <= need) {
                if (cap > SIZE_MAX / 2)
                        return fail(b, -ENOMEM);
                cap *= 2;
        }
        data = realloc(b->data, cap);
        if (!data)
                return fail(b, -ENOMEM);
        b->data = data;
        b->cap = cap;
        b->data[b->size] = '\0';
        return 0;
}

int buf_append(struct buf *b, const void *data, size_t size)
{
        int r;

        r = grow(b, size);
        if (r < 0)
                return r;
        if (size > 0)
                memcpy(b->data + b->size, data, size);
        buf_grew(b, size);
        return 0;
}

int buf_puts(struct buf *b, const char *s)
{
        return buf_append(b, s, strlen(s));
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
        va_list ap;
        int n, r;

        va_start(ap, fmt);
        n = vsnprintf(NULL, 0, fmt, ap);
        va_end(ap);
        if (n < 0)
                return fail(b, -EINVAL);
        r = grow(b, (size_t)n);
        if (r < 0)
                return r;

        va_start(ap, fmt);
        (void)vsnprintf(b->data + b->size, (size_t)n + 1, fmt, ap); /* grow() made room for exactly this */
        va_end(ap);
        b->size += (size_t)n;
        return 0;
}

char *buf_reserve(struct buf *b, size_t size)
{
        if (grow(b, size) < 0)
                return NULL;
        return b->data + b->size;
}

void buf_grew(struct buf *b, size_t size)
{
        assert(b->data && b->size + size < b->cap);
        b->size += size;
        b->data[b->size] = '\0';
}

void buf_consume(struct buf *b, size_t size)
{
        if (size == 0)
                return;
        assert(size <= b->size);
        memmove(b->data, b->data + size, b->size - size + 1);
        b->size -= size;
}
