/* SPDX-License-Identifier: Apache-2.0 */
/* The accuracy report of a recording: what every trainer's exported files do under every protocol. Figures
 * are made here; report_write.c puts them into files. */
#pragma once

#include "model-server/recording.h"
#include "model-server/train/evaluate.h"

#define REPORT_RESULTS_MAX 4096

/* One line of the report: a trainer on one component of one file, under one protocol. */
struct report_result {
        const struct recording_set *set;
        size_t component;
        enum trainer_kind kind;
        enum protocol protocol;
        size_t folds;
        double mae, sd, worst, active_mae; /* W; mae over all scored rows, sd and worst over folds */
        char model[48];                    /* "LogisticRegressionTrainer" */
        bool published;                    /* its H and F errors passed the gates */
};

/* Answers of S folds, by row: what the plots show. */
struct report_trace {
        const struct recording_set *set;
        size_t component;
        double *local, *general; /* owned; estimates of rows that were held back */
};

/* That DynPower of isolator min is AbsPower less a constant, seen on one fold of one file. */
struct report_identity {
        bool checked;
        char group[RECORDING_NAME_MAX], component[16];
        double absolute_mae[2], dynamic_mae[2]; /* local, plain */
};

struct report {
        const struct recording *recording;
        size_t n;
        struct report_result *results; /* owned; by set, component, kind, protocol */
        size_t n_traces;
        struct report_trace *traces; /* owned */
        struct report_identity identity;
        double seconds;
};

/* Computes everything, with progress. */
int report_make(const struct recording *recording, struct report *ret, struct err *e);
void report_done(struct report *report);
const struct report_result *report_find(const struct report *report, const struct recording_set *set,
                                        size_t component, enum trainer_kind kind, enum protocol protocol);
/* Whether watts vary at all; what does not is left out. */
bool report_varies(const struct recording_set *set, size_t component);
/* The set's counterpart among the DynPower files, with the same component; or NULL. */
const struct recording_set *report_dynamic(const struct recording *recording,
                                           const struct recording_set *set);

/* report_write.c: report.md, report.json, *.svg below `out`. */
int report_write(const struct report *report, const char *out, struct err *e);

/* The rows that a fold holds back: "S3" is fold 3 of protocol S. *ret, NULL for "", lives in folds. */
int report_find_hold(const char *hold, const struct recording_set *set, struct folds *folds,
                     const unsigned char **ret, struct err *e);

/* models.c: archives and weights trained on all rows but those of fold `hold` ("": on all), below
 * out/<source>/AbsPower/<group>/. With a report (may be NULL), metadata have their errors from it, and what
 * it does not publish is not written. */
int report_write_models(const struct recording *recording, const struct report *report, const char *hold,
                        const char *out, struct err *e);
