/* SPDX-License-Identifier: Apache-2.0 */
#include "common/prom.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void families_and_samples_follow_the_text_format(void **state)
{
        const struct prom_label labels[] = {
                { "mode", "dynamic" }, { "left_out", NULL }, { "unit", "0" }, { NULL, NULL }
        };
        const struct prom_label none[] = { { "left_out", NULL }, { NULL, NULL } };
        CLEANUP(buf_done) struct buf b;

        (void)state;
        buf_init(&b, 4096);
        prom_family(&b, "node_joules_total", "counter", "Energy\nin J \\ \"quoted\".");
        prom_sample(&b, "node_joules_total", labels, 1.5);
        prom_sample(&b, "node_joules_total", none, 3);
        prom_sample(&b, "node_joules_total", NULL, NAN);
        assert_string_equal(b.data, "# HELP node_joules_total Energy\\nin J \\\\ \"quoted\".\n"
                                    "# TYPE node_joules_total counter\n"
                                    "node_joules_total{mode=\"dynamic\",unit=\"0\"} 1.5\n"
                                    "node_joules_total 3\n"
                                    "node_joules_total NaN\n");
}

static void hostile_label_values_stay_inside_their_quotes(void **state)
{
        const struct prom_label labels[] = { { "name", "a\"} 1\nevil 2\\" }, { NULL, NULL } };
        CLEANUP(buf_done) struct buf b;

        (void)state;
        buf_init(&b, 4096);
        prom_sample(&b, "x", labels, 1);
        assert_string_equal(b.data, "x{name=\"a\\\"} 1\\nevil 2\\\\\"} 1\n");
}

static void a_full_buffer_says_so_in_the_end(void **state)
{
        CLEANUP(buf_done) struct buf b;

        (void)state;
        buf_init(&b, 20);
        prom_family(&b, "metric", "gauge", "A help text beyond the limit.");
        assert_true(b.failed < 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(families_and_samples_follow_the_text_format),
                cmocka_unit_test(hostile_label_values_stay_inside_their_quotes),
                cmocka_unit_test(a_full_buffer_says_so_in_the_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
