/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/features.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MIN 32

/* A v1 id uses bits 60 to 63, no inode comes near bit 59, nor a virtual machine's id, and only cgroup 0 has a
 * kernel row. */
static uint64_t key_of(uint64_t cgroup_id, bool kernel)
{
        return cgroup_id ^ (kernel ? UINT64_C(1) << 59 : 0);
}

static struct cgroup_usage *append(struct usage_set *set, uint64_t cgroup_id, bool kernel)
{
        struct cgroup_usage *row;

        if (set->n == set->cap) {
                size_t cap = set->cap ? set->cap * 2 : ROWS_MIN;

                row = realloc(set->rows, cap * sizeof(*row));
                if (!row)
                        return NULL;
                set->rows = row;
                set->cap = cap;
        }
        if (index_put(&set->index, key_of(cgroup_id, kernel), (uint32_t)set->n) < 0)
                return NULL;
        row = &set->rows[set->n++];
        *row = (struct cgroup_usage){ .cgroup_id = cgroup_id, .kernel = kernel };
        return row;
}

struct cgroup_usage *usage_set_row(struct usage_set *set, uint64_t cgroup_id, bool kernel)
{
        uint32_t i = index_find(&set->index, key_of(cgroup_id, kernel));
        struct cgroup_usage *row = NULL;

        if (i != INDEX_NONE)
                return &set->rows[i];
        if (set->n + 2 < USAGE_ROWS_MAX || !cgroup_id) /* the last two are kept for cgroup 0 */
                row = append(set, cgroup_id, kernel);
        if (row)
                return row;
        set->folded++;
        if (usage_is_vm(cgroup_id))
                return &set->spare;
        if (cgroup_id || kernel)
                return usage_set_row(set, 0, false);
        return &set->spare;
}

/* A process may have several rows in a read: they are summed up by whoever takes them. */
struct process_usage *usage_set_process(struct usage_set *set, const struct process_usage *who)
{
        struct process_usage *row;

        if (!set->by_process || set->n_processes == USAGE_PROCESSES_MAX)
                return NULL;
        if (set->n_processes == set->cap_processes) {
                size_t cap = set->cap_processes ? set->cap_processes * 2 : ROWS_MIN;

                row = realloc(set->processes, cap * sizeof(*row));
                if (!row)
                        return NULL;
                set->processes = row;
                set->cap_processes = cap;
        }
        row = &set->processes[set->n_processes++];
        *row = *who;
        memset(row->delta, 0, sizeof(row->delta));
        return row;
}

void usage_set_clear(struct usage_set *set)
{
        set->n_processes = 0;
        set->n = 0;
        set->spare = (struct cgroup_usage){ 0 };
        index_clear(&set->index);
}

void usage_set_done(struct usage_set *set)
{
        free(set->rows);
        free(set->processes);
        index_done(&set->index);
        *set = (struct usage_set){ 0 };
}

void feature_note(struct feature_notes *notes, const char *what, const char *fmt, ...)
{
        va_list args;

        if (!notes || notes->n == FEATURE_NOTES_MAX)
                return;
        (void)snprintf(notes->items[notes->n].what, sizeof(notes->items[0].what), "%s",
                       what); /* cut: for people */
        va_start(args, fmt);
        (void)vsnprintf(notes->items[notes->n].why, sizeof(notes->items[0].why), fmt, args);
        va_end(args);
        notes->n++;
}
