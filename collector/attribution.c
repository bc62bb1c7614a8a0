/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/attribution.h"

#include <math.h>
#include <string.h>

const char *const attribution_rule_names[] = { "ratio", "model", NULL };

/* Virtual machines are a part of what contains their processes. */
static bool is_part(const struct entity *entity)
{
        return entity->kind != ENTITY_CONTAINER;
}

/* The node's energy of one component: all units of the first source that read it. A machine that also runs an
 * estimate beside its sensors is split by its sensors, because they are listed first. */
static void sum_component(struct window *w, enum split_component c)
{
        struct split *split = &w->split[c];

        split->source = -1;
        split->dynamic_uj = split->idle_uj = split->ownerless_uj = split->node_uj = 0;
        for (size_t i = 0; i < w->n_sensors; i++) {
                const struct sensor *s = &w->sensors[i];

                if (!s->valid || strcmp(s->reading.component, split_names[c]) != 0)
                        continue;
                if (split->source < 0)
                        split->source = (int)i;
                else if (strcmp(w->sensors[split->source].reading.source, s->reading.source) != 0)
                        continue;
                split->node_uj += s->interval_uj;
                split->idle_uj += s->interval_idle_uj;
                split->dynamic_uj += s->interval_uj - s->interval_idle_uj;
        }
}

static enum feature_id ratio_feature(const struct window *w, enum split_component c)
{
        static const enum feature_id of_memory[] = { FEATURE_CACHE_MISS, FEATURE_PAGE_CACHE };

        for (size_t i = 0; c == SPLIT_DRAM && i < ARRAY_SIZE(of_memory); i++)
                if (w->measured[of_memory[i]] && w->delta[of_memory[i]] > 0)
                        return of_memory[i];
        return FEATURE_CPU_TIME;
}

/* Both rules leave weights in energy_uj[c]; this returns their sum. */
static double sum_weights(const struct window *w, enum split_component c)
{
        double sum = 0;

        for (size_t i = 0; i < w->n; i++)
                sum += is_part(w->entities[i]) ? 0 : w->entities[i]->energy_uj[c];
        return sum;
}

static double weigh_by_ratio(struct window *w, enum split_component c)
{
        struct split *split = &w->split[c];

        split->rule = ATTRIBUTION_RATIO;
        split->feature = ratio_feature(w, c);
        for (size_t i = 0; i < w->n; i++)
                w->entities[i]->energy_uj[c] = (double)w->entities[i]->delta[split->feature];
        return sum_weights(w, c);
}

static double weigh(struct window *w, const struct attribution_model *model, enum split_component c)
{
        double sum = 0;

        if (model && model->weigh(model->context, w, c))
                sum = sum_weights(w, c);
        if (!(sum > 0)) /* nothing that the model knows of happened */
                return weigh_by_ratio(w, c);
        w->split[c].rule = ATTRIBUTION_MODEL;
        return sum;
}

static void divide(struct window *w, enum split_component c, double sum)
{
        struct split *split = &w->split[c];
        double attributed = 0;

        for (size_t i = 0; i < w->n; i++) {
                struct entity *entity = w->entities[i];
                double share = sum > 0 ? entity->energy_uj[c] / sum : 0;

                entity->energy_uj[c] = split->dynamic_uj * share;
                entity->energy_total_uj[c] += entity->energy_uj[c];
                attributed += is_part(entity) ? 0 : entity->energy_uj[c];
        }
        split->ownerless_uj = fmax(split->dynamic_uj - attributed, 0);
        split->ownerless_total_uj += split->ownerless_uj;
        split->idle_total_uj += split->idle_uj;
}

double attribution_other(const struct window *w, const struct entity *entity)
{
        const double *uj = entity->energy_uj;

        return w->split[SPLIT_PLATFORM].source < 0
                       ? 0
                       : fmax(uj[SPLIT_PLATFORM] - uj[SPLIT_PACKAGE] - uj[SPLIT_DRAM], 0);
}

static void sum_other(struct window *w)
{
        const struct split *package = &w->split[SPLIT_PACKAGE], *dram = &w->split[SPLIT_DRAM],
                           *platform = &w->split[SPLIT_PLATFORM];

        if (platform->source < 0)
                return;
        w->other_uj += fmax(platform->dynamic_uj - package->dynamic_uj - dram->dynamic_uj, 0);
        w->other_idle_uj += fmax(platform->idle_uj - package->idle_uj - dram->idle_uj, 0);
        for (size_t i = 0; i < w->n; i++)
                w->entities[i]->other_uj += attribution_other(w, w->entities[i]);
}

void attribute(struct window *w, const struct attribution_model *model)
{
        for (int c = 0; c < SPLIT_N; c++) {
                sum_component(w, (enum split_component)c);
                divide(w, (enum split_component)c, weigh(w, model, (enum split_component)c));
        }
        sum_other(w);
}

double attribution_error(const struct window *w)
{
        double worst = 0;

        for (int c = 0; c < SPLIT_N && w->last_ns > 0; c++) {
                const struct split *split = &w->split[c];
                double given = sum_weights(w, (enum split_component)c);

                given += split->idle_uj + split->ownerless_uj;
                worst = fmax(worst, fabs(given - split->node_uj) * 1e3 / (double)w->last_ns);
        }
        return worst;
}
