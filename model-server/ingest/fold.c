/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/ingest/fold.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const fold_verdict_names[FOLD_VERDICTS] = { "row",        "gap",      "reset",
                                                        "incomplete", "no_power", "no_features" };

/* One component by one source: all its packages and modes. */
struct meter {
        int component;
        enum provenance provenance;
        const char *source;
        double joules;   /* of the interval at hand */
        bool any, whole; /* has units; each has both its samples */
};
#define METERS_MAX 32

struct state {
        const struct fold_input *in;
        size_t *next; /* per series: its first sample later than the interval's start */
        int *meter;   /* per series: index of its meter, or -1 */
        struct meter meters[METERS_MAX];
        int meters_n;
        double deltas[FEATURE_N];
        unsigned int has_feature;
        bool reset, incomplete;
};

void fold_input_done(struct fold_input *in)
{
        for (size_t i = 0; i < in->n; i++)
                free(in->series[i].samples);
        free(in->series);
        *in = (struct fold_input){ 0 };
}

static void state_done(struct state *s)
{
        free(s->next);
        free(s->meter);
}

static int find_meter(struct state *s, const struct fold_series *series)
{
        struct meter *m = s->meters;

        for (; m < s->meters + s->meters_n; m++)
                if (m->component == series->class.what && m->provenance == series->class.provenance &&
                    !strcmp(m->source, series->source))
                        return (int)(m - s->meters);
        if (s->meters_n == METERS_MAX)
                return -1;
        *m = (struct meter){ series->class.what, series->class.provenance, series->source, 0, false, false };
        return s->meters_n++;
}

static int state_init(struct state *s, const struct fold_input *in, struct err *e)
{
        *s = (struct state){ .in = in };
        s->next = calloc(in->n ? in->n : 1, sizeof(*s->next));
        s->meter = calloc(in->n ? in->n : 1, sizeof(*s->meter));
        if (!s->next || !s->meter)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < in->n; i++)
                s->meter[i] = in->series[i].class.kind == SERIES_ENERGY ? find_meter(s, &in->series[i]) : -1;
        return 0;
}

static int by_time(const void *a, const void *b)
{
        const struct sample *x = a, *y = b;

        return (x->ts_ms > y->ts_ms) - (x->ts_ms < y->ts_ms);
}

/* All measured-seconds samples in time order: a renamed node has two such series in one epoch. */
static int make_grid(const struct fold_input *in, struct sample **ret, size_t *ret_n, struct err *e)
{
        CLEANUP(freep) struct sample *grid = NULL;
        size_t total = 0, n = 0, unique = 0;

        for (size_t i = 0; i < in->n; i++)
                if (in->series[i].class.kind == SERIES_MEASURED)
                        total += in->series[i].n;
        grid = malloc((total ? total : 1) * sizeof(*grid));
        if (!grid)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < in->n; i++) {
                if (in->series[i].class.kind != SERIES_MEASURED || !in->series[i].n)
                        continue;
                memcpy(grid + n, in->series[i].samples, in->series[i].n * sizeof(*grid));
                n += in->series[i].n;
        }
        qsort(grid, n, sizeof(*grid), by_time);
        for (size_t i = 0; i < n; i++)
                if (!unique || grid[unique - 1].ts_ms != grid[i].ts_ms)
                        grid[unique++] = grid[i];
        *ret_n = unique;
        *ret = TAKE(grid);
        return 0;
}

static void add_feature(struct state *s, const struct fold_series *series, const struct sample *before,
                        const struct sample *last)
{
        double base = before ? before->value : 0;

        if (!last)
                return; /* nothing new: its total stayed */
        /* Its first sample ever is its 0, or else what it did before is unknown. */
        if (!before && series->samples[0].value != 0)
                s->incomplete = true;
        if (last->value < base)
                s->reset = true;
        s->deltas[series->class.what] += last->value - base;
        s->has_feature |= 1u << series->class.what;
}

static void add_energy(struct state *s, struct meter *m, const struct sample *before,
                       const struct sample *last, int64_t a, int64_t b)
{
        if (!before && !last)
                return; /* a unit that is yet to appear */
        m->whole = (m->any ? m->whole : true) && before && last && before->ts_ms == a && last->ts_ms == b;
        m->any = true;
        if (!before || !last)
                return;
        if (last->value < before->value)
                s->reset = true;
        m->joules += last->value - before->value;
}

/* What each series did between a and b. */
static void add_interval(struct state *s, int64_t a, int64_t b)
{
        s->reset = s->incomplete = false;
        s->has_feature = 0;
        memset(s->deltas, 0, sizeof(s->deltas));
        for (int i = 0; i < s->meters_n; i++) {
                s->meters[i].joules = 0;
                s->meters[i].any = s->meters[i].whole = false;
        }

        for (size_t i = 0; i < s->in->n; i++) {
                const struct fold_series *series = &s->in->series[i];
                size_t *next = &s->next[i];
                const struct sample *before, *last;
                size_t first;

                while (*next < series->n && series->samples[*next].ts_ms <= a)
                        (*next)++;
                before = *next ? &series->samples[*next - 1] : NULL;
                first = *next;
                while (*next < series->n && series->samples[*next].ts_ms <= b)
                        (*next)++;
                last = *next > first ? &series->samples[*next - 1] : NULL;

                if (series->class.kind == SERIES_FEATURE)
                        add_feature(s, series, before, last);
                else if (s->meter[i] >= 0)
                        add_energy(s, &s->meters[s->meter[i]], before, last, a, b);
        }
}

/* A row with the power of one provenance; false when there is none. */
static bool make_row(const struct state *s, enum provenance provenance, const struct sample *a,
                     const struct sample *b, struct row *row)
{
        *row = (struct row){ .start_ms = a->ts_ms,
                             .end_ms = b->ts_ms,
                             .seconds = b->value - a->value,
                             .provenance = provenance,
                             .has_feature = s->has_feature };
        for (int f = 0; f < FEATURE_N; f++)
                row->features[f] = s->deltas[f] / row->seconds;
        for (const struct meter *m = s->meters; m < s->meters + s->meters_n; m++) {
                if (m->provenance != provenance || !m->any || !m->whole ||
                    row->has_watts & 1u << m->component)
                        continue;
                row->watts[m->component] = m->joules / row->seconds;
                if (!(row->watts[m->component] <= ROW_WATTS_MAX)) /* also when it is not a number */
                        continue;
                row->has_watts |= 1u << m->component;
        }
        return row->has_watts;
}

static bool is_gap(const struct sample *a, const struct sample *b)
{
        double wall = (double)(b->ts_ms - a->ts_ms) / 1000;
        double measured = b->value - a->value;

        /* Measured seconds are monotonic time: far more of them than wall time is a clock that was set back.
         */
        return b->ts_ms - a->ts_ms > FOLD_INTERVAL_MAX_MS || measured < FOLD_MEASURED_MIN * wall ||
               measured > wall / FOLD_MEASURED_MIN;
}

static bool beyond_belief(const struct state *s, double seconds)
{
        for (int f = 0; f < FEATURE_N; f++)
                if (!(s->deltas[f] / seconds <= ROW_FEATURE_MAX)) /* also when it is not a number */
                        return true;
        return false;
}

static int fold_interval(struct state *s, const struct sample *a, const struct sample *b, fold_fn fn,
                         void *arg, enum fold_verdict *verdict, struct err *e)
{
        int r = 0;

        add_interval(s, a->ts_ms, b->ts_ms); /* also for a gap: the cursors move */
        if (is_gap(a, b))
                *verdict = FOLD_GAP;
        else if (s->reset || beyond_belief(s, b->value - a->value))
                *verdict = FOLD_RESET;
        else if (s->incomplete)
                *verdict = FOLD_INCOMPLETE;
        else if (!s->has_feature)
                *verdict = FOLD_NO_FEATURES;
        else
                *verdict = FOLD_NO_POWER;
        if (*verdict != FOLD_NO_POWER)
                return 0;

        for (int p = 0; r == 0 && p < PROVENANCE_N; p++) {
                struct row row;

                if (!make_row(s, (enum provenance)p, a, b, &row))
                        continue;
                *verdict = FOLD_ROW;
                r = fn(&row, arg, e);
        }
        return r;
}

int fold(const struct fold_input *in, int64_t from_ms, fold_fn fn, void *arg, uint64_t *counts, struct err *e)
{
        CLEANUP(state_done) struct state s = { 0 };
        CLEANUP(freep) struct sample *grid = NULL;
        size_t n = 0;
        int r;

        r = make_grid(in, &grid, &n, e);
        if (r == 0)
                r = state_init(&s, in, e);
        for (size_t i = 1; r == 0 && i < n; i++) {
                enum fold_verdict verdict;

                if (grid[i].ts_ms < from_ms)
                        continue;
                r = fold_interval(&s, &grid[i - 1], &grid[i], fn, arg, &verdict, e);
                if (r == 0)
                        counts[verdict]++;
        }
        return r;
}
