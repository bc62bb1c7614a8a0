/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>

#include "common/cleanup.h"
#include "common/json.h"
#include "model-server/serve/node_types.h"

/* The six kinds of machines of which the look-up's behaviour is known, one member each. */
static const struct {
        const char *processor;
        int cores, chips, memory, frequency;
} published[] = {
        { "intel_xeon_platinum_8259cl", 96, 2, 377, 3500 },
        { "intel_xeon_e5_2686v4", 72, 2, 503, 3000 },
        { "intel_xeon_platinum_8275cl", 96, 2, 188, 3900 },
        { "intel_xeon_platinum_8259cl", 96, 2, 755, 3500 },
        { "intel_xeon_platinum_8252c", 48, 2, 188, 4500 },
        { "intel_xeon_platinum_8488c", 96, 1, 377, 3800 },
};

static struct node_types make_types(void)
{
        CLEANUP(json_decrefp) json_t *index = json_object();
        struct node_types types;
        char key[8];

        for (size_t i = 0; i < ARRAY_SIZE(published); i++) {
                (void)snprintf(key, sizeof(key), "%zu", i);
                json_object_set_new(index, key,
                                    json_pack("{s:{s:s, s:i, s:f, s:i, s:i}, s:[s]}", "attrs", "processor",
                                              published[i].processor, "cores", published[i].cores, "chips",
                                              (double)published[i].chips, "memory", published[i].memory,
                                              "frequency", published[i].frequency, "members", "one"));
        }
        assert_int_equal(node_types_from_json(index, &types, NULL), 0);
        return types;
}

static struct spec make_spec(const char *text)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        struct spec spec;

        assert_int_equal(json_parse(text, strlen(text), "spec", &object, NULL), 0);
        assert_int_equal(spec_from_json(object, &spec, NULL), 0);
        return spec;
}

struct vector {
        const char *spec;
        struct node_match strict, loose;
};
static const struct vector vectors[] = {
        { "{\"processor\":\"intel_xeon_e5_2686v4\",\"cores\":72,\"chips\":2,\"memory\":503,\"frequency\":"
          "3000}",
          { 1, 0, 0 },
          { 1, 0, 0 } },
        { "{}", { 0, 0.83333, 0 }, { 0, 0.83333, 0 } },
        { "{\"cores\":96}", { 0, 0.75, 0 }, { 0, 0.75, 0 } },
        { "{\"cores\":\"96\",\"memory\":null}", { 0, 0.75, 0 }, { 0, 0.75, 0 } },
        { "{\"processor\":\"intel_xeon_platinum_8259cl\"}", { 0, 0.5, 0 }, { 0, 0.5, 0 } },
        { "{\"processor\":\"intel_xeon_platinum_8259cl\",\"cores\":96,\"chips\":2}",
          { 0, 0.5, 0 },
          { 0, 0.5, 0 } },
        { "{\"processor\":\"intel_xeon_e5_2686v4\",\"cores\":4,\"chips\":1,\"memory\":16,\"frequency\":2300}",
          { -1, -1, -1 },
          { 1, 0, 0.28734 } },
        { "{\"processor\":\"intel_xeon_platinum_8259cl\",\"cores\":48}",
          { -1, -1, -1 },
          { 0, 0.71429, 0.33333 } },
        { "{\"processor\":\"amd_epyc_7763_64_core\",\"cores\":128,\"chips\":2,\"memory\":251,\"frequency\":"
          "3500}",
          { -1, -1, -1 },
          { 2, 0.8, 0.57671 } },
        { "{\"processor\":\"unconvered\"}", { -1, -1, -1 }, { 5, 0.90741, 0.91319 } },
};

static void expect_match(struct node_match got, struct node_match want, const char *spec)
{
        if (got.id != want.id || fabs(got.uncertainty - want.uncertainty) > 1e-5 ||
            fabs(got.looseness - want.looseness) > 1e-5)
                fail_msg("%s: got %d, %f, %f", spec, got.id, got.uncertainty, got.looseness);
}

static void lookup_gives_what_keplers_gives(void **state)
{
        struct node_types types = make_types();

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
                struct spec spec = make_spec(vectors[i].spec);

                expect_match(node_types_lookup(&types, &spec, false), vectors[i].strict, vectors[i].spec);
                expect_match(node_types_lookup(&types, &spec, true), vectors[i].loose, vectors[i].spec);
        }
        node_types_done(&types);
}

static void similarity_has_the_known_values(void **state)
{
        struct node_type type = { .spec = make_spec("{\"processor\":\"abcdefgh\",\"cores\":96}") };
        struct spec name = make_spec("{\"processor\":\"ABCD\"}"), cores = make_spec("{\"cores\":72}");

        (void)state;
        assert_true(fabs(node_type_similarity(&type, &name) * 8 / 5 - 0.25) < 1e-9);
        assert_true(fabs(node_type_similarity(&type, &cores) * 8 - 0.714286) < 1e-6);
}

static void empty_index_matches_nothing(void **state)
{
        struct node_types none = { 0 };
        struct spec spec = make_spec("{\"cores\":4}");

        (void)state;
        expect_match(node_types_lookup(&none, &spec, true), (struct node_match){ -1, -1, -1 }, "empty index");
}

static void zero_is_no_value_and_not_null(void **state)
{
        struct spec zero = make_spec("{\"cores\":0,\"processor\":\"\"}"),
                    null = make_spec("{\"cores\":null}");

        (void)state;
        assert_false(spec_usable(&zero));
        assert_false(zero.null[SPEC_CORES]);
        assert_true(null.null[SPEC_CORES]);
        assert_false(spec_usable(&null));
}

static void enum_spelling_of_upstream_is_read(void **state)
{
        struct spec spec = make_spec("{\"NodeAttribute.CORES\":8,\"NodeAttribute.PROCESSOR\":\"acme\"}");

        (void)state;
        assert_true(spec.number[SPEC_CORES] == 8);
        assert_string_equal(spec.processor, "acme");
}

static void specs_of_the_wrong_type_are_refused(void **state)
{
        static const char *const bad[] = { "{\"cores\":\"many\"}", "{\"cores\":[]}", "{\"processor\":7}",
                                           "[]", "4" };
        struct spec spec;
        struct err e;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                json_t *value = json_loads(bad[i], JSON_DECODE_ANY, NULL);

                assert_int_equal(spec_from_json(value, &spec, &e), -EBADMSG);
                json_decref(value);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(lookup_gives_what_keplers_gives),
                cmocka_unit_test(similarity_has_the_known_values),
                cmocka_unit_test(empty_index_matches_nothing),
                cmocka_unit_test(zero_is_no_value_and_not_null),
                cmocka_unit_test(enum_spelling_of_upstream_is_read),
                cmocka_unit_test(specs_of_the_wrong_type_are_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
