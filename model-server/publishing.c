/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/publishing.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "config/cli.h"
#include "model-server/options.h"
#include "model-server/serve/seal.h"
#include "model-server/serve/signer.h"
#include "model/model.h"

#define NOTE ".published" /* in models.path: a running server watches that folder and looks at once */

/* A model file that was read and understood. */
struct item {
        const char *path, *file; /* file: its name without folders */
        struct buf bytes;
        bool weight;
        struct model *model;
        char id[HASH_HEX_SIZE];
        const char *output_type;
        const char *source;
        const char *group;
};

static void item_done(struct item *item)
{
        buf_done(&item->bytes);
        model_free(item->model);
}

/* ---- what is it? ---- */

static bool group_has(const struct feature_group *g, const char *name)
{
        for (int i = 0; i < GROUP_FEATURES_MAX && g->features[i]; i++)
                if (!strcmp(g->features[i], name))
                        return true;
        return false;
}

/* The smallest group that has all of the model's features. */
static const char *find_group(const struct model *m)
{
        const struct feature_group *best = NULL;

        for (size_t g = 0; g < feature_groups_n; g++) {
                size_t n = 0;

                while (n < model_features(m) && group_has(&feature_groups[g], model_feature(m, n)))
                        n++;
                if (n == model_features(m) &&
                    (!best || group_features_n(&feature_groups[g]) < group_features_n(best)))
                        best = &feature_groups[g];
        }
        return best ? best->name : NULL;
}

static int load(struct item *item, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *entries = NULL;
        char stem[MODEL_NAME_MAX];
        int r;

        item->weight = item->bytes.size < 2 || memcmp(item->bytes.data, "PK", 2) != 0;
        if (item->weight) {
                (void)snprintf(stem, sizeof(stem), "%.*s", (int)strcspn(item->file, "."), item->file);
                r = model_load_weight(item->bytes.data ? item->bytes.data : "", item->bytes.size, stem,
                                      &item->model, e);
                return r < 0 ? r : seal_weight_id(item->bytes.data, item->bytes.size, item->id);
        }
        r = model_archive_unpack(item->bytes.data, item->bytes.size, &entries, e);
        if (r == 0)
                r = model_load_archive(entries, &item->model, e);
        return r < 0 ? r : model_archive_id(entries, item->id);
}

static int item_read(const char *path, struct item *ret, struct err *e)
{
        const char *slash = strrchr(path, '/');
        char trainer[MODEL_NAME_MAX];
        int node_type, r;

        *ret = (struct item){ .path = path, .file = slash ? slash + 1 : path };
        buf_init(&ret->bytes, MODEL_ARCHIVE_MAX);
        r = file_read(path, &ret->bytes, e);
        if (r == 0)
                r = load(ret, e);
        if (r < 0)
                return err_prefix(e, r, "%.150s", path);
        ret->output_type = *model_output_type(ret->model) ? model_output_type(ret->model) : output_types[0];
        ret->source = energy_source_of_component(model_component(ret->model, 0));
        ret->group = find_group(ret->model);
        if (!ret->source || !ret->group)
                return err_set(e, -EINVAL, "%.150s: %s", path,
                               ret->source ? "no feature group has all of the model's features"
                                           : "the model's first component is of no energy source");
        if (model_name_split(model_name(ret->model), trainer, &node_type) < 0 ||
            strchr(model_name(ret->model), '/'))
                return err_set(e, -EINVAL, "%.150s: '%.64s' is no name of a model", path,
                               model_name(ret->model));
        return 0;
}

/* ---- signing ---- */

static uint64_t last_version(const char *path)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        struct minisign_signature signature;
        struct statement s;

        buf_init(&text, MINISIGN_TEXT_MAX);
        return file_read(path, &text, NULL) == 0 &&
                               minisign_parse_signature(text.data ? text.data : "", text.size, &signature,
                                                        NULL) == 0 &&
                               statement_parse(signature.comment, &s, NULL) == 0
                       ? s.version
                       : 0;
}

static int sign(const struct options *o, const struct item *item, const char *target, struct err *e)
{
        CLEANUP(buf_done) struct buf comment = { 0 }, text = { 0 };
        int64_t now_s = clock_wall_ms() / 1000, life_s = (o->signing_expires_ms + 999) / 1000;
        struct statement s = { .time_s = now_s, .expires_s = life_s ? now_s + life_s : 0 };
        struct minisign_secret key;
        char path[PATH_MAX];
        int r;

        if (snprintf(path, sizeof(path), "%s.minisig", target) >= (int)sizeof(path))
                return err_set(e, -ENAMETOOLONG, "'%.100s...' is too long", target);
        r = signer_read_key(o->signing_key_file, &key, e);
        if (r < 0)
                return r;
        s.version = signer_next_version(last_version(path), now_s);
        memcpy(s.id, item->id, sizeof(s.id));
        (void)snprintf(s.slot, sizeof(s.slot), "%s/%s/%s", item->source, item->output_type,
                       item->weight ? "weight" : "archive");
        (void)snprintf(s.name, sizeof(s.name), "%s", model_name(item->model));
        buf_init(&comment, MINISIGN_COMMENT_MAX);
        buf_init(&text, MINISIGN_TEXT_MAX);
        r = statement_write(&s, &comment);
        r = r < 0 ? err_set(e, r, "out of memory")
                  : minisign_sign(&key, item->bytes.data, item->bytes.size, comment.data, &text, e);
        sodium_memzero(&key, sizeof(key));
        return r < 0 ? r : file_write_atomic(path, text.data, text.size, 0644, e);
}

/* ---- where it goes ---- */

/* The directory and name for it, made. */
static int make_target(const struct options *o, const struct item *item, char ret[PATH_MAX], struct err *e)
{
        char dir[PATH_MAX];
        int n, r;

        if (*o->out)
                n = snprintf(dir, sizeof(dir), "%s", o->out);
        else
                n = snprintf(dir, sizeof(dir), "%s/" PUBLISHED "/%s/%s/%s", o->models_path, item->source,
                             item->output_type, item->group);
        if (n >= PATH_MAX)
                return err_set(e, -ENAMETOOLONG, "the path is too long");
        r = file_mkdirs(dir, 0755, e);
        if (r < 0)
                return r;
        n = *o->out ? snprintf(ret, PATH_MAX, "%s/%s", dir, item->file)
                    : snprintf(ret, PATH_MAX, "%s/%s.zip", dir, model_name(item->model));
        return n < PATH_MAX ? 0 : err_set(e, -ENAMETOOLONG, "the path is too long");
}

/* The pipeline exists from its first model on; a running server is told by the note. */
static int announce(const struct options *o, const struct item *item, struct err *e)
{
        static const char metadata[] = "{\"name\": \"" PUBLISHED "\"}\n";
        char path[PATH_MAX];
        int r = 0;

        if (snprintf(path, sizeof(path), "%s/" PUBLISHED "/metadata.json", o->models_path) >= PATH_MAX)
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        if (access(path, F_OK) < 0)
                r = file_write_atomic(path, metadata, strlen(metadata), 0644, e);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "%s/" NOTE, o->models_path); /* shorter than the one before */
        return file_write_atomic(path, item->id, strlen(item->id), 0644, e);
}

static int publish(const struct options *o, const struct item *item, struct err *e)
{
        char target[PATH_MAX];
        bool in_pipeline = !*o->out && !item->weight;
        int r;

        if (!*o->out && item->weight && !o->sign)
                return err_set(e, -EINVAL,
                               "%.150s: a weight file cannot be served by itself; publish its archive",
                               item->path);
        if (in_pipeline || *o->out) {
                r = make_target(o, item, target, e);
                if (r == 0)
                        r = file_write_atomic(target, item->bytes.data, item->bytes.size, 0644, e);
                if (r == 0 && in_pipeline)
                        r = announce(o, item, e);
                if (r < 0)
                        return r;
        }
        r = o->sign ? sign(o, item, *o->out ? target : item->path, e) : 0;
        if (r == 0)
                (void)printf("%s %.12s: %s/%s/%s%s%s%s\n", model_name(item->model), item->id, item->source,
                             item->output_type, item->weight ? "weight" : "archive",
                             in_pipeline || *o->out ? ", in " : "", in_pipeline || *o->out ? target : "",
                             o->sign ? ", signed" : "");
        return r;
}

int publish_run(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        struct err e = { "" };

        if (o->sign && !*o->signing_key_file) {
                (void)log_error(-EINVAL, "--sign needs signing.key_file; 'keys make FILE' makes one");
                return EXIT_MISUSE;
        }
        for (int i = 0; i < argc; i++) {
                CLEANUP(item_done) struct item item = { 0 };
                int r = item_read(argv[i], &item, &e);

                if (r == 0)
                        r = publish(o, &item, &e);
                if (r < 0)
                        return log_error(r, "%s", e.text);
        }
        return EXIT_DONE;
}
