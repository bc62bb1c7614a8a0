/* SPDX-License-Identifier: Apache-2.0 */
/* The perf path with the kernel's own software clock in the place of an energy counter: a tree in place of
 * /sys says that a joule is a second, so each CPU in a mask draws just 1 W. */
#include "collector/power.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <time.h>
#include "common/clock.h"
#include "tree.h"

#define DEVICES  "bus/event_source/devices/"
#define SOFTWARE "1\n"          /* PERF_TYPE_SOFTWARE */
#define CLOCK    "event=0x00\n" /* PERF_COUNT_SW_CPU_CLOCK, nanoseconds */
#define SLEEP_NS 100000000L
#define OFF      0.02 /* of a second: what may pass between our clock and the counter */

static const struct power_source_ops *const perf = &power_source_rapl_perf;
static struct power_reading readings[SENSORS_MAX];
static struct power_notes notes;

static int try_open(struct power_source **ret, struct err *e)
{
        const struct power_source_options options = { .sysfs_root = tree,
                                                      .procfs_root = tree,
                                                      .notes = &notes };

        notes.n = 0;
        return perf->open(&options, ret, e);
}

static int read_after(struct power_source *s, uint64_t ns)
{
        const struct power_context context = { .duration_ns = ns };
        struct err e = { 0 };

        memset(readings, 0, sizeof(readings));
        return perf->read(s, &context, readings, &e);
}

static void write_cpu(int cpu, int package, int core)
{
        char path[TREE_PATH_MAX];

        (void)snprintf(path, sizeof(path), "devices/system/cpu/cpu%d/topology/physical_package_id", cpu);
        tree_write_number(path, (unsigned)package);
        (void)snprintf(path, sizeof(path), "devices/system/cpu/cpu%d/topology/core_id", cpu);
        tree_write_number(path, (unsigned)core);
}

static void write_event(const char *pmu, const char *event, const char *text, const char *scale,
                        const char *mask)
{
        char path[TREE_PATH_MAX];

        (void)snprintf(path, sizeof(path), DEVICES "%s/type", pmu);
        tree_write(path, SOFTWARE);
        (void)snprintf(path, sizeof(path), DEVICES "%s/cpumask", pmu);
        tree_write(path, mask);
        (void)snprintf(path, sizeof(path), DEVICES "%s/events/%s", pmu, event);
        tree_write(path, text);
        (void)snprintf(path, sizeof(path), DEVICES "%s/events/%s.scale", pmu, event);
        tree_write(path, scale);
        (void)snprintf(path, sizeof(path), DEVICES "%s/events/%s.unit", pmu, event);
        tree_write(path, "Joules\n");
}

/* Opened, or the test is left out where perf is not allowed at all. */
static struct power_source *open_or_skip(void)
{
        struct power_source *s = NULL;
        struct err e = { 0 };
        int r = try_open(&s, &e);

        if (r == -EACCES || r == -ENOSYS)
                skip();
        if (r < 0)
                fail_msg("%s", e.text);
        return s;
}

static double sleep_seconds(void)
{
        struct timespec t = { 0, SLEEP_NS };
        uint64_t begin = clock_monotonic_ns();

        (void)nanosleep(&t, NULL);
        return (double)(clock_monotonic_ns() - begin) / 1e9;
}

static void without_a_power_pmu_there_is_no_sensor(void **state)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(try_open(&s, &e), -ENOENT);
        assert_non_null(strstr(e.text, "no energy events"));
}

static void joules_are_counts_times_scale(void **state)
{
        struct power_source *s;
        double seconds;

        (void)state;
        write_cpu(0, 0, 0);
        write_event("power", "energy-pkg", CLOCK, "1.0e-9\n", "0\n");
        write_event("power", "energy-psys", CLOCK, "2.5e-9\n", "0\n");
        s = open_or_skip();
        assert_int_equal(read_after(s, 0), 2);
        assert_false(readings[0].valid);
        seconds = sleep_seconds();
        assert_int_equal(read_after(s, (uint64_t)(seconds * 1e9)), 2);
        assert_true(readings[0].valid);
        assert_string_equal(readings[0].source, "rapl-perf");
        assert_string_equal(readings[0].component, "package");
        assert_string_equal(readings[0].unit, "0");
        assert_int_equal(readings[0].provenance, PROVENANCE_SIMULATED);
        assert_float_equal(readings[0].energy_uj / 1e6, seconds, OFF);
        assert_int_equal(readings[0].covered_ns, (uint64_t)(seconds * 1e9));
        assert_string_equal(readings[1].component, "psys");
        assert_float_equal(readings[1].energy_uj / 1e6, 2.5 * seconds, 2.5 * OFF);
        perf->close(s);
}

static void each_cpu_of_the_mask_is_a_socket_or_a_part_of_one(void **state)
{
        struct power_source *s;
        double seconds;

        (void)state;
        if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
                skip();
        write_cpu(0, 0, 0);
        write_cpu(1, 1, 0);
        write_event("power", "energy-pkg", CLOCK, "1e-9\n", "0-1\n");
        s = open_or_skip();
        assert_int_equal(read_after(s, 0), 2);
        assert_string_equal(readings[1].unit, "1");
        perf->close(s);

        write_cpu(1, 0, 1);
        write_event("power", "energy-pkg", CLOCK, "1e-9\n", "0\n");
        write_event("power_core", "energy-core", CLOCK, "1e-9\n", "0,1\n");
        s = open_or_skip();
        assert_int_equal(read_after(s, 0), 2);
        seconds = sleep_seconds();
        assert_int_equal(read_after(s, (uint64_t)(seconds * 1e9)), 2);
        assert_string_equal(readings[1].component, "core");
        assert_float_equal(readings[1].energy_uj / 1e6, 2 * seconds, 2 * OFF); /* two cores */
        perf->close(s);
}

static void an_event_that_cannot_be_understood_is_noted(void **state)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        (void)state;
        write_cpu(0, 0, 0);
        write_event("power", "energy-pkg", "umask=1\n", "1e-9\n", "0\n");
        assert_int_equal(try_open(&s, &e), -EPROTO);
        assert_int_equal(notes.n, 1);
        write_event("power", "energy-pkg", CLOCK, "-1\n", "0\n");
        assert_int_equal(try_open(&s, &e), -EPROTO);
        write_event("power", "energy-pkg", CLOCK, "1e-9\n", "7000\n"); /* no such CPU */
        assert_int_equal(try_open(&s, &e), -ENODEV);
        tree_write(DEVICES "power/events/energy-pkg.unit", "Watts\n");
        assert_int_equal(try_open(&s, &e), -EPROTO);
}

static void perf_that_is_not_allowed_is_told(void **state)
{
        struct power_source *s = NULL;
        struct err e = { 0 };
        char text[16] = "";
        int r;

        (void)state;
        (void)file_read_small(AT_FDCWD, "/proc/sys/kernel/perf_event_paranoid", text, sizeof(text));
        if (geteuid() != 0 || strtol(text, NULL, 10) < 1)
                skip();
        write_cpu(0, 0, 0);
        write_event("power", "energy-pkg", CLOCK, "1e-9\n", "0\n");
        assert_int_equal(seteuid(65534), 0);
        r = try_open(&s, &e);
        assert_int_equal(seteuid(0), 0);
        assert_int_equal(r, -EACCES);
        assert_non_null(strstr(e.text, "CAP_PERFMON"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, tree_set_up, tree_tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(without_a_power_pmu_there_is_no_sensor),
                TEST(joules_are_counts_times_scale),
                TEST(each_cpu_of_the_mask_is_a_socket_or_a_part_of_one),
                TEST(an_event_that_cannot_be_understood_is_noted),
                TEST(perf_that_is_not_allowed_is_told),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
