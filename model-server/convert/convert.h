/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand convert: what Keras or TensorFlow.js saved becomes an archive of class "network". */
#pragma once

#include "model-server/convert/keras.h"

int convert_run(const void *options, int argc, char **argv);

/* scaler.c: scikit-learn's MaxAbs-, MinMax-, Standard- or RobustScaler as a pickle, or JSON with its
 * attributes: {"mean_": […], "scale_": […]}, {"scale_": […], "min_": […]} (MinMaxScaler) or
 * {"max_abs_": […]}. -ENOTSUP: what is more than a factor and an offset of each feature. */
int scaler_read(const char *path, struct scaling *ret, struct err *e);

/* score.c: the model's error on rows of a table. */
struct model;
struct score {
        size_t rows;
        double mae[MODEL_COMPONENTS_MAX];
        int provenance; /* of the rows; -1: they do not say */
};
/* Features in columns of their names, divided by duration_s where that is; watts in <component>_watts, less
 * <component>_idle_watts for DynPower. Where there is a container_id, the node's rows only. Rows that lack
 * something are left out; -ENODATA when none is left. */
int score_rows(const char *path, const struct model *model, bool dynamic, struct score *ret, struct err *e);
