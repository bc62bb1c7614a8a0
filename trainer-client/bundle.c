/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/bundle.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include "common/file.h"
#include "common/json.h"
#include "trainer-client/destination.h"

#define MANIFEST     "manifest.json"
#define SIGNATURE    MANIFEST ".minisig"
#define MANIFEST_MAX ((size_t)256 << 20)
#define KEYS_MAX     64
#define DIR_MODE     0755
#define FILE_MODE    0644

struct bundles {
        char *dir; /* owned */
        size_t max;
        struct minisign_secret key;
        struct manifest manifest;
};

void manifest_done(struct manifest *m)
{
        free(m->bundle);
        *m = (struct manifest){ NULL, 0 };
}

void bundle_name(int64_t number, char ret[BUNDLE_NAME_MAX])
{
        (void)snprintf(ret, BUNDLE_NAME_MAX, "%06lld.jsonl.gz", (long long)number);
}

static int file_in(const char *dir, const char *name, char ret[PATH_MAX], struct err *e)
{
        return path_join(ret, PATH_MAX, dir, name) < 0 ? err_set(e, -ENAMETOOLONG, "'%s' is too long", dir)
                                                       : 0;
}

/* ---- the manifest ---- */

static int get_text(const json_t *object, const char *key, char ret[BUNDLE_TEXT_MAX], struct err *e)
{
        const char *text;
        int r = json_get_string(object, key, &text, e);

        if (r == 0 && snprintf(ret, BUNDLE_TEXT_MAX, "%s", text) >= BUNDLE_TEXT_MAX)
                r = err_set(e, -EBADMSG, "'%s' is too long", key);
        return r;
}

static int get_count(const json_t *object, const char *key, int64_t *ret, struct err *e)
{
        long long v = 0;
        int r = json_get_int(object, key, &v, e);

        if (r == 0 && v < 0)
                r = err_set(e, -EBADMSG, "'%s' is negative", key);
        *ret = v;
        return r;
}

static int parse_bundle(const json_t *object, struct bundle *b, struct err *e)
{
        const struct {
                const char *key;
                int64_t *value;
        } counts[] = {
                { "number", &b->number },  { "bytes", &b->bytes },  { "samples", &b->samples },
                { "first", &b->first_id }, { "last", &b->last_id }, { "first_end_ms", &b->first_end_ms },
                { "end_ms", &b->end_ms },
        };
        const char *digest;
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(counts) && r == 0; i++)
                r = get_count(object, counts[i].key, counts[i].value, e);
        if (r == 0)
                r = get_text(object, "node_id", b->node_id, e);
        if (r == 0)
                r = get_text(object, "epoch", b->epoch, e);
        if (r == 0)
                r = json_get_string(object, "sha256", &digest, e);
        if (r < 0)
                return r;
        if (snprintf(b->sha256, sizeof(b->sha256), "%s", digest) != HASH_HEX_SIZE - 1)
                return err_set(e, -EBADMSG, "'sha256' is no digest");
        return 0;
}

static int parse_manifest(const json_t *object, size_t max, struct manifest *ret, struct err *e)
{
        const json_t *array = json_object_get(object, "bundles"), *item;
        struct manifest m = { NULL, 0 };
        size_t i;
        int r = 0;

        if (!json_is_array(array) || json_array_size(array) > max)
                return err_set(e, -EBADMSG, "'bundles' is not an array of at most %zu", max);
        m.bundle = calloc(json_array_size(array) + 1, sizeof(*m.bundle));
        if (!m.bundle)
                return err_set(e, -ENOMEM, "out of memory");
        json_array_foreach (array, i, item) {
                r = parse_bundle(item, &m.bundle[m.n], e);
                if (r == 0 && i > 0 && m.bundle[m.n].number <= m.bundle[m.n - 1].number)
                        r = err_set(e, -EBADMSG, "the bundles are not in order");
                if (r < 0)
                        break;
                m.n++;
        }
        if (r == 0)
                *ret = m;
        else
                manifest_done(&m);
        return r;
}

int manifest_load(const char *dir, size_t max, struct manifest *ret, struct buf *ret_text, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        char path[PATH_MAX];
        int r;

        buf_init(ret_text, MANIFEST_MAX);
        r = file_in(dir, MANIFEST, path, e);
        if (r == 0)
                r = file_read(path, ret_text, e);
        if (r < 0)
                return r;
        r = json_parse(ret_text->data ? ret_text->data : "", ret_text->size, path, &object, e);
        if (r == 0)
                r = parse_manifest(object, max, ret, e);
        return r == 0 ? 0 : err_prefix(e, r == -ENOMEM ? r : -EBADMSG, "manifest '%s'", path);
}

int manifest_verify(const char *dir, const struct buf *text, const struct minisign_public *keys, size_t n,
                    struct err *e)
{
        CLEANUP(buf_done) struct buf signed_text;
        struct minisign_signature signature;
        char path[PATH_MAX];
        int r;

        buf_init(&signed_text, MINISIGN_TEXT_MAX);
        r = file_in(dir, SIGNATURE, path, e);
        if (r == 0)
                r = file_read(path, &signed_text, e);
        if (r == 0)
                r = minisign_parse_signature(signed_text.data ? signed_text.data : "", signed_text.size,
                                             &signature, e);
        if (r < 0)
                return r;
        r = err_set(e, -ENOKEY, "there is no public key");
        for (size_t i = 0; i < n && r == -ENOKEY; i++)
                r = minisign_verify(&signature, &keys[i], text->data, text->size, e);
        return r < 0 ? err_prefix(e, r, "'%s'", path) : 0;
}

static int write_manifest(struct bundles *b, const struct manifest *m, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        CLEANUP(buf_done) struct buf signature;
        char path[PATH_MAX], comment[BUNDLE_TEXT_MAX + 64];
        int r;

        buf_init(&text, MANIFEST_MAX);
        buf_init(&signature, MINISIGN_TEXT_MAX);
        (void)buf_puts(&text, "{\"version\": 1, \"bundles\": [");
        for (size_t i = 0; i < m->n; i++) {
                const struct bundle *one = &m->bundle[i];
                char name[BUNDLE_NAME_MAX];

                bundle_name(one->number, name);
                (void)buf_printf(&text, "%s\n{\"number\": %lld, \"file\": \"%s\", \"sha256\": \"%s\", ",
                                 i > 0 ? "," : "", (long long)one->number, name, one->sha256);
                (void)buf_printf(&text,
                                 "\"bytes\": %lld, \"samples\": %lld, \"node_id\": ", (long long)one->bytes,
                                 (long long)one->samples);
                (void)json_write_string(&text, one->node_id);
                (void)buf_puts(&text, ", \"epoch\": ");
                (void)json_write_string(&text, one->epoch);
                (void)buf_printf(
                        &text, ", \"first\": %lld, \"last\": %lld, \"first_end_ms\": %lld, \"end_ms\": %lld}",
                        (long long)one->first_id, (long long)one->last_id, (long long)one->first_end_ms,
                        (long long)one->end_ms);
        }
        (void)buf_puts(&text, "\n]}\n");
        if (text.failed)
                return err_set(e, text.failed, "cannot write the manifest: %s", strerror(-text.failed));
        (void)snprintf(comment, sizeof(comment), "wattloop bundles up to %lld",
                       (long long)m->bundle[m->n - 1].number);
        r = minisign_sign(&b->key, text.data, text.size, comment, &signature, e);
        /* a crash between the two leaves a manifest whose signature does not fit: the next push writes both
         */
        if (r == 0)
                r = file_in(b->dir, MANIFEST, path, e);
        if (r == 0)
                r = file_write_atomic(path, text.data, text.size, FILE_MODE, e);
        if (r == 0)
                r = file_in(b->dir, SIGNATURE, path, e);
        return r == 0 ? file_write_atomic(path, signature.data, signature.size, FILE_MODE, e) : r;
}

/* ---- the writing side ---- */

static int read_secret_key(const char *path, struct minisign_secret *ret, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        int r;

        if (!*path)
                return err_set(
                        e, -EINVAL,
                        "destination file needs file.secret_key_file ('wattloop-trainer-client keygen' "
                        "makes one)");
        buf_init(&text, MINISIGN_TEXT_MAX);
        r = file_read(path, &text, e);
        if (r == 0)
                r = minisign_parse_secret(text.data ? text.data : "", text.size, ret, e);
        explicit_bzero(text.data, text.size);
        return r < 0 ? err_prefix(e, r, "file.secret_key_file") : 0;
}

int bundles_open(const char *dir, const char *secret_key_file, size_t max, struct bundles **ret,
                 struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        struct bundles *b = calloc(1, sizeof(*b));
        int r;

        if (!b || !(b->dir = strdup(dir))) {
                free(b);
                return err_set(e, -ENOMEM, "out of memory");
        }
        b->max = max;
        r = read_secret_key(secret_key_file, &b->key, e);
        if (r == 0)
                r = file_mkdirs(dir, DIR_MODE, e);
        if (r == 0) {
                r = manifest_load(dir, max, &b->manifest, &text, e);
                r = r == -ENOENT ? 0 : r;
        }
        if (r < 0)
                bundles_free(b);
        else
                *ret = b;
        return r;
}

void bundles_free(struct bundles *b)
{
        if (!b)
                return;
        explicit_bzero(&b->key, sizeof(b->key));
        manifest_done(&b->manifest);
        free(b->dir);
        free(b);
}

static bool is_there(const struct bundles *b, int64_t number)
{
        char name[BUNDLE_NAME_MAX], path[PATH_MAX];
        struct stat st;

        bundle_name(number, name);
        return file_in(b->dir, name, path, NULL) == 0 && stat(path, &st) == 0;
}

/* The manifest without what was taken away, and with room for one more. */
static int copy_manifest(const struct bundles *b, struct manifest *ret, struct err *e)
{
        ret->n = 0;
        ret->bundle = calloc(b->manifest.n + 1, sizeof(*ret->bundle));
        if (!ret->bundle)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < b->manifest.n; i++)
                if (is_there(b, b->manifest.bundle[i].number))
                        ret->bundle[ret->n++] = b->manifest.bundle[i];
        return 0;
}

static int write_bundle(const struct bundles *b, const struct bundle *bundle, const struct buf *body,
                        struct err *e)
{
        char name[BUNDLE_NAME_MAX], path[PATH_MAX];
        int r;

        bundle_name(bundle->number, name);
        r = file_in(b->dir, name, path, e);
        return r == 0 ? file_write_atomic(path, body->data, body->size, FILE_MODE, e) : r;
}

int bundles_add(struct bundles *b, struct bundle *bundle, const struct buf *body, struct err *e)
{
        struct manifest next;
        const struct bundle *last = b->manifest.n > 0 ? &b->manifest.bundle[b->manifest.n - 1] : NULL;
        int r;

        hash_sha256_hex(body->data, body->size, bundle->sha256);
        bundle->bytes = (int64_t)body->size;
        if (last && strcmp(last->sha256, bundle->sha256) == 0 && is_there(b, last->number)) {
                bundle->number = last->number; /* written by a push that ended before its cursor moved */
                return write_manifest(b, &b->manifest, e);
        }
        if (last && bundle->number <= last->number)
                bundle->number = last->number + 1;
        if (bundle->number < 1)
                bundle->number = 1;
        r = copy_manifest(b, &next, e);
        if (r == 0 && next.n >= b->max)
                r = err_set(e, -ENOSPC, "there are %zu bundles in '%s' (file.max_bundles): take them away",
                            next.n, b->dir);
        if (r == 0)
                r = write_bundle(b, bundle, body, e);
        if (r == 0) {
                next.bundle[next.n++] = *bundle;
                r = write_manifest(b, &next, e);
        }
        if (r < 0) {
                manifest_done(&next);
                return r;
        }
        manifest_done(&b->manifest);
        b->manifest = next;
        return 0;
}

int deliver_file(struct destination *d, struct parcel *p, struct err *e)
{
        struct bundle bundle = { .number = p->bundle,
                                 .samples = (int64_t)p->samples,
                                 .first_id = p->range.first_id,
                                 .last_id = p->range.last_id,
                                 .first_end_ms = p->first_end_ms,
                                 .end_ms = p->range.end_ms };
        int r;

        (void)snprintf(bundle.node_id, sizeof(bundle.node_id), "%s", p->node_id);
        (void)snprintf(bundle.epoch, sizeof(bundle.epoch), "%s", p->range.epoch);
        r = bundles_add(d->bundles, &bundle, &p->body, e);
        if (r == 0)
                p->bundle = bundle.number + 1;
        return r;
}

/* ---- keys ---- */

int bundle_read_keys(const char *path, struct minisign_public **ret, size_t *ret_n, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        struct minisign_public *keys;
        char *rest, *line;
        int r;

        if (!*path)
                return err_set(e, -EINVAL, "import.public_key_file is needed to verify the manifest");
        buf_init(&text, KEYS_MAX * MINISIGN_TEXT_MAX);
        r = file_read(path, &text, e);
        if (r < 0)
                return r;
        keys = calloc(KEYS_MAX, sizeof(*keys));
        if (!keys)
                return err_set(e, -ENOMEM, "out of memory");
        *ret_n = 0;
        for (rest = text.data; r == 0 && (line = strsep(&rest, "\n"));) {
                if (!*line || *line == '#' || strncmp(line, "untrusted comment:", 18) == 0)
                        continue;
                if (*ret_n == KEYS_MAX)
                        r = err_set(e, -EFBIG, "there are more than %d keys", KEYS_MAX);
                else
                        r = minisign_parse_public(line, strlen(line), &keys[(*ret_n)++], e);
        }
        if (r == 0 && *ret_n == 0)
                r = err_set(e, -EBADMSG, "there is no key");
        if (r < 0) {
                free(keys);
                return err_prefix(e, r, "import.public_key_file '%s'", path);
        }
        *ret = keys;
        return 0;
}
