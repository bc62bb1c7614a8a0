/* SPDX-License-Identifier: Apache-2.0 */
/* How far a destination has acknowledged: our own record in the state directory, and the copy for the
 * collector's retention in acks/ beside the database (docs/contracts.md, 7). */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"

#define CURSOR_TEXT_MAX 128

struct cursor {
        char destination[CURSOR_TEXT_MAX];
        char epoch[CURSOR_TEXT_MAX]; /* "" when nothing was acknowledged yet */
        int64_t interval_id;         /* everything up to here is acknowledged; 0: nothing */
        int64_t end_ms;              /* end of that interval */
        int64_t acked_ms;            /* wall clock of the acknowledgement */
};

/* Make the state directory, and be the only one that pushes. The lock ends when *ret_fd is closed. -EBUSY:
 * another process holds it. Also removes what a killed process left half-written. */
int cursor_lock(const char *state_path, int *ret_fd, struct err *e);

/* -ENOENT: nothing was acknowledged yet. -EBADMSG: the file is damaged. */
int cursor_load(const char *state_path, const char *destination, struct cursor *ret, struct err *e);

/* Durable when it returns 0; on failure the old cursor is still there. */
int cursor_save(const char *state_path, const struct cursor *cursor, struct err *e);

/* Write acks/<destination>.json beside the database. */
int cursor_acknowledge(const char *store_path, const struct cursor *cursor, struct err *e);
/* Is that file there and does it say the same? */
bool cursor_is_acknowledged(const char *store_path, const struct cursor *cursor);
