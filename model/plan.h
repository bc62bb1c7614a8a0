/* SPDX-License-Identifier: Apache-2.0 */
/* A trained model's component as a row of stages over a block of rows: scale, expand, predict. Made once by
 * the loaders, then immutable. What a stage is was decided when it was added; running it is a call. */
#pragma once

#include "model/arena.h"
#include "model/compiled.h"

/* Sums are rounded as numpy rounds them, on machines with fused multiply-add too. gcc contracts nothing in
 * standard C. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#define PLAN_ROWS        16  /* rows of a block */
#define PLAN_COLUMNS_MAX 512 /* of any stage */
#define PLAN_STAGES_MAX  24
#define PLAN_MEMORY_MAX  ((size_t)128 << 20) /* bytes of all stages' numbers */
#define PLAN_NOTE_MAX    96

struct plan_stage {
        /* n rows of n_in columns to n rows of n_out columns. */
        void (*run)(const struct plan_stage *s, const double *in, double *out, size_t n);
        size_t n_in, n_out;
        const double *a, *b; /* per column, or a matrix; in the plan's memory */
        double c, d;
        size_t k;
        const void *data; /* what needs more: a forest, neighbours; in the plan's memory */
};

struct plan {
        struct arena arena;
        size_t n_inputs, inputs[MODEL_FEATURES_MAX]; /* the model's features, in the component's order */
        size_t n_stages;
        struct plan_stage stages[PLAN_STAGES_MAX];

        size_t columns;                     /* after the stages so far */
        bool float32;                       /* these hold what a float32 can */
        double typical[MODEL_FEATURES_MAX]; /* a large value of each input, from its scaler; 0 unknown */
        double low[MODEL_FEATURES_MAX]; /* range of each input in training, from its scaler; or infinite */
        double high[MODEL_FEATURES_MAX];
        bool scaled;              /* a scaler is among the stages */
        const char *kind;         /* "GradientBoostingRegressor"; static */
        char note[PLAN_NOTE_MAX]; /* "100 trees, 1463 nodes" */
        double mae;               /* of this component, W; NaN unknown */
};

int plan_new(size_t n_inputs, struct plan **ret, struct err *e);
void plan_free(struct plan *plan);
CLEANUP_DEFINE(struct plan *, plan_free);

/* n zeroed elements that live as long as the plan; NULL over the limit (see plan_no_memory()). */
void *plan_calloc(struct plan *plan, size_t n, size_t size);
int plan_no_memory(struct err *e);

/* A new last stage with n_out columns. */
int plan_add(struct plan *plan, size_t n_out,
             void (*run)(const struct plan_stage *s, const double *in, double *out, size_t n),
             struct plan_stage **ret, struct err *e);

/* Inputs as a float32 would hold them: what trees of scikit-learn and XGBoost compare. */
int plan_add_float32(struct plan *plan, struct err *e);

/* The last stage's columns of n rows into out[0], out[out_stride], ...: next to each other. */
void plan_run(const struct plan *plan, const size_t *index, const double *rows, size_t stride, size_t n,
              double *out, size_t out_stride);
/* A component's evaluator: the first column, which should be the only one; see struct model_component. */
void plan_eval(const struct model_component *c, const size_t *index, const double *rows, size_t stride,
               size_t n, double *out, size_t out_stride);
