/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "collector/features.h"
#include "collector/index.h"

static void a_row_is_made_once_and_found_again(void **state)
{
        struct usage_set set = { 0 };

        (void)state;
        usage_set_row(&set, 7, false)->delta[FEATURE_CPU_TIME] += 1;
        usage_set_row(&set, 8, false)->delta[FEATURE_CPU_TIME] += 10;
        usage_set_row(&set, 0, true)->delta[FEATURE_CPU_TIME] += 100;
        usage_set_row(&set, 0, false)->delta[FEATURE_CPU_TIME] += 1000;
        usage_set_row(&set, 7, false)->delta[FEATURE_CPU_TIME] += 2;
        assert_int_equal(set.n, 4);
        assert_int_equal(usage_set_row(&set, 7, false)->delta[FEATURE_CPU_TIME], 3);
        assert_int_equal(usage_set_row(&set, 0, true)->delta[FEATURE_CPU_TIME], 100);
        assert_int_equal(usage_set_row(&set, 0, false)->delta[FEATURE_CPU_TIME], 1000);
        usage_set_done(&set);
}

static void a_cleared_set_starts_from_zero(void **state)
{
        struct usage_set set = { 0 };

        (void)state;
        usage_set_row(&set, 7, false)->delta[FEATURE_CPU_TIME] = 1;
        usage_set_clear(&set);
        assert_int_equal(set.n, 0);
        assert_int_equal(usage_set_row(&set, 7, false)->delta[FEATURE_CPU_TIME], 0);
        usage_set_done(&set);
        usage_set_done(&set); /* twice is harmless */
}

static void rows_beyond_the_limit_are_folded_into_cgroup_zero_and_counted(void **state)
{
        struct usage_set set = { 0 };
        uint64_t sum = 0;

        (void)state;
        for (uint64_t id = 1; id <= USAGE_ROWS_MAX + 100; id++)
                usage_set_row(&set, id, false)->delta[FEATURE_CPU_TIME] += 1;
        usage_set_row(&set, 0, true)->delta[FEATURE_CPU_TIME] += 1;
        assert_in_range(set.n, USAGE_ROWS_MAX - 1, USAGE_ROWS_MAX);
        assert_in_range(set.folded, 100, 102);
        assert_int_equal(usage_set_row(&set, 0, true)->delta[FEATURE_CPU_TIME], 1);
        for (size_t i = 0; i < set.n; i++)
                sum += set.rows[i].delta[FEATURE_CPU_TIME];
        assert_int_equal(sum, USAGE_ROWS_MAX + 101);
        usage_set_done(&set);
}

/* Against a plain array, with keys that collide and removals in between. */
static void index_agrees_with_an_array_under_random_changes(void **state)
{
        enum { KEYS = 500, STEPS = 200000 };
        uint32_t plain[KEYS];
        struct index index = { 0 };
        size_t used = 0;
        unsigned seed = 1;

        (void)state;
        for (int i = 0; i < KEYS; i++)
                plain[i] = INDEX_NONE;
        for (int step = 0; step < STEPS; step++) {
                unsigned k = (unsigned)rand_r(&seed) % KEYS;
                uint64_t key = (uint64_t)k << 44; /* few different low bits */

                if (rand_r(&seed) % 3) {
                        used += plain[k] == INDEX_NONE;
                        plain[k] = (uint32_t)step;
                        assert_int_equal(index_put(&index, key, plain[k]), 0);
                } else {
                        used -= plain[k] != INDEX_NONE;
                        plain[k] = INDEX_NONE;
                        index_remove(&index, key);
                }
                assert_int_equal(index.used, used);
                k = (unsigned)rand_r(&seed) % KEYS;
                assert_int_equal(index_find(&index, (uint64_t)k << 44), plain[k]);
        }
        index_done(&index);
        assert_int_equal(index_find(&index, 1), INDEX_NONE);
        index_remove(&index, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_row_is_made_once_and_found_again),
                cmocka_unit_test(a_cleared_set_starts_from_zero),
                cmocka_unit_test(rows_beyond_the_limit_are_folded_into_cgroup_zero_and_counted),
                cmocka_unit_test(index_agrees_with_an_array_under_random_changes),
        };

        return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
