/* SPDX-License-Identifier: Apache-2.0 */
#include "model/plan.h"

#include <errno.h>
#include <math.h>
#include <string.h>

int plan_new(size_t n_inputs, struct plan **ret, struct err *e)
{
        struct plan *plan = calloc(1, sizeof(*plan));

        if (!plan)
                return err_set(e, -ENOMEM, "out of memory");
        plan->arena.max = PLAN_MEMORY_MAX;
        plan->n_inputs = plan->columns = n_inputs;
        plan->kind = "";
        plan->mae = NAN;
        for (size_t i = 0; i < MODEL_FEATURES_MAX; i++) {
                plan->low[i] = -INFINITY;
                plan->high[i] = INFINITY;
        }
        *ret = plan;
        return 0;
}

void plan_free(struct plan *plan)
{
        if (!plan)
                return;
        arena_done(&plan->arena);
        free(plan);
}

void *plan_calloc(struct plan *plan, size_t n, size_t size)
{
        return arena_calloc(&plan->arena, n, size);
}

int plan_no_memory(struct err *e)
{
        return err_set(e, -E2BIG, "model needs more than %zu bytes of memory", PLAN_MEMORY_MAX);
}

int plan_add(struct plan *plan, size_t n_out,
             void (*run)(const struct plan_stage *s, const double *in, double *out, size_t n),
             struct plan_stage **ret, struct err *e)
{
        struct plan_stage *s = &plan->stages[plan->n_stages];

        if (plan->n_stages == PLAN_STAGES_MAX)
                return err_set(e, -E2BIG, "model has more than %d stages", PLAN_STAGES_MAX);
        if (n_out > PLAN_COLUMNS_MAX || plan->columns > PLAN_COLUMNS_MAX)
                return err_set(e, -E2BIG, "model has more than %d columns", PLAN_COLUMNS_MAX);
        plan->n_stages++;
        s->run = run;
        s->n_in = plan->columns;
        s->n_out = plan->columns = n_out;
        plan->float32 = false;
        if (ret)
                *ret = s;
        return 0;
}

static void run_float32(const struct plan_stage *s, const double *in, double *out, size_t n)
{
        for (size_t i = 0; i < n * s->n_in; i++)
                out[i] = (double)(float)in[i];
}

int plan_add_float32(struct plan *plan, struct err *e)
{
        int r = plan_add(plan, plan->columns, run_float32, NULL, e);

        plan->float32 = r == 0;
        return r;
}

static void evaluate(const struct plan *plan, const size_t *index, const double *rows, size_t stride,
                     size_t n, double *out, size_t out_stride, size_t columns)
{
        _Alignas(64) double blocks[2][PLAN_ROWS * PLAN_COLUMNS_MAX];

        while (n > 0) {
                size_t some = n < PLAN_ROWS ? n : PLAN_ROWS, side = 0;

                for (size_t r = 0; r < some; r++, rows += stride)
                        for (size_t j = 0; j < plan->n_inputs; j++)
                                blocks[0][r * plan->n_inputs + j] = rows[index[plan->inputs[j]]];
                for (size_t s = 0; s < plan->n_stages; s++, side = !side)
                        plan->stages[s].run(&plan->stages[s], blocks[side], blocks[!side], some);
                for (size_t r = 0; r < some; r++, out += out_stride)
                        memcpy(out, blocks[side] + r * plan->columns, columns * sizeof(*out));
                n -= some;
        }
}

void plan_run(const struct plan *plan, const size_t *index, const double *rows, size_t stride, size_t n,
              double *out, size_t out_stride)
{
        evaluate(plan, index, rows, stride, n, out, out_stride, plan->columns);
}

void plan_eval(const struct model_component *c, const size_t *index, const double *rows, size_t stride,
               size_t n, double *out, size_t out_stride)
{
        evaluate(c->plan, index, rows, stride, n, out, out_stride, 1);
}
