/* SPDX-License-Identifier: Apache-2.0 */
/* Hardware counters per process, between perf (perf.h), which opens them, and the BPF program at the context
 * switch, which charges them: what is still running is added, and what shared its registers with others is
 * scaled. */
#pragma once

#include "collector/process.h"
#include "collector/programs.h"

struct counting {
        struct counters *counters; /* owned; NULL: none */
        const char *sysfs_root;    /* borrowed */
        enum definition definition;
        const struct cpu_running *running; /* mapped; [cpus] */
        struct counters_value *last;       /* owned; [cpus] */
        unsigned cpus;
        bool lost;   /* a CPU has come that cannot be counted: nothing is told any more */
        double part; /* of the last interval in which they counted; 0: not at all */
        char text[COUNTERS_TEXT_MAX];
};

/* The choice and the machine decide; why there are none is noted. */
int counting_open(struct counting *c, const struct feature_source_options *options, struct err *e);
/* When the programs are loaded, with programs_options.counters. */
int counting_attach(struct counting *c, const struct programs *p, struct err *e);
void counting_close(struct counting *c);

/* After a pass, before it is folded: what the processes that are on a CPU just now have used since they came
 * there. */
void counting_add_running(struct counting *c, struct programs *p, struct process_table *table);
/* After the fold. */
void counting_scale(const struct counting *c, struct usage_set *set);
bool counting_measures(const struct counting *c, unsigned counter);
