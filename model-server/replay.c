/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/replay.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "config/cli.h"
#include "model-server/learn/ledger.h"
#include "model-server/server.h"

struct wanted {
        json_t *metadata;
        char content_id[65];
};

static int take_model(const struct ledger_model *m, void *arg, struct err *e)
{
        struct wanted *w = arg;

        (void)snprintf(w->content_id, sizeof(w->content_id), "%s", m->content_id);
        return json_parse(m->metadata, strlen(m->metadata), "metadata", &w->metadata, e);
}

static int from_archive(const char *path, struct wanted *w, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *archive = NULL;
        CLEANUP(buf_done) struct buf bytes = { 0 };
        const struct model_entry *entry;
        int r;

        buf_init(&bytes, MODEL_ARCHIVE_MAX);
        r = file_read(path, &bytes, e);
        if (r == 0)
                r = model_archive_unpack(bytes.data, bytes.size, &archive, e);
        if (r == 0)
                r = model_archive_id(archive, w->content_id);
        if (r < 0)
                return r;
        entry = model_archive_find(archive, "metadata.json");
        if (!entry)
                return err_set(e, -EBADMSG, "'%s' has no metadata.json", path);
        return json_parse(entry->data, entry->size, "metadata.json", &w->metadata, e);
}

static int find_model(const struct options *o, const char *name, struct wanted *w, struct err *e)
{
        CLEANUP(ledger_closep) struct ledger *ledger = NULL;
        char path[SERVER_PATH_MAX];
        struct stat st;
        int r;

        if (stat(name, &st) == 0)
                return from_archive(name, w, e);
        r = server_ledger_path(o, path, e);
        if (r == 0)
                r = ledger_open_read_only(path, &ledger, e);
        if (r == 0)
                r = ledger_find(ledger, name, take_model, w, e);
        if (r == 0 && !w->metadata)
                r = err_set(e, -ENOENT, "'%.80s' is neither a file nor the content id of a model made here",
                            name);
        return r < 0 ? r : 0;
}

static int write_archive(const struct artifact *a, const char *path, struct err *e)
{
        CLEANUP(buf_done) struct buf zip = { 0 };
        int r;

        buf_init(&zip, MODEL_ARCHIVE_MAX);
        r = model_archive_pack(a->archive, &zip, e);
        return r < 0 ? r : file_write_atomic(path, zip.data, zip.size, 0644, e);
}

static bool excludes_more(const struct options *o, const json_t *metadata)
{
        const json_t *nodes = json_object_get(metadata, "nodes");

        for (size_t i = 0; i < json_array_size(nodes); i++) {
                const char *id = json_string_value(json_array_get(nodes, i));

                if (id && string_list_has(&o->exclude_nodes, id))
                        return true;
        }
        return false;
}

int replay(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        CLEANUP(artifact_freep) struct artifact *made = NULL;
        CLEANUP(buf_done) struct buf differs = { 0 };
        struct learn_settings settings;
        struct wanted w = { 0 };
        bool same, anew;
        struct err e;
        int r = find_model(o, argv[0], &w, &e);

        buf_init(&differs, 1 << 20);
        server_learn_settings(o, &settings);
        anew = r == 0 && excludes_more(o, w.metadata);
        if (r == 0)
                r = learn_replay(&settings, w.metadata, anew ? &o->exclude_nodes : NULL, &made, &differs, &e);
        if (r == 0 && argc > 1)
                r = write_archive(made, argv[1], &e);
        json_decref(w.metadata);
        if (r < 0)
                return log_error(r, "cannot replay '%s': %s", argv[0], e.text);

        same = !strcmp(made->content_id, w.content_id);
        printf("%s %s, %lld rows\n", made->name, made->content_id, artifact_number(made, "rows"));
        if (anew)
                printf("made anew without the excluded nodes\n");
        else if (same)
                printf("the same, bit for bit\n");
        else
                printf("differs from %s:\n%s", w.content_id,
                       differs.size ? differs.data
                                    : "only the weights: other libraries or another processor\n");
        return same || anew ? EXIT_DONE : EXIT_FAILED;
}
