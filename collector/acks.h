/* SPDX-License-Identifier: Apache-2.0 */
/* What destinations have acknowledged (contract 7): acks/<destination>.json beside samples.db. */
#pragma once

#include <stdint.h>

#define ACKS_MAX 64 /* destinations */

struct ack {
        int64_t interval_id; /* everything up to this one */
        char epoch[40];
};

/* How many destinations there are; 0 without a directory. A file or directory that cannot be read
 * acknowledges nothing, so that nothing is removed because of it; more than ACKS_MAX destinations do neither.
 */
int acks_read(const char *store_path, struct ack ret[ACKS_MAX]);
