/* SPDX-License-Identifier: Apache-2.0 */
/* Weight JSON from anywhere: either refused, or a model whose watts are finite and not negative. The first
 * byte chooses the name that is known from elsewhere. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char *const hints[] = { NULL,
                                             "SGDRegressorTrainer_0",
                                             "LogarithmicRegressionTrainer_1",
                                             "ExponentialRegressionTrainer_2",
                                             "LogisticRegressionTrainer",
                                             "x" };
        CLEANUP(model_freep) struct model *m = NULL;
        double row[MODEL_FEATURES_MAX], watts[MODEL_COMPONENTS_MAX];
        size_t index[MODEL_FEATURES_MAX];
        struct err e;

        if (size < 1 || model_load_weight((const char *)data + 1, size - 1,
                                          hints[data[0] % ARRAY_SIZE(hints)], &m, &e) < 0)
                return 0;
        (void)model_check(m, &e);
        for (int times = -1; times <= 2; times++) {
                for (size_t i = 0; i < model_features(m); i++) {
                        index[i] = i;
                        row[i] = times * model_feature_scale(m, i);
                }
                model_predict(m, index, row, MODEL_FEATURES_MAX, 1, watts);
                for (size_t i = 0; i < model_components(m); i++)
                        if (!isfinite(watts[i]) || watts[i] < 0)
                                abort();
        }
        return 0;
}
