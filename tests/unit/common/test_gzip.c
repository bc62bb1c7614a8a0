/* SPDX-License-Identifier: Apache-2.0 */
#include "common/gzip.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define PLAIN_SIZE 300000 /* several chunks */

static char plain[PLAIN_SIZE];

static int make_plain(void **state)
{
        uint32_t v = 1;

        (void)state;
        for (size_t i = 0; i < PLAIN_SIZE; i++) {
                v = v * 1664525 + 1013904223;
                plain[i] = (char)('a' + (v >> 28));
        }
        return 0;
}

static void pack(struct buf *out)
{
        struct err e = { 0 };

        buf_init(out, 1 << 20);
        assert_int_equal(gzip_pack(plain, sizeof(plain), 6, out, &e), 0);
}

static void unpacks_what_it_packed(void **state)
{
        CLEANUP(buf_done) struct buf packed, back;
        struct err e = { 0 };

        (void)state;
        pack(&packed);
        buf_init(&back, PLAIN_SIZE); /* exactly enough */
        assert_int_equal(gzip_unpack(packed.data, packed.size, &back, &e), 0);
        assert_int_equal(back.size, PLAIN_SIZE);
        assert_memory_equal(back.data, plain, PLAIN_SIZE);
}

static void packs_nothing_too(void **state)
{
        CLEANUP(buf_done) struct buf packed, back;

        (void)state;
        buf_init(&packed, 100);
        buf_init(&back, 0);
        assert_int_equal(gzip_pack("", 0, 9, &packed, NULL), 0);
        assert_int_equal(gzip_unpack(packed.data, packed.size, &back, NULL), 0);
        assert_int_equal(back.size, 0);
}

static void output_is_the_same_every_time_and_has_no_time(void **state)
{
        CLEANUP(buf_done) struct buf first, second;

        (void)state;
        pack(&first);
        pack(&second);
        assert_int_equal(first.size, second.size);
        assert_memory_equal(first.data, second.data, first.size);
        assert_memory_equal(first.data, "\x1f\x8b\x08\x00\x00\x00\x00\x00", 8); /* no flags, time stamp 0 */
}

static void a_bomb_ends_at_the_limit(void **state)
{
        CLEANUP(freep) char *zeros = calloc(1, 32 << 20);
        CLEANUP(buf_done) struct buf bomb, back;
        struct err e = { 0 };

        (void)state;
        assert_non_null(zeros);
        buf_init(&bomb, 1 << 20);
        assert_int_equal(gzip_pack(zeros, 32 << 20, 9, &bomb, &e), 0);
        assert_true(bomb.size < 64 << 10);
        buf_init(&back, 100000);
        assert_int_equal(gzip_unpack(bomb.data, bomb.size, &back, &e), -EFBIG);
        assert_string_equal(e.text, "gzip data unpacks to more than 100000 bytes");
        assert_true(back.cap < 1 << 20);
}

static void every_truncation_is_noticed(void **state)
{
        CLEANUP(buf_done) struct buf packed, back;

        (void)state;
        buf_init(&packed, 1000);
        assert_int_equal(gzip_pack("hello, hello, hello", 19, 6, &packed, NULL), 0);
        for (size_t n = 0; n < packed.size; n++) {
                buf_init(&back, 1000);
                assert_int_equal(gzip_unpack(packed.data, n, &back, NULL), -EBADMSG);
                buf_done(&back);
        }
        buf_init(&back, 1000);
}

static void a_flipped_bit_is_noticed(void **state)
{
        CLEANUP(buf_done) struct buf packed, back;
        struct err e = { 0 };

        (void)state;
        pack(&packed);
        packed.data[packed.size / 2] ^= 1;
        buf_init(&back, PLAIN_SIZE * 2);
        assert_true(gzip_unpack(packed.data, packed.size, &back, &e) < 0);
        buf_clear(&back);
        assert_int_equal(gzip_unpack("plain text", 10, &back, &e), -EBADMSG);
}

static void members_in_a_row_are_one_text(void **state)
{
        CLEANUP(buf_done) struct buf packed, back;

        (void)state;
        buf_init(&packed, 1000);
        buf_init(&back, 6);
        assert_int_equal(gzip_pack("abc", 3, 6, &packed, NULL), 0);
        assert_int_equal(gzip_pack("def", 3, 6, &packed, NULL), 0);
        assert_int_equal(gzip_unpack(packed.data, packed.size, &back, NULL), 0);
        assert_string_equal(back.data, "abcdef");
        assert_int_equal(buf_puts(&packed, "garbage"), 0);
        buf_clear(&back);
        assert_int_equal(gzip_unpack(packed.data, packed.size, &back, NULL), -EBADMSG);
}

static void packing_respects_the_limit(void **state)
{
        CLEANUP(buf_done) struct buf packed;
        struct err e = { 0 };

        (void)state;
        buf_init(&packed, 1000);
        assert_int_equal(gzip_pack(plain, sizeof(plain), 6, &packed, &e), -EFBIG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(unpacks_what_it_packed),
                cmocka_unit_test(packs_nothing_too),
                cmocka_unit_test(output_is_the_same_every_time_and_has_no_time),
                cmocka_unit_test(a_bomb_ends_at_the_limit),
                cmocka_unit_test(every_truncation_is_noticed),
                cmocka_unit_test(a_flipped_bit_is_noticed),
                cmocka_unit_test(members_in_a_row_are_one_text),
                cmocka_unit_test(packing_respects_the_limit),
        };

        return cmocka_run_group_tests(tests, make_plain, NULL);
}
