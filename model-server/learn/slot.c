/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/learn/slot.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void contender_done(struct contender *c)
{
        artifact_free(c->abs);
        artifact_free(c->dyn);
        model_free(c->model);
        *c = (struct contender){ 0 };
}

int contender_load(struct contender *c, struct artifact *abs, struct artifact *dyn, struct err *e)
{
        const char *names[FEATURE_N];
        int r;

        c->abs = abs;
        c->dyn = dyn;
        for (int i = 0; i < FEATURE_N; i++)
                names[i] = features[i].name;
        r = model_load_archive(abs->archive, &c->model, e);
        if (r == 0)
                r = model_check(c->model, e);
        return r < 0 ? r : model_bind(c->model, names, FEATURE_N, c->index, e);
}

unsigned int contender_predict(const struct contender *c, const double row[FEATURE_N],
                               double watts[COMPONENT_N])
{
        double out[MODEL_COMPONENTS_MAX];
        unsigned int set = 0;

        model_predict(c->model, c->index, row, FEATURE_N, 1, out);
        for (size_t i = 0; i < model_components(c->model); i++) {
                int component = component_find(model_component(c->model, i));

                if (component < 0)
                        continue;
                watts[component] = out[i];
                set |= 1u << component;
        }
        return set;
}

void slot_done(struct slot *s)
{
        contender_done(&s->champion);
        for (int i = 0; i < SLOT_CHALLENGERS; i++)
                contender_done(&s->challengers[i]);
        for (int c = 0; c < COMPONENT_N; c++)
                free(s->points[c]);
}

bool slot_usable(const struct slot *s, const struct row *row)
{
        const struct energy_source *source = &energy_sources[s->source];
        double x[GROUP_FEATURES_MAX];
        struct example example = { .row = *row };
        bool power = false;

        for (size_t i = 0; i < source->n; i++)
                power |= row->has_watts >> component_find(source->components[i]) & 1;
        return power && example_features(&example, s->group, x);
}

static void add_point(struct slot *s, int c, int64_t end_ms, double measured, double estimated)
{
        if (!s->points[c])
                s->points[c] = calloc(SLOT_POINTS, sizeof(struct point));
        if (!s->points[c])
                return; /* a plot is not worth more than that */
        s->points[c][s->points_n[c]++ % SLOT_POINTS] =
                (struct point){ end_ms, (float)measured, (float)estimated };
}

static void add_errors(const struct contender *c, const struct row *row, double error[COMPONENT_N])
{
        double watts[COMPONENT_N];
        unsigned int set = contender_predict(c, row->features, watts) & row->has_watts;

        for (int i = 0; i < COMPONENT_N; i++)
                if (set & 1u << i)
                        error[i] += fabs(watts[i] - row->watts[i]);
}

void slot_score(struct slot *s, int64_t row_id, const struct row *row, double errors[COMPONENT_N])
{
        double watts[COMPONENT_N];
        unsigned int set = 0;
        bool trial = s->challengers_n > 0;

        for (int i = 0; i < COMPONENT_N; i++)
                errors[i] = NAN;
        s->rows++;
        if (!s->champion.model || row_id <= s->champion.last_row)
                return;
        set = contender_predict(&s->champion, row->features, watts) & row->has_watts;
        for (int i = 0; i < COMPONENT_N; i++) {
                if (!(set & 1u << i))
                        continue;
                errors[i] = fabs(watts[i] - row->watts[i]);
                add_point(s, i, row->end_ms, row->watts[i], watts[i]);
        }
        for (int i = 0; i < s->challengers_n; i++)
                trial &= row_id > s->challengers[i].last_row;
        if (!trial)
                return;
        s->trial_n++;
        add_errors(&s->champion, row, s->champion_error);
        for (int i = 0; i < s->challengers_n; i++)
                add_errors(&s->challengers[i], row, s->challengers[i].error);
}

double slot_live_mae(const struct slot *s, int c)
{
        uint64_t n = s->points_n[c] < SLOT_POINTS ? s->points_n[c] : SLOT_POINTS;
        double sum = 0;

        for (uint64_t i = 0; i < n; i++)
                sum += fabs((double)s->points[c][i].measured - (double)s->points[c][i].estimated);
        return n ? sum / (double)n : NAN;
}

double slot_recent_mae(const struct slot *s)
{
        double worst = NAN;

        for (int c = 0; c < COMPONENT_N; c++) {
                double sum = 0;

                if (s->points_n[c] < SLOT_DRIFT_ROWS)
                        continue;
                for (uint64_t i = s->points_n[c] - SLOT_DRIFT_ROWS; i < s->points_n[c]; i++) {
                        const struct point *p = &s->points[c][i % SLOT_POINTS];

                        sum += fabs((double)p->measured - (double)p->estimated);
                }
                worst = fmax(worst, sum / SLOT_DRIFT_ROWS); /* fmax() takes the number beside a NaN */
        }
        return worst;
}

const char *slot_due(const struct slot *s, uint64_t min_rows)
{
        uint64_t fresh = s->rows - s->trained_at;

        if (!s->champion.model)
                return s->rows >= min_rows && (!s->trained_at || fresh >= SLOT_TRIAL_MIN) ? "first" : NULL;
        if (s->challengers_n)
                return NULL;
        /* A mean over fewer rows than the champion has not seen says nothing, and not twice about the same
         * rows. */
        if (fresh >= SLOT_DRIFT_ROWS &&
            slot_recent_mae(s) > SLOT_DRIFT * fmax(artifact_mae(s->champion.abs), SLOT_DRIFT_FLOOR))
                return "drift";
        return (double)fresh >= fmax(SLOT_TRIAL_MIN, SLOT_GROWTH * (double)s->trained_at) ? "growth" : NULL;
}

uint64_t slot_trial_rows(const struct slot *s, uint64_t trial_rows)
{
        uint64_t rows = s->trained_at / 4;

        rows = rows < SLOT_TRIAL_MIN ? SLOT_TRIAL_MIN : rows;
        return rows < trial_rows ? rows : trial_rows;
}

/* The worst component among those that the champion has; infinite when one is missing. */
static double worst_of(const struct slot *s, const struct contender *c, const double error[COMPONENT_N])
{
        double worst = 0;

        for (size_t i = 0; i < model_components(s->champion.model); i++) {
                const char *name = model_component(s->champion.model, i);
                bool has = false;

                for (size_t j = 0; j < model_components(c->model); j++)
                        has |= !strcmp(model_component(c->model, j), name);
                if (!has)
                        return INFINITY;
                if (component_find(name) >= 0)
                        worst = fmax(worst, error[component_find(name)] / (double)s->trial_n);
        }
        return worst;
}

int slot_judge(const struct slot *s, int *ret_best, double *ret_mae, double *ret_rival)
{
        *ret_best = 0;
        *ret_mae = INFINITY;
        *ret_rival = worst_of(s, &s->champion, s->champion_error);
        for (int i = 0; i < s->challengers_n; i++) {
                double mae = worst_of(s, &s->challengers[i], s->challengers[i].error);

                if (mae < *ret_mae) {
                        *ret_best = i;
                        *ret_mae = mae;
                }
        }
        return *ret_mae < SLOT_BETTER * *ret_rival ? *ret_best : -1;
}
