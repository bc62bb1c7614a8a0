/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets that listen. A socket file that nobody answers on is left from a process that was killed; one
 * that is answered is never taken away. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "common/err.h"

struct listener {
        int fd;           /* non-blocking */
        const char *path; /* borrowed */
        dev_t dev;        /* of the socket file that we made */
        ino_t ino;
        bool inherited; /* the service manager's: it removes the file */
};

struct listener_options {
        mode_t mode;
        uid_t user; /* -1: as made */
        gid_t group;
};

/* Sockets that the service manager passed on (LISTEN_FDS of sd_listen_fds(3)), of at most `max`. Returns how
 * many; 0 without any. -EINVAL: one of them is not a listening unix stream socket. */
int listeners_inherit(struct listener *ret, size_t max, struct err *e);

/* -EADDRINUSE: another process serves on the path; -EEXIST: something that is not a socket is there. */
int listener_open(const char *path, const struct listener_options *options, struct listener *ret,
                  struct err *e);

/* Close, and remove the socket file if it is still ours. */
void listener_close(struct listener *listener);
