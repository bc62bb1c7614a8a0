/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/programs.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "common/file.h"

#define STARTED_MAX 8

static const char *bench = "bench";
static char dir[PATH_MAX], bin[400];
static pid_t started[STARTED_MAX];
static size_t n_started;

_Noreturn void programs_fail(const char *what)
{
        (void)fprintf(stderr, "%s: %s (what programs said is in '%s')\n", bench, what, dir);
        for (size_t i = 0; i < n_started; i++)
                (void)kill(started[i], SIGKILL);
        exit(1);
}

/* ---- programs ---- */

const char *in_dir(const char *name)
{
        static char paths[32][PATH_MAX + 64];
        static unsigned next;
        char *path = paths[next++ % ARRAY_SIZE(paths)];

        (void)snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
        return path;
}

static pid_t spawn(const char *const *args)
{
        char program[512];
        posix_spawn_file_actions_t actions;
        pid_t pid;
        int r;

        (void)snprintf(program, sizeof(program), "%s%s", *args[0] == '/' ? "" : bin, args[0]);
        (void)posix_spawn_file_actions_init(&actions);
        (void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        (void)posix_spawn_file_actions_addopen(&actions, 1, in_dir("log"), O_WRONLY | O_CREAT | O_APPEND,
                                               0644);
        (void)posix_spawn_file_actions_adddup2(&actions, 1, 2);
        r = posix_spawn(&pid, program, &actions, NULL, (char *const *)args, environ);
        (void)posix_spawn_file_actions_destroy(&actions);
        if (r != 0)
                programs_fail(program);
        return pid;
}

/* The exit status; CPU time of the program and of those that it waited for. */
int program_run(const char *const *args, double *ret_cpu_ms)
{
        pid_t pid = spawn(args);
        struct rusage usage;
        int status;

        if (wait4(pid, &status, 0, &usage) != pid || !WIFEXITED(status))
                programs_fail(args[0]);
        if (ret_cpu_ms)
                *ret_cpu_ms = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
                              (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
        return WEXITSTATUS(status);
}

pid_t program_start(const char *const *args)
{
        return started[n_started++] = spawn(args);
}

/* What a process and those that it started have used. */
double program_cpu_ms(pid_t pid)
{
        char path[64], children[256] = "";
        clockid_t clock;
        struct timespec t = { 0 };
        double ms = 0;

        if (clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &t) == 0)
                ms = (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
        (void)snprintf(path, sizeof(path), "/proc/%ld/task/%ld/children", (long)pid, (long)pid);
        if (file_read_small(AT_FDCWD, path, children, sizeof(children)) > 0)
                for (char *p = children, *end; *p; p = end + (*end == ' '))
                        ms += program_cpu_ms((pid_t)strtol(p, &end, 10));
        return ms;
}

/* ---- sockets ---- */

int port_dial(unsigned short port)
{
        const struct sockaddr_in a = { .sin_family = AF_INET,
                                       .sin_port = htons(port),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        const struct timeval patience = { .tv_sec = 30 };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd >= 0)
                (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        if (fd >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0)
                return fd;
        closep(&fd);
        return -1;
}

/* A listening socket and its port. */
int port_listen(unsigned short *ret_port)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(a);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, (struct sockaddr *)&a, size) < 0 || listen(fd, 64) < 0 ||
            getsockname(fd, (struct sockaddr *)&a, &size) < 0)
                programs_fail("no port");
        *ret_port = ntohs(a.sin_port);
        return fd;
}

unsigned short port_free(void)
{
        unsigned short port;

        (void)close(port_listen(&port));
        return port;
}

void port_wait(unsigned short port)
{
        int fd;

        for (int i = 0; (fd = port_dial(port)) < 0; i++) {
                if (i == 10000)
                        programs_fail("a server does not start");
                (void)usleep(1000);
        }
        (void)close(fd);
}

/* ---- begin and end ---- */

void programs_begin(const char *name, const char *path)
{
        const char *build = getenv("B");

        bench = name;
        (void)snprintf(bin, sizeof(bin), "%s/bin/", build ? build : "build");
        if (file_remove_tree(path, NULL) < 0 || file_mkdirs(path, 0755, NULL) < 0 || !realpath(path, dir))
                programs_fail("cannot make a directory");
}

void programs_end(void)
{
        for (size_t i = 0; i < n_started; i++)
                (void)kill(started[i], SIGTERM);
        for (size_t i = 0; i < n_started; i++)
                (void)waitpid(started[i], NULL, 0);
        (void)file_remove_tree(dir, NULL);
}
