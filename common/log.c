/* SPDX-License-Identifier: Apache-2.0 */
/* One write(2) per line, so that lines of several threads and processes never mix. Control characters become
 * '?': a message that quotes hostile input stays one line. */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include "common/clock.h"

#define LOG_LINE_MAX 1024

static const struct {
        const char *name;
        int syslog;
} levels[] = {
        [LOG_LEVEL_ERROR] = { "error", 3 },
        [LOG_LEVEL_WARNING] = { "warning", 4 },
        [LOG_LEVEL_INFO] = { "info", 6 },
        [LOG_LEVEL_DEBUG] = { "debug", 7 },
};

static const char *program_name = "wattloop";
static bool to_journal;
static atomic_int max_level = LOG_LEVEL_INFO;

/* JOURNAL_STREAM holds "device:inode" of the stream that the journal reads. It is inherited by children whose
 * standard error may have been redirected since, hence the comparison. */
static bool journal_reads_stderr(void)
{
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long dev, ino;
        struct stat st;

        if (!stream || sscanf(stream, "%llu:%llu", &dev, &ino) != 2)
                return false;
        return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_init(const char *program, enum log_level level)
{
        program_name = program;
        to_journal = journal_reads_stderr();
        log_set_level(level);
}

void log_set_level(enum log_level level)
{
        atomic_store(&max_level, (int)level);
}

static PRINTF(2, 0) void log_line(enum log_level level, const char *fmt, va_list ap)
{
        int saved_errno = errno;
        char line[LOG_LINE_MAX];
        size_t start, used;

        if ((int)level > atomic_load(&max_level))
                return;
        if (to_journal)
                (void)snprintf(line, sizeof(line), "<%d>", levels[level].syslog);
        else
                (void)snprintf(line, sizeof(line), "%.64s: %s: ", program_name, levels[level].name);
        start = strlen(line);
        (void)vsnprintf(line + start, sizeof(line) - start, fmt, ap); /* a long line is cut */

        for (used = start; line[used]; used++)
                if ((unsigned char)line[used] < ' ' || line[used] == 0x7f)
                        line[used] = '?';
        line[used++] = '\n';                     /* in place of the terminator */
        (void)!write(STDERR_FILENO, line, used); /* nowhere to report a failure to */
        errno = saved_errno;
}

int log_error(int r, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        log_line(LOG_LEVEL_ERROR, fmt, ap);
        va_end(ap);
        return r;
}

void log_warning(const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        log_line(LOG_LEVEL_WARNING, fmt, ap);
        va_end(ap);
}

void log_info(const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        log_line(LOG_LEVEL_INFO, fmt, ap);
        va_end(ap);
}

void log_debug(const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        log_line(LOG_LEVEL_DEBUG, fmt, ap);
        va_end(ap);
}

bool log_limit_ok(struct log_limit *l, uint64_t period_ns)
{
        uint64_t now_ns = clock_monotonic_ns();

        if (now_ns < l->next_ns) {
                l->suppressed++;
                return false;
        }
        l->next_ns = now_ns + period_ns;
        return true;
}
