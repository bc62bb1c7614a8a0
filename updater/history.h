/* SPDX-License-Identifier: Apache-2.0 */
/* What served when, and why something did not: `<store>/.state/history.jsonl`, a line an event, at most
 * HISTORY_MAX bytes and one old file of as many. */
#pragma once

#include <jansson.h>
#include "common/err.h"
#include "updater/slot.h"

#define HISTORY_MAX ((size_t)1 << 20)

/* An event: "installed", "refused", "rolled-back", "pinned", "unpinned", "failed". */
struct event {
        const char *slot, *what;
        const char *id, *model; /* "" unknown */
        const char *words;      /* why; "" */
};

/* Append, with the time, unless it says again what the last event of the slot said: a timer that fails every
 * five minutes is told once. */
int history_append(const char *store_path, const struct event *event, struct err *e);

/* Every event, oldest first, and its line, until `each` returns something else than 0, which is returned. */
int history_each(const char *store_path,
                 int (*each)(const json_t *event, const char *line, size_t size, void *arg), void *arg,
                 struct err *e);

/* The subcommand: oldest first. */
int history_run(const void *options, int argc, char **argv);
