/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/mirror.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/file.h"
#include "common/log.h"
#include "config/cli.h"
#include "model/model.h"
#include "schema/statement.h"
#include "updater/run.h"

#define MIRROR_MODE 0755
#define MIRROR_KEYS "api/v1"

void mirror_path(const struct slot *slot, const char *id, char ret[MIRROR_PATH_MAX])
{
        (void)snprintf(ret, MIRROR_PATH_MAX, "/%s/%s%s", slot->text, id ? id : "current.minisig",
                       !id                         ? ""
                       : slot->form == FORM_WEIGHT ? ".json"
                                                   : ".zip"); /* always fits */
}

/* Where a mirror in `dir` has it. */
static int file_of(const char *dir, const struct slot *slot, const char *id, char ret[PATH_MAX],
                   struct err *e)
{
        char path[MIRROR_PATH_MAX];

        mirror_path(slot, id, path);
        return snprintf(ret, PATH_MAX, "%s%s", dir, path) >= PATH_MAX
                       ? err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", dir)
                       : 0;
}

bool mirror_has(const char *dir, const struct slot *slot)
{
        char path[PATH_MAX];

        return file_of(dir, slot, NULL, path, NULL) == 0 && access(path, F_OK) == 0;
}

/* What is mirrored now. An own file that is missing or damaged is written anew. */
static bool read_current(const char *dir, const struct slot *slot, struct buf *text, struct statement *ret)
{
        struct minisign_signature signature;
        char path[PATH_MAX];

        *ret = (struct statement){ 0 };
        return file_of(dir, slot, NULL, path, NULL) == 0 && file_read(path, text, NULL) == 0 &&
               minisign_parse_signature(text->data ? text->data : "", text->size, &signature, NULL) == 0 &&
               statement_parse(signature.comment, ret, NULL) == 0;
}

/* ---- publishing ---- */

/* The bytes once more against the signature, here, where nothing of them is parsed. */
static int confirm(const struct update *u, const struct trust *trust, struct buf *bytes,
                   struct statement *ret, struct err *e)
{
        struct buf signature = { .data = (char *)u->found.signature, .size = strlen(u->found.signature) };
        int r;

        r = file_read(u->found.staged, bytes, e);
        return r < 0 ? r
                     : trust_check(trust, &u->slot, &signature, bytes->data ? bytes->data : "", bytes->size,
                                   ret, e);
}

/* The bytes first: a signature that can be read names bytes that are there. */
static int publish(const struct update *u, const char *dir, const struct statement *s,
                   const struct buf *bytes, struct err *e)
{
        char path[PATH_MAX], folder[PATH_MAX];
        int r;

        r = path_join(folder, sizeof(folder), dir, u->slot.text) < 0
                    ? err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", dir)
                    : file_mkdirs(folder, MIRROR_MODE, e);
        if (r == 0)
                r = file_of(dir, &u->slot, s->id, path, e);
        if (r == 0)
                r = file_write_atomic(path, bytes->data, bytes->size, 0644, e);
        if (r == 0)
                r = file_of(dir, &u->slot, NULL, path, e);
        return r < 0 ? r : file_write_atomic(path, u->found.signature, strlen(u->found.signature), 0644, e);
}

/* Models other than these two go. What cannot be removed does no harm. */
static void prune(const char *dir, const struct slot *slot, const char *current, const char *previous)
{
        CLEANUP(closedirp) DIR *d = NULL;
        struct dirent *entry;
        char folder[PATH_MAX], path[PATH_MAX];

        if (path_join(folder, sizeof(folder), dir, slot->text) < 0 || !(d = opendir(folder)))
                return;
        while ((entry = readdir(d))) {
                size_t n = strcspn(entry->d_name, ".");

                if (n == HASH_HEX_SIZE - 1 && strncmp(entry->d_name, current, n) != 0 &&
                    strncmp(entry->d_name, previous, n) != 0 &&
                    path_join(path, sizeof(path), folder, entry->d_name) == 0)
                        (void)unlink(path);
        }
}

/* From the kept list: it was verified. */
static int publish_keys(const char *dir, struct err *e)
{
        static const char *const names[][2] = { { EXAMINE_KEYS, "keys" },
                                                { EXAMINE_KEYS_SIG, "keys.minisig" } };
        char from[PATH_MAX], to[PATH_MAX], folder[PATH_MAX];
        int r;

        r = path_join(folder, sizeof(folder), dir, MIRROR_KEYS) < 0
                    ? err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", dir)
                    : file_mkdirs(folder, MIRROR_MODE, e);
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
                CLEANUP(buf_done) struct buf text;

                buf_init(&text, KEY_LIST_MAX);
                if (snprintf(from, sizeof(from), "%s/.state/%s", dir, names[i][0]) >= (int)sizeof(from) ||
                    path_join(to, sizeof(to), folder, names[i][1]) < 0)
                        return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", dir);
                r = file_read(from, &text, e);
                if (r == 0)
                        r = file_write_atomic(to, text.data ? text.data : "", text.size, 0644, e);
        }
        return r;
}

/* 1: as it was. */
static int mirror_slot(struct run *run, const char *dir, struct update *u, struct err *e)
{
        CLEANUP(buf_done) struct buf before, bytes;
        struct trust trust = update_trust(u);
        struct statement was, is;
        struct err keys = { "" };
        int r, k;

        buf_init(&before, MINISIGN_TEXT_MAX);
        buf_init(&bytes, MODEL_ARCHIVE_MAX);
        if (read_current(dir, &u->slot, &before, &was)) {
                trust.version = was.version;
                trust.time_s = was.time_s;
        }
        r = update_examine(u, &trust, true, e);
        k = update_keep_keys(u, &keys);
        if (k == 0 && u->found.keys_fetched)
                k = publish_keys(dir, &keys);
        if (r == 0 && k < 0)
                return err_set(e, k, "%s", keys.text);
        trust.keys = run->keyring.keys;
        if (r == 0)
                r = confirm(u, &trust, &bytes, &is, e);
        if (r < 0)
                return r;
        if (strcmp(before.data ? before.data : "", u->found.signature) == 0)
                return 1;
        r = publish(u, dir, &is, &bytes, e);
        if (r == 0)
                prune(dir, &u->slot, is.id, strcmp(was.id, is.id) == 0 ? "" : was.id);
        return r;
}

int mirror_run(const void *options, int argc, char **argv)
{
        struct options o = *(const struct options *)options;
        CLEANUP(run_done) struct run run = { 0 };
        size_t changed = 0, failed = 0;
        struct err e = { "" };
        int r;

        (void)argc;
        if (o.server_trust != TRUST_SIGNED || (o.trust_keys.n == 0 && o.trust_root_keys.n == 0)) {
                (void)log_error(
                        -EINVAL,
                        "only signed models can be mirrored: server.trust must be signed, and trust.keys "
                        "or trust.root_keys name a public key file");
                return EXIT_MISUSE;
        }
        o.store_path = argv[0]; /* its lock, staging and list of keys are the mirror's own */
        r = run_open(&run, &o, &e);
        if (r == 0)
                r = machine_discover(o.procfs_root, o.sysfs_root, &run.machine, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        for (size_t i = 0; i < o.models.n; i++) {
                struct update u;

                r = update_open(&run, o.models.items[i], &u, &e);
                if (r == 0)
                        r = mirror_slot(&run, argv[0], &u, &e);
                if (r < 0)
                        (void)log_error(r, "%s: %s", o.models.items[i], e.text);
                else
                        (void)printf("%s: %s %.*s %s\n", u.slot.text, u.found.model, ID_SHOWN, u.found.id,
                                     r == 0 ? "mirrored" : "unchanged");
                failed += r < 0;
                changed += r == 0;
        }
        return failed > 0 ? EXIT_FAILED : changed > 0 ? EXIT_DONE : EXIT_NOTHING;
}
