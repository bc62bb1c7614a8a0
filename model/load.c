/* SPDX-License-Identifier: Apache-2.0 */
/* From the entries of an archive to a model. One row per model class: a new kind of model is one row and one
 * file. */
#include "model/compiled.h"

#include <errno.h>
#include <string.h>

#include "common/json.h"
#include "schema/vocabulary.h"

#define METADATA    "metadata.json"
#define WEIGHT_FILE "weight.json"

int model_parse_entry(const struct model_archive *a, const char *name, json_t **ret, struct err *e)
{
        const struct model_entry *entry = model_archive_find(a, name);
        json_t *document;
        int r;

        if (!entry)
                return err_set(e, -EBADMSG, "archive has no '%.100s'", name);
        r = json_parse(entry->data, entry->size, name, &document, e);
        if (r < 0)
                return r;
        if (!json_is_object(document)) {
                json_decref(document);
                return err_set(e, -EBADMSG, "'%.100s' is not a JSON object", name);
        }
        *ret = document;
        return 0;
}

static bool model_has_component(const struct model *m, const char *name)
{
        for (size_t i = 0; i < m->n_components; i++)
                if (!strcmp(m->components[i].name, name))
                        return true;
        return false;
}

/* The component map must say what the weights say: each entry takes weight.json, without transformers, and
 * neither side has a component that the other lacks. */
static int check_component_map(const struct model *m, const json_t *map, struct err *e)
{
        const char *name, *file;
        json_t *entry;

        json_object_foreach ((json_t *)(uintptr_t)map, name, entry) { /* reads only */
                int r = json_get_string(entry, "model_file", &file, e);

                if (r < 0)
                        return err_prefix(e, -EBADMSG, "component '%.40s'", name);
                if (strcmp(file, WEIGHT_FILE))
                        return err_set(e, -EBADMSG, "component '%.40s': model_file '%.60s' is not %s", name,
                                       file, WEIGHT_FILE);
                if (json_array_size(json_object_get(entry, "fe_files")) > 0)
                        return err_set(e, -ENOTSUP, "component '%.40s': weights take no fe_files", name);
                if (!model_has_component(m, name))
                        return err_set(e, -EBADMSG, "component '%.40s' has no weights", name);
        }
        if (json_object_size(map) != m->n_components)
                return err_set(e, -EBADMSG, "weights have components that the component map lacks");
        return 0;
}

/* "metadata.json" may name fewer features than the weights use only by mistake. */
int model_check_features(const struct model *m, const json_t *metadata, struct err *e)
{
        const json_t *listed = json_object_get(metadata, "features");

        if (!json_is_array(listed))
                return err_set(e, -EBADMSG, METADATA ": 'features' is missing or not an array");
        for (size_t i = 0; i < m->n_features; i++) {
                size_t j = 0;

                while (j < json_array_size(listed)) {
                        const char *name = json_string_value(json_array_get(listed, j));

                        if (name && !strcmp(name, m->features[i]))
                                break;
                        j++;
                }
                if (j == json_array_size(listed))
                        return err_set(e, -EBADMSG, METADATA ": 'features' lacks '%.60s'", m->features[i]);
        }
        return 0;
}

static int load_weight_class(const struct model_archive *a, const json_t *metadata,
                             const struct model_load_options *options, struct model **ret, struct err *e)
{
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(json_decrefp) json_t *map = NULL;
        const struct model_entry *weights = model_archive_find(a, WEIGHT_FILE);
        const char *name, *map_file;
        int r;

        (void)options; /* weights say themselves what they depend on */
        r = json_get_string(metadata, "model_name", &name, e);
        if (r == 0)
                r = json_get_string(metadata, "model_file", &map_file, e);
        if (r < 0)
                return err_prefix(e, -EBADMSG, METADATA);
        if (!weights)
                return err_set(e, -EBADMSG, "archive has no '" WEIGHT_FILE "'");

        r = model_load_weight(weights->data, weights->size, name, &m, e);
        if (r < 0)
                return err_prefix(e, r, WEIGHT_FILE);
        r = model_read_head(m, metadata, e);
        if (r < 0)
                return err_prefix(e, r, METADATA);
        r = model_check_features(m, metadata, e);
        if (r < 0)
                return r;
        r = model_parse_entry(a, map_file, &map, e);
        if (r < 0)
                return r;
        r = check_component_map(m, map, e);
        if (r < 0)
                return err_prefix(e, r, "%.60s", map_file);
        *ret = TAKE(m);
        return 0;
}

static const struct model_class {
        const char *name;
        int (*load)(const struct model_archive *a, const json_t *metadata,
                    const struct model_load_options *options, struct model **ret, struct err *e);
} classes[] = {
        { "weight", load_weight_class },        { "scikit", model_load_scikit },
        { "xgboost", model_load_xgboost },      { "curvefit", model_load_curvefit },
        { "wattloop-blend", model_load_blend }, { "network", model_load_network },
};

int model_load_archive(const struct model_archive *a, struct model **ret, struct err *e)
{
        return model_load_archive_with(a, NULL, ret, e);
}

int model_load_archive_with(const struct model_archive *a, const struct model_load_options *options,
                            struct model **ret, struct err *e)
{
        static const struct model_load_options defaults = { .curve_index = MODEL_CURVE_FITTED };
        CLEANUP(json_decrefp) json_t *metadata = NULL;
        const struct model_entry *weights = model_archive_find(a, WEIGHT_FILE);
        const char *class;
        int r;

        if (!model_archive_find(a, METADATA)) {
                if (!weights)
                        return err_set(e, -EBADMSG, "neither '" METADATA "' nor '" WEIGHT_FILE "' is there");
                return model_load_weight(weights->data, weights->size, NULL, ret, e);
        }

        r = model_parse_entry(a, METADATA, &metadata, e);
        if (r < 0)
                return r;
        r = json_get_string(metadata, "model_class", &class, e);
        if (r < 0)
                return err_prefix(e, -EBADMSG, METADATA);
        for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
                if (!strcmp(classes[i].name, class))
                        return classes[i].load(a, metadata, options ? options : &defaults, ret, e);
        return err_set(e, -ENOTSUP, "model class '%.40s' cannot be evaluated by this version", class);
}
