/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/progress.h"

#include <stdio.h>
#include <unistd.h>
#include "common/clock.h"

void progress_start(struct progress *p, int64_t total)
{
        *p = (struct progress){
                .start_ns = clock_monotonic_ns(),
                .total = total,
                .terminal = isatty(STDERR_FILENO) == 1,
        };
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

static void draw(struct progress *p)
{
        double seconds = (double)(clock_monotonic_ns() - p->start_ns) / NS_PER_S;
        double rate = seconds > 0 ? (double)p->intervals / seconds : 0;
        int64_t left = p->total > p->intervals ? p->total - p->intervals : 0;
        char size[PROGRESS_SIZE_TEXT];

        progress_format_size(size, p->bytes);
        (void)fprintf(stderr, "\r%lld/%lld intervals, %s, %.0f intervals/s, %.0f s left\033[K",
                      (long long)p->intervals, (long long)(p->intervals + left), size, rate,
                      rate > 0 ? (double)left / rate : 0);
        p->drawn = true;
}

void progress_batch(struct progress *p, int64_t intervals, size_t samples, size_t bytes)
{
        p->intervals += intervals;
        p->samples += samples;
        p->bytes += bytes;
        p->batches++;
        if (p->terminal)
                draw(p);
}

void progress_clear(struct progress *p)
{
        if (p->drawn)
                (void)fputs("\r\033[K", stderr);
        p->drawn = false;
}
