/* SPDX-License-Identifier: Apache-2.0 */
/* Archives of Kepler's trainers: metadata, a component map, and per component a file of the model's class and
 * the files of its transformers. Becomes a model whose components are plans. */
#include "model/compiled.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/json.h"
#include "model/blend.h"
#include "model/curve.h"
#include "model/plan.h"
#include "model/sklearn.h"
#include "model/xgboost.h"

#define SCALER_FILE        "scaler.pkl"
#define WEIGHT_FILE        "weight.json"
#define TRANSFORMERS_MAX   8 /* fe_files of a component */
#define COMPONENT_FILE_MAX ((size_t)48 << 20)

_Static_assert(MODEL_CLASSES_MAX == PICKLE_CLASSES_MAX, "a model notes every class that a pickle may name");

struct loading {
        const struct model_archive *archive;
        const struct model_load_options *options;
        struct model *model; /* borrowed */
        bool unscaled;       /* the archive says that its trees take the features as they are */
};

/* One entry of the component map. */
struct part {
        const char *name;
        const struct model_entry *file;
        const char *features[MODEL_FEATURES_MAX];
        size_t n_features;
};

/* Adds the model itself to a plan that already has the transformers. */
typedef int add_model(struct loading *l, const struct part *part, struct plan *plan, struct err *e);

/* ---- files ---- */

/* A file that the map names must be an entry of the archive; a path is none. */
static int find_file(const struct model_archive *a, const char *name, const struct model_entry **ret,
                     struct err *e)
{
        if (!*name || *name == '.' || strpbrk(name, "/\\"))
                return err_set(e, -EBADMSG, "'%.100s' is not a plain file name", name);
        *ret = model_archive_find(a, name);
        if (!*ret)
                return err_set(e, -EBADMSG, "archive has no '%.100s'", name);
        if ((*ret)->size > COMPONENT_FILE_MAX)
                return err_set(e, -E2BIG, "'%.100s' is larger than %zu bytes", name, COMPONENT_FILE_MAX);
        return 0;
}

static int read_pickle(struct loading *l, const struct model_entry *file, struct pickle **ret, struct err *e)
{
        int r = pickle_read(file->data, file->size, ret, e);

        if (r < 0)
                return err_prefix(e, r, "%.60s", file->name);
        for (size_t i = 0; i < pickle_classes_n; i++)
                l->model->pickled_classes[i] |= pickle_has_class(*ret, i);
        return 0;
}

static int add_pickled(struct loading *l, const struct model_entry *file, struct plan *plan,
                       sklearn_adder *add, struct err *e)
{
        CLEANUP(pickle_freep) struct pickle *pickle = NULL;
        int r = read_pickle(l, file, &pickle, e);

        if (r < 0)
                return r;
        r = add(plan, pickle_root(pickle), e);
        return r < 0 ? err_prefix(e, r, "%.60s", file->name) : 0;
}

/* ---- the model classes ---- */

static int add_scikit(struct loading *l, const struct part *part, struct plan *plan, struct err *e)
{
        return add_pickled(l, part->file, plan, sklearn_add_regressor, e);
}

static int add_xgboost(struct loading *l, const struct part *part, struct plan *plan, struct err *e)
{
        int r = xgboost_add(plan, part->file->data, part->file->size, e);

        (void)l;
        return r < 0 ? err_prefix(e, r, "%.60s", part->file->name) : 0;
}

static int add_blend(struct loading *l, const struct part *part, struct plan *plan, struct err *e)
{
        int r = blend_add(plan, l->archive, part->file, e);

        return r < 0 ? err_prefix(e, r, "%.60s", part->file->name) : 0;
}

static int add_curve(struct loading *l, const struct part *part, struct plan *plan, struct err *e)
{
        CLEANUP(pickle_freep) struct pickle *pickle = NULL;
        size_t column = 0;
        int r = read_pickle(l, part->file, &pickle, e);

        if (r == 0)
                r = curve_column(pickle_root(pickle), part->features, part->n_features, part->name,
                                 l->options->curve_index, &column, e);
        if (r == 0)
                r = curve_add(plan, pickle_root(pickle), column, e);
        return r < 0 ? err_prefix(e, r, "%.60s", part->file->name) : 0;
}

/* ---- the component map ---- */

static int read_features(struct part *part, const json_t *entry, struct err *e)
{
        const json_t *features = json_object_get(entry, "features");

        if (!json_is_array(features) || json_array_size(features) == 0)
                return err_set(e, -EBADMSG, "'features' is missing, empty or not an array");
        if (json_array_size(features) > MODEL_FEATURES_MAX)
                return err_set(e, -E2BIG, "more than %d features", MODEL_FEATURES_MAX);
        for (size_t i = 0; i < json_array_size(features); i++) {
                const char *name = json_string_value(json_array_get(features, i));

                if (!name)
                        return err_set(e, -EBADMSG, "'features' has something else than names");
                for (size_t j = 0; j < i; j++)
                        if (!strcmp(part->features[j], name))
                                return err_set(e, -EBADMSG, "feature '%.60s' is there twice", name);
                part->features[part->n_features++] = name;
        }
        return 0;
}

static int add_transformers(struct loading *l, const json_t *entry, struct plan *plan, struct err *e)
{
        const json_t *files = json_object_get(entry, "fe_files");

        if (!json_is_array(files))
                return err_set(e, -EBADMSG, "'fe_files' is missing or not an array");
        if (json_array_size(files) > TRANSFORMERS_MAX)
                return err_set(e, -E2BIG, "more than %d fe_files", TRANSFORMERS_MAX);
        for (size_t i = 0; i < json_array_size(files); i++) {
                const char *name = json_string_value(json_array_get(files, i));
                const struct model_entry *file = NULL;
                int r;

                if (!name)
                        return err_set(e, -EBADMSG, "'fe_files' has something else than names");
                r = find_file(l->archive, name, &file, e);
                if (r == 0)
                        r = add_pickled(l, file, plan, sklearn_add_transformer, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The plan's inputs are the model's features; a feature's scale is what its scaler takes for large. */
static int bind_features(struct loading *l, const struct part *part, struct plan *plan, struct err *e)
{
        for (size_t i = 0; i < part->n_features; i++) {
                int r = model_add_feature(l->model, part->features[i], plan->typical[i], &plan->inputs[i], e);

                if (r < 0)
                        return r;
                model_narrow_feature(l->model, plan->inputs[i], plan->low[i], plan->high[i]);
        }
        return 0;
}

/* Without its scaler a model answers, hundreds of times too much: so one must be there, in fe_files or in a
 * Pipeline. Kepler's trainers scale always; Wattloop's trees never, and their metadata says who made them. */
static int compile(struct loading *l, const struct part *part, const json_t *entry, add_model *add,
                   struct plan *plan, struct err *e)
{
        int r = add_transformers(l, entry, plan, e);

        if (r < 0)
                return r;
        r = add(l, part, plan, e);
        if (r < 0)
                return r;
        if (!plan->scaled && !l->unscaled)
                return err_set(e, -EBADMSG, "no scaler among its fe_files");
        return bind_features(l, part, plan, e);
}

void model_read_component_mae(struct plan *plan, const json_t *metadata, const char *component)
{
        char key[64];
        double mae;

        (void)snprintf(key, sizeof(key), "%s_mae", component);
        if (json_object_get(metadata, key) && json_get_number(metadata, key, &mae, NULL) == 0)
                plan->mae = mae;
}

static int load_part(struct loading *l, const char *name, const json_t *entry, const json_t *metadata,
                     add_model *add, struct err *e)
{
        CLEANUP(plan_freep) struct plan *plan = NULL;
        struct part part = { .name = name };
        struct model_component *component = NULL;
        const char *file = NULL;
        int r;

        r = json_get_string(entry, "model_file", &file, e);
        if (r < 0)
                return -EBADMSG;
        r = find_file(l->archive, file, &part.file, e);
        if (r == 0)
                r = read_features(&part, entry, e);
        if (r == 0)
                r = plan_new(part.n_features, &plan, e);
        if (r == 0)
                r = compile(l, &part, entry, add, plan, e);
        if (r == 0)
                r = model_add_component(l->model, name, &component, e);
        if (r < 0)
                return r;
        model_read_component_mae(plan, metadata, name);
        component->eval = plan_eval;
        component->plan = TAKE(plan);
        return 0;
}

/* ---- archives ---- */

int model_read_map(const struct model_archive *a, const json_t *metadata, json_t **ret, struct err *e)
{
        const char *name = NULL;
        int r = json_get_string(metadata, "model_file", &name, e);

        if (r < 0)
                return err_prefix(e, -EBADMSG, "metadata.json");
        r = model_parse_entry(a, name, ret, e);
        if (r < 0)
                return r;
        if (json_object_size(*ret) == 0)
                return err_set(e, -EBADMSG, "'%.60s' has no components", name);
        return 0;
}

static int load(const struct model_archive *a, const json_t *metadata,
                const struct model_load_options *options, const char *class, add_model *add,
                struct model **ret, struct err *e)
{
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(json_decrefp) json_t *map = NULL;
        struct loading l = { .archive = a, .options = options };
        const char *name;
        json_t *entry;
        int r;

        r = model_new(&m, e);
        if (r < 0)
                return r;
        m->class = class;
        l.model = m;
        l.unscaled = json_is_integer(json_object_get(metadata, "wattloop_version"));
        r = model_read_head(m, metadata, e);
        if (r < 0)
                return err_prefix(e, r, "metadata.json");
        r = model_read_map(a, metadata, &map, e);
        if (r < 0)
                return r;
        json_object_foreach (map, name, entry) {
                r = load_part(&l, name, entry, metadata, add, e);
                if (r < 0)
                        return err_prefix(e, r, "%s component '%.40s'", class, name);
        }
        r = model_check_features(m, metadata, e);
        if (r < 0)
                return r;
        model_sort_components(m);
        *ret = TAKE(m);
        return 0;
}

int model_load_scikit(const struct model_archive *a, const json_t *metadata,
                      const struct model_load_options *options, struct model **ret, struct err *e)
{
        return load(a, metadata, options, "scikit", add_scikit, ret, e);
}

int model_load_xgboost(const struct model_archive *a, const json_t *metadata,
                       const struct model_load_options *options, struct model **ret, struct err *e)
{
        return load(a, metadata, options, "xgboost", add_xgboost, ret, e);
}

int model_load_blend(const struct model_archive *a, const json_t *metadata,
                     const struct model_load_options *options, struct model **ret, struct err *e)
{
        return load(a, metadata, options, "wattloop-blend", add_blend, ret, e);
}

/* The weights beside the pickles say the same curves; they serve when a pickle was left out. They do not tell
 * the index that upstream would take, so for that there is no second source. */
static bool lacks_pickles(const struct model_archive *a, const json_t *metadata)
{
        CLEANUP(json_decrefp) json_t *map = NULL;
        const char *name;
        json_t *entry;

        if (model_read_map(a, metadata, &map, NULL) < 0)
                return false;
        json_object_foreach (map, name, entry) {
                const char *file = json_string_value(json_object_get(entry, "model_file"));

                if (file && !model_archive_find(a, file))
                        return true;
        }
        return false;
}

int model_load_curvefit(const struct model_archive *a, const json_t *metadata,
                        const struct model_load_options *options, struct model **ret, struct err *e)
{
        const struct model_entry *weights = model_archive_find(a, WEIGHT_FILE);
        CLEANUP(model_freep) struct model *m = NULL;
        int r;

        if (!weights || options->curve_index == MODEL_CURVE_UPSTREAM || !lacks_pickles(a, metadata))
                return load(a, metadata, options, "curvefit", add_curve, ret, e);

        r = model_load_weight(weights->data, weights->size,
                              json_string_value(json_object_get(metadata, "model_name")), &m, e);
        if (r < 0)
                return err_prefix(e, r, WEIGHT_FILE);
        r = model_read_head(m, metadata, e);
        if (r < 0)
                return err_prefix(e, r, "metadata.json");
        r = model_check_features(m, metadata, e);
        if (r < 0)
                return r;
        m->class = "curvefit";
        *ret = TAKE(m);
        return 0;
}
