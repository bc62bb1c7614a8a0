/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/attribution_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "collector/weight_file.h"

struct dynamic_model {
        struct weight_file file;
        bool usable; /* as the last refresh has found */
};

void dynamic_model_free(struct dynamic_model *m)
{
        if (!m)
                return;
        weight_file_done(&m->file);
        free(m);
}

int dynamic_model_new(const char *weight_path, struct dynamic_model **ret)
{
        CLEANUP(dynamic_model_freep) struct dynamic_model *m = calloc(1, sizeof(*m));

        if (!m)
                return -ENOMEM;
        m->file.path = strdup(weight_path);
        if (!m->file.path)
                return -ENOMEM;
        *ret = TAKE(m);
        return 0;
}

int dynamic_model_refresh(struct dynamic_model *m, struct err *e)
{
        int r = weight_file_refresh(&m->file, e);

        m->usable = r == 0;
        return r;
}

/* The columns of a row: every feature that this node measures, by its wire name. */
static size_t columns_of(const struct window *w, const char *names[FEATURE_N], enum feature_id ids[FEATURE_N])
{
        size_t n = 0;

        for (int f = 0; f < FEATURE_N; f++) {
                if (!w->measured[f])
                        continue;
                names[n] = features[f].name;
                ids[n++] = (enum feature_id)f;
        }
        return n;
}

static int component_of(const struct model *model, enum split_component c)
{
        for (size_t i = 0; i < model_components(model); i++)
                if (!strcmp(model_component(model, i), split_names[c]))
                        return (int)i;
        return -1;
}

/* What did nothing has no dynamic power, whatever the model's intercept is. */
static bool did_something(const struct entity *entity)
{
        for (int f = 0; f < FEATURE_N; f++)
                if (entity->delta[f])
                        return true;
        return false;
}

static bool weigh(void *context, struct window *w, enum split_component c)
{
        const struct dynamic_model *m = context;
        double seconds = (double)w->last_ns / 1e9, watts[MODEL_COMPONENTS_MAX], rates[FEATURE_N];
        size_t index[MODEL_FEATURES_MAX], n;
        enum feature_id ids[FEATURE_N];
        const char *names[FEATURE_N];
        int component;

        if (!m->usable || !(seconds > 0))
                return false;
        component = component_of(m->file.model, c);
        n = columns_of(w, names, ids);
        if (component < 0 || model_bind(m->file.model, names, n, index, NULL) < 0)
                return false;
        for (size_t i = 0; i < w->n; i++) {
                struct entity *entity = w->entities[i];

                for (size_t f = 0; f < n; f++)
                        rates[f] = (double)entity->delta[ids[f]] * features[ids[f]].wire_scale / seconds;
                model_predict(m->file.model, index, rates, n, 1, watts);
                entity->energy_uj[c] = did_something(entity) ? watts[component] : 0;
        }
        return true;
}

struct attribution_model dynamic_model_rule(struct dynamic_model *m)
{
        return (struct attribution_model){ weigh, m };
}
