/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers in a blob: 64 bits each, little endian. Writing errors stick to the buffer, reading errors to
 * `bad`. */
#pragma once

#include <endian.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "common/buf.h"

struct blob {
        const unsigned char *data;
        size_t left;
        bool bad; /* it ended early, or a number is not finite */
};

static inline void blob_write_u64(struct buf *out, uint64_t v)
{
        v = htole64(v);
        (void)buf_append(out, &v, sizeof(v));
}

static inline void blob_write_double(struct buf *out, double d)
{
        uint64_t v;

        memcpy(&v, &d, sizeof(v));
        blob_write_u64(out, v);
}

static inline uint64_t blob_read_u64(struct blob *b)
{
        uint64_t v = 0;

        if (b->left < sizeof(v)) {
                b->bad = true;
                return 0;
        }
        memcpy(&v, b->data, sizeof(v));
        b->data += sizeof(v);
        b->left -= sizeof(v);
        return le64toh(v);
}

static inline double blob_read_double(struct blob *b)
{
        uint64_t v = blob_read_u64(b);
        double d;

        memcpy(&d, &v, sizeof(d));
        if (!isfinite(d))
                b->bad = true;
        return d;
}
