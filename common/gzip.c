/* SPDX-License-Identifier: Apache-2.0 */
#include "common/gzip.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <zlib.h>

#define GZIP_CHUNK  ((size_t)64 << 10)
#define GZIP_WINDOW (15 + 16) /* the largest window, gzip framing */
#define GZIP_MEM    8
#define GZIP_UNIX   3

static size_t min_size(size_t a, size_t b)
{
        return a < b ? a : b;
}

/* zlib counts in unsigned int, so larger input goes in pieces. */
static void feed(z_stream *z, const unsigned char **data, size_t *size)
{
        size_t piece = min_size(*size, UINT_MAX);

        if (z->avail_in > 0)
                return;
        z->next_in = (unsigned char *)(uintptr_t)*data; /* zlib's prototype lacks a const */
        z->avail_in = (uInt)piece;
        *data += piece;
        *size -= piece;
}

/* Point z at free room behind out's bytes: 0, -EFBIG when there is none, -ENOMEM. */
static int make_room(z_stream *z, struct buf *out)
{
        size_t room = min_size(GZIP_CHUNK, out->max - out->size);
        char *p;

        if (room == 0)
                return -EFBIG;
        p = buf_reserve(out, room);
        if (!p)
                return out->failed;
        z->next_out = (unsigned char *)p;
        z->avail_out = (uInt)room;
        return 0;
}

static int deflate_all(z_stream *z, const unsigned char *data, size_t size, struct buf *out)
{
        int code, r;

        do {
                feed(z, &data, &size);
                r = make_room(z, out);
                if (r < 0)
                        return r;
                code = deflate(z, size == 0 ? Z_FINISH : Z_NO_FLUSH);
                buf_grew(out, (size_t)(z->next_out - (unsigned char *)out->data) - out->size);
        } while (code == Z_OK || code == Z_BUF_ERROR);
        return code == Z_STREAM_END ? 0 : -EINVAL;
}

int gzip_pack(const void *data, size_t size, int level, struct buf *out, struct err *e)
{
        gz_header header = { .os = GZIP_UNIX }; /* no time, no name: the same bytes every time */
        z_stream z = { 0 };
        int r;

        if (deflateInit2(&z, level, Z_DEFLATED, GZIP_WINDOW, GZIP_MEM, Z_DEFAULT_STRATEGY) != Z_OK)
                return err_set(e, -ENOMEM, "cannot start gzip (level %d)", level);
        (void)deflateSetHeader(&z, &header); /* fails only for a stream without gzip framing */
        r = deflate_all(&z, data, size, out);
        (void)deflateEnd(&z);
        if (r == -EFBIG)
                return err_set(e, r, "gzip output exceeds %zu bytes", out->max);
        if (r < 0)
                return err_set(e, r, "gzip failed");
        return 0;
}

/* The buffer is full: is there more? A byte of it goes into a place of its own. */
static int inflate_beyond(z_stream *z, bool *ret_more)
{
        unsigned char extra;
        int code;

        z->next_out = &extra;
        z->avail_out = 1;
        code = inflate(z, Z_NO_FLUSH);
        z->next_out = NULL;
        *ret_more = z->avail_out == 0;
        return code;
}

static int inflate_all(z_stream *z, const unsigned char *data, size_t size, struct buf *out)
{
        bool more;
        int code, r;

        for (;;) {
                feed(z, &data, &size);
                r = make_room(z, out);
                if (r == -EFBIG && !out->failed) {
                        code = inflate_beyond(z, &more);
                        if (more)
                                return -EFBIG;
                } else if (r < 0) {
                        return r;
                } else {
                        code = inflate(z, Z_NO_FLUSH);
                        buf_grew(out, (size_t)(z->next_out - (unsigned char *)out->data) - out->size);
                }

                if (code == Z_STREAM_END) {
                        if (z->avail_in == 0 && size == 0)
                                return 0;
                        if (inflateReset(z) != Z_OK) /* another member follows */
                                return -EBADMSG;
                } else if (code == Z_MEM_ERROR) {
                        return -ENOMEM;
                } else if (code != Z_OK) {
                        return -EBADMSG; /* also Z_BUF_ERROR: the input ended early */
                }
        }
}

int gzip_unpack(const void *data, size_t size, struct buf *out, struct err *e)
{
        z_stream z = { 0 };
        int r;

        if (inflateInit2(&z, GZIP_WINDOW) != Z_OK)
                return err_set(e, -ENOMEM, "cannot start gunzip: out of memory");
        r = inflate_all(&z, data, size, out);
        (void)inflateEnd(&z);
        if (r == -EFBIG)
                return err_set(e, r, "gzip data unpacks to more than %zu bytes", out->max);
        if (r == -EBADMSG)
                return err_set(e, r, "gzip data is damaged or truncated");
        if (r < 0)
                return err_set(e, r, "cannot unpack gzip data: out of memory");
        return 0;
}
