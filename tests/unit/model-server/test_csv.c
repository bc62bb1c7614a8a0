/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "model-server/csv.h"

static int read_text(const char *text, size_t size, struct csv **ret, struct err *e)
{
        char path[] = "/tmp/wattloop-csv-XXXXXX";
        int fd = mkstemp(path), r;

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, size), (ssize_t)size);
        close(fd);
        r = csv_read(path, ret, e);
        unlink(path);
        return r;
}

static void cells_are_found_by_header(void **state)
{
        static const char *const texts[] = { "a,b,c\n1,2,3\n4,5,6\n", "a,b,c\r\n1,2,3\r\n4,5,6\r\n",
                                             "a,\"b\",c\n1,2,3\n\"4\",5,6" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                CLEANUP(csv_freep) struct csv *c = NULL;
                double v = 0;

                assert_int_equal(read_text(texts[i], strlen(texts[i]), &c, NULL), 0);
                assert_int_equal(csv_rows(c), 2);
                assert_int_equal(csv_columns(c), 3);
                assert_int_equal(csv_find(c, "b"), 1);
                assert_int_equal(csv_find(c, "d"), -1);
                assert_string_equal(csv_cell(c, 1, 0), "4");
                assert_int_equal(csv_number(c, 1, 2, &v, NULL), 0);
                assert_true(v > 5.9 && v < 6.1);
        }
}

static void quoted_cells_may_hold_anything(void **state)
{
        static const char text[] = "name,features\nx,\"['a', \"\"b\"\"]\"\n";
        CLEANUP(csv_freep) struct csv *c = NULL;

        (void)state;
        assert_int_equal(read_text(text, strlen(text), &c, NULL), 0);
        assert_string_equal(csv_cell(c, 0, 1), "['a', \"b\"]");
}

static void what_is_wrong_is_named_with_its_line(void **state)
{
        static const struct {
                const char *text, *words;
        } cases[] = {
                { "a,b\n1,2\n3\n", ":3: 1 cells, but the header has 2" },
                { "a,b\n1,2,3\n", ":2: 3 cells" },
                { "a,b\n\n1,2\n", ":2: 1 cells" },
                { "a,b\n1,\"2\n", ":2: a quote does not end" },
                { "", "is empty" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(csv_freep) struct csv *c = NULL;
                struct err e = { "" };

                assert_int_equal(read_text(cases[i].text, strlen(cases[i].text), &c, &e), -EBADMSG);
                if (!strstr(e.text, cases[i].words))
                        fail_msg("'%s' instead of '%s'", e.text, cases[i].words);
        }
}

static void only_finite_numbers_are_numbers(void **state)
{
        static const char text[] = "a\nnan\ninf\n1e999\n0x\n\"\"\n1 2\n";
        CLEANUP(csv_freep) struct csv *c = NULL;
        struct err e;
        double v;

        (void)state;
        assert_int_equal(read_text(text, strlen(text), &c, NULL), 0);
        for (size_t i = 0; i < csv_rows(c); i++)
                assert_int_equal(csv_number(c, i, 0, &v, &e), -EBADMSG);
        assert_non_null(strstr(e.text, ":7: '1 2' in column 'a'"));
}

static void binary_files_are_refused(void **state)
{
        CLEANUP(csv_freep) struct csv *c = NULL;

        (void)state;
        assert_int_equal(read_text("a\0b\n", 4, &c, NULL), -EBADMSG);
        assert_int_equal(csv_read("/nonexistent/x.csv", &c, NULL), -ENOENT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(cells_are_found_by_header),
                cmocka_unit_test(quoted_cells_may_hold_anything),
                cmocka_unit_test(what_is_wrong_is_named_with_its_line),
                cmocka_unit_test(only_finite_numbers_are_numbers),
                cmocka_unit_test(binary_files_are_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
