/* SPDX-License-Identifier: Apache-2.0 */
/* The model behind the attribution rule `model`: a DynPower weight file, evaluated for each entity. */
#pragma once

#include "collector/attribution.h"
#include "common/err.h"

struct dynamic_model;

int dynamic_model_new(const char *weight_path, struct dynamic_model **ret);
void dynamic_model_free(struct dynamic_model *model);
CLEANUP_DEFINE(struct dynamic_model *, dynamic_model_free);

/* Once a tick, before the window is folded: reads the file when it changed. While this fails, `ratio` is
 * used. */
int dynamic_model_refresh(struct dynamic_model *model, struct err *e);
/* For attribute(). */
struct attribution_model dynamic_model_rule(struct dynamic_model *model);
