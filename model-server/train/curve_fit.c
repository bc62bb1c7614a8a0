/* SPDX-License-Identifier: Apache-2.0 */
/* Each form is level + slope * f(x; shape) with one or two shape parameters: a coarse grid, then a pattern
 * search around the best point (Hooke and Jeeves, 1961), level and slope solved for at each. */
#include "model-server/train/curve_fit.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "model-server/train/lsq.h"

#define GRID_ROUNDS   8
#define GRID_ROWS     400 /* enough to find the region that the search then refines */
#define SEARCH_ROUNDS 10
#define LAST_ROUNDS   60
#define SEARCH_MAX    120
#define STEP_ROUGH    0.03 /* of the first step: the search on some rows ends there */
#define STEP_LEAST    1e-3
#define EXPONENT_MAX  50.0 /* of e: beyond, a curve is a step */

/* Shapes as searched: u[0] (and u[1]) in a space where steps of one size make sense. */
static const struct shape {
        size_t n;
        double low[2], high[2], step[2];
        size_t points[2];
        double (*f)(double x, const double *u);
        /* level, slope, shape to Kepler's parameters */
        void (*parameters)(const double line[2], const double *u, double ret[4]);
} shapes[];

static double f_logarithmic(double x, const double *u)
{
        return log(exp(u[0]) * (x > 0 ? x : 0) + 1);
}

static void p_logarithmic(const double line[2], const double *u, double ret[4])
{
        memcpy(ret, (double[]){ line[1], exp(u[0]), line[0], 0 }, 4 * sizeof(*ret));
}

static double f_exponential(double x, const double *u)
{
        return exp(u[0] * x);
}

static void p_exponential(const double line[2], const double *u, double ret[4])
{
        memcpy(ret, (double[]){ line[1], u[0], line[0], 0 }, 4 * sizeof(*ret));
}

static double f_logistic(double x, const double *u)
{
        return 1 / (1 + exp(-exp(u[1]) * (x - u[0])));
}

static void p_logistic(const double line[2], const double *u, double ret[4])
{
        memcpy(ret, (double[]){ line[1], u[0], exp(u[1]), line[0] }, 4 * sizeof(*ret));
}

static const struct shape shapes[] = {
        [LOCAL_LOGARITHMIC] = { 1, { -3 }, { 10 }, { 1 }, { 9 }, f_logarithmic, p_logarithmic },
        [LOCAL_EXPONENTIAL] = { 1, { -EXPONENT_MAX }, { 20 }, { 2 }, { 15 }, f_exponential, p_exponential },
        [LOCAL_LOGISTIC] = { 2, { -0.4, 0 }, { 1.2, 5.5 }, { 0.1, 0.5 }, { 7, 6 }, f_logistic, p_logistic },
};

struct search {
        const struct shape *shape;
        const double *x, *y;
        size_t n;
        double *f, *residuals; /* owned */
};

static void search_done(struct search *s)
{
        free(s->f);
        free(s->residuals);
}

static double evaluate(const struct search *s, const double *u, int rounds, double line[2])
{
        for (size_t i = 0; i < s->n; i++)
                s->f[i] = s->shape->f(s->x[i], u);
        return lsq_line(s->f, s->y, s->n, rounds, s->residuals, line);
}

/* The middle of y and no slope: where every solution may begin. */
static void begin(const struct search *s, double line[2])
{
        line[0] = line[1] = 0;
        for (size_t i = 0; i < s->n; i++)
                line[0] += s->y[i] / (double)s->n;
}

/* Every k-th row, so that GRID_ROWS or a few more are left. */
static int thin(const struct search *s, struct search *ret, double **ret_values)
{
        size_t k = s->n > GRID_ROWS ? s->n / GRID_ROWS : 1, n = (s->n + k - 1) / k;
        double *values = calloc(2 * n, sizeof(*values));

        if (!values)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                values[i] = s->x[i * k];
                values[n + i] = s->y[i * k];
        }
        *ret = *s;
        ret->x = values;
        ret->y = values + n;
        ret->n = n;
        *ret_values = values;
        return 0;
}

static double grid(const struct search *s, double *ret_u, double ret_line[2])
{
        const struct shape *p = s->shape;
        double least = INFINITY;

        for (size_t i = 0; i < p->points[0]; i++)
                for (size_t j = 0; j < (p->n > 1 ? p->points[1] : 1); j++) {
                        double u[2] = { 0 }, line[2], loss;

                        u[0] = p->low[0] + (p->high[0] - p->low[0]) * (double)i / (double)(p->points[0] - 1);
                        if (p->n > 1)
                                u[1] = p->low[1] +
                                       (p->high[1] - p->low[1]) * (double)j / (double)(p->points[1] - 1);
                        begin(s, line);
                        loss = evaluate(s, u, GRID_ROUNDS, line);
                        if (!(loss < least))
                                continue;
                        least = loss;
                        memcpy(ret_u, u, sizeof(u));
                        memcpy(ret_line, line, 2 * sizeof(*line));
                }
        return least;
}

/* One round over the parameters; true when something got better. */
static bool try_steps(const struct search *s, const double *step, double *u, double line[2], double *least)
{
        bool better = false;

        for (size_t k = 0; k < s->shape->n; k++)
                for (int sign = -1; sign <= 1; sign += 2) {
                        double v[2] = { u[0], u[1] }, l[2] = { line[0], line[1] }, loss;

                        v[k] = fmin(fmax(v[k] + sign * step[k], s->shape->low[k]), s->shape->high[k]);
                        loss = evaluate(s, v, SEARCH_ROUNDS, l);
                        if (!(loss < *least * (1 - 1e-9)))
                                continue;
                        *least = loss;
                        memcpy(u, v, sizeof(v));
                        memcpy(line, l, sizeof(l));
                        better = true;
                        break;
                }
        return better;
}

/* From *step (of the shape's steps) down to `end`, halving when nothing gets better. */
static void search(const struct search *s, double *step, double end, double *u, double line[2], double *least)
{
        for (int k = 0; k<SEARCH_MAX && * step> end; k++) {
                const double steps[2] = { *step * s->shape->step[0], *step * s->shape->step[1] };

                if (!try_steps(s, steps, u, line, least))
                        *step /= 2;
        }
}

static bool varies(const double *x, size_t n)
{
        for (size_t i = 1; i < n; i++)
                if (fabs(x[i] - x[0]) > 1e-9)
                        return true;
        return false;
}

int curve_fit(enum local_form form, const double *x, const double *y, size_t n, double ret[4],
              double *ret_loss, struct err *e)
{
        CLEANUP(search_done) struct search s = { .shape = &shapes[form], .x = x, .y = y, .n = n };
        CLEANUP(freep) double *values = NULL;
        double u[2] = { 0 }, line[2] = { 0 }, step = 1, least;
        struct search some;

        if (!varies(x, n))
                return err_set(e, -EDOM, "the feature does not vary");
        s.f = calloc(n, sizeof(*s.f));
        s.residuals = calloc(n, sizeof(*s.residuals));
        if (!s.f || !s.residuals || thin(&s, &some, &values) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        least = grid(&some, u, line);
        if (isfinite(least))
                search(&some, &step, STEP_ROUGH, u, line, &least);
        if (isfinite(least))
                least = evaluate(&s, u, SEARCH_ROUNDS, line);
        if (!isfinite(least))
                return err_set(e, -EDOM, "the curve cannot follow these values");
        search(&s, &step, STEP_LEAST, u, line, &least);
        *ret_loss = evaluate(&s, u, LAST_ROUNDS, line);
        s.shape->parameters(line, u, ret);
        return isfinite(*ret_loss) ? 0 : err_set(e, -EDOM, "the curve cannot follow these values");
}
