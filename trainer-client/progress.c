/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/progress.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/log.h"

#define DRAW_NS (NS_PER_S / 10)
#define LOG_NS  (60 * NS_PER_S)

static pthread_mutex_t terminal = PTHREAD_MUTEX_INITIALIZER;
static bool drawn;

void progress_start(struct progress *p, const char *name, int64_t total)
{
        *p = (struct progress){
                .name = name,
                .start_ns = clock_monotonic_ns(),
                .total = total,
                .terminal = isatty(STDERR_FILENO) == 1,
        };
        p->shown_ns = p->terminal ? 0 : p->start_ns;
}

void progress_format_size(char ret[PROGRESS_SIZE_TEXT], uint64_t bytes)
{
        static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
        double v = (double)bytes;
        size_t unit = 0;

        while (v >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
                v /= 1024;
                unit++;
        }
        (void)snprintf(ret, PROGRESS_SIZE_TEXT, unit > 0 ? "%.1f %s" : "%.0f %s", v, units[unit]);
}

/* "model-server: 500/864000 intervals, 123456 samples, 1.2 MiB, 5000 intervals/s, 172 s left" */
static void format(const struct progress *p, uint64_t now, char *ret, size_t size)
{
        double seconds = (double)(now - p->start_ns) / NS_PER_S;
        int64_t done = p->intervals + p->refused, left = p->total > done ? p->total - done : 0;
        double rate = seconds > 0 ? (double)done / seconds : 0;
        char bytes[PROGRESS_SIZE_TEXT];

        progress_format_size(bytes, p->bytes);
        (void)snprintf(ret, size, "%s: %lld/%lld intervals, %zu samples, %s, %.0f intervals/s, %.0f s left",
                       p->name, (long long)done, (long long)(done + left), p->samples, bytes, rate,
                       rate > 0 ? (double)left / rate : 0);
}

static void show(struct progress *p)
{
        uint64_t now = clock_monotonic_ns();
        char line[256];

        if (now - p->shown_ns < (p->terminal ? DRAW_NS : LOG_NS))
                return;
        p->shown_ns = now;
        format(p, now, line, sizeof(line));
        if (!p->terminal) {
                log_info("%s", line);
                return;
        }
        (void)pthread_mutex_lock(&terminal);
        (void)fprintf(stderr, "\r%s\033[K", line);
        drawn = true;
        (void)pthread_mutex_unlock(&terminal);
}

void progress_batch(struct progress *p, int64_t intervals, size_t samples, size_t bytes)
{
        p->intervals += intervals;
        p->samples += samples;
        p->bytes += bytes;
        p->batches++;
        show(p);
}

void progress_refused(struct progress *p, int64_t intervals)
{
        p->refused += intervals;
        show(p);
}

void progress_end(struct progress *p)
{
        (void)p;
        (void)pthread_mutex_lock(&terminal);
        if (drawn)
                (void)fputs("\r\033[K", stderr);
        drawn = false;
        (void)pthread_mutex_unlock(&terminal);
}
