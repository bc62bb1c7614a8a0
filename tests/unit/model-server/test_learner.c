/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <lapacke.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model-server/train/learner.h"

#define ROWS 300
#define P    5

/* A reproducible stream in [0, 1). */
static double next_random(uint64_t *state)
{
        *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (double)(*state >> 11) / 9007199254740992.0;
}

/* Features of very different size, as hardware counters beside page cache millions; truth with noise. */
static void make_row(uint64_t *state, double x[P], double *y)
{
        static const double size[P] = { 3e10, 8e3, 1, 2e5, 1e-3 };

        *y = 20 + next_random(state);
        for (int j = 0; j < P; j++) {
                x[j] = size[j] * next_random(state);
                *y += 10 * (j + 1) * x[j] / size[j];
        }
}

static void weights_equal_lapacks_closed_form(void **state)
{
        static double a[ROWS * (P + 1)], b[ROWS];
        double s[P + 1], x[P], y;
        struct learner l;
        struct weights w;
        lapack_int rank;
        uint64_t seed = 1;

        (void)state;
        learner_init(&l, P);
        for (int i = 0; i < ROWS; i++) {
                make_row(&seed, x, &y);
                assert_int_equal(learner_learn(&l, x, y), 0);
                b[i] = y;
                a[i] = 1;
                for (int j = 0; j < P; j++)
                        a[i + (j + 1) * ROWS] = x[j];
        }
        learner_solve(&l, &w);
        for (int i = 0; i < ROWS; i++) /* scaled, or the reference would be the inexact one */
                for (int j = 0; j < P; j++)
                        a[i + (j + 1) * ROWS] /= w.scale[j];
        assert_int_equal(LAPACKE_dgelsd(LAPACK_COL_MAJOR, ROWS, P + 1, 1, a, ROWS, b, ROWS, s, 1e-14, &rank),
                         0);
        assert_int_equal(rank, P + 1);
        assert_true(fabs(w.bias - b[0]) < 1e-9);
        for (int j = 0; j < P; j++)
                assert_true(fabs(w.weight[j] - b[j + 1]) < 1e-9);
}

static void state_read_back_continues_bit_for_bit(void **state)
{
        struct learner a, b;
        struct weights wa, wb;
        double x[P], y;
        uint64_t seed = 2;
        struct buf blob;

        (void)state;
        learner_init(&a, P);
        for (int i = 0; i < 250; i++) {
                make_row(&seed, x, &y);
                learner_learn(&a, x, y);
        }
        buf_init(&blob, 1 << 20);
        assert_int_equal(learner_write(&a, &blob), 0);
        assert_int_equal(learner_read(blob.data, blob.size, P, &b, NULL), 0);
        for (int i = 0; i < 50; i++) {
                make_row(&seed, x, &y);
                learner_learn(&a, x, y);
                learner_learn(&b, x, y);
        }
        learner_solve(&a, &wa);
        learner_solve(&b, &wb);
        assert_memory_equal(&wa, &wb, sizeof(wa));
        assert_true(learner_mae(&a) == learner_mae(&b) && learner_mape(&a) == learner_mape(&b));
        assert_true(learner_mae_total(&a) == learner_mae_total(&b));
        buf_done(&blob);
}

static void damaged_states_are_refused(void **state)
{
        struct learner a, b;
        double x[P], y, nan = NAN;
        uint64_t seed = 3, version;
        struct buf blob;

        (void)state;
        learner_init(&a, P);
        for (int i = 0; i < 20; i++) {
                make_row(&seed, x, &y);
                learner_learn(&a, x, y);
        }
        buf_init(&blob, 1 << 20);
        learner_write(&a, &blob);
        for (size_t n = 0; n < blob.size; n++)
                assert_int_equal(learner_read(blob.data, n, P, &b, NULL), -EBADMSG);
        assert_int_equal(learner_read(blob.data, blob.size, P + 1, &b, NULL), -EBADMSG);
        memcpy(blob.data + 48, &nan, sizeof(nan));
        assert_int_equal(learner_read(blob.data, blob.size, P, &b, NULL), -EBADMSG);
        version = 99;
        memcpy(blob.data + 8, &version, sizeof(version));
        assert_int_equal(learner_read(blob.data, blob.size, P, &b, NULL), -EPROTO);
        buf_done(&blob);
}

static void columns_that_never_vary_get_no_weight(void **state)
{
        struct learner l;
        struct weights w;
        uint64_t seed = 4;

        (void)state;
        learner_init(&l, 3);
        for (int i = 0; i < 100; i++) {
                double busy = next_random(&seed), x[3] = { 1000 * busy, 0, 7 };

                learner_learn(&l, x, 5 + 40 * busy);
        }
        learner_solve(&l, &w);
        assert_true(w.weight[1] == 0 && w.weight[2] == 0);
        assert_true(fabs(w.bias - 5) < 1e-9);
        assert_true(fabs(w.weight[0] / w.scale[0] - 0.04) < 1e-12);
        assert_true(w.scale[1] == 1);
}

static void of_two_columns_that_say_the_same_one_gets_the_weight(void **state)
{
        struct learner l;
        struct weights w;
        uint64_t seed = 5;

        (void)state;
        learner_init(&l, 2);
        for (int i = 0; i < 100; i++) {
                double busy = next_random(&seed), x[2] = { busy, 3 * busy };

                learner_learn(&l, x, 1 + busy);
        }
        learner_solve(&l, &w);
        assert_true((w.weight[0] == 0) != (w.weight[1] == 0));
        assert_true(fabs(weights_predict(&w, (double[]){ 0.5, 1.5 }) - 1.5) < 1e-9);
}

static void too_few_rows_still_give_finite_weights(void **state)
{
        struct learner l;
        struct weights w;
        double x[P], y;
        uint64_t seed = 6;

        (void)state;
        learner_init(&l, P);
        for (int i = 0; i < P + 2; i++) {
                learner_solve(&l, &w);
                assert_true(isfinite(w.bias));
                for (int j = 0; j < P; j++)
                        assert_true(isfinite(w.weight[j]));
                assert_true(isnan(learner_mae(&l)));
                make_row(&seed, x, &y);
                learner_learn(&l, x, y);
        }
        make_row(&seed, x, &y);
        learner_learn(&l, x, y);
        assert_false(isnan(learner_mae(&l)));
}

static void each_row_is_scored_before_it_is_learned(void **state)
{
        double before[400];
        struct learner l;
        uint64_t seed = 7;
        double total = 0, recent = 0;
        int scored = 0;

        (void)state;
        learner_init(&l, P);
        for (int i = 0; i < 400; i++) {
                struct weights w;
                double x[P], y;

                make_row(&seed, x, &y);
                learner_solve(&l, &w);
                if (l.rows >= P + 2)
                        before[scored++] = fabs(weights_predict(&w, x) - y);
                learner_learn(&l, x, y);
        }
        assert_int_equal(l.scored, scored);
        for (int i = 0; i < scored; i++)
                total += before[i];
        for (int i = scored - LEARNER_WINDOW; i < scored; i++)
                recent += before[i];
        assert_true(fabs(learner_mae_total(&l) - total / scored) < 1e-12);
        assert_true(fabs(learner_mae(&l) - recent / LEARNER_WINDOW) < 1e-12);
}

static void predictions_are_never_negative(void **state)
{
        const struct weights w = { .p = 1, .bias = -3, .weight = { 1 }, .scale = { 1 } };

        (void)state;
        assert_true(weights_predict(&w, (double[]){ 2 }) == 0);
        assert_true(weights_predict(&w, (double[]){ 4 }) == 1);
}

static void rows_that_are_not_finite_are_not_learned(void **state)
{
        struct learner l, copy;
        double x[P] = { 1, 2, 3, 4, INFINITY };

        (void)state;
        learner_init(&l, P);
        copy = l;
        assert_int_equal(learner_learn(&l, x, 1), -EINVAL);
        x[P - 1] = 5;
        assert_int_equal(learner_learn(&l, x, NAN), -EINVAL);
        assert_memory_equal(&l, &copy, sizeof(l));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(weights_equal_lapacks_closed_form),
                cmocka_unit_test(state_read_back_continues_bit_for_bit),
                cmocka_unit_test(damaged_states_are_refused),
                cmocka_unit_test(columns_that_never_vary_get_no_weight),
                cmocka_unit_test(of_two_columns_that_say_the_same_one_gets_the_weight),
                cmocka_unit_test(too_few_rows_still_give_finite_weights),
                cmocka_unit_test(each_row_is_scored_before_it_is_learned),
                cmocka_unit_test(predictions_are_never_negative),
                cmocka_unit_test(rows_that_are_not_finite_are_not_learned),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
