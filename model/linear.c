/* SPDX-License-Identifier: Apache-2.0 */
/* Every linear model of scikit-learn: LinearRegression, SGD, Ridge, Lasso, ElasticNet, Huber differ in how
 * they were trained, not in how they predict. */
#include "model/sklearn.h"

#include <stdio.h>

static void run_linear(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (; n > 0; n--, in += s->n_in, out++) {
                double y = 0;

                for (size_t j = 0; j < s->n_in; j++)
                        y += s->a[j] * in[j];
                *out = y + s->c;
        }
}

int linear_add(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        struct plan_stage *s = NULL;
        int r;

        (void)snprintf(plan->note, sizeof(plan->note), "%zu coefficients", plan->columns);
        r = plan_add(plan, 1, run_linear, &s, e);
        if (r == 0)
                r = sklearn_vector(plan, object, "coef_", s->n_in, &s->a, e);
        if (r == 0)
                r = sklearn_number(object, "intercept_", &s->c, e);
        return r;
}
