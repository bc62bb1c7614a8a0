/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include "common/clock.h"

#define RESTART_NS (30 * NS_PER_S) /* one that died is started again after this */
#define READS_MAX  64              /* at a time */

struct helper {
        pid_t pid; /* 0: not running */
        int fd;    /* of its lines */
        char path[PATH_MAX];
        char *argv[HELPER_ARGS_MAX + 2]; /* owned, NULL-terminated */
        void (*take)(void *context, char *line);
        void *context;
        char line[HELPER_LINE_MAX];
        size_t used;      /* of line */
        uint64_t dead_ns; /* how long it has been dead */
};

static void end(struct helper *h)
{
        closep(&h->fd);
        h->fd = -1;
        if (h->pid <= 0)
                return;
        (void)kill(h->pid, SIGTERM);
        while (waitpid(h->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        h->pid = 0;
}

void helper_stop(struct helper *h)
{
        if (!h)
                return;
        end(h);
        for (size_t i = 0; i < ARRAY_SIZE(h->argv); i++)
                free(h->argv[i]);
        free(h);
}

/* Beside this program, where both are installed. */
static int find(struct helper *h, const char *name)
{
        ssize_t n = readlink("/proc/self/exe", h->path, sizeof(h->path) - 1);
        char *slash;

        if (n < 0)
                return -errno;
        h->path[n] = '\0';
        slash = strrchr(h->path, '/');
        if (!slash || (size_t)(slash - h->path) + strlen(name) + 2 > sizeof(h->path))
                return -ENAMETOOLONG;
        memcpy(slash + 1, name, strlen(name) + 1);
        return 0;
}

static int copy_arguments(struct helper *h, const struct helper_options *o)
{
        size_t n = 0;

        h->argv[n++] = strdup(o->name);
        for (; o->arguments[n - 1] && n <= HELPER_ARGS_MAX; n++)
                h->argv[n] = strdup(o->arguments[n - 1]);
        for (size_t i = 0; i < n; i++)
                if (!h->argv[i])
                        return -ENOMEM;
        return o->arguments[n - 1] ? -E2BIG : 0;
}

/* Our signals are blocked and ignored in our own ways; the helper's are to be as usual. */
static int spawn(struct helper *h, const int out[2])
{
        posix_spawn_file_actions_t files;
        posix_spawnattr_t attributes;
        sigset_t none, usual;
        int r;

        (void)sigemptyset(&none);
        (void)sigemptyset(&usual);
        (void)sigaddset(&usual, SIGPIPE);
        (void)sigaddset(&usual, SIGXFSZ);
        if (posix_spawn_file_actions_init(&files) != 0)
                return -ENOMEM;
        if (posix_spawnattr_init(&attributes) != 0) {
                (void)posix_spawn_file_actions_destroy(&files);
                return -ENOMEM;
        }
        r = posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        if (r == 0)
                r = posix_spawnattr_setsigmask(&attributes, &none);
        if (r == 0)
                r = posix_spawnattr_setsigdefault(&attributes, &usual);
        if (r == 0)
                r = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        if (r == 0)
                r = posix_spawn(&h->pid, h->path, &files, &attributes, h->argv, environ);
        if (r != 0)
                h->pid = 0;
        (void)posix_spawnattr_destroy(&attributes);
        (void)posix_spawn_file_actions_destroy(&files);
        return -r;
}

static int begin(struct helper *h)
{
        int out[2], r;

        if (access(h->path, X_OK) < 0) /* posix_spawn tells it only where it shares our memory */
                return -errno;
        if (pipe2(out, O_CLOEXEC) < 0)
                return -errno;
        r = fcntl(out[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : spawn(h, out);
        (void)close(out[1]);
        if (r < 0) {
                (void)close(out[0]);
                return r;
        }
        h->fd = out[0];
        h->used = 0;
        h->dead_ns = 0;
        return 0;
}

int helper_start(const struct helper_options *o, struct helper **ret, struct err *e)
{
        CLEANUP(helper_stopp) struct helper *h = NULL;
        int r = 0;

        h = calloc(1, sizeof(*h));
        if (!h)
                return err_set(e, -ENOMEM, "out of memory");
        h->fd = -1;
        h->take = o->line;
        h->context = o->context;
        if (!o->path)
                r = find(h, o->name);
        else if (snprintf(h->path, sizeof(h->path), "%s", o->path) >= PATH_MAX)
                r = -ENAMETOOLONG;
        if (r == 0)
                r = copy_arguments(h, o);
        if (r == 0)
                r = begin(h);
        if (r < 0)
                return err_set(e, r == -ENOENT ? -ENOEXEC : r, "cannot start '%.180s': %s", h->path,
                               strerror(-r));
        *ret = TAKE(h);
        return 0;
}

/* Takes what it has written; -EPIPE when it is gone. */
static int take_lines(struct helper *h)
{
        for (int i = 0; i < READS_MAX; i++) {
                ssize_t n = read(h->fd, h->line + h->used, sizeof(h->line) - 1 - h->used);
                char *begin_of_line = h->line, *end_of_line;

                if (n < 0)
                        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
                if (n == 0)
                        return -EPIPE;
                h->used += (size_t)n;
                h->line[h->used] = '\0';
                while ((end_of_line = strchr(begin_of_line, '\n'))) {
                        *end_of_line = '\0';
                        h->take(h->context, begin_of_line);
                        begin_of_line = end_of_line + 1;
                }
                h->used = strlen(begin_of_line);
                memmove(h->line, begin_of_line, h->used + 1);
                if (h->used == sizeof(h->line) - 1) /* no helper of ours writes such a line */
                        h->used = 0;
        }
        return 0;
}

int helper_tend(struct helper *h, uint64_t passed_ns)
{
        int r;

        if (h->pid > 0) {
                r = take_lines(h);
                if (r < 0)
                        end(h);
                return r < 0 ? -EPIPE : 0;
        }
        h->dead_ns += passed_ns;
        if (h->dead_ns < RESTART_NS)
                return -EPIPE;
        h->dead_ns = 0;
        return begin(h);
}

void helper_wait(struct helper *h, uint64_t wait_ns)
{
        struct pollfd lines = { .fd = h->fd, .events = POLLIN };

        (void)poll(&lines, 1, (int)(wait_ns / NS_PER_MS) + 1);
}

int helper_fd(const struct helper *h)
{
        return h->fd;
}
