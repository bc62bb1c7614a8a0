/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <string.h>
#include "common/file.h"
#include "schema/machine.h"

/* ---- brand strings ---- */

static void brand_strings_become_upstreams_names(void **state)
{
        static const struct {
                const char *brand, *want;
        } rows[] = {
                { "Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", "intel_xeon_e5_2686v4" },
                { "AMD EPYC 7763 64-Core Processor", "amd_epyc_7763_64_core" },
                { "Intel(R) Core(TM) i7-1065G7 CPU @ 1.30GHz", "intel_core" },
                { "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", "intel_xeon_platinum_8259cl" },
                { "  AMD EPYC  ", "amd_epyc" },
                { "Acme\xc2\xae Z1, 64-Bit Multi-Core Processor", "acme_z1" },
                { "", "" },
                { "(R)", "" },
        };
        char name[MACHINE_TEXT_MAX];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                machine_format_processor(rows[i].brand, name);
                assert_string_equal(name, rows[i].want);
        }
}

static void an_endless_brand_string_is_cut(void **state)
{
        char brand[4 * MACHINE_TEXT_MAX], name[MACHINE_TEXT_MAX];

        (void)state;
        memset(brand, 'x', sizeof(brand));
        brand[sizeof(brand) - 1] = '\0';
        machine_format_processor(brand, name);
        assert_in_range(strlen(name), 1, MACHINE_TEXT_MAX - 1);
}

/* ---- a recorded machine ---- */

static void put(const char *root, const char *name, const char *text)
{
        char path[PATH_MAX], dir[PATH_MAX];

        assert_int_equal(path_join(path, sizeof(path), root, name), 0);
        assert_int_equal(path_join(dir, sizeof(dir), root, name), 0);
        *strrchr(dir, '/') = '\0';
        assert_int_equal(file_mkdirs(dir, 0755, NULL), 0);
        assert_int_equal(file_write_atomic(path, text, strlen(text), 0644, NULL), 0);
}

static int make_root(void **state)
{
        static char root[64];

        (void)snprintf(root, sizeof(root), "/tmp/test_machine.XXXXXX");
        *state = mkdtemp(root);
        return *state ? 0 : -1;
}

static int remove_root(void **state)
{
        return file_remove_tree(*state, NULL);
}

static const char two_chips[] =
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n"
        "model name\t: Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz\ncpu MHz\t\t: 2449.0\nphysical id\t: "
        "0\n\n"
        "processor\t: 1\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel name\t: something else\n"
        "cpu MHz\t\t: 2452.0\nphysical id\t: 3\n\n"
        "processor\t: 2\ncpu MHz\t\t: 2449.0\nphysical id\t: 0\n";

static void a_recorded_machine_is_discovered(void **state)
{
        struct machine m;
        struct err e = { "" };

        put(*state, "sys/kernel/random/boot_id", "0b6d3f0e-1111-2222-3333-444455556666\n");
        put(*state, "cpuinfo", two_chips);
        put(*state, "meminfo", "MemTotal:       396213312 kB\nMemFree: 1 kB\n");
        setenv("NODE_NAME", "n1", 1);
        unsetenv("CPU_ARCH_OVERRIDE");

        assert_int_equal(machine_discover(*state, "/nonexistent", &m, &e), 0);
        assert_string_equal(m.node_name, "n1");
        assert_int_equal(strlen(m.node_id), 32);
        assert_string_equal(m.boot_id, "0b6d3f0e-1111-2222-3333-444455556666");
        assert_string_equal(m.cpu_architecture, "GenuineIntel family 6");
        assert_string_equal(m.spec.processor, "intel_xeon_platinum_8259cl");
        assert_int_equal(m.spec.cores, 3);
        assert_int_equal(m.spec.chips, 2);
        assert_int_equal(m.spec.memory, 377);
        assert_int_equal(m.spec.frequency, 2500); /* 2450 rounds up */
}

static void sysfs_knows_frequency_and_architecture_better(void **state)
{
        struct machine m;

        put(*state, "sys/kernel/random/boot_id", "b\n");
        put(*state, "cpuinfo", two_chips);
        put(*state, "sysfs/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "3500000\n");
        put(*state, "sysfs/devices/cpu/caps/pmu_name", "skylake\n");
        char sysfs[PATH_MAX];
        assert_int_equal(path_join(sysfs, sizeof(sysfs), *state, "sysfs"), 0);

        unsetenv("CPU_ARCH_OVERRIDE");
        assert_int_equal(machine_discover(*state, sysfs, &m, NULL), 0);
        assert_int_equal(m.spec.frequency, 3500);
        assert_string_equal(m.cpu_architecture, "skylake");

        setenv("CPU_ARCH_OVERRIDE", "Zed Lake", 1);
        assert_int_equal(machine_discover(*state, sysfs, &m, NULL), 0);
        assert_string_equal(m.cpu_architecture, "Zed Lake");
        unsetenv("CPU_ARCH_OVERRIDE");
}

static void a_machine_that_says_nothing_still_has_cores_and_a_chip(void **state)
{
        struct machine m;

        put(*state, "sys/kernel/random/boot_id", "b\n");
        put(*state, "cpuinfo", "garbage\n\x01\xff:\n: : :\n");
        assert_int_equal(machine_discover(*state, "/nonexistent", &m, NULL), 0);
        assert_string_equal(m.spec.processor, "");
        assert_true(m.spec.cores >= 1);
        assert_int_equal(m.spec.chips, 1);
        assert_int_equal(m.spec.memory, 0);
        assert_int_equal(m.spec.frequency, 0);
        assert_string_equal(m.cpu_architecture, "unknown");
}

static void an_unreadable_boot_id_is_an_error(void **state)
{
        struct machine m;
        struct err e = { "" };

        assert_int_equal(machine_discover(*state, "/sys", &m, &e), -ENOENT);
        assert_non_null(strstr(e.text, "boot id"));
        put(*state, "sys/kernel/random/boot_id", "\n");
        assert_int_equal(machine_discover(*state, "/sys", &m, &e), -EBADMSG);
}

static void discovering_twice_gives_the_same_machine(void **state)
{
        struct machine a, b;

        (void)state;
        assert_int_equal(machine_discover("/proc", "/sys", &a, NULL), 0);
        assert_int_equal(machine_discover("/proc", "/sys", &b, NULL), 0);
        assert_string_equal(a.node_id, b.node_id);
        assert_int_equal(a.spec.cores, b.spec.cores);
        assert_string_equal(a.spec.processor, b.spec.processor);
}

/* ---- JSON ---- */

static int parse(const char *text, struct machine_spec *ret, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = json_loads(text, JSON_DECODE_ANY, NULL);

        assert_non_null(object);
        return machine_spec_from_json(object, ret, e);
}

static void a_spec_survives_json(void **state)
{
        struct machine_spec spec = { "acme_z1", 8, 1, 31, 3100 }, back;
        CLEANUP(json_decrefp) json_t *object = machine_spec_to_json(&spec);
        CLEANUP(freep) char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);

        (void)state;
        assert_string_equal(
                text, "{\"chips\":1,\"cores\":8,\"frequency\":3100,\"memory\":31,\"processor\":\"acme_z1\"}");
        assert_int_equal(machine_spec_from_json(object, &back, NULL), 0);
        assert_memory_equal(&spec, &back, sizeof(spec));
}

static void unknown_values_are_left_out(void **state)
{
        struct machine_spec spec = { "", 4, 1, 0, 0 };
        CLEANUP(json_decrefp) json_t *object = machine_spec_to_json(&spec);
        CLEANUP(freep) char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);

        (void)state;
        assert_string_equal(text, "{\"chips\":1,\"cores\":4}");
}

static void floats_strings_nulls_and_enum_names_are_read(void **state)
{
        struct machine_spec spec;

        (void)state;
        assert_int_equal(
                parse("{\"NodeAttribute.PROCESSOR\":\"p\",\"NodeAttribute.CORES\":4.0,\"chips\":\"2\","
                      "\"memory\":null,\"vendor\":[1]}",
                      &spec, NULL),
                0);
        assert_string_equal(spec.processor, "p");
        assert_int_equal(spec.cores, 4);
        assert_int_equal(spec.chips, 2);
        assert_int_equal(spec.memory, 0);
        assert_int_equal(spec.frequency, 0);
}

static void wrong_types_are_named(void **state)
{
        static const struct {
                const char *text, *words;
        } rows[] = {
                { "[]", "not an object" },           { "{\"processor\":7}", "processor" },
                { "{\"cores\":\"many\"}", "cores" }, { "{\"chips\":true}", "chips" },
                { "{\"memory\":{}}", "memory" },     { "{\"frequency\":1e300}", "frequency" },
        };
        struct machine_spec spec = { "kept", 1, 1, 1, 1 };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct err e = { "" };

                assert_int_equal(parse(rows[i].text, &spec, &e), -EBADMSG);
                assert_non_null(strstr(e.text, rows[i].words));
        }
        assert_string_equal(spec.processor, "kept");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(brand_strings_become_upstreams_names),
                cmocka_unit_test(an_endless_brand_string_is_cut),
                cmocka_unit_test_setup_teardown(a_recorded_machine_is_discovered, make_root, remove_root),
                cmocka_unit_test_setup_teardown(sysfs_knows_frequency_and_architecture_better, make_root,
                                                remove_root),
                cmocka_unit_test_setup_teardown(a_machine_that_says_nothing_still_has_cores_and_a_chip,
                                                make_root, remove_root),
                cmocka_unit_test_setup_teardown(an_unreadable_boot_id_is_an_error, make_root, remove_root),
                cmocka_unit_test(discovering_twice_gives_the_same_machine),
                cmocka_unit_test(a_spec_survives_json),
                cmocka_unit_test(unknown_values_are_left_out),
                cmocka_unit_test(floats_strings_nulls_and_enum_names_are_read),
                cmocka_unit_test(wrong_types_are_named),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
