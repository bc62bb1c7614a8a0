/* SPDX-License-Identifier: Apache-2.0 */
#include "common/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void words_travel_beside_the_errno(void **state)
{
        struct err e = { 0 };

        (void)state;
        assert_int_equal(err_set(&e, -EINVAL, "bad '%s'", "x"), -EINVAL);
        assert_string_equal(e.text, "bad 'x'");
        assert_int_equal(err_prefix(&e, -EINVAL, "file %d", 7), -EINVAL);
        assert_string_equal(e.text, "file 7: bad 'x'");
        errno = ENOENT;
        assert_int_equal(err_sys(&e, "cannot open '%s'", "y"), -ENOENT);
        assert_string_equal(e.text, "cannot open 'y': No such file or directory");
}

static void nobody_needs_to_listen(void **state)
{
        (void)state;
        errno = EIO;
        assert_int_equal(err_sys(NULL, "x"), -EIO);
        assert_int_equal(err_set(NULL, -1, "x"), -1);
        assert_int_equal(err_prefix(NULL, -1, "x"), -1);
}

static void long_words_are_cut_and_terminated(void **state)
{
        char large[1000];
        struct err e;

        (void)state;
        memset(large, 'x', sizeof(large) - 1);
        large[sizeof(large) - 1] = '\0';
        errno = EIO;
        (void)err_sys(&e, "%s", large);
        assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
        (void)err_prefix(&e, -EIO, "%s", large);
        assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(words_travel_beside_the_errno),
                cmocka_unit_test(nobody_needs_to_listen),
                cmocka_unit_test(long_words_are_cut_and_terminated),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
