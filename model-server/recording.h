/* SPDX-License-Identifier: Apache-2.0 */
/* A recorded training run in a directory, as Kepler's model database publishes them:
 *
 *   preprocessed_data/preprocess_abs_<extractor>_<source>_<group>.csv   (or directly in the directory)
 *   preprocessed_data/preprocess_dyn_<extractor>_<isolator>_<source>_<group>.csv
 *   segments.csv        optional: first_timestamp, last_timestamp, stressor, frequency_khz, s_fold
 *   published_mae.csv   optional: energy_source, output_type, feature_group, trainer, published_mae
 *   recomputed_mae.csv  optional: ..., component, full_data_mae
 *
 * Columns are found by name, so their order does not matter; what is no feature, power or known label is an
 * error. Without segments.csv, segments are the stretches between two beginnings of load. */
#pragma once

#include "model-server/csv.h"
#include "model-server/train/folds.h"
#include "model-server/train/table.h"

#define RECORDING_SETS_MAX       64
#define RECORDING_COMPONENTS_MAX 5
#define RECORDING_NAME_MAX       64
#define RECORDING_WORKLOADS_MAX  64

struct recording_component {
        char name[16]; /* "package" */
        double *watts; /* owned */
};

/* One file: a feature group of one source. */
struct recording_set {
        char source[RECORDING_NAME_MAX], group[RECORDING_NAME_MAX];
        char *path;                      /* owned */
        char *names[TABLE_FEATURES_MAX]; /* owned; the table borrows them */
        struct table table;              /* features, then prev_ columns; y is 0 */
        int64_t *time;                   /* Unix s, owned */
        size_t n_components;
        struct recording_component components[RECORDING_COMPONENTS_MAX];
        int *s_fold, *workload, *frequency; /* owned; NULL: not told */
        unsigned char *active;              /* owned: rows with load */
};

struct recording {
        char name[RECORDING_NAME_MAX]; /* the directory's */
        size_t n_sets;
        struct recording_set *sets; /* AbsPower; owned */
        size_t n_dynamic;
        struct recording_set *dynamic; /* DynPower of isolator min; owned */
        bool has_segments;
        size_t n_segments, n_workloads, n_frequencies;
        char workloads[RECORDING_WORKLOADS_MAX][RECORDING_NAME_MAX];
        double step_s;                      /* between rows */
        struct csv *published, *recomputed; /* owned; NULL when not there */
};

/* -ENOENT: no such directory, or nothing in it; -EBADMSG: file, line and column of what is wrong. */
int recording_read(const char *path, struct recording **ret, struct err *e);
void recording_free(struct recording *recording);
CLEANUP_DEFINE(struct recording *, recording_free);

struct labels recording_labels(const struct recording_set *set);
/* A table that shares the set's rows and has one component's watts; released with free(t->y). */
int recording_table(const struct recording_set *set, size_t component, struct table *ret, struct err *e);
