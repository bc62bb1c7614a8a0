/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model-server/ingest/fold.h"

#define ROWS_MAX   16
#define SERIES_MAX 16

struct fixture {
        struct fold_input in;
        struct fold_series series[SERIES_MAX];
        struct row rows[ROWS_MAX];
        size_t n;
        uint64_t counts[FOLD_VERDICTS];
};

/* text: "time:value …" in milliseconds. */
static void add(struct fixture *f, const char *name, const char *source, const char *text)
{
        struct fold_series *s = &f->series[f->in.n++];
        char *end;

        assert_true(f->in.n <= SERIES_MAX);
        f->in.series = f->series;
        *s = (struct fold_series){ .class = series_classify(name, source) };
        (void)snprintf(s->source, sizeof(s->source), "%s", source);
        s->samples = calloc(ROWS_MAX, sizeof(*s->samples));
        while (*text) {
                s->samples[s->n].ts_ms = strtoll(text, &end, 10);
                s->samples[s->n++].value = strtod(end + 1, &end);
                text = end + strspn(end, " ");
        }
}

static int keep(const struct row *row, void *arg, struct err *e)
{
        struct fixture *f = arg;

        (void)e;
        assert_true(f->n < ROWS_MAX);
        f->rows[f->n++] = *row;
        return 0;
}

static void run(struct fixture *f)
{
        assert_int_equal(fold(&f->in, 0, keep, f, f->counts, NULL), 0);
        for (size_t i = 0; i < f->in.n; i++)
                free(f->series[i].samples);
}

#define CPU      "kepler_container_bpf_cpu_time_ms_total"
#define PACKAGE  "kepler_node_package_joules_total"
#define DRAM     "kepler_node_dram_joules_total"
#define MEASURED "wattloop_node_measured_seconds_total"

static void expect(double got, double want)
{
        assert_true(fabs(got - want) < 1e-9);
}

static void rates_and_watts_are_sums_over_containers_packages_and_modes(void **state)
{
        struct fixture f = { 0 };

        (void)state;
        add(&f, MEASURED, "", "0:0 2000:2 4000:4");
        add(&f, CPU, "bpf", "0:0 2000:100 4000:400");
        add(&f, CPU, "bpf", "0:50 2000:150 4000:150");
        add(&f, PACKAGE, "rapl-sysfs", "0:0 2000:10 4000:30");
        add(&f, PACKAGE, "rapl-sysfs", "0:5 2000:7 4000:9");
        add(&f, DRAM, "rapl-sysfs", "0:0 2000:4 4000:5");
        run(&f);
        assert_int_equal(f.n, 2);
        expect(f.rows[0].features[FEATURE_CPU_TIME], 100);
        expect(f.rows[0].watts[COMPONENT_PACKAGE], 6);
        expect(f.rows[0].watts[COMPONENT_DRAM], 2);
        expect(f.rows[1].features[FEATURE_CPU_TIME], 150);
        expect(f.rows[1].watts[COMPONENT_PACKAGE], 11);
        assert_int_equal(f.rows[1].has_feature, 1u << FEATURE_CPU_TIME);
        assert_int_equal(f.rows[1].has_watts, 1u << COMPONENT_PACKAGE | 1u << COMPONENT_DRAM);
        assert_int_equal(f.rows[1].start_ms, 2000);
        assert_int_equal(f.rows[1].provenance, PROVENANCE_MEASURED);
}

static void gap_gives_no_row(void **state)
{
        struct fixture f = { 0 };

        (void)state;
        /* 0-2 measured, nothing until 10, then measured again from 10 to 12. */
        add(&f, MEASURED, "", "0:0 2000:2 10000:2 12000:4");
        add(&f, CPU, "bpf", "0:0 2000:100 10000:100 12000:200");
        add(&f, PACKAGE, "rapl-sysfs", "0:0 2000:10 10000:10 12000:20");
        run(&f);
        assert_int_equal(f.n, 2);
        assert_int_equal(f.rows[1].start_ms, 10000);
        assert_int_equal(f.counts[FOLD_GAP], 1);
}

static void nearly_measured_throughout_counts_per_measured_second(void **state)
{
        struct fixture f = { 0 };

        (void)state;
        add(&f, MEASURED, "", "0:0 10000:9.6 20000:19.0");
        add(&f, CPU, "bpf", "0:0 10000:96 20000:200");
        add(&f, PACKAGE, "rapl-sysfs", "0:0 10000:192 20000:300");
        run(&f);
        assert_int_equal(f.n, 1);
        expect(f.rows[0].features[FEATURE_CPU_TIME], 10);
        expect(f.rows[0].watts[COMPONENT_PACKAGE], 20);
        assert_int_equal(f.counts[FOLD_GAP], 1); /* 9.4 of 10 s */
}

static void clock_set_back_gives_no_row(void **state)
{
        struct fixture f = { 0 };

        (void)state;
        add(&f, MEASURED, "", "0:0 1000:3");
        add(&f, CPU, "bpf", "0:0 1000:96");
        add(&f, PACKAGE, "rapl-sysfs", "0:0 1000:192");
        run(&f);
        assert_int_equal(f.n, 0);
}

static void reset_gives_no_row(void **state)
{
        struct fixture f = { 0 };

        (void)state;
        add(&f, MEASURED, "", "0:0 2000:2 4000:4 6000:6");
        add(&f, CPU, "bpf", "0:500 2000:600 4000:10 6000:20");
        add(&f, PACKAGE, "rapl-sysfs", "0:0 2000:10 4000:20 6000:5");
        run(&f);
        assert_int_equal(f.n, 1);
        assert_int_equal(f.counts[FOLD_RESET], 2);
}

static void container_comes_with_its_zero_and_its_total_stays_when_it_went(void **state)
{
        struct fixture f = { 0 };

        (void)state;
        add(&f, MEASURED, "", "0:0 1000:1 2000:2 3000:3");
        add(&f, CPU, "bpf", "0:0 1000:10 2000:20 3000:30");
        add(&f, CPU, "bpf", "1000:0 2000:500");
        add(&f, PACKAGE, "rapl-sysfs", "0:0 1000:1 2000:2 3000:3");
        run(&f);
        assert_int_equal(f.n, 3);
        expect(f.rows[0].features[FEATURE_CPU_TIME], 10);
        expect(f.rows[1].features[FEATURE_CPU_TIME], 510);
        expect(f.rows[2].features[FEATURE_CPU_TIME], 10);
}

static void container_out_of_nowhere_gives_no_row(void **state)
{
        struct fixture f = { 0 };

        (void)state;
        add(&f, MEASURED, "", "0:0 1000:1 2000:2");
        add(&f, CPU, "bpf", "0:0 1000:10 2000:20");
        add(&f, CPU, "bpf", "1000:7000 2000:7100");
        add(&f, PACKAGE, "rapl-sysfs", "0:0 1000:1 2000:2");
        run(&f);
        assert_int_equal(f.n, 1);
        assert_int_equal(f.counts[FOLD_INCOMPLETE], 1);
        expect(f.rows[0].features[FEATURE_CPU_TIME], 110);
}

static void component_with_a_missing_socket_is_left_out(void **state)
{
        struct fixture f = { 0 };

        (void)state;
        add(&f, MEASURED, "", "0:0 1000:1 2000:2");
        add(&f, CPU, "bpf", "0:0 1000:10 2000:20");
        add(&f, PACKAGE, "rapl-sysfs", "0:0 1000:1 2000:2");
        add(&f, PACKAGE, "rapl-sysfs", "0:0 1000:1");
        add(&f, DRAM, "rapl-sysfs", "0:0 1000:1 2000:2");
        run(&f);
        assert_int_equal(f.n, 2);
        assert_int_equal(f.rows[1].has_watts, 1u << COMPONENT_DRAM);
}

static void sources_are_kept_apart(void **state)
{
        struct fixture f = { 0 };

        (void)state;
        add(&f, MEASURED, "", "0:0 1000:1");
        add(&f, CPU, "bpf", "0:0 1000:10");
        add(&f, PACKAGE, "simulated", "0:0 1000:70");
        add(&f, PACKAGE, "rapl-sysfs", "0:0 1000:40");
        add(&f, PACKAGE, "rapl-msr", "0:0 1000:41");
        run(&f);
        assert_int_equal(f.n, 2);
        assert_int_equal(f.rows[0].provenance, PROVENANCE_MEASURED);
        expect(f.rows[0].watts[COMPONENT_PACKAGE], 40);
        assert_int_equal(f.rows[1].provenance, PROVENANCE_SIMULATED);
        expect(f.rows[1].watts[COMPONENT_PACKAGE], 70);
}

static void estimates_are_nothing_to_learn_from(void **state)
{
        (void)state;
        assert_int_equal(series_classify(PACKAGE, "estimate").kind, SERIES_IGNORED);
        assert_int_equal(series_classify(PACKAGE, "trained_power_model").kind, SERIES_IGNORED);
        assert_int_equal(series_classify(PACKAGE, "unheard_of").kind, SERIES_IGNORED);
        assert_int_equal(series_classify(PACKAGE, "").kind, SERIES_IGNORED);
        assert_int_equal(series_classify(PACKAGE, "virtual").provenance, PROVENANCE_VIRTUAL);
}

static void feature_without_news_is_absent_not_zero(void **state)
{
        struct fixture f = { 0 };

        (void)state;
        add(&f, MEASURED, "", "0:0 1000:1 2000:2");
        add(&f, CPU, "bpf", "0:0 1000:10 2000:20");
        add(&f, "kepler_container_cpu_cycles_total", "bpf", "0:0 1000:99");
        add(&f, PACKAGE, "rapl-sysfs", "0:0 1000:1 2000:2");
        run(&f);
        assert_int_equal(f.n, 2);
        assert_true(f.rows[0].has_feature & 1u << FEATURE_CPU_CYCLES);
        assert_false(f.rows[1].has_feature & 1u << FEATURE_CPU_CYCLES);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(rates_and_watts_are_sums_over_containers_packages_and_modes),
                cmocka_unit_test(gap_gives_no_row),
                cmocka_unit_test(nearly_measured_throughout_counts_per_measured_second),
                cmocka_unit_test(clock_set_back_gives_no_row),
                cmocka_unit_test(reset_gives_no_row),
                cmocka_unit_test(container_comes_with_its_zero_and_its_total_stays_when_it_went),
                cmocka_unit_test(container_out_of_nowhere_gives_no_row),
                cmocka_unit_test(component_with_a_missing_socket_is_left_out),
                cmocka_unit_test(sources_are_kept_apart),
                cmocka_unit_test(estimates_are_nothing_to_learn_from),
                cmocka_unit_test(feature_without_news_is_absent_not_zero),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
