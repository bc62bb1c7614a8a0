/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and signatures for tests, by common/minisign: signer keys PREFIX makes PREFIX.key and PREFIX.pub,
 * signer sign KEY FILE COMMENT prints the signature of a file. */
#include <stdio.h>
#include <string.h>

#include "common/file.h"
#include "common/minisign.h"

static int write_text(const char *prefix, const char *suffix, const struct buf *text, struct err *e)
{
        char path[4096];

        if (snprintf(path, sizeof(path), "%s%s", prefix, suffix) >= (int)sizeof(path))
                return err_set(e, -1, "'%s' is too long", prefix);
        return file_write_atomic(path, text->data, text->size, 0600, e);
}

static int make_keys(const char *prefix, struct err *e)
{
        CLEANUP(buf_done) struct buf secret_text, public_text;
        struct minisign_public public;
        struct minisign_secret secret;
        int r;

        buf_init(&secret_text, MINISIGN_TEXT_MAX);
        buf_init(&public_text, MINISIGN_TEXT_MAX);
        r = minisign_generate(&secret, e);
        if (r < 0)
                return r;
        minisign_public_of(&secret, &public);
        (void)minisign_write_secret(&secret, &secret_text); /* both are far below the limit */
        (void)minisign_write_public(&public, &public_text);
        r = write_text(prefix, ".key", &secret_text, e);
        return r < 0 ? r : write_text(prefix, ".pub", &public_text, e);
}

static int sign(const char *key, const char *path, const char *comment, struct err *e)
{
        CLEANUP(buf_done) struct buf text, data, signature;
        struct minisign_secret secret;
        int r;

        buf_init(&text, MINISIGN_TEXT_MAX);
        buf_init(&data, (size_t)64 << 20);
        buf_init(&signature, MINISIGN_TEXT_MAX);
        r = file_read(key, &text, e);
        if (r == 0)
                r = minisign_parse_secret(text.data, text.size, &secret, e);
        if (r == 0)
                r = file_read(path, &data, e);
        if (r == 0)
                r = minisign_sign(&secret, data.data ? data.data : "", data.size, comment, &signature, e);
        if (r == 0)
                (void)fwrite(signature.data, 1, signature.size, stdout);
        return r;
}

int main(int argc, char **argv)
{
        struct err e = { "usage: signer keys PREFIX | sign KEY FILE COMMENT" };
        int r = -1;

        if (argc == 3 && strcmp(argv[1], "keys") == 0)
                r = make_keys(argv[2], &e);
        else if (argc == 5 && strcmp(argv[1], "sign") == 0)
                r = sign(argv[2], argv[3], argv[4], &e);
        if (r < 0)
                (void)fprintf(stderr, "signer: %s\n", e.text);
        return r < 0;
}
