/* SPDX-License-Identifier: Apache-2.0 */
/* What a power model is and how to predict with it. Pure: no network, no clock, no log. A loaded model is
 * immutable and may be used by many threads at once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "common/buf.h"
#include "common/err.h"
#include "schema/machine.h"

#define MODEL_FEATURES_MAX   64
#define MODEL_COMPONENTS_MAX 8
#define MODEL_WEIGHT_MAX     ((size_t)1 << 20)  /* bytes of a weight JSON */
#define MODEL_ARCHIVE_MAX    ((size_t)16 << 20) /* bytes of an archive as transported */
#define MODEL_ENTRIES_MAX    64                 /* entries of an archive */
#define MODEL_UNPACKED_MAX   ((size_t)64 << 20) /* bytes of all entries */
#define MODEL_RATIO_MAX      256                /* bytes of all entries per byte of the archive, beyond */
#define MODEL_RATIO_FREE     ((size_t)1 << 20)  /* these bytes, which nobody can win anything by */
#define MODEL_ENTRY_NAME_MAX 128
#define MODEL_WATTS_MAX      1e6 /* no machine draws more: such a prediction is a broken model */
#define MODEL_SIGMAS         3 /* of a StandardScaler, or widths of a RobustScaler, that count as trained on */

struct model;

/* Load a weight JSON (Kepler's form, all four curves). `name_hint` is the model or trainer name to use when
 * the document has no model_name (a file name's stem, the requested trainer); NULL: linear unless the curve
 * has four weights. -EBADMSG: malformed, non-finite, wrong number of curve weights, unknown trainer with
 * curve weights; -E2BIG: over a limit. weight.c; needs neither libarchive nor anything else of model/. */
int model_load_weight(const char *json, size_t size, const char *name_hint, struct model **ret,
                      struct err *e);

/* One entry of an archive, in memory. (Not archive_entry: that is libarchive's.) */
struct model_entry {
        char name[MODEL_ENTRY_NAME_MAX];
        void *data; /* owned by the archive; NUL-terminated behind size */
        size_t size;
};
struct model_archive {
        struct model_entry entries[MODEL_ENTRIES_MAX];
        size_t n;
};
/* Unpack a zip in memory. Entries with '/', '..', links, special files, duplicates or an empty name are
 * refused (-EBADMSG), as is anything over the limits (-E2BIG) or truncated. One plain directory that all
 * entries share, as `zip -r` makes it, is not part of their names. zip.c (libarchive). */
int model_archive_unpack(const void *zip, size_t size, struct model_archive **ret, struct err *e);
/* The same structure from a directory of plain files (a store's id directory); wattloop.json is left out. */
int model_archive_read_dir(const char *path, struct model_archive **ret, struct err *e);
/* Only the entries of these names (NULL-terminated), of a zip on the disk; the others are not even read. */
int model_archive_read_some(const char *path, const char *const *names, struct model_archive **ret,
                            struct err *e);
/* Load libarchive, as the first zip otherwise does: for who enters a sandbox first. -ELIBACC: it is not
 * there. */
int model_archive_ready(struct err *e);
void model_archive_free(struct model_archive *archive);
CLEANUP_DEFINE(struct model_archive *, model_archive_free);
const struct model_entry *model_archive_find(const struct model_archive *archive, const char *name);
/* Content id over the entries (common/hash.h). */
int model_archive_id(const struct model_archive *archive, char ret[65]);
/* Pack entries into a deterministic zip (sorted, 0644, fixed time stamp). */
int model_archive_pack(const struct model_archive *archive, struct buf *out, struct err *e);

/* Which column a pickled curve is a function of: the one that it was fitted on, which the pickle says, or the
 * one that upstream's sidecar takes (an index into another feature group). They differ in the groups Basic,
 * BPFIRQ and CounterIRQCombined. */
enum model_curve_index { MODEL_CURVE_FITTED, MODEL_CURVE_UPSTREAM };

struct model_load_options {
        enum model_curve_index curve_index;
};

/* Load a model from unpacked entries: an archive with metadata.json (classes weight, scikit, xgboost,
 * curvefit), or a lone weight.json. Pickles are read as data, never executed; what is not on the list of
 * known classes is -ENOTSUP and named, as are model classes that this version cannot evaluate. `options` may
 * be NULL. load.c */
int model_load_archive(const struct model_archive *archive, struct model **ret, struct err *e);
int model_load_archive_with(const struct model_archive *archive, const struct model_load_options *options,
                            struct model **ret, struct err *e);

void model_free(struct model *model);
CLEANUP_DEFINE(struct model *, model_free);

const char *model_name(const struct model *model);        /* "SGDRegressorTrainer_0"; never NULL */
const char *model_output_type(const struct model *model); /* "AbsPower"; "" unknown */
const char *model_provenance(const struct model *model);  /* "measured" if it does not say */
double model_mae(const struct model *model);              /* worst component, W; NaN unknown */
int model_cores(const struct model *model);               /* machine_spec.cores; 0 unknown */
size_t model_components(const struct model *model);
const char *model_component(const struct model *model, size_t i);
size_t model_features(const struct model *model);
const char *model_feature(const struct model *model, size_t i);
double model_feature_scale(const struct model *model, size_t i); /* a typical large value, > 0 */

/* Within which the feature lay in training, as far as the model tells; false and infinite where it does not:
 * a MinMaxScaler's data, a MaxAbsScaler's or weight's largest absolute value, MODEL_SIGMAS around a
 * StandardScaler's mean or a RobustScaler's centre. */
bool model_feature_range(const struct model *model, size_t i, double *ret_low, double *ret_high);
bool model_has_domain(const struct model *model); /* a range of some feature is known */
/* Whether all features of a row (see model_predict()) are inside their ranges. */
bool model_in_domain(const struct model *model, const size_t *index, const double *row);

/* What inspection shows. */
const char *model_class(const struct model *model);                    /* "weight", "scikit", ... */
const char *model_component_kind(const struct model *model, size_t i); /* "GradientBoostingRegressor" */
const char *model_component_note(const struct model *model, size_t i); /* "100 trees, 1463 nodes"; "" */
double model_component_mae(const struct model *model, size_t i);       /* W; NaN unknown */
/* Class names that the model's pickles contain: the next one from *at on, which begins at 0. False: no more.
 */
bool model_next_class(const struct model *model, size_t *at, const char **ret_module, const char **ret_name);

/* Canary: the model's own answers, unclamped, at rest, at half and at full activity (every feature's scale).
 * They must be finite, at most MODEL_WATTS_MAX in size, and not all negative: a fit that dips below 0
 * somewhere is clamped when predicting, one that never answers is broken. Where metadata declare a
 * power_range they must be within it, or half its width beyond: activity of all kinds at once is rarer than
 * what was trained on. -EDOM names the component. */
int model_check(const struct model *model, struct err *e);

/* Where the model's features are among named columns: ret_index[model_features()]. -ENOENT names the first
 * feature that is missing. */
int model_bind(const struct model *model, const char *const *columns, size_t n, size_t *ret_index,
               struct err *e);

/* Predict n rows of `stride` doubles each (the request's columns, per-second rates) into out[n * components],
 * row-major, watts, clamped at 0. No allocation, no locks. A non-finite input is taken as it is: the caller
 * decides; a non-finite output becomes 0. */
void model_predict(const struct model *model, const size_t *index, const double *rows, size_t stride,
                   size_t n, double *out);
