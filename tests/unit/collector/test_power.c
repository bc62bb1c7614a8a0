/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the sources that a machine has are used. */
#include "collector/power.h"

#include <errno.h>
#include <fcntl.h>
#include "tree.h"

#define ZONE "class/powercap/intel-rapl:0/"

static struct power_set set;
static char msr_root[TREE_PATH_MAX];

static void open_all(void)
{
        static const char *const names[] = { "rapl", "rapl-perf", "rapl-msr", "acpi", "redfish", "hwmon" };
        const struct power_source_options options = { .sysfs_root = tree,
                                                      .procfs_root = tree,
                                                      .msr_root = msr_root,
                                                      .redfish = { .url = "" },
                                                      .estimator_socket = "",
                                                      .estimate_weight = "" };

        (void)snprintf(msr_root, sizeof(msr_root), "%s/msr", tree);
        power_open(names, sizeof(names) / sizeof(names[0]), &options, &set);
}

static const struct power_state *state_of(const char *name)
{
        for (size_t i = 0; i < set.n; i++)
                if (!strcmp(set.states[i].ops->name, name))
                        return &set.states[i];
        fail_msg("no %s", name);
        return NULL;
}

static void write_powercap(void)
{
        tree_write(ZONE "name", "package-0\n");
        tree_write(ZONE "energy_uj", "1000\n");
        tree_write(ZONE "max_energy_range_uj", "262143328850\n");
}

static void write_msr(void)
{
        const uint64_t value = 0xA0E03;
        int fd;

        tree_write("cpuinfo", "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 158\n");
        tree_write("devices/system/cpu/cpu0/topology/physical_package_id", "0\n");
        tree_write("msr/0/msr", "");
        fd = open(tree_path("msr/0/msr"), O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, &value, sizeof(value), 0x606 * 8), sizeof(value));
        assert_int_equal(pwrite(fd, &value, sizeof(value), 0x611 * 8), sizeof(value));
        (void)close(fd);
}

static void nothing_is_found_on_a_machine_without_sensors(void **state)
{
        (void)state;
        open_all();
        assert_int_equal(set.n, 6);
        assert_int_equal(power_usable(&set), 0);
        for (size_t i = 0; i < set.n; i++) {
                assert_int_equal(set.states[i].result, -ENOENT);
                assert_true(*set.states[i].error.text);
        }
        power_close(&set);
}

static void a_fallback_is_used_when_the_first_choice_is_not_there(void **state)
{
        (void)state;
        write_msr();
        open_all();
        assert_non_null(state_of("rapl-msr")->source);
        power_close(&set);
}

static void a_fallback_is_not_used_beside_the_first_choice(void **state)
{
        struct power_reading readings[SENSORS_MAX];
        const struct power_context context = { .duration_ns = 0 };
        struct err e = { 0 };
        int failed = 0;

        (void)state;
        write_msr();
        write_powercap();
        open_all();
        assert_non_null(state_of("rapl")->source);
        assert_null(state_of("rapl-msr")->source);
        assert_string_equal(state_of("rapl-msr")->error.text, "rapl is used instead");
        assert_int_equal(power_read(&set, &context, readings, &failed, &e), 1);
        assert_int_equal(failed, 0);
        power_close(&set);
}

static void a_fallback_is_used_when_the_first_choice_is_refused(void **state)
{
        (void)state;
        if (geteuid() != 0)
                skip();
        write_msr();
        write_powercap();
        assert_int_equal(chmod(tree_path(ZONE "energy_uj"), 0400), 0);
        assert_int_equal(seteuid(65534), 0);
        open_all();
        assert_int_equal(seteuid(0), 0);
        assert_int_equal(state_of("rapl")->result, -EACCES);
        assert_non_null(state_of("rapl-msr")->source);
        power_close(&set);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, tree_set_up, tree_tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(nothing_is_found_on_a_machine_without_sensors),
                TEST(a_fallback_is_used_when_the_first_choice_is_not_there),
                TEST(a_fallback_is_not_used_beside_the_first_choice),
                TEST(a_fallback_is_used_when_the_first_choice_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
