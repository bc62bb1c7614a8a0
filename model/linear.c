/* SPDX-License-Identifier: Apache-2.0 */
/* Every linear model of scikit-learn: LinearRegression, SGD, Ridge, Lasso, ElasticNet, Huber differ in how
 * they were trained, not in how they predict. Generalised ones end in an exponential. */
#include "model/sklearn.h"

#include <errno.h>
#include <math.h>
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

static void run_exp(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        (void)s;
        for (size_t i = 0; i < n; i++)
                out[i] = exp(in[i]);
}

int sklearn_add_exp(struct plan *plan, struct err *e)
{
        return plan_add(plan, 1, run_exp, NULL, e);
}

int linear_add_log(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        int r = linear_add(plan, object, e);

        return r < 0 ? r : sklearn_add_exp(plan, e);
}

/* The link of TweedieRegressor is said, or follows from the power. */
int linear_add_tweedie(struct plan *plan, const struct pickle_node *object, struct err *e)
{
        const struct pickle_node *link = pickle_attr(object, "link");
        double power = 0;
        int r = sklearn_number(object, "power", &power, e);

        if (r < 0)
                return r;
        if (pickle_is_text(link, "log") || (pickle_is_text(link, "auto") && power > 0))
                return linear_add_log(plan, object, e);
        if (pickle_is_text(link, "identity") || pickle_is_text(link, "auto"))
                return linear_add(plan, object, e);
        return err_set(e, -ENOTSUP,
                       "TweedieRegressor with another link than log and identity is not supported");
}
