/* SPDX-License-Identifier: Apache-2.0 */
/* How far a destination has acknowledged: our own record in the state directory, and the copy for the
 * collector's retention in acks/ beside the database (docs/contracts.md, 7). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"

#define CURSOR_TEXT_MAX   128
#define CURSOR_RANGES_MAX 64

struct cursor_range {
        int64_t first_id, last_id;
        int64_t end_ms; /* of last_id */
        char epoch[CURSOR_TEXT_MAX];
};

struct cursor {
        char destination[CURSOR_TEXT_MAX];
        char epoch[CURSOR_TEXT_MAX]; /* "" when nothing was acknowledged yet */
        int64_t interval_id; /* everything up to here is done with: acknowledged or refused; 0: nothing */
        int64_t end_ms;      /* end of that interval */
        int64_t acked_ms;    /* wall clock of the last acknowledgement */
        /* The batch that is being sent, (sending_after, sending_last]. Written before it is sent, so that
         * another attempt, also by the next process, sends the same bytes. 0, 0: none. */
        int64_t sending_after, sending_last;
        /* Done with beyond interval_id, when the newest go first; by id. */
        struct cursor_range ranges[CURSOR_RANGES_MAX];
        size_t n_ranges;
        int64_t refused_intervals;   /* the receiver is past them: parked, never sent again */
        int64_t quarantined_batches; /* refused for what they are, all in all */
        int64_t next_bundle;         /* file: number of the next bundle; else 0 */
};

/* Make the state directory, and be the only one that sends to the destination. The lock ends when *ret_fd is
 * closed. -EBUSY: another process holds it. Also removes what a killed process left half-written. */
int cursor_lock(const char *state_path, const char *destination, int *ret_fd, struct err *e);

/* -ENOENT: nothing was acknowledged yet. -EBADMSG: the file is damaged. */
int cursor_load(const char *state_path, const char *destination, struct cursor *ret, struct err *e);

/* Durable when it returns 0; on failure the old cursor is still there. */
int cursor_save(const char *state_path, const struct cursor *cursor, struct err *e);

/* (after, range.last_id] is done with: moves interval_id when it is next, else keeps it as a range. Pure.
 * -ENOSPC: more than CURSOR_RANGES_MAX pieces. */
int cursor_add(struct cursor *cursor, int64_t after_id, const struct cursor_range *range);

/* The lowest or the highest piece (after, last] up to `newest` that is not done with; false when there is
 * none. Pure. */
bool cursor_gap(const struct cursor *cursor, int64_t newest, bool highest, int64_t *ret_after,
                int64_t *ret_last);

/* Write acks/<destination>.json beside the database. */
int cursor_acknowledge(const char *store_path, const struct cursor *cursor, struct err *e);
/* Is that file there? */
bool cursor_is_known(const char *store_path, const char *destination);
/* And does it say the same? */
bool cursor_is_acknowledged(const char *store_path, const struct cursor *cursor);
