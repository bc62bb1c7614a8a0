/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/counter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SECOND  UINT64_C(1000000000)
#define MODULUS 262143328850ULL

static void what_a_reading_means(void **state)
{
        const struct {
                uint64_t last, now, seconds, modulus;
                enum counter_step step;
        } cases[] = {
                { 100, 100, 1, MODULUS, COUNTER_GREW },
                { 100, 200, 1, MODULUS, COUNTER_GREW },
                { MODULUS - 1000, 5000, 1, MODULUS, COUNTER_WRAPPED },
                { MODULUS - 1000, 1999000000, 1, MODULUS, COUNTER_WRAPPED }, /* just below 2 kW */
                { MODULUS - 1000, 2001000000, 1, MODULUS, COUNTER_RESET },   /* just above */
                { MODULUS - 1000, 2001000000, 2, MODULUS, COUNTER_WRAPPED }, /* in twice the time */
                { 5000000000, 100, 1, MODULUS, COUNTER_RESET },
                { 500, 100, 1, 0, COUNTER_RESET },               /* the modulus is not known */
                { MODULUS + 5, 100, 1, MODULUS, COUNTER_RESET }, /* or wrong */
                { 500, 100, 0, MODULUS, COUNTER_RESET },         /* no time has passed */
                { 100, 200, 131, MODULUS, COUNTER_GREW },
                { 100, 200, 132, MODULUS, COUNTER_LOST }, /* a whole round at 2 kW */
                { 100, 200, 100000, 0, COUNTER_GREW },
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                const struct counter c = { .count_uj = 1,
                                           .modulus = cases[i].modulus,
                                           .last = cases[i].last,
                                           .based = true,
                                           .elapsed_ns = cases[i].seconds * SECOND };

                if (counter_judge(&c, cases[i].now) != cases[i].step)
                        fail_msg("case %zu: %d", i, (int)counter_judge(&c, cases[i].now));
        }
}

static void advance(struct counter *c, uint64_t seconds, uint64_t now)
{
        counter_pass(c, seconds * SECOND);
        counter_advance(c, now, counter_judge(c, now));
}

static void steps_add_up_until_they_are_taken(void **state)
{
        struct counter c = { .count_uj = 2, .modulus = MODULUS };
        uint64_t ns = 0;
        double uj = 0;

        (void)state;
        advance(&c, 0, MODULUS - 1000);
        assert_false(counter_take(&c, &uj, &ns)); /* the base */
        advance(&c, 1, MODULUS - 500);
        advance(&c, 1, 250); /* wrapped */
        advance(&c, 2, 1250);
        assert_true(counter_take(&c, &uj, &ns));
        assert_float_equal(uj, 2 * (500 + 500 + 250 + 1000), 1e-6);
        assert_int_equal(ns, 4 * SECOND);
        assert_false(counter_take(&c, &uj, &ns)); /* nothing new */
}

static void energy_that_is_partly_unknown_is_unknown(void **state)
{
        struct counter c = { .count_uj = 1, .modulus = MODULUS };
        uint64_t ns = 0;
        double uj = 0;

        (void)state;
        advance(&c, 0, 7000000000);
        (void)counter_take(&c, &uj, &ns);
        advance(&c, 1, 7000000500);
        advance(&c, 1, 10); /* reset */
        advance(&c, 1, 510);
        assert_false(counter_take(&c, &uj, &ns));
        advance(&c, 1, 710);
        assert_true(counter_take(&c, &uj, &ns));
        assert_float_equal(uj, 200, 1e-6);
}

static void a_counter_that_appears_within_an_interval_does_not_tell_all_of_it(void **state)
{
        struct counter c = { .count_uj = 1, .modulus = MODULUS };
        uint64_t ns = 0;
        double uj = 0;

        (void)state;
        counter_pass(&c, SECOND);
        advance(&c, 1, 100);
        advance(&c, 1, 200);
        assert_false(counter_take(&c, &uj, &ns));
        advance(&c, 1, 300);
        assert_true(counter_take(&c, &uj, &ns));
        assert_float_equal(uj, 100, 1e-6);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_a_reading_means),
                cmocka_unit_test(steps_add_up_until_they_are_taken),
                cmocka_unit_test(energy_that_is_partly_unknown_is_unknown),
                cmocka_unit_test(a_counter_that_appears_within_an_interval_does_not_tell_all_of_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
