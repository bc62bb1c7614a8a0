/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/keyring.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/file.h"
#include "updater/examine.h"

#define KEYRING_DIR ".state"

static void remove_list(const char *dir)
{
        static const char *const names[] = { EXAMINE_KEYS, EXAMINE_KEYS_SIG };
        char path[PATH_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (path_join(path, sizeof(path), dir, names[i]) == 0)
                        (void)unlink(path); /* what remains is removed at the next start */
}

/* List and signature from a directory. -ENOENT: not there. */
static int read_list(const char *dir, struct buf *list, struct buf *signature, struct err *e)
{
        char path[PATH_MAX];
        int r;

        if (path_join(path, sizeof(path), dir, EXAMINE_KEYS_SIG) < 0)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", dir);
        r = file_read(path, signature, e);
        if (r < 0)
                return r;
        if (path_join(path, sizeof(path), dir, EXAMINE_KEYS) < 0)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", dir);
        return file_read(path, list, e);
}

static int state_dir(const struct options *o, char ret[PATH_MAX], struct err *e)
{
        return path_join(ret, PATH_MAX, o->store_path, KEYRING_DIR) < 0
                       ? err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", o->store_path)
                       : 0;
}

static void add_list(struct keyring *k, const struct key_list *list)
{
        struct trust trust = { .keys = k->keys };

        trust_merge_keys(&trust, list);
        k->keys = trust.keys;
        k->keys.version = list->version;
}

int keyring_load(const struct options *o, int64_t now_s, struct keyring *ret, struct err *note, struct err *e)
{
        CLEANUP(buf_done) struct buf list = { 0 }, signature = { 0 };
        struct keyring k = { 0 };
        struct key_list keys;
        char dir[PATH_MAX];
        int r = 0;

        *note = (struct err){ "" };
        if (o->trust_keys.n > KEY_LIST_KEYS_MAX || o->trust_root_keys.n > KEYRING_ROOTS_MAX)
                return err_set(e, -E2BIG, "at most %d trust.keys and %d trust.root_keys", KEY_LIST_KEYS_MAX,
                               KEYRING_ROOTS_MAX);
        for (size_t i = 0; r == 0 && i < o->trust_keys.n; i++)
                r = minisign_read_public(o->trust_keys.items[i], &k.keys.keys[k.keys.n++].key, e);
        for (size_t i = 0; r == 0 && i < o->trust_root_keys.n; i++)
                r = minisign_read_public(o->trust_root_keys.items[i], &k.roots[k.roots_n++], e);
        if (r == 0)
                r = state_dir(o, dir, e);
        if (r < 0)
                return r;
        buf_init(&list, KEY_LIST_MAX);
        buf_init(&signature, MINISIGN_TEXT_MAX);
        if (k.roots_n > 0) {
                r = read_list(dir, &list, &signature, note);
                if (r == 0)
                        r = trust_accept_keys(k.roots, k.roots_n, &list, &signature, 0, now_s, &keys, note);
                if (r == 0)
                        add_list(&k, &keys);
                else if (r == -ENOENT)
                        *note = (struct err){ "" };
        }
        *ret = k;
        return 0;
}

int keyring_keep(const struct options *o, const char *staging, int64_t now_s, struct keyring *k,
                 struct err *e)
{
        CLEANUP(buf_done) struct buf list = { 0 }, signature = { 0 };
        char dir[PATH_MAX], path[PATH_MAX];
        struct key_list keys;
        int r;

        buf_init(&list, KEY_LIST_MAX);
        buf_init(&signature, MINISIGN_TEXT_MAX);
        r = read_list(staging, &list, &signature, e);
        remove_list(staging);
        if (r == 0)
                r = trust_accept_keys(k->roots, k->roots_n, &list, &signature, k->keys.version, now_s, &keys,
                                      e);
        if (r == 0)
                r = state_dir(o, dir, e);
        if (r == 0)
                r = file_mkdirs(dir, 0755, e);
        if (r < 0)
                return r;
        add_list(k, &keys);
        /* The list first: with an old signature it is refused and fetched again. */
        if (path_join(path, sizeof(path), dir, EXAMINE_KEYS) == 0)
                r = file_write_atomic(path, list.data, list.size, 0644, e);
        if (r == 0 && path_join(path, sizeof(path), dir, EXAMINE_KEYS_SIG) == 0)
                r = file_write_atomic(path, signature.data, signature.size, 0644, e);
        return r;
}
