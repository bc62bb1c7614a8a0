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
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include "bpf/features.h"
#include "collector/process.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/privilege.h"
#include "features.skel.h"

#define CHUNK_BYTES        (744 * sizeof(struct task_record)) /* about 64 KiB; the kernel hands out half of that */
#define MAX_OVERFLOWS      1024        /* entries of the overflow table, as in features.bpf.c */
#define HOST_PID_NAMESPACE 0xEFFFFFFCu /* PROC_PID_INIT_INO */

static const enum feature_id irq_features[IRQ_N] = { FEATURE_NET_TX_IRQ, FEATURE_NET_RX_IRQ,
                                                     FEATURE_BLOCK_IRQ };

/* What has been charged of one entry of the overflow table. */
struct overflow_mark {
        struct cgroup_pair key;
        struct overflow last;
};

struct feature_source {
        struct features_bpf *skel;
        struct bpf_link *iter, *softirq, *thread_end, *death; /* NULL: not attached */
        struct ring_buffer *ring;
        struct cgroup_table *cgroups;
        struct process_table processes;
        struct cpu_slot *slots;  /* [cpus]: scratch for reading the per-CPU map */
        struct cpu_slot charged; /* sum over CPUs of what has been charged */
        int cpus;
        struct overflow_mark marks[MAX_OVERFLOWS];
        size_t marks_n;
        struct process_pool pools[MAX_OVERFLOWS + 1]; /* of this read */
        size_t pools_n;
        struct overflow unplaced; /* charged of the kernel's `unplaced` */
        struct usage_set *set;    /* of this read; NULL while the base is read */
        bool has_io, based;
        uint64_t time_offset_ns;
        struct feature_source_stats stats;
        struct task_record records[CHUNK_BYTES / sizeof(struct task_record)];
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

/* libbpf explains a refusal at length; the words that a user needs are ours. */
PRINTF(2, 0) static int print_debug(enum libbpf_print_level level, const char *fmt, va_list args)
{
        char text[512];
        size_t n;

        if (level == LIBBPF_DEBUG)
                return 0;
        (void)vsnprintf(text, sizeof(text), fmt, args); /* cut: for people */
        n = strcspn(text, "\n");
        text[n] = '\0';
        log_debug("%s", text);
        return 0;
}

/* Which optional programs to try. A kernel that refuses one may take the others; softirqs and the ends of
 * threads need task storage. */
struct variant {
        bool storage, thread_end, death;
};
static const struct variant variants[] = {
        { true, true, true },  { true, false, true },  { false, false, true },
        { true, true, false }, { true, false, false }, { false, false, false },
};

static int load(struct feature_source *s, struct variant v)
{
        int r;

        s->skel = features_bpf__open();
        if (!s->skel)
                return -errno;
        s->skel->rodata->with_storage = v.storage;
        s->skel->rodata->with_io = s->has_io;
        s->skel->rodata->v1_hierarchies = cgroup_table_v1(s->cgroups);
        (void)bpf_map__set_autocreate(s->skel->maps.counts, v.storage); /* these fail only after loading */
        (void)bpf_program__set_autoload(s->skel->progs.count_softirq, v.storage);
        (void)bpf_program__set_autoload(s->skel->progs.hand_over_writes, v.thread_end && s->has_io);
        (void)bpf_program__set_autoload(s->skel->progs.record_death, v.death);
        r = features_bpf__load(s->skel);
        if (r < 0) {
                features_bpf__destroy(s->skel);
                s->skel = NULL;
        }
        return r;
}

static bool kernel_is_before(int major, int minor)
{
        struct utsname name;
        int has[2] = { 0 };

        if (uname(&name) < 0 || sscanf(name.release, "%d.%d", &has[0], &has[1]) != 2)
                return true; /* the careful answer */
        return has[0] < major || (has[0] == major && has[1] < minor);
}

/* Until 5.10 maps count as locked memory; libbpf raises the limit where it may (CAP_SYS_RESOURCE). */
static bool is_memory_limit(int r)
{
        struct rlimit limit;

        return (r == -EPERM || r == -ENOMEM) && kernel_is_before(5, 11) &&
               getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

static int load_error(int r, struct err *e)
{
        if (is_memory_limit(r) && privilege_has(CAP_BPF))
                return err_set(e, r,
                               "this kernel counts BPF maps as locked memory, which is limited: start with "
                               "LimitMEMLOCK=infinity (ulimit -l unlimited)");
        if (r == -EPERM)
                return err_set(
                        e, r,
                        "BPF refused: needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN before Linux 5.8), "
                        "and a kernel that is not locked down");
        if (r == -ENOSYS)
                return err_set(e, r, "this kernel is built without BPF");
        if (r == -EACCES || r == -EINVAL)
                return err_set(e, r, "this kernel refuses the BPF task iterator: needs Linux 5.8 or later");
        return err_set(e, r, "cannot load the BPF programs: %s", strerror(-r));
}

static int load_best(struct feature_source *s, struct variant *ret, struct err *e)
{
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
                r = load(s, variants[i]);
                if (r == 0)
                        *ret = variants[i];
                if (r == 0 || r == -EPERM || r == -ENOSYS)
                        break;
        }
        return r < 0 ? load_error(r, e) : 0;
}

static struct bpf_link *attach(struct bpf_program *program, bool wanted)
{
        struct bpf_link *link = wanted ? bpf_program__attach(program) : NULL;

        if (wanted && !link)
                log_debug("cannot attach BPF program '%s': %s", bpf_program__name(program), strerror(errno));
        return link;
}

static int attach_all(struct feature_source *s, struct variant v, struct err *e)
{
        s->iter = bpf_program__attach(s->skel->progs.read_tasks);
        if (!s->iter)
                return err_sys(e, "cannot attach the BPF task iterator");
        s->softirq = attach(s->skel->progs.count_softirq, v.storage);
        s->thread_end = attach(s->skel->progs.hand_over_writes, v.thread_end && s->has_io);
        s->death = attach(s->skel->progs.record_death, v.death);
        s->processes.deaths_told = s->death != NULL;
        return 0;
}

static int on_death(void *context, void *data, size_t size);

static int prepare(struct feature_source *s, struct err *e)
{
        s->cpus = libbpf_num_possible_cpus();
        if (s->cpus < 0)
                return err_set(e, s->cpus, "cannot tell the number of CPUs");
        s->slots = calloc((size_t)s->cpus, sizeof(*s->slots));
        if (!s->slots)
                return err_set(e, -ENOMEM, "out of memory");
        s->ring = ring_buffer__new(bpf_map__fd(s->skel->maps.deaths), on_death, s, NULL);
        if (!s->ring)
                return err_sys(e, "cannot map the BPF ring buffer");
        return 0;
}

/* What libbpf would only stumble over, in words. */
static int check_kernel(const struct feature_source_options *options, bool *ret_has_io, struct err *e)
{
        char path[512];
        struct stat st;

        (void)snprintf(path, sizeof(path), "%s/kernel/btf/vmlinux", options->sysfs_root);
        if (access(path, R_OK) < 0)
                return err_sys(e, "no BTF at '%s' (CONFIG_DEBUG_INFO_BTF)", path);
        if (stat("/proc/self/ns/pid", &st) == 0 && st.st_ino != HOST_PID_NAMESPACE)
                return err_set(
                        e, -ENOTSUP,
                        "the BPF task iterator sees only this PID namespace: needs the host's (hostPID)");
        *ret_has_io = access("/proc/self/io", F_OK) == 0;
        return 0;
}

static void bpf_close(struct feature_source *s)
{
        if (!s)
                return;
        ring_buffer__free(s->ring);
        bpf_link__destroy(s->death);
        bpf_link__destroy(s->thread_end);
        bpf_link__destroy(s->softirq);
        bpf_link__destroy(s->iter);
        features_bpf__destroy(s->skel);
        process_table_done(&s->processes);
        cgroup_table_free(s->cgroups);
        free(s->slots);
        free(s);
}
CLEANUP_DEFINE(struct feature_source *, bpf_close);

static int bpf_open(const struct feature_source_options *options, struct feature_source **ret, struct err *e)
{
        CLEANUP(bpf_closep) struct feature_source *s = NULL;
        struct variant variant = { 0 };
        int r;

        s = calloc(1, sizeof(*s));
        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        r = check_kernel(options, &s->has_io, e);
        if (r < 0)
                return r;
        r = cgroup_table_new(options->procfs_root, options->sysfs_root, &s->cgroups, e);
        if (r < 0)
                return r;

        s->time_offset_ns = time_offset_ns();
        (void)libbpf_set_print(print_debug);
        r = load_best(s, &variant, e);
        if (r < 0)
                return r;
        r = attach_all(s, variant, e);
        if (r < 0)
                return r;
        r = prepare(s, e);
        if (r < 0)
                return r;
        *ret = TAKE(s);
        return 0;
}

/* --- reading ------------------------------------------------------------------------------------------- */

static void place(struct feature_source *s, struct process *p, const struct task_record *record)
{
        p->kernel = record->flags & TASK_KTHREAD;
        if (p->placed && p->place[0] == record->cgroup.v2 && p->place[1] == record->cgroup.v1)
                return;
        p->place[0] = record->cgroup.v2;
        p->place[1] = record->cgroup.v1;
        p->cgroup_id = p->kernel ? 0 : cgroup_table_choose(s->cgroups, record->cgroup.v2, record->cgroup.v1);
        p->placed = true;
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
        for (int i = 0; i < IRQ_N; i++)
                p->now[irq_features[i]] = record->irq[i];
        place(s, p, record);
}

/* The kernel hands out whole records as long as they fit, but a read may end within one. */
static int read_tasks(struct feature_source *s, struct err *e)
{
        CLEANUP(closep) int fd = bpf_iter_create(bpf_link__fd(s->iter));
        size_t have = 0;

        if (fd < 0)
                return err_sys(e, "cannot start the BPF task iterator");
        for (;;) {
                ssize_t n = read(fd, (char *)s->records + have, sizeof(s->records) - have);
                size_t whole;

                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        continue; /* EAGAIN: a million tasks were passed over in one go */
                if (n < 0)
                        return err_sys(e, "cannot read the BPF task iterator");
                if (n == 0)
                        return 0;
                have += (size_t)n;
                whole = have / sizeof(s->records[0]);
                for (size_t i = 0; i < whole; i++)
                        take_record(s, &s->records[i]);
                have -= whole * sizeof(s->records[0]);
                memmove(s->records, &s->records[whole], have);
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
                .kernel = dead->flags & TASK_KTHREAD,
                .placed = dead->cgroup.v2 || dead->cgroup.v1, /* older kernels move the dying to the root */
                .total = { [FEATURE_CPU_TIME] = dead->cpu_ns, [FEATURE_PAGE_CACHE] = dead->write_bytes },
        };
        for (int i = 0; i < IRQ_N; i++)
                end.total[irq_features[i]] = dead->irq[i];
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
        for (int i = 0; i < IRQ_N; i++)
                pool.total[irq_features[i]] = sum->irq[i] - last->irq[i];
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
        int fd = bpf_map__fd(s->skel->maps.overflow);

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
        int fd = bpf_map__fd(s->skel->maps.overflow);
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
        sum = s->skel->bss->unplaced;
        take_overflow(s, &sum, &s->unplaced, (struct process_pool){ .anywhere = true });
        remove_resting(s);
}

/* Softirqs that met the idle task or nobody: the kernel's row. */
static void read_cpus(struct feature_source *s)
{
        struct cpu_slot sum = { 0 };
        struct cgroup_usage *row;
        uint32_t zero = 0;

        if (!s->softirq || bpf_map_lookup_elem(bpf_map__fd(s->skel->maps.cpu_slots), &zero, s->slots) < 0)
                return;
        for (int cpu = 0; cpu < s->cpus; cpu++) {
                for (int i = 0; i < IRQ_N; i++)
                        sum.irq[i] += s->slots[cpu].irq[i];
                sum.dropped += s->slots[cpu].dropped;
        }
        row = s->set ? usage_set_row(s->set, 0, true) : NULL;
        for (int i = 0; row && i < IRQ_N; i++)
                row->delta[irq_features[i]] += sum.irq[i] - s->charged.irq[i];
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
        r = s->death ? ring_buffer__consume(s->ring) : 0;
        if (r < 0)
                return err_set(e, r, "cannot read the BPF ring buffer: %s", strerror(-r));
        read_overflow(s);
        process_table_settle(&s->processes, s->pools, s->pools_n, s->set);
        process_table_fold(&s->processes, now_ns, s->set);
        read_cpus(s);
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
                return s->has_io;
        case FEATURE_NET_TX_IRQ:
        case FEATURE_NET_RX_IRQ:
        case FEATURE_BLOCK_IRQ:
                return s->softirq != NULL;
        default:
                return false;
        }
}

static void bpf_stats(const struct feature_source *s, struct feature_source_stats *ret)
{
        *ret = s->stats;
        ret->processes = s->processes.seen;
        ret->dropped = s->processes.dropped + s->charged.dropped + s->skel->bss->deaths_unplaced;
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
