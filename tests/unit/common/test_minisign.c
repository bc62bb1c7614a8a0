/* SPDX-License-Identifier: Apache-2.0 */
#include "common/minisign.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/file.h"

/* Keys and signatures come from the real tool where it is installed. */
#define TOOL "/usr/bin/minisign"

static const char data[] = "watts\n";

struct fixture {
        struct minisign_secret secret;
        struct minisign_public public;
        struct minisign_signature signature;
        struct buf text;
};

static void sign(struct fixture *f, const char *comment)
{
        assert_int_equal(minisign_generate(&f->secret, NULL), 0);
        minisign_public_of(&f->secret, &f->public);
        buf_init(&f->text, MINISIGN_TEXT_MAX);
        assert_int_equal(minisign_sign(&f->secret, data, sizeof(data) - 1, comment, &f->text, NULL), 0);
        assert_int_equal(minisign_parse_signature(f->text.data, f->text.size, &f->signature, NULL), 0);
}

static void what_was_signed_is_verified_with_its_comment(void **state)
{
        struct fixture f;

        (void)state;
        sign(&f, "time:1 model:x");
        assert_string_equal(f.signature.comment, "time:1 model:x");
        assert_int_equal(minisign_verify(&f.signature, &f.public, data, sizeof(data) - 1, NULL), 0);
        buf_done(&f.text);
}

static void every_flipped_bit_is_refused(void **state)
{
        struct fixture f;

        (void)state;
        sign(&f, "time:1");
        for (size_t i = 0; i < 2 * sizeof(f.signature.signature); i++) {
                struct minisign_signature s = f.signature;

                (i < 64 ? s.signature : s.global)[i % 64] ^= (unsigned char)(1 << (i % 8));
                assert_int_equal(minisign_verify(&s, &f.public, data, sizeof(data) - 1, NULL), -EKEYREJECTED);
        }
        for (size_t i = 0; i < sizeof(data) - 1; i++) {
                char other[sizeof(data)];

                memcpy(other, data, sizeof(data));
                other[i] ^= 1;
                assert_int_equal(minisign_verify(&f.signature, &f.public, other, sizeof(data) - 1, NULL),
                                 -EKEYREJECTED);
        }
        f.signature.comment[5] = '2';
        assert_int_equal(minisign_verify(&f.signature, &f.public, data, sizeof(data) - 1, NULL),
                         -EKEYREJECTED);
        buf_done(&f.text);
}

static void another_key_is_named(void **state)
{
        struct minisign_secret other;
        struct minisign_public public;
        char hex[MINISIGN_ID_HEX_SIZE];
        struct fixture f;
        struct err e;

        (void)state;
        sign(&f, "");
        assert_int_equal(minisign_generate(&other, NULL), 0);
        minisign_public_of(&other, &public);
        assert_int_equal(minisign_verify(&f.signature, &public, data, sizeof(data) - 1, &e), -ENOKEY);
        minisign_id_hex(f.signature.id, hex);
        assert_non_null(strstr(e.text, hex));

        /* a key that only borrows the id */
        memcpy(public.id, f.public.id, sizeof(public.id));
        assert_int_equal(minisign_verify(&f.signature, &public, data, sizeof(data) - 1, NULL), -EKEYREJECTED);
        buf_done(&f.text);
}

static void keys_survive_being_written(void **state)
{
        struct minisign_secret secret;
        struct minisign_public public;
        struct fixture f;
        struct buf text;
        const char *second;

        (void)state;
        sign(&f, "");
        buf_init(&text, MINISIGN_TEXT_MAX);
        assert_int_equal(minisign_write_secret(&f.secret, &text), 0);
        assert_int_equal(minisign_parse_secret(text.data, text.size, &secret, NULL), 0);
        assert_memory_equal(&secret, &f.secret, sizeof(secret));
        strchr(text.data, '\n')[100] ^= 1; /* in the key */
        assert_int_equal(minisign_parse_secret(text.data, text.size, &secret, NULL), -EBADMSG);

        buf_clear(&text);
        assert_int_equal(minisign_write_public(&f.public, &text), 0);
        assert_int_equal(minisign_parse_public(text.data, text.size, &public, NULL), 0);
        assert_memory_equal(&public, &f.public, sizeof(public));
        second = strchr(text.data, '\n') + 1;
        memset(&public, 0, sizeof(public));
        assert_int_equal(minisign_parse_public(second, strlen(second), &public, NULL), 0);
        assert_memory_equal(&public, &f.public, sizeof(public));
        buf_done(&text);
        buf_done(&f.text);
}

static void cut_files_are_refused(void **state)
{
        struct minisign_signature s;
        struct minisign_public public;
        struct fixture f;
        struct buf text;

        (void)state;
        sign(&f, "time:1");
        for (size_t n = 0; n < f.text.size - 1; n++) /* the last line break may lack */
                assert_int_equal(minisign_parse_signature(f.text.data, n, &s, NULL), -EBADMSG);
        buf_init(&text, MINISIGN_TEXT_MAX);
        assert_int_equal(minisign_write_public(&f.public, &text), 0);
        for (size_t n = 0; n < text.size - 1; n++)
                assert_int_equal(minisign_parse_public(text.data, n, &public, NULL), -EBADMSG);
        assert_int_equal(minisign_parse_public(text.data, MINISIGN_TEXT_MAX + 1, &public, NULL), -EBADMSG);
        buf_done(&text);
        buf_done(&f.text);
}

static void a_comment_is_one_line(void **state)
{
        static char longest[MINISIGN_COMMENT_MAX + 1];
        struct fixture f;
        struct buf out;

        (void)state;
        sign(&f, "");
        buf_init(&out, MINISIGN_TEXT_MAX);
        assert_int_equal(minisign_sign(&f.secret, data, 1, "a\nb", &out, NULL), -EINVAL);
        memset(longest, 'x', MINISIGN_COMMENT_MAX);
        assert_int_equal(minisign_sign(&f.secret, data, 1, longest, &out, NULL), -EINVAL);
        longest[MINISIGN_COMMENT_MAX - 1] = '\0';
        assert_int_equal(minisign_sign(&f.secret, data, 1, longest, &out, NULL), 0);
        assert_int_equal(minisign_parse_signature(out.data, out.size, &f.signature, NULL), 0);
        assert_int_equal(minisign_verify(&f.signature, &f.public, data, 1, NULL), 0);
        buf_done(&out);
        buf_done(&f.text);
}

/* ---- with the real tool ---- */

static void run(const char *fmt, ...)
{
        char command[1024];
        va_list args;

        va_start(args, fmt);
        assert_in_range(vsnprintf(command, sizeof(command), fmt, args), 1, sizeof(command) - 1);
        va_end(args);
        assert_int_equal(system(command), 0); /* our own words only */
}

static void read_text(const char *dir, const char *name, struct buf *ret)
{
        char path[512];

        assert_int_equal(path_join(path, sizeof(path), dir, name), 0);
        buf_init(ret, MINISIGN_TEXT_MAX);
        assert_int_equal(file_read(path, ret, NULL), 0);
}

static void write_text(const char *dir, const char *name, const struct buf *text)
{
        char path[512];

        assert_int_equal(path_join(path, sizeof(path), dir, name), 0);
        assert_int_equal(file_write_atomic(path, text->data, text->size, 0600, NULL), 0);
}

static void files_are_exchanged_with_minisign(void **state)
{
        char dir[] = "/tmp/test_minisign.XXXXXX";
        struct minisign_signature signature;
        struct minisign_public public;
        struct minisign_secret secret;
        struct buf text;

        (void)state;
        if (access(TOOL, X_OK) != 0) {
                print_message("minisign is not installed\n");
                skip();
        }
        assert_non_null(mkdtemp(dir));
        run("cd %s && printf 'watts\\n' >data && %s -G -W -p a.pub -s a.key >/dev/null && "
            "%s -S -s a.key -m data -t 'time:7' >/dev/null",
            dir, TOOL, TOOL);

        read_text(dir, "a.pub", &text);
        assert_int_equal(minisign_parse_public(text.data, text.size, &public, NULL), 0);
        buf_done(&text);
        read_text(dir, "data.minisig", &text);
        assert_int_equal(minisign_parse_signature(text.data, text.size, &signature, NULL), 0);
        buf_done(&text);
        assert_true(signature.prehashed);
        assert_string_equal(signature.comment, "time:7");
        assert_int_equal(minisign_verify(&signature, &public, data, sizeof(data) - 1, NULL), 0);

        run("cd %s && %s -S -l -s a.key -m data -t legacy >/dev/null 2>&1", dir, TOOL);
        read_text(dir, "data.minisig", &text);
        assert_int_equal(minisign_parse_signature(text.data, text.size, &signature, NULL), 0);
        buf_done(&text);
        assert_false(signature.prehashed);
        assert_int_equal(minisign_verify(&signature, &public, data, sizeof(data) - 1, NULL), 0);

        read_text(dir, "a.key", &text);
        assert_int_equal(minisign_parse_secret(text.data, text.size, &secret, NULL), 0);
        buf_done(&text);
        buf_init(&text, MINISIGN_TEXT_MAX);
        assert_int_equal(minisign_sign(&secret, data, sizeof(data) - 1, "ours", &text, NULL), 0);
        write_text(dir, "data.minisig", &text);
        run("cd %s && %s -V -H -p a.pub -m data >/dev/null", dir, TOOL);

        buf_clear(&text);
        assert_int_equal(minisign_write_public(&public, &text), 0);
        write_text(dir, "b.pub", &text);
        buf_clear(&text);
        assert_int_equal(minisign_write_secret(&secret, &text), 0);
        write_text(dir, "b.key", &text);
        run("cd %s && %s -S -s b.key -m data >/dev/null && %s -V -p b.pub -m data >/dev/null", dir, TOOL,
            TOOL);
        buf_done(&text);
        run("rm -r %s", dir);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_was_signed_is_verified_with_its_comment),
                cmocka_unit_test(every_flipped_bit_is_refused),
                cmocka_unit_test(another_key_is_named),
                cmocka_unit_test(keys_survive_being_written),
                cmocka_unit_test(cut_files_are_refused),
                cmocka_unit_test(a_comment_is_one_line),
                cmocka_unit_test(files_are_exchanged_with_minisign),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
