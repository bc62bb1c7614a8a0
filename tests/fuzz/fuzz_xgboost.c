/* SPDX-License-Identifier: Apache-2.0 */
/* An XGBoost file from anywhere, JSON or UBJSON: refused, or trees that run. The first byte is the number of
 * columns. */
#include <stdint.h>
#include <stdlib.h>

#include "model/xgboost.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        double rows[2][MODEL_FEATURES_MAX] = { { 0 } }, out[2];
        CLEANUP(plan_freep) struct plan *plan = NULL;
        size_t index[MODEL_FEATURES_MAX];
        struct model_component c = { 0 };
        struct err e;

        if (size < 1)
                return 0;
        if (plan_new(1 + data[0] % MODEL_FEATURES_MAX, &plan, &e) < 0)
                abort();
        if (xgboost_add(plan, data + 1, size - 1, &e) < 0)
                return 0;
        for (size_t j = 0; j < MODEL_FEATURES_MAX; j++) {
                index[j] = j;
                rows[1][j] = (double)j;
        }
        c.plan = plan;
        plan_eval(&c, index, rows[0], MODEL_FEATURES_MAX, 2, out, 1);
        return 0;
}
