// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What tasks did, read where the kernel keeps it anyway. Nothing runs at a context switch: the scheduler
 * accounts each task's time in nanoseconds, an iterator collects the totals once per sample, and user space
 * (collector/bpf.c) differences them. Few events have programs: a softirq of three vectors and reads and new
 * pages of the page cache, because nobody else counts them per task, the end of a thread, because the kernel
 * mixes its writes with those of other processes, and the end of a process, because an iterator cannot see
 * the dead. Each is loaded where the kernel has it. Only where the processor has counters, and perf lets us
 * have them, is there a program at the context switch.
 *
 * Kernel structures are declared here with the few fields that are read; CO-RE relocates them. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/features.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PF_EXITING       0x00000004
#define PF_KTHREAD       0x00200000
#define EXIT_DEAD        0x0010 /* release has begun or is over */
#define SOFTIRQ_NET_TX   2
#define RING_BYTES       (1 << 20) /* 8,000 deaths per sample; mapped twice by user space, so it counts double */
#define OVERFLOW_CGROUPS 1024
#define UNIT_SHIFT       12 /* pages are told in units of 4096 bytes, whatever the machine's are */

#define KERNEL_STRUCT __attribute__((preserve_access_index))

struct kernfs_node {
        __u64 id;
} KERNEL_STRUCT;

struct cgroup {
        int level;
        struct kernfs_node *kn;
} KERNEL_STRUCT;

struct cgroup_subsys_state {
        struct cgroup *cgroup;
} KERNEL_STRUCT;

struct css_set {
        struct cgroup_subsys_state *subsys[1]; /* as many as the kernel has controllers */
        struct cgroup *dfl_cgrp;
} KERNEL_STRUCT;

struct task_io_accounting {
        __u64 write_bytes;
} KERNEL_STRUCT;

struct signal_struct {
        unsigned long long sum_sched_runtime;
} KERNEL_STRUCT;

struct sched_entity {
        __u64 sum_exec_runtime;
} KERNEL_STRUCT;

struct task_struct {
        unsigned int flags;
        int exit_state;
        int pid;
        int tgid;
        struct task_struct *group_leader;
        struct signal_struct *signal;
        struct css_set *cgroups;
        char comm[COMM_BYTES];
        __u64 start_boottime;
        struct sched_entity se;
        struct task_io_accounting ioac;
} KERNEL_STRUCT;

struct inode {
        long long i_size;
} KERNEL_STRUCT;

struct address_space {
        struct inode *host;
} KERNEL_STRUCT;

/* Of a large folio: its order, where 6.6 and later keep it, and where kernels before did. */
struct folio {
        unsigned long _flags_1;
} KERNEL_STRUCT;
struct folio___before_6_6 {
        unsigned char _folio_order;
} KERNEL_STRUCT;

enum pageflags { PG_head = 6 };

struct seq_file;
struct bpf_iter_meta {
        struct seq_file *seq;
} KERNEL_STRUCT;

struct bpf_iter__task {
        struct bpf_iter_meta *meta;
        struct task_struct *task;
} KERNEL_STRUCT;

enum cgroup_subsys_id {
        cpu_cgrp_id = 1,
        cpuacct_cgrp_id = 2,
        memory_cgrp_id = 4,
        pids_cgrp_id = 11,
};

const volatile bool with_storage = true;   /* false: the kernel has no task storage */
const volatile bool with_io = true;        /* false: built without task I/O accounting */
const volatile bool with_counters = false; /* perf_counters is filled, and its events are read */
const volatile __u32 page_shift = 12;
const volatile __u32 cpus = 1;           /* possible ones */
const volatile __u32 v1_hierarchies = 0; /* bit CGROUP_V1_x: that controller is mounted as cgroup v1 */

__u64 deaths_unplaced;    /* deaths that found both the ring buffer and the overflow table full */
struct overflow unplaced; /* their totals */

/* What the kernel does not keep per process. Key: a task_struct. Value: for a leader the counts of its thread
 * group and what its ended threads wrote; several CPUs add, so atomically. For a thread that ends what it
 * handed over to its leader, and for one that reads its last request. Owner: all programs but the iterator;
 * freed with the task. Full: cannot be; when memory is short the count goes to cpu_slots and is counted there
 * as dropped, and a thread's writes end with it. */
struct task_counts {
        __u64 n[COUNT_N];
        __u64 ended_write_bytes;
        __u64 handed_write_bytes;
        __u64 read_mapping, read_index, read_last;
};
struct {
        __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, int);
        __type(value, struct task_counts);
} counts SEC(".maps");

/* Counts of no process. Key: 0. Value: one slot per CPU, cumulative. Owner: all programs but the iterator.
 * Never full. */
struct {
        __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
        __uint(max_entries, 1);
        __type(key, __u32);
        __type(value, struct cpu_slot);
} cpu_slots SEC(".maps");

/* The dead. Records: struct death_record, in order of death, read once per sample without wake-ups. Owner:
 * user space empties it. Full: the death goes to `overflow`. */
struct {
        __uint(type, BPF_MAP_TYPE_RINGBUF);
        __uint(max_entries, RING_BYTES);
} deaths SEC(".maps");

/* Deaths that the ring buffer had no room for. Key: where the process was. Value: cumulative totals. Owner:
 * user space removes entries that rest when it is half full. Full: the death goes to `unplaced`. */
struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, OVERFLOW_CGROUPS);
        __type(key, struct cgroup_pair);
        __type(value, struct overflow);
} overflow SEC(".maps");

/* Key: counter * cpus + CPU. Value: its perf event. Owner: user space. Not filled: the reading fails, and is
 * counted in `running`. */
struct {
        __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
        __uint(max_entries, COUNTERS_N);
        __uint(key_size, sizeof(__u32));
        __uint(value_size, sizeof(__u32));
} perf_counters SEC(".maps");

/* Key: a CPU. Value: what it is doing. Owner: sched_switch and sched_process_exit. Never full. */
struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, 1);
        __type(key, __u32);
        __type(value, struct cpu_running);
} running SEC(".maps");

/* The cgroup's id in a v1 hierarchy, 0 in its root. `controller` indexes css_set.subsys, whose number differs
 * between kernels. */
static __always_inline __u64 v1_id(struct css_set *set, __u32 controller, __u32 hierarchy)
{
        struct cgroup_subsys_state *css = NULL;
        struct cgroup *group;

        bpf_probe_read_kernel(&css, sizeof(css),
                              (char *)set + bpf_core_field_offset(set->subsys) + controller * sizeof(css));
        group = BPF_CORE_READ(css, cgroup);
        if (BPF_CORE_READ(group, level) <= 0)
                return 0;
        return CGROUP_V1 | (__u64)hierarchy << CGROUP_V1_SHIFT |
               (BPF_CORE_READ(group, kn, id) & CGROUP_INODE_MASK);
}

#define V1_TRY(name, hierarchy)                                                                              \
        if (!pair->v1 && (v1_hierarchies & (1u << (hierarchy))) &&                                           \
            bpf_core_enum_value_exists(enum cgroup_subsys_id, name))                                         \
        pair->v1 = v1_id(set, bpf_core_enum_value(enum cgroup_subsys_id, name), hierarchy)

static __always_inline void cgroups_of(struct task_struct *task, struct cgroup_pair *pair)
{
        struct css_set *set = task->cgroups;
        struct cgroup *group = set->dfl_cgrp;

        pair->v2 = group->level > 0 ? group->kn->id : 0;
        pair->v1 = 0;
        V1_TRY(cpuacct_cgrp_id, CGROUP_V1_CPUACCT);
        V1_TRY(cpu_cgrp_id, CGROUP_V1_CPU);
        V1_TRY(memory_cgrp_id, CGROUP_V1_MEMORY);
        V1_TRY(pids_cgrp_id, CGROUP_V1_PIDS);
}

static __always_inline struct task_counts *counts_of(struct task_struct *task)
{
        return with_storage ? bpf_task_storage_get(&counts, task, NULL, 0) : NULL;
}

static __always_inline void copy_counts(const struct task_counts *from, __u64 counts[COUNT_N])
{
        for (int i = 0; from && i < COUNT_N; i++)
                counts[i] = from->n[i];
}

/* The signal struct's sum of writes is of no use: wait() adds to it what the child has written, though that
 * was charged to the child. What ended threads wrote is with the leader instead; without task storage it is
 * not known. */
static __always_inline __u64 ended_writes(const struct task_counts *leaders)
{
        return with_io && leaders ? leaders->ended_write_bytes : 0;
}

/* Without what it handed over, which is read first: it was part of its writes then. */
static __always_inline __u64 own_writes(struct task_struct *task, bool leader)
{
        bool ending = with_io && !leader && task->flags & PF_EXITING;
        struct task_counts *own = ending ? counts_of(task) : NULL;
        __u64 handed = own ? own->handed_write_bytes : 0;

        barrier();
        return with_io ? task->ioac.write_bytes - handed : 0;
}

/* One record per thread. The order of the reads matters: a thread's own time moves to its signal struct when
 * it is reaped, so the reaped sum is read first, and a thread that shows EXIT_DEAD after that contributes
 * nothing of its own. Then no time can be seen in both places; it may be seen in neither, which user space
 * bridges. Likewise its writes, which move to its leader when it ends. */
SEC("iter/task")
int read_tasks(struct bpf_iter__task *ctx)
{
        struct task_struct *task = ctx->task;
        struct task_record record = {};
        struct task_counts *leaders;
        struct task_struct *leader;
        struct signal_struct *sig;

        if (!task || task->exit_state & EXIT_DEAD)
                return 0;
        leader = task->group_leader; /* the task was not released before: RCU keeps its leader for us */
        /* A softirq that meets a look-up under way cannot make its storage: no more of them than needed. The
         * iterator goes by pid, so behind its leader's a thread's record need not have the sum. */
        leaders = task->pid <= task->tgid ? counts_of(leader) : NULL;
        sig = task->signal;
        record.tgid = task->tgid;
        record.start_ns = leader->start_boottime;
        record.reaped_cpu_ns = sig->sum_sched_runtime;
        record.ended_write_bytes = ended_writes(leaders);
        barrier();
        record.cpu_ns = task->se.sum_exec_runtime;
        record.write_bytes = own_writes(task, leader == task);
        if (task->flags & PF_KTHREAD)
                record.flags |= TASK_KTHREAD;
        if (leader == task) {
                record.flags |= TASK_LEADER;
                record.leader = (__u64)task;
                __builtin_memcpy(record.comm, task->comm, sizeof(record.comm));
                cgroups_of(task, &record.cgroup);
                copy_counts(leaders, record.counts);
        }
        barrier();
        if (task->exit_state & EXIT_DEAD) {
                record.flags |= TASK_DEAD;
                record.cpu_ns = 0;
        }
        if (leader == task)
                bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
        else
                bpf_seq_write(ctx->meta->seq, &record, THREAD_RECORD_BYTES);
        return 0;
}

static __always_inline void charge_cpu(__u64 i, __u64 n, bool dropped)
{
        __u32 zero = 0;
        struct cpu_slot *slot = bpf_map_lookup_elem(&cpu_slots, &zero);

        if (!slot || i >= COUNT_N)
                return;
        slot->counts[i] += n; /* a softirq may come between; then it is lost, or this is, which is nobody's */
        slot->dropped += dropped;
}

/* To the thread group of a task. One that is being reaped may outlive its leader, so its last few belong to
 * nobody. */
static __always_inline void charge(struct task_struct *task, __u64 i, __u64 n)
{
        struct task_counts *leaders;

        if (!task->pid || (task->exit_state && task->pid != task->tgid)) {
                charge_cpu(i, n, false);
                return;
        }
        leaders = bpf_task_storage_get(&counts, task->group_leader, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (leaders && i < COUNT_N)
                __sync_fetch_and_add(&leaders->n[i], n);
        else
                charge_cpu(i, n, true);
}

/* Charged to the thread group of whoever was interrupted, as Kepler does. */
SEC("tp_btf/softirq_entry")
int BPF_PROG(count_softirq, unsigned int vector)
{
        __u64 i = (__u64)vector - SOFTIRQ_NET_TX; /* 64 bits: the verifier loses a bound over a cast */

        if (i < IRQ_N)
                charge(bpf_get_current_task_btf(), COUNT_NET_TX + i, 1);
        return 0;
}

/* What read() asks for, up to the end of the file. The kernel comes here for each batch of one request: those
 * that follow have the same end and begin further on. */
SEC("tp_btf/mm_filemap_get_pages")
int BPF_PROG(count_reads, struct address_space *mapping, unsigned long index, unsigned long last)
{
        struct task_struct *task = bpf_get_current_task_btf();
        long long size = mapping->host->i_size;
        __u64 end = size > 0 ? (__u64)(size - 1) >> page_shift : 0;
        struct task_counts *own;
        bool goes_on;

        if (size <= 0)
                return 0;
        own = bpf_task_storage_get(&counts, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (!own)
                return 0;
        goes_on = own->read_mapping == (__u64)mapping && own->read_last == last && index > own->read_index;
        own->read_mapping = (__u64)mapping;
        own->read_last = last;
        own->read_index = index;
        if (end > last)
                end = last;
        if (!goes_on && index <= end)
                charge(task, COUNT_CACHE_READ, (end - index + 1) << (page_shift - UNIT_SHIFT));
        return 0;
}

/* The flags are a folio's, and before 5.16 a page's, first word, though of changing type (6.18). */
static __always_inline __u32 folio_order(struct folio *folio)
{
        unsigned long flags = *(unsigned long *)folio;

        if (!bpf_core_enum_value_exists(enum pageflags, PG_head) ||
            !(flags & 1ul << bpf_core_enum_value(enum pageflags, PG_head)))
                return 0;
        if (bpf_core_field_exists(struct folio___before_6_6, _folio_order))
                return ((struct folio___before_6_6 *)folio)->_folio_order;
        if (bpf_core_field_exists(struct folio, _flags_1))
                return folio->_flags_1 & 0xff;
        return 0;
}

/* Read ahead or written anew, in the name of whoever made the kernel do it. */
SEC("tp_btf/mm_filemap_add_to_page_cache")
int BPF_PROG(count_adds, struct folio *folio)
{
        __u32 order = folio_order(folio) & 31;

        charge(bpf_get_current_task_btf(), COUNT_CACHE_ADDED, 1ull << (order + page_shift - UNIT_SHIFT));
        return 0;
}

/* What the counters of this CPU have counted since they were looked at last belongs to `task`, which is on
 * it. */
static __always_inline struct cpu_running *charge_counters(struct task_struct *task)
{
        __u32 cpu = bpf_get_smp_processor_id();
        struct cpu_running *r = bpf_map_lookup_elem(&running, &cpu);

        if (!r)
                return NULL;
        r->sequence++;
        barrier();
        for (__u32 i = 0; i < COUNTERS_N; i++) {
                struct bpf_perf_event_value value;

                if (bpf_perf_event_read_value(&perf_counters, i * cpus + cpu, &value, sizeof(value))) {
                        r->valid &= ~(1u << i);
                        r->unread++;
                        continue;
                }
                if (task->pid && r->valid & 1u << i && value.counter > r->last[i])
                        charge(task, COUNT_COUNTER_0 + i, value.counter - r->last[i]);
                if (!(r->valid & 1u << i) || value.counter > r->last[i]) /* a switch may have come between */
                        r->last[i] = value.counter;
                r->valid |= 1u << i;
        }
        return r;
}

static __always_inline void end_of_writing(struct cpu_running *r)
{
        barrier();
        r->sequence++;
}

/* The idle task's are nobody's. */
SEC("tp_btf/sched_switch")
int BPF_PROG(count_cycles, bool preempt, struct task_struct *previous, struct task_struct *next)
{
        struct cpu_running *r = charge_counters(previous);

        if (!r)
                return 0;
        r->tgid = next->pid ? next->tgid : 0;
        r->start_ns = next->pid ? next->group_leader->start_boottime : 0;
        end_of_writing(r);
        return 0;
}

/* A thread's writes and counters go to its leader, which stays until all its threads are gone. The event has
 * more arguments in later kernels (6.16). What a thread writes after it is lost: it closes its files then. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(hand_over, struct task_struct *task)
{
        __u64 bytes = with_io ? task->ioac.write_bytes : 0;
        struct task_counts *own, *leaders;

        if (task->pid == task->tgid)
                return 0;
        if (with_counters) {
                struct cpu_running *r = charge_counters(task);

                if (r)
                        end_of_writing(r);
        }
        if (!bytes)
                return 0;
        own = bpf_task_storage_get(&counts, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
        leaders = bpf_task_storage_get(&counts, task->group_leader, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
        if (!own || !leaders)
                return 0;
        own->handed_write_bytes = bytes; /* first: never in both places */
        barrier();
        __sync_fetch_and_add(&leaders->ended_write_bytes, bytes);
        return 0;
}

static __always_inline void add(struct overflow *to, const struct death_record *dead)
{
        __sync_fetch_and_add(&to->deaths, 1);
        __sync_fetch_and_add(&to->cpu_ns, dead->cpu_ns);
        __sync_fetch_and_add(&to->write_bytes, dead->write_bytes);
        for (int i = 0; i < COUNT_N; i++)
                __sync_fetch_and_add(&to->counts[i], dead->counts[i]);
}

static __always_inline void add_overflow(const struct death_record *dead)
{
        struct overflow empty = {};
        struct overflow *sum;

        sum = bpf_map_lookup_elem(&overflow, &dead->cgroup);
        if (!sum) {
                bpf_map_update_elem(&overflow, &dead->cgroup, &empty, BPF_NOEXIST); /* or another CPU did */
                sum = bpf_map_lookup_elem(&overflow, &dead->cgroup);
        }
        if (sum) {
                add(sum, dead);
                return;
        }
        add(&unplaced, dead);
        __sync_fetch_and_add(&deaths_unplaced, 1);
}

/* Called when the leader's task_struct is given back: every thread, the leader included, has been added to
 * the signal struct by then, its writes to the leader, and nothing more can be. (At sched_process_exit half
 * of it may be missing.) A leader that another thread replaced in execve() is not its own leader any more and
 * no death. Who reaps a task may do so while it is on its way off its CPU, and what it still uses then is in
 * its own account only; the scheduler's hold on the task has ended by now. */
SEC("tp_btf/sched_process_free")
int BPF_PROG(record_death, struct task_struct *task)
{
        struct death_record dead = {};
        struct task_counts *leaders;
        struct signal_struct *sig;

        if (task->group_leader != task)
                return 0;
        leaders = counts_of(task);
        sig = task->signal;
        dead.tgid = task->tgid;
        dead.leader = (__u64)task;
        dead.start_ns = task->start_boottime;
        dead.cpu_ns = sig->sum_sched_runtime;
        if (dead.cpu_ns < task->se.sum_exec_runtime)
                dead.cpu_ns = task->se.sum_exec_runtime;
        dead.write_bytes = own_writes(task, true) + ended_writes(leaders);
        if (task->flags & PF_KTHREAD)
                dead.flags |= TASK_KTHREAD;
        cgroups_of(task, &dead.cgroup);
        copy_counts(leaders, dead.counts);
        if (bpf_ringbuf_output(&deaths, &dead, sizeof(dead), BPF_RB_NO_WAKEUP))
                add_overflow(&dead);
        return 0;
}
