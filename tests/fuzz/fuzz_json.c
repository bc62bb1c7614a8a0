/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as JSON: what can be read is written so that it reads back as the same value. */
#include <stdint.h>
#include <stdlib.h>
#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CLEANUP(json_decrefp) json_t *value = NULL, *again = NULL;
        CLEANUP(buf_done) struct buf b;
        struct err e = { 0 };

        buf_init(&b, 16 << 20);
        if (json_parse((const char *)data, size, "fuzz", &value, &e) < 0) {
                if (!e.text[0])
                        abort();
                return 0;
        }
        if (json_write(value, &b) < 0 || json_parse(b.data, b.size, "written", &again, &e) < 0 ||
            !json_equal(value, again))
                abort();
        return 0;
}
