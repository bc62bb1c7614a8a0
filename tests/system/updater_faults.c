/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-updater with faults: its own objects, linked so that every call that changes the disk comes by
 * here first.
 *
 *     FAULT=kill:N     the N-th such call kills the whole program instead, parent and sandboxed child
 *     FAULT=full:N     from the N-th on, calls that need room on the disk fail: ENOSPC
 *     FAULT_CLOCK_S=N  the wall clock is N seconds off
 *     FAULT_NODE=ID    this is another machine, with that node id (32 hex digits)
 *
 * The count is shared by both processes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "schema/machine.h"

static struct {
        atomic_ulong calls;
        atomic_bool killed;
} * shared;
static unsigned long kill_at, full_from;
static long clock_off_s;

__attribute__((constructor)) static void begin(void)
{
        const char *fault = getenv("FAULT"), *off = getenv("FAULT_CLOCK_S");

        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED)
                abort();
        if (fault && strncmp(fault, "kill:", 5) == 0)
                kill_at = strtoul(fault + 5, NULL, 10);
        if (fault && strncmp(fault, "full:", 5) == 0)
                full_from = strtoul(fault + 5, NULL, 10);
        clock_off_s = off ? strtol(off, NULL, 10) : 0;
}

/* tgkill(), as the sandbox lets nobody kill(). */
static void die(void)
{
        atomic_store(&shared->killed, true);
        for (;;)
                (void)syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), SIGKILL);
}

/* May the call go on? With needs_room false a full disk does not matter to it. */
static bool step(bool needs_room)
{
        unsigned long n = atomic_fetch_add(&shared->calls, 1) + 1;

        if (n == kill_at)
                die();
        if (!needs_room || full_from == 0 || n < full_from)
                return true;
        errno = ENOSPC;
        return false;
}

/* ---- the calls ---- */

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_renameat2(int fd, const char *from, int to_fd, const char *to, unsigned int flags);
int __wrap_renameat2(int fd, const char *from, int to_fd, const char *to, unsigned int flags);
int __real_symlink(const char *target, const char *path);
int __wrap_symlink(const char *target, const char *path);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
char *__real_mkdtemp(char *template);
char *__wrap_mkdtemp(char *template);
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __real_unlinkat(int dir, const char *path, int flags);
int __wrap_unlinkat(int dir, const char *path, int flags);
pid_t __real_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
int __real_machine_discover(const char *procfs, const char *sysfs, struct machine *ret, struct err *e);
int __wrap_machine_discover(const char *procfs, const char *sysfs, struct machine *ret, struct err *e);

int __wrap_machine_discover(const char *procfs, const char *sysfs, struct machine *ret, struct err *e)
{
        int r = __real_machine_discover(procfs, sysfs, ret, e);
        const char *node = getenv("FAULT_NODE");

        if (r == 0 && node)
                (void)snprintf(ret->node_id, sizeof(ret->node_id), "%s", node);
        return r;
}

int64_t __real_clock_wall_ms(void);
int64_t __wrap_clock_wall_ms(void);

/* Pipes, sockets and terminals are no disk. */
static bool is_on_disk(int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

ssize_t __wrap_write(int fd, const void *data, size_t size)
{
        return !is_on_disk(fd) || step(true) ? __real_write(fd, data, size) : -1;
}

static mode_t mode_of(int flags, va_list args)
{
        return flags & O_CREAT ? va_arg(args, mode_t) : 0;
}

int __wrap_open(const char *path, int flags, ...)
{
        va_list args;
        mode_t mode;

        va_start(args, flags);
        mode = mode_of(flags, args);
        va_end(args);
        return !(flags & O_CREAT) || access(path, F_OK) == 0 || step(true) ? __real_open(path, flags, mode)
                                                                           : -1;
}

int __wrap_openat(int dir, const char *path, int flags, ...)
{
        va_list args;
        mode_t mode;

        va_start(args, flags);
        mode = mode_of(flags, args);
        va_end(args);
        return !(flags & O_CREAT) || step(true) ? __real_openat(dir, path, flags, mode) : -1;
}

int __wrap_fsync(int fd)
{
        return step(true) ? __real_fsync(fd) : -1;
}

int __wrap_rename(const char *from, const char *to)
{
        return step(false) ? __real_rename(from, to) : -1;
}

int __wrap_renameat2(int fd, const char *from, int to_fd, const char *to, unsigned int flags)
{
        return step(false) ? __real_renameat2(fd, from, to_fd, to, flags) : -1;
}

int __wrap_symlink(const char *target, const char *path)
{
        return step(true) ? __real_symlink(target, path) : -1;
}

int __wrap_mkdir(const char *path, mode_t mode)
{
        return access(path, F_OK) == 0 || step(true) ? __real_mkdir(path, mode) : -1;
}

char *__wrap_mkdtemp(char *template)
{
        return step(true) ? __real_mkdtemp(template) : NULL;
}

int __wrap_unlink(const char *path)
{
        return step(false) ? __real_unlink(path) : -1;
}

int __wrap_unlinkat(int dir, const char *path, int flags)
{
        return step(false) ? __real_unlinkat(dir, path, flags) : -1;
}

/* A kill that met the child takes the parent along, before it can do anything about it. */
pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
        pid_t r = __real_waitpid(pid, status, options);

        if (atomic_load(&shared->killed))
                die();
        return r;
}

int64_t __wrap_clock_wall_ms(void)
{
        return __real_clock_wall_ms() + (int64_t)clock_off_s * 1000;
}
