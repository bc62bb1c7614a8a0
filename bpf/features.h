/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The records that features.bpf.c hands to collector/bpf.c. Fixed width, same layout on both sides. */
#pragma once

#include <linux/types.h>

/* What is counted here, because the kernel keeps no such count per process. */
enum {
        COUNT_NET_TX, /* softirqs, in the order of their vectors: 2, 3 and 4 */
        COUNT_NET_RX,
        COUNT_BLOCK,
        COUNT_CACHE_READ, /* pages of 4096 bytes */
        COUNT_CACHE_ADDED,
        COUNT_COUNTER_0, /* perf counters, in the order of collector/perf.h */
        COUNT_N = COUNT_COUNTER_0 + 3,
};
#define IRQ_N      3
#define COUNTERS_N 3
#define COMM_BYTES 16

#define TASK_LEADER  1u /* the record of a thread group's leader: it is the longer one */
#define TASK_KTHREAD 2u
#define TASK_DEAD    4u /* already reaped, or about to be: its own cpu_ns is 0 */

/* v1 cgroups. A v1 hierarchy numbers its cgroups by itself, so an id carries its hierarchy: bit 63 says v1,
 * bits 60 to 62 which one. The order is that of preference. */
#define CGROUP_V1         (1ull << 63)
#define CGROUP_V1_SHIFT   60
#define CGROUP_INODE_MASK ((1ull << CGROUP_V1_SHIFT) - 1)
#define CGROUP_V1_CPUACCT 0
#define CGROUP_V1_CPU     1
#define CGROUP_V1_MEMORY  2
#define CGROUP_V1_PIDS    3
#define CGROUP_V1_N       4

/* Where a process is. Root cgroups say nothing: 0 stands for them. */
struct cgroup_pair {
        __u64 v2; /* inode of the v2 cgroup's directory */
        __u64 v1; /* tagged as above: of the first mounted v1 hierarchy in which it is not in the root */
};

/* One thread, written by the task iterator: up to `leader`, and whole for a thread group's leader. */
struct task_record {
        __u32 tgid;
        __u32 flags;
        __u64 start_ns;          /* boot time of the leader's start; (tgid, start_ns) is the process */
        __u64 cpu_ns;            /* se.sum_exec_runtime */
        __u64 write_bytes;       /* ioac.write_bytes, less what is in ended_write_bytes already */
        __u64 reaped_cpu_ns;     /* of the thread group's reaped threads, read before cpu_ns */
        __u64 ended_write_bytes; /* of its ended threads, read before write_bytes; set in the first record */
        __u64 leader;            /* the leader's task, by a name that no other has while it lives */
        struct cgroup_pair cgroup;
        char comm[COMM_BYTES];
        __u64 counts[COUNT_N]; /* of the whole thread group */
};
#define THREAD_RECORD_BYTES __builtin_offsetof(struct task_record, leader)
_Static_assert(sizeof(struct task_record) == 152, "layout shared with the kernel side");

/* A process that is gone, with its final totals. */
struct death_record {
        __u32 tgid;
        __u32 flags;
        __u64 start_ns;
        __u64 cpu_ns;
        __u64 write_bytes;
        __u64 leader;
        struct cgroup_pair cgroup;
        __u64 counts[COUNT_N];
};
_Static_assert(sizeof(struct death_record) == 120, "layout shared with the kernel side");

/* Final totals of the dead that found the ring buffer full, added up per cgroup; cumulative. */
struct overflow {
        __u64 deaths;
        __u64 cpu_ns;
        __u64 write_bytes;
        __u64 counts[COUNT_N];
};

/* Per CPU: counts that no process can be charged with. */
struct cpu_slot {
        __u64 counts[COUNT_N]; /* met in the idle task (softirqs only) or a dying one, or without its storage
                                */
        __u64 dropped;         /* how often for want of storage */
};

/* Per CPU: who has been running since the last context switch, and what the counters showed then. Written by
 * its CPU only; `sequence` is odd while it is. */
struct cpu_running {
        __u32 sequence;
        __u32 tgid;     /* 0: the idle task */
        __u64 start_ns; /* of its leader, as in task_record */
        __u64 last[COUNTERS_N];
        __u32 valid;  /* bit i: last[i] is a reading */
        __u32 unread; /* readings that failed */
};
