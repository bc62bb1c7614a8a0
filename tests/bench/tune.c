/* SPDX-License-Identifier: Apache-2.0 */
/* make tune DATA=DIR [GROUP=G] [COMPONENT=C]: compares hyper-parameters of general models on a recording. For
 * each of OUTER folds of whole segments, the rows outside of it are split again, by segments (S) and by
 * workloads (W); a candidate's figure is its mean error over these inner folds, so the outer folds' own rows
 * choose nothing. Prints a line per candidate, the least S + W marked; what is chosen goes into
 * general_settings[]. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/log.h"
#include "model-server/jobs.h"
#include "model-server/recording.h"
#include "model-server/train/evaluate.h"

#define OUTER    2 /* of the ten folds of S: the comparison is repeated on other rows */
#define INNER    5
#define JOBS_MAX 8192
#define SPLITS   2

static const struct candidate {
        const char *name;
        struct general_settings settings;
} candidates[] = {
        { "depth 5, 200 rounds", { NULL, NULL, { 5, 200, 128, 0.08, 5, 0.8, 0.8, 1 }, 0.5, 3, true } },
        { "depth 5, 150 rounds", { NULL, NULL, { 5, 150, 128, 0.10, 5, 0.8, 0.8, 1 }, 0.5, 3, true } },
        { "depth 5, 300 rounds", { NULL, NULL, { 5, 300, 128, 0.06, 5, 0.8, 0.8, 1 }, 0.5, 3, true } },
        { "depth 4", { NULL, NULL, { 4, 200, 128, 0.08, 5, 0.8, 0.8, 1 }, 0.5, 3, true } },
        { "depth 6", { NULL, NULL, { 6, 200, 128, 0.08, 5, 0.8, 0.8, 1 }, 0.5, 3, true } },
        { "64 bins", { NULL, NULL, { 5, 200, 64, 0.08, 5, 0.8, 0.8, 1 }, 0.5, 3, true } },
        { "min_child_weight 2", { NULL, NULL, { 5, 200, 128, 0.08, 2, 0.8, 0.8, 1 }, 0.5, 3, true } },
        { "min_child_weight 10", { NULL, NULL, { 5, 200, 128, 0.08, 10, 0.8, 0.8, 1 }, 0.5, 3, true } },
        { "trees alone", { NULL, NULL, { 5, 200, 128, 0.08, 5, 0.8, 0.8, 1 }, 0, 3, true } },
        { "corrected line alone", { NULL, NULL, { 5, 200, 128, 0.08, 5, 0.8, 0.8, 1 }, 1, 3, true } },
        { "all features", { NULL, NULL, { 5, 200, 128, 0.08, 5, 0.8, 0.8, 1 }, 0.5, 3, false } },
        { "more regular", { NULL, NULL, { 5, 150, 128, 0.10, 8, 0.7, 0.7, 3 }, 0.5, 3, true } },
        { "2 seeds", { NULL, NULL, { 5, 200, 128, 0.08, 5, 0.8, 0.8, 1 }, 0.5, 2, true } },
};

struct job {
        size_t candidate, split; /* 0: S, 1: W */
        const char *component;
        const struct table *table;
        const unsigned char *mark;
        struct score_sum score;
};

/* What one outer fold leaves, and how that is split again. */
struct inner {
        struct table table;
        int *workload; /* owned */
        struct folds folds[SPLITS];
};

static int run(void *arg, size_t i, struct err *e)
{
        struct job *job = (struct job *)arg + i;

        return evaluate_fold(TRAINER_BLEND_PREV, &candidates[job->candidate].settings, job->table,
                             job->component, job->mark, NULL, NULL, &job->score, e);
}

static int make_inner(const struct recording_set *s, size_t component, const unsigned char *outer,
                      struct inner *ret, struct err *e)
{
        struct labels labels = recording_labels(s);
        struct table all = { 0 };
        size_t n = 0;
        int r = recording_table(s, component, &all, e);

        if (r == 0)
                r = table_select(&all, outer, false, NULL, 0, &ret->table, e);
        free(all.y);
        ret->workload = calloc(s->table.n + 1, sizeof(int));
        if (r < 0 || !ret->workload)
                return r < 0 ? r : err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < s->table.n; i++)
                if (!outer[i])
                        ret->workload[n++] = labels.workload ? labels.workload[i] : -1;
        r = folds_by_segment(ret->table.segment, n, INNER, 0, &ret->folds[0], e);
        return r < 0 ? r
                     : folds_make(PROTOCOL_W, &(struct labels){ .n = n, .workload = ret->workload },
                                  &ret->folds[1], e);
}

static void inner_done(struct inner *x)
{
        table_done(&x->table);
        free(x->workload);
        for (size_t i = 0; i < SPLITS; i++)
                folds_done(&x->folds[i]);
}

static void print_candidates(const struct recording_set *s, const char *component, const struct job *jobs,
                             size_t n)
{
        double mean[ARRAY_SIZE(candidates)][SPLITS], least = INFINITY;

        for (size_t c = 0; c < ARRAY_SIZE(candidates); c++) {
                for (size_t split = 0; split < SPLITS; split++) {
                        double error = 0, rows = 0;

                        for (size_t i = 0; i < n; i++)
                                if (jobs[i].candidate == c && jobs[i].split == split) {
                                        error += jobs[i].score.error;
                                        rows += (double)jobs[i].score.rows;
                                }
                        mean[c][split] = rows > 0 ? error / rows : 0;
                }
                least = fmin(least, mean[c][0] + mean[c][1]);
        }
        for (size_t c = 0; c < ARRAY_SIZE(candidates); c++)
                (void)printf("%-20s %-9s %-22s %8.3f %8.3f %8.3f%s\n", s->group, component,
                             candidates[c].name, mean[c][0], mean[c][1], mean[c][0] + mean[c][1],
                             mean[c][0] + mean[c][1] <= least ? " *" : "");
        (void)fflush(stdout);
}

static int tune(const struct recording_set *s, size_t component, struct err *e)
{
        struct labels labels = recording_labels(s);
        CLEANUP(freep) struct job *jobs = calloc(JOBS_MAX, sizeof(*jobs));
        CLEANUP(folds_done) struct folds outer = { 0 };
        struct inner inner[OUTER] = { 0 };
        size_t n = 0;
        int r = jobs ? folds_make(PROTOCOL_S, &labels, &outer, e) : err_set(e, -ENOMEM, "out of memory");

        for (size_t o = 0; r == 0 && o < OUTER && o < outer.n; o++) {
                r = make_inner(s, component, outer.mark[o * outer.n / OUTER], &inner[o], e);
                for (size_t c = 0; r == 0 && c < ARRAY_SIZE(candidates); c++)
                        for (size_t split = 0; split < SPLITS; split++)
                                for (size_t k = 0; k < inner[o].folds[split].n && n < JOBS_MAX; k++)
                                        jobs[n++] = (struct job){ c,
                                                                  split,
                                                                  s->components[component].name,
                                                                  &inner[o].table,
                                                                  inner[o].folds[split].mark[k],
                                                                  { 0 } };
        }
        if (r == 0)
                r = jobs_run(s->group, n, NULL, 0, run, jobs, e);
        if (r == 0)
                print_candidates(s, s->components[component].name, jobs, n);
        for (size_t o = 0; o < OUTER; o++)
                inner_done(&inner[o]);
        return r;
}

int main(int argc, char **argv)
{
        CLEANUP(recording_freep) struct recording *rec = NULL;
        struct err e;
        int r;

        log_init("tune", LOG_LEVEL_INFO);
        if (argc != 4)
                return log_error(2, "usage: tune DIR GROUP COMPONENT; an empty word means all");
        r = recording_read(argv[1], &rec, &e);
        (void)printf("%-20s %-9s %-22s %8s %8s %8s\n", "group", "component", "candidate", "S", "W", "S + W");
        for (size_t s = 0; r == 0 && s < rec->n_sets; s++)
                for (size_t c = 0; r == 0 && c < rec->sets[s].n_components; c++)
                        if ((!*argv[2] || !strcmp(argv[2], rec->sets[s].group)) &&
                            (!*argv[3] || !strcmp(argv[3], rec->sets[s].components[c].name)))
                                r = tune(&rec->sets[s], c, &e);
        return r < 0 ? log_error(1, "%s", e.text) : 0;
}
