/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/backup_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

#include "common/db.h"
#include "common/file.h"
#include "common/json.h"
#include "config/cli.h"

#define FORMAT       1
#define CHUNK        ((size_t)256 << 10)
#define TRIES        10   /* of a tree that is replaced all the time */
#define STEP_PAGES   4096 /* of a database between two looks at the clock */
#define BUSY_MS      30000
#define SHA256_BYTES 32

bool backup_exists(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0;
}

/* ---- files ---- */

static int copy_bytes(int from, int to, const char *path, struct err *e)
{
        CLEANUP(freep) char *chunk = malloc(CHUNK);

        if (!chunk)
                return err_set(e, -ENOMEM, "out of memory");
        for (;;) {
                ssize_t n = read(from, chunk, CHUNK);
                int r = n > 0 ? file_write_all(to, chunk, (size_t)n) : 0;

                if (n < 0)
                        return err_sys(e, "cannot read '%s'", path);
                if (r < 0)
                        return err_set(e, r, "cannot copy '%s': %s", path, strerror(-r));
                if (n == 0)
                        return 0;
        }
}

int backup_copy_file(const char *from, const char *to, mode_t mode, struct err *e)
{
        CLEANUP(closep) int in = -1, out = -1;
        int r;

        in = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (in < 0)
                return err_sys(e, "cannot open '%s'", from);
        out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
        if (out < 0 || fchmod(out, mode) < 0)
                return err_sys(e, "cannot make '%s'", to);
        r = copy_bytes(in, out, from, e);
        return r == 0 && fsync(out) < 0 ? err_sys(e, "cannot write '%s'", to) : r;
}

/* ---- trees ---- */

typedef int (*entry_fn)(const char *name, void *arg, struct err *e);
static int each_entry(const char *dir, entry_fn fn, void *arg, struct err *e)
{
        CLEANUP(closedirp) DIR *d = opendir(dir);
        const struct dirent *entry;
        int r = d ? 0 : err_sys(e, "cannot open directory '%s'", dir);

        while (r == 0 && (errno = 0, entry = readdir(d)))
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        r = fn(entry->d_name, arg, e);
        return r == 0 && errno ? err_sys(e, "cannot read directory '%s'", dir) : r;
}

struct copy {
        const char *from, *to, *except;
        int depth;
};

static int copy_entry(const char *name, void *arg, struct err *e);
static int copy_directory(const struct copy *c, struct err *e)
{
        struct copy copy = *c;
        int r;

        if (c->depth > BACKUP_DEPTH_MAX)
                return err_set(e, -ELOOP, "'%s' is more than %d directories deep", c->from, BACKUP_DEPTH_MAX);
        if (mkdir(c->to, 0755) < 0 && errno != EEXIST)
                return err_sys(e, "cannot make directory '%s'", c->to);
        r = each_entry(c->from, copy_entry, &copy, e);
        return r < 0 ? r : file_sync_dir(c->to, e);
}

static bool same_directory(const char *path, const struct stat *before)
{
        struct stat now;

        return stat(path, &now) == 0 && now.st_ino == before->st_ino && now.st_dev == before->st_dev &&
               now.st_mtim.tv_sec == before->st_mtim.tv_sec && now.st_mtim.tv_nsec == before->st_mtim.tv_nsec;
}

static int copy_entry(const char *name, void *arg, struct err *e)
{
        const struct copy *c = arg;
        char from[BACKUP_PATH_MAX], to[BACKUP_PATH_MAX];
        const struct copy below = { from, to, NULL, c->depth + 1 };
        struct stat st;
        int r = 0;

        if (c->except && strncmp(name, c->except, strlen(c->except)) == 0)
                return 0;
        if (path_join(from, sizeof(from), c->from, name) < 0 || path_join(to, sizeof(to), c->to, name) < 0)
                return err_set(e, -ENAMETOOLONG, "'%.200s' is too long", from);
        for (int i = 0; i < TRIES; i++) {
                if (stat(from, &st) < 0)
                        return errno == ENOENT ? 0 : err_sys(e, "cannot stat '%s'", from);
                if (S_ISREG(st.st_mode))
                        return backup_copy_file(from, to, st.st_mode & 0755, e);
                if (!S_ISDIR(st.st_mode))
                        return 0;
                r = copy_directory(&below, e);
                if (r == 0 && !same_directory(from, &st))
                        r = err_set(e, -EAGAIN, "'%s' changes while it is copied", from);
                if (c->depth > 0 ||
                    (r != -EAGAIN && r != -ENOENT)) /* at the top, what is replaced is so as a whole */
                        return r;
                r = file_remove_tree(to, e);
                if (r < 0)
                        return r;
        }
        return err_set(e, -EAGAIN, "'%s' does not stay as it is for long enough to be copied", from);
}

int backup_copy_tree(const char *from, const char *to, const char *except, struct err *e)
{
        return copy_directory(&(const struct copy){ from, to, except, 0 }, e);
}

/* ---- databases ---- */

static int number(sqlite3 *db, const char *sql, int *ret, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(db, sql, &stmt, e);

        if (r == 0)
                r = db_step(stmt, e);
        if (r < 0)
                return r;
        *ret = sqlite3_column_int(stmt, 0);
        return 0;
}

static int check_identity(sqlite3 *db, const char *path, int application_id, int *ret_version, struct err *e)
{
        int id = 0, r = number(db, "PRAGMA application_id", &id, e);

        if (r == 0)
                r = number(db, "PRAGMA user_version", ret_version, e);
        if (r < 0)
                return err_prefix(e, r, "database '%s'", path);
        return id == application_id ? 0 : err_set(e, -EBADMSG, "'%s' is another program's database", path);
}

static int check_pages(sqlite3 *db, const char *path, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        const char *words;
        int r = db_prepare(db, "PRAGMA quick_check(1)", &stmt, e);

        if (r == 0)
                r = db_step(stmt, e);
        if (r < 0)
                return err_prefix(e, r, "database '%s'", path);
        words = (const char *)sqlite3_column_text(stmt, 0);
        return words && strcmp(words, "ok") == 0
                       ? 0
                       : err_set(e, -EBADMSG, "database '%s' is damaged: %.120s", path, words ? words : "");
}

static int open_database(const char *path, int flags, sqlite3 **ret, struct err *e)
{
        int r = sqlite3_open_v2(path, ret, flags | SQLITE_OPEN_EXRESCODE, NULL);

        if (r != SQLITE_OK)
                return err_prefix(e, db_error(*ret, e, "cannot open"), "database '%s'", path);
        (void)sqlite3_busy_timeout(*ret, BUSY_MS);
        return 0;
}

/* The reader's transaction holds one moment of the source for as long as the copy takes; in WAL mode the
 * writer goes on. */
static int copy_pages(sqlite3 *from, sqlite3 *to, struct err *e)
{
        sqlite3_backup *backup;
        int r, step = SQLITE_OK;

        r = db_exec(from, "BEGIN; SELECT count(*) FROM sqlite_master", e);
        if (r < 0)
                return r;
        backup = sqlite3_backup_init(to, "main", from, "main");
        if (!backup)
                return db_error(to, e, "cannot copy");
        while (step == SQLITE_OK)
                step = sqlite3_backup_step(backup, STEP_PAGES);
        (void)sqlite3_backup_finish(backup);
        return step == SQLITE_DONE ? 0 : db_error(to, e, "cannot copy");
}

static int sync_file(const char *path, struct err *e)
{
        CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

        return fd < 0 || fsync(fd) < 0 ? err_sys(e, "cannot sync '%s'", path) : 0;
}

int backup_copy_database(const char *from_path, const char *to_path, int application_id, struct err *e)
{
        CLEANUP(db_closep) sqlite3 *from = NULL, *to = NULL;
        int version, r;

        r = open_database(from_path, SQLITE_OPEN_READONLY, &from, e);
        if (r < 0)
                return r;
        (void)sqlite3_db_config(from, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL); /* the owner's alone */
        r = check_identity(from, from_path, application_id, &version, e);
        if (r == 0)
                r = open_database(to_path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &to, e);
        if (r == 0)
                r = db_exec(to, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", e);
        if (r == 0)
                r = err_prefix(e, copy_pages(from, to, e), "database '%s'", from_path);
        if (r == 0)
                r = db_exec(to, "PRAGMA journal_mode = DELETE", e);
        if (r == 0)
                r = check_pages(to, from_path, e);
        return r < 0 ? r : sync_file(to_path, e);
}

int backup_check_database(const char *path, int application_id, int version, struct err *e)
{
        CLEANUP(db_closep) sqlite3 *db = NULL;
        int its = 0, r = open_database(path, SQLITE_OPEN_READONLY, &db, e);

        if (r == 0)
                r = check_identity(db, path, application_id, &its, e);
        if (r == 0 && its > version)
                return err_set(e, -EPROTO,
                               "'%s' was made by a newer version (%d, this one knows %d): install that one",
                               path, its, version);
        return r < 0 ? r : check_pages(db, path, e);
}

/* ---- the manifest ---- */

static int hash_file(const char *path, char ret_hex[2 * SHA256_BYTES + 1], uint64_t *ret_bytes, struct err *e)
{
        CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        CLEANUP(freep) unsigned char *chunk = malloc(CHUNK);
        unsigned char hash[SHA256_BYTES];
        crypto_hash_sha256_state state;
        uint64_t bytes = 0;
        ssize_t n;

        if (fd < 0)
                return err_sys(e, "cannot open '%s'", path);
        if (!chunk)
                return err_set(e, -ENOMEM, "out of memory");
        (void)crypto_hash_sha256_init(&state);
        while ((n = read(fd, chunk, CHUNK)) > 0) {
                (void)crypto_hash_sha256_update(&state, chunk, (unsigned long long)n);
                bytes += (uint64_t)n;
        }
        if (n < 0)
                return err_sys(e, "cannot read '%s'", path);
        (void)crypto_hash_sha256_final(&state, hash);
        (void)sodium_bin2hex(ret_hex, 2 * SHA256_BYTES + 1, hash, sizeof(hash));
        *ret_bytes = bytes;
        return 0;
}

struct listing {
        const char *dir, *below; /* below: "" or "pipelines/…" */
        json_t *files;
        uint64_t *bytes;
        int depth;
};

static int list_entry(const char *name, void *arg, struct err *e)
{
        const struct listing *l = arg;
        char below[BACKUP_PATH_MAX], path[BACKUP_PATH_MAX], hex[2 * SHA256_BYTES + 1];
        struct listing next = { l->dir, below, l->files, l->bytes, l->depth + 1 };
        uint64_t bytes = 0;
        struct stat st;
        int r;

        if (snprintf(below, sizeof(below), "%s%s%s", l->below, *l->below ? "/" : "", name) >=
                    (int)sizeof(below) ||
            path_join(path, sizeof(path), l->dir, below) < 0 || l->depth > BACKUP_DEPTH_MAX + 1 ||
            json_array_size(l->files) >= BACKUP_FILES_MAX)
                return err_set(e, -E2BIG, "'%.200s': too many files, too deep or names too long", l->dir);
        if (lstat(path, &st) < 0)
                return err_sys(e, "cannot stat '%s'", path);
        if (S_ISDIR(st.st_mode))
                return each_entry(path, list_entry, &next, e);
        r = hash_file(path, hex, &bytes, e);
        if (r < 0)
                return r;
        *l->bytes += bytes;
        return json_array_append_new(l->files, json_pack("{s:s, s:I, s:s}", "name", below, "bytes",
                                                         (json_int_t)bytes, "sha256", hex)) < 0
                       ? err_set(e, -EILSEQ, "'%.200s' is no name in UTF-8", path)
                       : 0;
}

int backup_write_manifest(const char *dir, int64_t made_ms, uint64_t *ret_bytes, struct err *e)
{
        CLEANUP(json_decrefp) json_t *manifest = NULL, *files = json_array();
        CLEANUP(buf_done) struct buf text = { 0 };
        char path[BACKUP_PATH_MAX];
        struct listing l = { dir, "", files, ret_bytes, 0 };
        int r;

        *ret_bytes = 0;
        if (path_join(path, sizeof(path), dir, MANIFEST) < 0)
                return err_set(e, -ENAMETOOLONG, "'%.100s...' is too long", dir);
        r = each_entry(dir, list_entry, &l, e);
        if (r < 0)
                return r;
        manifest = json_pack("{s:i, s:s, s:I, s:O}", "format", FORMAT, "program",
                             "wattloop-model-server " WATTLOOP_VERSION, "made_ms", (json_int_t)made_ms,
                             "files", files);
        buf_init(&text, MANIFEST_MAX);
        if (!manifest || json_write(manifest, &text) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        r = file_write_atomic(path, text.data, text.size, 0600, e);
        return r < 0 ? r : (int)json_array_size(files);
}

/* Below the directory, and nowhere else. */
static bool is_safe(const char *name)
{
        size_t n = strlen(name);

        return n && *name != '/' && strncmp(name, "../", 3) != 0 && !strstr(name, "/../") &&
               strcmp(name, "..") != 0 && (n < 3 || strcmp(name + n - 3, "/..") != 0);
}

static int verify_file(const char *dir, const json_t *entry, struct err *e)
{
        char path[BACKUP_PATH_MAX], hex[2 * SHA256_BYTES + 1];
        const char *name, *want;
        long long bytes;
        uint64_t its = 0;
        int r = json_get_string(entry, "name", &name, e);

        if (r == 0)
                r = json_get_string(entry, "sha256", &want, e);
        if (r == 0)
                r = json_get_int(entry, "bytes", &bytes, e);
        if (r < 0)
                return err_prefix(e, -EBADMSG, MANIFEST);
        if (!is_safe(name) || path_join(path, sizeof(path), dir, name) < 0)
                return err_set(e, -EBADMSG, MANIFEST ": '%.100s' is no name in a backup", name);
        r = hash_file(path, hex, &its, e);
        if (r < 0)
                return r;
        return its == (uint64_t)bytes && strcmp(hex, want) == 0
                       ? 0
                       : err_set(e, -EBADMSG, "'%s' is not what it was when the backup was made", path);
}

int backup_verify(const char *dir, int64_t *ret_made_ms, struct err *e)
{
        CLEANUP(json_decrefp) json_t *manifest = NULL;
        char path[BACKUP_PATH_MAX];
        long long format, made_ms;
        const json_t *files, *entry;
        size_t i;
        int r;

        if (path_join(path, sizeof(path), dir, MANIFEST) < 0)
                return err_set(e, -ENAMETOOLONG, "'%.100s...' is too long", dir);
        r = json_parse_file(path, MANIFEST_MAX, &manifest, e);
        if (r == 0)
                r = json_get_int(manifest, "format", &format, e);
        if (r == 0 && format != FORMAT)
                r = err_set(e, -EPROTO, "backup format %lld; this version knows %d", format, FORMAT);
        if (r == 0)
                r = json_get_int(manifest, "made_ms", &made_ms, e);
        if (r < 0)
                return err_prefix(e, r, "'%s'", path);
        files = json_object_get(manifest, "files");
        if (!json_array_size(files))
                return err_set(e, -EBADMSG, "'%s' names no files", path);
        json_array_foreach (files, i, entry) {
                r = verify_file(dir, entry, e);
                if (r < 0)
                        return r;
        }
        *ret_made_ms = made_ms;
        return 0;
}
