/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include "updater/request.h"

static void slots_are_three_known_words(void **state)
{
        static const char *const bad[] = { "",
                                           "rapl-sysfs",
                                           "rapl-sysfs/AbsPower",
                                           "rapl-sysfs/AbsPower/archive/",
                                           "rapl-sysfs/abspower/archive",
                                           "intel_rapl/AbsPower/archive",
                                           "../AbsPower/archive",
                                           "acpi/DynPower/zip" };
        struct slot slot, other;

        (void)state;
        assert_int_equal(slot_parse("acpi/DynPower/weight", &slot, NULL), 0);
        assert_string_equal(slot.source->name, "acpi");
        assert_string_equal(slot.output_type, "DynPower");
        assert_int_equal(slot.form, FORM_WEIGHT);
        other = slot_with_form(&slot, FORM_ARCHIVE);
        assert_string_equal(other.text, "acpi/DynPower/archive");
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(slot_parse(bad[i], &slot, NULL), -EINVAL);
}

static void the_request_has_upstreams_keys_in_upstreams_order(void **state)
{
        char *names[] = { "bpf_cpu_time_ms", "bpf_page_cache_hit" };
        const struct options o = { .features = { names, 2 }, .trainer = "SGDRegressor\"Trainer" };
        const struct machine_spec spec = { "acme_z1", 8, 1, 31, 0 };
        CLEANUP(buf_done) struct buf out;
        struct slot slot;

        (void)state;
        buf_init(&out, 4096);
        assert_int_equal(slot_parse("acpi/AbsPower/weight", &slot, NULL), 0);
        assert_int_equal(request_format(&o, &slot, &spec, &out), 0);
        assert_string_equal(
                out.data,
                "{\"metrics\": [\"bpf_cpu_time_ms\", \"bpf_page_cache_hit\"], "
                "\"output_type\": \"AbsPower\", \"source\": \"acpi\", \"node_type\": -1, "
                "\"weight\": true, \"trainer_name\": \"SGDRegressor\\\"Trainer\", \"filter\": \"\", "
                "\"machine_spec\": {\"chips\": 1, \"cores\": 8, \"memory\": 31, "
                "\"processor\": \"acme_z1\"}}");
}

static void the_digest_of_nothing_is_known(void **state)
{
        char digest[REQUEST_DIGEST_MAX];

        (void)state;
        request_digest("", 0, digest);
        assert_string_equal(digest, "sha-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
}

static void digests_are_checked_when_they_are_sha256(void **state)
{
        static const struct {
                const char *header;
                int r;
        } rows[] = {
                { "", 0 },
                { "md5=abc", 0 },
                { "sha-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", 0 },
                { "md5=abc, SHA-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", 0 },
                { "sha-256=57DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", -EBADMSG },
                { "sha-256=", -EBADMSG },
                { "sha-256=47DE", -EBADMSG },
                { "sha-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=AAAA", -EBADMSG },
                { "sha-256=!!", -EBADMSG },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                assert_int_equal(request_check_digest(rows[i].header, "", 0, NULL), rows[i].r);
}

static void plain_http_needs_the_policy_unsigned(void **state)
{
        char *names[] = { "bpf_cpu_time_ms" };
        struct options o = {
                .features = { names, 1 },
                .trainer = "",
                .server_url = "http://127.0.0.1:1",
                .server_trust = TRUST_TLS,
                .server_token_file = "",
                .server_ca_file = "",
                .server_proxy = "",
                .server_client_cert_file = "",
                .server_client_key_file = "",
                .timeout_ms = 1000,
        };
        const struct machine_spec spec = { 0 };
        CLEANUP(answer_done) struct answer answer;
        struct err e = { "" };
        struct slot slot;
        const struct question question = { &slot, &spec, "", "", "", false };

        (void)state;
        assert_int_equal(slot_parse("acpi/AbsPower/weight", &slot, NULL), 0);
        answer_init(&answer, &slot);
        assert_int_equal(request_model(&o, &question, &answer, &e), -EPERM);
        assert_non_null(strstr(e.text, "server.trust"));
        o.server_trust = TRUST_UNSIGNED;
        assert_int_equal(request_model(&o, &question, &answer, &e), -ECONNREFUSED);
        o.server_trust = TRUST_SIGNED; /* a signature vouches for the bytes, whatever way they came */
        assert_int_equal(request_model(&o, &question, &answer, &e), -ECONNREFUSED);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(slots_are_three_known_words),
                cmocka_unit_test(the_request_has_upstreams_keys_in_upstreams_order),
                cmocka_unit_test(the_digest_of_nothing_is_known),
                cmocka_unit_test(digests_are_checked_when_they_are_sha256),
                cmocka_unit_test(plain_http_needs_the_policy_unsigned),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
