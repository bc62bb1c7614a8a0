/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/clock.h"

#define SANDBOX_MEMORY_MAX ((rlim_t)1 << 30) /* address space: the largest archive many times over */
#define SANDBOX_FILE_MAX   ((rlim_t)128 << 20)
#define SANDBOX_FILES_MAX  64 /* descriptors */

/* Interfaces of later versions than these headers (Debian 12: Linux 6.1). */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13) /* 5.19 */
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14) /* 6.2 */
#endif

#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_5_13                                                                                          \
        (ACCESS_READ | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |                          \
         LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |     \
         LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |          \
         LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define ACCESS_WRITE                                                                                         \
        (ACCESS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                       \
         LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |        \
         LANDLOCK_ACCESS_FS_TRUNCATE)

/* ---- files ---- */

void sandbox_show(struct sandbox *s, const char *path)
{
        size_t n = 0;

        while (s->readable[n])
                n++;
        assert(n < SANDBOX_PATHS_MAX);
        if (*path)
                s->readable[n] = path;
}

void sandbox_show_system(struct sandbox *s)
{
        static const char *const paths[] = { "/etc",
                                             "/usr/share",
                                             "/usr/lib",
                                             "/lib",
                                             "/lib64",
                                             "/run/systemd/resolve",
                                             "/run/resolvconf",
                                             "/dev/urandom",
                                             "/dev/null",
                                             "/proc/self" };

        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
                sandbox_show(s, paths[i]);
}

/* What is not there cannot be read, so no rule is needed. */
static int allow(int ruleset, const char *path, uint64_t access, struct err *e)
{
        struct landlock_path_beneath_attr rule = { .allowed_access = access };
        CLEANUP(closep) int fd = open(path, O_PATH | O_CLOEXEC);
        struct stat st;

        if (fd < 0)
                return errno == ENOENT || errno == ENOTDIR || errno == EACCES
                               ? 0
                               : err_sys(e, "cannot open '%s'", path);
        if (fstat(fd, &st) < 0)
                return err_sys(e, "cannot stat '%s'", path);
        if (!S_ISDIR(st.st_mode))
                rule.allowed_access &= LANDLOCK_ACCESS_FS_READ_FILE;
        rule.parent_fd = fd;
        if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
                return err_sys(e, "cannot allow '%s' in the sandbox", path);
        return 0;
}

static int restrict_files(const struct sandbox *s, struct err *note, struct err *e)
{
        long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
        struct landlock_ruleset_attr attr = { .handled_access_fs = ACCESS_5_13 };
        CLEANUP(closep) int ruleset = -1;
        int r;

        if (abi < 1) {
                (void)err_sys(note, "this kernel has no Landlock: the checking process may read other files");
                return 0;
        }
        if (abi >= 2)
                attr.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
        if (abi >= 3)
                attr.handled_access_fs |= LANDLOCK_ACCESS_FS_TRUNCATE;
        ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
        if (ruleset < 0)
                return err_sys(e, "cannot make a Landlock ruleset");
        r = allow(ruleset, s->writable, ACCESS_WRITE & attr.handled_access_fs, e);
        for (size_t i = 0; r == 0 && s->readable[i]; i++)
                r = allow(ruleset, s->readable[i], ACCESS_READ, e);
        if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
                r = err_sys(e, "cannot enter the Landlock sandbox");
        return r;
}

/* ---- system calls ---- */

/* What libcurl, OpenSSL, the resolver, libarchive, SQLite and the C library use. Others fail with EPERM,
 * those that only an intruder calls end the process. */
static const int allowed_calls[] = {
        SCMP_SYS(access),        SCMP_SYS(arch_prctl),
        SCMP_SYS(bind),          SCMP_SYS(brk),
        SCMP_SYS(chmod),         SCMP_SYS(clock_getres),
        SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep),
        SCMP_SYS(clone),         SCMP_SYS(clone3),
        SCMP_SYS(close),         SCMP_SYS(close_range),
        SCMP_SYS(connect),       SCMP_SYS(dup),
        SCMP_SYS(dup2),          SCMP_SYS(dup3),
        SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl),
        SCMP_SYS(epoll_pwait),   SCMP_SYS(epoll_wait),
        SCMP_SYS(eventfd2),      SCMP_SYS(exit),
        SCMP_SYS(exit_group),    SCMP_SYS(faccessat),
        SCMP_SYS(faccessat2),    SCMP_SYS(fallocate),
        SCMP_SYS(fchmod),        SCMP_SYS(fcntl),
        SCMP_SYS(fdatasync),     SCMP_SYS(flock),
        SCMP_SYS(fstat),         SCMP_SYS(fstatfs),
        SCMP_SYS(fsync),         SCMP_SYS(ftruncate),
        SCMP_SYS(futex),         SCMP_SYS(getcwd),
        SCMP_SYS(getdents64),    SCMP_SYS(getegid),
        SCMP_SYS(geteuid),       SCMP_SYS(getgid),
        SCMP_SYS(getpeername),   SCMP_SYS(getpid),
        SCMP_SYS(getppid),       SCMP_SYS(getrandom),
        SCMP_SYS(getrlimit),     SCMP_SYS(getrusage),
        SCMP_SYS(getsockname),   SCMP_SYS(getsockopt),
        SCMP_SYS(gettid),        SCMP_SYS(gettimeofday),
        SCMP_SYS(getuid),        SCMP_SYS(ioctl),
        SCMP_SYS(lseek),         SCMP_SYS(lstat),
        SCMP_SYS(madvise),       SCMP_SYS(membarrier),
        SCMP_SYS(mkdir),         SCMP_SYS(mkdirat),
        SCMP_SYS(mmap),          SCMP_SYS(mprotect),
        SCMP_SYS(mremap),        SCMP_SYS(munmap),
        SCMP_SYS(nanosleep),     SCMP_SYS(newfstatat),
        SCMP_SYS(open),          SCMP_SYS(openat),
        SCMP_SYS(pipe2),         SCMP_SYS(poll),
        SCMP_SYS(ppoll),         SCMP_SYS(pread64),
        SCMP_SYS(prlimit64),     SCMP_SYS(pwrite64),
        SCMP_SYS(read),          SCMP_SYS(readlink),
        SCMP_SYS(readlinkat),    SCMP_SYS(readv),
        SCMP_SYS(recvfrom),      SCMP_SYS(recvmmsg),
        SCMP_SYS(recvmsg),       SCMP_SYS(rename),
        SCMP_SYS(renameat),      SCMP_SYS(renameat2),
        SCMP_SYS(rmdir),         SCMP_SYS(rseq),
        SCMP_SYS(rt_sigaction),  SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(rt_sigreturn),  SCMP_SYS(sched_getaffinity),
        SCMP_SYS(sched_yield),   SCMP_SYS(select),
        SCMP_SYS(sendmmsg),      SCMP_SYS(sendmsg),
        SCMP_SYS(sendto),        SCMP_SYS(set_robust_list),
        SCMP_SYS(setsockopt),    SCMP_SYS(shutdown),
        SCMP_SYS(sigaltstack),   SCMP_SYS(socket),
        SCMP_SYS(socketpair),    SCMP_SYS(stat),
        SCMP_SYS(statfs),        SCMP_SYS(statx),
        SCMP_SYS(sysinfo),       SCMP_SYS(tgkill),
        SCMP_SYS(uname),         SCMP_SYS(unlink),
        SCMP_SYS(unlinkat),      SCMP_SYS(wait4),
        SCMP_SYS(write),         SCMP_SYS(writev),
};
static const int fatal_calls[] = {
        SCMP_SYS(execve),
        SCMP_SYS(execveat),
        SCMP_SYS(ptrace),
        SCMP_SYS(process_vm_readv),
        SCMP_SYS(process_vm_writev),
        SCMP_SYS(bpf),
        SCMP_SYS(mount),
        SCMP_SYS(unshare),
        SCMP_SYS(setns),
        SCMP_SYS(init_module),
        SCMP_SYS(finit_module),
        SCMP_SYS(kexec_load),
        SCMP_SYS(perf_event_open),
        SCMP_SYS(userfaultfd),
        SCMP_SYS(keyctl),
        SCMP_SYS(io_uring_setup),
        SCMP_SYS(kill),
};

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#else
#error "seccomp's name for this architecture is missing"
#endif

/* A filter's program: what it answers to a call is what it returns. libseccomp would write it as well, in
 * a third of the time that an unchanged check takes; only its header's numbers are used, which are negative
 * for calls that this architecture lacks. */
struct filter {
        struct sock_filter code[2 * (ARRAY_SIZE(allowed_calls) + ARRAY_SIZE(fatal_calls)) + 8];
        unsigned short n;
};

static void emit(struct filter *f, uint16_t code, uint32_t k, uint8_t if_true, uint8_t if_false)
{
        assert(f->n < ARRAY_SIZE(f->code));
        f->code[f->n++] = (struct sock_filter)BPF_JUMP(code, k, if_true, if_false);
}

static void answer(struct filter *f, const int *calls, size_t n, uint32_t action)
{
        for (size_t i = 0; i < n; i++) {
                if (calls[i] < 0)
                        continue;
                emit(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1);
                emit(f, BPF_RET | BPF_K, action, 0, 0);
        }
}

static int restrict_calls(struct err *note)
{
        struct filter f = { .n = 0 };
        struct sock_fprog program = { .filter = f.code };

        emit(&f, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
        emit(&f, BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 1, 0);
        emit(&f, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
        emit(&f, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
        answer(&f, allowed_calls, ARRAY_SIZE(allowed_calls), SECCOMP_RET_ALLOW);
        answer(&f, fatal_calls, ARRAY_SIZE(fatal_calls), SECCOMP_RET_KILL_PROCESS);
        emit(&f, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM, 0, 0); /* those of x32 too */
        program.len = f.n;
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                return err_sys(
                        note, "this kernel takes no seccomp filter: the checking process may call all of it");
        return 0;
}

static void limit(int resource, rlim_t max)
{
        const struct rlimit l = { max, max };

        (void)setrlimit(resource, &l); /* a second fence: where it cannot be put up, the first stands */
}

static int enter(const struct sandbox *s, struct err *note, struct err *e)
{
        int r;

        limit(RLIMIT_CORE, 0);
        limit(RLIMIT_FSIZE, SANDBOX_FILE_MAX);
        limit(RLIMIT_NOFILE, SANDBOX_FILES_MAX);
#if !defined(__SANITIZE_ADDRESS__)
        limit(RLIMIT_AS, SANDBOX_MEMORY_MAX);
#endif
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return err_sys(e, "cannot give up new privileges");
        r = restrict_files(s, note, e);
        if (r == 0)
                (void)restrict_calls(note);
        return r;
}

/* ---- the two processes ---- */

/* What the child sends before its record. */
struct outcome {
        int r;
        struct err e, note;
};

static int send_all(int fd, const void *data, size_t size)
{
        for (const char *p = data; size > 0;) {
                ssize_t n = write(fd, p, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                p += n;
                size -= (size_t)n;
        }
        return 0;
}

static _Noreturn void run_child(const struct sandbox *s, int (*work)(void *, void *, struct err *), void *arg,
                                void *ret, size_t size, int fd, pid_t parent)
{
        struct outcome o = { 0 };

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) /* it died before we asked to be told */
                _exit(1);
        o.r = enter(s, &o.note, &o.e);
        if (o.r == 0)
                o.r = work(arg, ret, &o.e);
        _exit(send_all(fd, &o, sizeof(o)) < 0 || send_all(fd, ret, size) < 0);
}

/* Until it is full, the peer closes, or the time is over. Returns the bytes read. */
static ssize_t receive(int fd, void *data, size_t size, uint64_t deadline_ns)
{
        size_t is = 0;

        while (is < size) {
                uint64_t now = clock_monotonic_ns();
                struct pollfd p = { .fd = fd, .events = POLLIN };
                ssize_t n;

                if (now >= deadline_ns)
                        return -ETIMEDOUT;
                n = poll(&p, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1);
                if (n > 0)
                        n = read(fd, (char *)data + is, size - is);
                else if (n == 0)
                        continue;
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        break;
                is += n > 0 ? (size_t)n : 0;
        }
        return (ssize_t)is;
}

static int crashed(int status, struct err *e)
{
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
                return err_set(e, -EPROTO, "the checking process was ended: it called what it may not");
        if (WIFSIGNALED(status))
                return err_set(e, -EPROTO, "the checking process was ended by signal %d", WTERMSIG(status));
        return err_set(e, -EPROTO, "the checking process gave no answer");
}

int sandbox_run(const struct sandbox *s, int (*work)(void *arg, void *ret, struct err *e), void *arg,
                void *ret, size_t size, struct err *ret_note, struct err *e)
{
        uint64_t deadline_ns = clock_monotonic_ns() + (uint64_t)s->timeout_ms * NS_PER_MS;
        CLEANUP(closep) int from = -1, to = -1;
        struct outcome o = { 0 };
        pid_t parent = getpid(), child;
        int fds[2], status = 0;
        ssize_t n, m = 0;

        *ret_note = (struct err){ "" };
        if (pipe2(fds, O_CLOEXEC) < 0)
                return err_sys(e, "cannot make a pipe");
        from = fds[0];
        to = fds[1];
        child = fork();
        if (child < 0)
                return err_sys(e, "cannot start the checking process");
        if (child == 0)
                run_child(s, work, arg, ret, size, to, parent);
        closep(&to);
        to = -1;
        n = receive(from, &o, sizeof(o), deadline_ns);
        if (n == (ssize_t)sizeof(o))
                m = receive(from, ret, size, deadline_ns);
        if (n == -ETIMEDOUT || m == -ETIMEDOUT)
                (void)kill(child, SIGKILL);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
                ;
        if (n == -ETIMEDOUT || m == -ETIMEDOUT)
                return err_set(e, -ETIMEDOUT, "fetching and checking took more than %g s",
                               (double)s->timeout_ms / 1000);
        if (n != (ssize_t)sizeof(o) || m != (ssize_t)size)
                return crashed(status, e);
        o.e.text[sizeof(o.e.text) - 1] = o.note.text[sizeof(o.note.text) - 1] = '\0'; /* untrusted words */
        *ret_note = o.note;
        if (o.r < 0 && e)
                *e = o.e;
        return o.r > 0 ? -EPROTO : o.r;
}
