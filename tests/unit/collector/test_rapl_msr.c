/* SPDX-License-Identifier: Apache-2.0 */
/* The registers of a processor as sparse files: 8 bytes at the offset of each register, as /dev/cpu/N/msr
 * shows them. */
#include "collector/power.h"

#include <errno.h>
#include <fcntl.h>
#include "tree.h"

#define SECOND UINT64_C(1000000000)
#define UNIT   0xA0E03 /* energy: 2^-14 J */
#define J14    (1e6 / 16384)
#define J16    (1e6 / 65536)

static const struct power_source_ops *const msr = &power_source_rapl_msr;
static struct power_reading readings[SENSORS_MAX];

static int try_open(struct power_source **ret, struct err *e)
{
        char root[TREE_PATH_MAX];
        const struct power_source_options options = { .sysfs_root = tree,
                                                      .procfs_root = tree,
                                                      .msr_root = root };

        (void)snprintf(root, sizeof(root), "%s/msr", tree);
        return msr->open(&options, ret, e);
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
        return msr->read(s, &context, readings, &e);
}

static void write_cpu(int cpu, int package, int die, int core)
{
        static const char *const names[] = { "physical_package_id", "die_id", "core_id" };
        const int ids[] = { package, die, core };
        char path[TREE_PATH_MAX];

        for (int i = 0; i < 3; i++) {
                (void)snprintf(path, sizeof(path), "devices/system/cpu/cpu%d/topology/%s", cpu, names[i]);
                tree_write_number(path, (unsigned)ids[i]);
        }
        (void)snprintf(path, sizeof(path), "msr/%d/msr", cpu);
        tree_write(path, "");
}

static void write_msr(int cpu, uint32_t address, uint64_t value)
{
        char path[64];
        int fd;

        (void)snprintf(path, sizeof(path), "msr/%d/msr", cpu);
        fd = open(tree_path(path), O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, &value, sizeof(value), (off_t)address * 8), sizeof(value));
        (void)close(fd);
}

static void write_cpuinfo(const char *vendor, int family, int model)
{
        char text[256];

        (void)snprintf(text, sizeof(text),
                       "vendor_id\t: %s\ncpu family\t: %d\nmodel\t\t: %d\nmodel name\t: 7\n", vendor, family,
                       model);
        tree_write("cpuinfo", text);
}

static void write_intel(int cpu, uint64_t package, uint64_t dram)
{
        write_msr(cpu, 0x606, UNIT);
        write_msr(cpu, 0x611, package);
        write_msr(cpu, 0x619, dram);
        write_msr(cpu, 0x639, 0); /* no core counter: it reads 0 */
}

static const struct power_reading *find(int n, const char *component, const char *unit)
{
        for (int i = 0; i < n; i++)
                if (!strcmp(readings[i].component, component) && !strcmp(readings[i].unit, unit))
                        return &readings[i];
        fail_msg("no %s %s", component, unit);
        return NULL;
}

static void without_registers_there_is_no_sensor(void **state)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        (void)state;
        write_cpuinfo("GenuineIntel", 6, 0x9E);
        write_cpu(0, 0, 0, 0);
        assert_int_equal(try_open(&s, &e), -ENOENT); /* an empty file: no such registers */
        assert_int_equal(unlink(tree_path("msr/0/msr")), 0);
        assert_int_equal(try_open(&s, &e), -ENOENT);
        assert_non_null(strstr(e.text, "module msr"));
        write_cpu(0, 0, 0, 0);
        write_intel(0, 1, 1);
        write_cpuinfo("GenuineIntel", 6, 0x37); /* Silvermont */
        assert_int_equal(try_open(&s, &e), -ENOENT);
        write_cpuinfo("AuthenticAMD", 0x15, 1);
        assert_int_equal(try_open(&s, &e), -ENOENT);
}

static void each_socket_is_read_on_its_first_cpu(void **state)
{
        struct power_source *s;
        int n;

        (void)state;
        write_cpuinfo("GenuineIntel", 6, 0x9E);
        for (int cpu = 0; cpu < 4; cpu++) {
                write_cpu(cpu, cpu / 2, 0, cpu % 2);
                write_intel(cpu, cpu % 2 ? 999 : 1000, 2000);
        }
        s = open_tree();
        assert_int_equal(read_after(s, 0), 4);
        write_intel(0, 1000 + 16384 * 5, 2000 + 16384);
        write_intel(2, 1000 + 16384 * 7, 2000 + 16384 * 2);
        n = read_after(s, SECOND);
        assert_int_equal(n, 4);
        assert_true(find(n, "package", "0")->valid);
        assert_string_equal(readings[0].source, "rapl-msr");
        assert_int_equal(readings[0].provenance, PROVENANCE_SIMULATED);
        assert_float_equal(find(n, "package", "0")->energy_uj, 5e6, 1e-3);
        assert_float_equal(find(n, "package", "1")->energy_uj, 7e6, 1e-3);
        assert_float_equal(find(n, "dram", "0")->energy_uj, 1e6, 1e-3); /* a client: the unit of 0x606 */
        assert_float_equal(find(n, "dram", "1")->energy_uj, 2e6, 1e-3);
        msr->close(s);
}

static void dram_of_a_server_has_a_unit_of_its_own(void **state)
{
        struct power_source *s;

        (void)state;
        write_cpuinfo("GenuineIntel", 6, 0x55);
        write_cpu(0, 0, 0, 0);
        write_intel(0, 1, 1);
        s = open_tree();
        (void)read_after(s, 0);
        write_intel(0, 1 + 16384, 1 + 65536 * 3);
        assert_int_equal(read_after(s, SECOND), 2);
        assert_float_equal(find(2, "package", "0")->energy_uj, 1e6, 1e-3);
        assert_float_equal(find(2, "dram", "0")->energy_uj, 3e6, 1e-3);
        msr->close(s);
}

static void counters_wrap_at_32_bits_and_their_upper_half_is_ignored(void **state)
{
        struct power_source *s;

        (void)state;
        write_cpuinfo("GenuineIntel", 6, 0x8F);
        write_cpu(0, 0, 0, 0);
        write_intel(0, 0xFFFFFF00, 5);
        s = open_tree();
        (void)read_after(s, 0);
        write_intel(0, 0xABCD000000000100, 5);
        (void)read_after(s, SECOND);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj, 512 * J14, 1e-3);
        write_intel(0, 0x10, 5); /* 262 kJ in a second: a reset */
        (void)read_after(s, SECOND);
        assert_false(readings[0].valid);
        for (int i = 1; i <= 60; i++) { /* ten minutes with a look every ten seconds: two rounds */
                write_intel(0, (0x10 + UINT64_C(150000000) * (uint64_t)i) & 0xFFFFFFFF, 5);
                if (i < 60)
                        msr->poll(s, 10 * SECOND);
        }
        (void)read_after(s, 600 * SECOND);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj / 1e6, 150e6 * 60 * J14 / 1e6, 1e-3);
        assert_int_equal(readings[0].covered_ns, 600 * SECOND);
        msr->close(s);
}

static void cores_of_an_amd_socket_add_up(void **state)
{
        struct power_source *s;

        (void)state;
        write_cpuinfo("AuthenticAMD", 0x19, 1);
        for (int cpu = 0; cpu < 8; cpu++) { /* two dies of two cores with two threads each */
                write_cpu(cpu, 0, cpu / 2 % 2, cpu % 2 + cpu / 2 % 2 * 2);
                write_msr(cpu, 0xC0010299, 0xA1003);
                write_msr(cpu, 0xC001029B, 100);
                write_msr(cpu, 0xC001029A, 0xFFFFFFF0);
        }
        s = open_tree();
        assert_int_equal(read_after(s, 0), 2);
        write_msr(0, 0xC001029B, 100 + 65536 * 9);
        for (int cpu = 0; cpu < 4; cpu++)
                write_msr(cpu, 0xC001029A, (0xFFFFFFF0 + UINT64_C(65536)) & 0xFFFFFFFF);
        assert_int_equal(read_after(s, SECOND), 2);
        assert_string_equal(readings[0].unit, "0"); /* a socket's counter, whatever the dies */
        assert_float_equal(readings[0].energy_uj, 65536 * 9 * J16, 1e-3);
        assert_string_equal(readings[1].component, "core");
        assert_float_equal(readings[1].energy_uj, 4e6, 1e-3);
        msr->close(s);
}

static void a_register_that_cannot_be_read_is_a_gap_and_catches_up(void **state)
{
        struct power_source *s;

        (void)state;
        write_cpuinfo("GenuineIntel", 6, 0x9E);
        write_cpu(0, 0, 0, 0);
        write_intel(0, 100, 5);
        s = open_tree();
        (void)read_after(s, 0);
        assert_int_equal(truncate(tree_path("msr/0/msr"), 0), 0);
        (void)read_after(s, SECOND);
        assert_false(readings[0].valid);
        assert_int_equal(readings[0].error, -EIO);
        write_intel(0, 100 + 16384, 5);
        (void)read_after(s, SECOND);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj, 1e6, 1e-3);
        assert_int_equal(readings[0].covered_ns, 2 * SECOND);
        msr->close(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, tree_set_up, tree_tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(without_registers_there_is_no_sensor),
                TEST(each_socket_is_read_on_its_first_cpu),
                TEST(dram_of_a_server_has_a_unit_of_its_own),
                TEST(counters_wrap_at_32_bits_and_their_upper_half_is_ignored),
                TEST(cores_of_an_amd_socket_add_up),
                TEST(a_register_that_cannot_be_read_is_a_gap_and_catches_up),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
