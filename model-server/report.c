/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/report.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/clock.h"
#include "model-server/jobs.h"

/* ---- what there is to do ---- */

struct job {
        const struct recording_set *set;
        const struct table *table;
        size_t component;
        enum trainer_kind kind;
        enum protocol protocol;
        const unsigned char *mark;
        double *estimates; /* of the trace; NULL */
        struct score_sum score;
};

struct work {
        size_t n_jobs, room, n_tables;
        struct job *jobs;     /* owned */
        double *cost;         /* owned */
        struct table *tables; /* owned, with their y only */
        struct folds *folds;  /* owned: PROTOCOL_N for each set */
        size_t n_sets;
};

static void work_done(struct work *w)
{
        for (size_t i = 0; i < w->n_tables; i++)
                free(w->tables[i].y);
        for (size_t i = 0; i < w->n_sets * PROTOCOL_N; i++)
                folds_done(&w->folds[i]);
        free(w->folds);
        free(w->tables);
        free(w->jobs);
        free(w->cost);
}

void report_done(struct report *p)
{
        for (size_t i = 0; i < p->n_traces; i++) {
                free(p->traces[i].local);
                free(p->traces[i].general);
        }
        free(p->traces);
        free(p->results);
        *p = (struct report){ 0 };
}

bool report_varies(const struct recording_set *s, size_t component)
{
        const double *watts = s->components[component].watts;

        for (size_t i = 1; i < s->table.n; i++)
                if (fabs(watts[i] - watts[0]) > 1e-6)
                        return true;
        return false;
}

const struct recording_set *report_dynamic(const struct recording *r, const struct recording_set *s)
{
        for (size_t i = 0; i < r->n_dynamic; i++)
                if (!strcmp(r->dynamic[i].source, s->source) && !strcmp(r->dynamic[i].group, s->group))
                        return &r->dynamic[i];
        return NULL;
}

/* Twenty draws say no more about the model without previous rows than the folds do. */
static bool wanted(enum trainer_kind kind, enum protocol protocol)
{
        return kind != TRAINER_BLEND || protocol != PROTOCOL_R;
}

/* Boosters to train, in tens of milliseconds or so: for the estimate of the time left. */
static double cost_of(enum trainer_kind kind, const struct table *t)
{
        static const double cost[TRAINER_KINDS] = { 2, 1, 5, 8 };

        return cost[kind] * (double)(t->p + 4);
}

static int add_job(struct work *w, const struct job *job, struct err *e)
{
        if (w->n_jobs == w->room) {
                size_t room = 2 * w->room + 1024;
                struct job *jobs = reallocarray(w->jobs, room, sizeof(*jobs));
                double *cost = jobs ? reallocarray(w->cost, room, sizeof(*cost)) : NULL;

                if (jobs)
                        w->jobs = jobs;
                if (!cost)
                        return err_set(e, -ENOMEM, "out of memory");
                w->cost = cost;
                w->room = room;
        }
        w->cost[w->n_jobs] = cost_of(job->kind, job->table);
        w->jobs[w->n_jobs++] = *job;
        return 0;
}

static int add_trace(struct report *p, const struct recording_set *s, size_t component, struct err *e)
{
        struct report_trace *more = reallocarray(p->traces, p->n_traces + 1, sizeof(*more));

        if (!more)
                return err_set(e, -ENOMEM, "out of memory");
        p->traces = more;
        more += p->n_traces++;
        *more = (struct report_trace){ s, component, calloc(s->table.n + 1, sizeof(double)),
                                       calloc(s->table.n + 1, sizeof(double)) };
        return more->local && more->general ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* All folds of one component. */
static int add_component(struct report *p, struct work *w, const struct recording_set *s, size_t component,
                         const struct folds *folds, struct err *e)
{
        struct table *t = &w->tables[w->n_tables];
        int r = recording_table(s, component, t, e);

        if (r < 0)
                return r;
        w->n_tables++;
        r = add_trace(p, s, component, e);
        for (int k = 0; r == 0 && k < TRAINER_KINDS; k++)
                for (int q = 0; q < PROTOCOL_N; q++)
                        for (size_t f = 0;
                             r == 0 && wanted((enum trainer_kind)k, (enum protocol)q) && f < folds[q].n;
                             f++) {
                                const struct report_trace *trace = &p->traces[p->n_traces - 1];
                                struct job job = { .set = s,
                                                   .table = t,
                                                   .component = component,
                                                   .kind = (enum trainer_kind)k,
                                                   .protocol = (enum protocol)q,
                                                   .mark = folds[q].mark[f] };

                                if (q == PROTOCOL_S && k == TRAINER_LOCAL)
                                        job.estimates = trace->local;
                                if (q == PROTOCOL_S && k == TRAINER_BLEND_PREV)
                                        job.estimates = trace->general;
                                r = add_job(w, &job, e);
                        }
        return r;
}

static int plan(struct report *p, struct work *w, struct err *e)
{
        const struct recording *rec = p->recording;
        int r = 0;

        w->n_sets = rec->n_sets;
        w->folds = calloc(rec->n_sets * PROTOCOL_N, sizeof(*w->folds));
        w->tables = calloc(rec->n_sets * RECORDING_COMPONENTS_MAX, sizeof(*w->tables));
        if (!w->folds || !w->tables)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < rec->n_sets; i++) {
                struct labels labels = recording_labels(&rec->sets[i]);

                for (int q = 0; r == 0 && q < PROTOCOL_N; q++)
                        r = folds_make((enum protocol)q, &labels, &w->folds[i * PROTOCOL_N + (size_t)q], e);
                for (size_t c = 0; r == 0 && c < rec->sets[i].n_components; c++)
                        if (report_varies(&rec->sets[i], c))
                                r = add_component(p, w, &rec->sets[i], c, &w->folds[i * PROTOCOL_N], e);
        }
        if (r == 0 && w->n_jobs == 0)
                r = err_set(e, -EBADMSG, "no power in '%s' ever varies, or there are too few rows for folds",
                            rec->name);
        return r;
}

static int run_job(void *arg, size_t i, struct err *e)
{
        struct job *job = &((struct work *)arg)->jobs[i];
        const char *component = job->set->components[job->component].name;
        int r = evaluate_fold(job->kind, general_settings_find(job->set->group, component), job->table,
                              component, job->mark, job->set->active, job->estimates, &job->score, e);

        return r < 0 ? err_prefix(e, r, "%s %s, protocol %c", job->set->group, component,
                                  protocol_letters[job->protocol])
                     : 0;
}

/* ---- what came out ---- */

/* The jobs from `first` on that belong together make one result. */
static size_t fold_result(const struct work *w, size_t first, struct report_result *ret)
{
        const struct job *j = &w->jobs[first];
        double rows = 0, error = 0, active = 0, active_rows = 0, sum = 0, squares = 0;
        size_t n = 0;

        *ret = (struct report_result){
                .set = j->set, .component = j->component, .kind = j->kind, .protocol = j->protocol
        };
        for (; first + n < w->n_jobs && w->jobs[first + n].table == j->table &&
               w->jobs[first + n].kind == j->kind && w->jobs[first + n].protocol == j->protocol;
             n++) {
                const struct score_sum *s = &w->jobs[first + n].score;
                double mae = s->rows > 0 ? s->error / (double)s->rows : 0;

                rows += (double)s->rows;
                error += s->error;
                active += s->active_error;
                active_rows += (double)s->active_rows;
                sum += mae;
                squares += mae * mae;
                ret->worst = fmax(ret->worst, mae);
        }
        ret->folds = n;
        ret->mae = rows > 0 ? error / rows : 0;
        ret->active_mae = active_rows > 0 ? active / active_rows : 0;
        ret->sd = sqrt(fmax(0, squares / (double)n - sum / (double)n * (sum / (double)n)));
        return n;
}

static int collect(struct report *p, const struct work *w, struct err *e)
{
        p->results = calloc(w->n_jobs + 1, sizeof(*p->results));
        if (!p->results)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < w->n_jobs;)
                i += fold_result(w, i, &p->results[p->n++]);
        return 0;
}

const struct report_result *report_find(const struct report *p, const struct recording_set *s,
                                        size_t component, enum trainer_kind kind, enum protocol protocol)
{
        for (size_t i = 0; i < p->n; i++) {
                const struct report_result *r = &p->results[i];

                if (r->set == s && r->component == component && r->kind == kind && r->protocol == protocol)
                        return r;
        }
        return NULL;
}

/* A model that explodes on half of the recording, or on another frequency, is not published. */
static void judge(struct report *p)
{
        static const enum protocol gates[] = { PROTOCOL_H, PROTOCOL_F };

        for (size_t i = 0; i < p->n; i++) {
                struct report_result *r = &p->results[i];
                const struct report_result *local =
                        report_find(p, r->set, r->component, TRAINER_LOCAL, PROTOCOL_S);

                r->published = true;
                for (size_t g = 0; local && g < ARRAY_SIZE(gates); g++) {
                        const struct report_result *x =
                                report_find(p, r->set, r->component, r->kind, gates[g]);

                        r->published &= !x || x->mae <= 2 * local->mae;
                }
        }
}

/* The class that all rows choose. */
static int choose_class(const struct work *w, const struct report_result *r, const char **ret, struct err *e)
{
        const struct job *j = w->jobs;
        struct local_fit fit;
        int x;

        while (j->set != r->set || j->component != r->component)
                j++;
        x = local_choose(j->table, r->set->components[r->component].name, &fit, e);
        if (x == 0)
                *ret = fit.trainer->class;
        return x;
}

static int name_models(struct report *p, const struct work *w, struct err *e)
{
        for (size_t i = 0; i < p->n; i++) {
                struct report_result *r = &p->results[i];
                const char *class = evaluate_class(r->kind);
                bool same = i > 0 && r[-1].set == r->set && r[-1].component == r->component &&
                            r[-1].kind == r->kind;
                int x = 0;

                if (same)
                        class = r[-1].model;
                else if (!class)
                        x = choose_class(w, r, &class, e);
                if (x < 0)
                        return x;
                (void)snprintf(r->model, sizeof(r->model), "%s", class);
        }
        return 0;
}

/* ---- the identity ---- */

static int identity_errors(const struct recording_set *s, const struct recording_set *labels_of,
                           size_t component, double ret[2], struct err *e)
{
        static const enum trainer_kind kinds[] = { TRAINER_LOCAL, TRAINER_PLAIN };
        struct labels labels = recording_labels(labels_of);
        const char *name = s->components[component].name;
        struct folds folds = { 0 };
        struct table t = { 0 };
        int r = recording_table(s, component, &t, e);

        t.segment = labels_of->table.segment;
        if (r == 0)
                r = folds_make(PROTOCOL_S, &labels, &folds, e);
        for (size_t k = 0; r == 0 && folds.n > 0 && k < ARRAY_SIZE(kinds); k++) {
                struct score_sum score;

                r = evaluate_fold(kinds[k], general_settings_find(s->group, name), &t, name, folds.mark[0],
                                  NULL, NULL, &score, e);
                ret[k] = r == 0 && score.rows > 0 ? score.error / (double)score.rows : 0;
        }
        folds_done(&folds);
        free(t.y);
        return r;
}

static int check_identity(struct report *p, struct err *e)
{
        const struct recording *rec = p->recording;

        for (size_t i = 0; i < rec->n_sets; i++) {
                const struct recording_set *s = &rec->sets[i], *d = report_dynamic(rec, s);
                int r;

                if (!d || d->table.n != s->table.n || d->n_components != s->n_components ||
                    !report_varies(s, 0) || strcmp(d->components[0].name, s->components[0].name))
                        continue;
                r = identity_errors(s, s, 0, p->identity.absolute_mae, e);
                if (r == 0)
                        r = identity_errors(d, s, 0, p->identity.dynamic_mae, e);
                if (r < 0)
                        return err_prefix(e, r, "DynPower of %s", s->group);
                p->identity.checked = true;
                (void)snprintf(p->identity.group, sizeof(p->identity.group), "%s", s->group);
                (void)snprintf(p->identity.component, sizeof(p->identity.component), "%s",
                               s->components[0].name);
                return 0;
        }
        return 0;
}

int report_make(const struct recording *recording, struct report *ret, struct err *e)
{
        CLEANUP(report_done) struct report p = { .recording = recording };
        CLEANUP(work_done) struct work w = { 0 };
        uint64_t start = clock_monotonic_ns();
        int r = plan(&p, &w, e);

        if (r == 0)
                r = jobs_run("folds", w.n_jobs, w.cost, 0, run_job, &w, e);
        if (r == 0)
                r = collect(&p, &w, e);
        if (r == 0)
                r = name_models(&p, &w, e);
        if (r == 0)
                r = check_identity(&p, e);
        if (r < 0)
                return r;
        judge(&p);
        p.seconds = (double)(clock_monotonic_ns() - start) / NS_PER_S;
        *ret = p;
        p = (struct report){ 0 };
        return 0;
}
