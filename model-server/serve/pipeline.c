/* SPDX-License-Identifier: Apache-2.0 */
/* Reads <models>/<pipeline>/<source>/<output type>/<group>/: a model is the directory <model>/ with the
 * unpacked entries, or else <model>.zip alone; weights are <model>/weight.json, else <model>.json beside the
 * zip. Of thousands of models only what chooses and answers is kept: archives stay on the disk. */
#include "model-server/serve/pipeline.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/log.h"
#include "model/model.h"

#define SOURCES_MAX  8
#define OUTPUT_TYPES 2
#define GROUPS_MAX   16

struct pipeline {
        atomic_int references;
        char name[256];
        bool has_types, own_features;
        struct node_types types;
        struct offer *offers;
        size_t n, cap;
        /* Where a group's begin; the next group's beginning is its end. */
        size_t first[SOURCES_MAX * OUTPUT_TYPES * GROUPS_MAX + 1];
};

#define KEEP_MAX ((size_t)64 << 10) /* an archive in memory */

static void offer_done(struct offer *o)
{
        json_decref(o->features);
        free(o->metadata);
        free(o->weights.text);
        free(o->weights_named.text);
        free(o->archive.text);
        free(o->archive_path);
}

struct pipeline *pipeline_ref(struct pipeline *p)
{
        (void)atomic_fetch_add(&p->references, 1);
        return p;
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

bool pipeline_has_own_features(const struct pipeline *p)
{
        return p->own_features;
}

static size_t range_index(const struct energy_source *source, int output_type, int group)
{
        return ((size_t)(source - energy_sources) * OUTPUT_TYPES + (size_t)output_type) * GROUPS_MAX +
               (size_t)group;
}

size_t pipeline_range(const struct pipeline *p, const struct energy_source *source, int output_type,
                      int group, size_t *ret_first)
{
        size_t i = range_index(source, output_type, group);

        *ret_first = p->first[i];
        return p->first[i + 1] - p->first[i];
}

const struct offer *pipeline_find(const struct pipeline *p, const struct energy_source *source,
                                  int output_type, int group, const char *name)
{
        size_t first, n = pipeline_range(p, source, output_type, group, &first);

        for (size_t i = first; i < first + n; i++)
                if (!strcmp(p->offers[i].name, name))
                        return &p->offers[i];
        return NULL;
}

void digest_of(const void *data, size_t size, char ret[DIGEST_MAX])
{
        unsigned char hash[crypto_hash_sha256_BYTES];

        (void)crypto_hash_sha256(hash, data, size);
        (void)sodium_bin2base64(ret, DIGEST_MAX, hash, sizeof(hash), sodium_base64_VARIANT_ORIGINAL);
}

/* The entries that choose and answer: of a directory, or of a zip. */
static int read_entries(const char *dir, const char *zip, struct model_archive **ret, struct err *e)
{
        static const char *const names[] = { "metadata.json", "weight.json", NULL };
        CLEANUP(model_archive_freep) struct model_archive *archive = NULL;
        struct stat st;

        if (stat(dir, &st) < 0)
                return model_archive_read_some(zip, names, ret, e);
        archive = calloc(1, sizeof(*archive));
        if (!archive)
                return err_set(e, -ENOMEM, "out of memory");
        for (int i = 0; names[i]; i++) {
                struct model_entry *entry = &archive->entries[archive->n];
                char path[CATALOG_PATH_MAX + 16];
                struct buf text;
                int r;

                (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
                buf_init(&text, MODEL_WEIGHT_MAX);
                r = file_read(path, &text, e);
                if (r == -ENOENT && i)
                        continue; /* most models have no weights */
                if (r < 0 || !text.size) {
                        buf_done(&text);
                        return r < 0 ? r : err_set(e, -EBADMSG, "'%s' is empty", path);
                }
                (void)snprintf(entry->name, sizeof(entry->name), "%s", names[i]);
                entry->size = text.size;
                entry->data = text.data;
                archive->n++;
        }
        *ret = TAKE(archive);
        return 0;
}

/* Features that are not the group's are of another version: then they decide who can use the model. */
static int note_features(const json_t *metadata, struct offer *o)
{
        json_t *list = json_object_get(metadata, "features");
        const char *names[GROUP_FEATURES_MAX];
        size_t n = json_array_size(list);

        if (!n)
                return 0;
        for (size_t i = 0; i < n; i++) {
                const char *name = json_string_value(json_array_get(list, i));

                if (!name)
                        return -EBADMSG;
                if (i < GROUP_FEATURES_MAX)
                        names[i] = name;
        }
        if (n > GROUP_FEATURES_MAX || feature_group_of(names, n) != &feature_groups[o->group])
                o->features = json_incref(list);
        return 0;
}

static bool is_upstreams(const char *class)
{
        return !strcmp(class, "scikit") || !strcmp(class, "xgboost") || !strcmp(class, "curvefit");
}

static int parse_metadata(const struct model_archive *archive, struct offer *o, json_t **ret, struct err *e)
{
        const struct model_entry *entry = model_archive_find(archive, "metadata.json");
        CLEANUP(json_decrefp) json_t *metadata = NULL;
        const char *text;
        int provenance, r;

        if (!entry || entry->size > METADATA_MAX)
                return err_set(e, -EBADMSG, "no metadata.json of at most %zu bytes", METADATA_MAX);
        r = json_parse(entry->data, entry->size, "metadata.json", &metadata, e);
        if (r < 0)
                return r;
        if (!json_is_object(metadata) || note_features(metadata, o) < 0)
                return err_set(e, -EBADMSG, "metadata.json is not an object with features");
        o->metadata = json_dumps(metadata, JSON_COMPACT);
        if (!o->metadata)
                return err_set(e, -ENOMEM, "out of memory");
        if (json_get_number(metadata, "mae", &o->mae, NULL) < 0)
                o->mae = NAN;
        o->wattloop = json_get_string(metadata, "model_class", &text, NULL) == 0 && !is_upstreams(text);
        o->ours = o->wattloop || json_object_get(metadata, "wattloop_version");
        o->rows = (uint64_t)json_integer_value(json_object_get(metadata, "rows"));
        provenance = json_get_string(metadata, "provenance", &text, NULL) == 0 ? provenance_find(text) : 0;
        /* A provenance that nobody knows is not measured. */
        o->provenance = provenance_names[provenance >= 0 ? provenance : PROVENANCE_ESTIMATED];
        *ret = TAKE(metadata);
        return 0;
}

/* {"cores": 4, …} with integers whatever the file has: Kepler's Go code refuses 4.0. NULL when there is none.
 */
static json_t *integer_spec(const struct pipeline *p, const struct offer *o, const json_t *metadata,
                            const json_t *index)
{
        const json_t *object = json_object_get(metadata, "machine_spec");
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

static int write_answer(const json_t *object, struct answer *ret, struct err *e)
{
        CLEANUP(buf_done) struct buf out = { 0 };

        buf_init(&out, 2 * MODEL_WEIGHT_MAX);
        if (json_write(object, &out) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        ret->text = realloc(out.data, out.size + 1); /* there are thousands of them */
        if (!ret->text)
                return err_set(e, -ENOMEM, "out of memory");
        out.data = NULL;
        ret->size = out.size;
        digest_of(ret->text, ret->size, ret->digest);
        return 0;
}

/* The two replies made of a weight object: components (and what was not measured says so), and the same with
 * the model's name, machine and error. */
static int make_weights(const struct pipeline *p, struct offer *o, const json_t *metadata,
                        const json_t *index, const json_t *weight, struct err *e)
{
        CLEANUP(json_decrefp) json_t *reply = json_object();
        json_t *value, *spec;
        const char *key;
        int r;

        json_object_foreach ((json_t *)(uintptr_t)weight, key, value)
                if (json_object_get(value, "All_Weights"))
                        (void)json_object_set(reply, key, value);
        if (!json_object_size(reply))
                return err_set(e, -EBADMSG, "weights of no component");
        if (strcmp(o->provenance, provenance_names[PROVENANCE_MEASURED]) != 0)
                (void)json_object_set_new(reply, "provenance", json_string(o->provenance));
        r = write_answer(reply, &o->weights, e);
        if (r < 0)
                return r;

        (void)json_object_set_new(reply, "model_name", json_string(o->name));
        if (!isnan(o->mae))
                (void)json_object_set_new(reply, "mae", json_real(o->mae));
        spec = integer_spec(p, o, metadata, index);
        if (spec)
                (void)json_object_set_new(reply, "machine_spec", spec);
        return write_answer(reply, &o->weights_named, e);
}

static int load_weights(const struct pipeline *p, struct offer *o, const struct model_archive *archive,
                        const char *beside, const json_t *metadata, const json_t *index, struct err *e)
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
        return r < 0 ? r : make_weights(p, o, metadata, index, weight, e);
}

/* Our own are kept when they are small: what the catalog tells of them stays true while the next ones are put
 * in their place on the disk. */
static int keep_archive(struct offer *o, const char *dir, const char *zip, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *archive = NULL;
        CLEANUP(buf_done) struct buf bytes = { 0 };
        int r;

        buf_init(&bytes, MODEL_ARCHIVE_MAX);
        r = file_read(zip, &bytes, e);
        if (r == 0)
                r = model_archive_read_dir(dir, &archive, e);
        if (r == -ENOENT || r == -ENOTDIR)
                r = model_archive_unpack(bytes.data, bytes.size, &archive, e);
        if (r == 0)
                r = model_archive_id(archive, o->content_id);
        if (r < 0)
                return r;
        if (bytes.size > KEEP_MAX)
                return 0;
        o->archive.size = bytes.size;
        o->archive.text = TAKE(bytes.data);
        digest_of(o->archive.text, o->archive.size, o->archive.digest);
        return 0;
}

static int load_archive(struct offer *o, const char *dir, const char *zip, struct err *e)
{
        struct stat st;

        if (stat(zip, &st) < 0)
                return errno == ENOENT ? 0 : err_sys(e, "cannot stat '%s'", zip);
        o->archive_time = st.st_mtime;
        o->archive_path = strdup(zip);
        if (!o->archive_path)
                return err_set(e, -ENOMEM, "out of memory");
        return o->ours ? keep_archive(o, dir, zip, e) : 0;
}

static int load_offer(const struct pipeline *p, const char *group_dir, struct offer *o, const json_t *index,
                      struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *archive = NULL;
        CLEANUP(json_decrefp) json_t *metadata = NULL;
        char dir[CATALOG_PATH_MAX], zip[CATALOG_PATH_MAX + 8], beside[CATALOG_PATH_MAX + 8];
        int r = path_join(dir, sizeof(dir), group_dir, o->name);

        if (r < 0)
                return err_set(e, r, "path too long");
        (void)snprintf(zip, sizeof(zip), "%s.zip", dir); /* both fit: dir does */
        (void)snprintf(beside, sizeof(beside), "%s.json", dir);
        r = read_entries(dir, zip, &archive, e);
        if (r == 0)
                r = parse_metadata(archive, o, &metadata, e);
        if (r == 0)
                r = load_weights(p, o, archive, beside, metadata, index, e);
        if (r == 0)
                r = load_archive(o, dir, zip, e);
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
        p->own_features |= o.features != NULL;
        p->offers[p->n++] = o;
        return 0;
}

int pipeline_not_hidden(const struct dirent *d)
{
        return d->d_name[0] != '.';
}

/* Model names of a group: directories, and zips without one. */
static int load_group(struct pipeline *p, const char *group_dir, const struct offer *like,
                      const json_t *index, struct err *e)
{
        struct dirent **list = NULL;
        int n = scandir(group_dir, &list, pipeline_not_hidden, alphasort), r = 0;

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

/* A source's directory had other names in v0.6 and the first v0.7; the newest that is there counts. */
static const char *const old_names[][3] = { { "rapl-sysfs", "intel_rapl", "rapl" } };

static int find_source_dir(const char *dir, const struct energy_source *source, char *ret, size_t size)
{
        struct stat st;

        if (path_join(ret, size, dir, source->name) < 0)
                return -ENAMETOOLONG;
        for (size_t i = 0; stat(ret, &st) < 0 && i < ARRAY_SIZE(old_names); i++)
                for (int k = 1; !strcmp(old_names[i][0], source->name) && k < 3 && stat(ret, &st) < 0; k++)
                        (void)path_join(ret, size, dir, old_names[i][k]);
        return 0;
}

static int load_offers(struct pipeline *p, const char *dir, const json_t *index, struct err *e)
{
        char source_dir[CATALOG_PATH_MAX], group_dir[CATALOG_PATH_MAX];
        int r;

        for (size_t s = 0; s < energy_sources_n; s++) {
                if (find_source_dir(dir, &energy_sources[s], source_dir, sizeof(source_dir)) < 0)
                        return err_set(e, -ENAMETOOLONG, "path too long");
                for (int t = 0; t < OUTPUT_TYPES; t++)
                        for (size_t g = 0; g < GROUPS_MAX; g++) {
                                struct offer like = { .source = &energy_sources[s],
                                                      .output_type = t,
                                                      .group = (int)g };

                                p->first[range_index(like.source, t, like.group)] = p->n;
                                if (g >= feature_groups_n)
                                        continue;
                                if (snprintf(group_dir, sizeof(group_dir), "%s/%s/%s", source_dir,
                                             output_types[t],
                                             feature_groups[g].name) >= (int)sizeof(group_dir))
                                        return err_set(e, -ENAMETOOLONG, "path too long");
                                r = load_group(p, group_dir, &like, index, e);
                                if (r < 0)
                                        return r;
                        }
        }
        for (size_t i = energy_sources_n * OUTPUT_TYPES * GROUPS_MAX; i < ARRAY_SIZE(p->first); i++)
                p->first[i] = p->n;
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
