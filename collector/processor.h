/* SPDX-License-Identifier: Apache-2.0 */
/* What the power sensors must know of the processor: its maker and model, whether a hypervisor shows it to
 * us, and which CPUs belong to which socket. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct processor {
        bool intel, amd; /* amd: Hygon too */
        int family, model;
        bool hypervisor; /* we are a guest */
};

/* From <procfs_root>/cpuinfo; all zero when it cannot be read. */
void processor_read(const char *procfs_root, struct processor *ret);

#define PROCESSOR_CPUS_MAX 4096
struct processor_cpu {
        int cpu, package, die, core; /* die: 0 where the kernel does not tell */
};
/* The CPUs that are online, from <sysfs_root>/devices/system/cpu/cpuN/topology, in the order of their
 * numbers. Returns how many, at most `max`; 0 when there is no such tree. */
size_t processor_cpus(const char *sysfs_root, struct processor_cpu *ret, size_t max);
/* The socket of a CPU as RAPL names it: "0", or "0-die-1" when the machine has more than one die a socket. */
void processor_unit(const struct processor_cpu *cpu, bool dies, char *ret, size_t size);
