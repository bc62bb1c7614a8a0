/* SPDX-License-Identifier: Apache-2.0 */
#include "common/buf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);

static bool no_memory;

void *__wrap_realloc(void *p, size_t size)
{
        return no_memory ? NULL : __real_realloc(p, size);
}

static void appended_bytes_stay_terminated(void **state)
{
        CLEANUP(buf_done) struct buf b;

        (void)state;
        buf_init(&b, 1 << 20);
        for (int i = 0; i < 1000; i++)
                assert_int_equal(buf_printf(&b, "%d,", i), 0);
        assert_int_equal(b.size, strlen(b.data));
        assert_int_equal(b.size, 10 * 2 + 90 * 3 + 900 * 4);
        buf_consume(&b, 4);
        assert_memory_equal(b.data, "2,3,4,", 6);
        assert_int_equal(b.data[b.size], '\0');
}

static void the_limit_is_exact(void **state)
{
        CLEANUP(buf_done) struct buf b;

        (void)state;
        buf_init(&b, 8);
        assert_int_equal(buf_append(&b, "12345678", 8), 0);
        assert_int_equal(buf_append(&b, "", 0), 0);
        assert_int_equal(buf_append(&b, "9", 1), -EFBIG);
        assert_string_equal(b.data, "12345678");
}

static void a_failure_sticks_until_cleared(void **state)
{
        CLEANUP(buf_done) struct buf b;

        (void)state;
        buf_init(&b, 4);
        assert_int_equal(buf_puts(&b, "12345"), -EFBIG);
        assert_int_equal(buf_puts(&b, "1"), -EFBIG);
        assert_int_equal(b.failed, -EFBIG);
        assert_null(buf_reserve(&b, 1));
        buf_clear(&b);
        assert_int_equal(buf_puts(&b, "1"), 0);
        assert_string_equal(b.data, "1");
}

static void lack_of_memory_keeps_what_was_there(void **state)
{
        CLEANUP(buf_done) struct buf b;

        (void)state;
        buf_init(&b, SIZE_MAX);
        assert_int_equal(buf_puts(&b, "kept"), 0);
        no_memory = true;
        assert_null(buf_reserve(&b, 4096));
        no_memory = false;
        assert_int_equal(b.failed, -ENOMEM);
        assert_string_equal(b.data, "kept");
        buf_clear(&b);
        assert_int_equal(buf_append(&b, "x", SIZE_MAX / 2 + 9), -ENOMEM); /* no overflow on the way */
}

static void reserved_room_is_counted_when_it_grew(void **state)
{
        CLEANUP(buf_done) struct buf b;
        char *p;

        (void)state;
        buf_init(&b, 100);
        p = buf_reserve(&b, 100);
        assert_non_null(p);
        memcpy(p, "abc", 3);
        assert_int_equal(b.size, 0);
        buf_grew(&b, 3);
        assert_string_equal(b.data, "abc");
        assert_null(buf_reserve(&b, 98));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(appended_bytes_stay_terminated),
                cmocka_unit_test(the_limit_is_exact),
                cmocka_unit_test(a_failure_sticks_until_cleared),
                cmocka_unit_test(lack_of_memory_keeps_what_was_there),
                cmocka_unit_test(reserved_room_is_counted_when_it_grew),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
