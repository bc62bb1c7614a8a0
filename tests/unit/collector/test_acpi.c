/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/power.h"

#include <errno.h>
#include "tree.h"

#define SECOND UINT64_C(1000000000)
#define CLASS  "class/hwmon/"

static const struct power_source_ops *const acpi = &power_source_acpi;
static struct power_reading readings[SENSORS_MAX];

static int try_open(struct power_source **ret, struct err *e)
{
        const struct power_source_options options = { .sysfs_root = tree, .procfs_root = "/proc" };

        return acpi->open(&options, ret, e);
}

static struct power_source *open_tree(void)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        if (try_open(&s, &e) < 0)
                fail_msg("%s", e.text);
        return s;
}

static int read_after(struct power_source *s, uint64_t ns)
{
        const struct power_context context = { .duration_ns = ns };
        struct err e = { 0 };

        memset(readings, 0, sizeof(readings));
        return acpi->read(s, &context, readings, &e);
}

static void without_a_power_meter_there_is_no_sensor(void **state)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(try_open(&s, &e), -ENOENT);
        tree_write(CLASS "hwmon0/name", "coretemp\n");
        tree_write(CLASS "hwmon0/power1_average", "1000000\n"); /* of something else */
        assert_int_equal(try_open(&s, &e), -ENOENT);
}

static void energy_is_the_trapezoid_of_two_readings(void **state)
{
        struct power_source *s;

        (void)state;
        tree_write(CLASS "hwmon3/name", "power_meter\n");
        tree_write(CLASS "hwmon3/power1_average", "100000000\n");
        tree_write(CLASS "hwmon3/power1_average_interval", "1000\n");
        s = open_tree();
        assert_int_equal(read_after(s, 0), 1);
        assert_false(readings[0].valid);
        tree_write(CLASS "hwmon3/power1_average", "140000000\n");
        assert_int_equal(read_after(s, 3 * SECOND), 1);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj, 120e6 * 3, 1e-3);
        assert_string_equal(readings[0].source, "acpi");
        assert_string_equal(readings[0].component, "platform");
        assert_string_equal(readings[0].unit, "energy1");
        assert_int_equal(readings[0].provenance, PROVENANCE_SIMULATED);
        acpi->close(s);
}

static void meters_are_also_found_in_the_device(void **state)
{
        struct power_source *s;

        (void)state;
        tree_write(CLASS "hwmon0/name", "power_meter\n");
        tree_write(CLASS "hwmon0/device/power1_average", "1000\n");
        tree_write(CLASS "hwmon0/device/power2_average", "2000\n");
        s = open_tree();
        assert_int_equal(read_after(s, 0), 2);
        assert_string_equal(readings[1].unit, "energy2");
        acpi->close(s);
}

static void an_unreadable_meter_is_a_gap_and_starts_anew(void **state)
{
        struct power_source *s;

        (void)state;
        tree_write(CLASS "hwmon0/name", "power_meter\n");
        tree_write(CLASS "hwmon0/power1_average", "100000000\n");
        s = open_tree();
        (void)read_after(s, 0);
        tree_write(CLASS "hwmon0/power1_average", "-5\n");
        (void)read_after(s, SECOND);
        assert_false(readings[0].valid);
        assert_true(readings[0].error < 0);
        tree_write(CLASS "hwmon0/power1_average", "50000000\n");
        (void)read_after(s, SECOND);
        assert_false(readings[0].valid); /* nothing to make a trapezoid with */
        (void)read_after(s, SECOND);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj, 50e6, 1e-3);
        tree_write(CLASS "hwmon0/power1_average", "99000000000000\n"); /* 99 MW */
        (void)read_after(s, SECOND);
        assert_false(readings[0].valid);
        acpi->close(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, tree_set_up, tree_tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(without_a_power_meter_there_is_no_sensor),
                TEST(energy_is_the_trapezoid_of_two_readings),
                TEST(meters_are_also_found_in_the_device),
                TEST(an_unreadable_meter_is_a_gap_and_starts_anew),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
