/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite with our pragmas, numbered migrations and errno. SQL itself lives in schema/ and in each program's
 * store.c. One writer and one checkpointer per file (Debian 12's SQLite 3.40 has the WAL-reset bug). */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include "common/err.h"

enum db_mode {
        DB_READ_ONLY, /* the file must exist; never checkpoints */
        DB_OWNER,     /* create, migrate, WAL, PERSIST_WAL; the one writer */
};

struct db_migrations {
        const char *const *sql; /* sql[i] brings user_version i to i + 1 */
        int n;                  /* the version this program knows */
        int application_id;     /* tells our file from a stranger's */
};

/* Open and, as owner, migrate. -ENOENT no file (read-only); -EBADMSG corrupt or not a database; -EPROTO made
 * by a newer version or by another program (the words say which); -EACCES; -ENOSPC; -EBUSY. A read-only
 * opener takes any version from 1 to n and reports it in ret_version (may be NULL). */
int db_open(const char *path, enum db_mode mode, const struct db_migrations *m, int busy_ms, sqlite3 **ret_db,
            int *ret_version, struct err *e);
void db_close(sqlite3 *db);
CLEANUP_DEFINE(sqlite3 *, db_close);

int db_exec(sqlite3 *db, const char *sql, struct err *e);
int db_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **ret, struct err *e);
CLEANUP_DEFINE(sqlite3_stmt *, sqlite3_finalize);

/* -EBADMSG: SQLite's quick_check finds something; else as a read-only db_open(). Of any application's file.
 */
int db_check(const char *path, struct err *e);

/* Step a statement: 1 a row, 0 done, negative errno. Done statements are reset. */
int db_step(sqlite3_stmt *stmt, struct err *e);
/* Step a statement that returns no row, and reset it. */
int db_run(sqlite3_stmt *stmt, struct err *e);

/* Map the connection's last SQLite error to errno (SQLITE_FULL -> -ENOSPC, CORRUPT/NOTADB -> -EBADMSG, ...).
 */
int db_error(sqlite3 *db, struct err *e, const char *what);
