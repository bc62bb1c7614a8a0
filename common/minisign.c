/* SPDX-License-Identifier: Apache-2.0 */
#include "common/minisign.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/file.h"

#define ALGORITHM_SIZE  2 /* "Ed", "ED" */
#define HEADER_SIZE     (ALGORITHM_SIZE + MINISIGN_ID_SIZE)
#define PUBLIC_SIZE     (HEADER_SIZE + 32)
#define SIGNATURE_SIZE  (HEADER_SIZE + crypto_sign_BYTES)
#define SECRET_KDF      2  /* "Sc" scrypt, two zeros: none */
#define SECRET_CHECKSUM 4  /* "B2" */
#define SECRET_KEY      54 /* behind salt (32), operations (8) and memory (8) of the key derivation */
#define SECRET_SIZE     (SECRET_KEY + MINISIGN_ID_SIZE + crypto_sign_SECRETKEYBYTES + CHECKSUM_SIZE)
#define CHECKSUM_SIZE   32
#define PREHASH_SIZE    64
#define BASE64_VARIANT  sodium_base64_VARIANT_ORIGINAL
#define BASE64_MAX      sodium_base64_ENCODED_LEN(SECRET_SIZE, BASE64_VARIANT)

static const char untrusted_prefix[] = "untrusted comment: ";
static const char trusted_prefix[] = "trusted comment: ";

void minisign_id_hex(const unsigned char id[MINISIGN_ID_SIZE], char ret[MINISIGN_ID_HEX_SIZE])
{
        static const char digits[] = "0123456789ABCDEF";

        for (size_t i = 0; i < MINISIGN_ID_SIZE; i++) { /* a little-endian number */
                ret[2 * i] = digits[id[MINISIGN_ID_SIZE - 1 - i] >> 4];
                ret[2 * i + 1] = digits[id[MINISIGN_ID_SIZE - 1 - i] & 15];
        }
        ret[2 * MINISIGN_ID_SIZE] = '\0';
}

/* ---- lines ---- */

struct text {
        const char *p, *end;
};

/* The next line without its end; false: there is none. */
static bool next_line(struct text *t, const char **ret, size_t *ret_size)
{
        const char *end;

        if (t->p >= t->end)
                return false;
        end = memchr(t->p, '\n', (size_t)(t->end - t->p));
        if (!end)
                end = t->end;
        *ret = t->p;
        *ret_size = (size_t)(end - t->p);
        if (*ret_size > 0 && end[-1] == '\r')
                (*ret_size)--;
        t->p = end < t->end ? end + 1 : end;
        return true;
}

static bool has_prefix(const char *line, size_t size, const char *prefix)
{
        return size >= strlen(prefix) && memcmp(line, prefix, strlen(prefix)) == 0;
}

static bool next_base64(struct text *t, unsigned char *ret, size_t size)
{
        const char *line;
        size_t n, is;

        return next_line(t, &line, &n) &&
               sodium_base642bin(ret, size, line, n, NULL, &is, NULL, BASE64_VARIANT) == 0 && is == size;
}

static bool skip_untrusted(struct text *t)
{
        const char *line;
        size_t n;

        return next_line(t, &line, &n) && has_prefix(line, n, untrusted_prefix);
}

static int check_size(size_t size, const char *what, struct err *e)
{
        if (size > MINISIGN_TEXT_MAX)
                return err_set(e, -EBADMSG, "a %s of %zu bytes is none of minisign's", what, size);
        return 0;
}

/* ---- reading ---- */

int minisign_parse_public(const char *text, size_t size, struct minisign_public *ret, struct err *e)
{
        struct text t = { text, text + size };
        unsigned char raw[PUBLIC_SIZE];
        int r;

        r = check_size(size, "public key", e);
        if (r < 0)
                return r;
        if (has_prefix(text, size, untrusted_prefix))
                (void)skip_untrusted(&t);
        if (!next_base64(&t, raw, sizeof(raw)) || memcmp(raw, "Ed", ALGORITHM_SIZE) != 0)
                return err_set(e, -EBADMSG, "not a public key of minisign");
        memcpy(ret->id, raw + ALGORITHM_SIZE, sizeof(ret->id));
        memcpy(ret->key, raw + HEADER_SIZE, sizeof(ret->key));
        return 0;
}

int minisign_read_public(const char *path, struct minisign_public *ret, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { .max = MINISIGN_TEXT_MAX };
        int r = file_read(path, &text, e);

        if (r == 0)
                r = minisign_parse_public(text.data ? text.data : "", text.size, ret, e);
        return r < 0 ? err_prefix(e, r, "public key '%s'", path) : 0;
}

static void checksum(const struct minisign_secret *key, unsigned char ret[CHECKSUM_SIZE])
{
        crypto_generichash_state state;

        (void)crypto_generichash_init(&state, NULL, 0, CHECKSUM_SIZE); /* none of these fails on such sizes */
        (void)crypto_generichash_update(&state, (const unsigned char *)"Ed", ALGORITHM_SIZE);
        (void)crypto_generichash_update(&state, key->id, sizeof(key->id));
        (void)crypto_generichash_update(&state, key->key, sizeof(key->key));
        (void)crypto_generichash_final(&state, ret, CHECKSUM_SIZE);
}

/* minisign leaves the checksum of a key without password zero, so the key's own halves must fit as well. */
static bool is_whole(const struct minisign_secret *key, const unsigned char is[CHECKSUM_SIZE])
{
        unsigned char sum[CHECKSUM_SIZE], public[crypto_sign_PUBLICKEYBYTES],
                copy[crypto_sign_SECRETKEYBYTES];

        checksum(key, sum);
        (void)crypto_sign_seed_keypair(public, copy, key->key); /* always 0; the first half is the seed */
        sodium_memzero(copy, sizeof(copy));
        return (sodium_is_zero(is, sizeof(sum)) || sodium_memcmp(sum, is, sizeof(sum)) == 0) &&
               sodium_memcmp(public, key->key + crypto_sign_SEEDBYTES, sizeof(public)) == 0;
}

static int read_secret(const unsigned char raw[SECRET_SIZE], struct minisign_secret *ret, struct err *e)
{

        if (memcmp(raw, "Ed", ALGORITHM_SIZE) != 0 ||
            memcmp(raw + SECRET_CHECKSUM, "B2", ALGORITHM_SIZE) != 0)
                return err_set(e, -EBADMSG, "not a secret key of minisign");
        if (memcmp(raw + SECRET_KDF, "\0\0", ALGORITHM_SIZE) != 0)
                return err_set(e, -EACCES,
                               "the secret key is encrypted; take its password off with "
                               "'minisign -C -W', or make one with 'minisign -G -W'");
        memcpy(ret->id, raw + SECRET_KEY, sizeof(ret->id));
        memcpy(ret->key, raw + SECRET_KEY + MINISIGN_ID_SIZE, sizeof(ret->key));
        if (!is_whole(ret, raw + SECRET_SIZE - CHECKSUM_SIZE)) {
                sodium_memzero(ret, sizeof(*ret));
                return err_set(e, -EBADMSG, "the secret key is damaged");
        }
        return 0;
}

int minisign_parse_secret(const char *text, size_t size, struct minisign_secret *ret, struct err *e)
{
        struct text t = { text, text + size };
        unsigned char raw[SECRET_SIZE];
        int r;

        r = check_size(size, "secret key", e);
        if (r < 0)
                return r;
        if (!skip_untrusted(&t) || !next_base64(&t, raw, sizeof(raw)))
                return err_set(e, -EBADMSG, "not a secret key of minisign");
        r = read_secret(raw, ret, e);
        sodium_memzero(raw, sizeof(raw));
        return r;
}

static bool read_comment(struct text *t, char ret[MINISIGN_COMMENT_MAX])
{
        const char *line;
        size_t n;

        if (!next_line(t, &line, &n) || !has_prefix(line, n, trusted_prefix))
                return false;
        line += strlen(trusted_prefix);
        n -= strlen(trusted_prefix);
        if (n >= MINISIGN_COMMENT_MAX || memchr(line, '\0', n))
                return false;
        memcpy(ret, line, n);
        ret[n] = '\0';
        return true;
}

int minisign_parse_signature(const char *text, size_t size, struct minisign_signature *ret, struct err *e)
{
        struct text t = { text, text + size };
        unsigned char raw[SIGNATURE_SIZE];
        int r;

        r = check_size(size, "signature", e);
        if (r < 0)
                return r;
        if (!skip_untrusted(&t) || !next_base64(&t, raw, sizeof(raw)) ||
            (memcmp(raw, "Ed", ALGORITHM_SIZE) != 0 && memcmp(raw, "ED", ALGORITHM_SIZE) != 0) ||
            !read_comment(&t, ret->comment) || !next_base64(&t, ret->global, sizeof(ret->global)))
                return err_set(e, -EBADMSG, "not a signature of minisign");
        ret->prehashed = raw[1] == 'D';
        memcpy(ret->id, raw + ALGORITHM_SIZE, sizeof(ret->id));
        memcpy(ret->signature, raw + HEADER_SIZE, sizeof(ret->signature));
        return 0;
}

/* ---- verifying ---- */

static void prehash(const void *data, size_t size, unsigned char ret[PREHASH_SIZE])
{
        (void)crypto_generichash(ret, PREHASH_SIZE, data, size, NULL, 0); /* cannot fail on this size */
}

/* What the second signature is over. */
static size_t join_comment(const unsigned char signature[crypto_sign_BYTES], const char *comment,
                           unsigned char ret[crypto_sign_BYTES + MINISIGN_COMMENT_MAX])
{
        size_t n = strlen(comment);

        memcpy(ret, signature, crypto_sign_BYTES);
        memcpy(ret + crypto_sign_BYTES, comment, n);
        return crypto_sign_BYTES + n;
}

static int check_id(const struct minisign_signature *s, const struct minisign_public *key, struct err *e)
{
        char is[MINISIGN_ID_HEX_SIZE], wanted[MINISIGN_ID_HEX_SIZE];

        if (memcmp(s->id, key->id, sizeof(s->id)) == 0)
                return 0;
        minisign_id_hex(s->id, is);
        minisign_id_hex(key->id, wanted);
        return err_set(e, -ENOKEY, "signed with key %s, not with key %s", is, wanted);
}

int minisign_verify_comment(const struct minisign_signature *s, const struct minisign_public *key,
                            struct err *e)
{
        unsigned char joined[crypto_sign_BYTES + MINISIGN_COMMENT_MAX];
        int r;

        r = check_id(s, key, e);
        if (r < 0)
                return r;
        if (crypto_sign_verify_detached(s->global, joined, join_comment(s->signature, s->comment, joined),
                                        key->key) != 0)
                return err_set(e, -EKEYREJECTED, "the trusted comment is not the one that was signed");
        return 0;
}

int minisign_verify(const struct minisign_signature *s, const struct minisign_public *key, const void *data,
                    size_t size, struct err *e)
{
        unsigned char hash[PREHASH_SIZE];
        int r;

        r = check_id(s, key, e);
        if (r < 0)
                return r;
        if (s->prehashed) {
                prehash(data, size, hash);
                data = hash;
                size = sizeof(hash);
        }
        if (crypto_sign_verify_detached(s->signature, data, size, key->key) != 0)
                return err_set(e, -EKEYREJECTED, "the signature does not fit the data");
        return minisign_verify_comment(s, key, e);
}

/* ---- writing ---- */

static int put_base64(struct buf *out, const unsigned char *raw, size_t size)
{
        char text[BASE64_MAX];

        (void)sodium_bin2base64(text, sizeof(text), raw, size, BASE64_VARIANT);
        (void)buf_puts(out, text); /* failure is sticky in the buffer */
        return buf_puts(out, "\n");
}

int minisign_sign(const struct minisign_secret *key, const void *data, size_t size, const char *comment,
                  struct buf *out, struct err *e)
{
        unsigned char joined[crypto_sign_BYTES + MINISIGN_COMMENT_MAX], hash[PREHASH_SIZE];
        unsigned char raw[SIGNATURE_SIZE], global[crypto_sign_BYTES];
        char id[MINISIGN_ID_HEX_SIZE];

        if (strlen(comment) >= MINISIGN_COMMENT_MAX || strpbrk(comment, "\r\n"))
                return err_set(e, -EINVAL, "a trusted comment is one line of at most %d bytes",
                               MINISIGN_COMMENT_MAX - 1);
        prehash(data, size, hash);
        memcpy(raw, "ED", ALGORITHM_SIZE);
        memcpy(raw + ALGORITHM_SIZE, key->id, sizeof(key->id));
        (void)crypto_sign_detached(raw + HEADER_SIZE, NULL, hash, sizeof(hash), key->key); /* always 0 */
        (void)crypto_sign_detached(global, NULL, joined, join_comment(raw + HEADER_SIZE, comment, joined),
                                   key->key);

        minisign_id_hex(key->id, id);
        (void)buf_printf(out, "%ssignature with key %s\n", untrusted_prefix, id);
        (void)put_base64(out, raw, sizeof(raw));
        (void)buf_printf(out, "%s%s\n", trusted_prefix, comment);
        if (put_base64(out, global, sizeof(global)) < 0)
                return err_set(e, out->failed, "cannot write the signature: %s", strerror(-out->failed));
        return 0;
}

int minisign_generate(struct minisign_secret *ret, struct err *e)
{
        unsigned char public[crypto_sign_PUBLICKEYBYTES];

        if (sodium_init() < 0)
                return err_set(e, -EIO, "no source of random numbers");
        randombytes_buf(ret->id, sizeof(ret->id));
        (void)crypto_sign_keypair(public, ret->key); /* always 0 */
        return 0;
}

void minisign_public_of(const struct minisign_secret *key, struct minisign_public *ret)
{
        memcpy(ret->id, key->id, sizeof(ret->id));
        (void)crypto_sign_ed25519_sk_to_pk(ret->key, key->key); /* always 0 */
}

int minisign_write_public(const struct minisign_public *key, struct buf *out)
{
        unsigned char raw[PUBLIC_SIZE] = "Ed";
        char id[MINISIGN_ID_HEX_SIZE];

        memcpy(raw + ALGORITHM_SIZE, key->id, sizeof(key->id));
        memcpy(raw + HEADER_SIZE, key->key, sizeof(key->key));
        minisign_id_hex(key->id, id);
        (void)buf_printf(out, "%sminisign public key %s\n", untrusted_prefix, id);
        return put_base64(out, raw, sizeof(raw));
}

int minisign_write_secret(const struct minisign_secret *key, struct buf *out)
{
        unsigned char raw[SECRET_SIZE] = "Ed";
        char id[MINISIGN_ID_HEX_SIZE];
        int r;

        memcpy(raw + SECRET_CHECKSUM, "B2", ALGORITHM_SIZE);
        memcpy(raw + SECRET_KEY, key->id, sizeof(key->id));
        memcpy(raw + SECRET_KEY + MINISIGN_ID_SIZE, key->key, sizeof(key->key));
        checksum(key, raw + SECRET_SIZE - CHECKSUM_SIZE);
        minisign_id_hex(key->id, id);
        (void)buf_printf(out, "%sminisign secret key %s, not encrypted\n", untrusted_prefix, id);
        r = put_base64(out, raw, sizeof(raw));
        sodium_memzero(raw, sizeof(raw));
        return r;
}
