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

#include "model-server/learn/online.h"

static void features_of(int i, double x[3])
{
        x[0] = 1e10 * (2 + sin(i)); /* cycles beside a constant 1: the hard case */
        x[1] = 500 + 300 * sin(1.7 * i);
        x[2] = 7; /* never varies */
}

static double watts_of(const double x[3], double slope)
{
        return 20 + 3e-9 * x[0] + slope * x[1];
}

static void recursive_weights_are_least_squares(void **state)
{
        struct learner learner;
        struct weights a, b;
        struct rls rls;

        (void)state;
        rls_init(&rls, 3);
        learner_init(&learner, 3);
        for (int i = 0; i < 500; i++) {
                double x[3];

                features_of(i, x);
                assert_int_equal(rls_learn(&rls, 1, x, watts_of(x, 0.05) + sin(9 * i)), 0);
                assert_int_equal(learner_absorb(&learner, x, watts_of(x, 0.05) + sin(9 * i)), 0);
        }
        rls_solve(&rls, &a);
        learner_solve(&learner, &b);
        for (int j = 0; j < 2; j++)
                assert_float_equal(a.weight[j], b.weight[j], 1e-6 * fabs(b.weight[j]));
        assert_float_equal(a.weight[2], 0, 1e-12);
        assert_float_equal(a.bias, b.bias, 1e-5);
}

static void forgetting_follows_a_change(void **state)
{
        struct rls keeps, forgets;
        struct weights w;
        double x[3];

        (void)state;
        rls_init(&keeps, 3);
        rls_init(&forgets, 3);
        for (int i = 0; i < 2000; i++) {
                features_of(i, x);
                assert_int_equal(rls_learn(&keeps, 1, x, watts_of(x, i < 1000 ? 0.05 : 0.1)), 0);
                assert_int_equal(rls_learn(&forgets, 0.98, x, watts_of(x, i < 1000 ? 0.05 : 0.1)), 0);
        }
        rls_solve(&forgets, &w);
        assert_float_equal(w.weight[1] / w.scale[1], 0.1, 1e-6);
        rls_solve(&keeps, &w);
        assert_true(w.weight[1] / w.scale[1] < 0.09);
}

static void state_read_back_goes_on_bit_for_bit(void **state)
{
        struct rls a, b;
        struct buf blob;
        struct err e;
        double x[3];

        (void)state;
        buf_init(&blob, 1 << 16);
        rls_init(&a, 3);
        for (int i = 0; i < 50; i++) {
                features_of(i, x);
                assert_int_equal(rls_learn(&a, 0.999, x, watts_of(x, 0.05)), 0);
        }
        assert_int_equal(rls_write(&a, &blob), 0);
        assert_int_equal(rls_read(blob.data, blob.size, 3, &b, &e), 0);
        assert_memory_equal(&a, &b, sizeof(a));
        for (size_t size = 0; size < blob.size; size++)
                assert_true(rls_read(blob.data, size, 3, &b, &e) < 0);
        assert_int_equal(rls_read(blob.data, blob.size, 2, &b, &e), -EBADMSG);
        buf_done(&blob);
}

static void what_is_not_finite_is_not_learned(void **state)
{
        struct rls a, b;
        double x[3] = { 1, NAN, 2 };

        (void)state;
        rls_init(&a, 3);
        b = a;
        assert_int_equal(rls_learn(&a, 1, x, 5), -EINVAL);
        x[1] = 1;
        assert_int_equal(rls_learn(&a, 1, x, INFINITY), -EINVAL);
        assert_memory_equal(&a, &b, sizeof(a));
}

static int learn(struct online *o, const char *node, int i)
{
        const struct online_settings settings = { 0.999, 0.5 };
        struct row row = { .end_ms = i, .node_type = 0, .has_watts = 1u << COMPONENT_PACKAGE };
        struct err e;

        row.has_feature = 1u << FEATURE_CPU_TIME | 1u << FEATURE_PAGE_CACHE;
        row.features[FEATURE_CPU_TIME] = 500 + 300 * sin(i);
        row.watts[COMPONENT_PACKAGE] = 20 + 0.05 * row.features[FEATURE_CPU_TIME];
        return online_learn(o, &settings, node, &row, NULL, NULL, &e);
}

static void one_node_cannot_own_the_model(void **state)
{
        struct online o = { 0 };
        int taken = 0;

        (void)state;
        for (int i = 0; i < 100; i++)
                assert_int_equal(learn(&o, "loud", i), 1); /* alone, it gives all there is */
        for (int i = 0; i < 20; i++)
                assert_int_equal(learn(&o, "quiet", i), 1);
        for (int i = 0; i < 1000; i++)
                taken += learn(&o, "loud", i);
        assert_true(taken <= 1);
        for (int i = 0; i < 200; i++)
                (void)learn(&o, "quiet", i);
        assert_int_equal(learn(&o, "loud", 1), 1);
        assert_true((double)o.taken[0] <= 0.5 * (double)o.total + 1);
        online_done(&o);
}

static void all_learners_are_read_back(void **state)
{
        struct online a = { 0 }, b = { 0 };
        struct buf blob, again;
        struct err e;

        (void)state;
        buf_init(&blob, 1 << 20);
        buf_init(&again, 1 << 20);
        for (int i = 0; i < 40; i++)
                (void)learn(&a, i % 2 ? "n1" : "n2", i);
        assert_int_equal(online_write(&a, &blob), 0);
        if (online_read(blob.data, blob.size, &b, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(online_write(&b, &again), 0);
        assert_int_equal(blob.size, again.size);
        assert_memory_equal(blob.data, again.data, blob.size);
        online_done(&b);
        for (size_t size = 0; size < blob.size; size += 7)
                assert_true(online_read(blob.data, size, &b, &e) < 0);
        online_done(&a);
        buf_done(&blob);
        buf_done(&again);
}

static void caps_keep_shares(void **state)
{
        static const struct {
                uint64_t counts[4], caps[4];
                size_t n;
                double share;
                uint64_t max;
        } cases[] = {
                { { 1000 }, { 1000 }, 1, 0.5, 100000 },
                { { 1000 }, { 100 }, 1, 0.5, 100 },
                { { 1000, 100 }, { 100, 100 }, 2, 0.5, 100000 },
                { { 1000, 100, 100 }, { 200, 100, 100 }, 3, 0.5, 100000 },
                { { 1000, 1000, 1000, 1000 }, { 500, 500, 500, 500 }, 4, 0.1, 2000 },
                { { 1000, 3 }, { DATASET_NODE_FREE, 3 }, 2, 0.5, 100000 },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                uint64_t caps[4];

                dataset_caps(cases[i].counts, cases[i].n, cases[i].share, cases[i].max, caps);
                for (size_t k = 0; k < cases[i].n; k++)
                        assert_int_equal(caps[k], cases[i].caps[k]);
        }
}

static void what_is_taken_is_spread_evenly(void **state)
{
        uint64_t taken = 0, last = 0;

        (void)state;
        for (uint64_t turn = 0; turn < 1000; turn++) {
                if (!dataset_takes(turn, 1000, 37))
                        continue;
                assert_true(turn - last <= 28);
                last = turn;
                taken++;
        }
        assert_int_equal(taken, 37);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(recursive_weights_are_least_squares),
                cmocka_unit_test(forgetting_follows_a_change),
                cmocka_unit_test(state_read_back_goes_on_bit_for_bit),
                cmocka_unit_test(what_is_not_finite_is_not_learned),
                cmocka_unit_test(one_node_cannot_own_the_model),
                cmocka_unit_test(all_learners_are_read_back),
                cmocka_unit_test(caps_keep_shares),
                cmocka_unit_test(what_is_taken_is_spread_evenly),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
