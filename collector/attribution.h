/* SPDX-License-Identifier: Apache-2.0 */
/* Who used the node's energy: its dynamic part is divided among the entities by a named rule, its idle part
 * is kept apart. Pure. */
#pragma once

#include "collector/window.h"

extern const char *const attribution_rule_names[]; /* "ratio", "model", NULL */

/* A model of entities (DynPower): writes the watts it predicts for each of the window's entities into
 * energy_uj[c], and returns false when it knows nothing of this component. */
struct attribution_model {
        bool (*weigh)(void *context, struct window *window, enum split_component c);
        void *context;
};

/* Divides each component's energy of the last sample. By `ratio` each entity gets its share of CPU time; of
 * DRAM its share of cache misses or, where those are not counted, of pages written to the page cache, if
 * there were any. By `model` (which is used when it is given and knows the component) its share of what the
 * model predicts. What nobody can be given is unattributed. */
void attribute(struct window *window, const struct attribution_model *model);

/* What of the platform an entity was given in the last sample beyond its package and dram; 0 where the
 * platform is not read. */
double attribution_other(const struct window *window, const struct entity *entity);

/* The difference between node and (entities + unattributed) in the last sample, in watts, of the component
 * where it is largest. More than ATTRIBUTION_ERROR_MAX is a defect. */
#define ATTRIBUTION_ERROR_MAX 1e-3
double attribution_error(const struct window *window);
