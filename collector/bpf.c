/* SPDX-License-Identifier: Apache-2.0 */
/* The BPF feature source: loads bpf/features.bpf.c, collects its records once per read, and turns totals into
 * deltas per cgroup (process.c).
 *
 * Order within a read: the iterator first, then the ring buffer of the dead. A process that ends
 *  - before the iterator reaches it: not met; its record is in the ring buffer, or an RCU grace period away,
 * and then the process just waits in the table for the next read;
 *  - between the iterator and the ring buffer: its record has the final total, its mark is still the one of
 * the last read, and it leaves the table: charged to the end, once;
 *  - after the ring buffer was read: charged up to the iterator's value, the rest with its record at the next
 * read. A record of a process that never was in the table is a life that began and ended between two reads.
 */
#include "collector/features.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "bpf/features.h"
#include "collector/counting.h"
#include "collector/process.h"
#include "collector/programs.h"
#include "common/clock.h"
#include "common/privilege.h"

#define CHUNK_BYTES   (64u << 10) /* the kernel hands out half of that at once */
#define MAX_OVERFLOWS 1024        /* entries of the overflow table, as in features.bpf.c */

static const enum feature_id count_features[COUNT_N] = {
        FEATURE_NET_TX_IRQ,       FEATURE_NET_RX_IRQ, FEATURE_BLOCK_IRQ,        FEATURE_PAGE_CACHE_READ,
        FEATURE_PAGE_CACHE_ADDED, FEATURE_CPU_CYCLES, FEATURE_CPU_INSTRUCTIONS, FEATURE_CACHE_MISS,
};

/* What has been charged of one entry of the overflow table. */
struct overflow_mark {
        struct cgroup_pair key;
        struct overflow last;
};

struct feature_source {
        struct programs programs;
        struct counting counting;
        struct ring_buffer *ring;
        struct cgroup_table *cgroups;
        struct process_table processes;
        struct cpu_slot *slots;  /* [cpus]: scratch for reading the per-CPU map */
        struct cpu_slot charged; /* sum over CPUs of what has been charged */
        struct vm_table *vms;    /* borrowed; may be NULL */
        struct overflow_mark marks[MAX_OVERFLOWS];
        size_t marks_n;
        struct process_pool pools[MAX_OVERFLOWS + 1]; /* of this read */
        size_t pools_n;
        struct overflow unplaced; /* charged of the kernel's `unplaced` */
        struct usage_set *set;    /* of this read; NULL while the base is read */
        bool based;
        uint64_t time_offset_ns;
        struct feature_source_stats stats;
        char records[CHUNK_BYTES];
};

/* How far CLOCK_BOOTTIME is ahead of the kernel's own in this time namespace. */
static uint64_t time_offset_ns(void)
{
        CLEANUP(fclosep) FILE *f = fopen("/proc/self/timens_offsets", "re");
        long long s, ns;
        char name[32];

        while (f && fscanf(f, "%31s %lld %lld", name, &s, &ns) == 3)
                if (!strcmp(name, "boottime"))
                        return (uint64_t)(s * (long long)NS_PER_S + ns);
        return 0;
}

/* As the kernel stamps the starts of processes in its records. */
static uint64_t boot_ns(const struct feature_source *s)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_BOOTTIME, &t); /* cannot fail with a valid clock */
        return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec - s->time_offset_ns;
}

/* --- opening ------------------------------------------------------------------------------------------- */

static int on_death(void *context, void *data, size_t size);

static int prepare(struct feature_source *s, struct err *e)
{
        s->processes.deaths_told = s->programs.links[PROGRAM_DEATH] != NULL;
        s->slots = calloc((size_t)s->programs.cpus, sizeof(*s->slots));
        if (!s->slots)
                return err_set(e, -ENOMEM, "out of memory");
        s->ring = ring_buffer__new(bpf_map__fd(s->programs.skel->maps.deaths), on_death, s, NULL);
        if (!s->ring)
                return err_sys(e, "cannot map the BPF ring buffer");
        return 0;
}

static void bpf_close(struct feature_source *s)
{
        if (!s)
                return;
        ring_buffer__free(s->ring);
        counting_close(&s->counting);
        programs_close(&s->programs);
        process_table_done(&s->processes);
        cgroup_table_free(s->cgroups);
        free(s->slots);
        free(s);
}
CLEANUP_DEFINE(struct feature_source *, bpf_close);

static int bpf_open(const struct feature_source_options *options, struct feature_source **ret, struct err *e)
{
        CLEANUP(bpf_closep) struct feature_source *s = NULL;
        struct programs_options programs = { .sysfs_root = options->sysfs_root, .notes = options->notes };
        int r;

        s = calloc(1, sizeof(*s));
        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        s->vms = options->vms;
        r = cgroup_table_new(options->procfs_root, options->sysfs_root, &s->cgroups, e);
        if (r < 0)
                return r;

        s->time_offset_ns = time_offset_ns();
        r = counting_open(&s->counting, options, e);
        if (r < 0)
                return r;
        programs.v1_hierarchies = cgroup_table_v1(s->cgroups);
        programs.counters = s->counting.counters;
        r = programs_open(&s->programs, &programs, e);
        if (r == 0)
                r = counting_attach(&s->counting, &s->programs, e);
        if (r == 0)
                r = prepare(s, e);
        if (r < 0)
                return r;
        *ret = TAKE(s);
        return 0;
}

/* --- reading ------------------------------------------------------------------------------------------- */

static void place(struct feature_source *s, struct process *p, const struct task_record *record)
{
        bool moved = !p->placed || p->place[0] != record->cgroup.v2 || p->place[1] != record->cgroup.v1;

        p->kernel = record->flags & TASK_KTHREAD;
        if (moved) {
                p->place[0] = record->cgroup.v2;
                p->place[1] = record->cgroup.v1;
                p->cgroup_id =
                        p->kernel ? 0 : cgroup_table_choose(s->cgroups, record->cgroup.v2, record->cgroup.v1);
                p->placed = true;
        }
        if (!s->vms || p->kernel || (!moved && !memcmp(p->comm, record->comm, sizeof(p->comm))))
                return;
        memcpy(p->comm, record->comm, sizeof(p->comm));
        p->comm[sizeof(p->comm) - 1] = '\0';
        p->vm = vm_table_of(s->vms, p->tgid, p->start, p->comm,
                            cgroup_table_find(s->cgroups, p->cgroup_id)->path);
}

/* The gone threads' sums are those of the first record met: threads met later were alive then, and so are not
 * in them. */
static void take_record(struct feature_source *s, const struct task_record *record)
{
        bool first;
        struct process *p = process_table_get(&s->processes, record->tgid, record->start_ns, &first);

        if (!p)
                return;
        if (first) {
                p->now[FEATURE_CPU_TIME] = record->reaped_cpu_ns;
                p->now[FEATURE_PAGE_CACHE] = record->ended_write_bytes;
        }
        p->now[FEATURE_CPU_TIME] += record->cpu_ns;
        p->now[FEATURE_PAGE_CACHE] += record->write_bytes;
        if (!(record->flags & TASK_LEADER))
                return;
        process_table_lead(p, record->leader);
        for (int i = 0; i < COUNT_N; i++)
                p->now[count_features[i]] = record->counts[i];
        place(s, p, record);
}

/* How many bytes were whole records: the kernel hands them out as long as they fit, but a read may end within
 * one. */
static size_t take_records(struct feature_source *s, size_t have)
{
        struct task_record record;
        size_t used = 0;

        while (have - used >= THREAD_RECORD_BYTES) {
                size_t size = THREAD_RECORD_BYTES;

                memcpy(&record, s->records + used, size);
                if (record.flags & TASK_LEADER)
                        size = sizeof(record);
                if (have - used < size)
                        break;
                memcpy(&record, s->records + used, size);
                take_record(s, &record);
                used += size;
        }
        return used;
}

static int read_tasks(struct feature_source *s, struct err *e)
{
        CLEANUP(closep) int fd = bpf_iter_create(bpf_link__fd(s->programs.iterator));
        size_t have = 0;

        if (fd < 0)
                return err_sys(e, "cannot start the BPF task iterator");
        for (;;) {
                ssize_t n = read(fd, s->records + have, sizeof(s->records) - have);
                size_t used;

                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        continue; /* EAGAIN: a million tasks were passed over in one go */
                if (n < 0)
                        return err_sys(e, "cannot read the BPF task iterator");
                if (n == 0)
                        return 0;
                have += (size_t)n;
                used = take_records(s, have);
                have -= used;
                memmove(s->records, s->records + used, have);
        }
}

static int on_death(void *context, void *data, size_t size)
{
        struct feature_source *s = context;
        const struct death_record *dead = data;
        struct process_end end;

        if (size < sizeof(*dead))
                return 0;
        end = (struct process_end){
                .tgid = dead->tgid,
                .start = dead->start_ns,
                .leader = dead->leader,
                .kernel = dead->flags & TASK_KTHREAD,
                .placed = dead->cgroup.v2 || dead->cgroup.v1, /* older kernels move the dying to the root */
                .total = { [FEATURE_CPU_TIME] = dead->cpu_ns, [FEATURE_PAGE_CACHE] = dead->write_bytes },
        };
        for (int i = 0; i < COUNT_N; i++)
                end.total[count_features[i]] = dead->counts[i];
        end.cgroup_id = cgroup_table_choose(s->cgroups, dead->cgroup.v2, dead->cgroup.v1);
        process_table_end(&s->processes, &end, s->set);
        return 0;
}

/* What an overflow entry has grown by since the last read becomes a pool; `last` follows. */
static void take_overflow(struct feature_source *s, const struct overflow *sum, struct overflow *last,
                          struct process_pool pool)
{
        if (sum->deaths == last->deaths)
                return;
        pool.deaths = sum->deaths - last->deaths;
        pool.total[FEATURE_CPU_TIME] = sum->cpu_ns - last->cpu_ns;
        pool.total[FEATURE_PAGE_CACHE] = sum->write_bytes - last->write_bytes;
        for (int i = 0; i < COUNT_N; i++)
                pool.total[count_features[i]] = sum->counts[i] - last->counts[i];
        s->pools[s->pools_n++] = pool;
        s->stats.overflowed += pool.deaths;
        *last = *sum;
}

static struct overflow_mark *find_mark(struct feature_source *s, const struct cgroup_pair *key)
{
        for (size_t i = 0; i < s->marks_n; i++)
                if (s->marks[i].key.v2 == key->v2 && s->marks[i].key.v1 == key->v1)
                        return &s->marks[i];
        if (s->marks_n == MAX_OVERFLOWS)
                return NULL;
        s->marks[s->marks_n] = (struct overflow_mark){ .key = *key };
        return &s->marks[s->marks_n++];
}

/* Only an entry that has rested for a whole read is removed, so that no CPU is just adding to it. */
static void remove_resting(struct feature_source *s)
{
        int fd = bpf_map__fd(s->programs.skel->maps.overflow);

        for (size_t i = 0; s->marks_n > MAX_OVERFLOWS / 2 && i < s->marks_n;) {
                struct overflow_mark *mark = &s->marks[i];
                struct overflow sum;

                if (bpf_map_lookup_elem(fd, &mark->key, &sum) == 0 &&
                    (sum.deaths != mark->last.deaths || bpf_map_delete_elem(fd, &mark->key) < 0)) {
                        i++;
                        continue;
                }
                *mark = s->marks[--s->marks_n];
        }
}

/* Most reads find the table empty: one system call. */
static void read_overflow(struct feature_source *s)
{
        int fd = bpf_map__fd(s->programs.skel->maps.overflow);
        struct cgroup_pair key, *previous = NULL;
        struct overflow sum;

        s->pools_n = 0;
        for (size_t i = 0; i < MAX_OVERFLOWS && bpf_map_get_next_key(fd, previous, &key) == 0; i++) {
                struct overflow_mark *mark = find_mark(s, &key);

                if (mark && bpf_map_lookup_elem(fd, &key, &sum) == 0)
                        take_overflow(s, &sum, &mark->last,
                                      (struct process_pool){
                                              .cgroup_id = cgroup_table_choose(s->cgroups, key.v2, key.v1) });
                previous = &key;
        }
        sum = s->programs.skel->bss->unplaced;
        take_overflow(s, &sum, &s->unplaced, (struct process_pool){ .anywhere = true });
        remove_resting(s);
}

/* What nobody can be charged with, or (softirqs) met the idle task: the kernel's row. */
static void read_cpus(struct feature_source *s)
{
        struct cpu_slot sum = { 0 };
        struct cgroup_usage *row;
        uint32_t zero = 0;

        if (!s->programs.storage ||
            bpf_map_lookup_elem(bpf_map__fd(s->programs.skel->maps.cpu_slots), &zero, s->slots) < 0)
                return;
        for (int cpu = 0; cpu < s->programs.cpus; cpu++) {
                for (int i = 0; i < COUNT_N; i++)
                        sum.counts[i] += s->slots[cpu].counts[i];
                sum.dropped += s->slots[cpu].dropped;
        }
        row = s->set ? usage_set_row(s->set, 0, true) : NULL;
        for (int i = 0; row && i < COUNT_N; i++)
                row->delta[count_features[i]] += sum.counts[i] - s->charged.counts[i];
        s->charged = sum;
}

static int bpf_read(struct feature_source *s, struct usage_set *set, struct err *e)
{
        uint64_t start_ns = clock_monotonic_ns(), now_ns = boot_ns(s);
        int r;

        s->set = s->based ? set : NULL;
        process_table_begin(&s->processes, now_ns);
        r = read_tasks(s, e);
        if (r < 0)
                return r; /* nothing was charged; the next read makes up for it */
        counting_add_running(&s->counting, &s->programs, &s->processes);
        r = s->programs.links[PROGRAM_DEATH] ? ring_buffer__consume(s->ring) : 0;
        if (r < 0)
                return err_set(e, r, "cannot read the BPF ring buffer: %s", strerror(-r));
        read_overflow(s);
        process_table_settle(&s->processes, s->pools, s->pools_n, s->set);
        process_table_fold(&s->processes, now_ns, s->set);
        read_cpus(s);
        if (s->set)
                counting_scale(&s->counting, s->set);
        s->based = true;
        s->stats.read_ns = clock_monotonic_ns() - start_ns;
        return 0;
}

static bool bpf_measures(const struct feature_source *s, enum feature_id feature)
{
        switch (feature) {
        case FEATURE_CPU_TIME:
                return true;
        case FEATURE_PAGE_CACHE:
                return s->programs.has_io;
        case FEATURE_NET_TX_IRQ:
        case FEATURE_NET_RX_IRQ:
        case FEATURE_BLOCK_IRQ:
                return s->programs.links[PROGRAM_SOFTIRQ] != NULL;
        case FEATURE_PAGE_CACHE_READ:
                return s->programs.links[PROGRAM_READS] != NULL;
        case FEATURE_PAGE_CACHE_ADDED:
                return s->programs.links[PROGRAM_ADDS] != NULL;
        case FEATURE_CPU_CYCLES:
        case FEATURE_CPU_INSTRUCTIONS:
        case FEATURE_CACHE_MISS:
                return counting_measures(&s->counting, feature - FEATURE_CPU_CYCLES);
        default:
                return false;
        }
}

static void bpf_stats(const struct feature_source *s, struct feature_source_stats *ret)
{
        *ret = s->stats;
        ret->processes = s->processes.seen;
        ret->dropped = s->processes.dropped + s->charged.dropped + s->programs.skel->bss->deaths_unplaced;
        ret->counters = s->counting.counters ? s->counting.text : "";
        ret->counters_running = s->counting.counters && !s->counting.lost ? s->counting.part : (double)NAN;
}

/* Before 5.19 every call of bpf() is refused to a process without CAP_BPF when
 * kernel.unprivileged_bpf_disabled is set, and that may be set at any time; since then only those that make
 * something. */
static uint64_t bpf_capabilities(const struct feature_source *s)
{
        (void)s;
        return kernel_is_before(5, 19) ? CAPABILITY(CAP_BPF) : 0;
}

const struct feature_source_ops feature_source_bpf = {
        .name = "bpf",
        .open = bpf_open,
        .read = bpf_read,
        .measures = bpf_measures,
        .stats = bpf_stats,
        .close = bpf_close,
        .capabilities = bpf_capabilities,
};
