/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/store.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"
#include "schema/vocabulary.h"

#define OUTPUT_TYPES 2
#define NOTE         "wattloop.json"
#define NOTE_MAX     ((size_t)64 << 10)
#define WEIGHT_FILE  "weight.json"
#define ZIP_MAGIC    "PK"

/* Preferred first. */
static const char *const store_forms[] = { "archive", "weight" };

/* ---- slots and sets ---- */

size_t models_slots(void)
{
        assert(energy_sources_n * OUTPUT_TYPES <= MODELS_SLOTS_MAX);
        return energy_sources_n * OUTPUT_TYPES;
}

const char *models_slot_source(size_t slot)
{
        return energy_sources[slot / OUTPUT_TYPES].name;
}

const char *models_slot_output_type(size_t slot)
{
        return output_types[slot % OUTPUT_TYPES];
}

const char *models_form(size_t i)
{
        return i < ARRAY_SIZE(store_forms) ? store_forms[i] : NULL;
}

struct loaded_model *models_find(const struct models *models, const char *source, const char *output_type)
{
        const struct energy_source *known = energy_source_find(source);

        if (!known)
                return NULL;
        for (size_t t = 0; t < OUTPUT_TYPES; t++)
                if (!strcmp(output_types[t], output_type))
                        return models->slots[(size_t)(known - energy_sources) * OUTPUT_TYPES + t];
        return NULL;
}

static void loaded_unref(struct loaded_model *l)
{
        if (!l || atomic_fetch_sub(&l->refs, 1) > 1)
                return;
        model_free(l->model);
        free(l);
}
CLEANUP_DEFINE(struct loaded_model *, loaded_unref);

static struct loaded_model *loaded_ref(struct loaded_model *l)
{
        if (l)
                atomic_fetch_add(&l->refs, 1);
        return l;
}

void models_free(struct models *models)
{
        if (!models)
                return;
        for (size_t i = 0; i < MODELS_SLOTS_MAX; i++)
                loaded_unref(models->slots[i]);
        free(models);
}

static void refuse(struct models *models, const char *path, const struct err *why)
{
        struct refused_model *r;

        if (models->n_refused == MODELS_REFUSED_MAX) /* cannot be: one per slot and form */
                return;
        r = &models->refused[models->n_refused++];
        (void)snprintf(r->path, sizeof(r->path), "%s", path);
        r->error = *why;
}

/* ---- one model ---- */

/* The model's name as the updater noted it, for weights that do not say it themselves. */
static void read_note(const char *dir, char ret_name[MODEL_NAME_MAX])
{
        CLEANUP(json_decrefp) json_t *note = NULL;
        char path[PATH_MAX];
        const char *name;

        ret_name[0] = '\0';
        if (path_join(path, sizeof(path), dir, NOTE) < 0 ||
            json_parse_file(path, NOTE_MAX, &note, NULL) < 0 ||
            json_get_string(note, "model_name", &name, NULL) < 0)
                return; /* a note is a help, not a part of the model */
        if (strlen(name) < MODEL_NAME_MAX)
                memcpy(ret_name, name, strlen(name) + 1);
}

static int load_entries(const struct model_archive *archive, const char *dir,
                        const struct model_load_options *how, struct model **ret, struct err *e)
{
        const struct model_entry *weight = model_archive_find(archive, WEIGHT_FILE);
        char name[MODEL_NAME_MAX] = "";

        if (!weight || model_archive_find(archive, "metadata.json"))
                return model_load_archive_with(archive, how, ret, e);
        if (dir)
                read_note(dir, name);
        return model_load_weight(weight->data, weight->size, name, ret, e);
}

static int loaded_new(struct model *model, const char *form, struct loaded_model **ret, struct err *e)
{
        struct loaded_model *l = calloc(1, sizeof(*l));

        if (!l) {
                model_free(model);
                return err_set(e, -ENOMEM, "out of memory");
        }
        l->model = model;
        l->form = form;
        l->loaded_ms = clock_wall_ms();
        atomic_init(&l->refs, 1);
        *ret = l;
        return 0;
}

/* A directory of entries; `id` is what its content must hash to, or NULL. */
static int load_dir(const char *dir, const char *id, const char *form, const struct model_load_options *how,
                    struct loaded_model **ret, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *archive = NULL;
        CLEANUP(loaded_unrefp) struct loaded_model *l = NULL;
        uint64_t begin_ns = clock_monotonic_ns();
        struct model *model;
        int r;

        r = model_archive_read_dir(dir, &archive, e);
        if (r < 0)
                return r;
        r = load_entries(archive, dir, how, &model, e);
        if (r < 0)
                return r;
        r = loaded_new(model, form, &l, e);
        if (r < 0)
                return r;
        r = model_archive_id(archive, l->id);
        if (r < 0)
                return err_set(e, r, "cannot hash the entries");
        if (id && strcmp(id, l->id))
                return err_set(e, -EBADMSG, "content is not what its id says (it hashes to %.16s...)", l->id);
        r = model_check(l->model, e);
        if (r < 0)
                return r;
        l->load_us = (clock_monotonic_ns() - begin_ns) / 1000;
        *ret = TAKE(l);
        return 0;
}

/* ---- the store ---- */

static bool is_id(const char *s)
{
        return strlen(s) == HASH_HEX_SIZE - 1 && s[strspn(s, "0123456789abcdef")] == '\0';
}

/* The id that <form>/current names. -ENOENT: there is none. */
static int read_current(const char *form_dir, char ret_id[HASH_HEX_SIZE], struct err *e)
{
        char link[PATH_MAX], target[PATH_MAX];
        ssize_t n;

        if (path_join(link, sizeof(link), form_dir, "current") < 0)
                return err_set(e, -ENAMETOOLONG, "the store's path is too long");
        n = readlink(link, target, sizeof(target) - 1);
        if (n < 0 && (errno == ENOENT || errno == ENOTDIR))
                return -ENOENT;
        if (n < 0)
                return err_sys(e, "cannot read the link 'current'");
        target[n] = '\0';
        if (!is_id(target))
                return err_set(e, -EBADMSG, "'current' names '%.80s', which is not a model id", target);
        memcpy(ret_id, target, HASH_HEX_SIZE);
        return 0;
}

/* A model in the wrong place would answer with watts of something else. */
static int check_place(const struct model *m, size_t slot, struct err *e)
{
        const char *type = model_output_type(m);
        const struct energy_source *source = energy_source_find(models_slot_source(slot));

        if (*type && strcmp(type, models_slot_output_type(slot)))
                return err_set(e, -EBADMSG, "model '%.100s' is for %s", model_name(m), type);
        for (size_t i = 0; i < model_components(m); i++) {
                size_t c = 0;

                while (c < source->n && strcmp(source->components[c], model_component(m, i)))
                        c++;
                if (c == source->n)
                        return err_set(e, -EBADMSG, "model '%.100s' has component %s, which %s has not",
                                       model_name(m), model_component(m, i), source->name);
        }
        return 0;
}

/* One form of one slot. `ret_path` names what was tried, for the refusal. -ENOENT: the store has none. */
static int load_form(const char *store, size_t slot, const char *form, const struct model_load_options *how,
                     struct loaded_model *previous, struct loaded_model **ret, char ret_path[PATH_MAX],
                     struct err *e)
{
        CLEANUP(loaded_unrefp) struct loaded_model *l = NULL;
        char form_dir[PATH_MAX], id[HASH_HEX_SIZE];
        int r;

        if (snprintf(form_dir, sizeof(form_dir), "%s/%s/%s/%s", store, models_slot_source(slot),
                     models_slot_output_type(slot), form) >= (int)sizeof(form_dir) ||
            snprintf(ret_path, PATH_MAX, "%s", form_dir) >= PATH_MAX)
                return err_set(e, -ENAMETOOLONG, "the store's path is too long");
        r = read_current(form_dir, id, e);
        if (r < 0)
                return r;
        if (previous && !strcmp(previous->form, form) && !strcmp(previous->id, id)) {
                *ret = loaded_ref(previous); /* what is under an id never changes */
                return 0;
        }

        if (path_join(ret_path, PATH_MAX, form_dir, id) < 0)
                return err_set(e, -ENAMETOOLONG, "the store's path is too long");
        r = load_dir(ret_path, id, form, how, &l, e);
        if (r == -ENOENT)
                r = -EBADMSG; /* `current` leads nowhere: not the same as none */
        if (r < 0)
                return r;
        r = check_place(l->model, slot, e);
        if (r < 0)
                return r;
        *ret = TAKE(l);
        return 0;
}

/* The preferred form that is there. When it is refused, the model of that form that served goes on; without
 * one the next form has its turn. */
static int load_slot(const char *store, size_t slot, struct loaded_model *previous, struct models *models)
{
        bool refused = false;

        for (size_t f = 0; f < ARRAY_SIZE(store_forms) && !models->slots[slot]; f++) {
                char path[PATH_MAX] = "";
                struct err e = { 0 };
                int r;

                r = load_form(store, slot, store_forms[f], &models->how, previous, &models->slots[slot], path,
                              &e);
                if (r == -ENOMEM)
                        return r;
                if (r == 0 || r == -ENOENT)
                        continue;
                refuse(models, path, &e);
                refused = true;
                if (previous &&
                    previous->form == store_forms[f]) /* do not step down because of one bad update */
                        break;
        }
        if (refused && !models->slots[slot])
                models->slots[slot] = loaded_ref(previous);
        return 0;
}

static int load_set(const char *store, const struct model_load_options *how, const struct models *previous,
                    struct models **ret, struct err *e)
{
        CLEANUP(models_freep) struct models *models = calloc(1, sizeof(*models));

        if (!models)
                return err_set(e, -ENOMEM, "out of memory");
        models->how = *how;
        for (size_t i = 0; i < models_slots(); i++) {
                int r = load_slot(store, i, previous ? previous->slots[i] : NULL, models);

                if (r < 0)
                        return err_set(e, r, "out of memory");
        }
        *ret = TAKE(models);
        return 0;
}

static const struct model_load_options usual = { .curve_index = MODEL_CURVE_FITTED };

int models_load(const char *store, const struct models *previous, struct models **ret, struct err *e)
{
        return load_set(store, previous ? &previous->how : &usual, previous, ret, e);
}

int models_load_first(const char *store, const struct model_load_options *how, struct models **ret,
                      struct err *e)
{
        return load_set(store, how, NULL, ret, e);
}

/* ---- one model without a store ---- */

/* "dir/SGDRegressorTrainer_3.json" -> "SGDRegressorTrainer_3" */
static void name_of_file(const char *path, char ret[MODEL_NAME_MAX])
{
        const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
        size_t n = strcspn(base, ".");

        if (n >= MODEL_NAME_MAX)
                n = MODEL_NAME_MAX - 1;
        memcpy(ret, base, n);
        ret[n] = '\0';
}

static int load_zip(const struct buf *file, const struct model_load_options *how, struct loaded_model **ret,
                    struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *archive = NULL;
        struct model *model;
        int r;

        r = model_archive_unpack(file->data, file->size, &archive, e);
        if (r < 0)
                return r;
        r = load_entries(archive, NULL, how, &model, e);
        if (r < 0)
                return r;
        r = loaded_new(model, "file", ret, e);
        if (r < 0)
                return r;
        return model_archive_id(archive, (*ret)->id);
}

static int load_weight_file(const char *path, const struct buf *file, struct loaded_model **ret,
                            struct err *e)
{
        struct hash_entry entry = { WEIGHT_FILE, file->data, file->size };
        char name[MODEL_NAME_MAX];
        struct model *model;
        int r;

        name_of_file(path, name);
        r = model_load_weight(file->data ? file->data : "", file->size, name, &model, e);
        if (r < 0)
                return r;
        r = loaded_new(model, "file", ret, e);
        if (r < 0)
                return r;
        return hash_entries_hex(&entry, 1, (*ret)->id); /* as a store would name it */
}

static int load_path(const char *path, const struct model_load_options *how, struct loaded_model **ret,
                     struct err *e)
{
        CLEANUP(buf_done) struct buf file = { .max = MODEL_ARCHIVE_MAX };
        struct stat st;
        int r;

        if (stat(path, &st) < 0)
                return err_sys(e, "cannot read '%s'", path);
        if (S_ISDIR(st.st_mode))
                return load_dir(path, NULL, "file", how, ret, e);
        r = file_read(path, &file, e);
        if (r < 0)
                return r;
        if (file.size >= strlen(ZIP_MAGIC) && !memcmp(file.data, ZIP_MAGIC, strlen(ZIP_MAGIC)))
                r = load_zip(&file, how, ret, e);
        else
                r = load_weight_file(path, &file, ret, e);
        return r < 0 ? err_prefix(e, r, "'%s'", path) : 0;
}

int models_load_one(const char *path, struct models **ret, struct err *e)
{
        return models_load_one_with(path, &usual, ret, e);
}

int models_load_one_with(const char *path, const struct model_load_options *how, struct models **ret,
                         struct err *e)
{
        CLEANUP(models_freep) struct models *models = calloc(1, sizeof(*models));
        CLEANUP(loaded_unrefp) struct loaded_model *l = NULL;
        const char *type;
        int r;

        if (!models)
                return err_set(e, -ENOMEM, "out of memory");
        r = load_path(path, how, &l, e);
        if (r < 0)
                return r;
        r = model_check(l->model, e);
        if (r < 0)
                return r;
        type = model_output_type(l->model);
        for (size_t i = 0; i < models_slots(); i++)
                if (!*type || !strcmp(type, models_slot_output_type(i)))
                        models->slots[i] = loaded_ref(l);
        *ret = TAKE(models);
        return 0;
}
