/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/file.h"
#include "common/json.h"
#include "common/num.h"
#include "model/model.h"

#define PIPELINE_TEXT_MAX ((size_t)16 << 20) /* a generated file */

/* A model about to be published. */
struct model {
        const struct energy_source *source;
        int node_type, group;
        const struct learned *learned[COMPONENTS_MAX]; /* by the source's components; NULL: not modelled */
        uint64_t rows;                                 /* of the component with the fewest */
        double mae, mape;                              /* of the worst component */
        char name[MODEL_NAME_MAX];
        json_t *metadata;              /* owned */
        struct buf map, weight;        /* owned: <name>.json of the archive, weight.json */
        struct buf metadata_text;      /* owned */
        struct model_archive *archive; /* owned; its entries are copies */
        char content_id[65];
};
struct models {
        struct model *items; /* owned */
        size_t n;
};

static void models_done(struct models *models)
{
        for (size_t i = 0; i < models->n; i++) {
                struct model *m = &models->items[i];

                json_decref(m->metadata);
                buf_done(&m->map);
                buf_done(&m->weight);
                buf_done(&m->metadata_text);
                model_archive_free(m->archive);
        }
        free(models->items);
}

/* The components of one source, group and node type that have rows enough; false when none has. */
static bool gather(const struct trainer *trainer, uint64_t min_rows, const struct energy_source *source,
                   int group, int node_type, struct model *ret)
{
        *ret = (struct model){ .source = source, .group = group, .node_type = node_type, .mape = -1 };
        for (size_t i = 0; i < source->n; i++) {
                struct learner_key key = { node_type, group,
                                           (enum component_id)component_find(source->components[i]) };
                const struct learned *l = trainer_find(trainer, key);

                if (!l || l->learner.rows < min_rows || !l->learner.scored)
                        continue;
                ret->rows = ret->rows && ret->rows < l->learner.rows ? ret->rows : l->learner.rows;
                ret->mae = fmax(ret->mae, learner_mae(&l->learner));
                ret->mape = fmax(ret->mape, learner_mape(&l->learner));
                ret->learned[i] = l;
        }
        return ret->rows;
}

typedef int (*model_fn)(const struct model *m, void *arg, struct err *e);

/* rapl-sysfs and acpi: the sources under which rows are learned. */
static int each_ready(const struct trainer *trainer, uint64_t min_rows, model_fn fn, void *arg, struct err *e)
{
        const char *const sources[] = { energy_source_of_component("package"),
                                        energy_source_of_component("platform") };
        struct model m;

        for (size_t s = 0; s < ARRAY_SIZE(sources); s++)
                for (int g = 0; g < (int)feature_groups_n; g++)
                        for (int type = 0; type < trainer_node_types(trainer); type++) {
                                int r = 0;

                                if (gather(trainer, min_rows, energy_source_find(sources[s]), g, type, &m))
                                        r = fn(&m, arg, e);
                                if (r < 0)
                                        return r;
                        }
        return 0;
}

static int count_components(const struct model *m, void *arg, struct err *e)
{
        (void)e;
        for (size_t i = 0; i < m->source->n; i++)
                *(int *)arg += m->learned[i] != NULL;
        return 0;
}

int publish_ready(const struct trainer *trainer, uint64_t min_rows)
{
        int n = 0;

        (void)each_ready(trainer, min_rows, count_components, &n, NULL); /* cannot fail */
        return n;
}

/* The least trustworthy provenance, and what the rows' features are. */
static const char *provenance_of(const struct model *m)
{
        enum provenance worst = PROVENANCE_MEASURED;

        for (size_t i = 0; i < m->source->n; i++) {
                enum provenance p = m->learned[i] ? m->learned[i]->provenance : PROVENANCE_MEASURED;

                if (p == PROVENANCE_SIMULATED || (p != PROVENANCE_MEASURED && worst == PROVENANCE_MEASURED))
                        worst = p;
        }
        return provenance_names[worst];
}

static const char *definition_of(const struct model *m)
{
        const char *definition = NULL;

        for (size_t i = 0; i < m->source->n; i++) {
                if (!m->learned[i])
                        continue;
                if (definition && strcmp(definition, m->learned[i]->definition) != 0)
                        return "mixed";
                definition = m->learned[i]->definition;
        }
        return definition ? definition : "";
}

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

static json_t *make_metadata(const struct model *m, const struct machine_spec *spec)
{
        json_t *o = json_pack("{s:s, s:s, s:s, s:s+, s:o, s:[], s:s, s:i, s:o, s:s, s:I, s:s, s:i}",
                              "model_name", m->name, "trainer", PUBLISH_TRAINER, "model_class", "weight",
                              "model_file", m->name, ".json", "features", feature_list(m->group), "fe_files",
                              "output_type", TRAINER_OUTPUT_TYPE, "node_type", m->node_type, "machine_spec",
                              machine_spec_to_json(spec), "provenance", provenance_of(m), "rows",
                              (json_int_t)m->rows, "definition", definition_of(m), "wattloop_version", 1);

        set_error(o, "", "mae", m->mae);
        set_error(o, "", "mape", m->mape);
        for (size_t i = 0; i < m->source->n; i++) {
                if (!m->learned[i])
                        continue;
                set_error(o, m->source->components[i], "mae", learner_mae(&m->learned[i]->learner));
                set_error(o, m->source->components[i], "mape", learner_mape(&m->learned[i]->learner));
        }
        return o;
}

static json_t *component_weights(const struct learner *l, int group)
{
        json_t *numerical = json_object();
        struct weights w;

        learner_solve(l, &w);
        for (int j = 0; j < w.p; j++)
                (void)json_object_set_new(
                        numerical, feature_groups[group].features[j],
                        json_pack("{s:f, s:f}", "scale", w.scale[j], "weight", w.weight[j]));
        return json_pack("{s:{s:f, s:{}, s:o}}", "All_Weights", "Bias_Weight", w.bias,
                         "Categorical_Variables", "Numerical_Variables", numerical);
}

static json_t *make_weight(const struct model *m, const struct machine_spec *spec)
{
        json_t *o =
                json_pack("{s:s, s:o, s:f, s:s}", "model_name", m->name, "machine_spec",
                          machine_spec_to_json(spec), "mae", round2(m->mae), "provenance", provenance_of(m));

        for (size_t i = 0; i < m->source->n; i++)
                if (m->learned[i])
                        (void)json_object_set_new(o, m->source->components[i],
                                                  component_weights(&m->learned[i]->learner, m->group));
        return o;
}

static json_t *make_map(const struct model *m)
{
        json_t *o = json_object();

        for (size_t i = 0; i < m->source->n; i++)
                if (m->learned[i])
                        (void)json_object_set_new(o, m->source->components[i],
                                                  json_pack("{s:s, s:o, s:[]}", "model_file", "weight.json",
                                                            "features", feature_list(m->group), "fe_files"));
        return o;
}

/* An absent object is one that there was no memory for: jansson's setters and packers pass NULL on. */
static int write_json(json_t *object, struct buf *out, struct err *e)
{
        int r = object ? json_write(object, out) : -ENOMEM;

        return r < 0 ? err_set(e, r, "cannot write a model: %s", strerror(-r)) : 0;
}

static int add_entry(struct model_archive *archive, const char *name, const struct buf *text)
{
        struct model_entry *entry = &archive->entries[archive->n];

        (void)snprintf(entry->name, sizeof(entry->name), "%s", name);
        entry->data = calloc(1, text->size + 1);
        if (!entry->data)
                return -ENOMEM;
        memcpy(entry->data, text->data, text->size);
        entry->size = text->size;
        archive->n++;
        return 0;
}

static int make_archive(struct model *m, struct err *e)
{
        char map[MODEL_NAME_MAX + 8];

        (void)snprintf(map, sizeof(map), "%s.json", m->name);
        m->archive = calloc(1, sizeof(*m->archive));
        if (!m->archive || add_entry(m->archive, map, &m->map) < 0 ||
            add_entry(m->archive, "metadata.json", &m->metadata_text) < 0 ||
            add_entry(m->archive, "weight.json", &m->weight) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        return model_archive_id(m->archive, m->content_id);
}

struct making {
        const struct publish_input *in;
        struct models *models;
};

static int make_model(const struct model *gathered, void *arg, struct err *e)
{
        static const struct machine_spec unknown;
        struct making *making = arg;
        const struct publish_input *in = making->in;
        const struct machine_spec *spec =
                gathered->node_type < in->specs_n ? &in->specs[gathered->node_type] : &unknown;
        struct model *m = realloc(making->models->items, (making->models->n + 1) * sizeof(*m));
        CLEANUP(json_decrefp) json_t *map = NULL, *weight = NULL;
        int r;

        if (!m)
                return err_set(e, -ENOMEM, "out of memory");
        making->models->items = m;
        m += making->models->n++;
        *m = *gathered;
        buf_init(&m->map, MODEL_WEIGHT_MAX);
        buf_init(&m->weight, MODEL_WEIGHT_MAX);
        buf_init(&m->metadata_text, METADATA_MAX);
        (void)snprintf(m->name, sizeof(m->name), "%s_%d", PUBLISH_TRAINER, m->node_type);

        m->metadata = make_metadata(m, spec);
        map = make_map(m);
        weight = make_weight(m, spec);
        r = write_json(m->metadata, &m->metadata_text, e);
        if (r == 0)
                r = write_json(map, &m->map, e);
        if (r == 0)
                r = write_json(weight, &m->weight, e);
        return r < 0 ? r : make_archive(m, e);
}

static bool same_as(const struct models *models, const struct pipeline *old)
{
        if (!old || pipeline_offers(old) != models->n)
                return false;
        for (size_t i = 0; i < models->n; i++) {
                const struct model *m = &models->items[i];
                const struct offer *o = pipeline_find(old, m->source, 0, m->group, m->name);

                if (!o || strcmp(o->content_id, m->content_id) != 0)
                        return false;
        }
        return true;
}

static int write_file(const char *dir, const char *name, const void *data, size_t size, struct err *e)
{
        char path[CATALOG_PATH_MAX];
        CLEANUP(closep) int fd = -1;
        const char *p = data;

        if (path_join(path, sizeof(path), dir, name) < 0)
                return err_set(e, -ENAMETOOLONG, "'%.200s…': path too long", dir);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd < 0)
                return err_sys(e, "cannot create '%s'", path);
        while (size) {
                ssize_t n = write(fd, p, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return err_sys(e, "cannot write '%s'", path);
                p += n;
                size -= (size_t)n;
        }
        return fsync(fd) < 0 ? err_sys(e, "cannot sync '%s'", path) : 0;
}

/* <group dir>/<name>.zip, <name>.json and <name>/ */
static int write_model(const char *root, const struct model *m, struct err *e)
{
        CLEANUP(buf_done) struct buf zip = { 0 };
        char group_dir[CATALOG_PATH_MAX], dir[CATALOG_PATH_MAX + MODEL_NAME_MAX], name[MODEL_NAME_MAX + 8];
        int r;

        if (snprintf(group_dir, sizeof(group_dir), "%s/%s/%s/%s", root, m->source->name, TRAINER_OUTPUT_TYPE,
                     feature_groups[m->group].name) >= (int)sizeof(group_dir))
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        (void)snprintf(dir, sizeof(dir), "%s/%s", group_dir, m->name);
        r = file_mkdirs(dir, 0755, e);
        for (size_t i = 0; r == 0 && i < m->archive->n; i++)
                r = write_file(dir, m->archive->entries[i].name, m->archive->entries[i].data,
                               m->archive->entries[i].size, e);
        if (r == 0)
                r = file_sync_dir(dir, e);
        if (r < 0)
                return r;

        buf_init(&zip, MODEL_ARCHIVE_MAX);
        r = model_archive_pack(m->archive, &zip, e);
        (void)snprintf(name, sizeof(name), "%s.zip", m->name);
        if (r == 0)
                r = write_file(group_dir, name, zip.data, zip.size, e);
        (void)snprintf(name, sizeof(name), "%s.json", m->name);
        if (r == 0)
                r = write_file(group_dir, name, m->weight.data, m->weight.size, e);
        return r < 0 ? r : file_sync_dir(group_dir, e);
}

static void format_time(int64_t ms, char ret[32])
{
        time_t seconds = (time_t)(ms / 1000);
        struct tm tm;

        (void)gmtime_r(&seconds, &tm);
        (void)strftime(ret, 32, "%Y-%m-%d %H:%M:%S", &tm);
}

static int write_pipeline_metadata(const char *root, const struct publish_input *in, struct err *e)
{
        CLEANUP(json_decrefp) json_t *o = NULL;
        CLEANUP(buf_done) struct buf text = { 0 };
        char when[32];
        int r;

        format_time(in->now_ms, when);
        o = json_pack("{s:s, s:s, s:s, s:[s], s:[], s:s, s:s, s:s}", "name", in->pipeline, "isolator", "none",
                      "extractor", "default", "abs_trainers", PUBLISH_TRAINER, "dyn_trainers", "metric_type",
                      "bm_metrics", "init_time", when, "last_update_time", when);
        buf_init(&text, METADATA_MAX);
        r = write_json(o, &text, e);
        return r < 0 ? r : write_file(root, "metadata.json", text.data, text.size, e);
}

static int write_index(const char *root, const struct publish_input *in, struct err *e)
{
        CLEANUP(json_decrefp) json_t *index = json_object();
        CLEANUP(buf_done) struct buf text = { 0 };
        char key[16];
        int r;

        for (int type = 0; type < in->specs_n; type++) {
                json_t *members = json_array();

                for (size_t i = 0; i < in->nodes_n; i++)
                        if (in->nodes[i].node_type == type)
                                (void)json_array_append_new(members, json_string(in->nodes[i].id));
                (void)snprintf(key, sizeof(key), "%d", type);
                (void)json_object_set_new(index, key,
                                          json_pack("{s:o, s:o}", "attrs",
                                                    machine_spec_to_json(&in->specs[type]), "members",
                                                    members));
        }
        buf_init(&text, NODE_TYPES_FILE_MAX);
        r = write_json(index, &text, e);
        return r < 0 ? r : write_file(root, "node_type_index.json", text.data, text.size, e);
}

static int by_group_and_error(const void *a, const void *b)
{
        const struct model *const *x = a, *const *y = b;
        int names = strcmp(feature_groups[(*x)->group].name, feature_groups[(*y)->group].name);

        if (names)
                return names;
        return ((*x)->mae > (*y)->mae) - ((*x)->mae < (*y)->mae);
}

static void write_csv_number(struct buf *out, const json_t *metadata, const char *key)
{
        const json_t *value = json_object_get(metadata, key);
        char text[NUM_TEXT_MAX] = "";

        if (value)
                (void)num_format_double(text, json_number_value(value));
        (void)buf_printf(out, ",%s", text); /* failure is sticky */
}

static void write_csv_row(struct buf *out, const struct model *m, int number)
{
        const struct feature_group *group = &feature_groups[m->group];
        char key[64];

        (void)buf_printf(out, "%d,%s,weight,%s.json,\"[", number, m->name, m->name);
        for (int i = 0; i < group_features_n(group); i++)
                (void)buf_printf(out, "%s'%s'", i ? ", " : "", group->features[i]);
        (void)buf_printf(out, "]\",[],%s", TRAINER_OUTPUT_TYPE);
        write_csv_number(out, m->metadata, "mae");
        write_csv_number(out, m->metadata, "mape");
        for (size_t i = 0; i < m->source->n; i++) {
                (void)snprintf(key, sizeof(key), "%s_mae", m->source->components[i]);
                write_csv_number(out, m->metadata, key);
                (void)snprintf(key, sizeof(key), "%s_mape", m->source->components[i]);
                write_csv_number(out, m->metadata, key);
        }
        (void)buf_printf(out, ",%s,%d,%s\n", PUBLISH_TRAINER, m->node_type, group->name);
}

static int write_csv(const char *root, const struct models *models, const struct energy_source *source,
                     struct err *e)
{
        CLEANUP(freep) const struct model **sorted = calloc(models->n + 1, sizeof(const struct model *));
        CLEANUP(buf_done) struct buf text = { 0 };
        char name[128];
        size_t n = 0;

        if (!sorted)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < models->n; i++)
                if (models->items[i].source == source)
                        sorted[n++] = &models->items[i];
        if (!n)
                return 0;
        qsort((void *)sorted, n, sizeof(const struct model *), by_group_and_error);

        buf_init(&text, PIPELINE_TEXT_MAX);
        (void)buf_puts(&text, ",model_name,model_class,model_file,features,fe_files,output_type,mae,mape");
        for (size_t i = 0; i < source->n; i++)
                (void)buf_printf(&text, ",%s_mae,%s_mape", source->components[i], source->components[i]);
        (void)buf_puts(&text, ",trainer,node_type,feature_group\n");
        for (size_t i = 0; i < n; i++)
                write_csv_row(&text, sorted[i], (int)i);
        if (text.failed)
                return err_set(e, text.failed, "cannot write the model table");
        (void)snprintf(name, sizeof(name), "%s_%s_model_metadata.csv", source->name, TRAINER_OUTPUT_TYPE);
        return write_file(root, name, text.data, text.size, e);
}

/* The directories between the pipeline and its models were made on the way. */
static int sync_sources(const char *root, const struct models *models, struct err *e)
{
        char path[CATALOG_PATH_MAX + 64];
        int r = 0;

        for (size_t i = 0; r == 0 && i < models->n; i++) {
                if (i && models->items[i].source == models->items[i - 1].source)
                        continue;
                (void)snprintf(path, sizeof(path), "%s/%s/%s", root, models->items[i].source->name,
                               TRAINER_OUTPUT_TYPE);
                r = file_sync_dir(path, e);
                (void)snprintf(path, sizeof(path), "%s/%s", root, models->items[i].source->name);
                if (r == 0)
                        r = file_sync_dir(path, e);
        }
        return r < 0 ? r : file_sync_dir(root, e);
}

static int write_pipeline(const char *root, const struct publish_input *in, const struct models *models,
                          struct err *e)
{
        int r = file_remove_tree(root, e);

        if (r == 0)
                r = file_mkdirs(root, 0755, e);
        if (r == 0)
                r = write_pipeline_metadata(root, in, e);
        if (r == 0)
                r = write_index(root, in, e);
        for (size_t i = 0; r == 0 && i < models->n; i++)
                r = write_model(root, &models->items[i], e);
        for (size_t i = 0; r == 0 && i < energy_sources_n; i++)
                r = write_csv(root, models, &energy_sources[i], e);
        return r < 0 ? r : sync_sources(root, models, e);
}

/* From staging to its place: exchanged with the old one, so that the name always leads to a whole pipeline.
 */
static int put_in_place(const char *staged, const char *models_path, const char *name, struct err *e)
{
        char path[CATALOG_PATH_MAX];

        if (path_join(path, sizeof(path), models_path, name) < 0)
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        if (renameat2(AT_FDCWD, staged, AT_FDCWD, path, RENAME_EXCHANGE) < 0 &&
            (errno != ENOENT || rename(staged, path) < 0))
                return err_sys(e, "cannot move '%s' to '%s'", staged, path);
        return file_sync_dir(models_path, e);
}

int publish_clean(const char *models_path, struct err *e)
{
        char path[CATALOG_PATH_MAX];

        if (path_join(path, sizeof(path), models_path, PUBLISH_STAGING) < 0)
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        return file_remove_tree(path, e);
}

int publish_pipeline(const struct publish_input *in, const struct pipeline *old, struct pipeline **ret,
                     struct err *e)
{
        CLEANUP(models_done) struct models models = { 0 };
        struct making making = { in, &models };
        char staged[CATALOG_PATH_MAX];
        int r;

        r = each_ready(in->trainer, in->min_rows, make_model, &making, e);
        if (r < 0 || same_as(&models, old) || (!models.n && !(in->withdraw && old && pipeline_offers(old))))
                return r;
        if (snprintf(staged, sizeof(staged), "%s/%s/%s", in->models_path, PUBLISH_STAGING, in->pipeline) >=
            (int)sizeof(staged))
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        r = write_pipeline(staged, in, &models, e);
        if (r == 0)
                r = put_in_place(staged, in->models_path, in->pipeline, e);
        (void)file_remove_tree(staged,
                               NULL); /* the old pipeline, or what failed; the next start removes it too */
        if (r == 0)
                r = pipeline_load(in->models_path, in->pipeline, ret, e);
        return r < 0 ? r : 1;
}
