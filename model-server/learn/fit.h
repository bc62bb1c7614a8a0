/* SPDX-License-Identifier: Apache-2.0 */
/* Trainers by upstream's class names: rows in, exported model out. Pure, and a function of its input alone:
 * the same rows, seed and library versions give the same bytes. */
#pragma once

#include "model-server/learn/artifact.h"
#include "model-server/learn/dataset.h"
#include "model-server/train/learner.h"
#include "schema/machine.h"

#define FIT_FOLDS         10
#define FIT_GENERAL_FOLDS 5
#define FIT_BLOCK_ROWS                                                                                       \
        10 /* neighbouring rows of a node that stay in one fold: about a segment of a recording */

struct fit_input {
        const struct dataset *data;
        struct place place; /* `trainer` is the row's of the table */
        const struct machine_spec *spec;
        uint64_t min_rows; /* a component with fewer is left out */
        uint64_t seed;
        const json_t *lineage; /* borrowed: members that the metadata gets, scalars and arrays of them */
};

struct fitter {
        const char *name; /* "SGDRegressorTrainer" */
        /* -ENODATA: no component has rows enough. */
        int (*fit)(const struct fit_input *in, struct artifact **ret, struct err *e);
};
extern const struct fitter fitters[];
extern const size_t fitters_n;
const struct fitter *fitter_find(const char *name); /* or NULL */
/* A class of upstream's that is known here, whether or not it can be trained. */
bool fitter_known(const char *name);

/* What a component's model is when it is linear, and its error on rows left out. */
struct linear {
        bool used;
        struct weights weights;
        uint64_t rows;
        double mae, mape; /* W and percent (-1: no row with power) over FIT_FOLDS folds of whole blocks */
};
/* An archive of weights: what the linear trainers and the online learner export. `linear` has one entry per
 * component of the source. Adds to `lineage`'s members. */
int fit_export_linear(const struct fit_input *in, const struct linear *linear, struct artifact **ret,
                      struct err *e);
/* The least trustworthy provenance of the rows that the group can use, and the definition of their features.
 */
void fit_pedigree(const struct fit_input *in, enum provenance *ret, char definition[DEFINITION_MAX]);
