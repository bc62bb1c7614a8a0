/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/convert/convert.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/log.h"
#include "config/cli.h"
#include "model-server/options.h"
#include "model/archive.h"
#include "schema/vocabulary.h"

#define JSON_BYTES ((size_t)64 << 10) /* of metadata and the component map */

static const struct {
        const char *suffix;
        int (*read)(const char *path, struct saved *ret, struct err *e);
} formats[] = { { ".json", tfjs_read },
                { ".keras", keras_zip_read },
                { ".h5", keras_hdf5_read },
                { ".hdf5", keras_hdf5_read } };

static bool ends_with(const char *path, const char *suffix)
{
        size_t n = strlen(path), k = strlen(suffix);

        return n > k && !strcasecmp(path + n - k, suffix);
}

static int read_saved(const char *path, struct saved *ret, struct err *e)
{
        struct stat st;

        if (stat(path, &st) < 0)
                return err_sys(e, "cannot read '%.100s'", path);
        for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
                if (ends_with(path, formats[i].suffix)) {
                        int r = formats[i].read(path, ret, e);

                        return r < 0 ? err_prefix(e, r, "%.100s", path) : 0;
                }
        return err_set(e, -EINVAL, "%.100s: not a model.json of TensorFlow.js, a .keras or an .h5 file",
                       path);
}

/* ---- the archive ---- */

static int add_json(struct model_archive *a, const char *name, const json_t *o, size_t max, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { .max = max };
        int r = archive_check_name(a, name, e);

        if (r == 0 && json_write(o, &text) < 0)
                r = err_set(e, -E2BIG, "'%s' is larger than %zu bytes", name, max);
        return r < 0 ? r : archive_add_entry(a, name, &text, e);
}

static json_t *list_json(const struct string_list *list)
{
        json_t *v = json_array();

        for (size_t i = 0; v && i < list->n; i++)
                (void)json_array_append_new(v, json_string(list->items[i]));
        return v;
}

/* What contract 4 wants to know of the model as a whole. */
static int make_metadata(const struct options *o, const struct string_list *names, const struct model *scored,
                         const struct score *score, json_t **ret, struct err *e)
{
        int provenance =
                *o->convert_provenance ? provenance_find(o->convert_provenance) : PROVENANCE_MEASURED;
        double worst = o->mae;
        char file[MODEL_NAME_MAX + 8];
        CLEANUP(json_decrefp) json_t *m = NULL;

        if (score && score->provenance >= 0)
                provenance = score->provenance;
        if (provenance < 0)
                return err_set(e, -EINVAL, "--provenance '%.40s' is unknown", o->convert_provenance);
        (void)snprintf(file, sizeof(file), "%s.json", o->name);
        m = json_pack("{s:s, s:s, s:s, s:o, s:[], s:s, s:s, s:i, s:s}", "model_name", o->name, "model_class",
                      "network", "model_file", file, "features", list_json(names), "fe_files", "output_type",
                      o->output_type, "provenance", provenance_names[provenance], "wattloop_version", 1,
                      "made_by", "wattloop-model-server " WATTLOOP_VERSION);
        for (size_t i = 0; m && score && i < model_components(scored); i++) {
                char key[64];

                (void)snprintf(key, sizeof(key), "%s_mae", model_component(scored, i));
                (void)json_object_set_new(m, key, json_real(score->mae[i]));
                worst = i == 0 ? score->mae[i] : fmax(worst, score->mae[i]);
        }
        if (m && score)
                (void)json_object_set_new(m, "rows", json_integer((json_int_t)score->rows));
        if (m && (score || worst > 0))
                (void)json_object_set_new(m, "mae", json_real(worst));
        if (!m)
                return err_set(e, -EINVAL, "--name '%.60s' cannot be used", o->name);
        *ret = TAKE(m);
        return 0;
}

static int make_archive(const struct options *o, const struct string_list *names,
                        const struct string_list *components, const json_t *network,
                        const struct model *scored, const struct score *score, struct model_archive **ret,
                        struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *a = calloc(1, sizeof(*a));
        CLEANUP(json_decrefp) json_t *metadata = NULL;
        CLEANUP(json_decrefp) json_t *map = json_object();
        int r;

        if (!a || !map)
                return err_set(e, -ENOMEM, "out of memory");
        r = make_metadata(o, names, scored, score, &metadata, e);
        for (size_t i = 0; r == 0 && i < components->n; i++)
                if (json_object_set_new(map, components->items[i],
                                        json_pack("{s:s, s:o, s:[]}", "model_file", NETWORK_FILE, "features",
                                                  list_json(names), "fe_files")) < 0)
                        r = err_set(e, -ENOMEM, "out of memory");
        if (r == 0)
                r = add_json(a, "metadata.json", metadata, JSON_BYTES, e);
        if (r == 0)
                r = add_json(a, json_string_value(json_object_get(metadata, "model_file")), map, JSON_BYTES,
                             e);
        if (r == 0)
                r = add_json(a, NETWORK_FILE, network, NETWORK_JSON_MAX, e);
        if (r == 0)
                *ret = TAKE(a);
        return r;
}

static int write_archive(const struct model_archive *a, const char *path, struct err *e)
{
        CLEANUP(buf_done) struct buf zip = { .max = MODEL_ARCHIVE_MAX };
        int r = model_archive_pack(a, &zip, e);

        return r < 0 ? r : file_write_atomic(path, zip.data, zip.size, 0644, e);
}

/* ---- the command ---- */

static void list_done(struct string_list *list)
{
        for (size_t i = 0; i < list->n; i++)
                free(list->items[i]);
        free(list->items);
}

static int copy_list(const struct string_list *from, struct string_list *to, struct err *e)
{
        to->items = calloc(from->n + 1, sizeof(*to->items));
        if (!to->items)
                return err_set(e, -ENOMEM, "out of memory");
        for (; to->n < from->n; to->n++) {
                to->items[to->n] = strdup(from->items[to->n]);
                if (!to->items[to->n])
                        return err_set(e, -ENOMEM, "out of memory");
        }
        return 0;
}

static int check_options(const struct options *o, struct err *e)
{
        char trainer[MODEL_NAME_MAX];
        int node_type;

        if (!*o->out)
                return err_set(e, -EINVAL, "say where to: --out ARCHIVE.zip");
        if (strcmp(o->output_type, output_types[0]) && strcmp(o->output_type, output_types[1]))
                return err_set(e, -EINVAL, "--output-type is %s or %s", output_types[0], output_types[1]);
        if (model_name_split(o->name, trainer, &node_type) < 0 || strchr(o->name, '/') || node_type < 0)
                return err_set(e, -EINVAL,
                               "--name '%.60s' is no model's name: it ends with a node type, as in %s",
                               o->name, "NetworkTrainer_0");
        return 0;
}

static int convert(const struct options *o, const char *path, struct err *e)
{
        CLEANUP(saved_done) struct saved saved = { 0 };
        CLEANUP(list_done) struct string_list names = { 0 };
        CLEANUP(list_done) struct string_list components = { 0 };
        CLEANUP(json_decrefp) json_t *network = NULL;
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        CLEANUP(model_freep) struct model *m = NULL;
        struct scaling scaling = { 0 };
        struct score score;
        char id[HASH_HEX_SIZE];
        int r = read_saved(path, &saved, e);

        if (r == 0 && *o->scaler)
                r = scaler_read(o->scaler, &scaling, e);
        if (r == 0)
                r = copy_list(&o->features, &names, e);
        if (r == 0)
                r = copy_list(&o->components, &components, e);
        if (r == 0)
                r = keras_convert(&saved, &names, &components, &scaling, &network, e);
        if (r == 0)
                r = make_archive(o, &names, &components, network, NULL, NULL, &a, e);
        if (r == 0)
                r = model_load_archive(a, &m, e); /* the node's own checks */
        if (r == 0)
                r = model_check(m, e);
        if (r == 0 && *o->rows) {
                r = score_rows(o->rows, m, !strcmp(o->output_type, output_types[1]), &score, e);
                model_archive_free(TAKE(a));
                if (r == 0)
                        r = make_archive(o, &names, &components, network, m, &score, &a, e);
        }
        if (r == 0)
                r = write_archive(a, o->out, e);
        if (r == 0)
                r = model_archive_id(a, id);
        if (r < 0)
                return r;
        (void)printf("%s %.12s: %s, in %s\n", o->name, id, model_component_note(m, 0), o->out);
        for (size_t i = 0; i < model_components(m); i++)
                if (*o->rows)
                        (void)printf("  %s: mean absolute error %.3f W over %zu rows\n",
                                     model_component(m, i), score.mae[i], score.rows);
        if (!*o->rows && !(o->mae > 0))
                log_warning("the archive does not tell the model's error, and a server chooses none without: "
                            "give --rows or "
                            "--mae");
        return 0;
}

int convert_run(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        struct err e = { "" };
        int r = check_options(o, &e);

        (void)argc;
        if (r < 0) {
                (void)log_error(r, "%s", e.text);
                return EXIT_MISUSE;
        }
        r = convert(o, argv[0], &e);
        return r < 0 ? log_error(r, "%s", e.text) : EXIT_DONE;
}
