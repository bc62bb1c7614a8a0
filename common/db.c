/* SPDX-License-Identifier: Apache-2.0 */
#include "common/db.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int constraint_errno(int extended)
{
        switch (extended) {
        case SQLITE_CONSTRAINT_UNIQUE:
        case SQLITE_CONSTRAINT_PRIMARYKEY:
        case SQLITE_CONSTRAINT_ROWID:
                return -EEXIST;
        default:
                return -EINVAL;
        }
}

static int to_errno(sqlite3 *db, int extended)
{
        int sys = db ? sqlite3_system_errno(db) : 0;

        /* SQLite does not note it for what fails in a COMMIT; db_exec() made sure that it is not older. */
        if (extended == SQLITE_IOERR_WRITE && sys <= 0)
                sys = errno;
        switch (extended & 0xff) {
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_IOERR:
                return extended == SQLITE_IOERR_NOMEM ? -ENOMEM : sys > 0 ? -sys : -EIO;
        case SQLITE_CANTOPEN:
                return sys > 0 ? -sys : -EACCES;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return -EBUSY;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return -EBADMSG;
        case SQLITE_READONLY:
                return -EROFS;
        case SQLITE_PERM:
        case SQLITE_AUTH:
                return -EACCES;
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_TOOBIG:
                return -EFBIG;
        case SQLITE_INTERRUPT:
                return -EINTR;
        case SQLITE_CONSTRAINT:
                return constraint_errno(extended);
        case SQLITE_ERROR:
        case SQLITE_MISUSE:
        case SQLITE_RANGE:
        case SQLITE_MISMATCH:
                return -EINVAL;
        default:
                return -EIO;
        }
}

int db_error(sqlite3 *db, struct err *e, const char *what)
{
        int r = to_errno(db, db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM);

        /* SQLite's words for these are as general as the code; the system's say more. */
        if (r == -ENOSPC || r == -EDQUOT || r == -ENOENT || r == -EISDIR)
                return err_set(e, r, "%s: %s", what, strerror(-r));
        return err_set(e, r, "%s: %s", what, db ? sqlite3_errmsg(db) : "out of memory");
}

int db_exec(sqlite3 *db, const char *sql, struct err *e)
{
        errno = 0;
        if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
                return db_error(db, e, "database");
        return 0;
}

int db_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **ret, struct err *e)
{
        if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL) != SQLITE_OK)
                return db_error(db, e, "database");
        return 0;
}

int db_step(sqlite3_stmt *stmt, struct err *e)
{
        int r, code = sqlite3_step(stmt);

        if (code == SQLITE_ROW)
                return 1;
        r = code == SQLITE_DONE ? 0 : db_error(sqlite3_db_handle(stmt), e, "database");
        (void)sqlite3_reset(stmt); /* repeats the step's own code */
        return r;
}

int db_run(sqlite3_stmt *stmt, struct err *e)
{
        int r = db_step(stmt, e);

        if (r <= 0)
                return r;
        (void)sqlite3_reset(stmt);
        return err_set(e, -EINVAL, "database: a row from a statement that returns none: %.80s",
                       sqlite3_sql(stmt));
}

/* A pragma's or query's single integer. */
static int query_int(sqlite3 *db, const char *sql, int *ret, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r;

        r = db_prepare(db, sql, &stmt, e);
        if (r < 0)
                return r;
        r = db_step(stmt, e);
        if (r < 0)
                return r;
        *ret = r > 0 ? sqlite3_column_int(stmt, 0) : 0;
        return 0;
}

/* Is this file ours and of a version we know? *ret_version is 0 for a file without content. */
static int check_identity(sqlite3 *db, const struct db_migrations *m, int *ret_version, struct err *e)
{
        int application_id = 0, version = 0, objects = 0, r;

        r = query_int(db, "PRAGMA application_id", &application_id, e);
        if (r == 0)
                r = query_int(db, "PRAGMA user_version", &version, e);
        if (r == 0)
                r = query_int(db, "SELECT count(*) FROM sqlite_schema", &objects, e);
        if (r < 0)
                return r;

        if (application_id != m->application_id && (application_id || version || objects))
                return err_set(e, -EPROTO, "made by another program (application id 0x%08x, expected 0x%08x)",
                               (unsigned int)application_id, (unsigned int)m->application_id);
        if (version > m->n)
                return err_set(e, -EPROTO, "made by a newer version (schema %d, this program knows %d)",
                               version, m->n);
        if (version < 0)
                return err_set(e, -EBADMSG, "schema version %d is impossible", version);
        *ret_version = version;
        return 0;
}

/* One migration, in a transaction with its version number: after a crash it either happened or did not. */
static int migrate_once(sqlite3 *db, const struct db_migrations *m, int from, struct err *e)
{
        char pragmas[96];
        int r;

        (void)snprintf(pragmas, sizeof(pragmas), "PRAGMA application_id = %d; PRAGMA user_version = %d",
                       m->application_id, from + 1);
        r = db_exec(db, m->sql[from], e);
        if (r == 0)
                r = db_exec(db, pragmas, e);
        if (r == 0)
                r = db_exec(db, "COMMIT", e);
        if (r < 0)
                return err_prefix(e, r, "migration to schema %d", from + 1);
        return 0;
}

static int migrate(sqlite3 *db, const struct db_migrations *m, int *ret_version, struct err *e)
{
        int version, r;

        for (;;) {
                r = db_exec(db, "BEGIN IMMEDIATE", e);
                if (r < 0)
                        return r;
                r = check_identity(db, m, &version, e); /* again: someone else may have been faster */
                if (r == 0 && version == m->n) {
                        *ret_version = version;
                        return db_exec(db, "COMMIT", e);
                }
                if (r == 0)
                        r = migrate_once(db, m, version, e);
                if (r < 0) {
                        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL); /* the first failure counts */
                        return r;
                }
        }
}

static int set_up_owner(sqlite3 *db, const struct db_migrations *m, int *version, struct err *e)
{
        int on = 1, r;

        /* Only an empty file can still choose to give pages back later (retention). */
        if (*version == 0 && (r = db_exec(db, "PRAGMA auto_vacuum = INCREMENTAL", e)) < 0)
                return r;
        r = db_exec(db,
                    "PRAGMA journal_mode = WAL;"
                    "PRAGMA synchronous = FULL;"
                    "PRAGMA foreign_keys = ON",
                    e);
        if (r < 0)
                return r;
        /* Readers without write access need the -wal and -shm files to stay when we close. */
        (void)sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
        if (*version == m->n)
                return 0;
        return migrate(db, m, version, e);
}

static int set_up_reader(sqlite3 *db, int version, struct err *e)
{
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        if (version == 0)
                return err_set(e, -ENOENT, "nothing was recorded in it yet");
        return db_exec(db, "PRAGMA query_only = ON", e);
}

int db_open(const char *path, enum db_mode mode, const struct db_migrations *m, int busy_ms, sqlite3 **ret_db,
            int *ret_version, struct err *e)
{
        int flags = mode == DB_OWNER ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
        CLEANUP(db_closep) sqlite3 *db = NULL;
        int version = 0, r = 0;

        if (sqlite3_open_v2(path, &db, flags | SQLITE_OPEN_EXRESCODE, NULL) != SQLITE_OK)
                r = db_error(db, e, "cannot open");
        if (r == 0) {
                (void)sqlite3_busy_timeout(db, busy_ms);
                r = check_identity(db, m, &version, e);
        }
        if (mode == DB_READ_ONLY && (r == -EROFS || r == -ENOENT || r == -EACCES) && access(path, R_OK) == 0)
                r = err_set(e, r,
                            "a reader needs its -wal and -shm files beside it, which its writer keeps, or a "
                            "directory where it may make them: take a copy of all that is there");
        if (r == 0 && mode == DB_OWNER)
                r = set_up_owner(db, m, &version, e);
        else if (r == 0)
                r = set_up_reader(db, version, e);
        if (r < 0)
                return err_prefix(e, r, "database '%s'", path);

        if (ret_version)
                *ret_version = version;
        *ret_db = TAKE(db);
        return 0;
}

int db_check(const char *path, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        CLEANUP(db_closep) sqlite3 *db = NULL;
        const char *words;
        int r = 0;

        if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_EXRESCODE, NULL) != SQLITE_OK)
                return db_error(db, e, "cannot open");
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        r = db_prepare(db, "PRAGMA quick_check(1)", &stmt, e);
        if (r == 0)
                r = db_step(stmt, e);
        words = r > 0 ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
        if (r < 0 || (words && strcmp(words, "ok") == 0))
                return r < 0 ? r : 0;
        return err_set(e, -EBADMSG, "damaged: %.160s", words ? words : "no answer");
}

void db_close(sqlite3 *db)
{
        (void)sqlite3_close_v2(db); /* waits for statements that are still open */
}
