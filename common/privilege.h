/* SPDX-License-Identifier: Apache-2.0 */
/* Linux capabilities (capabilities(7)): what a program was given, and giving it up. For a process with one
 * thread: the kernel counts them by thread. */
#pragma once

#include <linux/capability.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"

#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#define CAP_BPF     39
#endif
#define CAPABILITY(cap) (UINT64_C(1) << (cap)) /* a set of them is a sum of these */

/* Effective now. */
bool privilege_has(int capability);
/* From now on nothing that this process starts can have more than it, and what it starts as another user than
 * root has nothing at all. Never fails on Linux 4.3 or later. */
void privilege_contain(void);
/* Gives up everything outside of `keep`, for good: permitted, effective, inheritable, ambient and, where that
 * is allowed (CAP_SETPCAP), the bounding set. ret_kept: what of `keep` there was. */
int privilege_drop(uint64_t keep, uint64_t *ret_kept, struct err *e);
/* "cap_bpf cap_perfmon", by number where this program knows no name; "none". Cut when it does not fit. */
void privilege_format(uint64_t capabilities, char *ret, size_t size);
