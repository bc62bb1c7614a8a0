/* SPDX-License-Identifier: Apache-2.0 */
#include "schema/rollout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODE_ID_SIZE 33

double rollout_place(const char *node_id, const char *model_id)
{
        char text[NODE_ID_SIZE + HASH_HEX_SIZE], hex[HASH_HEX_SIZE];

        (void)snprintf(text, sizeof(text), "%.32s/%.64s", node_id, model_id); /* always fits */
        hash_sha256_hex(text, strlen(text), hex);
        hex[8] = '\0';
        return 100.0 * (double)strtoul(hex, NULL, 16) / 4294967296.0;
}

bool rollout_admits(const struct statement *s, const char *node_id)
{
        return !s->halted && rollout_place(node_id, s->id) < 100.0 - s->held_back;
}
