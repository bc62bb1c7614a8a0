/* SPDX-License-Identifier: Apache-2.0 */
/* The BPF programs of bpf/features.bpf.c: which of them this kernel takes. All but the task iterator are
 * optional, each by itself. */
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stdint.h>
#include "collector/features.h"
#include "collector/perf.h"
#include "features.skel.h"

enum program {
        PROGRAM_DEATH,
        PROGRAM_SOFTIRQ,
        PROGRAM_HAND_OVER,
        PROGRAM_READS,
        PROGRAM_ADDS,
        PROGRAM_SWITCH,
        PROGRAM_N,
};

struct programs {
        struct features_bpf *skel;
        struct bpf_link *iterator;
        struct bpf_link *links[PROGRAM_N]; /* NULL: not there */
        bool has_io;                       /* the kernel accounts writes by task */
        bool storage;                      /* it has task storage */
        int cpus;                          /* possible ones */
};

struct programs_options {
        const char *sysfs_root;
        uint32_t v1_hierarchies;         /* as in features.bpf.c */
        const struct counters *counters; /* NULL: none, and so no program at the context switch */
        struct feature_notes *notes;
};

/* What is left out is noted. -EPERM, -EACCES, -ENOSYS, -ENOENT, -ENOTSUP …: no BPF here; the words say what
 * is missing. */
int programs_open(struct programs *p, const struct programs_options *options, struct err *e);
void programs_close(struct programs *p);
/* Put the events of `counters` where the programs read them, in place of others. */
int programs_set_counters(struct programs *p, const struct counters *counters, struct err *e);

/* By what uname() says; true when it cannot be told. Only for what no feature test tells. */
bool kernel_is_before(int major, int minor);
