/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/trust.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define DATE_SIZE 32

static const char *date_of(int64_t s, char ret[DATE_SIZE])
{
        time_t t = (time_t)s;
        struct tm tm;

        if (!gmtime_r(&t, &tm) || strftime(ret, DATE_SIZE, "%Y-%m-%d %H:%M UTC", &tm) == 0)
                (void)snprintf(ret, DATE_SIZE, "%" PRId64, s);
        return ret;
}

static const struct minisign_public *find_root(const struct minisign_public *roots, size_t n,
                                               const unsigned char id[MINISIGN_ID_SIZE])
{
        for (size_t i = 0; i < n; i++)
                if (memcmp(roots[i].id, id, MINISIGN_ID_SIZE) == 0)
                        return &roots[i];
        return NULL;
}

static int no_key(const unsigned char id[MINISIGN_ID_SIZE], const char *which, struct err *e)
{
        char hex[MINISIGN_ID_HEX_SIZE];

        minisign_id_hex(id, hex);
        return err_set(e, -ENOKEY, "signed with key %s, which is none of the %s keys", hex, which);
}

int trust_accept_keys(const struct minisign_public *roots, size_t n, const struct buf *list,
                      const struct buf *signature, int64_t known_version, int64_t now_s, struct key_list *ret,
                      struct err *e)
{
        const struct minisign_public *root;
        struct minisign_signature s;
        struct key_list keys;
        char date[DATE_SIZE];
        int r;

        r = minisign_parse_signature(signature->data ? signature->data : "", signature->size, &s, e);
        if (r < 0)
                return err_prefix(e, r, "list of keys");
        root = find_root(roots, n, s.id);
        if (!root)
                return no_key(s.id, "root", e);
        r = minisign_verify(&s, root, list->data, list->size, e);
        if (r == 0)
                r = key_list_parse(list->data ? list->data : "", list->size, &keys, e);
        if (r < 0)
                return err_prefix(e, r, "list of keys");
        if (keys.version < known_version)
                return err_set(e, -ESTALE,
                               "the list of keys is version %" PRId64 ", version %" PRId64 " is known",
                               keys.version, known_version);
        if (keys.expires_s != 0 && keys.expires_s < now_s)
                return err_set(e, -EKEYEXPIRED, "the list of keys expired on %s",
                               date_of(keys.expires_s, date));
        *ret = keys;
        return 0;
}

void trust_merge_keys(struct trust *t, const struct key_list *list)
{
        struct key_list *keys = &t->keys;

        for (size_t i = 0; i < list->n && keys->n < KEY_LIST_KEYS_MAX; i++)
                if (!key_list_find(keys, list->keys[i].key.id))
                        keys->keys[keys->n++] = list->keys[i];
        for (size_t i = 0; i < list->revoked_n && keys->revoked_n < KEY_LIST_REVOKED_MAX; i++)
                if (!key_list_revokes(keys, list->revoked[i]))
                        memcpy(keys->revoked[keys->revoked_n++], list->revoked[i], MINISIGN_ID_SIZE);
}

/* ---- of models ---- */

static int check_key(const struct trust *t, const unsigned char id[MINISIGN_ID_SIZE],
                     const struct release_key **ret, struct err *e)
{
        const struct release_key *key = key_list_find(&t->keys, id);
        char hex[MINISIGN_ID_HEX_SIZE], date[DATE_SIZE];

        minisign_id_hex(id, hex);
        if (key_list_revokes(&t->keys, id))
                return err_set(e, -EKEYREVOKED, "signed with key %s, which is revoked", hex);
        if (!key)
                return no_key(id, "release", e);
        if (key->expires_s != 0 && key->expires_s < t->now_s)
                return err_set(e, -EKEYEXPIRED, "signed with key %s, which expired on %s", hex,
                               date_of(key->expires_s, date));
        *ret = key;
        return 0;
}

static int check_age(const struct trust *t, const struct statement *s, struct err *e)
{
        char date[DATE_SIZE], other[DATE_SIZE];

        if (t->downgrade)
                return 0;
        if (s->expires_s != 0 && s->expires_s < t->now_s)
                return err_set(e, -ESTALE, "what the signature says was good until %s only",
                               date_of(s->expires_s, date));
        if (s->version < t->version)
                return err_set(e, -ESTALE,
                               "version %" PRIu64 " is older than version %" PRIu64 ", which is installed",
                               s->version, t->version);
        if (s->time_s < t->time_s)
                return err_set(e, -ESTALE, "signed on %s, before what is installed (%s)",
                               date_of(s->time_s, date), date_of(t->time_s, other));
        return 0;
}

/* data NULL: only the statement is verified. */
static int check(const struct trust *t, const struct slot *slot, const struct buf *text, const void *data,
                 size_t size, struct statement *ret, struct err *e)
{
        const struct release_key *key = NULL;
        struct minisign_signature signature;
        struct statement s;
        int r;

        if (text->size == 0)
                return err_set(e, -EBADMSG, "it is not signed");
        r = minisign_parse_signature(text->data, text->size, &signature, e);
        if (r == 0)
                r = check_key(t, signature.id, &key, e);
        if (r == 0)
                r = data ? minisign_verify(&signature, &key->key, data, size, e)
                         : minisign_verify_comment(&signature, &key->key, e);
        if (r == 0)
                r = statement_parse(signature.comment, &s, e);
        if (r < 0)
                return r;
        if (strcmp(s.slot, slot->text) != 0)
                return err_set(e, -EPROTO, "signed for %s, not for %s", s.slot, slot->text);
        r = check_age(t, &s, e);
        if (r < 0)
                return r;
        *ret = s;
        return 0;
}

int trust_check(const struct trust *t, const struct slot *slot, const struct buf *signature, const void *data,
                size_t size, struct statement *ret, struct err *e)
{
        return check(t, slot, signature, data, size, ret, e);
}

int trust_confirm(const struct trust *t, const struct slot *slot, const struct buf *signature, const char *id,
                  struct statement *ret, struct err *e)
{
        struct statement s;
        int r;

        r = check(t, slot, signature, NULL, 0, &s, e);
        if (r == 0 && strcmp(s.id, id) != 0)
                r = err_set(e, -EKEYREJECTED, "the files are not what was signed");
        if (r == 0)
                *ret = s;
        return r;
}
