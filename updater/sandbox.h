/* SPDX-License-Identifier: Apache-2.0 */
/* A process of its own for what reads untrusted bytes. It may use the network, read what it is shown, write
 * below one directory, and nothing else: Landlock (Linux 5.13) keeps it from other files, seccomp from
 * starting programs, from other processes and from the kernel's rarer interfaces. Its parent takes from it
 * one record of a fixed size. */
#pragma once

#include <stddef.h>
#include "common/err.h"

#define SANDBOX_PATHS_MAX 32

struct sandbox {
        const char *writable; /* directory; everything below may be changed */
        const char
                *readable[SANDBOX_PATHS_MAX + 1]; /* files and directories, NULL-terminated; may be missing */
        long long timeout_ms;                     /* then it is killed */
};

/* Let it read a file or directory, too; "" is none. */
void sandbox_show(struct sandbox *sandbox, const char *path);
/* What libraries want to read: certificates, the resolver's settings, themselves. */
void sandbox_show_system(struct sandbox *sandbox);

/* Call `work(arg, ret)` in a child and hand its record back. `work` returns 0 or a negative errno with words;
 * both arrive here. -ETIMEDOUT: killed; -EPROTO: it crashed, or broke a rule. Where the kernel has no
 * Landlock or seccomp, *ret_note says so and the work is done all the same; it is "" otherwise. The child is
 * told by PR_SET_PDEATHSIG when we die. */
int sandbox_run(const struct sandbox *sandbox, int (*work)(void *arg, void *ret, struct err *e), void *arg,
                void *ret, size_t size, struct err *ret_note, struct err *e);
