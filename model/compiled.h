/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of model/: a model as its loaders leave it, ready for the row loop. A component knows its own
 * evaluator, so that the row loop never asks what kind of model it is running; a new kind of model is a new
 * evaluator. */
#pragma once

#include <jansson.h>
#include "model/model.h"

/* One summand of a linear component: coefficient (weight / scale) times a feature of the row. */
struct model_term {
        size_t feature;
        double coefficient;
};

struct model_component {
        const char *name; /* from the vocabulary, static */
        const char *kind; /* weights: what is evaluated, in a word; static */
        /* Raw watts of n rows into out[0], out[out_stride], ...: not clamped, perhaps not finite. */
        void (*eval)(const struct model_component *c, const size_t *index, const double *rows, size_t stride,
                     size_t n, double *out, size_t out_stride);
        double p[4];              /* bias; or the curve's parameters in Kepler's order */
        size_t feature;           /* curves: the one feature; */
        double scale;             /* x = value / scale, 0 when scale is 0 */
        struct model_term *terms; /* linear: owned; without those of weight 0 */
        size_t n_terms;
        struct plan *
                plan; /* trained models: owned; NULL for weights. Only the words where the model shares one */
};

#define MODEL_CLASSES_MAX 256 /* names that pickles may contain */

struct model {
        char *name;
        const char *output_type; /* static; "" unknown */
        int provenance;          /* enum provenance; -1: the document does not say */
        double mae;
        int cores;
        char *features[MODEL_FEATURES_MAX];       /* owned */
        double feature_scale[MODEL_FEATURES_MAX]; /* a typical large value: the largest scale of any component
                                                   */
        struct model_range {
                double low, high;
        } range[MODEL_FEATURES_MAX]; /* of the training data; infinite where unknown */
        size_t n_features;
        struct model_range watts; /* that the archive declares; infinite */
        double spread;            /* between a component's least and largest watts; infinite */
        struct model_component components[MODEL_COMPONENTS_MAX]; /* in the vocabulary's order */
        size_t n_components;
        struct plan *shared; /* owned; computes all components at once, in their order; NULL: each its own */
        const char *class;   /* static: "weight", "scikit", ... */
        bool pickled_classes[MODEL_CLASSES_MAX]; /* which of pickle_classes[] its pickles name */
};

int model_new(struct model **ret, struct err *e);

/* Take what a document says about the model as a whole: model_name, output_type, provenance, mae,
 * machine_spec. What it does not say stays. Two documents that disagree about provenance are -EBADMSG. */
int model_read_head(struct model *model, const json_t *document, struct err *e);
int model_set_name(struct model *model, const char *name, struct err *e);

/* Index of the feature, added when new. -E2BIG, -EBADMSG for an empty or overlong name. */
int model_add_feature(struct model *model, const char *name, double scale, size_t *ret_feature,
                      struct err *e);

/* The training data of a component had the feature within these bounds. */
void model_narrow_feature(struct model *model, size_t feature, double low, double high);

/* A zeroed component, which becomes the last. -EBADMSG for a name that the vocabulary does not have. */
int model_add_component(struct model *model, const char *name, struct model_component **ret, struct err *e);

/* load.c: what the loaders of several classes need. An entry that must be a JSON object; and whether
 * metadata's features contain those of the model. */
int model_parse_entry(const struct model_archive *archive, const char *name, json_t **ret, struct err *e);
int model_check_features(const struct model *model, const json_t *metadata, struct err *e);
/* upstream.c: the component map that metadata names; and a component's own error from metadata. */
int model_read_map(const struct model_archive *archive, const json_t *metadata, json_t **ret, struct err *e);
void model_read_component_mae(struct plan *plan, const json_t *metadata, const char *component);

/* upstream.c: archives of Kepler's trainers. */
int model_load_scikit(const struct model_archive *archive, const json_t *metadata,
                      const struct model_load_options *options, struct model **ret, struct err *e);
int model_load_xgboost(const struct model_archive *archive, const json_t *metadata,
                       const struct model_load_options *options, struct model **ret, struct err *e);
int model_load_curvefit(const struct model_archive *archive, const json_t *metadata,
                        const struct model_load_options *options, struct model **ret, struct err *e);
int model_load_blend(const struct model_archive *archive, const json_t *metadata,
                     const struct model_load_options *options, struct model **ret, struct err *e);
/* network_model.c */
int model_load_network(const struct model_archive *archive, const json_t *metadata,
                       const struct model_load_options *options, struct model **ret, struct err *e);

/* Bring the components into the vocabulary's order. */
void model_sort_components(struct model *model);
