/* SPDX-License-Identifier: Apache-2.0 */
/* From a pickled scikit-learn object to stages of a plan. One row per class in sklearn.c; each kind's file
 * reads the attributes that its formula needs. */
#pragma once

#include "model/pickle.h"
#include "model/plan.h"

/* Add the stages of a fitted transformer or model. -ENOTSUP: a class or a setting that this version does not
 * evaluate, named; -EBADMSG: attributes that are missing or do not fit each other. */
int sklearn_add_transformer(struct plan *plan, const struct pickle_node *object, struct err *e);
int sklearn_add_regressor(struct plan *plan, const struct pickle_node *object, struct err *e);

/* One adder per class; the object is known to be of it. */
typedef int sklearn_adder(struct plan *plan, const struct pickle_node *object, struct err *e);
sklearn_adder scaler_add_max_abs, scaler_add_min_max, scaler_add_standard, scaler_add_robust;
sklearn_adder linear_add, linear_add_log, linear_add_tweedie;
sklearn_adder polynomial_add, svr_add, neighbours_add, perceptron_add;
sklearn_adder trees_add_decision_tree, trees_add_forest, trees_add_gradient_boosting, trees_add_histogram;

/* A last stage that takes the exponential of what a model with a log link has summed. */
int sklearn_add_exp(struct plan *plan, struct err *e);

/* ---- reading attributes ---- */

/* Exactly n finite numbers, in the plan's memory. */
int sklearn_vector(struct plan *plan, const struct pickle_node *object, const char *name, size_t n,
                   const double **ret, struct err *e);
/* The same of a node that is no attribute; `what` names it. */
int sklearn_numbers(struct plan *plan, const struct pickle_node *node, const char *what, size_t n,
                    const double **ret, struct err *e);
int sklearn_number(const struct pickle_node *object, const char *name, double *ret, struct err *e);
int sklearn_integer(const struct pickle_node *object, const char *name, int64_t *ret, struct err *e);
/* An array, numeric or of records. */
int sklearn_array(const struct pickle_node *object, const char *name, const struct pickle_array **ret,
                  struct err *e);
/* A truth value that is `otherwise` when it is missing. */
bool sklearn_flag(const struct pickle_node *object, const char *name, bool otherwise);
/* -ENOTSUP unless the attribute is this text. */
int sklearn_expect(const struct pickle_node *object, const char *name, const char *text, struct err *e);
bool sklearn_is_none(const struct pickle_node *object, const char *name);
