/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "model/model.h"

/* Features a, b; derived 2 = a / b, 3 = a - b. Trees: x < 0.5 ? 1 : 4 over column 2, base score 10. */
#define TREE                                                                                                 \
        "{\"learner\": {\"attributes\": {}, \"gradient_booster\": {\"model\": {\"gbtree_model_param\": "     \
        "{\"num_parallel_tree\": \"1\"}, \"trees\": [{\"left_children\": [1, -1, -1], \"right_children\": "  \
        "[2, -1, -1], \"split_indices\": [0, 0, 0], \"split_conditions\": [5E-1, 1E0, 4E0], "                \
        "\"default_left\": [0, 0, 0]}], \"tree_info\": [0]}, \"name\": \"gbtree\"}, "                        \
        "\"learner_model_param\":"                                                                           \
        " {\"base_score\": \"1E1\", \"num_class\": \"0\", \"num_feature\": \"1\", \"num_target\": \"1\"}, "  \
        "\"objective\": {\"name\": \"reg:squarederror\"}}, \"version\": [1, 7, 4]}"
#define DERIVED "\"derived\": [[\"ratio\", 0, 1], [\"difference\", 0, 1]]"
#define CLIP    "\"clip\": [[0, 8], [0, 4], [0, 2], [-4, 8]]"
#define INSIDE                                                                                               \
        "\"inside\": [{\"weight\": 1, \"bias\": 0, \"x\": [], \"sqrt\": [], \"columns\": [2], \"trees\": "   \
        "[\"t.json\", \"t.json\"]}, {\"weight\": 3, \"bias\": 1, \"x\": [[0, 2], [3, 1]], \"sqrt\": [[1, "   \
        "5]], \"columns\": [], \"trees\": []}]"
#define OUTSIDE                                                                                              \
        "\"outside\": [{\"weight\": 2, \"bias\": 7, \"x\": [], \"sqrt\": [], \"columns\": [], \"trees\": "   \
        "[]}]"
#define HEAD(version)     "\"format\": \"wattloop-blend\", \"version\": " version
#define BLEND(head, rest) "{" head ", " rest "}"
#define REST(derived, clip, guards, inside, outside)                                                         \
        derived ", " clip ", \"output\": [0, 30], \"guards\": " guards ", " inside ", " outside
#define GOOD BLEND(HEAD("1"), REST(DERIVED, CLIP, "[[2, 0, 10]]", INSIDE, OUTSIDE))

static struct model_archive *archive(const char *blend)
{
        struct model_archive *a = calloc(1, sizeof(*a));
        const struct {
                const char *name, *text;
        } files[] = {
                { "metadata.json",
                  "{\"model_name\": \"BlendTrainer_0\", \"model_class\": \"wattloop-blend\", "
                  "\"model_file\": \"BlendTrainer_0.json\", \"features\": [\"a\", \"b\"], "
                  "\"fe_files\": [], \"output_type\": \"AbsPower\"}" },
                { "BlendTrainer_0.json", "{\"package\": {\"model_file\": \"package.json\", \"features\": "
                                         "[\"a\", \"b\"], \"fe_files\": []}}" },
                { "package.json", blend },
                { "t.json", TREE },
        };

        assert_non_null(a);
        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                (void)snprintf(a->entries[i].name, sizeof(a->entries[i].name), "%s", files[i].name);
                a->entries[i].data = strdup(files[i].text);
                a->entries[i].size = strlen(files[i].text);
                a->n++;
        }
        return a;
}

static int load(const char *blend, struct model **ret, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *a = archive(blend);

        return model_load_archive(a, ret, e);
}

static void answers_are_those_worked_out_by_hand(void **state)
{
        static const struct {
                double a, b, watts;
        } cases[] = {
                /* ratio 2: tree 14; 1 + 4 + 1 + 5*1 = 11; (14 + 33) / 4 */
                { 2, 1, 11.75 },
                /* ratio 0: tree 11; 1 + 0 - 4 + 10 = 7 */
                { 0, 4, (11 + 3 * 7) / 4.0 },
                /* clipped: a 8 of 9, b 4; ratio 2.25 to 2: 14; 1 + 16 + 5 + 10 = 32, clipped to 30 */
                { 9, 4, (14 + 3 * 30) / 4.0 },
                /* ratio 25, which the guard has never seen */
                { 25, 1, 7 },
                /* nothing to divide by: ratio 0 */
                { 1, 0, (11 + 3 * (1 + 2 + 1)) / 4.0 },
                /* missing: the least that was seen */
                { NAN, 4, (11 + 3 * (1 + 0 - 4 + 10)) / 4.0 },
        };
        CLEANUP(model_freep) struct model *m = NULL;
        double rows[40][2], out[40];
        const size_t index[] = { 0, 1 };
        struct err e = { "" };

        (void)state;
        if (load(GOOD, &m, &e) < 0)
                fail_msg("%s", e.text);
        assert_string_equal(model_component_kind(m, 0), "blend");
        for (size_t i = 0; i < 40; i++) { /* whole blocks, both sides mixed */
                rows[i][0] = cases[i % ARRAY_SIZE(cases)].a;
                rows[i][1] = cases[i % ARRAY_SIZE(cases)].b;
        }
        model_predict(m, index, rows[0], 2, 40, out);
        for (size_t i = 0; i < 40; i++)
                assert_true(fabs(out[i] - cases[i % ARRAY_SIZE(cases)].watts) < 1e-9);
        assert_int_equal(model_check(m, &e), 0);
}

static void what_is_wrong_is_refused_and_named(void **state)
{
        static const struct {
                const char *blend;
                int r;
                const char *words;
        } cases[] = {
                { BLEND(HEAD("2"), REST(DERIVED, CLIP, "[]", INSIDE, OUTSIDE)), -ENOTSUP, "version 2" },
                { BLEND("\"format\": \"other\", \"version\": 1", REST(DERIVED, CLIP, "[]", INSIDE, OUTSIDE)),
                  -EBADMSG, "format 'other'" },
                { BLEND(HEAD("1"), REST("\"derived\": [[\"ratio\", 0, 2]]", CLIP, "[]", INSIDE, OUTSIDE)),
                  -EBADMSG, "derived" }, /* of itself */
                { BLEND(HEAD("1"), REST("\"derived\": [[\"power\", 0, 1]]", CLIP, "[]", INSIDE, OUTSIDE)),
                  -ENOTSUP, "power" },
                { BLEND(HEAD("1"), REST(DERIVED, "\"clip\": [[0, 8]]", "[]", INSIDE, OUTSIDE)), -EBADMSG,
                  "1 ranges for 4 columns" },
                { BLEND(HEAD("1"),
                        REST(DERIVED, "\"clip\": [[8, 0], [0, 4], [0, 2], [-4, 8]]", "[]", INSIDE, OUTSIDE)),
                  -EBADMSG, "8 is more than 0" },
                { BLEND(HEAD("1"), REST(DERIVED, CLIP, "[[4, 0, 1]]", INSIDE, OUTSIDE)), -EBADMSG, "guards" },
                { BLEND(HEAD("1"), REST(DERIVED, CLIP, "[]", "\"inside\": []", OUTSIDE)), -EBADMSG,
                  "no members" },
                { BLEND(HEAD("1"), REST(DERIVED, CLIP, "[]",
                                        "\"inside\": [{\"weight\": 0, \"bias\": 0, \"x\": [], \"sqrt\": [], "
                                        "\"columns\": [], \"trees\": []}]",
                                        OUTSIDE)),
                  -EBADMSG, "not positive" },
                { BLEND(HEAD("1"), REST(DERIVED, CLIP, "[]",
                                        "\"inside\": [{\"weight\": 1, \"bias\": 0, \"x\": [], \"sqrt\": [], "
                                        "\"columns\": [0], \"trees\": [\"other.json\"]}]",
                                        OUTSIDE)),
                  -EBADMSG, "no 'other.json'" },
                { BLEND(HEAD("1"), REST(DERIVED, CLIP, "[]",
                                        "\"inside\": [{\"weight\": 1, \"bias\": 0, \"x\": [], \"sqrt\": [], "
                                        "\"columns\": [0, 1], \"trees\": [\"t.json\"]}]",
                                        OUTSIDE)),
                  -EBADMSG, "1 columns, here are 2" },
                { "{}", -EBADMSG, "format" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(model_freep) struct model *m = NULL;
                struct err e = { "" };
                int r = load(cases[i].blend, &m, &e);

                if (r != cases[i].r || !strstr(e.text, cases[i].words))
                        fail_msg("case %zu: %d '%s' instead of %d '%s'", i, r, e.text, cases[i].r,
                                 cases[i].words);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(answers_are_those_worked_out_by_hand),
                cmocka_unit_test(what_is_wrong_is_refused_and_named),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
