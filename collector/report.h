/* SPDX-License-Identifier: Apache-2.0 */
/* What `once`, `status` and `sensors` print on standard output. */
#pragma once

#include <jansson.h>
#include "collector/sampler.h"
#include "collector/window.h"
#include "schema/machine.h"

/* One interval as JSON: entities with their usage, power with its provenance. -ENOMEM or -EIO. */
int report_once(const struct window *window, const struct machine *machine, const char *feature_source);
/* store_status()'s object as JSON or as text. */
int report_status(const json_t *status, bool as_json);
/* Each sensor found and each source refused. */
int report_sensors(const struct power_set *power, const struct sample *sample, bool as_json);
