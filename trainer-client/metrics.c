/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/metrics.h"

#include <pthread.h>
#include <string.h>
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/prom.h"
#include "trainer-client/quarantine.h"

#define TEXT_MAX  ((size_t)256 << 10)
#define PERIOD_NS (5 * NS_PER_S)
#define FILE_MODE 0644

/* What is known of each destination; those that are not pushed to have no name. */
struct known {
        char name[CURSOR_TEXT_MAX];
        struct cursor cursor;
        struct metrics m;
        int64_t quarantine_batches, quarantine_bytes, behind;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct known known[KIND_N];
static uint64_t written_ns;

struct family {
        const char *name, *type, *help;
        double (*value)(const struct known *k);
};

static double acked_seconds(const struct known *k)
{
        return (double)k->cursor.acked_ms / 1000;
}
static double position_seconds(const struct known *k)
{
        return (double)k->cursor.end_ms / 1000;
}
static double backlog(const struct known *k)
{
        return (double)k->behind;
}
static double lost(const struct known *k)
{
        return (double)k->m.lost;
}
static double removed_unsent(const struct known *k)
{
        return (double)k->m.removed_unsent;
}
static double batches(const struct known *k)
{
        return (double)k->m.batches;
}
static double samples(const struct known *k)
{
        return (double)k->m.samples;
}
static double bytes(const struct known *k)
{
        return (double)k->m.bytes;
}
static double failures(const struct known *k)
{
        return (double)k->m.failed_rounds;
}
static double refused(const struct known *k)
{
        return (double)k->cursor.refused_intervals;
}
static double quarantined(const struct known *k)
{
        return (double)k->cursor.quarantined_batches;
}
static double quarantine_batches(const struct known *k)
{
        return (double)k->quarantine_batches;
}
static double quarantine_bytes(const struct known *k)
{
        return (double)k->quarantine_bytes;
}

#define NAME(n) "wattloop_trainer_client_" n
static const struct family families[] = {
        { NAME("last_acknowledged_timestamp_seconds"), "gauge", "When the destination last acknowledged.",
          acked_seconds },
        { NAME("position_timestamp_seconds"), "gauge", "Up to here everything is acknowledged or refused.",
          position_seconds },
        { NAME("backlog_intervals"), "gauge", "Recorded intervals that are not acknowledged yet.", backlog },
        { NAME("lost_intervals"), "gauge", "Intervals that retention removed before they were sent.", lost },
        { NAME("removed_unsent_intervals_total"), "counter",
          "Intervals that retention removed from the database over its size before all destinations had "
          "them.",
          removed_unsent },
        { NAME("batches_total"), "counter", "Batches acknowledged since the program began.", batches },
        { NAME("samples_total"), "counter", "Samples acknowledged since the program began.", samples },
        { NAME("bytes_total"), "counter", "Bytes acknowledged since the program began, compressed.", bytes },
        { NAME("failed_rounds_total"), "counter", "Rounds that ended with an error since the program began.",
          failures },
        { NAME("refused_intervals_total"), "counter", "Intervals that the receiver was past.", refused },
        { NAME("quarantined_batches_total"), "counter", "Batches that were refused for what they are.",
          quarantined },
        { NAME("quarantine_batches"), "gauge", "Refused batches that are kept.", quarantine_batches },
        { NAME("quarantine_bytes"), "gauge", "Their size.", quarantine_bytes },
};

static void write_all(const char *path)
{
        CLEANUP(buf_done) struct buf text;
        struct err e = { "" };

        buf_init(&text, TEXT_MAX);
        for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
                prom_family(&text, families[f].name, families[f].type, families[f].help);
                for (size_t i = 0; i < KIND_N; i++)
                        if (*known[i].name)
                                prom_sample(&text, families[f].name,
                                            (const struct prom_label[]){ { "destination", known[i].name },
                                                                         { NULL, NULL } },
                                            families[f].value(&known[i]));
        }
        if (text.failed || file_write_atomic(path, text.data, text.size, FILE_MODE, &e) < 0)
                log_warning("cannot write metrics: %s", text.failed ? strerror(-text.failed) : e.text);
}

void metrics_write(const struct options *o, const struct destination *d, const struct cursor *c,
                   const struct metrics *m, bool now)
{
        struct known *k = &known[d->kind];
        uint64_t time_ns = clock_monotonic_ns();

        if (!*o->metrics_textfile)
                return;
        (void)pthread_mutex_lock(&lock);
        (void)snprintf(k->name, sizeof(k->name), "%s", d->own.name);
        k->cursor = *c;
        k->m = *m;
        k->behind = m->backlog->newest_id > c->interval_id ? m->backlog->newest_id - c->interval_id : 0;
        for (size_t i = 0; i < c->n_ranges; i++)
                k->behind -= c->ranges[i].last_id - c->ranges[i].first_id + 1;
        if (now || time_ns - written_ns >= PERIOD_NS) {
                (void)quarantine_size(o, d->own.name, &k->quarantine_batches, &k->quarantine_bytes, NULL);
                write_all(o->metrics_textfile);
                written_ns = time_ns;
        }
        (void)pthread_mutex_unlock(&lock);
}
