/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files, safely: bounded reads, writes that are all or nothing after a power cut, locks. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "common/buf.h"
#include "common/err.h"

/* Append the file to `out` (bounded by out->max). -EFBIG when larger. Blocks on the disk only: refuses fifos.
 */
int file_read(const char *path, struct buf *out, struct err *e);

/* The first line or number of a /proc or /sys file into a fixed buffer, relative to dirfd (AT_FDCWD allowed).
 * Returns the length without trailing white space. -EFBIG when it does not fit. */
int file_read_small(int dirfd, const char *path, char *ret, size_t size);
int file_read_u64(int dirfd, const char *path, unsigned long long *ret);

/* Write all of it, however many calls that takes. */
int file_write_all(int fd, const void *data, size_t size);

/* Write a temporary file beside the target, fsync, rename, fsync the directory. On failure the old file is
 * untouched and the temporary one removed. */
int file_write_atomic(const char *path, const void *data, size_t size, mode_t mode, struct err *e);

/* The same for a file that may be there: it keeps its owner and group, what of its mode is in `mode`, and the
 * links that lead to it. */
int file_replace(const char *path, const void *data, size_t size, mode_t mode, struct err *e);

int file_mkdirs(const char *path, mode_t mode, struct err *e); /* like mkdir -p */
int file_sync_dir(const char *path, struct err *e);
int file_remove_tree(const char *path, struct err *e); /* never follows links; 0 when not there */

/* Take an exclusive lock on a file (made when missing). The lock ends when the descriptor is closed.
 * -EWOULDBLOCK: another process holds it. */
int file_lock(const char *path, int *ret_fd, struct err *e);

/* "<dir>/<name>" into a fixed buffer; -ENAMETOOLONG when cut. */
int path_join(char *ret, size_t size, const char *dir, const char *name);
