/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual machines: which processes are one, and what it is called. A process is taken for a virtual
 * machine's when libvirt has put it into the machine's cgroup, or when it is QEMU, Firecracker or Cloud
 * Hypervisor by the name of its command and the first of its arguments. A machine may be several processes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"

#define VM_TEXT_MAX 80
#define VM_COMM_MAX 16          /* the kernel's TASK_COMM_LEN */
#define VM_ARGS_MAX (32u << 10) /* bytes of a command line that are looked at */

struct vm {
        char key[VM_TEXT_MAX]; /* its uuid; else the scope libvirt gave it, Firecracker's --id, or one made of
                                  the process's id and start */
        char name[VM_TEXT_MAX]; /* as a person named it, or "" */
        const char *hypervisor; /* "kvm", "qemu" (its own emulation), "firecracker", "cloud-hypervisor" */
};

/* Whether it is worth to read the arguments. `cgroup` is the path below the mount. Pure, as is the next. */
bool vm_is_candidate(const char *comm, const char *cgroup);
/* `args` as in /proc/PID/cmdline, NUL between arguments. The key is "" when neither says one. */
bool vm_recognise(const char *cgroup, const char *args, size_t size, struct vm *ret);

/* Ids of virtual machines, as the rows of a usage_set have them. */
struct vm_table;
int vm_table_new(const char *procfs_root, struct vm_table **ret);
void vm_table_free(struct vm_table *table);
CLEANUP_DEFINE(struct vm_table *, vm_table_free);
/* The id of the machine that a process belongs to; 0: of none, or there is no room. `start` tells apart those
 * that have nothing else to be told apart by. */
uint64_t vm_table_of(struct vm_table *table, uint32_t tgid, uint64_t start, const char *comm,
                     const char *cgroup);
/* NULL: not known any more. */
const struct vm *vm_table_find(struct vm_table *table, uint64_t id);
