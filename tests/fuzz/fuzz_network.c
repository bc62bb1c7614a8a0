/* SPDX-License-Identifier: Apache-2.0 */
/* network.json from anywhere: either refused, or a network that any rows can be put through, one or many at a
 * time with the same answers. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/network.h"

#define ROWS 21 /* a block and a part of one */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CLEANUP(network_document_done) struct network_document d = { 0 };
        CLEANUP(plan_freep) struct plan *plan = NULL;
        double rows[ROWS][MODEL_FEATURES_MAX], many[ROWS][MODEL_COMPONENTS_MAX], one[MODEL_COMPONENTS_MAX];
        size_t index[MODEL_FEATURES_MAX];
        struct err e;

        if (network_read(data, size, &plan, &d, &e) < 0)
                return 0;
        for (size_t i = 0; i < MODEL_FEATURES_MAX; i++) {
                index[i] = plan->inputs[i] = i;
                for (size_t r = 0; r < ROWS; r++)
                        rows[r][i] = r == 20 ? NAN : r == 19 ? 1e300 : (double)((r * 7 + i * 3) % 11) - 5;
        }
        plan_run(plan, index, rows[0], MODEL_FEATURES_MAX, ROWS, many[0], MODEL_COMPONENTS_MAX);
        for (size_t r = 0; r < ROWS; r++) {
                plan_run(plan, index, rows[r], MODEL_FEATURES_MAX, 1, one, MODEL_COMPONENTS_MAX);
                for (size_t k = 0; k < d.n_components; k++)
                        if (isnan(one[k]) != isnan(many[r][k]) || fabs(one[k] - many[r][k]) > 0)
                                abort();
        }
        return 0;
}
