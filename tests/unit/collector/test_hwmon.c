/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/power.h"

#include <errno.h>
#include "tree.h"

#define SECOND UINT64_C(1000000000)
#define CLASS  "class/hwmon/"

static const struct power_source_ops *const acpi = &power_source_acpi;
static struct power_reading readings[SENSORS_MAX];

static const struct power_source_ops *ops = &power_source_acpi;
static struct power_notes notes;
static const char *use[4];
static size_t n_use;

static int try_open(struct power_source **ret, struct err *e)
{
        const struct power_source_options options = { .sysfs_root = tree,
                                                      .procfs_root = tree,
                                                      .hwmon_use = use,
                                                      .n_hwmon_use = n_use,
                                                      .notes = &notes };

        notes.n = 0;
        return ops->open(&options, ret, e);
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

static void what_the_meter_averaged_is_known_the_rest_a_trapezoid(void **state)
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
        /* the last second is known, the two before are the mean of 100 and 140 W */
        assert_float_equal(readings[0].energy_uj, 140e6 + 120e6 * 2, 1e-3);
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

static void a_meter_that_averages_over_more_than_the_interval_is_taken_as_it_is(void **state)
{
        struct power_source *s;

        (void)state;
        tree_write(CLASS "hwmon0/name", "power_meter\n");
        tree_write(CLASS "hwmon0/power1_average", "100000000\n");
        tree_write(CLASS "hwmon0/power1_average_interval", "10000\n");
        s = open_tree();
        (void)read_after(s, 0);
        tree_write(CLASS "hwmon0/power1_average", "140000000\n");
        (void)read_after(s, SECOND);
        assert_float_equal(readings[0].energy_uj, 140e6, 1e-3);
        acpi->close(s);
}

static int set_up_hwmon(void **state)
{
        ops = &power_source_hwmon;
        n_use = 0;
        return tree_set_up(state);
}

static int tear_down_hwmon(void **state)
{
        ops = &power_source_acpi;
        n_use = 0;
        return tree_tear_down(state);
}

static void meters_of_a_whole_package_or_platform_are_known(void **state)
{
        struct power_source *s;

        (void)state;
        tree_write(CLASS "hwmon0/name", "power_meter\n"); /* the other source's */
        tree_write(CLASS "hwmon0/power1_average", "1000\n");
        tree_write(CLASS "hwmon1/name", "fam15h_power\n");
        tree_write(CLASS "hwmon1/power1_average", "77\n"); /* would block */
        tree_write(CLASS "hwmon1/power1_input", "40000000\n");
        tree_write(CLASS "hwmon2/name", "ibmpowernv\n");
        tree_write(CLASS "hwmon2/power3_input", "300000000\n");
        tree_write(CLASS "hwmon2/power3_label", "System\n");
        tree_write(CLASS "hwmon2/power4_input", "1000000\n");
        tree_write(CLASS "hwmon2/power4_label", "Chip 0 Vdd\n");
        tree_write(CLASS "hwmon3/name", "apm_xgene\n");
        tree_write(CLASS "hwmon3/power1_input", "25000000\n");
        tree_write(CLASS "hwmon3/power1_label", "CPU power\n");
        s = open_tree();
        assert_int_equal(read_after(s, 0), 3);
        assert_int_equal(read_after(s, 2 * SECOND), 3);
        assert_string_equal(readings[0].source, "hwmon");
        assert_string_equal(readings[0].component, "package");
        assert_string_equal(readings[0].unit, "fam15h_power");
        assert_float_equal(readings[0].energy_uj, 80e6, 1e-3);
        assert_string_equal(readings[1].component, "platform");
        assert_string_equal(readings[1].unit, "ibmpowernv/System");
        assert_float_equal(readings[1].energy_uj, 600e6, 1e-3);
        assert_string_equal(readings[2].component, "package");
        assert_int_equal(notes.n, 1);
        assert_string_equal(notes.items[0].sensor, "ibmpowernv power4 Chip 0 Vdd");
        ops->close(s);
}

static void other_meters_are_noted_and_used_only_when_named(void **state)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        (void)state;
        tree_write(CLASS "hwmon0/name", "amdgpu\n");
        tree_write(CLASS "hwmon0/power1_average", "90000000\n");
        tree_write(CLASS "hwmon1/name", "ina226\n");
        tree_write(CLASS "hwmon1/power1_input", "12000000\n");
        tree_write(CLASS "hwmon1/power1_label", "rail: 12 V\n");
        tree_write(CLASS "hwmon2/name", "ina226\n");
        tree_write(CLASS "hwmon2/power1_input", "5000000\n");
        tree_write(CLASS "hwmon2/power1_label", "rail: 5 V\n");
        assert_int_equal(try_open(&s, &e), -ENOENT);
        assert_int_equal(notes.n, 3);
        assert_non_null(strstr(notes.items[0].why, "graphics card"));
        assert_non_null(strstr(notes.items[1].why, "hwmon.use"));
        use[n_use++] = "ina226:rail: 12 V=platform";
        s = open_tree();
        assert_int_equal(notes.n, 2);
        assert_int_equal(read_after(s, 0), 1);
        assert_string_equal(readings[0].component, "platform");
        ops->close(s);
        use[0] = "ina226=dram";
        s = open_tree();
        assert_int_equal(read_after(s, 0), 2);
        assert_string_equal(readings[1].component, "dram");
        ops->close(s);
}

static void a_wrong_entry_of_hwmon_use_is_refused(void **state)
{
        struct err e = { 0 };

        (void)state;
        assert_int_equal(hwmon_use_check("ina226=platform", &e), 0);
        assert_int_equal(hwmon_use_check("ina226:a=b=dram", &e), 0);
        assert_int_equal(hwmon_use_check("ina226", &e), -EINVAL);
        assert_int_equal(hwmon_use_check("=dram", &e), -EINVAL);
        assert_int_equal(hwmon_use_check("ina226=psys", &e), -EINVAL);
        assert_non_null(strstr(e.text, "ina226=psys"));
}

#define TEST_HWMON(f) cmocka_unit_test_setup_teardown(f, set_up_hwmon, tear_down_hwmon)
#define TEST(f)       cmocka_unit_test_setup_teardown(f, tree_set_up, tree_tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(without_a_power_meter_there_is_no_sensor),
                TEST(what_the_meter_averaged_is_known_the_rest_a_trapezoid),
                TEST(meters_are_also_found_in_the_device),
                TEST(a_meter_that_averages_over_more_than_the_interval_is_taken_as_it_is),
                TEST_HWMON(meters_of_a_whole_package_or_platform_are_known),
                TEST_HWMON(other_meters_are_noted_and_used_only_when_named),
                TEST_HWMON(a_wrong_entry_of_hwmon_use_is_refused),
                TEST(an_unreadable_meter_is_a_gap_and_starts_anew),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
