/* SPDX-License-Identifier: Apache-2.0 */
/* The other side of an air gap: the manifest's signature, then each bundle's digest, then off to the
 * destinations. What a destination has acknowledged is in <state>/<destination>.imported, a line per bundle
 * ("<sha256> <node id> <number>"), so import may be repeated, and bundles that never came are named. */
#include "trainer-client/import.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include "common/file.h"
#include "common/gzip.h"
#include "common/log.h"
#include "config/cli.h"
#include "trainer-client/bundle.h"
#include "trainer-client/bundle_lines.h"

#define JOURNAL_MAX  ((size_t)64 << 20)
#define LINES_MAX    ((size_t)1 << 30)
#define BUNDLES_MAX  1000000
#define JOURNAL_MODE 0640
#define KEY_MODE     0600
#define PUB_MODE     0644

struct import {
        const struct options *options;
        struct destination *d;
        const char *dir;
        struct buf journal;
        int journal_fd;
        size_t sent, known, failed, missing;
};

/* ---- the journal ---- */

static int open_journal(struct import *m, struct err *e)
{
        char path[PATH_MAX];
        int r;

        buf_init(&m->journal, JOURNAL_MAX);
        if (snprintf(path, sizeof(path), "%s/%s.imported", m->options->state_path, m->d->own.name) >=
            (int)sizeof(path))
                return err_set(e, -ENAMETOOLONG, "state.path is too long");
        r = file_read(path, &m->journal, e);
        if (r < 0 && r != -ENOENT)
                return r;
        m->journal_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, JOURNAL_MODE);
        return m->journal_fd < 0 ? err_sys(e, "cannot open '%s'", path) : 0;
}

static bool is_imported(const struct import *m, const struct bundle *b)
{
        return m->journal.data && strstr(m->journal.data, b->sha256);
}

static int note_import(struct import *m, const struct bundle *b, struct err *e)
{
        char line[HASH_HEX_SIZE + BUNDLE_TEXT_MAX + 32];
        int n = snprintf(line, sizeof(line), "%s %s %lld\n", b->sha256, b->node_id, (long long)b->number);
        int r = file_write_all(m->journal_fd, line, (size_t)n);

        if (r == 0 && fsync(m->journal_fd) < 0)
                r = -errno;
        if (r < 0)
                return err_set(e, r, "cannot write the journal of imports: %s", strerror(-r));
        return buf_puts(&m->journal, line);
}

/* Numbers grow by one, so what is between two that came and did not come itself is missing. */
static void name_missing(struct import *m, const struct manifest *all)
{
        const struct bundle *last = &all->bundle[all->n - 1];
        int64_t gap = 0;
        char key[BUNDLE_TEXT_MAX + 32];

        for (int64_t n = 1; n <= last->number; n++) {
                bool there = true;

                (void)snprintf(key, sizeof(key), " %s %lld\n", last->node_id, (long long)n);
                there = m->journal.data && strstr(m->journal.data, key);
                if (!there && gap == 0)
                        gap = n;
                if (there && gap > 0) {
                        log_warning("bundles %lld to %lld of node '%s' have not come to %s", (long long)gap,
                                    (long long)n - 1, last->node_id, m->d->own.name);
                        m->missing += (size_t)(n - gap);
                        gap = 0;
                }
        }
}

/* ---- one bundle ---- */

static int load_bundle(const struct import *m, const struct bundle *b, struct buf *body, struct err *e)
{
        char name[BUNDLE_NAME_MAX], path[PATH_MAX], digest[HASH_HEX_SIZE];
        int r;

        bundle_name(b->number, name);
        if (path_join(path, sizeof(path), m->dir, name) < 0)
                return err_set(e, -ENAMETOOLONG, "'%s' is too long", m->dir);
        r = file_read(path, body, e);
        if (r < 0)
                return r;
        hash_sha256_hex(body->data, body->size, digest);
        if (body->size != (size_t)b->bytes || strcmp(digest, b->sha256) != 0)
                return err_set(e, -EBADMSG, "bundle '%s' is not what its manifest says", path);
        return 0;
}

static void name_parcel(const struct bundle *b, struct parcel *p)
{
        p->range =
                (struct cursor_range){ .first_id = b->first_id, .last_id = b->last_id, .end_ms = b->end_ms };
        p->first_end_ms = b->first_end_ms;
        p->intervals = b->last_id - b->first_id + 1;
        p->samples = (size_t)b->samples;
        (void)snprintf(p->range.epoch, sizeof(p->range.epoch), "%s", b->epoch);
        (void)snprintf(p->node_id, sizeof(p->node_id), "%s", b->node_id);
        (void)snprintf(p->name, sizeof(p->name), "%.64s/%.64s/%lld-%lld", b->node_id, b->epoch,
                       (long long)b->first_id, (long long)b->last_id);
}

/* Lines [text, end): sent as one, or, when that is too much, as two halves. */
static int send_lines(struct import *m, const struct bundle *b, const char *text, size_t size, struct err *e)
{
        const struct bundle_lines lines = { text, size };
        const struct series_source source = series_of_lines(&lines);
        struct parcel p;
        int r;

        parcel_init(&p);
        name_parcel(b, &p);
        p.again = true; /* another import may have sent it */
        r = m->d->row->encode(m->d, &source, &p, e);
        if (r == 0)
                r = destination_deliver(m->d, &p, e);
        parcel_done(&p);
        if (r == -E2BIG || r == -EFBIG) {
                const char *half = memchr(text + size / 2, '\n', size - size / 2);
                size_t first = half ? (size_t)(half - text) + 1 : size;

                if (first == size) /* the last line is more than half of it */
                        for (first = size / 2; first > 0 && text[first - 1] != '\n';)
                                first--;
                if (first == 0 || first == size)
                        return r;
                r = send_lines(m, b, text, first, e);
                return r < 0 ? r : send_lines(m, b, text + first, size - first, e);
        }
        return r;
}

static int send_converted(struct import *m, const struct bundle *b, const struct buf *body, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        int r;

        buf_init(&text, LINES_MAX);
        r = gzip_unpack(body->data, body->size, &text, e);
        return r < 0 ? r : send_lines(m, b, text.data ? text.data : "", text.size, e);
}

static int send_bundle(struct import *m, const struct bundle *b, struct err *e)
{
        struct parcel p;
        int r;

        parcel_init(&p);
        name_parcel(b, &p);
        r = load_bundle(m, b, &p.body, e);
        if (r == 0) {
                if (m->d->row->encode == encode_lines)
                        r = destination_deliver(m->d, &p, e);
                if (m->d->row->encode != encode_lines || r == -E2BIG)
                        r = send_converted(m, b, &p.body, e);
        }
        parcel_done(&p);
        return r == 0 ? note_import(m, b, e) : r;
}

static int send_all(struct import *m, const struct manifest *all, struct err *e)
{
        int result = 0;

        for (size_t i = 0; i < all->n; i++) {
                int r;

                if (is_imported(m, &all->bundle[i])) {
                        m->known++;
                        continue;
                }
                r = send_bundle(m, &all->bundle[i], e);
                if (r == 0) {
                        m->sent++;
                        continue;
                }
                m->failed++;
                result = r;
                if (r == -EAGAIN || r == -EPERM) /* the others would fail, too */
                        break;
                (void)log_error(r, "%s", e->text);
        }
        if (all->n > 0)
                name_missing(m, all);
        return result;
}

/* ---- import ---- */

static int import_to(const struct options *o, enum kind kind, const char *dir, const struct manifest *all)
{
        CLEANUP(destination_freep) struct destination *d = NULL;
        CLEANUP(closep) int lock = -1;
        struct import m = { .options = o, .dir = dir, .journal_fd = -1 };
        struct err e = { "" };
        int r;

        r = destination_open(o, kind, &d, &e);
        if (r == 0)
                r = cursor_lock(o->state_path, d->own.name, &lock, &e);
        if (r == 0) {
                m.d = d;
                r = open_journal(&m, &e);
        }
        if (r == 0)
                r = send_all(&m, all, &e);
        if (d)
                (void)printf(
                        "%zu bundles acknowledged by %s, %zu were there, %zu failed, %zu have not come\n",
                        m.sent, d->own.name, m.known, m.failed, m.missing);
        closep(&m.journal_fd);
        buf_done(&m.journal);
        if (r < 0)
                return log_error(r, "%s", e.text);
        return m.sent > 0 ? EXIT_DONE : EXIT_NOTHING;
}

int import_run(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        CLEANUP(freep) struct minisign_public *keys = NULL;
        CLEANUP(buf_done) struct buf text = { 0 };
        struct manifest all = { NULL, 0 };
        struct err e = { "" };
        int r, status = EXIT_NOTHING;
        size_t n_keys = 0;

        (void)argc;
        r = bundle_read_keys(o->import_public_key_file, &keys, &n_keys, &e);
        if (r == 0)
                r = manifest_load(argv[0], BUNDLES_MAX, &all, &text, &e);
        if (r == 0)
                r = manifest_verify(argv[0], &text, keys, n_keys, &e);
        if (r < 0) {
                manifest_done(&all);
                return log_error(r, "nothing is imported: %s", e.text);
        }
        for (int kind = 0; kind < KIND_N; kind++) {
                if (!options_enabled(o, (enum kind)kind) || kind == KIND_FILE)
                        continue;
                r = import_to(o, (enum kind)kind, argv[0], &all);
                if (r < 0 || status < 0)
                        status = r < 0 ? r : status;
                else if (r == EXIT_DONE)
                        status = EXIT_DONE;
        }
        manifest_done(&all);
        return status;
}

int keygen_run(const void *options, int argc, char **argv)
{
        CLEANUP(buf_done) struct buf secret_text;
        CLEANUP(buf_done) struct buf public_text;
        struct minisign_secret secret;
        struct minisign_public public;
        char path[PATH_MAX];
        struct err e = { "" };
        int r;

        (void)options;
        (void)argc;
        buf_init(&secret_text, MINISIGN_TEXT_MAX);
        buf_init(&public_text, MINISIGN_TEXT_MAX);
        if (snprintf(path, sizeof(path), "%s.pub", argv[0]) >= (int)sizeof(path))
                return log_error(-ENAMETOOLONG, "'%s' is too long", argv[0]);
        if (access(argv[0], F_OK) == 0 || access(path, F_OK) == 0)
                return log_error(-EEXIST, "'%s' or its .pub is there already; a key is never overwritten",
                                 argv[0]);
        r = minisign_generate(&secret, &e);
        if (r == 0) {
                minisign_public_of(&secret, &public);
                r = minisign_write_secret(&secret, &secret_text);
        }
        if (r == 0)
                r = minisign_write_public(&public, &public_text);
        if (r == 0)
                r = file_write_atomic(argv[0], secret_text.data, secret_text.size, KEY_MODE, &e);
        if (r == 0)
                r = file_write_atomic(path, public_text.data, public_text.size, PUB_MODE, &e);
        explicit_bzero(&secret, sizeof(secret));
        if (secret_text.data)
                explicit_bzero(secret_text.data, secret_text.size);
        if (r < 0)
                return log_error(r, "cannot make a key: %s", *e.text ? e.text : strerror(-r));
        (void)printf("secret key: %s (stays here)\npublic key: %s (goes to import.public_key_file)\n",
                     argv[0], path);
        return EXIT_DONE;
}
