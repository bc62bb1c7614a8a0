/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The records that features.bpf.c hands to collector/bpf.c. Fixed width, same layout on both sides. */
#pragma once

#include <linux/types.h>

#define IRQ_N 3 /* softirq vectors 2, 3 and 4: net tx, net rx, block */

#define TASK_LEADER  1u /* the record of a thread group's leader: cgroups and irq are set in no other */
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

/* One thread, written by the task iterator. */
struct task_record {
        __u32 tgid;
        __u32 flags;
        __u64 start_ns;          /* boot time of the leader's start; (tgid, start_ns) is the process */
        __u64 cpu_ns;            /* se.sum_exec_runtime */
        __u64 write_bytes;       /* ioac.write_bytes, less what is in ended_write_bytes already */
        __u64 reaped_cpu_ns;     /* of the thread group's reaped threads, read before cpu_ns */
        __u64 ended_write_bytes; /* of its ended threads, read before write_bytes; set in the first record */
        struct cgroup_pair cgroup;
        __u64 irq[IRQ_N]; /* of the whole thread group */
};
_Static_assert(sizeof(struct task_record) == 88, "layout shared with the kernel side");

/* A process that is gone, with its final totals. */
struct death_record {
        __u32 tgid;
        __u32 flags;
        __u64 start_ns;
        __u64 cpu_ns;
        __u64 write_bytes;
        struct cgroup_pair cgroup;
        __u64 irq[IRQ_N];
};
_Static_assert(sizeof(struct death_record) == 72, "layout shared with the kernel side");

/* Final totals of the dead that found the ring buffer full, added up per cgroup; cumulative. */
struct overflow {
        __u64 deaths;
        __u64 cpu_ns;
        __u64 write_bytes;
        __u64 irq[IRQ_N];
};

/* Per CPU: softirqs that no process can be charged with. */
struct cpu_slot {
        __u64 irq[IRQ_N]; /* taken from the idle task, from a dying task, or when a task's storage failed */
        __u64 dropped;    /* how many of them for want of storage */
};
