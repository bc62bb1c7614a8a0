/* SPDX-License-Identifier: Apache-2.0 */
/* samples.db (contract 1): the one owner of the file. One transaction per interval; nothing that was stored
 * is lost when the program is killed. SQL is in store*.c only: appending in store.c, store_open.c,
 * store_retain.c, and store_status.c, a reader.
 *
 * The file is in WAL mode with synchronous=FULL: an interval that was appended survives a power cut. One
 * connection writes and checkpoints, under a lock; SQLite 3.40 may corrupt a WAL that is reset by
 * two connections at once. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "collector/window.h"
#include "common/err.h"
#include "schema/machine.h"

struct store;

struct store_options {
        const char *path;
        const char *feature_source;        /* "bpf", "proc" */
        const char *definition;            /* definition_names[]; NULL: exact */
        const char *counters;              /* what the hardware counters are; "" or NULL: none */
        const struct feature_notes *notes; /* what is not measured; may be NULL */
        int64_t now_ms;                    /* wall clock */
        int64_t retention_age_ms;
        int64_t retention_size; /* bytes */
        bool processes;         /* they have rows, too */
        struct store *corrupt; /* NULL, or this file's store, which cannot be used any more: it is closed, and
                                  the file moved aside under its lock, whatever a look at it would say */
};

/* How opening went, for the caller to tell. */
struct store_opening {
        bool continued;         /* an epoch of this boot goes on */
        char moved_aside[4200]; /* "" or where a corrupt file went */
        struct err corruption;  /* why it did */
};

/* Open or create the file and put the totals of a continued epoch into `window`. A corrupt file is moved
 * aside with its -wal and -shm. -EPROTO: made by a newer version or another program; -EWOULDBLOCK: another
 * collector writes it. */
int store_open(const struct store_options *options, const struct machine *machine, struct window *window,
               struct store **ret, struct store_opening *ret_opening, struct err *e);
void store_close(struct store *store);
CLEANUP_DEFINE(struct store *, store_close);

/* Append the window's interval and do a bit of retention, in one transaction. On failure nothing of it is
 * stored; -EBADMSG: the file is corrupt. */
int store_append(struct store *store, struct window *window, int64_t now_ms, struct err *e);

/* A new epoch in the same file: totals restart, the window's too, and stamps begin at `now_ms`. */
int store_begin_epoch(struct store *store, const struct machine *machine, int64_t now_ms,
                      struct window *window, struct err *e);

/* window_lookup's callbacks; context is the store. */
int store_restore_entity(void *store, enum entity_kind kind, const char *key, uint64_t ret_total[FEATURE_N]);
int store_restore_sensor(void *store, const struct power_reading *sensor, struct sensor_past *ret);

/* What is in the file, read only: a new reference to a JSON object. -ENOENT: nothing recorded. */
int store_status(const char *path, int64_t now_ms, json_t **ret, struct err *e);
