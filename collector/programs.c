/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/programs.h"

#include <bpf/btf.h>
#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "common/log.h"
#include "common/privilege.h"

#define HOST_PID_NAMESPACE 0xEFFFFFFCu /* PROC_PID_INIT_INO */

/* In the order in which they are tried. */
static const struct program_kind {
        const char *tracepoint;
        const char *lost; /* without it */
        bool storage;     /* it needs task storage */
} kinds[PROGRAM_N] = {
        [PROGRAM_DEATH] = { "sched_process_free", "what a process did between the last sample and its end",
                            false },
        [PROGRAM_SOFTIRQ] = { "softirq_entry", "softirqs", true },
        [PROGRAM_HAND_OVER] = { "sched_process_exit", "what ended threads wrote", true },
        [PROGRAM_READS] = { "mm_filemap_get_pages", "page cache reads", true },
        [PROGRAM_ADDS] = { "mm_filemap_add_to_page_cache", "pages added to the page cache", true },
        [PROGRAM_SWITCH] = { "sched_switch", "hardware counters", true },
};

static struct bpf_program *program_of(const struct features_bpf *skel, enum program which)
{
        switch (which) {
        case PROGRAM_DEATH:
                return skel->progs.record_death;
        case PROGRAM_SOFTIRQ:
                return skel->progs.count_softirq;
        case PROGRAM_HAND_OVER:
                return skel->progs.hand_over;
        case PROGRAM_READS:
                return skel->progs.count_reads;
        case PROGRAM_ADDS:
                return skel->progs.count_adds;
        default:
                return skel->progs.count_cycles;
        }
}

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

/* --- loading ------------------------------------------------------------------------------------------- */

struct wanted {
        bool storage, program[PROGRAM_N];
};

static void free_skeleton(struct programs *p)
{
        features_bpf__destroy(p->skel);
        p->skel = NULL;
}

/* What fails only after loading is not to be created: maps that the kernel does not know. */
static int load(struct programs *p, const struct programs_options *o, const struct wanted *w)
{
        long page = sysconf(_SC_PAGESIZE);
        int r;

        p->skel = features_bpf__open();
        if (!p->skel)
                return -errno;
        p->skel->rodata->with_storage = w->storage;
        p->skel->rodata->with_io = p->has_io;
        p->skel->rodata->with_counters = w->program[PROGRAM_SWITCH];
        p->skel->rodata->page_shift = page > 0 ? (uint32_t)__builtin_ctzl((unsigned long)page) : 12;
        p->skel->rodata->cpus = (uint32_t)p->cpus;
        p->skel->rodata->v1_hierarchies = o->v1_hierarchies;
        (void)bpf_map__set_autocreate(p->skel->maps.counts, w->storage);
        (void)bpf_map__set_autocreate(p->skel->maps.perf_counters, w->program[PROGRAM_SWITCH]);
        (void)bpf_map__set_autocreate(p->skel->maps.running, w->program[PROGRAM_SWITCH]);
        (void)bpf_map__set_max_entries(p->skel->maps.perf_counters, COUNTERS_N * (uint32_t)p->cpus);
        (void)bpf_map__set_max_entries(p->skel->maps.running, (uint32_t)p->cpus);
        for (int i = 0; i < PROGRAM_N; i++)
                (void)bpf_program__set_autoload(program_of(p->skel, (enum program)i), w->program[i]);
        r = features_bpf__load(p->skel);
        if (r < 0)
                free_skeleton(p);
        return r;
}

bool kernel_is_before(int major, int minor)
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

static void leave_out(const struct programs_options *o, enum program which, const char *why)
{
        feature_note(o->notes, kinds[which].lost, "BPF program on %s: %s", kinds[which].tracepoint, why);
}

static bool has_tracepoint(const struct btf *kernel, const char *name)
{
        char type[64];

        (void)snprintf(type, sizeof(type), "btf_trace_%s", name); /* as in include/trace/bpf_probe.h */
        return btf__find_by_name_kind(kernel, type, BTF_KIND_TYPEDEF) > 0;
}

static void choose(const struct programs *p, const struct programs_options *o, struct wanted *ret)
{
        ret->storage = true;
        for (int i = 0; i < PROGRAM_N; i++)
                ret->program[i] = true;
        ret->program[PROGRAM_SWITCH] = o->counters != NULL;
        ret->program[PROGRAM_HAND_OVER] = p->has_io || o->counters;
}

/* Each is tried with those that have been taken already. */
static void try_each(struct programs *p, const struct programs_options *o, struct wanted *w)
{
        struct btf *kernel = btf__load_vmlinux_btf();
        struct wanted taken = { .storage = true };

        taken.storage = load(p, o, &taken) == 0; /* the iterator alone uses it, too */
        free_skeleton(p);
        if (!taken.storage)
                feature_note(o->notes, "task storage", "needs Linux 5.13 or later");
        for (int i = 0; i < PROGRAM_N; i++) {
                if (!w->program[i])
                        continue;
                taken.program[i] = taken.storage || !kinds[i].storage;
                if (!taken.program[i]) {
                        leave_out(o, (enum program)i, "needs task storage");
                        continue;
                }
                taken.program[i] = load(p, o, &taken) == 0;
                free_skeleton(p);
                if (!taken.program[i])
                        leave_out(o, (enum program)i,
                                  kernel && !has_tracepoint(kernel, kinds[i].tracepoint)
                                          ? "this kernel has no such tracepoint"
                                          : "this kernel refuses it");
        }
        btf__free(kernel);
        *w = taken;
}

/* What a kernel does not have libbpf looks for in its modules, too, and that takes CAP_SYS_ADMIN: such a
 * refusal is about one program, not about us. */
static bool is_refused(int r)
{
        return r == -ENOSYS || (r == -EPERM && !(privilege_has(CAP_BPF) && privilege_has(CAP_PERFMON)));
}

/* All at once works on most kernels. */
static int load_best(struct programs *p, const struct programs_options *o, struct wanted *w, struct err *e)
{
        int r = load(p, o, w);

        if (r < 0 && !is_refused(r)) {
                try_each(p, o, w);
                r = load(p, o, w);
        }
        return r < 0 ? load_error(r, e) : 0;
}

static int attach_all(struct programs *p, const struct programs_options *o, const struct wanted *w,
                      struct err *e)
{
        p->iterator = bpf_program__attach(p->skel->progs.read_tasks);
        if (!p->iterator)
                return err_sys(e, "cannot attach the BPF task iterator");
        for (int i = 0; i < PROGRAM_N; i++) {
                if (!w->program[i])
                        continue;
                p->links[i] = bpf_program__attach(program_of(p->skel, (enum program)i));
                if (!p->links[i])
                        leave_out(o, (enum program)i, strerror(errno));
        }
        return 0;
}

/* What libbpf would only stumble over, in words. */
static int check_kernel(const struct programs_options *o, struct err *e)
{
        char path[512];
        struct stat st;

        (void)snprintf(path, sizeof(path), "%s/kernel/btf/vmlinux", o->sysfs_root);
        if (access(path, R_OK) < 0)
                return err_sys(e, "no BTF at '%s' (CONFIG_DEBUG_INFO_BTF)", path);
        if (stat("/proc/self/ns/pid", &st) == 0 && st.st_ino != HOST_PID_NAMESPACE)
                return err_set(
                        e, -ENOTSUP,
                        "the BPF task iterator sees only this PID namespace: needs the host's (hostPID)");
        return 0;
}

int programs_open(struct programs *p, const struct programs_options *o, struct err *e)
{
        struct wanted wanted = { 0 };
        int r;

        *p = (struct programs){ .cpus = libbpf_num_possible_cpus() };
        if (p->cpus < 0)
                return err_set(e, p->cpus, "cannot tell the number of CPUs");
        r = check_kernel(o, e);
        if (r < 0)
                return r;
        p->has_io = access("/proc/self/io", F_OK) == 0;
        if (!p->has_io)
                feature_note(o->notes, "page cache writes",
                             "the kernel is built without CONFIG_TASK_IO_ACCOUNTING");
        (void)libbpf_set_print(print_debug);
        choose(p, o, &wanted);
        r = load_best(p, o, &wanted, e);
        (void)malloc_trim(0); /* the kernel's BTF was some megabytes, more than all that we keep */
        if (r == 0) {
                p->storage = wanted.storage;
                r = attach_all(p, o, &wanted, e);
        }
        if (r == 0 && p->links[PROGRAM_SWITCH])
                r = programs_set_counters(p, o->counters, e);
        return r;
}

void programs_close(struct programs *p)
{
        for (int i = 0; i < PROGRAM_N; i++)
                bpf_link__destroy(p->links[i]);
        bpf_link__destroy(p->iterator);
        features_bpf__destroy(p->skel);
}

/* An event that is read before it is there fails, and its slot is no reading then: what went before does not
 * matter to the difference that comes next. */
int programs_set_counters(struct programs *p, const struct counters *counters, struct err *e)
{
        int map = bpf_map__fd(p->skel->maps.perf_counters);

        for (uint32_t i = 0; i < COUNTERS_N; i++)
                for (uint32_t cpu = 0; cpu < (uint32_t)p->cpus; cpu++) {
                        uint32_t key = i * (uint32_t)p->cpus + cpu;
                        int fd = counters_fd(counters, i, cpu);

                        (void)bpf_map_delete_elem(map, &key); /* there may be none */
                        if (fd >= 0 && bpf_map_update_elem(map, &key, &fd, BPF_ANY) < 0)
                                return err_sys(e, "cannot hand a perf event to BPF");
                }
        return 0;
}
