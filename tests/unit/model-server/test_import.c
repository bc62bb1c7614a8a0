/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <cmocka.h>

#include "common/file.h"
#include "model-server/ingest/import.h"

#define BASE_MS INT64_C(1700000000000)

struct fixture {
        char dir[64], path[80];
        struct store *store;
        struct import_settings settings;
        struct import_counts counts;
        struct err e;
};

static void reopen(struct fixture *f)
{
        store_close(f->store);
        f->store = NULL;
        assert_int_equal(store_open(f->path, &f->store, &f->e), 0);
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        (void)snprintf(f->dir, sizeof(f->dir), "/tmp/wattloop-test-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        (void)snprintf(f->path, sizeof(f->path), "%s/server.db", f->dir);
        f->settings = (struct import_settings){ { 1 << 26, 100000 }, 100000, 1u << PROVENANCE_MEASURED };
        reopen(f);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        store_close(f->store);
        assert_int_equal(file_remove_tree(f->dir, NULL), 0);
        free(f);
        return 0;
}

static double cpu_rate(int i)
{
        return 500 + 400 * sin(i * 0.7);
}

static double cache_rate(int i)
{
        return 2 + sin(i * 1.3);
}

/* Power of interval i; linear in the two. */
static double watts(int i)
{
        return 20 + 0.03 * cpu_rate(i) + 1.5 * cache_rate(i);
}

static void write_series(struct buf *out, const char *name, const char *labels, int first, int last,
                         double (*rate)(int))
{
        double total = 0;

        buf_printf(out,
                   "{\"metric\":{\"__name__\":\"%s\",\"node_id\":\"n1\",\"instance\":\"one\",\"epoch\":"
                   "\"e1\"%s},"
                   "\"values\":[",
                   name, labels);
        for (int i = 0; i <= last; i++) {
                if (i >= first)
                        buf_printf(out, "%s%.9g", i > first ? "," : "", rate ? total : 1);
                total += rate ? rate(i) : 0;
        }
        buf_puts(out, "],\"timestamps\":[");
        for (int i = first; i <= last; i++)
                buf_printf(out, "%s%lld", i > first ? "," : "", (long long)(BASE_MS + i * 1000));
        buf_puts(out, "]}\n");
}

static double one(int i)
{
        (void)i;
        return 1;
}

/* A batch with the samples first … last, one a second, without wattloop_node when asked. */
static void make_batch(struct buf *out, int first, int last, const char *source, bool node)
{
        char labels[64];

        buf_init(out, 1 << 24);
        write_series(out, "kepler_container_bpf_cpu_time_ms_total", ",\"container_id\":\"c\"", first, last,
                     cpu_rate);
        write_series(out, "kepler_container_bpf_page_cache_hit_total", ",\"container_id\":\"c\"", first, last,
                     cache_rate);
        (void)snprintf(labels, sizeof(labels), ",\"package\":\"0\",\"source\":\"%s\"", source);
        write_series(out, "kepler_node_package_joules_total", labels, first, last, watts);
        write_series(out, "wattloop_node_measured_seconds_total", "", first, last, one);
        if (node)
                write_series(out, "wattloop_node",
                             ",\"cores\":\"8\",\"processor\":\"acme\",\"definition\":\"exact\"", first, last,
                             NULL);
        write_series(out, "kepler_node_info", "", first, first, NULL);
        assert_int_equal(out->failed, 0);
}

static int import_text(struct fixture *f, const char *text, size_t size)
{
        struct upload upload = { .data = text, .size = size, .name = "test" }, *one_upload = &upload;

        import_uploads(f->store, &f->settings, &one_upload, 1, 1);
        f->counts = upload.counts;
        f->e = upload.e;
        return upload.result;
}

static void import_range(struct fixture *f, int first, int last, const char *source)
{
        struct buf batch;

        make_batch(&batch, first, last, source, true);
        assert_int_equal(import_text(f, batch.data, batch.size), 0);
        buf_done(&batch);
}

static uint64_t stored_rows(struct fixture *f, enum provenance p)
{
        uint64_t rows[PROVENANCE_N];

        assert_int_equal(store_count_rows(f->store, rows, NULL), 0);
        return rows[p];
}

/* Of accepted provenance. */
static uint64_t learnable_rows(struct fixture *f)
{
        uint64_t sum = 0;

        for (int p = 0; p < PROVENANCE_N; p++)
                sum += f->settings.accepted & 1u << p ? stored_rows(f, (enum provenance)p) : 0;
        return sum;
}

static void batch_becomes_rows(void **state)
{
        struct fixture *f = *state;

        import_range(f, 0, 50, "rapl-sysfs");
        assert_int_equal(f->counts.samples, 51 * 5 + 1);
        assert_int_equal(f->counts.added, 51 * 5);
        assert_int_equal(f->counts.ignored, 1);
        assert_int_equal(f->counts.rows, 50);
        assert_int_equal(learnable_rows(f), 50);
}

static void same_batch_twice_adds_nothing(void **state)
{
        struct fixture *f = *state;

        import_range(f, 0, 50, "rapl-sysfs");
        import_range(f, 0, 50, "rapl-sysfs");
        assert_int_equal(f->counts.added, 0);
        assert_int_equal(f->counts.duplicate, 51 * 5);
        assert_int_equal(f->counts.rows, 0);
        assert_int_equal(learnable_rows(f), 50);
}

static void restart_continues_where_it_was(void **state)
{
        struct fixture *f = *state;

        import_range(f, 0, 50, "rapl-sysfs");
        reopen(f);
        import_range(f, 51, 60, "rapl-sysfs");
        assert_int_equal(f->counts.rows, 10); /* the interval from 50 to 51 included */
        assert_int_equal(learnable_rows(f), 60);
}

static void late_batch_fills_its_place_once(void **state)
{
        struct fixture *f = *state;

        import_range(f, 0, 20, "rapl-sysfs");
        import_range(f, 41, 60, "rapl-sysfs");
        /* 20 … 41 was one long interval: all of it was measured, so it is one row. */
        assert_int_equal(stored_rows(f, PROVENANCE_MEASURED), 20 + 1 + 19);
        import_range(f, 21, 40, "rapl-sysfs");
        assert_int_equal(f->counts.added, 20 * 5);
        assert_int_equal(f->counts.rows, 0); /* its energy was in a row already */
        assert_int_equal(learnable_rows(f), 40);
}

static void batches_in_reverse_give_all_rows(void **state)
{
        struct fixture *f = *state;

        import_range(f, 21, 40, "rapl-sysfs");
        assert_int_equal(f->counts.rows, 19);
        import_range(f, 0, 20, "rapl-sysfs");
        assert_int_equal(f->counts.rows, 21); /* with the seam from 20 to 21 */
        assert_int_equal(learnable_rows(f), 40);
}

static void nothing_is_folded_before_the_machine_is_known(void **state)
{
        struct fixture *f = *state;
        struct buf batch;

        make_batch(&batch, 0, 20, "rapl-sysfs", false);
        assert_int_equal(import_text(f, batch.data, batch.size), 0);
        buf_done(&batch);
        assert_int_equal(f->counts.rows, 0);
        import_range(f, 21, 30, "rapl-sysfs");
        assert_int_equal(f->counts.rows, 30);
}

static void simulated_power_is_kept_but_not_accepted(void **state)
{
        struct fixture *f = *state;

        import_range(f, 0, 50, "simulated");
        assert_int_equal(f->counts.rows, 50);
        assert_int_equal(f->counts.accepted, 0);
        assert_int_equal(learnable_rows(f), 0);
        assert_int_equal(stored_rows(f, PROVENANCE_SIMULATED), 50);
}

static void bad_line_stores_nothing_of_its_batch(void **state)
{
        struct fixture *f = *state;
        struct buf batch;

        import_range(f, 0, 20, "rapl-sysfs");
        make_batch(&batch, 21, 40, "rapl-sysfs", true);
        buf_puts(&batch, "{\"metric\":{}}\n");
        assert_int_equal(import_text(f, batch.data, batch.size), -EBADMSG);
        assert_non_null(strstr(f->e.text, "line 7"));
        assert_int_equal(learnable_rows(f), 20);
        buf_done(&batch);
        import_range(f, 21, 40, "rapl-sysfs");
        assert_int_equal(f->counts.added, 20 * 5);
        assert_int_equal(learnable_rows(f), 40);
}

static void a_bad_upload_does_not_take_others_with_it(void **state)
{
        struct fixture *f = *state;
        struct upload uploads[3] = { { .name = "a" }, { .name = "b" }, { .name = "c" } };
        struct upload *all[3] = { &uploads[0], &uploads[1], &uploads[2] };
        struct buf batches[3];

        for (int i = 0; i < 3; i++) {
                make_batch(&batches[i], 20 * i, 20 * i + 19, "rapl-sysfs", true);
                if (i == 1)
                        buf_puts(&batches[i], "{\"metric\":{}}\n");
                uploads[i].data = batches[i].data;
                uploads[i].size = batches[i].size;
        }
        import_uploads(f->store, &f->settings, all, 3, 1);
        assert_int_equal(uploads[0].result, 0);
        assert_int_equal(uploads[0].counts.rows, 19);
        assert_int_equal(uploads[1].result, -EBADMSG);
        assert_non_null(strstr(uploads[1].e.text, "line 7"));
        assert_int_equal(uploads[2].result, 0);
        assert_int_equal(uploads[2].counts.added, 20 * 5);
        assert_int_equal(learnable_rows(f), 19 + 1 + 19);
        for (int i = 0; i < 3; i++)
                buf_done(&batches[i]);
}

static int list_batch(const struct stored_batch *b, void *arg, struct err *e)
{
        struct buf *out = arg;

        (void)e;
        return buf_printf(out, "%lld:%s:%llu:%llu ", (long long)b->batch_id, b->name,
                          (unsigned long long)b->samples, (unsigned long long)b->rows);
}

static int check_row(const struct stored_row *row, void *arg, struct err *e)
{
        (void)e;
        assert_string_equal(row->node_id, "n1");
        assert_int_equal(row->batch_id, ++*(int *)arg <= 19 ? 1 : 2);
        return 0;
}

static void rows_know_the_upload_that_completed_them(void **state)
{
        CLEANUP(buf_done) struct buf list = { 0 };
        struct fixture *f = *state;
        int n = 0;

        import_range(f, 0, 19, "rapl-sysfs");
        import_range(f, 10, 29, "rapl-sysfs");
        import_range(f, 0, 29, "rapl-sysfs"); /* brings nothing, leaves nothing */
        buf_init(&list, 1000);
        assert_int_equal(store_each_batch(f->store, list_batch, &list, NULL), 0);
        assert_string_equal(list.data, "1:test:100:19 2:test:50:10 ");
        assert_int_equal(store_each_row(f->store, 0, check_row, &n, NULL), 0);
        assert_int_equal(n, 29);
        n = 28;
        assert_int_equal(store_each_row(f->store, 28, check_row, &n, NULL), 0);
        assert_int_equal(n, 29);
}

static void full_disk_stores_nothing_and_heals(void **state)
{
        struct fixture *f = *state;
        struct rlimit old, small;
        int r;

        import_range(f, 0, 20, "rapl-sysfs");
        (void)signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        small = (struct rlimit){ 256 << 10, old.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        {
                struct buf batch;

                make_batch(&batch, 21, 8000, "rapl-sysfs", true);
                r = import_text(f, batch.data, batch.size);
                assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
                if (r != -ENOSPC)
                        fail_msg("%d: %s", r, f->e.text);
                buf_done(&batch);
        }
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(learnable_rows(f), 20);
        import_range(f, 21, 8000, "rapl-sysfs");
        assert_int_equal(learnable_rows(f), 8000);
}

static double leap(int i)
{
        return i == 30 ? 1e308 : i == 31 ? 7e307 : cpu_rate(i);
}

static void totals_beyond_belief_leave_no_rows(void **state)
{
        struct fixture *f = *state;
        struct buf batch;

        make_batch(&batch, 0, 50, "rapl-sysfs", true);
        write_series(&batch, "kepler_container_bpf_cpu_time_ms_total", ",\"container_id\":\"mad\"", 0, 50,
                     leap);
        write_series(&batch, "kepler_node_dram_joules_total", ",\"package\":\"0\",\"source\":\"rapl-sysfs\"",
                     0, 50, leap);
        assert_int_equal(import_text(f, batch.data, batch.size), 0);
        buf_done(&batch);
        assert_int_equal(f->counts.rows, 48);
        reopen(f);
        assert_int_equal(learnable_rows(f), 48);
}

static void newer_database_is_refused(void **state)
{
        struct fixture *f = *state;
        char command[256];
        struct store *store;

        store_close(f->store);
        f->store = NULL;
        (void)snprintf(command, sizeof(command), "sqlite3 %s 'PRAGMA user_version = 99'", f->path);
        if (system(command) != 0)
                skip();
        assert_int_equal(store_open(f->path, &store, &f->e), -EPROTO);
        assert_non_null(strstr(f->e.text, "newer"));
}

static void second_server_is_refused(void **state)
{
        struct fixture *f = *state;
        struct store *store;

        assert_int_equal(store_open(f->path, &store, &f->e), -EWOULDBLOCK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(batch_becomes_rows),
                TEST(same_batch_twice_adds_nothing),
                TEST(restart_continues_where_it_was),
                TEST(late_batch_fills_its_place_once),
                TEST(batches_in_reverse_give_all_rows),
                TEST(nothing_is_folded_before_the_machine_is_known),
                TEST(simulated_power_is_kept_but_not_accepted),
                TEST(bad_line_stores_nothing_of_its_batch),
                TEST(a_bad_upload_does_not_take_others_with_it),
                TEST(rows_know_the_upload_that_completed_them),
                TEST(full_disk_stores_nothing_and_heals),
                TEST(totals_beyond_belief_leave_no_rows),
                TEST(newer_database_is_refused),
                TEST(second_server_is_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
