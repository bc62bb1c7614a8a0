/* SPDX-License-Identifier: Apache-2.0 */
/* Feature sources: what each cgroup did since recording began. A source is opened, then asked once per tick
 * for the activity since the tick before; it keeps whatever it needs to difference raw totals. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "collector/index.h"
#include "collector/perf.h"
#include "collector/vm.h"
#include "common/err.h"
#include "schema/vocabulary.h"

/* One cgroup's activity since the last read: deltas in the units of schema/vocabulary.h. The rows add up to
 * the machine's, but for those of virtual machines, whose processes are in their cgroups' rows too. */
struct cgroup_usage {
        uint64_t cgroup_id; /* inode of the cgroup's directory (v2); for v1 the same with bit 63 set and
                               the hierarchy in bits 60 to 62, as each numbers for itself; 0: unknown;
                               with bit 62 but not 63: a virtual machine's id (vm.h) */
        bool kernel;        /* kernel threads and the idle task, kept apart in one row of cgroup_id 0 */
        uint64_t delta[FEATURE_N];
};

/* One process's activity since the last read, which is in its cgroup's row, too. */
struct process_usage {
        uint32_t tgid;
        uint64_t start;         /* ns since boot */
        uint64_t cgroup_id, vm; /* as in struct cgroup_usage; the virtual machine's id, 0: none */
        bool kernel;
        uint64_t delta[FEATURE_N];
};

/* A growing array of cgroup deltas, reused between ticks. */
struct usage_set {
        struct cgroup_usage *rows; /* owned */
        size_t n, cap;
        struct index index;              /* of rows */
        struct cgroup_usage spare;       /* stands in for a row when there is no memory for even one */
        bool by_process;                 /* the owner wants rows of processes, too */
        struct process_usage *processes; /* owned */
        size_t n_processes, cap_processes;
        uint64_t folded; /* requests for a row that got another one, ever */
};
#define USAGE_PROCESSES_MAX 65536 /* told apart; those over it are in their cgroups' rows only */
/* The row of a process; NULL when there is none to be had, or processes are not asked for. */
struct process_usage *usage_set_process(struct usage_set *set, const struct process_usage *who);
#define USAGE_VM (UINT64_C(1) << 62)
static inline bool usage_is_vm(uint64_t id)
{
        return (id & (UINT64_C(3) << 62)) == USAGE_VM;
}
#define USAGE_ROWS_MAX 65536 /* cgroups told apart; the rest is folded into cgroup_id 0 and counted */
/* The row of a cgroup or virtual machine, made when it is not there. Never NULL: when full or out of memory,
 * the row of cgroup 0, for a virtual machine one that is thrown away. */
struct cgroup_usage *usage_set_row(struct usage_set *set, uint64_t cgroup_id, bool kernel);
void usage_set_clear(struct usage_set *set);
void usage_set_done(struct usage_set *set);

struct feature_source;
struct feature_source_stats {
        uint64_t processes;      /* seen in the last read */
        uint64_t dropped;        /* events lost so far, by whatever cause */
        uint64_t overflowed;     /* deaths that went through the overflow table */
        uint64_t read_ns;        /* CPU or wall time of the last read */
        const char *counters;    /* as counters_text(); "" none. Valid until the source is closed */
        double counters_running; /* the part of the last interval in which they counted; NaN: none */
};

/* What this machine does not give, for people: "page cache reads", "this kernel has no such tracepoint". */
#define FEATURE_NOTES_MAX 16
struct feature_notes {
        struct {
                char what[64], why[192];
        } items[FEATURE_NOTES_MAX];
        size_t n;
};
/* `notes` may be NULL; what is over the limit is left out. */
void feature_note(struct feature_notes *notes, const char *what, const char *fmt, ...) PRINTF(3, 4);

struct feature_source_options {
        const char *procfs_root;     /* "/proc" */
        const char *sysfs_root;      /* "/sys" */
        struct vm_table *vms;        /* borrowed; NULL: virtual machines are not told apart */
        struct feature_notes *notes; /* for open() to fill; may be NULL */
        enum counters_choice counters;
        enum definition definition; /* of the counters */
};

struct feature_source_ops {
        const char *name; /* "bpf", "proc" */
        /* -EPERM, -EACCES, -ENOSYS, -ENOENT …: cannot be used here; the words say what is missing. The first
         * read after opening sets the base and returns no deltas. */
        int (*open)(const struct feature_source_options *options, struct feature_source **ret, struct err *e);
        /* Adds the deltas since the last read to `set` (the caller cleared it). */
        int (*read)(struct feature_source *source, struct usage_set *set, struct err *e);
        /* May change with a read: counters are lost with a CPU that comes and cannot be counted. */
        bool (*measures)(const struct feature_source *source, enum feature_id feature);
        void (*stats)(const struct feature_source *source, struct feature_source_stats *ret);
        void (*close)(struct feature_source *source);
        /* The capabilities (common/privilege.h) without which it could not be read any more; others are given
         * up when it is open. NULL: none. */
        uint64_t (*capabilities)(const struct feature_source *source);
};
extern const struct feature_source_ops feature_source_bpf;  /* bpf.c */
extern const struct feature_source_ops feature_source_proc; /* proc.c */

/* cgroup.c: what a cgroup is. Resolves ids to paths under the cgroup mount (walked again when an unknown id
 * appears, at most once a tick) and paths to containers. */
struct cgroup_table;
#define CGROUP_PATH_MAX 512 /* Kubernetes in a container in a slice is 300 */
struct cgroup_info {
        char path[CGROUP_PATH_MAX]; /* below the mount; "" when it is already gone */
        char container[65];         /* container id, or "" when it is none */
};
int cgroup_table_new(const char *procfs_root, const char *sysfs_root, struct cgroup_table **ret,
                     struct err *e);
void cgroup_table_free(struct cgroup_table *table);
CLEANUP_DEFINE(struct cgroup_table *, cgroup_table_free);
/* Never fails: an id that cannot be resolved is no container. The result is valid until the next call. */
const struct cgroup_info *cgroup_table_find(struct cgroup_table *table, uint64_t cgroup_id);
/* Which v1 hierarchies are mounted: bit CGROUP_V1_x of bpf/features.h. */
uint32_t cgroup_table_v1(const struct cgroup_table *table);
/* The one id that stands for a process: where it is in v2 and in v1 (0: in the root). A container wins over
 * none, v2 over v1, any cgroup over the root's. */
uint64_t cgroup_table_choose(struct cgroup_table *table, uint64_t v2, uint64_t v1);
/* The same from the text of /proc/PID/cgroup. */
uint64_t cgroup_table_choose_text(struct cgroup_table *table, const char *text);
/* CPU time of a cgroup with its dead, by the kernel's own counter: only for a cgroup without children, and,
 * with id CGROUP_ROOT, for the whole machine where that is exact (v1 cpuacct). -ENOENT: gone, -ENODATA: not
 * to be had. */
#define CGROUP_ROOT 0
int cgroup_table_cpu_ns(struct cgroup_table *table, uint64_t cgroup_id, uint64_t *ret);
/* Container id in a cgroup path ("…/docker-<64 hex>.scope", "…/crio-<64 hex>.scope/container", "/docker/<64
 * hex>"), as Kepler reads it; false when it is none. Pure. */
bool cgroup_path_container(const char *path, char ret[65]);
