/* SPDX-License-Identifier: Apache-2.0 */
/* What the collector itself costs: its CPU time and memory, and the run time of its BPF programs where the
 * kernel measures that anyway (kernel.bpf_stats_enabled; switching it on would cost every BPF program of the
 * machine). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define OVERHEAD_PROGRAMS_MAX 32

struct overhead {
        double cpu_seconds; /* user and system, since the program began */
        uint64_t resident_bytes;
        struct bpf_run {
                char name[16];
                uint64_t run_ns, runs;
        } programs[OVERHEAD_PROGRAMS_MAX];
        size_t n; /* 0: not measured */
};

struct overhead_probe;

/* Finds the BPF programs that this process holds; later ones are not seen. Needs the capabilities that loaded
 * them; reading does not. NULL: out of memory. */
struct overhead_probe *overhead_new(void);
void overhead_free(struct overhead_probe *probe);
void overhead_read(struct overhead_probe *probe, struct overhead *ret);
