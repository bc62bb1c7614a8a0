/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/backup.h"

#include <errno.h>
#include <libgen.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "config/cli.h"
#include "model-server/backup_files.h"
#include "model-server/learn/ledger.h"
#include "model-server/serve/publish.h"
#include "model-server/serve/signer.h"
#include "model-server/server.h"
#include "model-server/store.h"

#define PARTIAL   ".partial"   /* of a backup that is not whole yet */
#define RESTORING ".restoring" /* of a file that is not in its place yet */
#define BEFORE    ".before"    /* of what a restored file took the place of */

enum kind { TREE, DATABASE, PLAIN, KEY };

/* A part of the server's state: where it is in a backup, and where the configuration says that it belongs. */
struct part {
        const char *name;
        enum kind kind;
        char path[BACKUP_PATH_MAX];
        mode_t mode;
        int application_id, version;
};
#define PARTS_MAX 10

struct parts {
        struct part items[PARTS_MAX];
        size_t n;
};

static int add(struct parts *parts, const char *name, enum kind kind, const char *path, mode_t mode,
               struct err *e)
{
        struct part *p = &parts->items[parts->n];

        if (!*path)
                return 0;
        if (snprintf(p->path, sizeof(p->path), "%s", path) >= (int)sizeof(p->path) - 32)
                return err_set(e, -ENAMETOOLONG, "'%.100s...' is too long", path);
        p->name = name;
        p->kind = kind;
        p->mode = mode;
        parts->n++;
        return 0;
}

/* In the order of a backup: what was learned from rows first, the rows behind it, so that a restored learner
 * never knows of rows that are not there. */
static int find_parts(const struct options *o, struct parts *parts, struct err *e)
{
        char learned[SERVER_PATH_MAX], signing[SERVER_PATH_MAX], list[SERVER_PATH_MAX] = "";
        struct signer_settings settings;
        int r = server_ledger_path(o, learned, e);

        parts->n = 0;
        if (r == 0)
                r = server_signer_settings(o, signing, &settings, e);
        if (r == 0)
                r = add(parts, "server.learn.db", DATABASE, learned, 0640, e);
        if (r == 0)
                r = add(parts, "pipelines", TREE, o->models_path, 0755, e);
        if (r == 0)
                r = add(parts, "server.signing.json", PLAIN, signing, 0640, e);
        if (r == 0)
                r = add(parts, "server.db", DATABASE, o->database_path, 0640, e);
        if (r < 0 || !o->keys)
                return r;
        if (*o->signing_keys_file)
                (void)snprintf(list, sizeof(list), "%.4000s.minisig", o->signing_keys_file);
        r = add(parts, "keys/signing.key", KEY, o->signing_key_file, 0600, e);
        if (r == 0)
                r = add(parts, "keys/keys.json", KEY, o->signing_keys_file, 0644, e);
        if (r == 0)
                r = add(parts, "keys/keys.json.minisig", KEY, list, 0644, e);
        if (r == 0)
                r = add(parts, "keys/tokens", KEY, o->token_file, 0600, e);
        if (r == 0)
                r = add(parts, "keys/tls.crt", KEY, o->tls_certificate, 0644, e);
        if (r == 0)
                r = add(parts, "keys/tls.key", KEY, o->tls_key, 0600, e);
        return r;
}

static int join(char ret[BACKUP_PATH_MAX], const char *a, const char *separator, const char *b, struct err *e)
{
        return snprintf(ret, BACKUP_PATH_MAX, "%s%s%s", a, separator, b) < BACKUP_PATH_MAX
                       ? 0
                       : err_set(e, -ENAMETOOLONG, "'%.100s...' is too long", a);
}

static int application_of(const struct part *p)
{
        return strcmp(p->name, "server.db") == 0 ? STORE_APPLICATION_ID : LEDGER_APPLICATION_ID;
}

static int version_of(const struct part *p)
{
        return strcmp(p->name, "server.db") == 0 ? store_version : ledger_version;
}

static int copy_part(const struct part *p, const char *from, const char *to, struct err *e)
{
        if (p->kind == TREE)
                return backup_copy_tree(from, to, PUBLISH_STAGING, e);
        if (p->kind == DATABASE)
                return backup_copy_database(from, to, application_of(p), e);
        return backup_copy_file(from, to, p->mode, e);
}

/* ---- backup ---- */

static int fill(const struct parts *parts, const char *partial, struct err *e)
{
        char to[BACKUP_PATH_MAX];
        int r = 0;

        if (mkdir(partial, 0700) < 0)
                return err_sys(e, "cannot make directory '%s'", partial);
        for (size_t i = 0; r == 0 && i < parts->n; i++) {
                const struct part *p = &parts->items[i];

                r = join(to, partial, "/", p->kind == KEY ? "keys" : "", e);
                if (r == 0)
                        r = file_mkdirs(to, 0700, e);
                if (r == 0)
                        r = join(to, partial, "/", p->name, e);
                if (r < 0)
                        return r;
                if (!backup_exists(p->path) && strcmp(p->name, "server.db") != 0) {
                        log_info("'%s' is not there", p->path);
                        continue;
                }
                log_info("copying '%s'", p->path);
                r = copy_part(p, p->path, to, e);
        }
        return r;
}

int backup_run(const void *options, int argc, char **argv)
{
        char partial[BACKUP_PATH_MAX], parent[BACKUP_PATH_MAX];
        const char *dir = argv[0], *slash = strrchr(dir, '/');
        uint64_t bytes = 0;
        struct parts parts;
        struct err e = { "" };
        int r, files;

        (void)argc;
        if (backup_exists(dir))
                return log_error(-EEXIST, "'%s' is there already; a backup is a new directory", dir);
        r = join(partial, dir, "", PARTIAL, &e);
        if (r == 0)
                r = find_parts(options, &parts, &e);
        if (r == 0)
                r = file_remove_tree(partial, &e); /* of a backup that was killed */
        if (r == 0)
                r = fill(&parts, partial, &e);
        files = r < 0 ? r : backup_write_manifest(partial, clock_wall_ms(), &bytes, &e);
        if (files >= 0 && rename(partial, dir) < 0)
                files = err_sys(&e, "cannot name '%s'", dir);
        if (files < 0) {
                (void)file_remove_tree(partial, NULL);
                return log_error(files, "no backup: %s", e.text);
        }
        (void)snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - dir) + 1 : 1, slash ? dir : ".");
        r = file_sync_dir(parent, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        (void)printf("%s: %d files, %" PRIu64 " bytes%s\n", dir, files, bytes,
                     ((const struct options *)options)->keys ? ", with keys" : ", without keys");
        return EXIT_DONE;
}

/* ---- restore ---- */

/* A model server, or another restore, must not have the database. */
static int lock(const struct options *o, int *ret_fd, struct err *e)
{
        char path[BACKUP_PATH_MAX];
        int r = join(path, o->database_path, "", ".lock", e);

        if (r == 0)
                r = file_lock(path, ret_fd, e);
        return r == -EWOULDBLOCK
                       ? err_set(e, r, "a model server is running with '%s': stop it first", o->database_path)
                       : r;
}

/* What is there is not written over unasked. */
static int check_free(const struct parts *parts, struct err *e)
{
        for (size_t i = 0; i < parts->n; i++) {
                const struct part *p = &parts->items[i];

                if (p->kind == TREE ? rmdir(p->path) < 0 && errno != ENOENT : backup_exists(p->path))
                        return err_set(e, -EEXIST, "'%s' is there; with --force it is moved to '%.40s...%s'",
                                       p->path, p->path, BEFORE);
        }
        return 0;
}

static int make_parent(const char *path, struct err *e)
{
        char copy[BACKUP_PATH_MAX];

        (void)snprintf(copy, sizeof(copy), "%s", path); /* it fits: checked by whoever joined it */
        return file_mkdirs(dirname(copy), 0755, e);
}

/* Beside its place, so that putting it there is one rename. 0: the backup has none. */
static int stage(const char *dir, const struct part *p, struct err *e)
{
        char from[BACKUP_PATH_MAX], to[BACKUP_PATH_MAX];
        int r = join(from, dir, "/", p->name, e);

        if (r == 0)
                r = join(to, p->path, "", RESTORING, e);
        if (r == 0)
                r = file_remove_tree(to, e);
        if (r < 0 || !backup_exists(from))
                return r;
        if (p->kind == DATABASE)
                r = backup_check_database(from, application_of(p), version_of(p), e);
        if (r == 0)
                r = make_parent(p->path, e);
        if (r == 0)
                r = p->kind == TREE ? backup_copy_tree(from, to, NULL, e)
                                    : backup_copy_file(from, to, p->mode, e);
        return r < 0 ? r : 1;
}

static int move_aside(const char *path, const char *suffix, struct err *e)
{
        char from[BACKUP_PATH_MAX], to[BACKUP_PATH_MAX];
        int r = join(from, path, "", suffix, e);

        if (r == 0)
                r = join(to, path, BEFORE, suffix, e);
        if (r == 0)
                r = file_remove_tree(to, e);
        if (r < 0)
                return r;
        return rename(from, to) < 0 && errno != ENOENT ? err_sys(e, "cannot move '%s' aside", from) : 0;
}

/* A database's log goes with it: it must never meet another one. */
static int place(const struct part *p, bool staged, struct err *e)
{
        static const char *const suffixes[] = { "-wal", "-shm", "-journal", "" };
        char from[BACKUP_PATH_MAX];
        int r = join(from, p->path, "", RESTORING, e);

        if (!staged && p->kind != DATABASE)
                return 0;
        for (size_t i = p->kind == DATABASE ? 0 : ARRAY_SIZE(suffixes) - 1;
             r == 0 && i < ARRAY_SIZE(suffixes); i++)
                r = move_aside(p->path, suffixes[i], e);
        if (r == 0 && staged && rename(from, p->path) < 0)
                return err_sys(e, "cannot put '%s' in place", p->path);
        return r;
}

static int restore(const struct options *o, const char *dir, struct err *e)
{
        CLEANUP(closep) int lock_fd = -1;
        bool staged[PARTS_MAX] = { false };
        struct parts parts;
        int64_t made_ms;
        char made[32] = "";
        time_t made_s;
        struct tm tm;
        int r = backup_verify(dir, &made_ms, e);

        if (r == 0)
                r = find_parts(o, &parts, e);
        if (r == 0)
                r = make_parent(o->database_path, e);
        if (r == 0)
                r = lock(o, &lock_fd, e);
        if (r == 0 && !o->force)
                r = check_free(&parts, e);
        for (size_t i = 0; r >= 0 && i < parts.n; i++) {
                r = stage(dir, &parts.items[i], e);
                staged[i] = r > 0;
        }
        for (size_t i = 0; r >= 0 && i < parts.n; i++)
                r = place(&parts.items[i], staged[i], e);
        if (r < 0)
                return r;
        made_s = (time_t)(made_ms / 1000);
        if (gmtime_r(&made_s, &tm))
                (void)strftime(made, sizeof(made), "%Y-%m-%d %H:%M:%S UTC", &tm);
        (void)printf("restored what '%s' held, made %s\n", dir, made);
        return 0;
}

int restore_run(const void *options, int argc, char **argv)
{
        struct err e = { "" };
        int r;

        (void)argc;
        if (sodium_init() < 0)
                return log_error(-EIO, "libsodium does not start");
        r = restore(options, argv[0], &e);
        return r < 0 ? log_error(r, "not restored: %s", e.text) : EXIT_DONE;
}
