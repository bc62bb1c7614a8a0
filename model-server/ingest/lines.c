/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/ingest/lines.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>

#include "common/buf.h"

#define INFLATE_CHUNK ((size_t)64 << 10)

struct reader {
        const struct lines_limits *limits;
        lines_fn fn;
        void *arg;
        struct buf pending; /* the line that the next piece continues */
        size_t plain;       /* bytes seen */
        size_t number;      /* lines seen */
};

static void reader_done(struct reader *r)
{
        buf_done(&r->pending);
}

static int emit(struct reader *reader, struct err *e)
{
        int r = 0;

        if (++reader->number > reader->limits->lines)
                return err_set(e, -EFBIG, "more than %zu lines", reader->limits->lines);
        if (reader->pending.size)
                r = reader->fn(reader->pending.data, reader->pending.size, reader->number, reader->arg, e);
        buf_clear(&reader->pending);
        return r;
}

/* Lines are gathered in `pending` so that the consumer always sees a terminated one. */
static int feed(struct reader *reader, const char *data, size_t size, struct err *e)
{
        reader->plain += size;
        if (reader->plain > reader->limits->plain_bytes)
                return err_set(e, -EFBIG, "more than %zu bytes when unpacked", reader->limits->plain_bytes);

        while (size) {
                const char *end = memchr(data, '\n', size);
                size_t n = end ? (size_t)(end - data) : size;
                int r = buf_append(&reader->pending, data, n);

                if (r == -EFBIG)
                        return err_set(e, r, "line %zu is longer than %zu bytes", reader->number + 1,
                                       LINE_BYTES_MAX);
                if (r < 0)
                        return err_set(e, r, "out of memory");
                if (!end)
                        return 0;
                r = emit(reader, e);
                if (r < 0)
                        return r;
                data = end + 1;
                size -= n + 1;
        }
        return 0;
}

static void end_inflate(z_stream *z)
{
        (void)inflateEnd(z); /* nothing to release when it was never begun */
}

static int feed_gzip(struct reader *reader, const void *data, size_t size, struct err *e)
{
        CLEANUP(end_inflate) z_stream z = { 0 };
        CLEANUP(freep) char *out = malloc(INFLATE_CHUNK);
        int code, r;

        if (!out || size > UINT_MAX || inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
                return err_set(e, -ENOMEM, "out of memory");
        z.next_in = (Bytef *)(uintptr_t)data; /* zlib does not write there */
        z.avail_in = (uInt)size;
        do {
                z.next_out = (Bytef *)out;
                z.avail_out = (uInt)INFLATE_CHUNK;
                code = inflate(&z, Z_NO_FLUSH);
                if (code == Z_BUF_ERROR)
                        return err_set(e, -EBADMSG, "the gzip data end early");
                if (code != Z_OK && code != Z_STREAM_END)
                        return err_set(e, -EBADMSG, "the gzip data are damaged: %s",
                                       z.msg ? z.msg : "unknown reason");
                r = feed(reader, out, INFLATE_CHUNK - z.avail_out, e);
                if (r < 0)
                        return r;
        } while (code != Z_STREAM_END);
        if (z.avail_in)
                return err_set(e, -EBADMSG, "%u bytes behind the gzip data", z.avail_in);
        return 0;
}

int lines_read(const void *data, size_t size, bool gzip, const struct lines_limits *limits, lines_fn fn,
               void *arg, struct err *e)
{
        CLEANUP(reader_done) struct reader reader = { .limits = limits, .fn = fn, .arg = arg };
        int r;

        buf_init(&reader.pending, LINE_BYTES_MAX);
        r = gzip ? feed_gzip(&reader, data, size, e) : feed(&reader, data, size, e);
        if (r == 0 && reader.pending.size)
                r = emit(&reader, e);
        return r;
}
