/* SPDX-License-Identifier: Apache-2.0 */
#include "model/xgboost.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/file.h"
#include "model/tokens.h"

/* Two trees: x0 < 0.5 ? (x1 < 2 ? 1 : 2) : 4, missing x0 goes left; and a single leaf of 0.25. */
#define TREE_1                                                                                               \
        "{\"left_children\": [1, 3, -1, -1, -1], \"right_children\": [2, 4, -1, -1, -1], "                   \
        "\"split_indices\": [0, 1, 0, 0, 0], \"split_conditions\": [5E-1, 2E0, 4E0, 1E0, 2E0], "             \
        "\"default_left\": [1, 0, 0, 0, 0], \"split_type\": [0, 0, 0, 0, 0], \"categories\": [], "           \
        "\"base_weights\": [0, 0, 0, 0, 0], \"tree_param\": {\"size_leaf_vector\": \"1\"}}"
#define TREE_2                                                                                               \
        "{\"left_children\": [-1], \"right_children\": [-1], \"split_indices\": [0], "                       \
        "\"split_conditions\": [2.5E-1], \"default_left\": [0]}"
#define DOCUMENT(base, objective, trees, extra)                                                              \
        "{\"learner\": {\"attributes\": {" extra                                                             \
        "}, \"feature_names\": [], \"gradient_booster\": {\"model\": "                                       \
        "{\"gbtree_model_param\": {\"num_parallel_tree\": \"1\"}, \"trees\": [" trees                        \
        "], \"tree_info\": [0, "                                                                             \
        "0]}, \"name\": \"gbtree\"}, \"learner_model_param\": {\"base_score\": \"" base                      \
        "\", \"num_class\": \"0\", \"num_feature\": \"2\", \"num_target\": \"1\"}, \"objective\": "          \
        "{\"name\": \"" objective "\"}}, \"version\": [2, 0, 1]}"
#define GOOD DOCUMENT("1E1", "reg:squarederror", TREE_1 ", " TREE_2, "")

static int add(struct plan **ret, const void *data, size_t size, struct err *e)
{
        CLEANUP(plan_freep) struct plan *plan = NULL;
        int r = plan_new(2, &plan, e);

        if (r < 0)
                return r;
        plan->inputs[1] = 1;
        r = xgboost_add(plan, data, size, e);
        if (r == 0)
                *ret = TAKE(plan);
        return r;
}

static double predict(const struct plan *plan, double x0, double x1)
{
        struct model_component c = { .plan = (struct plan *)(uintptr_t)plan };
        static const size_t index[2] = { 0, 1 };
        double rows[PLAN_ROWS + 3][2], out[PLAN_ROWS + 3];

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                rows[i][0] = x0;
                rows[i][1] = x1;
        }
        plan_eval(&c, index, rows[0], 2, ARRAY_SIZE(rows), out,
                  1); /* both walks: whole blocks and single rows */
        for (size_t i = 1; i < ARRAY_SIZE(rows); i++)
                assert_memory_equal(&out[0], &out[i], sizeof(out[0]));
        return out[0];
}

static double predict_text(const char *json, double x0, double x1)
{
        CLEANUP(plan_freep) struct plan *plan = NULL;
        struct err e = { 0 };

        if (add(&plan, json, strlen(json), &e) < 0)
                fail_msg("%s", e.text);
        return predict(plan, x0, x1);
}

static void is(double a, double want)
{
        if (!(fabs(a - want) < 1e-6))
                fail_msg("%.9g instead of %.9g", a, want);
}

static void trees_are_walked_strictly_and_missing_values_have_their_way(void **state)
{
        (void)state;
        is(predict_text(GOOD, 0, 0), 11.25);
        is(predict_text(GOOD, 0.5, 0), 14.25); /* equal is not less */
        is(predict_text(GOOD, nextafterf(0.5f, 0), 2), 12.25);
        is(predict_text(GOOD, 0.49999999999, 0), 14.25); /* 0.5 as a float32 */
        is(predict_text(GOOD, NAN, 3), 12.25);
        is(predict_text(GOOD, 0, NAN), 12.25);
        is(predict_text(GOOD, INFINITY, 0), 14.25);
        is(predict_text(GOOD, -INFINITY, 0), 11.25);
}

static void sums_are_float32(void **state)
{
        (void)state;
        /* 1e8 + 4 and + 0.25 are lost one by one in float32, as XGBoost loses them */
        is(predict_text(DOCUMENT("1E8", "reg:squarederror", TREE_2 ", " TREE_2, ""), 0, 0), 1e8);
}

static void every_convention_of_base_score_is_read(void **state)
{
        (void)state;
        is(predict_text(DOCUMENT("5E-1", "reg:squarederror", TREE_2, ""), 0, 0), 0.75); /* 1.x */
        is(predict_text(DOCUMENT("3.4366666E2", "reg:squarederror", TREE_2, ""), 0, 0), 343.66666f + 0.25f);
        is(predict_text(DOCUMENT("[3.5E2]", "reg:squarederror", TREE_2, ""), 0, 0), 350.25); /* 3.x */
        is(predict_text(DOCUMENT("0E0", "reg:absoluteerror", TREE_2, ""), 0, 0), 0.25);
        is(predict_text(DOCUMENT("2E0", "count:poisson", TREE_2, ""), 0, 0), 2 * exp(0.25));
        is(predict_text(DOCUMENT("5E-1", "reg:logistic", TREE_2, ""), 0, 0), 1 / (1 + exp(-0.25)));
}

static void trees_after_the_best_iteration_do_not_count(void **state)
{
        (void)state;
        is(predict_text(DOCUMENT("1E1", "reg:squarederror", TREE_1 ", " TREE_2, "\"best_iteration\": \"0\""),
                        0, 0),
           11);
}

#define BOOSTER(name, rest)                                                                                  \
        "{\"learner\": {\"gradient_booster\": {\"name\": \"" name "\", " rest                                \
        "}, \"objective\": {\"name\": \"reg:squarederror\"}}}"

static void what_cannot_be_evaluated_is_refused_in_words(void **state)
{
#define NODE(left, right, feature, type)                                                                     \
        "{\"left_children\": " left ", \"right_children\": " right ", \"split_indices\": " feature           \
        ", \"split_conditions\": [1, 2, 3], \"default_left\": [0, 0, 0], \"split_type\": " type "}"
#define TREE(left, right, feature, type)                                                                     \
        DOCUMENT("1", "reg:squarederror", NODE(left, right, feature, type), "")
        static const struct {
                const char *json;
                int r;
                const char *words;
        } cases[] = {
                { "", -EBADMSG, "malformed" },
                { "[]", -EBADMSG, "not an object" },
                { "{}", -EBADMSG, "no trees" },
                { "binf", -EBADMSG, "malformed" },
                { GOOD "x", -EBADMSG, "malformed" },
                { DOCUMENT("1", "rank:pairwise", TREE_2, ""), -ENOTSUP, "'rank:pairwise'" },
                { DOCUMENT("x", "reg:squarederror", TREE_2, ""), -EBADMSG, "base_score" },
                { DOCUMENT("0", "count:poisson", TREE_2, ""), -EBADMSG, "base_score" },
                { "{\"learner\": {\"gradient_booster\": {\"name\": \"newer\"}}}", -ENOTSUP, "'newer'" },
                { BOOSTER("dart", "\"weight_drop\": [1, 2]"), -EBADMSG, "no trees" },
                { BOOSTER("dart", "\"gbtree\": {\"model\": {\"trees\": []}}, \"weight_drop\": [1]"), -EBADMSG,
                  "1 weights for 0 trees" },
                { BOOSTER("gblinear", "\"model\": {\"weights\": [1, 2]}"), -EBADMSG,
                  "2 weights for 2 columns" },
                { BOOSTER("gblinear", "\"model\": {\"weights\": [1, 2, 1e60]}"), -EBADMSG, "not finite" },
                { TREE("[1, -1, -1]", "[2, -1, -1]", "[0, 0, 0]", "[1, 0, 0]"), -ENOTSUP, "categorical" },
                { TREE("[1, -1, -1]", "[2, -1, -1]", "[2, 0, 0]", "[]"), -EBADMSG, "feature 2 of 2" },
                { TREE("[1, -1, -1]", "[3, -1, -1]", "[0, 0, 0]", "[]"), -EBADMSG, "child is not there" },
                { TREE("[1, 0, -1]", "[2, 2, -1]", "[0, 0, 0]", "[]"), -EBADMSG, "two parents" },
                { TREE("[1, -1, -1]", "[1, -1, -1]", "[0, 0, 0]", "[]"), 0,
                  "" }, /* reached twice, but ends */
                { TREE("[1, -1]", "[2, -1, -1]", "[0, 0, 0]", "[]"), -EBADMSG, "right_children" },
                { TREE("[]", "[]", "[]", "[]"), -EBADMSG, "split_conditions" },
                { TREE("[1, \"x\", -1]", "[2, -1, -1]", "[0, 0, 0]", "[]"), -EBADMSG, "else than numbers" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(plan_freep) struct plan *plan = NULL;
                struct err e = { 0 };
                int r = add(&plan, cases[i].json, strlen(cases[i].json), &e);

                if (r != cases[i].r || !strstr(e.text, cases[i].words))
                        fail_msg("case %zu: %d '%s'", i, r, e.text);
        }
}

static void deep_values_are_refused(void **state)
{
        char deep[4096] = "{\"a\": ";
        struct plan *plan = NULL;
        struct err e = { 0 };

        (void)state;
        memset(deep + 6, '[', 2000);
        assert_int_equal(add(&plan, deep, strlen(deep), &e), -E2BIG);
}

/* ---- UBJSON ---- */

static void put_length(struct buf *b, size_t n)
{
        unsigned char bytes[5] = { 'l' };

        for (int i = 0; i < 4; i++)
                bytes[1 + i] = (unsigned char)(n >> 8 * (3 - i));
        (void)buf_append(b, bytes, sizeof(bytes));
}

/* The same document in UBJSON, numbers as float32, which is what XGBoost has. */
static void transcode(const char *json, size_t size, struct buf *out)
{
        static const char *const plain[] = { "{", "}", "[", "]", "", "S", "d", "T", "F", "Z", "" };
        struct tokens t;
        struct err e = { 0 };

        buf_init(out, (size_t)64 << 20);
        tokens_init(&t, json, size);
        for (;;) {
                int token = tokens_next(&t, &e);
                uint32_t bits;
                float f;

                if (token < 0)
                        fail_msg("%s", e.text);
                if (token == TOKEN_END)
                        return;
                (void)buf_puts(out, plain[token]);
                if (token == TOKEN_KEY || token == TOKEN_TEXT) {
                        put_length(out, strlen(t.text));
                        (void)buf_puts(out, t.text);
                }
                if (token == TOKEN_NUMBER) {
                        f = (float)t.number;
                        memcpy(&bits, &f, sizeof(bits));
                        bits = __builtin_bswap32(bits);
                        (void)buf_append(out, &bits, sizeof(bits));
                }
        }
}

static void ubjson_says_the_same(void **state)
{
        CLEANUP(plan_freep) struct plan *plan = NULL;
        CLEANUP(buf_done) struct buf b;
        struct err e = { 0 };

        (void)state;
        transcode(GOOD, strlen(GOOD), &b);
        if (add(&plan, b.data, b.size, &e) < 0)
                fail_msg("%s", e.text);
        is(predict(plan, 0, 0), 11.25);
        is(predict(plan, 1, 0), 14.25);
        is(predict(plan, NAN, 3), 12.25);
}

/* A published model, when it is beside the repository. */
static void a_published_file_says_the_same_in_ubjson(void **state)
{
        CLEANUP(plan_freep) struct plan *json = NULL, *ubjson = NULL;
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        CLEANUP(buf_done) struct buf zip, b;
        const struct model_entry *file;
        struct err e = { 0 };

        (void)state;
        buf_init(&zip, MODEL_ARCHIVE_MAX);
        buf_init(&b, 0);
        if (file_read("../shared/golden/archives/models/v0.7/specpower/acpi/AbsPower/BPFOnly/"
                      "XgboostFitTrainer_172.zip",
                      &zip, &e) < 0)
                skip();
        assert_int_equal(model_archive_unpack(zip.data, zip.size, &a, &e), 0);
        file = model_archive_find(a, "platform.json");
        assert_non_null(file);
        transcode(file->data, file->size, &b);
        if (add(&json, file->data, file->size, &e) < 0 || add(&ubjson, b.data, b.size, &e) < 0)
                fail_msg("%s", e.text);
        assert_string_equal(json->note, ubjson->note);
        for (int i = 0; i < 200; i++) {
                double x = i / 150.0, is_json = predict(json, x, 0), is_ubjson = predict(ubjson, x, 0);

                assert_memory_equal(&is_json, &is_ubjson, sizeof(is_json));
        }
}

static void typed_and_counted_containers_are_read(void **state)
{
        static const struct {
                const char *bytes;
                size_t size;
                double sum;
        } cases[] = {
#define CASE(literal, sum) { literal, sizeof(literal) - 1, sum }
                CASE("{i\1a[$l#i\3\0\0\0\1\0\0\0\2\377\377\377\377}", 2),
                CASE("{i\1a[$U#i\2\1\377}", 256),
                CASE("{i\1a[$d#L\0\0\0\0\0\0\0\2\77\300\0\0\100\0\0\0}", 3.5),
                CASE("{i\1a[$D#U\1\77\370\0\0\0\0\0\0}", 1.5),
                CASE("{i\1a[#i\2i\1I\1\0}", 257),
                CASE("{#i\1i\1a[Ni\1NNi\2N]", 3),
                CASE("{$i#i\2i\1a\5i\1b\6", 11),
                CASE("{i\1a[$d#i\0}", 0),
                CASE("{i\1aL\377\377\377\377\377\377\377\376}", -2),
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct err e = { 0 };
                struct tokens t;
                double sum = 0;
                int token;

                tokens_init(&t, cases[i].bytes, cases[i].size);
                while ((token = tokens_next(&t, &e)) != TOKEN_END) {
                        if (token < 0)
                                fail_msg("case %zu: %s", i, e.text);
                        sum += token == TOKEN_NUMBER ? t.number : 0;
                }
                is(sum, cases[i].sum);
        }
}

static void ubjson_bombs_are_refused(void **state)
{
        static const struct {
                const char *bytes;
                size_t size;
        } cases[] = {
#define BYTES(literal) { literal, sizeof(literal) - 1 }
                BYTES("{i\1a[$Z#l\177\377\377\377}"),
                BYTES("{i\1a[$d#l\177\377\377\377}"),
                BYTES("{i\1a[$[#l\0\0\0\1"),
                BYTES("{i\1aSl\177\377\377\377x}"),
                BYTES("{i\377a"),
                BYTES("{i\1a[$d]}"),
                BYTES("{i\1a[#i\377]}"),
                BYTES("{i\1aH"),
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct tokens t;
                int token;

                tokens_init(&t, cases[i].bytes, cases[i].size);
                while ((token = tokens_next(&t, NULL)) >= 0 && token != TOKEN_END)
                        ;
                assert_int_equal(token, -EBADMSG);
        }
}

/* Truncated at each byte, and with each bit flipped. */
static void damage(const char *data, size_t size)
{
        CLEANUP(freep) char *copy = malloc(size);

        assert_non_null(copy);
        for (size_t n = 0; n < size; n++) {
                CLEANUP(freep) char *part = malloc(n + 1);
                struct plan *plan = NULL;

                memcpy(part, data, n);
                assert_true(add(&plan, part, n, NULL) < 0);
        }
        memcpy(copy, data, size);
        for (size_t bit = 0; bit < 8 * size; bit++) {
                struct plan *plan = NULL;

                copy[bit / 8] ^= (char)(1 << bit % 8);
                if (add(&plan, copy, size, NULL) == 0)
                        (void)predict(plan, 0, 0);
                plan_free(plan);
                copy[bit / 8] ^= (char)(1 << bit % 8);
        }
}

static void damaged_files_are_survived(void **state)
{
        CLEANUP(buf_done) struct buf b;

        (void)state;
        damage(GOOD, strlen(GOOD));
        transcode(GOOD, strlen(GOOD), &b);
        damage(b.data, b.size);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(trees_are_walked_strictly_and_missing_values_have_their_way),
                cmocka_unit_test(sums_are_float32),
                cmocka_unit_test(every_convention_of_base_score_is_read),
                cmocka_unit_test(trees_after_the_best_iteration_do_not_count),
                cmocka_unit_test(what_cannot_be_evaluated_is_refused_in_words),
                cmocka_unit_test(deep_values_are_refused),
                cmocka_unit_test(ubjson_says_the_same),
                cmocka_unit_test(a_published_file_says_the_same_in_ubjson),
                cmocka_unit_test(typed_and_counted_containers_are_read),
                cmocka_unit_test(ubjson_bombs_are_refused),
                cmocka_unit_test(damaged_files_are_survived),
        };

        return cmocka_run_group_tests_name("model/xgboost", tests, NULL, NULL);
}
