/* SPDX-License-Identifier: Apache-2.0 */
/* The /proc feature source, for machines on which BPF is not allowed. Reads
 * <procfs_root>/PID/{stat,schedstat,io,cgroup}, PID/task/TID/{schedstat,io} and <procfs_root>/softirqs;
 * writes nothing.
 *
 * What differs from BPF: softirqs are known only for the whole machine and go to the kernel's row; page cache
 * and CPU time of a process that lived and died between two reads, and of the last stretch of any process,
 * are not seen, except for the CPU time that reconcile.c finds in the cgroups' own counters. */
#include "collector/features.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "collector/process.h"
#include "collector/reconcile.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/privilege.h"

#define PF_KTHREAD        0x00200000u
#define MAX_STAT          2048 /* bytes; the command is at most 64 of them */
#define MAX_CGROUP_TEXT   ((size_t)64 << 10)
#define MAX_SOFTIRQS_TEXT ((size_t)4 << 20) /* ten lines of 11 bytes per CPU: 30,000 CPUs */
#define IRQ_KINDS         3
#define CGROUP_YOUNG      3  /* passes in which a new process is asked where it is: runtimes move it */
#define CGROUP_EVERY      16 /* passes between two questions after that */

static const struct irq_kind {
        const char *name;
        enum feature_id feature;
} irq_kinds[IRQ_KINDS] = {
        { "NET_TX:", FEATURE_NET_TX_IRQ },
        { "NET_RX:", FEATURE_NET_RX_IRQ },
        { "BLOCK:", FEATURE_BLOCK_IRQ },
};

struct feature_source {
        int root; /* descriptor of procfs_root */
        char root_path[PATH_MAX];
        struct cgroup_table *cgroups;
        struct reconcile *reconcile;
        struct process_table processes;
        uint64_t tick_ns;
        uint64_t irqs[IRQ_KINDS]; /* totals at the last read */
        bool has_io, has_irqs, based;
        uint64_t read_ns;
        struct vm_table *vms; /* borrowed; may be NULL */
};

/* What /proc/PID/stat tells. */
struct stat_line {
        uint64_t start;  /* ns since boot, in whole ticks */
        uint64_t cpu_ns; /* of the process with its reaped threads, each of user and system cut to whole ticks
                          */
        uint64_t waited; /* grows with each child waited for: their page faults and time */
        unsigned threads;
        bool kernel;
        char comm[VM_COMM_MAX];
};

/* --- opening ------------------------------------------------------------------------------------------- */

static void proc_close(struct feature_source *s)
{
        if (!s)
                return;
        if (s->root >= 0)
                close(s->root);
        process_table_done(&s->processes);
        reconcile_free(s->reconcile);
        cgroup_table_free(s->cgroups);
        free(s);
}
CLEANUP_DEFINE(struct feature_source *, proc_close);

static bool readable(int root, const char *path)
{
        CLEANUP(closep) int fd = openat(root, path, O_RDONLY | O_CLOEXEC);
        char c;

        return fd >= 0 && read(fd, &c, 1) == 1; /* /proc decides about permission only then */
}

static void tell_missing(const struct feature_source *s, struct feature_notes *notes)
{
        if (!s->has_io)
                feature_note(notes, "page cache writes", "/proc/1/io cannot be read");
        if (!s->has_irqs)
                feature_note(notes, "softirqs", "/proc/softirqs cannot be read");
        feature_note(notes, "page cache reads and added pages", "not in /proc: needs BPF");
        feature_note(notes, "hardware counters", "not in /proc: needs BPF");
}

static int proc_open(const struct feature_source_options *options, struct feature_source **ret, struct err *e)
{
        CLEANUP(proc_closep) struct feature_source *s = calloc(1, sizeof(*s));
        long ticks = sysconf(_SC_CLK_TCK);
        int r;

        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        s->root = -1; /* 0 is a real descriptor */
        s->tick_ns = NS_PER_S / (ticks > 0 ? (uint64_t)ticks : 100);
        r = snprintf(s->root_path, sizeof(s->root_path), "%s", options->procfs_root);
        if (r < 0 || (size_t)r >= sizeof(s->root_path))
                return err_set(e, -ENAMETOOLONG, "path too long: '%.100s…'", options->procfs_root);
        s->root = open(options->procfs_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s->root < 0)
                return err_sys(e, "cannot open '%s'", options->procfs_root);
        r = cgroup_table_new(options->procfs_root, options->sysfs_root, &s->cgroups, e);
        if (r < 0)
                return r;
        r = reconcile_new(s->cgroups, &s->reconcile);
        if (r < 0)
                return err_set(e, r, "out of memory");
        /* Process 1 is always there and root's: readable there, readable everywhere. An init with
         * capabilities that root here lacks is shut even to root, who can read all others nevertheless. */
        s->has_io =
                readable(s->root, "1/io") || (privilege_has(CAP_SYS_PTRACE) && readable(s->root, "self/io"));
        s->has_irqs = readable(s->root, "softirqs");
        s->vms = options->vms;
        tell_missing(s, options->notes);
        *ret = TAKE(s);
        return 0;
}

/* --- one process --------------------------------------------------------------------------------------- */

/* "PID (COMMAND) …", up to the last bracket. */
static void read_comm(const char *text, const char *end, char ret[VM_COMM_MAX])
{
        const char *from = strchr(text, '(');
        size_t n = from && from < end ? (size_t)(end - from - 1) : 0;

        n = n < VM_COMM_MAX ? n : VM_COMM_MAX - 1;
        memset(ret, 0, VM_COMM_MAX);
        memcpy(ret, n ? from + 1 : "", n);
}

/* Behind the command, which may hold anything, even brackets and line breaks: the third field and the
 * following.
 */
static int read_stat(const struct feature_source *s, const char *pid, struct stat_line *ret)
{
        unsigned long long utime, stime, start, waited[4];
        char path[64], text[MAX_STAT], *p;
        unsigned flags, threads;
        ssize_t n;
        CLEANUP(closep) int fd = -1;

        (void)snprintf(path, sizeof(path), "%.20s/stat", pid);
        fd = openat(s->root, path, O_RDONLY | O_CLOEXEC);
        n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
        if (n < 0)
                return -errno;
        text[n] = '\0';
        p = strrchr(text, ')');
        if (!p ||
            sscanf(p + 1,
                   " %*c %*d %*d %*d %*d %*d %u %*u %llu %*u %llu %llu %llu %llu %llu %*d %*d %u %*d %llu",
                   &flags, &waited[0], &waited[1], &utime, &stime, &waited[2], &waited[3], &threads,
                   &start) != 9)
                return -EBADMSG;
        read_comm(text, p, ret->comm);
        ret->waited = waited[0] + waited[1] + waited[2] + waited[3];
        ret->kernel = flags & PF_KTHREAD;
        ret->cpu_ns = (utime + stime) * s->tick_ns;
        ret->start = start * s->tick_ns;
        ret->threads = threads;
        return 0;
}

/* The first number of a schedstat: nanoseconds on a CPU. Missing in kernels without CONFIG_SCHED_INFO. */
static uint64_t read_schedstat(int dir, const char *path)
{
        unsigned long long ns;
        char text[96];

        if (file_read_small(dir, path, text, sizeof(text)) < 0 || sscanf(text, "%llu", &ns) != 1)
                return 0;
        return ns;
}

static uint64_t sum_threads(int root, const char *pid, const char *name,
                            uint64_t (*read_one)(int dir, const char *path))
{
        CLEANUP(closedirp) DIR *dir = NULL;
        char path[300];
        struct dirent *d;
        uint64_t sum = 0;
        int fd;

        (void)snprintf(path, sizeof(path), "%.20s/task", pid);
        fd = openat(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return 0;
        dir = fdopendir(fd);
        if (!dir) {
                close(fd);
                return 0;
        }
        while ((d = readdir(dir))) {
                (void)snprintf(path, sizeof(path), "%.20s/%s", d->d_name, name);
                if (d->d_name[0] != '.')
                        sum += read_one(dirfd(dir), path);
        }
        return sum;
}

/* schedstat is exact but knows no reaped threads; stat knows them but is up to two ticks behind. Both are
 * lower bounds, and stat's stays one for ever: the larger is right to within those ticks. */
static uint64_t read_cpu(const struct feature_source *s, const char *pid, const struct stat_line *stat)
{
        uint64_t ns;
        char path[64];

        (void)snprintf(path, sizeof(path), "%.20s/schedstat", pid);
        ns = stat->threads > 1 ? sum_threads(s->root, pid, "schedstat", read_schedstat)
                               : read_schedstat(s->root, path);
        return ns > stat->cpu_ns ? ns : stat->cpu_ns;
}

static uint64_t read_write_bytes(int dir, const char *path)
{
        char text[512], *p;
        unsigned long long bytes;
        ssize_t n;
        CLEANUP(closep) int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);

        n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
        if (n < 0)
                return 0;
        text[n] = '\0';
        p = strstr(text, "\nwrite_bytes: ");
        return p && sscanf(p, " write_bytes: %llu", &bytes) == 1 ? bytes : 0;
}

/* The kernel adds a child's writes to its parent's when that waits for it, so what a process shows has grown
 * by its own writes, those of ended threads included, only if it has not waited meanwhile: no count of its
 * children's has changed from the last pass until after the reading. Else its threads tell, as far as they
 * are still there; they never tell more than what is shown. */
static uint64_t write_growth(const struct feature_source *s, const char *pid, const struct stat_line *stat,
                             struct process_io *io)
{
        struct process_io last = *io;
        struct stat_line after;
        char path[64];
        uint64_t grown;

        (void)snprintf(path, sizeof(path), "%.20s/io", pid);
        grown = read_write_bytes(s->root, path);
        if (grown < last.whole)
                return 0; /* it could not be read */
        io->waited = stat->waited;
        io->whole = grown;
        grown -= last.whole;
        if (!grown)
                return 0;
        io->threads = sum_threads(s->root, pid, "io", read_write_bytes);
        if (last.waited == stat->waited && read_stat(s, pid, &after) == 0 && after.waited == stat->waited)
                return grown;
        if (io->threads < last.threads)
                return 0;
        return io->threads - last.threads < grown ? io->threads - last.threads : grown;
}

static void place(struct feature_source *s, struct process *p, const char *pid, const struct stat_line *stat)
{
        bool kernel = stat->kernel, renamed = memcmp(p->comm, stat->comm, sizeof(p->comm)) != 0;
        CLEANUP(buf_done) struct buf text = { .max = MAX_CGROUP_TEXT };
        char path[PATH_MAX + 64];
        uint64_t age = s->processes.pass - p->place[0]; /* place[0]: the pass in which it was met */

        p->kernel = kernel;
        if (p->placed && !renamed && age >= CGROUP_YOUNG && (s->processes.pass + p->tgid) % CGROUP_EVERY)
                return;
        if (!p->placed)
                p->place[0] = s->processes.pass;
        (void)snprintf(path, sizeof(path), "%s/%.20s/cgroup", s->root_path, pid);
        if (!kernel && (file_read(path, &text, NULL) == 0 || !p->placed))
                p->cgroup_id = cgroup_table_choose_text(s->cgroups, text.data ? text.data : "");
        if (!kernel)
                reconcile_track(s->reconcile, p->cgroup_id);
        p->placed = true;
        memcpy(p->comm, stat->comm, sizeof(p->comm));
        if (s->vms && !kernel)
                p->vm = vm_table_of(s->vms, p->tgid, p->start, p->comm,
                                    cgroup_table_find(s->cgroups, p->cgroup_id)->path);
}

static void read_process(struct feature_source *s, const char *pid)
{
        struct stat_line stat;
        struct process *p;
        bool first;

        if (read_stat(s, pid, &stat) < 0)
                return; /* gone since the directory was read */
        p = process_table_get(&s->processes, (uint32_t)strtoul(pid, NULL, 10), stat.start, &first);
        if (!p || !first)
                return;
        p->now[FEATURE_CPU_TIME] = read_cpu(s, pid, &stat);
        if (s->has_io && !stat.kernel)
                p->now[FEATURE_PAGE_CACHE] =
                        p->last[FEATURE_PAGE_CACHE] + write_growth(s, pid, &stat, &p->io);
        place(s, p, pid, &stat);
}

/* --- the whole machine --------------------------------------------------------------------------------- */

/* "NET_RX:  12  34": one number per CPU. */
static uint64_t sum_line(const char *text, const char *name)
{
        const char *p = strstr(text, name);
        uint64_t sum = 0;

        for (p = p ? p + strlen(name) : ""; *p && *p != '\n';) {
                char *end;
                unsigned long long v = strtoull(p, &end, 10);

                if (end == p)
                        break;
                sum += v;
                p = end;
        }
        return sum;
}

static void read_softirqs(struct feature_source *s, struct usage_set *set)
{
        CLEANUP(buf_done) struct buf text = { .max = MAX_SOFTIRQS_TEXT };
        char path[PATH_MAX + 16];

        (void)snprintf(path, sizeof(path), "%s/softirqs", s->root_path);
        if (!s->has_irqs || file_read(path, &text, NULL) < 0 || !text.data)
                return; /* what was missed is in the next difference */
        for (int i = 0; i < IRQ_KINDS; i++) {
                uint64_t sum = sum_line(text.data, irq_kinds[i].name);

                if (set && sum > s->irqs[i])
                        usage_set_row(set, 0, true)->delta[irq_kinds[i].feature] += sum - s->irqs[i];
                if (!set || sum > s->irqs[i])
                        s->irqs[i] = sum;
        }
}

static uint64_t boot_ns(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_BOOTTIME, &t); /* cannot fail with a valid clock */
        return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int read_all(struct feature_source *s, struct err *e)
{
        CLEANUP(closedirp) DIR *dir = NULL;
        struct dirent *d;
        int fd = openat(s->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return err_sys(e, "cannot read '%s'", s->root_path);
        dir = fdopendir(fd);
        if (!dir) {
                close(fd);
                return err_set(e, -ENOMEM, "out of memory");
        }
        while ((d = readdir(dir)))
                if (d->d_name[0] >= '1' && d->d_name[0] <= '9')
                        read_process(s, d->d_name);
        return 0;
}

static int proc_read(struct feature_source *s, struct usage_set *set, struct err *e)
{
        uint64_t start_ns = clock_monotonic_ns(), now_ns = boot_ns();
        struct usage_set *into = s->based ? set : NULL;
        int r;

        process_table_begin(&s->processes, now_ns);
        r = read_all(s, e);
        if (r < 0)
                return r;
        process_table_fold(&s->processes, now_ns, into);
        reconcile_apply(s->reconcile, into);
        read_softirqs(s, into);
        s->based = true;
        s->read_ns = clock_monotonic_ns() - start_ns;
        return 0;
}

static bool proc_measures(const struct feature_source *s, enum feature_id feature)
{
        switch (feature) {
        case FEATURE_CPU_TIME:
                return true;
        case FEATURE_PAGE_CACHE:
                return s->has_io;
        case FEATURE_NET_TX_IRQ:
        case FEATURE_NET_RX_IRQ:
        case FEATURE_BLOCK_IRQ:
                return s->has_irqs;
        default:
                return false;
        }
}

static void proc_stats(const struct feature_source *s, struct feature_source_stats *ret)
{
        *ret = (struct feature_source_stats){
                .processes = s->processes.seen,
                .dropped = s->processes.dropped,
                .read_ns = s->read_ns,
                .counters = "",
                .counters_running = (double)NAN,
        };
}

/* The writes of others are shown to who may trace them. */
static uint64_t proc_capabilities(const struct feature_source *s)
{
        return s->has_io ? CAPABILITY(CAP_SYS_PTRACE) : 0;
}

const struct feature_source_ops feature_source_proc = {
        .name = "proc",
        .open = proc_open,
        .read = proc_read,
        .measures = proc_measures,
        .stats = proc_stats,
        .close = proc_close,
        .capabilities = proc_capabilities,
};
