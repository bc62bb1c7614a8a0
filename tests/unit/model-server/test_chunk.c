/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "model-server/ingest/chunk.h"

static size_t packed; /* size of the last chunk that came back whole */

static void assert_comes_back(const struct sample *samples, size_t n)
{
        unsigned char data[CHUNK_BYTES_MAX];
        struct sample back[CHUNK_SAMPLES_MAX];

        packed = chunk_encode(samples, n, data);
        assert_true(packed <= sizeof(data));
        assert_int_equal(chunk_decode(data, packed, back, NULL), n);
        assert_memory_equal(back, samples, n * sizeof(*samples));
}

static void any_value_comes_back_bit_for_bit(void **state)
{
        static const double values[] = { 0,          1,          -1,    0.1,    1e-9,
                                         123456.789, 1.0 / 3,    1e308, 5e-324, 9007199254740993.0,
                                         1e15 + 0.5, 1e6 + 1e-9, -2.5 };
        struct sample samples[CHUNK_SAMPLES_MAX];

        (void)state;
        for (size_t a = 0; a < ARRAY_SIZE(values); a++)
                for (size_t b = 0; b < ARRAY_SIZE(values); b++) {
                        samples[0] = (struct sample){ 0, values[a] };
                        samples[1] = (struct sample){ INT64_C(4102444800000), values[b] };
                        assert_comes_back(samples, 1);
                        assert_comes_back(samples, 2);
                }
        for (size_t i = 0; i < CHUNK_SAMPLES_MAX; i++) {
                uint64_t bits = i * UINT64_C(0x9e3779b97f4a7c15) >> 2;

                samples[i].ts_ms = (int64_t)(i * i * 1000);
                memcpy(&samples[i].value, &bits, sizeof(bits));
        }
        assert_comes_back(samples, CHUNK_SAMPLES_MAX);
}

static void a_counter_on_a_grid_takes_few_bytes(void **state)
{
        struct sample samples[CHUNK_SAMPLES_MAX];

        (void)state;
        for (int i = 0; i < CHUNK_SAMPLES_MAX; i++)
                samples[i] = (struct sample){ 1700000000000 + 3000 * i, 1e6 + (170250 + i % 7) * i / 1000.0 };
        assert_comes_back(samples, CHUNK_SAMPLES_MAX);
        assert_true(packed < CHUNK_SAMPLES_MAX * 5);
}

static void a_damaged_chunk_is_refused(void **state)
{
        struct sample samples[3] = { { 1000, 1 }, { 2000, 2.5 }, { 3000, 1e300 } }, back[CHUNK_SAMPLES_MAX];
        unsigned char data[CHUNK_BYTES_MAX];
        size_t size = chunk_encode(samples, 3, data);

        (void)state;
        for (size_t cut = 0; cut < size; cut++)
                assert_int_equal(chunk_decode(data, cut, back, NULL), -EBADMSG);
        data[size] = 0;
        assert_int_equal(chunk_decode(data, size + 1, back, NULL), -EBADMSG);
        data[2] = CHUNK_SAMPLES_MAX + 1;
        assert_int_equal(chunk_decode(data, size, back, NULL), -EBADMSG);
        data[0]++;
        assert_int_equal(chunk_decode(data, size, back, NULL), -EPROTO);
}

static void what_is_there_stays_when_merged(void **state)
{
        struct sample a[] = { { 1, 10 }, { 3, 30 }, { 5, 50 } },
                      b[] = { { 0, 1 }, { 3, 31 }, { 4, 40 }, { 9, 90 } };
        struct sample ret[7];
        int64_t first_ms;

        (void)state;
        assert_int_equal(chunk_merge(a, 3, b, 4, ret, &first_ms), 3);
        assert_int_equal(first_ms, 0);
        for (int i = 0; i < 6; i++)
                assert_int_equal(ret[i].ts_ms, ((int[]){ 0, 1, 3, 4, 5, 9 })[i]);
        assert_true(ret[2].value == 30);
        assert_int_equal(chunk_merge(a, 3, a, 3, ret, &first_ms), 0);
}

static void samples_are_sorted_and_the_first_of_equals_stays(void **state)
{
        struct sample s[] = { { 5, 1 }, { 3, 2 }, { 5, 3 }, { 1, 4 }, { 3, 5 }, { 2, 6 } }, scratch[6];

        (void)state;
        assert_int_equal(chunk_sort(s, 6, scratch), 4);
        for (int i = 0; i < 4; i++) {
                assert_int_equal(s[i].ts_ms, ((int[]){ 1, 2, 3, 5 })[i]);
                assert_int_equal((int)s[i].value, ((int[]){ 4, 6, 2, 1 })[i]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(any_value_comes_back_bit_for_bit),
                cmocka_unit_test(a_counter_on_a_grid_takes_few_bytes),
                cmocka_unit_test(a_damaged_chunk_is_refused),
                cmocka_unit_test(what_is_there_stays_when_merged),
                cmocka_unit_test(samples_are_sorted_and_the_first_of_equals_stays),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
