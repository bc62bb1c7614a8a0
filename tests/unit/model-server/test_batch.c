/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/gzip.h"
#include "model-server/ingest/batch.h"
#include "model-server/ingest/lines.h"

#define HEAD                                                                                                 \
        "{\"metric\":{\"__name__\":\"kepler_container_bpf_cpu_time_ms_total\",\"node_id\":\"n\",\"epoch\":"  \
        "\"e\"},"

static int parse(const char *text, struct batch_line *line)
{
        struct err e;

        return batch_parse_line(text, strlen(text), 3, line, &e);
}

static void series_is_read_and_nulls_are_left_out(void **state)
{
        struct batch_line line;

        (void)state;
        assert_int_equal(parse(HEAD "\"values\":[1,null,2.5],\"timestamps\":[10,20,30]}", &line), 0);
        assert_int_equal(line.class.kind, SERIES_FEATURE);
        assert_int_equal(line.class.what, FEATURE_CPU_TIME);
        assert_int_equal(line.n, 2);
        assert_int_equal(line.nulls, 1);
        assert_int_equal(line.samples[1].ts_ms, 30);
        assert_true(line.samples[1].value == 2.5);
        assert_string_equal(line.labels, "{\"__name__\":\"kepler_container_bpf_cpu_time_ms_total\","
                                         "\"epoch\":\"e\",\"node_id\":\"n\"}");
        batch_line_done(&line);
}

static void bad_lines_are_refused(void **state)
{
        static const struct {
                const char *text;
                int r;
        } bad[] = {
                { "", -EBADMSG },
                { "nonsense", -EBADMSG },
                { "[]", -EBADMSG },
                { "{}", -EBADMSG },
                { HEAD "\"values\":[1],\"timestamps\":[]}", -EBADMSG },
                { HEAD "\"values\":[\"1\"],\"timestamps\":[1]}", -EBADMSG },
                { HEAD "\"values\":[NaN],\"timestamps\":[1]}", -EBADMSG },
                { HEAD "\"values\":[1e999],\"timestamps\":[1]}", -EBADMSG },
                { HEAD "\"values\":[1],\"timestamps\":[1.5]}", -EBADMSG },
                { HEAD "\"values\":[1],\"timestamps\":[-1]}", -EBADMSG },
                { HEAD "\"values\":[1],\"timestamps\":[1700000000000000]}", -EBADMSG },
                { HEAD "\"values\":[1,2,3,4],\"timestamps\":[1,2,3,4]}", -E2BIG },
                { HEAD "\"values\":[1],\"timestamps\":[1]} trailing", -EBADMSG },
                { "{\"metric\":{\"node_id\":\"n\"},\"values\":[],\"timestamps\":[]}", -EBADMSG },
                { "{\"metric\":{\"__name__\":\"a b\"},\"values\":[],\"timestamps\":[]}", -EBADMSG },
                { "{\"metric\":{\"__name__\":\"a\",\"l\":7},\"values\":[],\"timestamps\":[]}", -EBADMSG },
                { "{\"metric\":{\"__name__\":\"a\",\"__name__\":\"b\"},\"values\":[],\"timestamps\":[]}",
                  -EBADMSG },
        };
        struct batch_line line;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (parse(bad[i].text, &line) != bad[i].r)
                        fail_msg("taken or refused otherwise: %s", bad[i].text);
}

static void labels_have_limits(void **state)
{
        struct batch_line line;
        struct buf text;

        (void)state;
        buf_init(&text, 1 << 20);
        buf_puts(&text, "{\"metric\":{\"__name__\":\"a\"");
        for (int i = 0; i < BATCH_LABELS_MAX; i++)
                buf_printf(&text, ",\"l%d\":\"\"", i);
        buf_puts(&text, "},\"values\":[],\"timestamps\":[]}");
        assert_int_equal(parse(text.data, &line), -E2BIG);
        buf_clear(&text);
        buf_puts(&text, "{\"metric\":{\"__name__\":\"a\",\"l\":\"");
        for (int i = 0; i <= BATCH_LABEL_VALUE_MAX; i++)
                buf_puts(&text, "x");
        buf_puts(&text, "\"},\"values\":[],\"timestamps\":[]}");
        assert_int_equal(parse(text.data, &line), -E2BIG);
        buf_done(&text);
}

static void series_without_node_or_epoch_is_ignored(void **state)
{
        struct batch_line line;

        (void)state;
        assert_int_equal(parse("{\"metric\":{\"__name__\":\"kepler_container_bpf_cpu_time_ms_total\",\"node_"
                               "id\":\"n\"},"
                               "\"values\":[1],\"timestamps\":[1]}",
                               &line),
                         0);
        assert_int_equal(line.class.kind, SERIES_IGNORED);
        batch_line_done(&line);
}

static const struct lines_limits limits = { 1000, 5 };

static int count_line(const char *line, size_t size, size_t number, void *arg, struct err *e)
{
        (void)e;
        assert_int_equal(strlen(line), size);
        *(size_t *)arg = number;
        return strcmp(line, "stop") == 0 ? -ECANCELED : 0;
}

static void lines_are_read_one_by_one(void **state)
{
        size_t last = 0;
        struct err e;

        (void)state;
        assert_int_equal(lines_read("a\n\nb", 4, false, &limits, count_line, &last, &e), 0);
        assert_int_equal(last, 3);
        assert_int_equal(lines_read("a\nstop\nb", 8, false, &limits, count_line, &last, &e), -ECANCELED);
        assert_int_equal(last, 2);
        assert_int_equal(lines_read("", 0, false, &limits, count_line, &last, &e), 0);
        assert_int_equal(lines_read("1\n2\n3\n4\n5\n6\n", 12, false, &limits, count_line, &last, &e), -EFBIG);
}

static void damaged_gzip_is_refused(void **state)
{
        struct buf zip;
        size_t last;
        struct err e;

        (void)state;
        buf_init(&zip, 1 << 20);
        assert_int_equal(gzip_pack("hello\nworld\n", 12, 6, &zip, NULL), 0);
        assert_int_equal(lines_read(zip.data, zip.size, true, &limits, count_line, &last, &e), 0);
        for (size_t n = 0; n < zip.size; n++)
                assert_int_equal(lines_read(zip.data, n, true, &limits, count_line, &last, &e), -EBADMSG);
        zip.data[zip.size - 6] ^= 1; /* its checksum */
        assert_int_equal(lines_read(zip.data, zip.size, true, &limits, count_line, &last, &e), -EBADMSG);
        zip.data[zip.size - 6] ^= 1;
        buf_puts(&zip, "more");
        assert_int_equal(lines_read(zip.data, zip.size, true, &limits, count_line, &last, &e), -EBADMSG);
        buf_done(&zip);
}

static void bomb_ends_at_the_limit(void **state)
{
        char *zeros = calloc(1, 100000);
        struct buf zip;
        size_t last;
        struct err e;

        (void)state;
        buf_init(&zip, 1 << 20);
        assert_int_equal(gzip_pack(zeros, 100000, 9, &zip, NULL), 0);
        assert_int_equal(lines_read(zip.data, zip.size, true, &limits, count_line, &last, &e), -EFBIG);
        buf_done(&zip);
        free(zeros);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(series_is_read_and_nulls_are_left_out),
                cmocka_unit_test(bad_lines_are_refused),
                cmocka_unit_test(labels_have_limits),
                cmocka_unit_test(series_without_node_or_epoch_is_ignored),
                cmocka_unit_test(lines_are_read_one_by_one),
                cmocka_unit_test(damaged_gzip_is_refused),
                cmocka_unit_test(bomb_ends_at_the_limit),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
