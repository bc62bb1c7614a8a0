/* SPDX-License-Identifier: Apache-2.0 */
/* Energy by pod: the sum over its containers, those included that are gone. Pure. */
#pragma once

#include "collector/window.h"

struct pod {
        char id[POD_ID_MAX];
        const struct entity_names
                *names; /* of one of its containers, while the window is not changed; NULL */
        double energy_uj[SPLIT_N], energy_total_uj[SPLIT_N]; /* as an entity's */
        bool live;                                           /* a container of it is in the window */
};

/* Adds up the last sample. Once per sample, after attribute(). Out of memory: pods that are new are left out.
 */
void pods_fold(struct window *window);
