/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as gzip: never more than the limit comes out, and what comes out packs and unpacks to itself. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/gzip.h"

#define LIMIT ((size_t)1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CLEANUP(buf_done) struct buf plain, packed, back;
        int r;

        buf_init(&plain, LIMIT);
        buf_init(&packed, 2 * LIMIT);
        buf_init(&back, LIMIT);
        r = gzip_unpack(data, size, &plain, NULL);
        if (plain.size > LIMIT)
                abort();
        if (r < 0)
                return 0;
        if (gzip_pack(plain.data, plain.size, 1, &packed, NULL) < 0 ||
            gzip_unpack(packed.data, packed.size, &back, NULL) < 0 || back.size != plain.size ||
            (back.size > 0 && memcmp(back.data, plain.data, back.size) != 0))
                abort();
        return 0;
}
