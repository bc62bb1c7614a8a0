/* SPDX-License-Identifier: Apache-2.0 */
#include "schema/rollout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define NODES 20000

static void node_name(char ret[33], int i)
{
        (void)snprintf(ret, 33, "%032x", i);
}

static void the_rule_is_the_contracts(void **state)
{
        (void)state;
        /* printf 0…01/abab… | sha256sum | head -c 8 */
        assert_float_equal(rollout_place("00000000000000000000000000000001",
                                         "abababababababababababababababababababababababababababababababab"),
                           100.0 * 0x54ff0de0 / 4294967296.0, 1e-9);
}

static void a_cohort_is_as_large_as_it_says_and_only_grows(void **state)
{
        struct statement s = { .id = "ab" };
        int n[4] = { 0 };
        const unsigned int held_back[] = { 100, 90, 50, 0 };
        char node[33];

        (void)state;
        for (int i = 0; i < NODES; i++) {
                bool before = false;

                node_name(node, i);
                for (int k = 0; k < 4; k++) {
                        s.held_back = held_back[k];
                        assert_true(rollout_admits(&s, node) || !before);
                        before = rollout_admits(&s, node);
                        n[k] += before;
                }
        }
        assert_int_equal(n[0], 0);
        assert_in_range(n[1], NODES * 9 / 100, NODES * 11 / 100);
        assert_in_range(n[2], NODES * 48 / 100, NODES * 52 / 100);
        assert_int_equal(n[3], NODES);
}

static void another_model_has_other_first_nodes(void **state)
{
        struct statement a = { .id = "aa", .held_back = 90 }, b = { .id = "bb", .held_back = 90 };
        int both = 0;
        char node[33];

        (void)state;
        for (int i = 0; i < NODES; i++) {
                node_name(node, i);
                both += rollout_admits(&a, node) && rollout_admits(&b, node);
        }
        assert_in_range(both, NODES / 200, NODES * 3 / 200); /* a hundredth, if they are independent */
}

static void a_halted_model_is_for_nobody(void **state)
{
        struct statement s = { .id = "aa", .halted = true };
        char node[33];

        (void)state;
        for (int i = 0; i < NODES; i++) {
                node_name(node, i);
                assert_false(rollout_admits(&s, node));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_rule_is_the_contracts),
                cmocka_unit_test(a_cohort_is_as_large_as_it_says_and_only_grows),
                cmocka_unit_test(another_model_has_other_first_nodes),
                cmocka_unit_test(a_halted_model_is_for_nobody),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
