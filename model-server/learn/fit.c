/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/learn/fit.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model-server/train/archive.h"
#include "model-server/train/general.h"
#include "model-server/train/local.h"

static json_t *feature_list(int group)
{
        json_t *list = json_array();

        for (int i = 0; i < group_features_n(&feature_groups[group]); i++)
                (void)json_array_append_new(list, json_string(feature_groups[group].features[i]));
        return list;
}

static double round2(double v)
{
        return round(v * 100) / 100;
}

static void set_error(json_t *object, const char *component, const char *what, double v)
{
        char key[64];

        (void)snprintf(key, sizeof(key), "%s%s%s", component, *component ? "_" : "", what);
        (void)json_object_set_new(object, key, json_real(round2(v)));
}

void fit_pedigree(const struct fit_input *in, enum provenance *ret, char definition[DEFINITION_MAX])
{
        double x[GROUP_FEATURES_MAX];
        bool any = false;

        *ret = PROVENANCE_MEASURED;
        definition[0] = '\0';
        for (size_t i = 0; i < in->data->n; i++) {
                const struct row *row = &in->data->rows[i].row;

                if (!example_features(&in->data->rows[i], in->place.group, x))
                        continue;
                if (row->provenance == PROVENANCE_SIMULATED ||
                    (row->provenance != PROVENANCE_MEASURED && *ret == PROVENANCE_MEASURED))
                        *ret = row->provenance;
                if (!any)
                        memcpy(definition, row->definition, DEFINITION_MAX);
                else if (strcmp(definition, row->definition) != 0)
                        (void)snprintf(definition, DEFINITION_MAX, "mixed");
                any = true;
        }
}

/* What one component's model is, and what it says of itself. */
struct part {
        bool used;
        uint64_t rows;
        double mae, mape;
        json_t *weights; /* owned: {"All_Weights": …}; NULL: its file is <component>.json */
        const char *features[TABLE_FEATURES_MAX];
        size_t features_n;
};

static void parts_done(struct part (*parts)[COMPONENTS_MAX])
{
        for (size_t i = 0; i < COMPONENTS_MAX; i++)
                json_decref((*parts)[i].weights);
}

static json_t *make_metadata(const struct fit_input *in, const struct part *parts, const char *model_class,
                             const char *name)
{
        double mae = 0, mape = -1;
        char definition[DEFINITION_MAX];
        enum provenance provenance;
        uint64_t rows = UINT64_MAX;
        json_t *o;

        for (size_t i = 0; i < in->place.source->n; i++) {
                if (!parts[i].used)
                        continue;
                mae = fmax(mae, parts[i].mae);
                mape = fmax(mape, parts[i].mape);
                rows = parts[i].rows < rows ? parts[i].rows : rows;
        }
        fit_pedigree(in, &provenance, definition);
        o = json_pack("{s:s, s:s, s:s, s:s+, s:o, s:[], s:s, s:i, s:o, s:s, s:I, s:s, s:i}", "model_name",
                      name, "trainer", in->place.trainer, "model_class", model_class, "model_file", name,
                      ".json", "features", feature_list(in->place.group), "fe_files", "output_type",
                      output_types[in->place.output_type], "node_type", in->place.node_type, "machine_spec",
                      machine_spec_to_json(in->spec), "provenance", provenance_names[provenance], "rows",
                      (json_int_t)rows, "definition", definition, "wattloop_version", 1);
        set_error(o, "", "mae", mae);
        set_error(o, "", "mape", mape);
        for (size_t i = 0; i < in->place.source->n; i++) {
                if (!parts[i].used)
                        continue;
                set_error(o, in->place.source->components[i], "mae", parts[i].mae);
                set_error(o, in->place.source->components[i], "mape", parts[i].mape);
        }
        if (in->lineage)
                (void)json_object_update(o, (json_t *)(uintptr_t)in->lineage); /* its members are shared */
        return o;
}

static json_t *component_weights(const struct weights *w, int group)
{
        json_t *numerical = json_object();

        for (int j = 0; j < w->p; j++)
                (void)json_object_set_new(
                        numerical, feature_groups[group].features[j],
                        json_pack("{s:f, s:f}", "scale", w->scale[j], "weight", w->weight[j]));
        return json_pack("{s:{s:f, s:{}, s:o}}", "All_Weights", "Bias_Weight", w->bias,
                         "Categorical_Variables", "Numerical_Variables", numerical);
}

static json_t *part_features(const struct part *part)
{
        json_t *list = json_array();

        for (size_t j = 0; j < part->features_n; j++)
                (void)json_array_append_new(list, json_string(part->features[j]));
        return list;
}

static json_t *make_map(const struct fit_input *in, const struct part *parts)
{
        json_t *map = json_object();

        for (size_t i = 0; i < in->place.source->n; i++) {
                const char *component = in->place.source->components[i];

                if (parts[i].used)
                        (void)json_object_set_new(map, component,
                                                  json_pack("{s:s+, s:o, s:[]}", "model_file",
                                                            parts[i].weights ? "weight" : component, ".json",
                                                            "features", part_features(&parts[i]),
                                                            "fe_files"));
        }
        return map;
}

static json_t *make_weight(const struct fit_input *in, const struct part *parts, const char *name,
                           const json_t *metadata)
{
        json_t *weight = json_pack("{s:s, s:o, s:O, s:O}", "model_name", name, "machine_spec",
                                   machine_spec_to_json(in->spec), "mae", json_object_get(metadata, "mae"),
                                   "provenance", json_object_get(metadata, "provenance"));

        for (size_t i = 0; i < in->place.source->n; i++)
                if (parts[i].used)
                        (void)json_object_set(weight, in->place.source->components[i], parts[i].weights);
        return weight;
}

/* The archive of these parts; takes `archive` over, which has their files if they have any. */
static int export_parts(const struct fit_input *in, const struct part *parts, const char *model_class,
                        struct model_archive *archive, struct artifact **ret, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *owned = archive;
        CLEANUP(json_decrefp) json_t *map = make_map(in, parts), *weight = NULL, *metadata = NULL;
        char name[MODEL_NAME_MAX], file[MODEL_NAME_MAX + 8];
        int r;

        (void)snprintf(name, sizeof(name), "%.100s_%d", in->place.trainer, in->place.node_type);
        (void)snprintf(file, sizeof(file), "%s.json", name);
        metadata = make_metadata(in, parts, model_class, name);
        if (!owned || !metadata)
                return err_set(e, -ENOMEM, "out of memory");
        r = archive_put_json(owned, file, map, e);
        if (r == 0 && !strcmp(model_class, "weight")) {
                weight = make_weight(in, parts, name, metadata);
                r = archive_put_json(owned, "weight.json", weight, e);
        }
        return r < 0 ? r : artifact_new(&in->place, TAKE(metadata), TAKE(owned), ret, e);
}

int fit_export_linear(const struct fit_input *in, const struct linear *linear, struct artifact **ret,
                      struct err *e)
{
        CLEANUP(parts_done) struct part parts[COMPONENTS_MAX] = { 0 };
        const struct feature_group *group = &feature_groups[in->place.group];

        for (size_t i = 0; i < in->place.source->n; i++) {
                if (!linear[i].used)
                        continue;
                parts[i] = (struct part){ .used = true,
                                          .rows = linear[i].rows,
                                          .mae = linear[i].mae,
                                          .mape = linear[i].mape,
                                          .weights = component_weights(&linear[i].weights, in->place.group),
                                          .features_n = (size_t)group_features_n(group) };
                memcpy(parts[i].features, group->features, parts[i].features_n * sizeof(char *));
        }
        return export_parts(in, parts, "weight", calloc(1, sizeof(struct model_archive)), ret, e);
}

/* The rows that one component of a group can learn from. Blocks of neighbours are the segments. */
static int make_table(const struct fit_input *in, int component, struct table *t, struct err *e)
{
        const struct feature_group *group = &feature_groups[in->place.group];
        const struct dataset *d = in->data;
        size_t p = (size_t)group_features_n(group), n = 0;
        double x[GROUP_FEATURES_MAX];
        int r;

        for (size_t i = 0; i < d->n; i++)
                n += d->rows[i].row.has_watts >> component & 1 &&
                     example_features(&d->rows[i], in->place.group, x);
        if (!n || n < in->min_rows)
                return -ENODATA;
        r = table_new(n, group->features, p, t, e);
        n = 0;
        for (size_t i = 0; r == 0 && i < d->n; i++) {
                const struct example *row = &d->rows[i];

                if (!(row->row.has_watts >> component & 1) ||
                    !example_features(row, in->place.group, t->x + n * p))
                        continue;
                t->y[n] = row->row.watts[component];
                t->segment[n++] = (int)(row->turn / FIT_BLOCK_ROWS) * (int)d->nodes_n + row->node;
        }
        return r;
}

/* Errors of a part over folds of whole blocks, each predicted by a model of the others. */
typedef int (*predict_fn)(const struct fit_input *in, const struct table *train, const struct table *held,
                          const char *component, const void *arg, double *out, struct err *e);

static int fold_errors(const struct fit_input *in, const struct table *t, const char *component, int folds_n,
                       predict_fn predict, const void *arg, struct part *part, struct err *e)
{
        CLEANUP(freep) unsigned char *mark = malloc(t->n + 1);
        CLEANUP(freep) double *out = malloc((t->n + 1) * sizeof(double));
        double error = 0, relative = 0;
        size_t rows = 0, positive = 0;

        if (!mark || !out)
                return err_set(e, -ENOMEM, "out of memory");
        for (int k = 0; k < folds_n; k++) {
                CLEANUP(table_done) struct table train = { 0 }, held = { 0 };
                int r;

                for (size_t i = 0; i < t->n; i++)
                        mark[i] = t->segment[i] % folds_n == k;
                r = table_select(t, mark, false, NULL, 0, &train, e);
                if (r == 0)
                        r = table_select(t, mark, true, NULL, 0, &held, e);
                if (r == 0 && train.n && held.n)
                        r = predict(in, &train, &held, component, arg, out, e);
                if (r == -ENOMEM)
                        return r;
                for (size_t i = 0; r == 0 && train.n && i < held.n; i++) {
                        double miss = fabs(out[i] - held.y[i]);

                        error += miss;
                        rows++;
                        if (held.y[i] > 0) {
                                relative += miss / held.y[i];
                                positive++;
                        }
                }
        }
        if (!rows)
                return err_set(e, -EDOM, "too few rows to hold any back");
        part->mae = error / (double)rows;
        part->mape = positive ? 100 * relative / (double)positive : -1;
        return 0;
}

static int predict_local(const struct fit_input *in, const struct table *train, const struct table *held,
                         const char *component, const void *arg, double *out, struct err *e)
{
        const struct local_trainer *trainer = arg;
        struct local_fit fit;
        int r = local_fit(trainer, train, &fit, e);

        (void)in;
        return r < 0 ? r : local_replay(&fit, component, held, out, e);
}

static int fit_component_locally(const struct fit_input *in, const struct table *t, const char *component,
                                 struct part *part, struct err *e)
{
        struct local_fit fit;
        int r = local_choose_class(t, component, in->place.trainer, &fit, e);

        if (r == 0)
                r = fold_errors(in, t, component, FIT_FOLDS, predict_local, fit.trainer, part, e);
        if (r < 0)
                return r;
        part->weights = local_weights(&fit);
        if (!part->weights)
                return err_set(e, -ENOMEM, "out of memory");
        part->features_n = fit.p;
        memcpy(part->features, fit.features, fit.p * sizeof(char *));
        return 0;
}

static int fit_local(const struct fit_input *in, struct artifact **ret, struct err *e)
{
        CLEANUP(parts_done) struct part parts[COMPONENTS_MAX] = { 0 };
        bool any = false;

        for (size_t i = 0; i < in->place.source->n; i++) {
                const char *component = in->place.source->components[i];
                CLEANUP(table_done) struct table t = { 0 };
                int r = make_table(in, component_find(component), &t, e);

                if (r == 0)
                        r = fit_component_locally(in, &t, component, &parts[i], e);
                if (r == -ENOMEM || r == -E2BIG)
                        return r;
                parts[i].used = r == 0; /* else its rows are too few, or the form cannot follow them */
                parts[i].rows = t.n;
                any |= parts[i].used;
        }
        return any ? export_parts(in, parts, "weight", calloc(1, sizeof(struct model_archive)), ret, e)
                   : err_set(e, -ENODATA, "no component has %llu rows that '%s' can follow",
                             (unsigned long long)in->min_rows, in->place.trainer);
}

/* General trainers, by class. */
struct general {
        const char *class, *model_class;
        int (*train)(const struct general_settings *s, const struct table *t, const char *component,
                     uint32_t seed, struct model_archive *archive, const char **ret_features, size_t *ret_n,
                     struct err *e);
};
static const struct general generals[] = {
        { GENERAL_PLAIN, "xgboost", general_train_plain },
        { GENERAL_BLEND, "wattloop-blend", general_train_blend },
};

static const struct general *general_find(const char *class)
{
        const struct general *g = generals;

        while (strcmp(g->class, class) != 0)
                g++; /* the table of fitters has no other */
        return g;
}

static const struct general_settings *settings_of(const struct fit_input *in, const char *component)
{
        return general_settings_find(feature_groups[in->place.group].name, component);
}

/* By the written file, as an estimator would. */
static int predict_general(const struct fit_input *in, const struct table *train, const struct table *held,
                           const char *component, const void *arg, double *out, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *archive = calloc(1, sizeof(*archive));
        CLEANUP(model_freep) struct model *model = NULL;
        const struct general *g = arg;
        struct archive_component c = { .name = component, .mae = NAN, .mape = -1 };
        struct archive_head head = { .trainer = g->class,
                                     .model_class = g->model_class,
                                     .output_type = output_types[in->place.output_type],
                                     .provenance = provenance_names[PROVENANCE_MEASURED],
                                     .rows = train->n };
        size_t index[MODEL_FEATURES_MAX];
        int r;

        if (!archive)
                return err_set(e, -ENOMEM, "out of memory");
        r = g->train(settings_of(in, component), train, component, (uint32_t)in->seed, archive, c.features,
                     &c.n_features, e);
        memcpy(head.features, c.features, sizeof(head.features));
        head.n_features = c.n_features;
        if (r == 0)
                r = archive_finish(archive, &head, &c, 1, e);
        if (r == 0)
                r = model_load_archive(archive, &model, e);
        if (r == 0)
                r = model_bind(model, held->features, held->p, index, e);
        if (r == 0)
                model_predict(model, index, held->x, held->p, held->n, out);
        return r;
}

static int fit_general(const struct fit_input *in, struct artifact **ret, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *archive = calloc(1, sizeof(*archive));
        CLEANUP(parts_done) struct part parts[COMPONENTS_MAX] = { 0 };
        const struct general *g = general_find(in->place.trainer);
        bool any = false;

        if (!archive)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < in->place.source->n; i++) {
                const char *component = in->place.source->components[i];
                CLEANUP(table_done) struct table t = { 0 };
                size_t files = archive->n;
                int r = make_table(in, component_find(component), &t, e);

                if (r == 0)
                        r = fold_errors(in, &t, component, FIT_GENERAL_FOLDS, predict_general, g, &parts[i],
                                        e);
                if (r == 0)
                        r = g->train(settings_of(in, component), &t, component, (uint32_t)in->seed, archive,
                                     parts[i].features, &parts[i].features_n, e);
                if (r == -ENOMEM || (r < 0 && archive->n > files))
                        return r;
                parts[i].used = r == 0;
                parts[i].rows = t.n;
                any |= parts[i].used;
        }
        return any ? export_parts(in, parts, g->model_class, TAKE(archive), ret, e)
                   : err_set(e, -ENODATA, "no component has %llu rows that '%s' can follow",
                             (unsigned long long)in->min_rows, in->place.trainer);
}

const struct fitter fitters[] = {
        { "SGDRegressorTrainer", fit_local },
        { "LinearRegressionTrainer", fit_local },
        { "LogarithmicRegressionTrainer", fit_local },
        { "ExponentialRegressionTrainer", fit_local },
        { "LogisticRegressionTrainer", fit_local },
        { GENERAL_PLAIN, fit_general },
        { GENERAL_BLEND, fit_general },
};
const size_t fitters_n = ARRAY_SIZE(fitters);

const struct fitter *fitter_find(const char *name)
{
        for (size_t i = 0; i < fitters_n; i++)
                if (!strcmp(fitters[i].name, name))
                        return &fitters[i];
        return NULL;
}

/* kepler-model-server's train/trainer/ */
bool fitter_known(const char *name)
{
        static const char *const classes[] = {
                "SGDRegressorTrainer",         "LinearRegressionTrainer",
                "PolynomialRegressionTrainer", "GradientBoostingRegressorTrainer",
                "KNeighborsRegressorTrainer",  "SVRRegressorTrainer",
                "XgboostFitTrainer",           "LogarithmicRegressionTrainer",
                "LogisticRegressionTrainer",   "ExponentialRegressionTrainer",
        };

        for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
                if (!strcmp(classes[i], name))
                        return true;
        return fitter_find(name);
}
