/* SPDX-License-Identifier: Apache-2.0 */
/* Trainers of general models: boosted trees, into the entries of an archive.
 *
 *   plain   one booster per component on the features as they are; class "xgboost", no transformers, so that
 *           Kepler's sidecar loads it too
 *   blend   model/blend.h: trees over features, ratios and changes since the previous row, several seeds;
 *           averaged with a Huber-linear part over [x, √x] that trees correct; clipped to what was seen
 *
 * A row whose cycles per CPU time no training row had (work in softirqs, for one, which no process is charged
 * for) is estimated from the counters alone. */
#pragma once

#include "model-server/train/boost.h"
#include "model-server/train/table.h"
#include "model/model.h"

#define GENERAL_PLAIN      "XgboostFitTrainer"
#define GENERAL_BLEND      "BlendTrainer"
#define GENERAL_BLEND_PREV "BlendPrevTrainer"
#define GENERAL_SEEDS_MAX  8

struct general_settings {
        const char *group;     /* feature group; NULL: any other */
        const char *component; /* NULL: any */
        struct boost_parameters boost;
        double corrected; /* the corrected linear member's weight, of 1; 0: trees alone */
        int seeds;
        bool core_only; /* leave out cgroupfs_* and kubelet_* */
};
extern const struct general_settings general_settings[]; /* docs/accuracy.md tells how they were chosen */
const struct general_settings *general_settings_find(const char *group, const char *component);

/* Train one component and append its files, "<component>.json" first. The features that the model takes, in
 * order, into ret_features (room for TABLE_FEATURES_MAX; borrowed from the table). */
int general_train_plain(const struct general_settings *s, const struct table *t, const char *component,
                        uint32_t seed, struct model_archive *archive, const char **ret_features,
                        size_t *ret_n, struct err *e);
int general_train_blend(const struct general_settings *s, const struct table *t, const char *component,
                        uint32_t seed, struct model_archive *archive, const char **ret_features,
                        size_t *ret_n, struct err *e);
