/* SPDX-License-Identifier: Apache-2.0 */
/* Trainers of local models: those that Kepler's exporter can evaluate from a weight JSON. The class names are
 * upstream's, because a reader takes the formula from them; how a formula is fitted is our own affair.
 *
 *   linear       watts = bias + sum of weight * x / scale
 *   logarithmic  a ln(b x / scale + 1) + c
 *   exponential  a exp(b x / scale) + c
 *   logistic     A / (1 + exp(-k (x / scale - x0))) + off
 *
 * Curves are a function of one feature. Upstream's readers disagree about which when there are several, so a
 * fitted curve is exported with that one variable alone. */
#pragma once

#include <jansson.h>
#include "model-server/train/table.h"

enum local_form { LOCAL_LINEAR, LOCAL_LOGARITHMIC, LOCAL_EXPONENTIAL, LOCAL_LOGISTIC };

struct local_trainer {
        const char *name;  /* "lad" */
        const char *class; /* "SGDRegressorTrainer", as in the model's name */
        enum local_form form;
        int loss; /* enum loss, of linear forms */
        bool nonnegative;
        double margin; /* share by which its inner error must be less than that of a trainer before it */
};
extern const struct local_trainer local_trainers[];
extern const size_t local_trainers_n;
const struct local_trainer *local_trainer_find(const char *name);

/* One component's fit. */
struct local_fit {
        const struct local_trainer *trainer;
        size_t p;
        const char *features[TABLE_FEATURES_MAX]; /* borrowed from the table */
        double scale[TABLE_FEATURES_MAX];         /* largest |x| trained on; 1 where that is 0 */
        double weight[TABLE_FEATURES_MAX], bias;  /* linear */
        double curve[4];                          /* in Kepler's order */
        size_t main;                              /* the feature of a curve */
};

/* -EDOM: the form cannot follow these data (no feature varies, too few rows). */
int local_fit(const struct local_trainer *trainer, const struct table *t, struct local_fit *ret,
              struct err *e);

/* What stands below a component's name in a weight JSON: {"All_Weights": …}. NULL without memory. */
json_t *local_weights(const struct local_fit *fit);

/* {"model_name": …, component: {"All_Weights": …}}: the exported file. */
json_t *local_document(const char *model_name, const char *component, const struct local_fit *fit);

/* As an estimator evaluates it: the exported file through model/, clamped at 0. out has t->n. */
int local_replay(const struct local_fit *fit, const char *component, const struct table *t, double *out,
                 struct err *e);

/* The trainer that has the least mean error over inner folds of whole segments, by the margins of the table,
 * and its fit on all of t. What fails to fit is passed over; -EDOM when nothing fits. */
int local_choose(const struct table *t, const char *component, struct local_fit *ret, struct err *e);
/* The same among the trainers of one class. */
int local_choose_class(const struct table *t, const char *component, const char *class, struct local_fit *ret,
                       struct err *e);
