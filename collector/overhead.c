/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/overhead.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "common/cleanup.h"
#include "common/file.h"
#include "common/num.h"

#define BPF_STATS "/proc/sys/kernel/bpf_stats_enabled"

struct overhead_probe {
        struct {
                int fd; /* the feature source's, which outlives the probe */
                char name[16];
        } programs[OVERHEAD_PROGRAMS_MAX];
        size_t n;
};

static void look_at(struct overhead_probe *probe, const char *fd_name)
{
        struct bpf_prog_info info = { 0 };
        __u32 size = sizeof(info);
        char path[64], target[64];
        uint64_t fd;
        ssize_t n;

        if (num_parse_u64(fd_name, &fd) < 0)
                return;
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%s", fd_name);
        n = readlink(path, target, sizeof(target) - 1);
        if (n < 0)
                return;
        target[n] = '\0';
        if (strcmp(target, "anon_inode:bpf-prog") != 0 || probe->n == OVERHEAD_PROGRAMS_MAX ||
            bpf_obj_get_info_by_fd((int)fd, &info, &size) != 0)
                return;
        probe->programs[probe->n].fd = (int)fd;
        (void)snprintf(probe->programs[probe->n++].name, sizeof(info.name), "%.15s", info.name);
}

struct overhead_probe *overhead_new(void)
{
        struct overhead_probe *probe = calloc(1, sizeof(*probe));
        CLEANUP(closedirp) DIR *fds = opendir("/proc/self/fd");
        struct dirent *d;

        while (probe && fds && (d = readdir(fds)))
                look_at(probe, d->d_name);
        return probe;
}

void overhead_free(struct overhead_probe *probe)
{
        free(probe);
}

static uint64_t resident_bytes(void)
{
        unsigned long long size, resident;
        char text[128];

        if (file_read_small(AT_FDCWD, "/proc/self/statm", text, sizeof(text)) < 0 ||
            sscanf(text, "%llu %llu", &size, &resident) != 2)
                return 0;
        return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The descriptor's own page in /proc has the numbers without a bpf() call (since 5.1). */
static int read_program(int fd, struct bpf_run *ret)
{
        char path[64], text[1024];
        const char *ns, *count;
        CLEANUP(closep) int info = -1;
        ssize_t n;

        (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        info = open(path, O_RDONLY | O_CLOEXEC);
        n = info < 0 ? -1 : read(info, text, sizeof(text) - 1);
        if (n < 0)
                return -1;
        text[n] = '\0';
        ns = strstr(text, "run_time_ns:");
        count = strstr(text, "run_cnt:");
        if (!ns || !count)
                return -1;
        ret->run_ns = strtoull(ns + strlen("run_time_ns:"), NULL, 10);
        ret->runs = strtoull(count + strlen("run_cnt:"), NULL, 10);
        return 0;
}

void overhead_read(struct overhead_probe *probe, struct overhead *ret)
{
        unsigned long long enabled = 0;
        struct rusage usage;

        memset(ret, 0, sizeof(*ret));
        if (getrusage(RUSAGE_SELF, &usage) == 0)
                ret->cpu_seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
        ret->resident_bytes = resident_bytes();
        if (!probe || file_read_u64(AT_FDCWD, BPF_STATS, &enabled) < 0 || !enabled)
                return;
        for (size_t i = 0; i < probe->n; i++) {
                struct bpf_run *run = &ret->programs[ret->n];

                memcpy(run->name, probe->programs[i].name, sizeof(run->name));
                ret->n += read_program(probe->programs[i].fd, run) == 0;
        }
}
