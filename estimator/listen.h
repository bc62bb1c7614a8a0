/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets that listen. A socket file that nobody answers on is left from a process that was killed; one
 * that is answered is never taken away. */
#pragma once

#include <sys/types.h>
#include "common/err.h"

struct listener {
        int fd;           /* non-blocking */
        const char *path; /* borrowed */
        dev_t dev;        /* of the socket file that we made */
        ino_t ino;
};

/* -EADDRINUSE: another process serves on the path; -EEXIST: something that is not a socket is there. */
int listener_open(const char *path, mode_t mode, struct listener *ret, struct err *e);

/* Close, and remove the socket file if it is still ours. */
void listener_close(struct listener *listener);
