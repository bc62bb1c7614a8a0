/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/learn/fit.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static json_t *make_metadata(const struct fit_input *in, const struct linear *linear, const char *name)
{
        double mae = 0, mape = -1;
        char definition[DEFINITION_MAX];
        enum provenance provenance;
        uint64_t rows = UINT64_MAX;
        json_t *o;

        for (size_t i = 0; i < in->place.source->n; i++) {
                if (!linear[i].used)
                        continue;
                mae = fmax(mae, linear[i].mae);
                mape = fmax(mape, linear[i].mape);
                rows = linear[i].rows < rows ? linear[i].rows : rows;
        }
        fit_pedigree(in, &provenance, definition);
        o = json_pack("{s:s, s:s, s:s, s:s+, s:o, s:[], s:s, s:i, s:o, s:s, s:I, s:s, s:i}", "model_name",
                      name, "trainer", in->place.trainer, "model_class", "weight", "model_file", name,
                      ".json", "features", feature_list(in->place.group), "fe_files", "output_type",
                      output_types[in->place.output_type], "node_type", in->place.node_type, "machine_spec",
                      machine_spec_to_json(in->spec), "provenance", provenance_names[provenance], "rows",
                      (json_int_t)rows, "definition", definition, "wattloop_version", 1);
        set_error(o, "", "mae", mae);
        set_error(o, "", "mape", mape);
        for (size_t i = 0; i < in->place.source->n; i++) {
                if (!linear[i].used)
                        continue;
                set_error(o, in->place.source->components[i], "mae", linear[i].mae);
                set_error(o, in->place.source->components[i], "mape", linear[i].mape);
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

int fit_export_linear(const struct fit_input *in, const struct linear *linear, struct artifact **ret,
                      struct err *e)
{
        char name[MODEL_NAME_MAX], file[MODEL_NAME_MAX + 8];
        CLEANUP(model_archive_freep) struct model_archive *archive = calloc(1, sizeof(*archive));
        CLEANUP(json_decrefp) json_t *map = json_object(), *weight = NULL, *metadata = NULL;
        int r;

        (void)snprintf(name, sizeof(name), "%.100s_%d", in->place.trainer, in->place.node_type);
        (void)snprintf(file, sizeof(file), "%s.json", name);
        metadata = make_metadata(in, linear, name);
        weight = json_pack("{s:s, s:o, s:O, s:O}", "model_name", name, "machine_spec",
                           machine_spec_to_json(in->spec), "mae", json_object_get(metadata, "mae"),
                           "provenance", json_object_get(metadata, "provenance"));
        for (size_t i = 0; i < in->place.source->n; i++) {
                const char *component = in->place.source->components[i];

                if (!linear[i].used)
                        continue;
                (void)json_object_set_new(weight, component,
                                          component_weights(&linear[i].weights, in->place.group));
                (void)json_object_set_new(map, component,
                                          json_pack("{s:s, s:o, s:[]}", "model_file", "weight.json",
                                                    "features", feature_list(in->place.group), "fe_files"));
        }
        if (!archive || !metadata)
                return err_set(e, -ENOMEM, "out of memory");
        r = archive_put_json(archive, file, map, e);
        if (r == 0)
                r = archive_put_json(archive, "weight.json", weight, e);
        return r < 0 ? r : artifact_new(&in->place, TAKE(metadata), TAKE(archive), ret, e);
}

/* The rows that one component of a group can learn from, as a matrix. */
struct table {
        int p;
        size_t n;
        double *x, *y; /* owned; n rows of p features, n watts */
        int *fold;     /* owned */
};

static void table_done(struct table *t)
{
        free(t->x);
        free(t->y);
        free(t->fold);
}

static int make_table(const struct fit_input *in, int component, struct table *t, struct err *e)
{
        const struct dataset *d = in->data;

        t->p = group_features_n(&feature_groups[in->place.group]);
        t->x = malloc((d->n + 1) * (size_t)t->p * sizeof(double));
        t->y = malloc((d->n + 1) * sizeof(double));
        t->fold = malloc((d->n + 1) * sizeof(int));
        if (!t->x || !t->y || !t->fold)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < d->n; i++) {
                const struct example *x = &d->rows[i];

                if (!(x->row.has_watts & 1u << component) ||
                    !example_features(x, in->place.group, t->x + t->n * (size_t)t->p))
                        continue;
                t->y[t->n] = x->row.watts[component];
                t->fold[t->n++] = (int)(x->turn / FIT_BLOCK_ROWS % FIT_FOLDS);
        }
        return 0;
}

/* Least squares over all rows but those of one fold (-1: over all). */
static void solve_without(const struct table *t, int fold, struct weights *ret)
{
        struct learner learner;

        learner_init(&learner, t->p);
        for (size_t i = 0; i < t->n; i++)
                if (t->fold[i] != fold)
                        (void)learner_absorb(&learner, t->x + i * (size_t)t->p,
                                             t->y[i]); /* not finite: no row */
        learner_solve(&learner, ret);
}

static void fit_least_squares(const struct table *t, struct linear *ret)
{
        double error = 0, relative = 0;
        size_t positive = 0;

        for (int fold = 0; fold < FIT_FOLDS; fold++) {
                struct weights w;

                solve_without(t, fold, &w);
                for (size_t i = 0; i < t->n; i++) {
                        double miss;

                        if (t->fold[i] != fold)
                                continue;
                        miss = fabs(weights_predict(&w, t->x + i * (size_t)t->p) - t->y[i]);
                        error += miss;
                        if (t->y[i] > 0) {
                                relative += miss / t->y[i];
                                positive++;
                        }
                }
        }
        ret->mae = error / (double)t->n;
        ret->mape = positive ? 100 * relative / (double)positive : -1;
        ret->rows = t->n;
        ret->used = true;
        solve_without(t, -1, &ret->weights);
}

static int fit_linear(const struct fit_input *in, struct artifact **ret, struct err *e)
{
        struct linear linear[COMPONENTS_MAX] = { 0 };
        bool any = false;

        for (size_t i = 0; i < in->place.source->n; i++) {
                CLEANUP(table_done) struct table t = { 0 };
                int r = make_table(in, component_find(in->place.source->components[i]), &t, e);

                if (r < 0)
                        return r;
                if (!t.n || t.n < in->min_rows)
                        continue;
                fit_least_squares(&t, &linear[i]);
                any = true;
        }
        return any ? fit_export_linear(in, linear, ret, e)
                   : err_set(e, -ENODATA, "no component has %llu rows", (unsigned long long)in->min_rows);
}

const struct fitter fitters[] = {
        { "SGDRegressorTrainer", true, fit_linear },
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
