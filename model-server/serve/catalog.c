/* SPDX-License-Identifier: Apache-2.0 */
/* Reads <models>/<pipeline>/<source>/<output type>/<group>/: a model is the directory <model>/ with the
 * unpacked entries, or else <model>.zip alone; weights are <model>/weight.json, else <model>.json beside the
 * zip. */
#include "model-server/serve/catalog.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/log.h"
#include "model/model.h"

struct pipeline {
        atomic_int references;
        char name[256];
        bool has_types;
        struct node_types types;
        struct offer *offers;
        size_t n, cap;
};

struct catalog {
        atomic_int references;
        struct pipeline *pipelines[CATALOG_PIPELINES_MAX];
        size_t n;
};

static void offer_done(struct offer *o)
{
        json_decref(o->metadata);
        free(o->weights);
        free(o->weights_named);
        free(o->archive_path);
        free(o->archive);
}

void pipeline_unref(struct pipeline *p)
{
        if (!p || atomic_fetch_sub(&p->references, 1) > 1)
                return;
        for (size_t i = 0; i < p->n; i++)
                offer_done(&p->offers[i]);
        free(p->offers);
        node_types_done(&p->types);
        free(p);
}

const char *pipeline_name(const struct pipeline *p)
{
        return p->name;
}

const struct node_types *pipeline_node_types(const struct pipeline *p)
{
        return p->has_types ? &p->types : NULL;
}

size_t pipeline_offers(const struct pipeline *p)
{
        return p->n;
}

const struct offer *pipeline_offer(const struct pipeline *p, size_t i)
{
        return &p->offers[i];
}

const struct offer *pipeline_find(const struct pipeline *p, const struct energy_source *source,
                                  int output_type, int group, const char *name)
{
        for (size_t i = 0; i < p->n; i++) {
                const struct offer *o = &p->offers[i];

                if (o->source == source && o->output_type == output_type && o->group == group &&
                    !strcmp(o->name, name))
                        return o;
        }
        return NULL;
}

/* The model's entries: its directory, or its zip unpacked in memory. */
static int read_entries(const char *dir, const char *zip, struct model_archive **ret, struct err *e)
{
        CLEANUP(buf_done) struct buf bytes = { 0 };
        int r = model_archive_read_dir(dir, ret, e);

        if (r != -ENOENT && r != -ENOTDIR)
                return r;
        buf_init(&bytes, MODEL_ARCHIVE_MAX);
        r = file_read(zip, &bytes, e);
        return r < 0 ? r : model_archive_unpack(bytes.data, bytes.size, ret, e);
}

static int parse_metadata(const struct model_archive *archive, struct offer *o, struct err *e)
{
        const struct model_entry *entry = model_archive_find(archive, "metadata.json");
        const char *text;
        int provenance, r;

        if (!entry || entry->size > METADATA_MAX)
                return err_set(e, -EBADMSG, "no metadata.json of at most %zu bytes", METADATA_MAX);
        r = json_parse(entry->data, entry->size, "metadata.json", &o->metadata, e);
        if (r < 0)
                return r;
        if (!json_is_object(o->metadata))
                return err_set(e, -EBADMSG, "metadata.json is not an object");
        if (json_get_number(o->metadata, "mae", &o->mae, NULL) < 0)
                o->mae = NAN;
        o->wattloop = json_get_string(o->metadata, "model_class", &text, NULL) == 0 &&
                      (!strcmp(text, "weight") || !strcmp(text, "wattloop-blend"));
        o->rows = (uint64_t)json_integer_value(json_object_get(o->metadata, "rows"));
        provenance = json_get_string(o->metadata, "provenance", &text, NULL) == 0 ? provenance_find(text) : 0;
        /* A provenance that nobody knows is not measured. */
        o->provenance = provenance_names[provenance >= 0 ? provenance : PROVENANCE_ESTIMATED];
        return 0;
}

/* {"cores": 4, …} with integers whatever the file has: Kepler's Go code refuses 4.0. NULL when there is none.
 */
static json_t *integer_spec(const struct pipeline *p, const struct offer *o, const json_t *index)
{
        const json_t *object = json_object_get(o->metadata, "machine_spec");
        struct machine_spec spec;
        char key[16];

        if (!object && p->has_types && o->node_type >= 0) {
                (void)snprintf(key, sizeof(key), "%d", o->node_type);
                object = json_object_get(json_object_get(index, key), "attrs");
        }
        if (!json_is_object(object) || machine_spec_from_json(object, &spec, NULL) < 0)
                return NULL;
        return machine_spec_to_json(&spec);
}

static char *write_text(const json_t *object)
{
        struct buf out;

        buf_init(&out, 2 * MODEL_WEIGHT_MAX);
        if (json_write(object, &out) < 0) {
                buf_done(&out);
                return NULL;
        }
        return out.data;
}

/* The two replies made of a weight object: components (and what was not measured says so), and the same with
 * the model's name, machine and error. */
static int make_weights(const struct pipeline *p, struct offer *o, const json_t *index, const json_t *weight,
                        struct err *e)
{
        CLEANUP(json_decrefp) json_t *reply = json_object();
        json_t *value, *spec;
        const char *key;

        json_object_foreach ((json_t *)(uintptr_t)weight, key, value)
                if (json_object_get(value, "All_Weights"))
                        (void)json_object_set(reply, key, value);
        if (!json_object_size(reply))
                return err_set(e, -EBADMSG, "weights of no component");
        if (strcmp(o->provenance, provenance_names[PROVENANCE_MEASURED]) != 0)
                (void)json_object_set_new(reply, "provenance", json_string(o->provenance));
        o->weights = write_text(reply);

        (void)json_object_set_new(reply, "model_name", json_string(o->name));
        if (!isnan(o->mae))
                (void)json_object_set_new(reply, "mae", json_real(o->mae));
        spec = integer_spec(p, o, index);
        if (spec)
                (void)json_object_set_new(reply, "machine_spec", spec);
        o->weights_named = write_text(reply);
        return o->weights && o->weights_named ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int load_weights(const struct pipeline *p, struct offer *o, const struct model_archive *archive,
                        const char *beside, const json_t *index, struct err *e)
{
        const struct model_entry *entry = model_archive_find(archive, "weight.json");
        CLEANUP(json_decrefp) json_t *weight = NULL;
        CLEANUP(buf_done) struct buf file = { 0 };
        int r;

        buf_init(&file, MODEL_WEIGHT_MAX);
        if (entry) {
                r = json_parse(entry->data, entry->size, "weight.json", &weight, e);
        } else {
                r = file_read(beside, &file, NULL);
                if (r == -ENOENT)
                        return 0; /* most models have no weights */
                if (r == 0)
                        r = json_parse(file.data, file.size, beside, &weight, e);
        }
        return r < 0 ? r : make_weights(p, o, index, weight, e);
}

static int load_archive(struct offer *o, const struct model_archive *archive, const char *zip, struct err *e)
{
        CLEANUP(buf_done) struct buf bytes = { 0 };
        struct stat st;
        int r;

        if (stat(zip, &st) < 0)
                return errno == ENOENT ? 0 : err_sys(e, "cannot stat '%s'", zip);
        o->archive_time = st.st_mtime;
        o->archive_path = strdup(zip);
        if (!o->archive_path)
                return err_set(e, -ENOMEM, "out of memory");
        r = model_archive_id(archive, o->content_id);
        if (r < 0 || !o->wattloop)
                return r;
        buf_init(&bytes, MODEL_ARCHIVE_MAX);
        r = file_read(zip, &bytes, e);
        if (r < 0)
                return r;
        o->archive_size = bytes.size;
        o->archive = TAKE(bytes.data);
        return 0;
}

static int load_offer(const struct pipeline *p, const char *group_dir, struct offer *o, const json_t *index,
                      struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *archive = NULL;
        char dir[CATALOG_PATH_MAX], zip[CATALOG_PATH_MAX + 8], beside[CATALOG_PATH_MAX + 8];
        int r = path_join(dir, sizeof(dir), group_dir, o->name);

        if (r < 0)
                return err_set(e, r, "path too long");
        (void)snprintf(zip, sizeof(zip), "%s.zip", dir); /* both fit: dir does */
        (void)snprintf(beside, sizeof(beside), "%s.json", dir);
        r = read_entries(dir, zip, &archive, e);
        if (r == 0)
                r = parse_metadata(archive, o, e);
        if (r == 0)
                r = load_weights(p, o, archive, beside, index, e);
        if (r == 0)
                r = load_archive(o, archive, zip, e);
        return r;
}

static int add_offer(struct pipeline *p, const char *group_dir, const struct offer *like, const char *name,
                     const json_t *index, struct err *e)
{
        struct offer o = *like;
        struct err why;
        int r;

        if (strlen(name) >= sizeof(o.name) || model_name_split(name, o.trainer, &o.node_type) < 0)
                return 0; /* not a model's name */
        if (p->n == PIPELINE_OFFERS_MAX)
                return err_set(e, -E2BIG, "more than %d models", PIPELINE_OFFERS_MAX);
        memcpy(o.name, name, strlen(name) + 1);
        r = load_offer(p, group_dir, &o, index, &why);
        if (r < 0) {
                offer_done(&o);
                if (r == -ENOMEM)
                        return err_set(e, r, "out of memory");
                log_warning("model '%s' of pipeline '%s' is left out: %s", name, p->name, why.text);
                return 0;
        }
        if (p->n == p->cap) {
                size_t cap = p->cap ? 2 * p->cap : 16;
                struct offer *offers = realloc(p->offers, cap * sizeof(*offers));

                if (!offers) {
                        offer_done(&o);
                        return err_set(e, -ENOMEM, "out of memory");
                }
                p->offers = offers;
                p->cap = cap;
        }
        p->offers[p->n++] = o;
        return 0;
}

static int not_hidden(const struct dirent *d)
{
        return d->d_name[0] != '.';
}

/* Model names of a group: directories, and zips without one. */
static int load_group(struct pipeline *p, const char *group_dir, const struct offer *like,
                      const json_t *index, struct err *e)
{
        struct dirent **list = NULL;
        int n = scandir(group_dir, &list, not_hidden, alphasort), r = 0;

        for (int i = 0; i < n; i++) {
                char *name = list[i]->d_name, *dot = strrchr(name, '.'), path[CATALOG_PATH_MAX];
                struct stat st;

                if (r == 0 && path_join(path, sizeof(path), group_dir, name) >= 0 && stat(path, &st) == 0) {
                        bool zip = S_ISREG(st.st_mode) && dot && !strcmp(dot, ".zip");

                        if (zip) {
                                path[strlen(path) - 4] = '\0';
                                *dot = '\0';
                                zip = stat(path, &st) < 0; /* else its directory stands for it */
                        }
                        if ((zip || (S_ISDIR(st.st_mode) && !dot)) && strcmp(name, "checkpoint") != 0)
                                r = add_offer(p, group_dir, like, name, index, e);
                }
                free(list[i]);
        }
        free(list);
        return r;
}

static int load_offers(struct pipeline *p, const char *dir, const json_t *index, struct err *e)
{
        char group_dir[CATALOG_PATH_MAX];

        for (size_t s = 0; s < energy_sources_n; s++)
                for (int t = 0; output_types[t]; t++)
                        for (size_t g = 0; g < feature_groups_n; g++) {
                                struct offer like = { .source = &energy_sources[s],
                                                      .output_type = t,
                                                      .group = (int)g };
                                int n = snprintf(group_dir, sizeof(group_dir), "%s/%s/%s/%s", dir,
                                                 energy_sources[s].name, output_types[t],
                                                 feature_groups[g].name);
                                int r;

                                if (n >= (int)sizeof(group_dir))
                                        return err_set(e, -ENAMETOOLONG, "path too long");
                                r = load_group(p, group_dir, &like, index, e);
                                if (r < 0)
                                        return r;
                        }
        return 0;
}

static int load_types(struct pipeline *p, const char *dir, json_t **ret_index, struct err *e)
{
        char path[CATALOG_PATH_MAX];
        int r = path_join(path, sizeof(path), dir, "node_type_index.json");

        if (r < 0)
                return err_set(e, r, "path too long");
        r = json_parse_file(path, NODE_TYPES_FILE_MAX, ret_index, e);
        if (r == -ENOENT)
                return 0;
        if (r == 0)
                r = node_types_from_json(*ret_index, &p->types, e);
        p->has_types = r == 0;
        return r;
}

int pipeline_load(const char *models_path, const char *name, struct pipeline **ret, struct err *e)
{
        CLEANUP(pipeline_unrefp) struct pipeline *p = calloc(1, sizeof(*p));
        CLEANUP(json_decrefp) json_t *index = NULL;
        char dir[CATALOG_PATH_MAX], metadata[CATALOG_PATH_MAX];
        int r;

        if (!p)
                return err_set(e, -ENOMEM, "out of memory");
        atomic_init(&p->references, 1);
        (void)snprintf(p->name, sizeof(p->name), "%s", name);
        if (path_join(dir, sizeof(dir), models_path, name) < 0 ||
            path_join(metadata, sizeof(metadata), dir, "metadata.json") < 0)
                return err_set(e, -ENAMETOOLONG, "pipeline '%.64s': path too long", name);
        if (access(metadata, R_OK) < 0)
                return err_sys(e, "pipeline '%s': cannot read '%s'", name, metadata);

        r = load_types(p, dir, &index, e);
        if (r == 0)
                r = load_offers(p, dir, index, e);
        if (r < 0)
                return err_prefix(e, r, "pipeline '%s'", name);
        *ret = TAKE(p);
        return 0;
}

void catalog_unref(struct catalog *c)
{
        if (!c || atomic_fetch_sub(&c->references, 1) > 1)
                return;
        for (size_t i = 0; i < c->n; i++)
                pipeline_unref(c->pipelines[i]);
        free(c);
}

struct catalog *catalog_ref(struct catalog *c)
{
        (void)atomic_fetch_add(&c->references, 1);
        return c;
}

size_t catalog_pipelines(const struct catalog *c)
{
        return c->n;
}

const struct pipeline *catalog_pipeline(const struct catalog *c, size_t i)
{
        return c->pipelines[i];
}

static int catalog_new(struct catalog **ret, struct err *e)
{
        struct catalog *c = calloc(1, sizeof(*c));

        if (!c)
                return err_set(e, -ENOMEM, "out of memory");
        atomic_init(&c->references, 1);
        *ret = c;
        return 0;
}

/* A pipeline that cannot be read must not keep the others from being served. */
static int add_pipeline(struct catalog *c, const char *models_path, const char *name, struct err *e)
{
        struct pipeline *p;
        struct err why;
        int r;

        if (c->n == CATALOG_PIPELINES_MAX)
                return err_set(e, -E2BIG, "more than %d pipelines in '%s'", CATALOG_PIPELINES_MAX,
                               models_path);
        r = pipeline_load(models_path, name, &p, &why);
        if (r == 0) {
                c->pipelines[c->n++] = p;
                log_info("pipeline '%s': %zu models", name, p->n);
        } else if (r != -ENOENT && r != -ENOTDIR) {
                log_warning("%s; it is not served", why.text);
        }
        return r == -ENOMEM ? err_set(e, r, "out of memory") : 0;
}

int catalog_load(const char *models_path, const char *own, struct catalog **ret, struct err *e)
{
        CLEANUP(catalog_unrefp) struct catalog *c = NULL;
        struct dirent **list = NULL;
        int r = catalog_new(&c, e), n;

        if (r == 0)
                r = add_pipeline(c, models_path, own, e);
        if (r < 0)
                return r;
        n = scandir(models_path, &list, not_hidden, alphasort);
        if (n < 0)
                return err_sys(e, "cannot list '%s'", models_path);
        while (n-- > 0) {
                if (r == 0 && strcmp(list[n]->d_name, own) != 0)
                        r = add_pipeline(c, models_path, list[n]->d_name, e);
                free(list[n]);
        }
        free(list);
        if (r < 0)
                return r;
        *ret = TAKE(c);
        return 0;
}

int catalog_with(const struct catalog *old, struct pipeline *own, struct catalog **ret, struct err *e)
{
        CLEANUP(pipeline_unrefp) struct pipeline *p = own;
        CLEANUP(catalog_unrefp) struct catalog *c = NULL;
        int r = catalog_new(&c, e);

        if (r < 0)
                return r;
        c->pipelines[c->n++] = TAKE(p);
        for (size_t i = 0; i < old->n && c->n < CATALOG_PIPELINES_MAX; i++) {
                if (!strcmp(old->pipelines[i]->name, c->pipelines[0]->name))
                        continue;
                (void)atomic_fetch_add(&old->pipelines[i]->references, 1);
                c->pipelines[c->n++] = old->pipelines[i];
        }
        *ret = TAKE(c);
        return 0;
}

int offer_read_archive(const struct offer *o, struct buf *out, struct err *e)
{
        if (!o->archive)
                return file_read(o->archive_path, out, e);
        if (buf_append(out, o->archive, o->archive_size) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        return 0;
}
