/* SPDX-License-Identifier: Apache-2.0 */
/* Trees written from the kernel's documentation of cpufreq (admin-guide/pm/cpufreq.rst,
 * cpu-freq/cpufreq-stats.rst). */
#include "collector/frequency.h"

#include <errno.h>
#include "tree.h"

#define POLICY(n) "devices/system/cpu/cpufreq/policy" #n

static struct frequency *f;
static struct frequency_reading reading;

/* Two CPUs that share a clock, and one that has its own. */
static void write_machine(const char *khz_0, const char *stats_0, const char *khz_2, const char *stats_2)
{
        tree_write(POLICY(0) "/affected_cpus", "0 1\n");
        tree_write(POLICY(0) "/scaling_cur_freq", khz_0);
        tree_write(POLICY(0) "/stats/time_in_state", stats_0);
        tree_write(POLICY(2) "/affected_cpus", "2\n");
        tree_write(POLICY(2) "/scaling_cur_freq", khz_2);
        tree_write(POLICY(2) "/stats/time_in_state", stats_2);
}

static void open_tree(void)
{
        struct err e = { "" };

        if (frequency_open(tree, &f, &e) < 0)
                fail_msg("%s", e.text);
        frequency_read(f, 0, &reading);
}

static int close_tree(void **state)
{
        frequency_close(f);
        f = NULL;
        return tree_tear_down(state);
}

static uint64_t hertz_of(unsigned cpu)
{
        for (size_t i = 0; i < reading.n_cpus; i++)
                if (reading.cpus[i].cpu == cpu)
                        return reading.cpus[i].hertz;
        return 0;
}

static uint64_t time_at(uint64_t hertz)
{
        for (size_t i = 0; i < reading.n_bands; i++)
                if (reading.bands[i].hertz == hertz)
                        return reading.bands[i].time_ns;
        return 0;
}

static void cpus_that_share_a_policy_share_its_frequency(void **state)
{
        (void)state;
        write_machine("2400000\n", "", "800000\n", "");
        open_tree();
        assert_string_equal(frequency_source(f), "cpufreq");
        assert_int_equal(reading.n_cpus, 3);
        assert_int_equal(hertz_of(0), 2400000000);
        assert_int_equal(hertz_of(1), 2400000000);
        assert_int_equal(hertz_of(2), 800000000);
}

static void time_in_a_band_is_summed_over_cpus_and_differenced(void **state)
{
        (void)state;
        write_machine("2400000\n", "800000 1000\n2400000 500\n", "800000\n", "800000 70\n1600000 10\n");
        open_tree();
        assert_true(frequency_has_bands(f));
        assert_int_equal(time_at(800000000), 0); /* the base */
        write_machine("2400000\n", "800000 1001\n2400000 600\n", "800000\n", "800000 170\n1600000 10\n");
        frequency_read(f, 1, &reading);
        assert_int_equal(time_at(2400000000),
                         2 * 1000000000LL); /* two CPUs, 100 hundredths of a second each */
        assert_int_equal(time_at(800000000), 2 * 10000000LL + 1000000000LL);
        assert_int_equal(time_at(1600000000), 0);
        frequency_read(f, 1, &reading);
        assert_int_equal(time_at(2400000000), 0); /* since the read before */
}

static void statistics_that_were_reset_give_no_time_and_a_new_base(void **state)
{
        (void)state;
        write_machine("1\n", "800000 1000\n", "1\n", "800000 70\n");
        open_tree();
        write_machine("1\n", "800000 3\n", "1\n", "800000 70\n");
        frequency_read(f, 1, &reading);
        assert_int_equal(time_at(800000000), 0);
        write_machine("1\n", "800000 5\n", "1\n", "800000 70\n");
        frequency_read(f, 1, &reading);
        assert_int_equal(time_at(800000000), 2 * 20000000LL);
}

static void a_cpu_that_cannot_be_read_is_a_gap(void **state)
{
        (void)state;
        write_machine("2400000\n", "", "<unknown>\n", "nonsense\n-1 x\n");
        open_tree();
        assert_int_equal(reading.n_cpus, 2);
        assert_int_equal(hertz_of(2), 0);
        assert_int_equal(unlink(tree_path(POLICY(0) "/scaling_cur_freq")), 0);
        tree_write(POLICY(2) "/affected_cpus", "\n"); /* offline */
        frequency_read(f, 1, &reading);
        assert_int_equal(reading.n_cpus, 0);
}

static void a_machine_without_cpufreq_has_no_frequency(void **state)
{
        struct err e = { "" };

        (void)state;
        assert_int_equal(frequency_open(tree, &f, &e), -ENOENT);
        assert_non_null(strstr(e.text, "no policy in"));
        tree_write("devices/system/cpu/cpufreq/ondemand/up_threshold", "95\n");
        assert_int_equal(frequency_open(tree, &f, &e), -ENOENT);
}

/* 1 s on a processor whose time stamp counter runs at 2 GHz, idle for three quarters of it, at 3 GHz
 * otherwise. */
static void aperf_gives_the_mean_while_not_idle(void **state)
{
        (void)state;
        assert_int_equal(frequency_of(750000000, 500000000, 2000000000, 1000000000), 3000000000);
        assert_int_equal(frequency_of(0, 0, 2000000000, 1000000000), 0);
        assert_int_equal(frequency_of(1, 1, 1, 0), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(cpus_that_share_a_policy_share_its_frequency, tree_set_up,
                                                close_tree),
                cmocka_unit_test_setup_teardown(time_in_a_band_is_summed_over_cpus_and_differenced,
                                                tree_set_up, close_tree),
                cmocka_unit_test_setup_teardown(statistics_that_were_reset_give_no_time_and_a_new_base,
                                                tree_set_up, close_tree),
                cmocka_unit_test_setup_teardown(a_cpu_that_cannot_be_read_is_a_gap, tree_set_up, close_tree),
                cmocka_unit_test_setup_teardown(a_machine_without_cpufreq_has_no_frequency, tree_set_up,
                                                close_tree),
                cmocka_unit_test(aperf_gives_the_mean_while_not_idle),
        };

        return cmocka_run_group_tests_name("frequency", tests, NULL, NULL);
}
