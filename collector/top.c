/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/top.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include "collector/attribution.h"
#include "collector/metrics_internal.h"
#include "common/json.h"

static json_t *real_json(double v)
{
        return isfinite(v) ? json_real(round(v * 1e3) / 1e3) : json_null();
}

/* Commands are bytes; what is no UTF-8 is shown with question marks. */
static json_t *text_json(const char *s)
{
        json_t *text = json_string(s);
        char ascii[CGROUP_PATH_MAX];
        size_t n = 0;

        if (text)
                return text;
        for (; s[n] && n + 1 < sizeof(ascii); n++)
                ascii[n] = (signed char)s[n] < 0 ? '?' : s[n];
        ascii[n] = '\0';
        return json_string(ascii);
}

/* What stands behind a figure: provenance, and for an estimate the model, its id, what it was trained on. */
static json_t *sensor_json(const struct sensor *s)
{
        const struct power_reading *r = &s->reading;
        json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "component", r->component, "source",
                                   r->source, "unit", r->unit, "provenance", provenance_names[r->provenance],
                                   "watts", real_json(s->valid ? s->watts : (double)NAN), "idle_watts",
                                   real_json(s->valid ? s->idle_watts : (double)NAN));
        const char *space = strrchr(r->model, ' ');

        if (*r->model) {
                size_t n = space ? (size_t)(space - r->model) : strlen(r->model);

                (void)json_object_set_new(object, "model", json_stringn(r->model, n));
                (void)json_object_set_new(object, "model_id", json_string(space ? space + 1 : ""));
                (void)json_object_set_new(object, "trained_on", json_string(r->model_provenance));
        }
        return object;
}

/* The least that stands behind an entity's watts: measured only if all of its components are. */
static const char *pedigree(const struct window *w)
{
        enum provenance worst = PROVENANCE_MEASURED;
        bool any = false;

        for (int c = 0; c < SPLIT_N; c++) {
                if (w->split[c].source < 0)
                        continue;
                any = true;
                if (w->sensors[w->split[c].source].reading.provenance != PROVENANCE_MEASURED)
                        worst = w->sensors[w->split[c].source].reading.provenance;
        }
        return any ? provenance_names[worst] : "";
}

static double watts_of(const struct window *w, double uj)
{
        return w->last_ns ? uj * 1e3 / (double)w->last_ns : (double)NAN;
}

static double total_watts(const struct window *w, const struct entity *entity)
{
        const double *uj = entity->energy_uj;

        if (w->split[SPLIT_PACKAGE].source < 0 && w->split[SPLIT_DRAM].source < 0 &&
            w->split[SPLIT_PLATFORM].source < 0)
                return (double)NAN;
        return watts_of(w, uj[SPLIT_PACKAGE] + uj[SPLIT_DRAM] + attribution_other(w, entity));
}

static void name_entity(json_t *object, const struct entity *entity)
{
        const struct entity_names *names = metrics_names(entity);
        const char *name = *entity->name            ? entity->name
                           : *names->container_name ? names->container_name
                           : *names->pod_name       ? names->pod_name
                           : *entity->cgroup        ? entity->cgroup
                                                    : entity->key;

        (void)json_object_set_new(object, "name", text_json(name));
        (void)json_object_set_new(object, "namespace", text_json(names->container_namespace));
        (void)json_object_set_new(object, "pod", text_json(names->pod_name));
        if (entity->kind != ENTITY_PROCESS)
                return;
        (void)json_object_set_new(object, "container", text_json(entity->container));
        (void)json_object_set_new(object, "vm", text_json(entity->vm));
}

static json_t *entity_json(const struct window *w, const struct entity *entity)
{
        json_t *object = json_pack("{s:s, s:o, s:o}", "kind", entity_kind_names[entity->kind], "key",
                                   text_json(entity->key), "watts", real_json(total_watts(w, entity)));

        for (int c = 0; c < SPLIT_N; c++)
                if (c != SPLIT_CORE && c != SPLIT_UNCORE) /* parts of the package */
                        (void)json_object_set_new(object, split_names[c],
                                                  real_json(w->split[c].source < 0
                                                                    ? (double)NAN
                                                                    : watts_of(w, entity->energy_uj[c])));
        (void)json_object_set_new(
                object, "cpu_percent",
                real_json(w->last_ns && w->measured[FEATURE_CPU_TIME]
                                  ? 100 * (double)entity->delta[FEATURE_CPU_TIME] / (double)w->last_ns
                                  : (double)NAN));
        (void)json_object_set_new(object, "pedigree", json_string(pedigree(w)));
        name_entity(object, entity);
        return object;
}

static int append(const char *data, size_t size, void *out)
{
        return buf_append(out, data, size);
}

void top_write(const struct window *w, const char *node_name, struct buf *out)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        json_t *node = json_array(), *entities = json_array();

        for (size_t i = 0; i < w->n_sensors; i++)
                (void)json_array_append_new(node, sensor_json(&w->sensors[i]));
        for (size_t i = 0; i < w->n; i++)
                (void)json_array_append_new(entities, entity_json(w, w->entities[i]));
        object = json_pack("{s:o, s:I, s:I, s:o, s:o}", "node_name", text_json(node_name), "end_ms",
                           (json_int_t)w->end_ms, "duration_ns", (json_int_t)w->last_ns, "node", node,
                           "entities", entities);
        if (!object || json_dump_callback(object, append, out, JSON_COMPACT | JSON_REAL_PRECISION(9)) < 0)
                out->failed = out->failed ? out->failed : -ENOMEM;
}
