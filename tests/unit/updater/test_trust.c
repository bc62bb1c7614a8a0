/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/trust.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define ID   "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SLOT "rapl-sysfs/AbsPower/archive"
#define NOW  1764288000

static const char data[] = "a model";

struct fixture {
        struct minisign_secret root, release, other;
        struct trust trust;
        struct slot slot;
};

static int set_up(void **state)
{
        static struct fixture f;

        memset(&f, 0, sizeof(f));
        assert_int_equal(minisign_generate(&f.root, NULL), 0);
        assert_int_equal(minisign_generate(&f.release, NULL), 0);
        assert_int_equal(minisign_generate(&f.other, NULL), 0);
        minisign_public_of(&f.release, &f.trust.keys.keys[0].key);
        f.trust.keys.n = 1;
        f.trust.keys.version = 3;
        f.trust.now_s = NOW;
        assert_int_equal(slot_parse(SLOT, &f.slot, NULL), 0);
        *state = &f;
        return 0;
}

static int check(const struct fixture *f, const struct minisign_secret *key, const struct statement *s,
                 struct err *e)
{
        struct buf comment, text;
        struct statement ret;
        int r;

        buf_init(&comment, 1024);
        buf_init(&text, MINISIGN_TEXT_MAX);
        assert_int_equal(statement_write(s, &comment), 0);
        assert_int_equal(minisign_sign(key, data, sizeof(data), comment.data, &text, NULL), 0);
        r = trust_check(&f->trust, &f->slot, &text, data, sizeof(data), &ret, e);
        if (r == 0)
                assert_memory_equal(&ret, s, sizeof(ret));
        buf_done(&comment);
        buf_done(&text);
        return r;
}

static const struct statement good = { 7, NOW - 10, NOW + 100, ID, SLOT, "M_0", 0, false };

static void a_good_signature_is_believed(void **state)
{
        assert_int_equal(check(*state, &((struct fixture *)*state)->release, &good, NULL), 0);
}

static void keys_that_are_not_good_now_are_refused(void **state)
{
        struct fixture *f = *state;
        struct err e;

        assert_int_equal(check(f, &f->other, &good, &e), -ENOKEY);
        assert_non_null(strstr(e.text, "none of the release keys"));
        f->trust.keys.keys[0].expires_s = NOW - 1;
        assert_int_equal(check(f, &f->release, &good, &e), -EKEYEXPIRED);
        f->trust.keys.keys[0].expires_s = NOW + 1;
        assert_int_equal(check(f, &f->release, &good, &e), 0);
        memcpy(f->trust.keys.revoked[0], f->release.id, MINISIGN_ID_SIZE);
        f->trust.keys.revoked_n = 1;
        assert_int_equal(check(f, &f->release, &good, &e), -EKEYREVOKED);
}

static void old_models_are_refused_unless_asked_for(void **state)
{
        struct fixture *f = *state;
        struct statement expired = good;

        f->trust.version = 8;
        assert_int_equal(check(f, &f->release, &good, NULL), -ESTALE);
        f->trust.version = 7; /* the same again is no downgrade */
        f->trust.time_s = good.time_s;
        assert_int_equal(check(f, &f->release, &good, NULL), 0);
        f->trust.time_s = good.time_s + 1;
        assert_int_equal(check(f, &f->release, &good, NULL), -ESTALE);
        f->trust.time_s = 0;
        expired.expires_s = NOW - 1;
        assert_int_equal(check(f, &f->release, &expired, NULL), -ESTALE);
        expired.expires_s = 0;
        assert_int_equal(check(f, &f->release, &expired, NULL), 0);

        f->trust.version = 8;
        expired.expires_s = NOW - 1;
        f->trust.downgrade = true;
        assert_int_equal(check(f, &f->release, &expired, NULL), 0);
}

static void a_model_of_another_slot_is_refused(void **state)
{
        struct fixture *f = *state;
        struct statement s = good;

        (void)snprintf(s.slot, sizeof(s.slot), "acpi/AbsPower/archive");
        assert_int_equal(check(f, &f->release, &s, NULL), -EPROTO);
}

static void a_signature_for_other_bytes_is_refused(void **state)
{
        struct fixture *f = *state;
        struct buf text, none;
        struct statement ret;

        buf_init(&text, MINISIGN_TEXT_MAX);
        buf_init(&none, MINISIGN_TEXT_MAX);
        assert_int_equal(minisign_sign(&f->release, data, sizeof(data), "wattloop:1", &text, NULL), 0);
        assert_int_equal(trust_check(&f->trust, &f->slot, &text, "another", 7, &ret, NULL), -EKEYREJECTED);
        /* signed, but nothing said of what it is */
        assert_int_equal(trust_check(&f->trust, &f->slot, &text, data, sizeof(data), &ret, NULL), -EBADMSG);
        assert_int_equal(trust_check(&f->trust, &f->slot, &none, data, sizeof(data), &ret, NULL), -EBADMSG);
        buf_done(&text);
}

/* ---- the list of keys ---- */

static int accept_list(const struct fixture *f, const struct minisign_secret *signer,
                       const struct key_list *list, int64_t known, struct key_list *ret, struct err *e)
{
        struct minisign_public root;
        struct buf json, text;
        int r;

        minisign_public_of(&f->root, &root);
        buf_init(&json, KEY_LIST_MAX);
        buf_init(&text, MINISIGN_TEXT_MAX);
        assert_int_equal(key_list_write(list, &json), 0);
        assert_int_equal(minisign_sign(signer, json.data, json.size, "keys", &text, NULL), 0);
        r = trust_accept_keys(&root, 1, &json, &text, known, NOW, ret, e);
        buf_done(&json);
        buf_done(&text);
        return r;
}

static void the_root_vouches_for_the_list(void **state)
{
        struct fixture *f = *state;
        struct key_list list = f->trust.keys, back;

        list.expires_s = NOW + 10;
        list.keys[0].expires_s = NOW + 20;
        memcpy(list.revoked[0], f->other.id, MINISIGN_ID_SIZE);
        list.revoked_n = 1;
        assert_int_equal(accept_list(f, &f->root, &list, 3, &back, NULL), 0);
        assert_memory_equal(&back, &list, sizeof(list));
        assert_true(key_list_revokes(&back, f->other.id));
        assert_false(key_list_revokes(&back, f->release.id));

        /* a release key that vouches for itself */
        assert_int_equal(accept_list(f, &f->release, &list, 3, &back, NULL), -ENOKEY);
        /* an old list, with which a revoked key would come back */
        assert_int_equal(accept_list(f, &f->root, &list, 4, &back, NULL), -ESTALE);
        list.expires_s = NOW - 1;
        assert_int_equal(accept_list(f, &f->root, &list, 3, &back, NULL), -EKEYEXPIRED);
}

static void lists_that_are_none_are_refused(void **state)
{
        static const char *const texts[] = {
                "",
                "[]",
                "{}",
                "{\"wattloop_keys\": 1}",
                "{\"wattloop_keys\": 1, \"version\": 1, \"time_s\": 1, \"expires_s\": 0, \"keys\": {}, "
                "\"revoked\": []}",
                "{\"wattloop_keys\": 1, \"version\": 1, \"time_s\": 1, \"expires_s\": 0, \"keys\": "
                "[{\"key\": \"RW\", "
                "\"expires_s\": 0}], \"revoked\": []}",
                "{\"wattloop_keys\": 1, \"version\": 1, \"time_s\": 1, \"expires_s\": 0, \"keys\": [], "
                "\"revoked\": "
                "[\"0123\"]}",
                "{\"wattloop_keys\": 1, \"version\": -1, \"time_s\": 1, \"expires_s\": 0, \"keys\": [], "
                "\"revoked\": "
                "[]}",
        };
        struct key_list list;

        (void)state;
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
                assert_int_equal(key_list_parse(texts[i], strlen(texts[i]), &list, NULL), -EBADMSG);
        assert_int_equal(key_list_parse("{\"wattloop_keys\": 2}", 20, &list, NULL), -ENOTSUP);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(a_good_signature_is_believed, set_up),
                cmocka_unit_test_setup(keys_that_are_not_good_now_are_refused, set_up),
                cmocka_unit_test_setup(old_models_are_refused_unless_asked_for, set_up),
                cmocka_unit_test_setup(a_model_of_another_slot_is_refused, set_up),
                cmocka_unit_test_setup(a_signature_for_other_bytes_is_refused, set_up),
                cmocka_unit_test_setup(the_root_vouches_for_the_list, set_up),
                cmocka_unit_test(lists_that_are_none_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
