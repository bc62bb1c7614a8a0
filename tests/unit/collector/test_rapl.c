/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/power.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include "tree.h"

#define RANGE  262143328850ULL
#define SECOND UINT64_C(1000000000)
#define CLASS  "class/powercap/"

static const struct power_source_ops *const rapl = &power_source_rapl;
static struct power_reading readings[SENSORS_MAX];

static void write_zone(const char *dir, const char *name, unsigned long long uj)
{
        char path[TREE_PATH_MAX], line[96];

        (void)snprintf(path, sizeof(path), CLASS "%s/name", dir);
        (void)snprintf(line, sizeof(line), "%s\n", name);
        tree_write(path, line);
        (void)snprintf(path, sizeof(path), CLASS "%s/max_energy_range_uj", dir);
        tree_write_number(path, RANGE);
        (void)snprintf(path, sizeof(path), CLASS "%s/energy_uj", dir);
        tree_write_number(path, uj);
}

static void write_energy(const char *dir, unsigned long long uj)
{
        char path[TREE_PATH_MAX];

        (void)snprintf(path, sizeof(path), CLASS "%s/energy_uj", dir);
        tree_write_number(path, uj);
}

static int try_open(struct power_source **ret, struct err *e)
{
        const struct power_source_options options = { .sysfs_root = tree, .procfs_root = tree };

        return rapl->open(&options, ret, e);
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
        return rapl->read(s, &context, readings, &e);
}

static const struct power_reading *find(int n, const char *component, const char *unit)
{
        for (int i = 0; i < n; i++)
                if (!strcmp(readings[i].component, component) && !strcmp(readings[i].unit, unit))
                        return &readings[i];
        fail_msg("no %s %s", component, unit);
        return NULL;
}

static void without_a_powercap_tree_there_is_no_sensor(void **state)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(try_open(&s, &e), -ENOENT);
        tree_write(CLASS "intel-rapl/enabled", "1\n");
        assert_int_equal(try_open(&s, &e), -ENOENT);
        assert_non_null(strstr(e.text, "no RAPL zones"));
}

static void zones_of_two_sockets_are_known_by_their_names(void **state)
{
        struct power_source *s;
        int n;

        (void)state;
        write_zone("intel-rapl:0", "package-1", 1000); /* numbers do not tell the socket */
        write_zone("intel-rapl:0/intel-rapl:0:0", "core", 10);
        write_zone("intel-rapl:0/intel-rapl:0:1", "dram", 20);
        write_zone("intel-rapl:1", "package-0", 2000);
        write_zone("intel-rapl:1/intel-rapl:1:0", "dram", 30);
        write_zone("intel-rapl:1/intel-rapl:1:1", "uncore", 40);
        write_zone("intel-rapl:2", "psys", 5000);
        write_zone("intel-rapl:3", "mystery", 5000);
        s = open_tree();
        n = read_after(s, 0);
        assert_int_equal(n, 7);
        for (int i = 0; i < n; i++) {
                assert_false(readings[i].valid); /* the base */
                assert_string_equal(readings[i].source, "rapl-sysfs");
                assert_int_equal(readings[i].provenance, PROVENANCE_SIMULATED); /* a plain directory */
        }
        write_energy("intel-rapl:0", 1000 + 3000000);
        write_energy("intel-rapl:0/intel-rapl:0:1", 20 + 700);
        write_energy("intel-rapl:2", 5000 + 9);
        n = read_after(s, SECOND);
        assert_true(find(n, "package", "1")->valid);
        assert_float_equal(find(n, "package", "1")->energy_uj, 3000000, 0);
        assert_float_equal(find(n, "package", "0")->energy_uj, 0, 0);
        assert_float_equal(find(n, "dram", "1")->energy_uj, 700, 0);
        assert_float_equal(find(n, "psys", "0")->energy_uj, 9, 0);
        assert_true(find(n, "uncore", "0")->valid);
        assert_true(find(n, "core", "1")->idle_uj < 0); /* not known here */
        rapl->close(s);
}

static void links_and_other_layouts_show_each_zone_once(void **state)
{
        struct power_source *s;

        (void)state;
        write_zone("intel-rapl/intel-rapl:0", "package-0", 1);
        write_zone("intel-rapl/intel-rapl:0/intel-rapl:0:0", "dram", 1);
        write_zone("intel-rapl-mmio/intel-rapl-mmio:0", "package-0", 1);
        write_zone("intel-rapl-mmio:0", "package-0", 1);
        assert_int_equal(symlink("intel-rapl/intel-rapl:0", tree_path(CLASS "intel-rapl:0")), 0);
        assert_int_equal(symlink("intel-rapl/intel-rapl:0/intel-rapl:0:0", tree_path(CLASS "intel-rapl:0:0")),
                         0);
        s = open_tree();
        assert_int_equal(read_after(s, 0), 2);
        rapl->close(s);
}

static void dies_of_a_socket_are_kept_apart(void **state)
{
        struct power_source *s;
        int n;

        (void)state;
        write_zone("intel-rapl:0", "package-0-die-0", 1);
        write_zone("intel-rapl:1", "package-0-die-1", 5000);
        write_zone("intel-rapl:1/intel-rapl:1:0", "dram", 1);
        write_zone("intel-rapl:2", "psys", 1);
        write_zone("intel-rapl:3", "psys", 1);
        s = open_tree();
        n = read_after(s, 0);
        assert_int_equal(n, 5);
        (void)find(n, "package", "0-die-0");
        (void)find(n, "package", "0-die-1");
        (void)find(n, "dram", "0-die-1");
        (void)find(n, "psys", "0");
        (void)find(n, "psys", "0-zone:3"); /* of the same name, still another series */
        rapl->close(s);
}

static void a_wrapped_counter_keeps_its_energy(void **state)
{
        struct power_source *s;

        (void)state;
        write_zone("intel-rapl:0", "package-0", RANGE - 1000000);
        s = open_tree();
        (void)read_after(s, 0);
        write_energy("intel-rapl:0", 2000000);
        (void)read_after(s, SECOND);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj, 3000000, 0);
        rapl->close(s);
}

static void a_reset_counter_is_a_gap(void **state)
{
        struct power_source *s;

        (void)state;
        write_zone("intel-rapl:0", "package-0", 5000000000ULL);
        s = open_tree();
        (void)read_after(s, 0);
        write_energy("intel-rapl:0", 100);
        (void)read_after(s, SECOND);
        assert_false(readings[0].valid);
        assert_int_equal(readings[0].error, 0);
        write_energy("intel-rapl:0", 700);
        (void)read_after(s, SECOND);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj, 600, 0);
        rapl->close(s);
}

static void a_zone_that_vanishes_is_a_gap_and_catches_up(void **state)
{
        struct power_source *s;

        (void)state;
        write_zone("intel-rapl:0", "package-0", 1000);
        s = open_tree();
        (void)read_after(s, 0);
        assert_int_equal(unlink(tree_path(CLASS "intel-rapl:0/energy_uj")), 0);
        assert_int_equal(read_after(s, SECOND), 1);
        assert_false(readings[0].valid);
        assert_int_equal(readings[0].error, -ENOENT);
        write_energy("intel-rapl:0", 9000);
        (void)read_after(s, SECOND);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj, 8000, 0);
        assert_int_equal(readings[0].covered_ns, 2 * SECOND);
        rapl->close(s);
}

static void a_gap_in_which_the_counter_may_have_wrapped_is_lost(void **state)
{
        struct power_source *s;

        (void)state;
        write_zone("intel-rapl:0", "package-0", 1000);
        s = open_tree();
        (void)read_after(s, 0);
        tree_write(CLASS "intel-rapl:0/energy_uj", "garbage\n");
        (void)read_after(s, 600 * SECOND);
        assert_false(readings[0].valid);
        write_energy("intel-rapl:0", 9000);
        (void)read_after(s, SECOND);
        assert_false(readings[0].valid);
        rapl->close(s);
}

static bool real_sysfs;
enum provenance __real_power_path_provenance(const char *path);
enum provenance __wrap_power_path_provenance(const char *path);

enum provenance __wrap_power_path_provenance(const char *path)
{
        return real_sysfs ? PROVENANCE_MEASURED : __real_power_path_provenance(path);
}

static void rapl_that_a_hypervisor_shows_is_virtual(void **state)
{
        struct power_source *s;

        (void)state;
        real_sysfs = true;
        write_zone("intel-rapl:0", "package-0", 1000);
        tree_write("cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: fpu msr\n");
        s = open_tree();
        assert_int_equal(read_after(s, 0), 1);
        assert_int_equal(readings[0].provenance, PROVENANCE_MEASURED);
        rapl->close(s);
        tree_write("cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor msr\n");
        s = open_tree();
        assert_int_equal(read_after(s, 0), 1);
        assert_int_equal(readings[0].provenance, PROVENANCE_VIRTUAL);
        rapl->close(s);
        real_sysfs = false;
}

static void write_in_place(const char *dir, const char *text)
{
        char path[TREE_PATH_MAX];
        int fd;

        (void)snprintf(path, sizeof(path), CLASS "%s/energy_uj", dir);
        fd = open(tree_path(path), O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        (void)close(fd);
}

/* On a real sysfs; with plain files in its place. */
static void counters_stay_open_so_that_privileges_can_be_dropped(void **state)
{
        struct power_source *s;

        (void)state;
        real_sysfs = true;
        write_zone("intel-rapl:0", "package-0", 1000);
        s = open_tree();
        (void)read_after(s, 0);
        assert_int_equal(chmod(tree_path(CLASS "intel-rapl:0/energy_uj"), 0400), 0);
        write_in_place("intel-rapl:0", "6000\n");
        if (geteuid() == 0)
                assert_int_equal(seteuid(65534), 0);
        (void)read_after(s, SECOND);
        if (getuid() == 0)
                assert_int_equal(seteuid(0), 0);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj, 5000, 0);
        write_in_place("intel-rapl:0", "");
        (void)read_after(s, SECOND);
        assert_int_equal(readings[0].error, -EINVAL);
        write_in_place("intel-rapl:0", "7000\n");
        (void)read_after(s, SECOND);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj, 1000, 0);
        rapl->close(s);
        real_sysfs = false;
}

static void what_is_not_used_is_noted_with_the_reason(void **state)
{
        static struct power_set set;
        const struct power_source_options options = {
                .sysfs_root = tree, .procfs_root = tree, .estimator_socket = "", .estimate_weight = ""
        };
        static const char *const names[] = { "rapl", "acpi" };

        (void)state;
        write_zone("intel-rapl:0", "package-0", 1000);
        write_zone("intel-rapl:0/intel-rapl:0:0", "core", 1000);
        write_zone("intel-rapl:1", "mystery", 1000);
        tree_write("cpuinfo", "vendor_id\t: AuthenticAMD\n");
        power_open(names, 2, &options, &set);
        assert_int_equal(power_usable(&set), 1);
        assert_int_equal(set.notes.n, 2);
        assert_string_equal(set.notes.items[0].sensor, "core");
        assert_non_null(strstr(set.notes.items[0].why, "one core only"));
        assert_string_equal(set.notes.items[1].sensor, "mystery");
        assert_int_equal(set.states[1].result, -ENOENT);
        power_close(&set);
}

static void counters_that_only_root_may_read_are_told_so(void **state)
{
        struct power_source *s = NULL;
        struct err e = { 0 };
        int r;

        (void)state;
        if (geteuid() != 0)
                skip();
        write_zone("intel-rapl:0", "package-0", 1000);
        assert_int_equal(chmod(tree_path(CLASS "intel-rapl:0/energy_uj"), 0400), 0);
        assert_int_equal(seteuid(65534), 0);
        r = try_open(&s, &e);
        assert_int_equal(seteuid(0), 0);
        assert_int_equal(r, -EACCES);
        assert_non_null(strstr(e.text, "run as root"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, tree_set_up, tree_tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(without_a_powercap_tree_there_is_no_sensor),
                TEST(zones_of_two_sockets_are_known_by_their_names),
                TEST(links_and_other_layouts_show_each_zone_once),
                TEST(dies_of_a_socket_are_kept_apart),
                TEST(a_wrapped_counter_keeps_its_energy),
                TEST(a_reset_counter_is_a_gap),
                TEST(a_zone_that_vanishes_is_a_gap_and_catches_up),
                TEST(a_gap_in_which_the_counter_may_have_wrapped_is_lost),
                TEST(rapl_that_a_hypervisor_shows_is_virtual),
                TEST(counters_stay_open_so_that_privileges_can_be_dropped),
                TEST(what_is_not_used_is_noted_with_the_reason),
                TEST(counters_that_only_root_may_read_are_told_so),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
