/* SPDX-License-Identifier: Apache-2.0 */
#include "model/pickle.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/model/pickles.h"

static struct pickle *read_bytes(const void *bytes, size_t size)
{
        struct pickle *p = NULL;
        struct err e = { 0 };

        if (pickle_read(bytes, size, &p, &e) < 0)
                fail_msg("%s", e.text);
        return p;
}

static void refused(const void *bytes, size_t size, int want, const char *words)
{
        struct pickle *p = NULL;
        struct err e = { 0 };
        int r = pickle_read(bytes, size, &p, &e);

        pickle_free(p);
        if (r != want || !strstr(e.text, words))
                fail_msg("%d '%s' instead of %d '%s'", r, e.text, want, words);
}

static void numbers_read_back(void **state)
{
        static const struct {
                const char *bytes;
                size_t size;
                double want;
        } cases[] = {
#define CASE(literal, want) { literal, sizeof(literal) - 1, want }
                CASE("\x80\x04K\x07.", 7),
                CASE("\x80\x04M\x01\x02.", 513),
                CASE("\x80\x04J\xfe\xff\xff\xff.", -2),
                CASE("\x80\x04\x8a\x00.", 0),
                CASE("\x80\x04\x8a\x01\xff.", -1),
                CASE("\x80\x04\x8a\x03\x00\x00\x01.", 65536),
                CASE("\x80\x04\x8a\x08\xff\xff\xff\xff\xff\xff\xff\xff.", -1),
                CASE("\x80\x04G\x3f\xf8\x00\x00\x00\x00\x00\x00.", 1.5),
                CASE("\x80\x04\x88.", 1),
                CASE("\x80\x02"
                     "cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\0\0\0f8\x89\x88tR"
                     "C\x08\0\0\0\0\0\0\x04\x40tR.",
                     2.5),
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(pickle_freep) struct pickle *p = read_bytes(cases[i].bytes, cases[i].size);
                double v = NAN;

                assert_int_equal(pickle_number(pickle_root(p), &v), 0);
                assert_true(fabs(v - cases[i].want) < 1e-12);
        }
}

static void a_memo_entry_is_the_same_value_when_it_is_filled_later(void **state)
{
        static const char bytes[] = "\x80\x04}\x94(\x8c\x01"
                                    "a]\x94\x8c\x01"
                                    "bh\x01K\x05"
                                    "au.";
        CLEANUP(pickle_freep) struct pickle *p = NULL;
        const struct pickle_node *a, *b;

        (void)state;
        p = read_bytes(bytes, sizeof(bytes) - 1);
        a = pickle_item(pickle_root(p), "a");
        b = pickle_item(pickle_root(p), "b");
        assert_ptr_equal(a, b);
}

static void joblib_arrays_are_found_between_opcodes(void **state)
{
        static const double v[6] = { 1, 2, 3, 4, 5, 6.5 };
        CLEANUP(pickle_freep) struct pickle *p = NULL;
        CLEANUP(buf_done) struct buf b;
        const struct pickle_node *node;
        double d = 0;

        (void)state;
        put_begin(&b);
        put_object(&b, "sklearn.linear_model._ridge", "Ridge");
        put_attr_array(&b, "coef_", v, 3, 2);
        put_attr_array(&b, "none", v, 0, 0);
        put_attr_array(&b, "other", v, 6, 0);
        put_object_end(&b);
        put_byte(&b, '.');
        p = read_bytes(b.data, b.size);
        node = pickle_attr(pickle_root(p), "coef_");
        assert_int_equal(node->array->rank, 2);
        assert_int_equal(node->array->shape[1], 2);
        assert_int_equal(pickle_element(node->array, 3, &d), 0);
        assert_true(fabs(d - 4) < 1e-12);
        assert_int_equal(pickle_element(node->array, 6, &d), -ENOENT);
        assert_int_equal(pickle_attr(pickle_root(p), "none")->array->n, 0);
        assert_int_equal(pickle_element(pickle_attr(pickle_root(p), "other")->array, 5, &d), 0);
        assert_true(fabs(d - 6.5) < 1e-12);
        assert_null(pickle_attr(pickle_root(p), "missing"));
}

static void an_array_of_objects_is_a_pickle_in_the_pickle(void **state)
{
        CLEANUP(pickle_freep) struct pickle *p = NULL;
        CLEANUP(buf_done) struct buf b;
        double d = 0;

        (void)state;
        put_begin(&b);
        put_wrapper(&b, "O8", 2, 0);
        PUT(&b, "\x80\x02"
                "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tc_codecs\nencode\n"
                "(X\x01\0\0\0bX\x06\0\0\0latin1tRtR(K\x01(K\x02tcnumpy\ndtype\n(X\x02\0\0\0O8\x89\x88tR"
                "(K\x03X\x01\0\0\0|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89](K\x07G\x3f\xf8\0\0\0\0\0\0"
                "etb.");
        put_byte(&b, '.');
        p = read_bytes(b.data, b.size);
        assert_int_equal(pickle_element(pickle_root(p)->array, 1, &d), 0);
        assert_true(fabs(d - 1.5) < 1e-12);
}

static void what_could_run_is_refused_by_name(void **state)
{
        static const struct {
                const char *bytes;
                size_t size;
                const char *words;
        } cases[] = {
#define BAD(literal, words) { literal, sizeof(literal) - 1, words }
                BAD("\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.", "'posix.system'"),
                BAD("\x80\x02"
                    "cos\nsystem\n(X\x02\0\0\0idtR.",
                    "'os.system'"),
                BAD("\x80\x04\x8c\x08"
                    "builtins\x8c\x04"
                    "eval\x93.",
                    "'builtins.eval'"),
                BAD("\x80\x04\x8c\x0asubprocess\x8c\x05Popen\x93.", "'subprocess.Popen'"),
                BAD("\x80\x04\x8c\x05numpy\x8c\x06"
                    "dtype \x93.",
                    "'numpy.dtype '"),
                BAD("\x80\x04\x8c\x05numpy\x8c\x06"
                    "dtype\0\x93.",
                    "'numpy.dtype?'"),
                BAD("\x80\x04\x8c\x0csklearn.base\x8c\x05"
                    "clone\x93.",
                    "'sklearn.base.clone'"),
                BAD("\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93)R.", "'ndarray'"),
                BAD("\x80\x04\x8c\x05numpy\x8c\x05"
                    "dtype\x93)\x81.",
                    "'dtype'"),
                BAD("\x80\x04(ios\nsystem\n.", "opcode 0x69"), /* INST */
                BAD("\x80\x04Pabc\n.", "opcode 0x50"),         /* PERSID */
                BAD("\x80\x04K\x01\x82\x01.", "opcode 0x82"),  /* EXT1 */
                BAD("\x80\x04I1\n.", "opcode 0x49"),           /* INT */
                BAD("\x80\x04\x97.", "opcode 0x97"),           /* NEXT_BUFFER */
                BAD("\x80\x09N.", "protocol 9"),
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                refused(cases[i].bytes, cases[i].size, -ENOTSUP, cases[i].words);
}

static void malformed_pickles_are_refused_in_words(void **state)
{
        static const struct {
                const char *bytes;
                size_t size;
                const char *words;
        } cases[] = {
                BAD("", "not a pickle"),
                BAD("PK\x03\x04", "not a pickle"),
                BAD("\x80\x04", "without a stop"),
                BAD("\x80\x04N", "without a stop"),
                BAD("\x80\x04.", "0 values"),
                BAD("\x80\x04NN.", "2 values"),
                BAD("\x80\x04N.N", "1 more bytes"),
                BAD("\x80\x04h\x00.", "never set"),
                BAD("\x80\x04Nq\x05.", "out of order"),
                BAD("\x80\x04r\0\0\0\0.", "not there"),
                BAD("\x80\x04t.", "misses a mark"),
                BAD("\x80\x04]N(\x85.", "not there"), /* a value below the mark */
                BAD("\x80\x04Ne.", "misses a mark"),
                BAD("\x80\x04N(K\x01"
                    "e.",
                    "appends to None"),
                BAD("\x80\x04](K\x01K\x02u.", "appends to a list"),
                BAD("\x80\x04}(K\x01u.", "key without a value"),
                BAD("\x80\x04]Nb.", "gives a state to a list"),
                BAD("\x80\x04NN\x93.", "names a class by None"),
                BAD("\x80\x04N)R.", "reduces None"),
                BAD("\x80\x04N)\x81.", "of None"),
                BAD("\x80\x04X\xff\0\0\0a.", "ends within"),
                BAD("\x80\x04G\0\0.", "ends within"),
                BAD("\x80\x04"
                    "cnumpy",
                    "ends within a name"),
                BAD("\x80\x04\x8c\x05numpy\x8c\x05"
                    "dtype\x93)R.",
                    "without a code"),
                BAD("\x80\x04\x8c\x07_codecs\x8c\x06"
                    "encode\x93\x8c\x02\xc4\x80\x8c\x06latin1\x86R.",
                    "latin1"),
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                refused(cases[i].bytes, cases[i].size, -EBADMSG, cases[i].words);
}

static void bombs_are_refused_by_their_limits(void **state)
{
        CLEANUP(buf_done) struct buf b, n, m, w;

        (void)state;
        put_begin(&b);
        for (int i = 0; i < 1000; i++)
                put_byte(&b, '(');
        refused(b.data, b.size, -E2BIG, "marks");

        put_begin(&n);
        put_byte(&n, 'N');
        for (int i = 0; i < 1000; i++)
                put_byte(&n, 0x85);
        refused(n.data, n.size, -E2BIG, "deep");

        put_begin(&m);
        for (int i = 0; i < PICKLE_STACK_MAX + 1; i++)
                put_byte(&m, 'N');
        refused(m.data, m.size, -E2BIG, "stack");

        put_begin(&w); /* a pickle in a pickle in a pickle */
        put_wrapper(&w, "O8", 1, 0);
        PUT(&w, "\x80\x02");
        put_wrapper(&w, "O8", 1, 0);
        PUT(&w, "\x80\x02N...");
        refused(w.data, w.size, -E2BIG, "pickles in pickles");
}

static void a_value_may_hold_itself(void **state)
{
        static const char bytes[] = "\x80\x04]\x94h\0a.";
        CLEANUP(pickle_freep) struct pickle *p = read_bytes(bytes, sizeof(bytes) - 1);

        (void)state;
        assert_ptr_equal(pickle_root(p)->list.items[0], pickle_root(p));
}

static void a_mark_on_an_empty_stack_makes_an_empty_tuple(void **state)
{
        static const char bytes[] = "\x80\x04(t.";
        CLEANUP(pickle_freep) struct pickle *p = read_bytes(bytes, sizeof(bytes) - 1);

        (void)state;
        assert_int_equal(pickle_root(p)->kind, PICKLE_TUPLE);
        assert_int_equal(pickle_root(p)->list.n, 0);
}

static void arrays_stay_within_their_bytes(void **state)
{
        static const struct {
                int rows, columns;
                int r;
                const char *words;
        } cases[] = {
                { 1000, 0, -EBADMSG, "ends within" },
                { -1, 0, -EBADMSG, "shape" },
                { INT32_MAX, INT32_MAX, -EBADMSG, "ends within" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(buf_done) struct buf b;

                put_begin(&b);
                put_wrapper(&b, "f8", cases[i].rows, cases[i].columns);
                put_padding(&b);
                PUT(&b, "12345678.");
                refused(b.data, b.size, cases[i].r, cases[i].words);
        }
}

static void padding_is_checked(void **state)
{
        CLEANUP(buf_done) struct buf b;
        size_t at;

        (void)state;
        put_begin(&b);
        put_wrapper(&b, "f8", 1, 0);
        at = b.size;
        put_padding(&b);
        PUT(&b, "12345678.");
        b.data[at]++;
        refused(b.data, b.size, -EBADMSG, "padding");
        b.data[at]--;
        b.data[at + 1] = 0;
        refused(b.data, b.size, -EBADMSG, "padding");
}

/* A linear model with everything that joblib writes. */
static void every_truncation_is_refused(void **state)
{
        static const double v[3] = { 1, 2, 3 };
        CLEANUP(buf_done) struct buf b;

        (void)state;
        put_linear(&b, v, 3, 4);
        for (size_t n = 0; n < b.size; n++) {
                CLEANUP(freep) char *part = malloc(n + 1); /* so that a sanitizer sees the end */
                struct pickle *p = NULL;

                memcpy(part, b.data, n);
                assert_true(pickle_read(part, n, &p, NULL) < 0);
                assert_null(p);
        }
}

static void every_flipped_bit_is_survived(void **state)
{
        static const double v[3] = { 1, 2, 3 };
        CLEANUP(buf_done) struct buf b;

        (void)state;
        put_linear(&b, v, 3, 4);
        for (size_t bit = 0; bit < 8 * b.size; bit++) {
                struct pickle *p = NULL;

                b.data[bit / 8] ^= (char)(1 << bit % 8);
                if (pickle_read(b.data, b.size, &p, NULL) == 0)
                        assert_non_null(pickle_describe(pickle_root(p)));
                pickle_free(p);
                b.data[bit / 8] ^= (char)(1 << bit % 8);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(numbers_read_back),
                cmocka_unit_test(a_memo_entry_is_the_same_value_when_it_is_filled_later),
                cmocka_unit_test(joblib_arrays_are_found_between_opcodes),
                cmocka_unit_test(an_array_of_objects_is_a_pickle_in_the_pickle),
                cmocka_unit_test(what_could_run_is_refused_by_name),
                cmocka_unit_test(malformed_pickles_are_refused_in_words),
                cmocka_unit_test(bombs_are_refused_by_their_limits),
                cmocka_unit_test(a_value_may_hold_itself),
                cmocka_unit_test(a_mark_on_an_empty_stack_makes_an_empty_tuple),
                cmocka_unit_test(arrays_stay_within_their_bytes),
                cmocka_unit_test(padding_is_checked),
                cmocka_unit_test(every_truncation_is_refused),
                cmocka_unit_test(every_flipped_bit_is_survived),
        };

        return cmocka_run_group_tests_name("model/pickle", tests, NULL, NULL);
}
