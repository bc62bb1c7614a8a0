/* SPDX-License-Identifier: Apache-2.0 */
/* The table of processes: every nanosecond is charged once, whatever the order of things. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "collector/process.h"
#include "common/clock.h"

#define BOOT_NS (1000 * NS_PER_S) /* when the base is read */
#define OLD     (500 * NS_PER_S)  /* started before that */
#define YOUNG   (1001 * NS_PER_S) /* started after that */
#define GROUP   42

/* One pass in which the listed processes are seen with these totals. */
struct seen {
        uint32_t tgid;
        uint64_t start, cpu_ns;
};

static struct process_table table;
static struct usage_set set;
static uint64_t now_ns;

static int setup(void **state)
{
        (void)state;
        process_table_done(&table);
        usage_set_done(&set);
        table.deaths_told = true;
        now_ns = BOOT_NS;
        return 0;
}

static void see(const struct seen *seen)
{
        process_table_begin(&table, now_ns);
        for (; seen->tgid; seen++) {
                bool first;
                struct process *p = process_table_get(&table, seen->tgid, seen->start, &first);

                assert_non_null(p);
                assert_true(first);
                p->now[FEATURE_CPU_TIME] = seen->cpu_ns;
                p->cgroup_id = GROUP;
                p->placed = true;
        }
}

static uint64_t charged(void)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < set.n; i++)
                sum += set.rows[i].delta[FEATURE_CPU_TIME];
        usage_set_clear(&set);
        return sum;
}

static void fold(bool base)
{
        process_table_fold(&table, now_ns, base ? NULL : &set);
        now_ns += NS_PER_S;
}

static void end(uint32_t tgid, uint64_t start, uint64_t cpu_ns)
{
        struct process_end gone = { .tgid = tgid, .start = start, .placed = true, .cgroup_id = GROUP };

        gone.total[FEATURE_CPU_TIME] = cpu_ns;
        process_table_end(&table, &gone, &set);
}

static void the_base_is_not_charged_and_later_growth_is(void **state)
{
        (void)state;
        see((struct seen[]){ { 1, OLD, 1000 }, { 0 } });
        fold(true);
        assert_int_equal(charged(), 0);
        see((struct seen[]){ { 1, OLD, 1700 }, { 0 } });
        fold(false);
        assert_int_equal(charged(), 700);
}

static void processes_have_rows_of_their_own_only_where_that_is_asked_for(void **state)
{
        uint64_t cpu_ns[8] = { 0 };

        (void)state;
        for (int asked = 0; asked <= 1; asked++) {
                setup(NULL);
                set.by_process = asked;
                see((struct seen[]){ { 1, OLD, 1000 }, { 2, OLD, 500 }, { 0 } });
                fold(true);
                see((struct seen[]){ { 1, OLD, 1700 }, { 2, OLD, 500 }, { 3, YOUNG, 40 }, { 0 } });
                fold(false);
                end(1, OLD, 1800); /* with its last moments */
                end(4, YOUNG, 9);  /* never seen alive */
                assert_int_equal(set.n_processes, asked ? 4 : 0);
                for (size_t i = 0; i < set.n_processes; i++)
                        cpu_ns[set.processes[i].tgid] += set.processes[i].delta[FEATURE_CPU_TIME];
                assert_int_equal(charged(), 700 + 40 + 100 + 9);
        }
        assert_int_equal(cpu_ns[1], 800);
        assert_int_equal(cpu_ns[2], 0);
        assert_int_equal(cpu_ns[3], 40);
        assert_int_equal(cpu_ns[4], 9);
}

static void a_process_born_after_the_base_counts_from_zero(void **state)
{
        (void)state;
        see((struct seen[]){ { 0 } });
        fold(true);
        see((struct seen[]){ { 2, YOUNG, 300 }, { 0 } });
        fold(false);
        assert_int_equal(charged(), 300);
}

static void a_reused_pid_is_another_process(void **state)
{
        (void)state;
        see((struct seen[]){ { 1, OLD, 1000 }, { 0 } });
        fold(true);
        see((struct seen[]){ { 1, YOUNG, 50 }, { 0 } });
        end(1, OLD, 1100);
        fold(false);
        assert_int_equal(charged(), 150);
}

static void a_dip_holds_the_mark(void **state)
{
        (void)state;
        see((struct seen[]){ { 1, OLD, 1000 }, { 0 } });
        fold(true);
        see((struct seen[]){ { 1, OLD, 400 }, { 0 } });
        fold(false);
        assert_int_equal(charged(), 0);
        see((struct seen[]){ { 1, OLD, 1010 }, { 0 } });
        fold(false);
        assert_int_equal(charged(), 10);
}

static void a_death_is_charged_once_whenever_its_record_comes(void **state)
{
        (void)state;
        see((struct seen[]){ { 1, OLD, 100 }, { 2, OLD, 100 }, { 3, OLD, 100 }, { 0 } });
        fold(true);
        see((struct seen[]){ { 1, OLD, 150 }, { 3, OLD, 150 }, { 0 } });
        end(1, OLD, 160); /* seen, and told in the same read */
        fold(false);      /* 2 is gone, its record is not there yet; 3 dies after the ring buffer was read */
        assert_int_equal(charged(), 60 + 50);
        see((struct seen[]){ { 0 } });
        end(2, OLD, 120);
        end(3, OLD, 155);
        fold(false);
        assert_int_equal(charged(), 20 + 5);
        assert_int_equal(table.n, 0);
        assert_int_equal(table.dropped, 0);
}

static void a_life_between_two_reads_counts_in_full_and_one_before_the_base_does_not(void **state)
{
        (void)state;
        see((struct seen[]){ { 0 } });
        fold(true);
        see((struct seen[]){ { 0 } });
        end(5, YOUNG, 33);
        end(6, OLD, 4400);
        fold(false);
        assert_int_equal(charged(), 33);
}

static void a_vanished_process_without_a_record_is_given_up_and_counted(void **state)
{
        (void)state;
        see((struct seen[]){ { 1, OLD, 100 }, { 0 } });
        fold(true);
        for (int i = 0; i < 10; i++) {
                see((struct seen[]){ { 0 } });
                fold(false);
        }
        assert_int_equal(table.n, 0);
        assert_int_equal(table.dropped, 1);
        assert_int_equal(charged(), 0);
}

/* 1 and 2 vanish; the sum is 2's and a stranger's, but 1 is taken for part of it. */
static void sums_of_deaths_charge_each_life_once_even_if_taken_for_anothers(void **state)
{
        struct process_pool pool = { .cgroup_id = GROUP, .deaths = 2 };

        (void)state;
        see((struct seen[]){ { 1, OLD, 100 }, { 2, OLD, 200 }, { 0 } });
        fold(true);
        see((struct seen[]){ { 0 } });
        pool.total[FEATURE_CPU_TIME] = 250 + 80; /* 2's whole life, and one that nobody saw */
        process_table_settle(&table, &pool, 1, &set);
        fold(false);
        see((struct seen[]){ { 0 } });
        end(1, OLD, 130); /* its own record after all */
        fold(false);
        assert_int_equal(charged(), 50 + 80 + 30);
}

static void softirqs_that_start_again_with_a_new_leader_are_not_lost(void **state)
{
        const uint64_t totals[] = { 100, 150, 20, 0, 25 }; /* a zero is a look-up that failed */
        uint64_t got = 0;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(totals); i++) {
                struct process *p;
                bool first;

                process_table_begin(&table, now_ns);
                p = process_table_get(&table, 1, OLD, &first);
                p->now[FEATURE_NET_RX_IRQ] = totals[i];
                process_table_lead(p, i < 2 ? 7 : 8);
                table.processes[0].placed = true;
                fold(i == 0);
        }
        for (size_t i = 0; i < set.n; i++)
                got += set.rows[i].delta[FEATURE_NET_RX_IRQ];
        assert_int_equal(got, 50 + 20 + 5);
}

static void pages_are_counted_whole_over_reads(void **state)
{
        uint64_t got = 0;

        (void)state;
        for (uint64_t i = 0; i <= 8; i++) {
                bool first;

                process_table_begin(&table, now_ns);
                process_table_get(&table, 1, OLD, &first)->now[FEATURE_PAGE_CACHE] = i * 1024;
                table.processes[0].placed = true;
                fold(i == 0);
        }
        for (size_t i = 0; i < set.n; i++)
                got += set.rows[i].delta[FEATURE_PAGE_CACHE];
        assert_int_equal(got, 2);
}

/* One process that has written so many KiB, seen every two seconds. */
static uint64_t pages_charged(const uint64_t *kib, size_t n)
{
        uint64_t got = 0;

        for (size_t i = 0; i < n; i++) {
                bool first;

                process_table_begin(&table, now_ns);
                process_table_get(&table, 1, OLD, &first)->now[FEATURE_PAGE_CACHE] = kib[i] << 10;
                table.processes[0].placed = true;
                fold(i == 0);
                now_ns += NS_PER_S;
        }
        for (size_t i = 0; i < set.n; i++)
                got += set.rows[i].delta[FEATURE_PAGE_CACHE];
        usage_set_clear(&set);
        return got;
}

static void a_dip_of_writes_that_passes_holds_the_mark(void **state)
{
        const uint64_t kib[] = { 4000, 4400, 400, 4480, 480, 4560, 4600 };

        (void)state;
        assert_int_equal(pages_charged(kib, ARRAY_SIZE(kib)), 150);
}

static void writes_go_on_counting_after_a_dip_that_stays(void **state)
{
        const uint64_t kib[] = { 4000, 4400, 400, 440, 480, 520, 560 };

        (void)state;
        assert_int_equal(pages_charged(kib, ARRAY_SIZE(kib)), 100 + 40);
}

static void processes_beyond_the_limit_are_counted_as_dropped(void **state)
{
        bool first;

        (void)state;
        process_table_begin(&table, now_ns);
        for (uint32_t i = 1; i <= MAX_PROCESSES; i++)
                assert_non_null(process_table_get(&table, i, OLD, &first));
        assert_null(process_table_get(&table, MAX_PROCESSES + 1, OLD, &first));
        assert_int_equal(table.dropped, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(the_base_is_not_charged_and_later_growth_is, setup),
                cmocka_unit_test_setup(processes_have_rows_of_their_own_only_where_that_is_asked_for, setup),
                cmocka_unit_test_setup(a_process_born_after_the_base_counts_from_zero, setup),
                cmocka_unit_test_setup(a_reused_pid_is_another_process, setup),
                cmocka_unit_test_setup(a_dip_holds_the_mark, setup),
                cmocka_unit_test_setup(a_death_is_charged_once_whenever_its_record_comes, setup),
                cmocka_unit_test_setup(
                        a_life_between_two_reads_counts_in_full_and_one_before_the_base_does_not, setup),
                cmocka_unit_test_setup(a_vanished_process_without_a_record_is_given_up_and_counted, setup),
                cmocka_unit_test_setup(sums_of_deaths_charge_each_life_once_even_if_taken_for_anothers,
                                       setup),
                cmocka_unit_test_setup(softirqs_that_start_again_with_a_new_leader_are_not_lost, setup),
                cmocka_unit_test_setup(pages_are_counted_whole_over_reads, setup),
                cmocka_unit_test_setup(a_dip_of_writes_that_passes_holds_the_mark, setup),
                cmocka_unit_test_setup(writes_go_on_counting_after_a_dip_that_stays, setup),
                cmocka_unit_test_setup_teardown(processes_beyond_the_limit_are_counted_as_dropped, setup,
                                                setup),
        };

        return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
