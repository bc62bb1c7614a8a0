/* SPDX-License-Identifier: Apache-2.0 */
#include "common/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "common/num.h"

#define FILE_CHUNK     ((size_t)64 << 10)
#define FILE_MAX_DEPTH 64 /* of a tree to be removed */

static ssize_t read_retry(int fd, void *data, size_t size)
{
        ssize_t n;

        do {
                n = read(fd, data, size);
        } while (n < 0 && errno == EINTR);
        return n;
}

/* Read to the end. Files in /proc say size 0, so only reading tells; a true size saves growing the buffer. */
static int read_all(int fd, const char *path, size_t size, struct buf *out, struct err *e)
{
        if (size < out->max - out->size)
                (void)buf_reserve(out, size + 1); /* the loop says so when there is no memory */
        for (;;) {
                size_t room = out->max - out->size;
                char probe, *p = &probe;
                ssize_t n;

                if (room > FILE_CHUNK)
                        room = FILE_CHUNK;
                if (room > 0)
                        p = buf_reserve(out, room);
                if (!p)
                        return err_set(e, out->failed, "cannot read '%s': out of memory", path);
                n = read_retry(fd, p, room > 0 ? room : 1);
                if (n < 0)
                        return err_sys(e, "cannot read '%s'", path);
                if (n == 0)
                        return 0;
                if (room == 0)
                        return err_set(e, -EFBIG, "'%s' is larger than %zu bytes", path, out->max);
                buf_grew(out, (size_t)n);
        }
}

int file_read(const char *path, struct buf *out, struct err *e)
{
        CLEANUP(closep) int fd = -1;
        struct stat st;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* no waiting for a fifo's writer */
        if (fd < 0)
                return err_sys(e, "cannot open '%s'", path);
        if (fstat(fd, &st) < 0)
                return err_sys(e, "cannot stat '%s'", path);
        if (S_ISDIR(st.st_mode))
                return err_set(e, -EISDIR, "'%s' is a directory", path);
        if (!S_ISREG(st.st_mode))
                return err_set(e, -EINVAL, "'%s' is not a regular file", path);
        if (out->failed)
                return err_set(e, out->failed, "cannot read '%s': the buffer has failed before", path);
        if ((unsigned long long)st.st_size > out->max - out->size)
                return err_set(e, -EFBIG, "'%s' is larger than %zu bytes", path, out->max);
        return read_all(fd, path, (size_t)st.st_size, out, e);
}

int file_read_small(int dirfd, const char *path, char *ret, size_t size)
{
        CLEANUP(closep) int fd = -1;
        size_t used = 0;
        char *end = NULL;

        fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return -errno;
        while (used < size && !end) {
                ssize_t n = read_retry(fd, ret + used, size - used);

                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                end = memchr(ret + used, '\n', (size_t)n);
                used += (size_t)n;
        }
        if (end)
                used = (size_t)(end - ret);
        if (used >= size || used > INT_MAX)
                return -EFBIG;
        while (used > 0 && strchr(" \t\r\v\f", ret[used - 1])) /* a NUL counts as white space too */
                used--;
        ret[used] = '\0';
        return (int)used;
}

int file_read_u64(int dirfd, const char *path, unsigned long long *ret)
{
        char text[32];
        uint64_t v;
        int r;

        r = file_read_small(dirfd, path, text, sizeof(text));
        if (r < 0)
                return r;
        r = num_parse_u64(text, &v);
        if (r < 0)
                return r;
        *ret = v;
        return 0;
}

int file_write_all(int fd, const void *bytes, size_t size)
{
        const char *data = bytes;

        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data += n;
                size -= (size_t)n;
        }
        return 0;
}

/* Everything that may fail before the rename; the caller removes the temporary file then. */
static int fill_temporary(int fd, const void *data, size_t size, mode_t mode, const struct stat *owner)
{
        int r;

        if ((owner && fchown(fd, owner->st_uid, owner->st_gid) < 0) || fchmod(fd, mode) < 0)
                return -errno;
        r = file_write_all(fd, data, size);
        if (r < 0)
                return r;
        return fsync(fd) < 0 ? -errno : 0;
}

/* The folder of a path, "." when it names none. */
static int parent_of(const char *path, char *ret, size_t size)
{
        const char *slash = strrchr(path, '/');
        size_t n = slash ? (size_t)(slash - path) : 0;

        if (slash == path)
                return path_join(ret, size, "/", "");
        if (!slash)
                return path_join(ret, size, ".", "");
        if (n >= size)
                return -ENAMETOOLONG;
        memcpy(ret, path, n);
        ret[n] = '\0';
        return 0;
}

static int write_atomic(const char *path, const void *data, size_t size, mode_t mode,
                        const struct stat *owner, struct err *e)
{
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        char dir[PATH_MAX], temporary[PATH_MAX];
        CLEANUP(closep) int dir_fd = -1, fd = -1;
        int r;

        if (parent_of(path, dir, sizeof(dir)) < 0 ||
            snprintf(temporary, sizeof(temporary), "%s/.%s.XXXXXX", dir, name) >= (int)sizeof(temporary))
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", path);
        dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                return err_sys(e, "cannot open directory '%s'", dir);
        fd = mkostemp(temporary, O_CLOEXEC);
        if (fd < 0)
                return err_sys(e, "cannot make a temporary file in '%s'", dir);

        r = fill_temporary(fd, data, size, mode, owner);
        if (r == 0 && rename(temporary, path) < 0)
                r = -errno;
        if (r < 0) {
                (void)unlink(temporary);
                return err_set(e, r, "cannot write '%s': %s", path, strerror(-r));
        }
        /* The new file is in place and whole. Should this fail, a power cut may bring the old one back. */
        if (fsync(dir_fd) < 0 && errno != EINVAL)
                return err_sys(e, "cannot sync directory '%s'", dir);
        return 0;
}

int file_write_atomic(const char *path, const void *data, size_t size, mode_t mode, struct err *e)
{
        return write_atomic(path, data, size, mode, NULL, e);
}

int file_replace(const char *path, const void *data, size_t size, mode_t mode, struct err *e)
{
        CLEANUP(freep) char *real = realpath(path, NULL);
        struct stat st;

        if (!real)
                return errno == ENOENT ? write_atomic(path, data, size, mode, NULL, e)
                                       : err_sys(e, "cannot find '%s'", path);
        if (stat(real, &st) < 0)
                return err_sys(e, "cannot stat '%s'", real);
        return write_atomic(real, data, size, st.st_mode & mode, &st, e);
}

int file_mkdirs(const char *path, mode_t mode, struct err *e)
{
        char part[PATH_MAX];
        size_t n = strlen(path);
        struct stat st;

        if (n == 0 || n >= sizeof(part))
                return err_set(e, n == 0 ? -ENOENT : -ENAMETOOLONG, "cannot make directory '%.100s'", path);
        memcpy(part, path, n + 1);
        for (char *p = part + 1;; p++) {
                char old = *p;

                if (old != '/' && old != '\0')
                        continue;
                *p = '\0';
                if (mkdir(part, mode) < 0 && errno != EEXIST)
                        return err_sys(e, "cannot make directory '%s'", part);
                *p = old;
                if (old == '\0')
                        break;
        }
        if (stat(path, &st) < 0)
                return err_sys(e, "cannot stat '%s'", path);
        if (!S_ISDIR(st.st_mode))
                return err_set(e, -ENOTDIR, "'%s' is not a directory", path);
        return 0;
}

int file_sync_dir(const char *path, struct err *e)
{
        CLEANUP(closep) int fd = -1;

        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return err_sys(e, "cannot open directory '%s'", path);
        if (fsync(fd) < 0 && errno != EINVAL) /* EINVAL: a file system without it */
                return err_sys(e, "cannot sync directory '%s'", path);
        return 0;
}

static int remove_children(int dir_fd, int depth);

static int remove_entry(int parent_fd, const char *name, int depth)
{
        CLEANUP(closep) int fd = -1;
        int r;

        if (unlinkat(parent_fd, name, 0) == 0)
                return 0;
        if (errno != EISDIR && errno != EPERM) /* Linux says EISDIR, POSIX EPERM */
                return -errno;
        fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = remove_children(TAKE_FD(fd), depth);
        if (r < 0)
                return r;
        return unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* Takes dir_fd. */
static int remove_children(int dir_fd, int depth)
{
        CLEANUP(closedirp) DIR *dir = NULL;
        struct dirent *entry;
        int r;

        dir = depth < FILE_MAX_DEPTH ? fdopendir(dir_fd) : NULL;
        if (!dir) {
                r = depth < FILE_MAX_DEPTH ? -errno : -ELOOP;
                (void)close(dir_fd);
                return r;
        }
        while ((errno = 0, entry = readdir(dir))) {
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                r = remove_entry(dirfd(dir), entry->d_name, depth + 1);
                if (r < 0 && r != -ENOENT)
                        return r;
        }
        return -errno;
}

int file_remove_tree(const char *path, struct err *e)
{
        int r = remove_entry(AT_FDCWD, path, 0);

        if (r < 0 && r != -ENOENT)
                return err_set(e, r, "cannot remove '%s': %s", path, strerror(-r));
        return 0;
}

int file_lock(const char *path, int *ret_fd, struct err *e)
{
        CLEANUP(closep) int fd = -1;

        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (fd < 0)
                return err_sys(e, "cannot open lock file '%s'", path);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno == EWOULDBLOCK)
                        return err_set(e, -EWOULDBLOCK, "'%s' is locked by another process", path);
                return err_sys(e, "cannot lock '%s'", path);
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int path_join(char *ret, size_t size, const char *dir, const char *name)
{
        size_t n = strlen(dir);
        bool slash = n > 0 && dir[n - 1] != '/' && *name != '\0';

        if (snprintf(ret, size, "%s%s%s", dir, slash ? "/" : "", name) >= (int)size)
                return -ENAMETOOLONG;
        return 0;
}
