/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/window.h"

#include <errno.h>
#include <math.h>
#include "tree.h"

#define SECOND UINT64_C(1000000000)

static const bool all_but_counters[FEATURE_N] = { true, true, true, true, true };
static struct usage_set usage;
static struct power_reading readings[SENSORS_MAX];
static size_t n_readings;
static int64_t wall_ms;

/* Cgroup 0 is none; every other id is a container named after it. */
static const struct cgroup_info *find_cgroup(void *context, uint64_t id)
{
        static struct cgroup_info info;

        (void)context;
        memset(&info, 0, sizeof(info));
        (void)snprintf(info.path, sizeof(info.path), "/cg/%llu", (unsigned long long)id);
        if (id)
                (void)snprintf(info.container, sizeof(info.container), "c%llu", (unsigned long long)id);
        return &info;
}

static int restore_c7(void *context, enum entity_kind kind, const char *key, uint64_t ret_total[FEATURE_N])
{
        (void)context;
        assert_int_equal(kind, ENTITY_CONTAINER);
        if (strcmp(key, "c7") != 0)
                return 0;
        ret_total[FEATURE_CPU_TIME] = 7000;
        return 1;
}

static int restore_power(void *context, const struct power_reading *sensor, struct sensor_past *ret)
{
        (void)context;
        (void)sensor;
        *ret = (struct sensor_past){ 100000000, 40000000, 100000000, 8 };
        return 1;
}

static const struct window_lookup lookup = { .cgroup = find_cgroup };

static int set_up(void **state)
{
        struct window *w = NULL;

        memset(&usage, 0, sizeof(usage));
        n_readings = 0;
        wall_ms = 1700000000000;
        if (window_new(&w) < 0)
                return -1;
        window_start(w, wall_ms);
        *state = w;
        return 0;
}

static int tear_down(void **state)
{
        window_free(*state);
        usage_set_done(&usage);
        return 0;
}

static void use(uint64_t cgroup_id, bool kernel, uint64_t cpu_ns)
{
        usage_set_row(&usage, cgroup_id, kernel)->delta[FEATURE_CPU_TIME] += cpu_ns;
}

static struct power_reading *power(const char *component, const char *unit, double watts)
{
        struct power_reading *r = &readings[n_readings++];

        *r = (struct power_reading){ .source = "rapl-sysfs",
                                     .provenance = PROVENANCE_MEASURED,
                                     .valid = true,
                                     .energy_uj = watts * 1e6,
                                     .idle_uj = -1 };
        (void)snprintf(r->component, sizeof(r->component), "%s", component);
        (void)snprintf(r->unit, sizeof(r->unit), "%s", unit);
        return r;
}

/* Fold one second with what use() and power() have set, and start over. */
static void fold_with(struct window *w, const struct window_lookup *l)
{
        const struct sample sample = { .duration_ns = SECOND,
                                       .wall_ms = wall_ms + 1000,
                                       .usage = &usage,
                                       .measured = all_but_counters,
                                       .readings = readings,
                                       .n_readings = n_readings };

        wall_ms += 1000;
        window_fold(w, &sample, l);
        usage_set_clear(&usage);
        n_readings = 0;
}

static void fold(struct window *w)
{
        fold_with(w, &lookup);
}

static void containers_and_the_rest_add_up_to_the_node(void **state)
{
        struct window *w = *state;
        uint64_t sum = 0;

        for (uint64_t round = 1; round <= 3; round++) {
                for (uint64_t id = 0; id < 50; id++)
                        use(id, false, 1000 * id + round);
                use(0, true, 333);
                fold(w);
                window_stored(w);
        }
        for (size_t i = 0; i < w->n; i++)
                sum += w->entities[i]->total[FEATURE_CPU_TIME];
        assert_int_equal(sum, w->total[FEATURE_CPU_TIME]);
        assert_int_equal(w->n, 51);
        assert_int_equal(window_find(w, ENTITY_KERNEL)->total[FEATURE_CPU_TIME], 999);
        assert_int_equal(window_find(w, ENTITY_SYSTEM)->total[FEATURE_CPU_TIME], 1 + 2 + 3);
        assert_int_equal(window_find(w, "c9")->total[FEATURE_CPU_TIME], 27000 + 6);
        assert_string_equal(window_find(w, "c9")->cgroup, "/cg/9");
        assert_int_equal(w->measured_ns, 3 * SECOND);
        assert_false(w->measured[FEATURE_CPU_CYCLES]);
}

static double attributed(const struct window *w, enum split_component c)
{
        double sum = 0;

        for (size_t i = 0; i < w->n; i++)
                sum += w->entities[i]->energy_uj[c];
        return sum;
}

static double unattributed(const struct window *w, enum split_component c)
{
        return w->split[c].idle_uj + w->split[c].ownerless_uj;
}

/* The invariant: entities and `unattributed` are the node, within 1 mW. */
static void attributed_and_unattributed_power_equal_the_node(void **state)
{
        struct window *w = *state;

        for (int round = 0; round < 20; round++) {
                double package = 20 + 7.3 * (round % 5), dram = 3.1 + 0.1 * round;

                for (uint64_t id = 0; id < 300 && round != 7; id++) /* in one round nobody does anything */
                        use(id, false, id * 1237 + 11);
                (void)power("package", "0", package);
                (void)power("package", "1", 2 * package);
                (void)power("dram", "0", dram);
                (void)power("psys", "0", 500);
                fold(w);
                window_stored(w);
                assert_float_equal((attributed(w, SPLIT_PACKAGE) + unattributed(w, SPLIT_PACKAGE)) / 1e6,
                                   3 * package, 0.001);
                assert_float_equal((attributed(w, SPLIT_DRAM) + unattributed(w, SPLIT_DRAM)) / 1e6, dram,
                                   0.001);
                assert_true(unattributed(w, SPLIT_PACKAGE) >= w->split[SPLIT_PACKAGE].idle_uj);
                assert_int_equal(w->split[SPLIT_PLATFORM].source, -1); /* psys is no platform */
        }
}

static void dynamic_power_follows_cpu_time(void **state)
{
        struct window *w = *state;

        (void)power("package", "0", 10);
        fold(w);
        use(1, false, 300);
        use(2, false, 100);
        (void)power("package", "0", 50);
        fold(w);
        assert_float_equal(window_find(w, "c1")->energy_uj[SPLIT_PACKAGE], 30e6, 1);
        assert_float_equal(window_find(w, "c2")->energy_uj[SPLIT_PACKAGE], 10e6, 1);
        assert_float_equal(unattributed(w, SPLIT_PACKAGE), 10e6, 1);
}

static void idle_power_is_the_lowest_seen(void **state)
{
        struct window *w = *state;

        (void)power("package", "0", 30);
        fold(w);
        assert_float_equal(w->sensors[0].idle_uj, 30e6, 1);
        (void)power("package", "0", 10);
        fold(w);
        assert_float_equal(w->sensors[0].idle_uj, 40e6, 1);
        (void)power("package", "0", 50);
        fold(w);
        assert_float_equal(w->sensors[0].idle_uj, 50e6, 1);
        assert_float_equal(w->sensors[0].energy_uj, 90e6, 1);
        power("package", "0", 50)->idle_uj = 20e6; /* a source that knows better */
        fold(w);
        assert_float_equal(w->sensors[0].idle_uj, 70e6, 1);
        power("package", "0", 50)->idle_uj = 90e6; /* more than there was */
        fold(w);
        assert_float_equal(w->sensors[0].idle_uj, 120e6, 1);
}

static void a_gap_is_no_zero(void **state)
{
        struct window *w = *state;

        (void)power("package", "0", 30);
        fold(w);
        power("package", "0", 0)->valid = false;
        fold(w);
        assert_false(w->sensors[0].valid);
        fold(w); /* not even mentioned */
        assert_false(w->sensors[0].valid);
        assert_int_equal(w->split[SPLIT_PACKAGE].source, -1);
        power("package", "0", 90)->covered_ns = 3 * SECOND;
        fold(w);
        assert_true(w->sensors[0].valid);
        assert_float_equal(w->sensors[0].watts, 30, 1e-9);
        assert_float_equal(w->sensors[0].energy_uj, 120e6, 1);
}

static void nonsense_from_a_sensor_is_a_gap(void **state)
{
        struct window *w = *state;

        (void)power("package", "0", NAN);
        fold(w);
        assert_false(w->sensors[0].valid);
        (void)power("package", "0", -3);
        fold(w);
        assert_false(w->sensors[0].valid);
        assert_int_equal(w->sensors[0].energy_uj, 0);
        (void)power("package", "0", 1e13); /* a counter that jumps; its total would not fit a database */
        fold(w);
        assert_false(w->sensors[0].valid);
        assert_int_equal(w->sensors[0].energy_uj, 0);
}

/* What is exported and stored is a counter: a dip of one microjoule would be read as a reset. */
static void dynamic_energy_never_shrinks(void **state)
{
        struct window *w = *state;
        int64_t last_uj = 0;

        for (int i = 0; i < 5000; i++) {
                double jitter = (double)(i * 7919 % 1009) / 1009e4;
                struct power_reading *r;
                const struct sensor *s;

                r = power("platform", "energy1", i == 0 ? 400 : 100.1); /* mostly at its lowest */
                r->energy_uj *= 1 + jitter;
                r->covered_ns = (uint64_t)((double)SECOND * (1 + jitter));
                fold(w);
                s = &w->sensors[0];
                assert_true(s->energy_uj - s->idle_uj >= last_uj);
                last_uj = s->energy_uj - s->idle_uj;
        }
}

static void the_first_source_of_a_component_is_split(void **state)
{
        struct window *w = *state;
        struct power_reading *estimate;

        for (int round = 0; round < 2; round++) {
                use(1, false, 100);
                (void)power("package", "0", 10 + 30 * round);
                estimate = power("package", "0", 99);
                (void)snprintf(estimate->source, sizeof(estimate->source), "estimate");
                estimate->provenance = PROVENANCE_ESTIMATED;
                fold(w);
        }
        assert_int_equal(w->n_sensors, 2);
        assert_float_equal(w->split[SPLIT_PACKAGE].dynamic_uj, 30e6, 1);
}

static void what_returns_goes_on_from_its_total(void **state)
{
        const struct window_lookup known = { .cgroup = find_cgroup,
                                             .restore_entity = restore_c7,
                                             .restore_sensor = restore_power };
        struct window *w = *state;

        use(7, false, 5);
        use(8, false, 5);
        (void)power("package", "0", 20);
        fold_with(w, &known);
        assert_int_equal(window_find(w, "c7")->total[FEATURE_CPU_TIME], 7005);
        assert_int_equal(window_find(w, "c7")->delta[FEATURE_CPU_TIME], 5);
        assert_int_equal(window_find(w, "c8")->total[FEATURE_CPU_TIME], 5);
        assert_float_equal(w->sensors[0].energy_uj, 120e6, 1);
        assert_float_equal(w->sensors[0].idle_uj, 48e6, 1); /* 8 W were the lowest */
}

static void entities_long_without_activity_are_forgotten(void **state)
{
        struct window *w = *state;

        use(1, false, 10);
        use(0, false, 10);
        fold(w);
        window_stored(w);
        for (uint64_t s = 0; s < ENTITY_FORGET_NS / SECOND; s++) {
                use(2, false, 10);
                fold(w);
                window_stored(w);
        }
        assert_non_null(window_find(w, "c1"));
        fold(w);
        assert_non_null(window_find(w, "c1")); /* not before it was stored */
        window_stored(w);
        assert_null(window_find(w, "c1"));
        assert_non_null(window_find(w, "c2"));
        assert_non_null(window_find(w, ENTITY_SYSTEM));
}

static void too_many_containers_count_as_system(void **state)
{
        const uint64_t none[FEATURE_N] = { 0 };
        struct window *w = *state;

        for (int i = 0; i < WINDOW_ENTITIES_MAX; i++) {
                char key[32];

                (void)snprintf(key, sizeof(key), "x%d", i);
                assert_int_equal(window_restore_entity(w, ENTITY_CONTAINER, key, "", none), 0);
        }
        assert_int_equal(window_restore_entity(w, ENTITY_CONTAINER, "one more", "", none), -ENOSPC);
        use(1, false, 10);
        use(0, true, 5);
        fold(w);
        assert_int_equal(window_find(w, ENTITY_SYSTEM)->total[FEATURE_CPU_TIME], 10);
        assert_int_equal(window_find(w, ENTITY_KERNEL)->total[FEATURE_CPU_TIME], 5);
        assert_int_equal(w->overflowed, 1);
        assert_int_equal(w->total[FEATURE_CPU_TIME], 15);
}

static void an_interval_that_was_not_stored_goes_into_the_next(void **state)
{
        struct window *w = *state;
        int64_t begin = wall_ms;

        fold(w); /* not stored */
        assert_int_equal(w->end_ms, begin + 1000);
        fold(w);
        assert_int_equal(w->start_ms, begin);
        assert_int_equal(w->end_ms, begin + 2000);
        assert_int_equal(w->pending_ns, 2 * SECOND);
        assert_int_equal(w->last_ns, SECOND);
        window_stored(w);
        fold(w);
        assert_int_equal(w->start_ms, begin + 2000);
        assert_int_equal(w->pending_ns, SECOND);
}

static void stamps_always_grow(void **state)
{
        static const struct {
                int64_t base, wall;
                uint64_t ns;
                int64_t start, end;
        } cases[] = {
                { 10000, 13000, 3 * SECOND, 10000, 13000 },
                { 10000, 13020, 3 * SECOND, 10000, 13020 },       /* read a bit late */
                { 10000, 12990, 3 * SECOND, 10000, 12990 },       /* slewed */
                { 10000, 5000, 3 * SECOND, 10000, 13000 },        /* set back */
                { 10000, 12000, 3 * SECOND, 10000, 13000 },       /* set back by less than the interval */
                { 10000, 3613000, 3 * SECOND, 3610000, 3613000 }, /* set forward, or slept: a gap */
                { 10000, 10000, 400000, 10000, 10001 },           /* shorter than the stamps can tell */
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                int64_t start, end;

                window_stamp(cases[i].base, cases[i].wall, cases[i].ns, &start, &end);
                assert_int_equal(start, cases[i].start);
                assert_int_equal(end, cases[i].end);
        }
}

static void recording_never_begins_before_what_is_recorded(void **state)
{
        struct window *w = *state;

        w->base_ms = 5000;
        window_start(w, 3000);
        assert_int_equal(w->base_ms, 5000);
        window_start(w, 8000);
        assert_int_equal(w->base_ms, 8000);
}

/* A counter that is read 0.2 s after the features: what it counted in between is of the next interval. */
static void a_counter_is_taken_back_to_the_stamp_of_the_features(void **state)
{
        struct window *w = *state;
        const struct sample sample = { .duration_ns = SECOND,
                                       .stamp_ns = 100 * SECOND,
                                       .usage = &usage,
                                       .measured = all_but_counters,
                                       .readings = readings,
                                       .n_readings = 1 };
        struct sample next = sample;
        struct power_reading *r = power("package", "0", 10);

        r->stamp_ns = 100 * SECOND + SECOND / 5;
        window_fold(w, &sample, &lookup);
        assert_int_equal(w->sensors[0].raw_uj, 10000000);
        assert_int_equal(w->sensors[0].energy_uj, 8000000);
        window_stored(w);

        next.stamp_ns += SECOND;
        r->stamp_ns = next.stamp_ns; /* 0.8 s after its last: 8 J are still 10 W */
        r->energy_uj = 8e6;
        window_fold(w, &next, &lookup);
        assert_int_equal(w->sensors[0].raw_uj, 18000000);
        assert_int_equal(w->sensors[0].energy_uj, 18000000);
        assert_float_equal(w->sensors[0].watts, 10, 1e-9);
        assert_float_equal(w->sensors[0].interval_uj, 10e6, 1);
}

static const struct vm *find_vm(void *context, uint64_t id)
{
        static const struct vm vm = { "uuid", "web", "kvm" };

        (void)context;
        return id == (USAGE_VM | 7) ? &vm : NULL;
}

/* Its time is in its container's row, too. */
static void a_virtual_machine_is_a_part_of_the_node_not_beside_it(void **state)
{
        const struct window_lookup l = { .cgroup = find_cgroup, .vm = find_vm };
        struct window *w = *state;
        const struct entity *vm = NULL;

        use(1, false, 100);
        use(USAGE_VM | 7, false, 60);
        use(USAGE_VM | 8, false, 5); /* not known any more */
        power("package", "0", 10);
        fold_with(w, &l);
        for (size_t i = 0; i < w->n; i++)
                if (w->entities[i]->kind == ENTITY_VM)
                        vm = w->entities[i];
        assert_non_null(vm);
        assert_string_equal(vm->key, "uuid");
        assert_string_equal(vm->name, "web");
        assert_string_equal(vm->hypervisor, "kvm");
        assert_int_equal(vm->total[FEATURE_CPU_TIME], 60);
        assert_int_equal(w->total[FEATURE_CPU_TIME], 100);
        assert_null(window_find(w, "uuid")); /* it is no container, whatever its key */
}

static void time_at_a_frequency_adds_up_over_samples_and_restarts(void **state)
{
        const struct frequency_band bands[] = { { 800000000, 5 }, { 2400000000, 7 } };
        struct window *w = *state;
        const struct sample sample = { .duration_ns = SECOND,
                                       .usage = &usage,
                                       .measured = all_but_counters,
                                       .frequency = { .bands = bands, .n_bands = 2 } };

        assert_int_equal(window_restore_band(w, 2400000000, 100), 0);
        window_fold(w, &sample, &lookup);
        window_fold(w, &sample, &lookup);
        assert_int_equal(w->n_bands, 2);
        assert_int_equal(w->bands[0].time_ns, 114);
        assert_int_equal(w->bands[1].time_ns, 10);
        window_reset(w);
        assert_int_equal(w->n_bands, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(containers_and_the_rest_add_up_to_the_node),
                TEST(attributed_and_unattributed_power_equal_the_node),
                TEST(dynamic_power_follows_cpu_time),
                TEST(idle_power_is_the_lowest_seen),
                TEST(a_gap_is_no_zero),
                TEST(nonsense_from_a_sensor_is_a_gap),
                TEST(dynamic_energy_never_shrinks),
                TEST(the_first_source_of_a_component_is_split),
                TEST(what_returns_goes_on_from_its_total),
                TEST(entities_long_without_activity_are_forgotten),
                TEST(too_many_containers_count_as_system),
                TEST(an_interval_that_was_not_stored_goes_into_the_next),
                TEST(stamps_always_grow),
                TEST(a_virtual_machine_is_a_part_of_the_node_not_beside_it),
                TEST(time_at_a_frequency_adds_up_over_samples_and_restarts),
                TEST(recording_never_begins_before_what_is_recorded),
                TEST(a_counter_is_taken_back_to_the_stamp_of_the_features),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
