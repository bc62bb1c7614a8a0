/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/training.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "model-server/recording.h"
#include "model-server/train/evaluate.h"
#include "tests/bench/results.h"

#define DATA_DEFAULT "../shared/nx12"
#define SOURCE       "rapl"
#define GROUP        "CounterOnly"
#define COMPONENT    "package"
#define ROUNDS       5
#define CURVE_FROM   16 /* the curve begins with one training row in so many */

static void fail(const char *what, const struct err *e)
{
        (void)fprintf(stderr, "bench: %s: %s\n", what, e->text);
        exit(1);
}

static const struct recording_set *find_set(const struct recording *recording)
{
        for (size_t i = 0; i < recording->n_sets; i++)
                if (!strcmp(recording->sets[i].source, SOURCE) && !strcmp(recording->sets[i].group, GROUP))
                        return &recording->sets[i];
        return NULL;
}

static int find_component(const struct recording_set *set)
{
        for (size_t i = 0; i < set->n_components; i++)
                if (!strcmp(set->components[i].name, COMPONENT))
                        return (int)i;
        return -1;
}

static void add_time(const char *trainer, double ms, size_t rows)
{
        char name[64];

        (void)snprintf(name, sizeof(name), "train_%s_ms", trainer);
        results_add(name, ms, "ms", rows, 0);
}

static void time_local(const struct table *t)
{
        for (size_t k = 0; k < local_trainers_n; k++) {
                double ms[ROUNDS];
                struct local_fit fit;
                struct err e;
                int r = 0;

                for (int i = 0; r == 0 && i < ROUNDS; i++) {
                        uint64_t begin = clock_monotonic_ns();

                        r = local_fit(&local_trainers[k], t, &fit, &e);
                        ms[i] = (double)(clock_monotonic_ns() - begin) / NS_PER_MS;
                }
                if (r == 0)
                        add_time(local_trainers[k].name, results_median(ms, ROUNDS), t->n);
        }
}

static const struct {
        const char *name;
        enum trainer_kind kind;
} kinds[] = { { "local", TRAINER_LOCAL }, { "xgboost", TRAINER_PLAIN }, { "blend", TRAINER_BLEND } };

/* Training one component's archive on everything; the choice among local trainers, by folds. */
static void time_whole(const struct table *t)
{
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
                struct archive_component component = { 0 };
                CLEANUP(model_archive_freep) struct model_archive *archive = calloc(1, sizeof(*archive));
                uint64_t begin = clock_monotonic_ns();
                struct local_fit fit;
                struct err e = { "out of memory" };
                int r = !archive ? -ENOMEM
                        : kinds[k].kind == TRAINER_LOCAL
                                ? local_choose(t, COMPONENT, &fit, &e)
                                : evaluate_train(kinds[k].kind, general_settings_find(GROUP, COMPONENT), t,
                                                 COMPONENT, archive, &component, &e);

                if (r < 0)
                        fail("training", &e);
                add_time(kinds[k].name, (double)(clock_monotonic_ns() - begin) / NS_PER_MS, t->n);
        }
}

/* The rows of one fold, and one in `part` of the others. */
static void thin(const struct table *t, const unsigned char *held, size_t part, struct table *ret,
                 unsigned char *ret_held)
{
        unsigned char *keep = calloc(t->n, 1);
        size_t others = 0, n = 0;
        struct err e = { "out of memory" };

        if (!keep)
                fail("learning curve", &e);
        for (size_t i = 0; i < t->n; i++) {
                keep[i] = held[i] || others++ % part == 0;
                if (keep[i])
                        ret_held[n++] = held[i];
        }
        if (table_select(t, keep, true, NULL, 0, ret, &e) < 0)
                fail("learning curve", &e);
        free(keep);
}

static void learning_curve(const struct table *t, const struct labels *labels)
{
        unsigned char *held = calloc(t->n, 1);
        struct folds folds = { 0 };
        struct err e = { "no folds" };

        if (!held || folds_make(PROTOCOL_S, labels, &folds, &e) < 0 || folds.n == 0)
                fail("learning curve", &e);
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
                for (size_t part = CURVE_FROM; part; part /= 2) {
                        struct table thinned = { 0 };
                        struct score_sum sum;
                        char name[64];

                        thin(t, folds.mark[0], part, &thinned, held);
                        if (evaluate_fold(kinds[k].kind, general_settings_find(GROUP, COMPONENT), &thinned,
                                          COMPONENT, held, NULL, NULL, &sum, &e) < 0)
                                fail("learning curve", &e);
                        (void)snprintf(name, sizeof(name), "curve_%s_%zu_watts", kinds[k].name,
                                       thinned.n - sum.rows);
                        results_add(name, sum.error / (double)sum.rows, "W", sum.rows, 0);
                        table_done(&thinned);
                }
        folds_done(&folds);
        free(held);
}

void bench_training(void)
{
        const char *data = getenv("DATA") ? getenv("DATA") : DATA_DEFAULT;
        CLEANUP(recording_freep) struct recording *recording = NULL;
        const struct recording_set *set;
        struct table t = { 0 };
        struct labels labels;
        struct err e;
        int component;

        if (recording_read(data, &recording, &e) < 0) {
                printf("no training times and no learning curve: %s (DATA=DIR names a recording)\n", e.text);
                return;
        }
        set = find_set(recording);
        component = set ? find_component(set) : -1;
        if (component < 0) {
                printf("no training times and no learning curve: '%s' has no " COMPONENT " of " SOURCE
                       ", " GROUP "\n",
                       data);
                return;
        }
        labels = recording_labels(set);
        if (recording_table(set, (size_t)component, &t, &e) < 0)
                fail("reading the recording", &e);
        time_local(&t);
        time_whole(&t);
        learning_curve(&t, &labels);
        free(t.y);
}
