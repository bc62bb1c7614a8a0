/* SPDX-License-Identifier: Apache-2.0 */
/* Reads <sysfs_root>/devices/system/cpu/online; writes nothing. */
#include "collector/perf.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "common/file.h"
#include "schema/vocabulary.h"

#define MAX_ONLINE_TEXT 4096

const char *const definition_names[] = { "exact", "kepler-0.7", "software", NULL };

struct event {
        const char *name; /* perf's */
        uint32_t type;
        uint64_t config;
};

#define CACHE(cache, result)                                                                                 \
        (PERF_COUNT_HW_CACHE_##cache | (uint64_t)PERF_COUNT_HW_CACHE_RESULT_##result << 16)
#define LLC_READS                                                                                            \
        {                                                                                                    \
                "LLC-load-misses", PERF_TYPE_HW_CACHE, CACHE(LL, MISS)                                       \
        }
#define CACHE_MISSES                                                                                         \
        {                                                                                                    \
                "cache-misses", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES                               \
        }

/* Per counter the events to try in order. Of cache misses those of the last level: on x86 that is what the
 * general event counts on Intel; on Arm it is the first level, so the particular one comes first there. */
static const struct event events[][COUNTERS_N][2] = {
        [DEFINITION_EXACT] = {
                { { "cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES } },
                { { "instructions", PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS } },
#if defined(__x86_64__) || defined(__i386__)
                { CACHE_MISSES, LLC_READS },
#else
                { LLC_READS, CACHE_MISSES },
#endif
        },
        [DEFINITION_KEPLER_07] = {
                { { "cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES } },
                { { "instructions", PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS } },
                { { "dTLB-loads", PERF_TYPE_HW_CACHE, CACHE(DTLB, ACCESS) } },
        },
        [DEFINITION_SOFTWARE] = {
                { { "cpu-clock", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK } },
                { { "context-switches", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES } },
                { { "page-faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS } },
        },
};

struct counters {
        unsigned cpus;
        int *fds; /* owned; [COUNTERS_N * cpus], -1: none */
        bool has[COUNTERS_N];
        char text[COUNTERS_TEXT_MAX];
        char online_path[PATH_MAX];
        char online[MAX_ONLINE_TEXT];
};

void counters_close(struct counters *c)
{
        if (!c)
                return;
        for (unsigned i = 0; c->fds && i < COUNTERS_N * c->cpus; i++)
                if (c->fds[i] >= 0)
                        (void)close(c->fds[i]);
        free(c->fds);
        free(c);
}

int counters_fd(const struct counters *c, unsigned counter, unsigned cpu)
{
        return c->fds[counter * c->cpus + cpu];
}

/* The first counter that a CPU has leads its group, so that all count at the same times. */
static int group_of(const struct counters *c, unsigned cpu)
{
        for (unsigned i = 0; i < COUNTERS_N; i++)
                if (counters_fd(c, i, cpu) >= 0)
                        return counters_fd(c, i, cpu);
        return -1;
}

static int open_one(const struct event *event, unsigned cpu, int group)
{
        struct perf_event_attr attr = {
                .type = event->type,
                .size = sizeof(attr),
                .config = event->config,
                .disabled = group < 0, /* until the group is whole: who comes late may not count */
                .read_format =
                        PERF_FORMAT_GROUP | PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
        };
        long fd = syscall(SYS_perf_event_open, &attr, -1, (int)cpu, group, PERF_FLAG_FD_CLOEXEC);

        return fd < 0 ? -errno : (int)fd;
}

static void close_counter(struct counters *c, unsigned counter)
{
        for (unsigned cpu = 0; cpu < c->cpus; cpu++) {
                int *fd = &c->fds[counter * c->cpus + cpu];

                if (*fd >= 0)
                        (void)close(*fd);
                *fd = -1;
        }
}

/* "0-3,8": the next CPU, -1 at the end. */
static long next_cpu(const char **list, long last, long *end)
{
        char *after;

        if (last >= 0 && last < *end)
                return last + 1;
        if (**list < '0' || **list > '9')
                return -1;
        last = *end = strtol(*list, &after, 10);
        if (*after == '-')
                *end = strtol(after + 1, &after, 10);
        *list = *after == ',' ? after + 1 : after;
        return last;
}

/* On all CPUs that are online, or on none. */
static int open_counter(struct counters *c, unsigned counter, const struct event *event)
{
        const char *list = c->online;
        long cpu = -1, end = -1;

        while ((cpu = next_cpu(&list, cpu, &end)) >= 0) {
                int fd = cpu < (long)c->cpus ? open_one(event, (unsigned)cpu, group_of(c, (unsigned)cpu))
                                             : -EINVAL;

                if (fd < 0) {
                        close_counter(c, counter);
                        return fd;
                }
                c->fds[counter * c->cpus + (unsigned)cpu] = fd;
        }
        return 0;
}

static int open_all(struct counters *c, enum definition definition, struct err *e)
{
        int refused = -ENOENT;

        for (unsigned i = 0; i < COUNTERS_N; i++)
                for (unsigned k = 0; k < ARRAY_SIZE(events[0][0]) && !c->has[i]; k++) {
                        const struct event *event = &events[definition][i][k];
                        size_t used = strlen(c->text);
                        int r = event->name ? open_counter(c, i, event) : -ENOENT;

                        c->has[i] = r == 0;
                        if (r == 0)
                                (void)snprintf(c->text + used, sizeof(c->text) - used, "%s%s=%s",
                                               used ? " " : "", features[FEATURE_CPU_CYCLES + i].column,
                                               event->name);
                        else if (r == -EACCES || r == -EPERM || r == -EMFILE)
                                refused = r;
                }
        for (unsigned cpu = 0; cpu < c->cpus; cpu++)
                if (group_of(c, cpu) >= 0)
                        (void)ioctl(group_of(c, cpu), PERF_EVENT_IOC_ENABLE,
                                    PERF_IOC_FLAG_GROUP); /* cannot fail */
        if (c->has[0] || c->has[1] || c->has[2])
                return 0;
        if (refused == -ENOENT)
                return err_set(e, refused,
                               "the processor has no counters, or does not show them to this machine");
        if (refused == -EMFILE)
                return err_set(e, refused,
                               "too many open files: three for each CPU are needed (LimitNOFILE)");
        return err_set(e, -EACCES,
                       "perf refuses them: needs CAP_PERFMON, or kernel.perf_event_paranoid 0 or less");
}

int counters_open(const char *sysfs_root, enum definition definition, struct counters **ret, struct err *e)
{
        CLEANUP(counters_closep) struct counters *c = calloc(1, sizeof(*c));
        int cpus = libbpf_num_possible_cpus(), r;

        if (!c || cpus < 0)
                return err_set(e, c ? cpus : -ENOMEM, "cannot tell the number of CPUs");
        c->cpus = (unsigned)cpus;
        c->fds = malloc(COUNTERS_N * c->cpus * sizeof(*c->fds));
        if (!c->fds)
                return err_set(e, -ENOMEM, "out of memory");
        for (unsigned i = 0; i < COUNTERS_N * c->cpus; i++)
                c->fds[i] = -1;
        r = path_join(c->online_path, sizeof(c->online_path), sysfs_root, "devices/system/cpu/online");
        if (r == 0)
                r = file_read_small(AT_FDCWD, c->online_path, c->online, sizeof(c->online));
        if (r < 0)
                return err_set(e, r, "cannot read '%s/devices/system/cpu/online'", sysfs_root);
        r = open_all(c, definition, e);
        if (r < 0)
                return r;
        *ret = TAKE(c);
        return 0;
}

bool counters_has(const struct counters *c, unsigned counter)
{
        return c->has[counter];
}

const char *counters_text(const struct counters *c)
{
        return c->text;
}

bool counters_read(const struct counters *c, unsigned cpu, struct counters_value *ret)
{
        struct {
                uint64_t n, enabled_ns, running_ns, values[COUNTERS_N];
        } group = { 0 };
        int fd = group_of(c, cpu);
        unsigned k = 0;

        *ret = (struct counters_value){ 0 };
        if (fd < 0 || read(fd, &group, sizeof(group)) < (ssize_t)(3 * sizeof(uint64_t)))
                return false;
        ret->enabled_ns = group.enabled_ns;
        ret->running_ns = group.running_ns;
        for (unsigned i = 0; i < COUNTERS_N; i++)
                if (counters_fd(c, i, cpu) >= 0 && k < group.n)
                        ret->counter[i] = group.values[k++];
        return true;
}

bool counters_stale(const struct counters *c)
{
        char online[MAX_ONLINE_TEXT];

        return file_read_small(AT_FDCWD, c->online_path, online, sizeof(online)) > 0 &&
               strcmp(online, c->online) != 0;
}
