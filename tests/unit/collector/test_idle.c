/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/idle.h"

#include <math.h>
#include "tree.h"

#define SECOND UINT64_C(1000000000)
#define HOUR   (3600 * SECOND)

static void the_minimum_is_the_lowest_power_within_the_window(void **state)
{
        struct idle idle;

        (void)state;
        idle_init(&idle, NAN);
        assert_true(isnan(idle_minimum(&idle)));
        idle_fold(&idle, 20, NAN, SECOND, HOUR);
        idle_fold(&idle, 12, NAN, SECOND, HOUR);
        for (int i = 0; i < 3000; i++)
                idle_fold(&idle, 30, NAN, SECOND, HOUR);
        assert_float_equal(idle_minimum(&idle), 12, 0);
}

static void a_minimum_older_than_the_window_is_forgotten(void **state)
{
        struct idle idle;

        (void)state;
        idle_init(&idle, 5);
        for (int i = 0; i < 3800; i++)
                idle_fold(&idle, 30 + i % 7, NAN, SECOND, HOUR);
        assert_float_equal(idle_minimum(&idle), 30, 0);
        idle_fold(&idle, 50, NAN, 3 * HOUR, HOUR); /* one interval longer than the window */
        assert_float_equal(idle_minimum(&idle), 50, 0);
}

/* Noise that is the same on every machine. */
static double noise(uint32_t *seed)
{
        *seed = *seed * 1664525 + 1013904223;
        return (double)*seed / UINT32_MAX - 0.5;
}

static void the_intercept_is_found_though_the_machine_never_rests(void **state)
{
        uint32_t seed = 1;
        struct idle idle;

        (void)state;
        idle_init(&idle, NAN);
        for (int i = 0; i < 400; i++) {
                double cpus = 1.5 + noise(&seed);

                idle_fold(&idle, 14 + 6 * cpus + 0.4 * noise(&seed), cpus, SECOND, HOUR);
        }
        assert_float_equal(idle_intercept(&idle), 14, 0.3);
        assert_true(idle_minimum(&idle) > 18);
}

static void the_intercept_follows_a_machine_that_changes(void **state)
{
        uint32_t seed = 2;
        struct idle idle;

        (void)state;
        idle_init(&idle, NAN);
        for (int i = 0; i < 10 * 3600; i++) {
                double cpus = 1.5 + noise(&seed);

                idle_fold(&idle, (i < 5 * 3600 ? 14 : 25) + 6 * cpus, cpus, SECOND, HOUR);
        }
        assert_float_equal(idle_intercept(&idle), 25, 0.5);
}

static void usage_that_hardly_varies_tells_no_intercept(void **state)
{
        uint32_t seed = 3;
        struct idle idle;

        (void)state;
        idle_init(&idle, NAN);
        for (int i = 0; i < 20; i++)
                idle_fold(&idle, 14 + i, i, SECOND, HOUR);
        assert_true(isnan(idle_intercept(&idle))); /* too few */
        idle_init(&idle, NAN);
        for (int i = 0; i < 400; i++)
                idle_fold(&idle, 20 + noise(&seed), 2 + 0.001 * noise(&seed), SECOND, HOUR);
        assert_true(isnan(idle_intercept(&idle)));
        idle_init(&idle, NAN);
        for (int i = 0; i < 400; i++)
                idle_fold(&idle, 20, 2, SECOND, HOUR);
        assert_true(isnan(idle_intercept(&idle)));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_minimum_is_the_lowest_power_within_the_window),
                cmocka_unit_test(a_minimum_older_than_the_window_is_forgotten),
                cmocka_unit_test(the_intercept_is_found_though_the_machine_never_rests),
                cmocka_unit_test(the_intercept_follows_a_machine_that_changes),
                cmocka_unit_test(usage_that_hardly_varies_tells_no_intercept),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
