/* SPDX-License-Identifier: Apache-2.0 */
/* The processes that a feature source has seen, and how far each one's totals have been charged. A source
 * makes a pass over all of them, adding up each one's threads, then folds: what grew is charged to its
 * cgroup's row. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "collector/features.h"
#include "collector/index.h"

#define MAX_PROCESSES (1u << 18) /* 60 MB; one more is not tracked and counted as dropped */

/* What /proc said of a process in the last pass. */
struct process_io {
        uint64_t whole;   /* bytes written by the process and by children that it has waited for */
        uint64_t threads; /* bytes written by the threads that there are */
        uint64_t waited;  /* grows whenever it has waited for a child */
};

struct process {
        uint32_t tgid;
        uint32_t pass;     /* in which it was seen last */
        uint64_t start;    /* ns since boot: with tgid its identity across pid reuse */
        uint64_t place[2]; /* raw cgroup ids from which cgroup_id was chosen */
        uint64_t cgroup_id;
        uint64_t vm;     /* the virtual machine it belongs to (vm.h); 0: none */
        uint64_t leader; /* the task that leads it, by any name; changes when another thread calls execve() */
        char comm[VM_COMM_MAX]; /* when it was last looked at */
        bool kernel;
        bool placed;              /* cgroup_id and kernel are known */
        bool charged;             /* folded before: `last` is a mark and not just zero */
        bool settled;             /* gone, and charged without a record of its death */
        uint64_t missing_ns;      /* since when it has been gone without such a record; 0: it is there */
        uint64_t dip_ns;          /* since when the page cache total has been below `last`; 0: it is not */
        uint64_t dip_low;         /* the lowest since then */
        uint64_t now[FEATURE_N];  /* totals found in this pass; page cache in bytes */
        uint64_t last[FEATURE_N]; /* the highest totals charged so far */
        struct process_io io;     /* the /proc source's */
};

struct process_table {
        struct process *processes; /* owned; [n] */
        uint32_t n, cap;
        struct index index;
        uint32_t pass;
        bool deaths_told; /* process_table_end() reports deaths: give it time before a process is given up */
        bool incomplete;  /* a process was not tracked in some pass */
        uint64_t base_ns; /* boot time at the start of the first pass; 0: not yet */
        uint64_t seen;    /* in this pass */
        uint64_t dropped; /* processes whose last activity is unknown, or that did not fit */
};

/* Deaths that are known only as a sum. */
struct process_pool {
        uint64_t cgroup_id;
        bool anywhere; /* cgroup_id is not known */
        uint64_t deaths;
        uint64_t total[FEATURE_N]; /* page cache in bytes */
};

void process_table_begin(struct process_table *table, uint64_t boot_ns);
/* The process in this pass; its `now` is zero when it is met first (ret_first). NULL when it cannot be
 * tracked. */
struct process *process_table_get(struct process_table *table, uint32_t tgid, uint64_t start,
                                  bool *ret_first);
/* NULL: not in the table. */
struct process *process_table_find(struct process_table *table, uint32_t tgid, uint64_t start);
/* The process has got another leader, with which all but CPU time and writes start again. */
void process_table_lead(struct process *p, uint64_t leader);
/* A process ended with these totals. Where is cgroup_id when `placed`, else where it was before. */
struct process_end {
        uint32_t tgid;
        uint64_t start;
        bool kernel, placed;
        uint64_t cgroup_id, leader;
        uint64_t total[FEATURE_N];
};
void process_table_end(struct process_table *table, const struct process_end *end, struct usage_set *set);
/* Take what was charged already to processes that have vanished out of the sums, then charge the rest. */
void process_table_settle(struct process_table *table, struct process_pool *pools, size_t n,
                          struct usage_set *set);
/* End of the pass: charge what grew. `set` NULL: this pass is the base. */
void process_table_fold(struct process_table *table, uint64_t boot_ns, struct usage_set *set);
void process_table_done(struct process_table *table);
