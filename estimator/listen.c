/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/num.h"

#define LISTEN_FDS_START 3 /* sd_listen_fds(3) */

static int make_address(const char *path, struct sockaddr_un *ret, struct err *e)
{
        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        if (strlen(path) >= sizeof(ret->sun_path))
                return err_set(e, -ENAMETOOLONG, "socket path '%.60s...' is too long", path);
        memcpy(ret->sun_path, path, strlen(path) + 1);
        return 0;
}

static int unix_socket(struct err *e)
{
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        return fd < 0 ? err_sys(e, "cannot make a unix socket") : fd;
}

/* Remove a socket file that is left over. */
static int clear_path(const struct sockaddr_un *address, struct err *e)
{
        CLEANUP(closep) int fd = -1;
        struct stat st;

        if (lstat(address->sun_path, &st) < 0)
                return errno == ENOENT ? 0 : err_sys(e, "cannot stat '%s'", address->sun_path);
        if (!S_ISSOCK(st.st_mode))
                return err_set(e, -EEXIST, "'%s' exists and is not a socket", address->sun_path);
        fd = unix_socket(e);
        if (fd < 0)
                return fd;
        if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
                return err_set(e, -EADDRINUSE, "another estimator is serving on '%s'", address->sun_path);
        if (errno != ECONNREFUSED)
                return err_sys(e, "cannot tell whether another estimator is serving on '%s'",
                               address->sun_path);
        if (unlink(address->sun_path) < 0 && errno != ENOENT)
                return err_sys(e, "cannot remove the old socket '%s'", address->sun_path);
        return 0;
}

static bool is_listening(int fd)
{
        int type = 0, domain = 0, listening = 0;
        socklen_t size = sizeof(int);

        return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
               getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM &&
               getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening;
}

/* The number in an environment variable; 0 for what is none. */
static uint64_t number_of(const char *name)
{
        const char *text = getenv(name);
        uint64_t v = 0;

        return text && num_parse_u64(text, &v) == 0 ? v : 0;
}

int listeners_inherit(struct listener *ret, size_t max, struct err *e)
{
        uint64_t n = number_of("LISTEN_PID") == (uint64_t)getpid() ? number_of("LISTEN_FDS") : 0;

        (void)unsetenv("LISTEN_PID"); /* it is about us, not about what we start */
        (void)unsetenv("LISTEN_FDS");
        (void)unsetenv("LISTEN_FDNAMES");
        if (n > max)
                return err_set(e, -EINVAL, "the service manager passes %llu sockets, at most %zu are served",
                               (unsigned long long)n, max);
        for (size_t i = 0; i < n; i++) {
                int fd = LISTEN_FDS_START + (int)i;

                if (!is_listening(fd))
                        return err_set(e, -EINVAL,
                                       "descriptor %d of the service manager is not a listening unix stream "
                                       "socket",
                                       fd);
                if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
                        return err_sys(e, "cannot use descriptor %d of the service manager", fd);
                ret[i] = (struct listener){ .fd = fd,
                                            .path = "the service manager's socket",
                                            .inherited = true };
        }
        return (int)n;
}

int listener_open(const char *path, const struct listener_options *o, struct listener *ret, struct err *e)
{
        CLEANUP(closep) int fd = -1;
        struct sockaddr_un address;
        struct stat st;
        mode_t old;
        int r;

        r = make_address(path, &address, e);
        if (r < 0)
                return r;
        r = clear_path(&address, e);
        if (r < 0)
                return r;
        fd = unix_socket(e);
        if (fd < 0)
                return fd;

        old = umask(0777 & ~o->mode); /* never more open than it will be, not even between bind and chmod */
        r = bind(fd, (const struct sockaddr *)&address, sizeof(address));
        (void)umask(old);
        if (r < 0)
                return err_sys(e, "cannot make socket '%s'", path);
        if (lchown(path, o->user, o->group) < 0 || chmod(path, o->mode) < 0 || lstat(path, &st) < 0 ||
            listen(fd, SOMAXCONN) < 0) {
                r = err_sys(e, "cannot listen on '%s'", path);
                (void)unlink(path);
                return r;
        }
        *ret = (struct listener){ .fd = TAKE_FD(fd), .path = path, .dev = st.st_dev, .ino = st.st_ino };
        return 0;
}

void listener_close(struct listener *l)
{
        struct stat st;

        if (l->fd < 0)
                return;
        if (!l->inherited && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
                (void)unlink(l->path); /* a left over file does no harm */
        (void)close(TAKE_FD(l->fd));
}
