/* SPDX-License-Identifier: Apache-2.0 */
#include "common/hash.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void sha256_of_known_texts(void **state)
{
        char hex[HASH_HEX_SIZE];

        (void)state;
        hash_sha256_hex("", 0, hex); /* FIPS 180-2 */
        assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        hash_sha256_hex("abc", 3, hex);
        assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void content_id_is_the_documented_text(void **state)
{
        static const char expected_text[] = "1 a3 xyz2 bb0 ";
        const struct hash_entry entries[] = { { "bb", "", 0 }, { "a", "xyz", 3 } };
        char hex[HASH_HEX_SIZE], expected[HASH_HEX_SIZE];

        (void)state;
        assert_int_equal(hash_entries_hex(entries, 2, hex), 0);
        hash_sha256_hex(expected_text, strlen(expected_text), expected);
        assert_string_equal(hex, expected);
}

static void content_id_ignores_the_order_of_entries(void **state)
{
        const struct hash_entry one[] = { { "b", "2", 1 }, { "a", "1", 1 }, { "c/d", "3", 1 } };
        const struct hash_entry two[] = { { "c/d", "3", 1 }, { "b", "2", 1 }, { "a", "1", 1 } };
        const struct hash_entry other[] = { { "c/d", "3", 1 }, { "b", "1", 1 }, { "a", "2", 1 } };
        char x[HASH_HEX_SIZE], y[HASH_HEX_SIZE], z[HASH_HEX_SIZE];

        (void)state;
        assert_int_equal(hash_entries_hex(one, 3, x), 0);
        assert_int_equal(hash_entries_hex(two, 3, y), 0);
        assert_int_equal(hash_entries_hex(other, 3, z), 0);
        assert_string_equal(x, y);
        assert_string_not_equal(x, z);
}

static void borders_between_entries_count(void **state)
{
        const struct hash_entry one[] = { { "a", "bc", 2 } }, two[] = { { "ab", "c", 1 } };
        const struct hash_entry three[] = { { "a", "b", 1 }, { "c", "", 0 } };
        char x[HASH_HEX_SIZE], y[HASH_HEX_SIZE], z[HASH_HEX_SIZE];

        (void)state;
        assert_int_equal(hash_entries_hex(one, 1, x), 0);
        assert_int_equal(hash_entries_hex(two, 1, y), 0);
        assert_int_equal(hash_entries_hex(three, 2, z), 0);
        assert_string_not_equal(x, y);
        assert_string_not_equal(x, z);
}

static void twins_and_crowds_are_refused(void **state)
{
        static struct hash_entry many[HASH_ENTRIES_MAX + 1];
        static char names[HASH_ENTRIES_MAX + 1][8];
        const struct hash_entry twins[] = { { "a", "1", 1 }, { "a", "2", 1 } };
        char hex[HASH_HEX_SIZE];

        (void)state;
        assert_int_equal(hash_entries_hex(twins, 2, hex), -EEXIST);
        for (size_t i = 0; i < HASH_ENTRIES_MAX + 1; i++) {
                snprintf(names[i], sizeof(names[i]), "%zu", i);
                many[i] = (struct hash_entry){ names[i], "", 0 };
        }
        assert_int_equal(hash_entries_hex(many, HASH_ENTRIES_MAX, hex), 0);
        assert_int_equal(hash_entries_hex(many, HASH_ENTRIES_MAX + 1, hex), -E2BIG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(sha256_of_known_texts),
                cmocka_unit_test(content_id_is_the_documented_text),
                cmocka_unit_test(content_id_ignores_the_order_of_entries),
                cmocka_unit_test(borders_between_entries_count),
                cmocka_unit_test(twins_and_crowds_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
