// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What the collector does not have: programs on sched_switch. `nothing` is what any such program costs;
 * `account` is the conventional design: a time stamp per thread in one hash, a process's sums in an LRU hash
 * that user space would drain, three hardware counters asked for (which are the least where there are none,
 * as on a virtual machine). Each is loaded alone. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct task_struct {
        int pid;
        int tgid;
        char comm[16];
} __attribute__((preserve_access_index));

struct {
        __uint(type, BPF_MAP_TYPE_LRU_HASH);
        __uint(max_entries, 32768);
        __type(key, __u32); /* thread */
        __type(value, __u64);
} began SEC(".maps");

struct sums {
        __u64 cgroup_id;
        __u64 pid;
        __u64 run_us;
        __u64 counters[5]; /* of the processor, the page cache, softirqs: there, but nothing counts here */
        __u64 switches;
        char comm[16];
};
struct {
        __uint(type, BPF_MAP_TYPE_LRU_HASH);
        __uint(max_entries, 32768);
        __type(key, __u32); /* process */
        __type(value, struct sums);
} processes SEC(".maps");

struct counter {
        __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
        __uint(max_entries, 128);
        __type(key, int);
        __type(value, __u32);
} cycles SEC(".maps"), instructions SEC(".maps"), misses SEC(".maps");

SEC("tp_btf/sched_switch")
int BPF_PROG(nothing, _Bool preempt, struct task_struct *prev, struct task_struct *next)
{
        return 0;
}

static __always_inline __u64 stop_clock(__u32 pid, __u64 now)
{
        __u64 *since = bpf_map_lookup_elem(&began, &pid);
        __u64 ran = since && now > *since ? now - *since : 0;

        if (since)
                bpf_map_delete_elem(&began, &pid);
        return ran / 1000;
}

static __always_inline __u64 counted(void *counter)
{
        struct bpf_perf_event_value value = {};

        return bpf_perf_event_read_value(counter, BPF_F_CURRENT_CPU, &value, sizeof(value)) == 0
                       ? value.counter
                       : 0;
}

static __always_inline void meet(__u32 tgid)
{
        struct sums first = { .cgroup_id = bpf_get_current_cgroup_id(), .pid = tgid };

        if (bpf_map_lookup_elem(&processes, &tgid))
                return;
        bpf_get_current_comm(first.comm, sizeof(first.comm));
        bpf_map_update_elem(&processes, &tgid, &first, BPF_NOEXIST);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(account, _Bool preempt, struct task_struct *prev, struct task_struct *next)
{
        __u64 ran = stop_clock(prev->pid, bpf_ktime_get_ns()), now;
        __u32 tgid = prev->tgid, next_pid = next->pid;
        struct sums *sums = bpf_map_lookup_elem(&processes, &tgid);

        if (sums) {
                __sync_fetch_and_add(&sums->run_us, ran);
                __sync_fetch_and_add(&sums->counters[0], counted(&cycles));
                __sync_fetch_and_add(&sums->counters[1], counted(&instructions));
                __sync_fetch_and_add(&sums->counters[2], counted(&misses));
                __sync_fetch_and_add(&sums->switches, 1);
        }
        meet(next->tgid);
        now = bpf_ktime_get_ns();
        bpf_map_update_elem(&began, &next_pid, &now, BPF_ANY);
        return 0;
}
