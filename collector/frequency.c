/* SPDX-License-Identifier: Apache-2.0 */
/* Reads <sysfs_root>/devices/system/cpu/cpufreq/policyN/{affected_cpus,scaling_cur_freq,stats/time_in_state}
 * and <sysfs_root>/bus/event_source/devices/msr; writes nothing. */
#include "collector/frequency.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/perf_event.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/file.h"
#include "common/num.h"

#define MAX_CPUS       4096
#define MAX_POLICIES   1024
#define MAX_BANDS      256 /* over all policies: 4 kinds of core with 60 steps each */
#define MAX_STATS_TEXT 8192
#define STATS_TICK_NS  (10 * NS_PER_MS) /* time_in_state is told in hundredths of a second */
#define KILOHERTZ      1000

struct policy {
        int directory;
        unsigned cpus[64]; /* affected; more share one on no machine that tells it */
        size_t n_cpus;
        bool stats;
        uint64_t last[MAX_BANDS]; /* of time_in_state, by line */
        size_t n_last;            /* 0: no base yet */
};

enum { APERF, MPERF, TSC, MSR_N };
static const char *const msr_events[MSR_N] = { "aperf", "mperf", "tsc" };

struct msr_cpu {
        unsigned cpu;
        int fd[MSR_N]; /* the first leads the group */
        uint64_t last[MSR_N];
        bool based;
};

struct frequency {
        struct policy *policies; /* owned; [n_policies] */
        size_t n_policies;
        struct msr_cpu *msr; /* owned; [n_msr] */
        size_t n_msr;
        bool has_bands;
        struct cpu_frequency *cpus; /* owned */
        size_t n_cpus, cap_cpus;
        struct frequency_band bands[MAX_BANDS];
        size_t n_bands;
};

void frequency_close(struct frequency *f)
{
        if (!f)
                return;
        for (size_t i = 0; i < f->n_policies; i++)
                (void)close(f->policies[i].directory);
        for (size_t i = 0; i < f->n_msr; i++)
                for (int k = 0; k < MSR_N; k++)
                        closep(&f->msr[i].fd[k]);
        free(f->policies);
        free(f->msr);
        free(f->cpus);
        free(f);
}

uint64_t frequency_of(uint64_t aperf, uint64_t mperf, uint64_t tsc, uint64_t duration_ns)
{
        if (!mperf || !duration_ns)
                return 0;
        return (uint64_t)llround((double)aperf / (double)mperf * (double)tsc * 1e9 / (double)duration_ns);
}

/* --- opening ------------------------------------------------------------------------------------------- */

static int open_msr_event(const char *pmu, const char *name, uint32_t type, unsigned cpu, int group)
{
        char path[PATH_MAX], text[64];
        struct perf_event_attr attr = {
                .type = type, .size = sizeof(attr), .read_format = PERF_FORMAT_GROUP, .disabled = group < 0
        };
        unsigned config;
        long fd;

        if (snprintf(path, sizeof(path), "%s/events/%s", pmu, name) >= (int)sizeof(path) ||
            file_read_small(AT_FDCWD, path, text, sizeof(text)) <= 0 ||
            sscanf(text, "event=%x", &config) != 1)
                return -ENOENT;
        attr.config = config;
        fd = syscall(SYS_perf_event_open, &attr, -1, (int)cpu, group, PERF_FLAG_FD_CLOEXEC);
        return fd < 0 ? -errno : (int)fd;
}

static void close_msr(struct frequency *f)
{
        for (size_t i = 0; i < f->n_msr; i++)
                for (int k = 0; k < MSR_N; k++)
                        closep(&f->msr[i].fd[k]);
        f->n_msr = 0;
}

/* All three events on all CPUs, or none. */
static void open_msr(struct frequency *f, const char *sysfs_root)
{
        char pmu[PATH_MAX], path[PATH_MAX + 16], text[64];
        long cpus = sysconf(_SC_NPROCESSORS_CONF);
        uint64_t type;

        if (path_join(pmu, sizeof(pmu), sysfs_root, "bus/event_source/devices/msr") < 0)
                return;
        (void)snprintf(path, sizeof(path), "%s/type", pmu);
        if (file_read_small(AT_FDCWD, path, text, sizeof(text)) <= 0 || num_parse_u64(text, &type) < 0)
                return;
        f->msr = cpus > 0 && cpus <= MAX_CPUS ? calloc((size_t)cpus, sizeof(*f->msr)) : NULL;
        for (unsigned cpu = 0; f->msr && cpu < (unsigned)cpus; cpu++) {
                struct msr_cpu *m = &f->msr[f->n_msr++];

                *m = (struct msr_cpu){ .cpu = cpu, .fd = { -1, -1, -1 } };
                for (int k = 0; k < MSR_N; k++) {
                        m->fd[k] = open_msr_event(pmu, msr_events[k], (uint32_t)type, cpu, m->fd[0]);
                        if (m->fd[k] < 0) {
                                m->fd[k] = -1;
                                close_msr(f);
                                return;
                        }
                }
                (void)ioctl(m->fd[0], PERF_EVENT_IOC_ENABLE, PERF_IOC_FLAG_GROUP); /* cannot fail */
        }
}

/* "0 1 2 3" */
static void read_affected(struct policy *p)
{
        char text[512], *s = text, *end;

        p->n_cpus = 0;
        if (file_read_small(p->directory, "affected_cpus", text, sizeof(text)) <= 0)
                return;
        while (p->n_cpus < ARRAY_SIZE(p->cpus)) {
                unsigned long cpu = strtoul(s, &end, 10);

                if (end == s || cpu >= MAX_CPUS)
                        return;
                p->cpus[p->n_cpus++] = (unsigned)cpu;
                s = end;
        }
}

static int add_policy(struct frequency *f, int parent, const char *name)
{
        struct policy *grown = realloc(f->policies, (f->n_policies + 1) * sizeof(*grown)), *p;

        if (!grown)
                return -ENOMEM;
        f->policies = grown;
        p = &grown[f->n_policies];
        *p = (struct policy){ .directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
        if (p->directory < 0)
                return 0;
        f->n_policies++;
        p->stats = faccessat(p->directory, "stats/time_in_state", R_OK, 0) == 0;
        f->has_bands = f->has_bands || p->stats;
        return 0;
}

static int open_policies(struct frequency *f, const char *sysfs_root)
{
        CLEANUP(closedirp) DIR *dir = NULL;
        char path[PATH_MAX];
        struct dirent *d;

        if (path_join(path, sizeof(path), sysfs_root, "devices/system/cpu/cpufreq") < 0)
                return -ENAMETOOLONG;
        dir = opendir(path);
        while (dir && f->n_policies < MAX_POLICIES && (d = readdir(dir)))
                if (!strncmp(d->d_name, "policy", strlen("policy")) &&
                    add_policy(f, dirfd(dir), d->d_name) < 0)
                        return -ENOMEM;
        return 0;
}

int frequency_open(const char *sysfs_root, struct frequency **ret, struct err *e)
{
        CLEANUP(frequency_closep) struct frequency *f = calloc(1, sizeof(*f));
        int r = f ? open_policies(f, sysfs_root) : -ENOMEM;

        if (r < 0)
                return err_set(e, r, "%s", strerror(-r));
        open_msr(f, sysfs_root);
        if (!f->n_policies && !f->n_msr)
                return err_set(e, -ENOENT,
                               "no policy in '%s/devices/system/cpu/cpufreq', and perf has no aperf",
                               sysfs_root);
        *ret = TAKE(f);
        return 0;
}

/* --- reading ------------------------------------------------------------------------------------------- */

static void tell_cpu(struct frequency *f, unsigned cpu, uint64_t hertz)
{
        if (f->n_cpus == f->cap_cpus) {
                size_t cap = f->cap_cpus ? f->cap_cpus * 2 : 16;
                struct cpu_frequency *cpus = realloc(f->cpus, cap * sizeof(*cpus));

                if (!cpus)
                        return; /* a gap */
                f->cpus = cpus;
                f->cap_cpus = cap;
        }
        f->cpus[f->n_cpus++] = (struct cpu_frequency){ cpu, hertz };
}

static void read_msr(struct frequency *f, struct msr_cpu *m, uint64_t duration_ns)
{
        uint64_t group[1 + MSR_N], delta[MSR_N], hertz = 0;

        if (read(m->fd[0], group, sizeof(group)) != (ssize_t)sizeof(group)) {
                m->based = false;
                return;
        }
        for (int k = 0; k < MSR_N; k++) {
                delta[k] = group[1 + k] - m->last[k];
                m->last[k] = group[1 + k];
        }
        if (m->based)
                hertz = frequency_of(delta[APERF], delta[MPERF], delta[TSC], duration_ns);
        m->based = true;
        if (hertz)
                tell_cpu(f, m->cpu, hertz);
}

static void read_current(struct frequency *f, struct policy *p)
{
        unsigned long long khz;

        if (file_read_u64(p->directory, "scaling_cur_freq", &khz) < 0 || !khz)
                return;
        for (size_t i = 0; i < p->n_cpus; i++)
                tell_cpu(f, p->cpus[i], khz * KILOHERTZ);
}

static struct frequency_band *band_of(struct frequency *f, uint64_t hertz)
{
        for (size_t i = 0; i < f->n_bands; i++)
                if (f->bands[i].hertz == hertz)
                        return &f->bands[i];
        if (f->n_bands == MAX_BANDS)
                return NULL;
        f->bands[f->n_bands] = (struct frequency_band){ .hertz = hertz };
        return &f->bands[f->n_bands++];
}

/* "<kHz> <ticks>" a line. Counts that went back were reset: they are the new base. */
static void read_stats(struct frequency *f, struct policy *p)
{
        char text[MAX_STATS_TEXT], *line, *save = NULL;
        CLEANUP(closep) int fd = openat(p->directory, "stats/time_in_state", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
        size_t i = 0;

        if (n < 0)
                return;
        text[n] = '\0';
        for (line = strtok_r(text, "\n", &save); line && i < MAX_BANDS; line = strtok_r(NULL, "\n", &save)) {
                unsigned long long khz, ticks;
                struct frequency_band *band;

                if (sscanf(line, "%llu %llu", &khz, &ticks) != 2)
                        continue;
                band = band_of(f, khz * KILOHERTZ);
                if (band && i < p->n_last && ticks > p->last[i])
                        band->time_ns += (ticks - p->last[i]) * STATS_TICK_NS * p->n_cpus;
                p->last[i++] = ticks;
        }
        p->n_last = i;
}

void frequency_read(struct frequency *f, uint64_t duration_ns, struct frequency_reading *ret)
{
        f->n_cpus = 0;
        for (size_t i = 0; i < f->n_bands; i++)
                f->bands[i].time_ns = 0;
        for (size_t i = 0; i < f->n_msr; i++)
                read_msr(f, &f->msr[i], duration_ns);
        for (size_t i = 0; i < f->n_policies; i++) {
                read_affected(&f->policies[i]);
                if (!f->n_msr)
                        read_current(f, &f->policies[i]);
                if (f->policies[i].stats)
                        read_stats(f, &f->policies[i]);
        }
        *ret = (struct frequency_reading){ f->cpus, f->n_cpus, f->bands, f->n_bands };
}

const char *frequency_source(const struct frequency *f)
{
        return f->n_msr ? "aperf" : "cpufreq";
}

bool frequency_has_bands(const struct frequency *f)
{
        return f->has_bands;
}
