/* SPDX-License-Identifier: Apache-2.0 */
/* A pickle from anywhere: refused, or data; and when the data look like a trained model, stages that run. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "model/curve.h"
#include "model/sklearn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t columns_of(const struct pickle_node *root)
{
        int64_t n;

        if (pickle_integer(pickle_attr(root, "n_features_in_"), &n) < 0 || n < 1 || n > MODEL_FEATURES_MAX)
                return 2;
        return (size_t)n;
}

static void run(struct plan *plan)
{
        static double rows[PLAN_ROWS + 3][MODEL_FEATURES_MAX]; /* a whole block, and less than one */
        double out[PLAN_ROWS + 3];
        struct model_component c = { .plan = plan };
        size_t index[MODEL_FEATURES_MAX];

        for (size_t j = 0; j < MODEL_FEATURES_MAX; j++) {
                index[j] = j;
                rows[1][j] = 1 + (double)j;
                rows[2][j] = -1e300 * (double)j;
        }
        plan_eval(&c, index, rows[0], MODEL_FEATURES_MAX, PLAN_ROWS + 3, out, 1);
        rows[3][0] = (double)NAN;
        plan_eval(&c, index, rows[0], MODEL_FEATURES_MAX, PLAN_ROWS, out, 1);
        rows[3][0] = 0;
}

static int add_curve(struct plan *plan, const struct pickle_node *root, struct err *e)
{
        return curve_add(plan, root, 0, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static sklearn_adder *const adders[] = { sklearn_add_transformer, sklearn_add_regressor, add_curve };
        CLEANUP(pickle_freep) struct pickle *pickle = NULL;
        struct err e;

        if (pickle_read(data, size, &pickle, &e) < 0)
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(adders); i++) {
                CLEANUP(plan_freep) struct plan *plan = NULL;

                if (plan_new(columns_of(pickle_root(pickle)), &plan, &e) < 0)
                        abort();
                if (adders[i](plan, pickle_root(pickle), &e) == 0)
                        run(plan);
        }
        return 0;
}
