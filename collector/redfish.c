/* SPDX-License-Identifier: Apache-2.0 */
/* The platform's power as a Redfish service tells it. The helper wattloop-collector-redfish speaks to the
 * service and writes a line for each answer ("watts 312.5", "error ERRNO words"); here it is started, read
 * without waiting, and started again when it died. */
#include "collector/power.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include "collector/meter.h"
#include "collector/processor.h"
#include "common/clock.h"
#include "common/num.h"

#define HELPER            "wattloop-collector-redfish"
#define REDFISH_PROBE_MS  5000            /* for the first answer, when the collector starts */
#define REDFISH_RESTART   (30 * NS_PER_S) /* a helper that died is started again after this */
#define REDFISH_STALE_MIN (30 * NS_PER_S)
#define REDFISH_LINE_MAX  512
#define REDFISH_LINES_MAX 64 /* a read takes at most so many */

struct power_source {
        pid_t pid;      /* 0: not running */
        int fd;         /* of the helper's lines */
        char *argv[16]; /* owned */
        char helper[PATH_MAX];
        char line[REDFISH_LINE_MAX];
        size_t used;         /* of line */
        bool answered;       /* there was an answer */
        double watts;        /* of the last one */
        uint64_t answer_ago; /* how old it is, nanoseconds */
        uint64_t stale_ns;   /* an answer older than this is none */
        uint64_t dead_ns;    /* how long the helper has been dead */
        int error;           /* of the last line; 0: it was an answer */
        enum provenance provenance;
        char why[REDFISH_LINE_MAX];
        struct meter meter;
};

static void stop_helper(struct power_source *s)
{
        closep(&s->fd);
        s->fd = -1;
        if (s->pid <= 0)
                return;
        (void)kill(s->pid, SIGTERM);
        while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        s->pid = 0;
}

static void redfish_close(struct power_source *s)
{
        stop_helper(s);
        for (size_t i = 0; i < ARRAY_SIZE(s->argv); i++)
                free(s->argv[i]);
        free(s);
}
CLEANUP_DEFINE(struct power_source *, redfish_close);

/* Beside this program, where both are installed. */
static int find_helper(struct power_source *s)
{
        ssize_t n = readlink("/proc/self/exe", s->helper, sizeof(s->helper) - 1);
        char *slash;

        if (n < 0)
                return -errno;
        s->helper[n] = '\0';
        slash = strrchr(s->helper, '/');
        if (!slash || (size_t)(slash - s->helper) + sizeof(HELPER) + 1 > sizeof(s->helper))
                return -ENAMETOOLONG;
        memcpy(slash + 1, HELPER, sizeof(HELPER));
        return 0;
}

static int make_arguments(struct power_source *s, const struct redfish_options *o)
{
        char interval[32];
        const char *const arguments[] = {
                HELPER,         "run",       "--url",    o->url,         "--credentials",
                o->credentials, "--ca-file", o->ca_file, "--verify-tls", o->verify_tls ? "true" : "false",
                "--interval",   interval
        };

        (void)snprintf(interval, sizeof(interval), "%lldms", o->interval_ms);
        for (size_t i = 0; i < ARRAY_SIZE(arguments); i++) {
                s->argv[i] = strdup(arguments[i]);
                if (!s->argv[i])
                        return -ENOMEM;
        }
        return 0;
}

/* Our signals are blocked and ignored in our own ways; the helper's are to be as usual. */
static int spawn_helper(struct power_source *s, const int out[2])
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
                r = posix_spawn(&s->pid, s->helper, &files, &attributes, s->argv, environ);
        if (r != 0)
                s->pid = 0;
        (void)posix_spawnattr_destroy(&attributes);
        (void)posix_spawn_file_actions_destroy(&files);
        return -r;
}

static int start_helper(struct power_source *s)
{
        int out[2], r;

        if (access(s->helper, X_OK) < 0) /* posix_spawn tells it only where it shares our memory */
                return -errno;
        if (pipe2(out, O_CLOEXEC) < 0)
                return -errno;
        r = fcntl(out[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : spawn_helper(s, out);
        (void)close(out[1]);
        if (r < 0) {
                (void)close(out[0]);
                return r;
        }
        s->fd = out[0];
        s->used = 0;
        s->dead_ns = 0;
        return 0;
}

static void take_line(struct power_source *s, char *line)
{
        char *end;
        double watts;

        if (!strncmp(line, "watts ", 6) && num_parse_double(line + 6, &watts) == 0 && watts > 0 &&
            watts <= METER_WATTS_MAX) {
                s->watts = watts;
                s->answered = true;
                s->answer_ago = 0;
                s->error = 0;
        } else if (!strncmp(line, "error ", 6)) {
                long number = strtol(line + 6, &end, 10);

                s->error = number > 0 && number < 4096 ? (int)-number : -EPROTO;
                (void)snprintf(s->why, sizeof(s->why), "%s", *end == ' ' ? end + 1 : end);
        } else {
                s->error = -EPROTO;
        }
}

/* Takes what the helper has written; -EPIPE when it is gone. */
static int take_lines(struct power_source *s)
{
        for (int i = 0; i < REDFISH_LINES_MAX; i++) {
                ssize_t n = read(s->fd, s->line + s->used, sizeof(s->line) - 1 - s->used);
                char *begin = s->line, *end;

                if (n < 0)
                        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
                if (n == 0)
                        return -EPIPE;
                s->used += (size_t)n;
                s->line[s->used] = '\0';
                while ((end = strchr(begin, '\n'))) {
                        *end = '\0';
                        take_line(s, begin);
                        begin = end + 1;
                }
                s->used = strlen(begin);
                memmove(s->line, begin, s->used + 1);
                if (s->used == sizeof(s->line) - 1) /* no helper of ours writes such a line */
                        s->used = 0;
        }
        return 0;
}

/* The first answer, or the reason why there is none, if it comes soon. */
static void await_answer(struct power_source *s)
{
        uint64_t end_ns = clock_monotonic_ns() + REDFISH_PROBE_MS * NS_PER_MS, now_ns;
        struct pollfd helper = { .fd = s->fd, .events = POLLIN };

        while (!s->answered && s->error == 0 && (now_ns = clock_monotonic_ns()) < end_ns) {
                if (poll(&helper, 1, (int)((end_ns - now_ns) / NS_PER_MS) + 1) <= 0)
                        continue;
                if (take_lines(s) < 0)
                        return;
        }
}

static int redfish_open(const struct power_source_options *options, struct power_source **ret, struct err *e)
{
        const struct redfish_options *o = &options->redfish;
        CLEANUP(redfish_closep) struct power_source *s = NULL;
        struct processor cpu;
        int r;

        if (!o->url || !*o->url)
                return err_set(e, -ENOENT, "redfish.url is not set");
        s = calloc(1, sizeof(*s));
        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        s->fd = -1;
        processor_read(options->procfs_root, &cpu);
        s->provenance =
                cpu.hypervisor ? PROVENANCE_VIRTUAL : PROVENANCE_MEASURED; /* a guest has no controller */
        s->stale_ns = (uint64_t)o->interval_ms * NS_PER_MS * 3;
        if (s->stale_ns < REDFISH_STALE_MIN)
                s->stale_ns = REDFISH_STALE_MIN;
        if (o->helper)
                r = snprintf(s->helper, sizeof(s->helper), "%s", o->helper) < PATH_MAX ? 0 : -ENAMETOOLONG;
        else
                r = find_helper(s);
        if (r == 0)
                r = make_arguments(s, o);
        if (r == 0)
                r = start_helper(s);
        if (r < 0)
                return err_set(e, r == -ENOENT ? -ENOEXEC : r, "cannot start '%.180s': %s", s->helper,
                               strerror(-r));
        await_answer(s);
        if (s->error == -EINVAL || s->error == -EACCES) /* nothing that time heals */
                return err_set(e, s->error, "%.240s", s->why);
        *ret = TAKE(s);
        return 0;
}

/* The last answer while it is not too old; the helper is looked after. */
static int get_watts(struct power_source *s, uint64_t duration_ns)
{
        int r;

        s->answer_ago += duration_ns;
        if (s->pid > 0) {
                r = take_lines(s);
                if (r < 0)
                        stop_helper(s);
        } else {
                s->dead_ns += duration_ns;
                if (s->dead_ns >= REDFISH_RESTART && (r = start_helper(s)) < 0) {
                        s->dead_ns = 0;
                        return r;
                }
        }
        if (s->answered && s->answer_ago <= s->stale_ns)
                return 0;
        return s->error ? s->error : s->pid > 0 ? -ETIMEDOUT : -EPIPE;
}

static int redfish_read(struct power_source *s, const struct power_context *context,
                        struct power_reading *ret, struct err *e)
{
        int error = get_watts(s, context->duration_ns);

        (void)e; /* no answer is a gap, not a failure of the source */
        ret->provenance = s->provenance;
        meter_platform(&s->meter, "redfish", "chassis", error, s->watts, context->duration_ns, ret);
        return 1;
}

const struct power_source_ops power_source_redfish = {
        .name = "redfish",
        .group = "platform",
        .open = redfish_open,
        .read = redfish_read,
        .close = redfish_close,
};
