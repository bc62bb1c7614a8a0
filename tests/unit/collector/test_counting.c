/* SPDX-License-Identifier: Apache-2.0 */
/* Counters per process, with events of the kernel in place of the processor's: how they get from perf to a
 * cgroup's row is the same. Page faults and CPU time of a process are known exactly otherwise. Needs root,
 * BTF and permission for BPF and perf; else skipped. */
#include "features_real.h"

#include <math.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include "collector/counting.h"

#define OPS   (&feature_source_bpf)
#define PAGES 20000

static struct feature_source *open_software(struct feature_notes *notes)
{
        struct feature_source_options options = real_options;
        struct feature_source *s = NULL;
        struct usage_set none = { 0 };
        struct err e = { "" };

        options.counters = COUNTERS_SOFTWARE;
        options.notes = notes;
        if (OPS->open(&options, &s, &e) < 0) {
                print_message("bpf cannot be used here: %s\n", e.text);
                skip();
        }
        assert_int_equal(OPS->read(s, &none, &e), 0);
        if (!OPS->measures(s, FEATURE_CACHE_MISS)) {
                print_message("perf cannot be used here\n");
                OPS->close(s);
                skip();
        }
        usage_set_done(&none);
        return s;
}

static void touch_pages(void)
{
        char *p = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
                _exit(7);
        (void)madvise(p, PAGES * 4096, MADV_NOHUGEPAGE);
        for (size_t i = 0; i < PAGES; i++)
                p[i * 4096] = 1;
        (void)munmap(p, PAGES * 4096);
}

static void *touch_and_switch(void *arg)
{
        touch_pages();
        for (int i = 0; i < 100; i++)
                (void)usleep(100);
        return arg;
}

struct faults {
        uint64_t *self, *cpu_ns;
        bool threads;
};

static void work_faults(void *arg)
{
        const struct faults *f = arg;
        struct rusage before, after;
        struct timespec t;
        pthread_t thread;

        (void)getrusage(RUSAGE_SELF, &before);
        if (!f->threads)
                (void)touch_and_switch(NULL);
        else if (pthread_create(&thread, NULL, touch_and_switch, NULL) != 0 ||
                 pthread_join(thread, NULL) != 0)
                _exit(8);
        (void)getrusage(RUSAGE_SELF, &after);
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        *f->self = (uint64_t)(after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt);
        *f->cpu_ns = (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void check_faults(bool threads)
{
        uint64_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct faults f = { &shared[0], &shared[1], threads };
        struct feature_source *s = open_software(NULL);
        struct usage_set set = { 0 };
        struct feature_source_stats stats;
        uint64_t id, faults = 0, clock_ns = 0, cpu_ns = 0;
        char group[PATH_MAX];
        struct child c;

        if (!cgroup_make(NULL, "faults-", ".scope", group)) {
                OPS->close(s);
                skip();
        }
        id = inode(group);
        c = child_start(group, work_faults, &f);
        source_read(OPS, s, &set); /* what it did to get there */
        child_go(&c);
        child_wait(&c);
        for (int i = 0; i < 3; i++) {
                (void)usleep(150000);
                source_read(OPS, s, &set);
                faults += row_delta(&set, id, false, FEATURE_CACHE_MISS);
                clock_ns += row_delta(&set, id, false, FEATURE_CPU_CYCLES);
                cpu_ns += row_delta(&set, id, false, FEATURE_CPU_TIME);
        }
        print_message("faults %llu, of them counted by itself %llu; cpu-clock %llu, CPU time %llu\n",
                      (unsigned long long)faults, (unsigned long long)*f.self, (unsigned long long)clock_ns,
                      (unsigned long long)cpu_ns);
        assert_in_range(faults, *f.self, *f.self + 300); /* its start and end fault, too */
        assert_true(*f.self >= PAGES);
        assert_near(clock_ns, cpu_ns,
                    50); /* the clock also runs in interrupts and while the host has the CPU */
        OPS->stats(s, &stats);
        assert_string_equal(stats.counters,
                            "cpu_cycles=cpu-clock cpu_instructions=context-switches cache_miss=page-faults");
        assert_true(stats.counters_running > 0.99);
        cgroup_remove(group);
        (void)munmap(shared, 4096);
        usage_set_done(&set);
        OPS->close(s);
}

static void counts_of_a_process_are_its_own_and_stay_when_it_ends(void **state)
{
        (void)state;
        check_faults(false);
}

static void counts_of_a_thread_that_ends_are_its_process(void **state)
{
        (void)state;
        check_faults(true);
}

/* It never gives up its CPU, so no switch charges it. */
static void who_runs_all_the_time_is_charged_at_each_read(void **state)
{
        struct feature_source *s = open_software(NULL);
        struct usage_set set = { 0 };
        char group[PATH_MAX];
        struct child c;
        uint64_t id;

        (void)state;
        if (!cgroup_make(NULL, "spin-", ".scope", group)) {
                OPS->close(s);
                skip();
        }
        id = inode(group);
        c = child_start(group, work_spin, NULL);
        child_go(&c);
        (void)usleep(100000);
        source_read(OPS, s, &set);
        for (int i = 0; i < 3; i++) {
                (void)usleep(300000);
                source_read(OPS, s, &set);
                assert_near(row_delta(&set, id, false, FEATURE_CPU_CYCLES),
                            row_delta(&set, id, false, FEATURE_CPU_TIME),
                            200); /* the two are read a moment apart, and the tick may lag */
        }
        child_end(&c);
        cgroup_remove(group);
        usage_set_done(&set);
        OPS->close(s);
}

static void shared_registers_are_scaled_for(void **state)
{
        struct counting c = { .counters = (struct counters *)&c, .part = 0.25 };
        struct usage_set set = { 0 };
        struct cgroup_usage *row = usage_set_row(&set, 1, false);

        (void)state;
        row->delta[FEATURE_CPU_CYCLES] = 100;
        row->delta[FEATURE_CACHE_MISS] = 3;
        row->delta[FEATURE_CPU_TIME] = 5;
        counting_scale(&c, &set);
        assert_int_equal(row->delta[FEATURE_CPU_CYCLES], 400);
        assert_int_equal(row->delta[FEATURE_CACHE_MISS], 12);
        assert_int_equal(row->delta[FEATURE_CPU_TIME], 5);
        usage_set_done(&set);
}

static void without_counters_there_is_null_and_no_program_at_the_switch(void **state)
{
        struct feature_source_options options = real_options;
        struct feature_notes notes = { .n = 0 };
        struct feature_source_stats stats;
        struct feature_source *s = NULL;
        struct err e = { "" };
        bool told = false;

        (void)state;
        options.counters = COUNTERS_OFF;
        options.notes = &notes;
        if (OPS->open(&options, &s, &e) < 0)
                skip();
        for (enum feature_id i = FEATURE_CPU_CYCLES; i <= FEATURE_CACHE_MISS; i++)
                assert_false(OPS->measures(s, i));
        for (size_t i = 0; i < notes.n; i++)
                told = told || !strcmp(notes.items[i].what, "hardware counters");
        assert_true(told);
        OPS->stats(s, &stats);
        assert_string_equal(stats.counters, "");
        assert_true(isnan(stats.counters_running));
        OPS->close(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(shared_registers_are_scaled_for),
                cmocka_unit_test(without_counters_there_is_null_and_no_program_at_the_switch),
                cmocka_unit_test(counts_of_a_process_are_its_own_and_stay_when_it_ends),
                cmocka_unit_test(counts_of_a_thread_that_ends_are_its_process),
                cmocka_unit_test(who_runs_all_the_time_is_charged_at_each_read),
        };

        return cmocka_run_group_tests_name("counting", tests, NULL, NULL);
}
