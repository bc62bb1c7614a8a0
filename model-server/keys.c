/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sodium.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "config/cli.h"
#include "model-server/options.h"
#include "model-server/serve/signer.h"
#include "schema/key_list.h"

/* A list in work. */
struct work {
        const char *path, *root; /* root "-": somebody else signs it */
        int64_t now_s, expires_s;
        struct key_list list;
};

/* ---- make ---- */

/* Never over another key: a lost one cannot be made again. */
static int write_new(const char *path, const struct buf *text, mode_t mode, struct err *e)
{
        CLEANUP(closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

        if (fd < 0)
                return err_sys(e, "cannot make '%s'", path);
        if (file_write_all(fd, text->data, text->size) < 0 || fsync(fd) < 0) {
                int r = err_sys(e, "cannot write '%s'", path);

                (void)unlink(path);
                return r;
        }
        return 0;
}

static int make(const struct options *o, int argc, char **argv, struct err *e)
{
        CLEANUP(buf_done) struct buf secret = { 0 }, public = { 0 };
        struct minisign_secret key;
        struct minisign_public pub;
        char path[PATH_MAX], id[MINISIGN_ID_HEX_SIZE];
        int r;

        (void)o;
        (void)argc;
        if (snprintf(path, sizeof(path), "%s.pub", argv[0]) >= (int)sizeof(path))
                return err_set(e, -ENAMETOOLONG, "'%.100s...' is too long", argv[0]);
        buf_init(&secret, MINISIGN_TEXT_MAX);
        buf_init(&public, MINISIGN_TEXT_MAX);
        r = minisign_generate(&key, e);
        if (r < 0)
                return r;
        minisign_public_of(&key, &pub);
        minisign_id_hex(key.id, id);
        r = minisign_write_secret(&key, &secret);
        if (r == 0)
                r = minisign_write_public(&pub, &public);
        sodium_memzero(&key, sizeof(key));
        r = r < 0 ? err_set(e, r, "out of memory") : write_new(argv[0], &secret, 0600, e);
        if (secret.data)
                sodium_memzero(secret.data, secret.size);
        if (r == 0)
                r = write_new(path, &public, 0644, e);
        if (r == 0)
                (void)printf("key %s: secret in %s, public in %s\n", id, argv[0], path);
        return r;
}

/* ---- lists ---- */

/* What the list was; none yet is an empty one. */
static int open_list(const struct options *o, char **argv, struct work *w, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        int r;

        *w = (struct work){ .path = argv[0], .root = argv[1], .now_s = clock_wall_ms() / 1000 };
        w->expires_s = o->expires_ms > 0 ? w->now_s + o->expires_ms / 1000 : 0;
        buf_init(&text, KEY_LIST_MAX);
        r = file_read(w->path, &text, e);
        if (r == -ENOENT)
                return 0;
        return r < 0 ? r : key_list_parse(text.data ? text.data : "", text.size, &w->list, e);
}

static int write_signature(const struct work *w, const struct buf *text, struct err *e)
{
        CLEANUP(buf_done) struct buf signature = { 0 };
        char path[PATH_MAX], comment[128];
        struct minisign_secret root;
        int r;

        if (snprintf(path, sizeof(path), "%s.minisig", w->path) >= (int)sizeof(path))
                return err_set(e, -ENAMETOOLONG, "'%.100s...' is too long", w->path);
        r = signer_read_key(w->root, &root, e);
        if (r < 0)
                return r;
        (void)snprintf(comment, sizeof(comment), "wattloop keys version:%" PRId64 " time:%" PRId64,
                       w->list.version, w->list.time_s);
        buf_init(&signature, MINISIGN_TEXT_MAX);
        r = minisign_sign(&root, text->data, text->size, comment, &signature, e);
        sodium_memzero(&root, sizeof(root));
        return r < 0 ? r : file_write_atomic(path, signature.data, signature.size, 0644, e);
}

static int close_list(struct work *w, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        int r;

        w->list.version++;
        w->list.time_s = w->now_s > w->list.time_s ? w->now_s : w->list.time_s;
        w->list.expires_s = w->expires_s;
        buf_init(&text, KEY_LIST_MAX);
        if (key_list_write(&w->list, &text) < 0)
                return err_set(e, text.failed, "cannot write the list: %s", strerror(-text.failed));
        r = strcmp(w->root, "-") != 0 ? write_signature(w, &text, e)
                                      : 0; /* first: a bad key changes nothing */
        if (r == 0)
                r = file_write_atomic(w->path, text.data, text.size, 0644, e);
        if (r == 0)
                (void)printf("%s: version %" PRId64 ", %zu keys, %zu revoked%s%s%s\n", w->path,
                             w->list.version, w->list.n, w->list.revoked_n,
                             strcmp(w->root, "-") != 0 ? "" : "; sign it with: minisign -S -m ",
                             strcmp(w->root, "-") != 0 ? "" : w->path,
                             strcmp(w->root, "-") != 0 ? ", signed" : "");
        return r;
}

static void drop(struct key_list *list, const unsigned char id[MINISIGN_ID_SIZE])
{
        for (size_t i = 0; i < list->n; i++)
                if (memcmp(list->keys[i].key.id, id, MINISIGN_ID_SIZE) == 0) {
                        memmove(&list->keys[i], &list->keys[i + 1],
                                (list->n - i - 1) * sizeof(list->keys[0]));
                        list->n--;
                        return;
                }
}

/* The keys that are named are the ones on the list. Those that were revoked stay so. */
static int sign(const struct options *o, int argc, char **argv, struct err *e)
{
        struct work w;
        int r = open_list(o, argv, &w, e);

        w.list.n = 0;
        for (int i = 2; r == 0 && i < argc; i++) {
                struct minisign_public key;

                r = minisign_read_public(argv[i], &key, e);
                if (r == 0 && key_list_revokes(&w.list, key.id))
                        r = err_set(e, -EKEYREVOKED, "'%s' is revoked; make another key", argv[i]);
                if (r == 0 && w.list.n == KEY_LIST_KEYS_MAX)
                        r = err_set(e, -E2BIG, "more than %d keys", KEY_LIST_KEYS_MAX);
                if (r == 0 && !key_list_find(&w.list, key.id))
                        w.list.keys[w.list.n++] = (struct release_key){ .key = key };
        }
        return r < 0 ? r : close_list(&w, e);
}

/* An id of 16 hex digits, as minisign prints it, or a public key file. */
static int find_id(const char *word, unsigned char ret[MINISIGN_ID_SIZE], struct err *e)
{
        struct minisign_public key;
        unsigned char raw[MINISIGN_ID_SIZE];
        size_t n = 0;
        int r;

        if (strlen(word) == MINISIGN_ID_HEX_SIZE - 1 &&
            sodium_hex2bin(raw, sizeof(raw), word, strlen(word), NULL, &n, NULL) == 0 && n == sizeof(raw)) {
                for (size_t i = 0; i < sizeof(raw); i++)
                        ret[i] = raw[sizeof(raw) - 1 - i];
                return 0;
        }
        r = minisign_read_public(word, &key, e);
        if (r == 0)
                memcpy(ret, key.id, sizeof(key.id));
        return r;
}

static int revoke_keys(const struct options *o, int argc, char **argv, struct err *e)
{
        struct work w;
        int r = open_list(o, argv, &w, e);

        for (int i = 2; r == 0 && i < argc; i++) {
                unsigned char id[MINISIGN_ID_SIZE];

                r = find_id(argv[i], id, e);
                if (r < 0)
                        break;
                drop(&w.list, id);
                if (key_list_revokes(&w.list, id))
                        continue;
                if (w.list.revoked_n == KEY_LIST_REVOKED_MAX)
                        return err_set(e, -E2BIG, "more than %d revoked keys", KEY_LIST_REVOKED_MAX);
                memcpy(w.list.revoked[w.list.revoked_n++], id, sizeof(id));
        }
        return r < 0 ? r : close_list(&w, e);
}

static void print_time(const char *name, int64_t s)
{
        time_t t = (time_t)s;
        char text[32] = "never";
        struct tm tm;

        if (s && gmtime_r(&t, &tm))
                (void)strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", &tm);
        (void)printf("%s %s", name, text);
}

static int show(const struct options *o, int argc, char **argv, struct err *e)
{
        char *const args[] = { argv[0], (char *)(uintptr_t) "-" };
        char id[MINISIGN_ID_HEX_SIZE];
        struct work w;
        int r = access(argv[0], R_OK) < 0 ? err_sys(e, "cannot read '%s'", argv[0])
                                          : open_list(o, (char **)(uintptr_t)args, &w, e);

        (void)argc;
        if (r < 0)
                return r;
        (void)printf("version %" PRId64, w.list.version);
        print_time(", made", w.list.time_s);
        print_time(", expires", w.list.expires_s);
        (void)printf("\n");
        for (size_t i = 0; i < w.list.n; i++) {
                minisign_id_hex(w.list.keys[i].key.id, id);
                (void)printf("key %s", id);
                print_time(", expires", w.list.keys[i].expires_s);
                (void)printf("\n");
        }
        for (size_t i = 0; i < w.list.revoked_n; i++) {
                minisign_id_hex(w.list.revoked[i], id);
                (void)printf("revoked %s\n", id);
        }
        return 0;
}

static const struct {
        const char *name, *args;
        int min, max;
        int (*run)(const struct options *o, int argc, char **argv, struct err *e);
} acts[] = {
        { "make", "FILE", 1, 1, make },
        { "sign", "LIST ROOT KEY.pub...", 3, 2 + KEY_LIST_KEYS_MAX, sign },
        { "revoke", "LIST ROOT KEY...", 3, 2 + KEY_LIST_REVOKED_MAX, revoke_keys },
        { "show", "LIST", 1, 1, show },
};

int keys_run(const void *options, int argc, char **argv)
{
        struct err e = { "" };
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
                if (strcmp(acts[i].name, argv[0]) != 0)
                        continue;
                if (argc - 1 < acts[i].min || argc - 1 > acts[i].max) {
                        (void)log_error(-EINVAL, "it is: keys %s %s", acts[i].name, acts[i].args);
                        return EXIT_MISUSE;
                }
                r = acts[i].run(options, argc - 1, argv + 1, &e);
                return r < 0 ? log_error(r, "%s", e.text) : EXIT_DONE;
        }
        (void)log_error(-EINVAL, "'keys %.32s' is not known: keys make, sign, revoke or show", argv[0]);
        return EXIT_MISUSE;
}
