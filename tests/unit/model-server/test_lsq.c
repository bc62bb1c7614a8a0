/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "model-server/train/lsq.h"

#define N 200

static void near(double have, double want, double by)
{
        if (!(fabs(have - want) <= by))
                fail_msg("%.17g is not %.17g", have, want);
}

static const double ones[N] = { [0 ... N - 1] = 1 };

static void the_median_is_the_constant_of_least_absolute_deviations(void **state)
{
        const double y[] = { 1, 2, 3, 10, 1000 };
        const struct design d = { 5, 1, { ones }, y };
        const struct lsq_options lad = { LOSS_ABSOLUTE, 0, false };
        double w[1];

        (void)state;
        assert_int_equal(lsq_fit(&d, &lad, w, NULL), 0);
        near(w[0], 3, 1e-5);
}

/* Six points on y = 2 + 3x and three far off: squares are drawn there, absolute deviations are not. */
static void a_line_through_most_points_is_found_exactly(void **state)
{
        const double x[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };
        const double y[] = { 2, 5, 8, 11, 14, 17, 90, 80, 0 };
        const struct design d = { 9, 2, { ones, x }, y };
        const struct lsq_options lad = { LOSS_ABSOLUTE, 0, false }, ols = { LOSS_SQUARED, 0, false };
        double w[2];

        (void)state;
        assert_int_equal(lsq_fit(&d, &lad, w, NULL), 0);
        near(w[0], 2, 1e-4);
        near(w[1], 3, 1e-4);
        assert_int_equal(lsq_fit(&d, &ols, w, NULL), 0);
        near(w[1], 387.0 / 60, 1e-9); /* Sxy / Sxx by hand */
        near(w[0], 227.0 / 9 - 4 * 387.0 / 60, 1e-9);
}

/* With residuals beyond delta on one side only, Huber's constant c solves sum of min(delta, y - c) = 0. */
static void hubers_constant_solves_its_equation(void **state)
{
        const double y[] = { 0, 1, 2, 100 };
        const struct design d = { 4, 1, { ones }, y };
        const struct lsq_options huber = { LOSS_HUBER, 3, false };
        double w[1];

        (void)state;
        assert_int_equal(lsq_fit(&d, &huber, w, NULL), 0);
        near(w[0], 2, 1e-6); /* -2 - 1 + 0 + 3 */
}

/* y falls with b, so its weight is 0, and the others are those of the fit without it. */
static void a_weight_that_would_be_negative_leaves_the_active_set(void **state)
{
        double a[N], b[N], y[N], free_of_b[2], w[3];
        const struct design all = { N, 3, { ones, a, b }, y }, less = { N, 2, { ones, a }, y };
        const struct lsq_options nnls = { LOSS_SQUARED, 0, true }, ols = { LOSS_SQUARED, 0, false };

        (void)state;
        for (int i = 0; i < N; i++) {
                a[i] = (i * 37 % N) / (double)N;
                b[i] = (i * 53 % N) / (double)N;
                y[i] = -4 + 5 * a[i] - 2 * b[i];
        }
        assert_int_equal(lsq_fit(&all, &nnls, w, NULL), 0);
        assert_int_equal(lsq_fit(&less, &ols, free_of_b, NULL), 0);
        assert_true(w[2] >= 0 && w[2] <= 0);
        near(w[0], free_of_b[0], 1e-9);
        near(w[1], free_of_b[1], 1e-9);
        assert_true(w[0] < 0); /* the constant may be negative */
}

static void weights_that_may_stay_are_as_without_the_condition(void **state)
{
        double a[N], b[N], y[N], w[3];
        const struct design d = { N, 3, { ones, a, b }, y };
        const struct lsq_options nnls = { LOSS_SQUARED, 0, true }, nnlad = { LOSS_ABSOLUTE, 0, true };

        (void)state;
        for (int i = 0; i < N; i++) {
                a[i] = (i * 37 % N) / (double)N;
                b[i] = a[i] * a[i];
                y[i] = 1 + 2 * a[i] + 3 * b[i];
        }
        assert_int_equal(lsq_fit(&d, &nnls, w, NULL), 0);
        near(w[1], 2, 1e-7);
        near(w[2], 3, 1e-7);
        assert_int_equal(lsq_fit(&d, &nnlad, w, NULL), 0);
        near(w[0], 1, 1e-5);
        near(w[1], 2, 1e-4);
        near(w[2], 3, 1e-4);
}

static void of_two_equal_columns_the_sum_of_weights_counts(void **state)
{
        static const int losses[] = { LOSS_SQUARED, LOSS_ABSOLUTE, LOSS_HUBER };
        double a[N], y[N], w[4];
        const double none[N] = { 0 };
        const struct design d = { N, 4, { ones, a, a, none }, y };

        (void)state;
        for (int i = 0; i < N; i++) {
                a[i] = i / (double)N;
                y[i] = 7 + 2 * a[i];
        }
        for (size_t k = 0; k < ARRAY_SIZE(losses); k++) {
                const struct lsq_options o = { (enum loss)losses[k], 3, false };

                assert_int_equal(lsq_fit(&d, &o, w, NULL), 0);
                near(w[0], 7, 1e-5);
                near(w[1] + w[2], 2, 1e-5);
                near(w[3], 0, 0);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_median_is_the_constant_of_least_absolute_deviations),
                cmocka_unit_test(a_line_through_most_points_is_found_exactly),
                cmocka_unit_test(hubers_constant_solves_its_equation),
                cmocka_unit_test(a_weight_that_would_be_negative_leaves_the_active_set),
                cmocka_unit_test(weights_that_may_stay_are_as_without_the_condition),
                cmocka_unit_test(of_two_equal_columns_the_sum_of_weights_counts),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
