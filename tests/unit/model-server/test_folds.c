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

#include "model-server/train/folds.h"
#include "common/cleanup.h"

#define N 100

static int segments[N], folds_of[N], workloads[N], frequencies[N];

static struct labels make_labels(void)
{
        for (int i = 0; i < N; i++) {
                segments[i] = i / 5;
                folds_of[i] = i / 5 % 10;
                workloads[i] = i < 10 ? -1 : i / 5 % 4;
                frequencies[i] = i % 2 ? 2000000 : 3600000;
        }
        return (struct labels){ N, segments, folds_of, workloads, frequencies };
}

static size_t held(const struct folds *f, size_t k)
{
        size_t n = 0;

        for (int i = 0; i < N; i++)
                n += f->mark[k][i];
        return n;
}

static void every_row_is_held_back_once_but_in_random_draws(void **state)
{
        static const struct {
                enum protocol protocol;
                size_t folds, rows;
        } cases[] = { { PROTOCOL_S, 10, N }, { PROTOCOL_B, 10, N }, { PROTOCOL_W, 4, N - 10 },
                      { PROTOCOL_H, 2, N },  { PROTOCOL_F, 2, N },  { PROTOCOL_R, 20, 20 * N / 10 } };
        struct labels l = make_labels();

        (void)state;
        for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
                CLEANUP(folds_done) struct folds f = { 0 };
                size_t rows = 0;

                assert_int_equal(folds_make(cases[c].protocol, &l, &f, NULL), 0);
                assert_int_equal(f.n, cases[c].folds);
                for (size_t k = 0; k < f.n; k++)
                        rows += held(&f, k);
                assert_int_equal(rows, cases[c].rows);
                for (int i = 0; i < N && cases[c].protocol != PROTOCOL_R; i++) {
                        int times = 0;

                        for (size_t k = 0; k < f.n; k++)
                                times += f.mark[k][i];
                        assert_int_equal(times, cases[c].protocol == PROTOCOL_W && i < 10 ? 0 : 1);
                }
        }
}

static void segments_are_never_torn(void **state)
{
        CLEANUP(folds_done) struct folds f = { 0 };

        (void)state;
        (void)make_labels();
        assert_int_equal(folds_by_segment(segments, N, 4, 0, &f, NULL), 0);
        assert_int_equal(f.n, 4);
        for (size_t k = 0; k < f.n; k++) {
                assert_int_equal(held(&f, k), N / 4);
                for (int i = 1; i < N; i++)
                        if (segments[i] == segments[i - 1])
                                assert_int_equal(f.mark[k][i], f.mark[k][i - 1]);
        }
}

static void without_labels_there_are_no_workload_and_frequency_folds(void **state)
{
        struct labels l = make_labels();
        struct folds f = { 0 };

        (void)state;
        l.workload = l.frequency = l.s_fold = NULL;
        assert_int_equal(folds_make(PROTOCOL_W, &l, &f, NULL), 0);
        assert_int_equal(f.n, 0);
        assert_int_equal(folds_make(PROTOCOL_F, &l, &f, NULL), 0);
        assert_int_equal(f.n, 0);
        assert_int_equal(folds_make(PROTOCOL_S, &l, &f, NULL), 0);
        assert_int_equal(f.n, 10);
        folds_done(&f);
}

static void draws_are_the_same_every_time_and_differ_from_each_other(void **state)
{
        CLEANUP(folds_done) struct folds a = { 0 }, b = { 0 };
        struct labels l = make_labels();

        (void)state;
        assert_int_equal(folds_make(PROTOCOL_R, &l, &a, NULL), 0);
        assert_int_equal(folds_make(PROTOCOL_R, &l, &b, NULL), 0);
        for (size_t k = 0; k < a.n; k++) {
                assert_memory_equal(a.mark[k], b.mark[k], N);
                if (k > 0)
                        assert_memory_not_equal(a.mark[k], a.mark[k - 1], N);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_row_is_held_back_once_but_in_random_draws),
                cmocka_unit_test(segments_are_never_torn),
                cmocka_unit_test(without_labels_there_are_no_workload_and_frequency_folds),
                cmocka_unit_test(draws_are_the_same_every_time_and_differ_from_each_other),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
