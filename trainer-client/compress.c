/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <libdeflate.h>
#include "trainer-client/destination.h"

#define LEVEL 1

struct compressor {
        struct libdeflate_compressor *deflate;
};

struct compressor *compressor_new(void)
{
        struct compressor *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        c->deflate = libdeflate_alloc_compressor(LEVEL);
        if (c->deflate)
                return c;
        free(c);
        return NULL;
}

void compressor_free(struct compressor *c)
{
        if (c)
                libdeflate_free_compressor(c->deflate);
        free(c);
}

int compressor_gzip(struct compressor *c, const struct buf *plain, struct buf *out, struct err *e)
{
        size_t bound = libdeflate_gzip_compress_bound(c->deflate, plain->size), n;
        char *room = buf_reserve(out, bound);

        if (!room)
                return err_set(e, out->failed, "a batch is too large");
        n = libdeflate_gzip_compress(c->deflate, plain->data, plain->size, room, bound);
        if (n == 0)
                return err_set(e, -EIO, "cannot compress a batch");
        buf_grew(out, n);
        return 0;
}
