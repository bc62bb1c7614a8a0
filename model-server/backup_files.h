/* SPDX-License-Identifier: Apache-2.0 */
/* Copies for backups: of files, of trees that somebody else replaces meanwhile, of databases that are written
 * meanwhile; and the manifest that tells whether a copy is still what it was. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/err.h"

#define BACKUP_PATH_MAX  4096
#define BACKUP_DEPTH_MAX 16
#define BACKUP_FILES_MAX 100000
#define MANIFEST         "manifest.json"
#define MANIFEST_MAX     ((size_t)32 << 20)

bool backup_exists(const char *path);
/* On the disk when it returns 0. */
int backup_copy_file(const char *from, const char *to, mode_t mode, struct err *e);
/* Files and directories below `from`, links followed; but what begins with `except` on the top level. What is
 * replaced while it is copied is copied again. */
int backup_copy_tree(const char *from, const char *to, const char *except, struct err *e);
/* As it is at one moment, whoever writes meanwhile, and checked (PRAGMA quick_check); one file, no WAL.
 * -EBADMSG: it is damaged, or not of this application id. */
int backup_copy_database(const char *from, const char *to, int application_id, struct err *e);
/* -EBADMSG, -EPROTO: made by a newer version than `version`. */
int backup_check_database(const char *path, int application_id, int version, struct err *e);

/* Of all files below `dir`; writes manifest.json there. Returns how many. */
int backup_write_manifest(const char *dir, int64_t made_ms, uint64_t *ret_bytes, struct err *e);
/* Every file that it names is there and is what it was. -EBADMSG */
int backup_verify(const char *dir, int64_t *ret_made_ms, struct err *e);
