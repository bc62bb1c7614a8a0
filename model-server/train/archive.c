/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/train/archive.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "schema/vocabulary.h"

#define ARCHIVE_VERSION 1
#define JSON_MAX        ((size_t)4 << 20) /* bytes of one JSON entry */

int archive_add(struct model_archive *a, const char *name, const void *data, size_t size, struct err *e)
{
        struct model_entry *entry = &a->entries[a->n];

        if (a->n == MODEL_ENTRIES_MAX)
                return err_set(e, -E2BIG, "more than %d files in an archive", MODEL_ENTRIES_MAX);
        if (snprintf(entry->name, sizeof(entry->name), "%s", name) >= (int)sizeof(entry->name))
                return err_set(e, -ENAMETOOLONG, "'%.100s…' is too long for a file in an archive", name);
        entry->data = calloc(1, size + 1);
        if (!entry->data)
                return err_set(e, -ENOMEM, "out of memory");
        memcpy(entry->data, data, size);
        entry->size = size;
        a->n++;
        return 0;
}

int archive_add_json(struct model_archive *a, const char *name, const json_t *document, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        int r;

        buf_init(&text, JSON_MAX);
        r = document ? json_write(document, &text) : -ENOMEM; /* jansson passes NULL on */
        if (r < 0)
                return err_set(e, r, "cannot write '%.100s': %s", name, strerror(-r));
        return archive_add(a, name, text.data, text.size, e);
}

static json_t *name_list(const char *const *names, size_t n)
{
        json_t *list = json_array();

        for (size_t i = 0; i < n; i++)
                (void)json_array_append_new(list, json_string(names[i]));
        return list;
}

static json_t *make_map(const struct archive_component *c, size_t n)
{
        json_t *map = json_object();

        for (size_t i = 0; i < n; i++) {
                char file[MODEL_ENTRY_NAME_MAX];

                (void)snprintf(file, sizeof(file), "%s.json", c[i].name);
                (void)json_object_set_new(map, c[i].name,
                                          json_pack("{s:s, s:o, s:[]}", "model_file",
                                                    c[i].file ? c[i].file : file, "features",
                                                    name_list(c[i].features, c[i].n_features), "fe_files"));
        }
        return map;
}

static void set_error(json_t *o, const char *component, const char *what, double v)
{
        char key[64];

        (void)snprintf(key, sizeof(key), "%s%s%s", component, *component ? "_" : "", what);
        if (isfinite(v))
                (void)json_object_set_new(o, key, json_real(round(v * 100) / 100));
}

static json_t *make_metadata(const struct archive_head *h, const char *name, const char *map,
                             const struct archive_component *c, size_t n)
{
        json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:o, s:[], s:s, s:i, s:s, s:I, s:i}", "model_name", name,
                              "trainer", h->trainer, "model_class", h->model_class, "model_file", map,
                              "features", name_list(h->features, h->n_features), "fe_files", "output_type",
                              h->output_type, "node_type", h->node_type, "provenance", h->provenance, "rows",
                              (json_int_t)h->rows, "wattloop_version", ARCHIVE_VERSION);
        double mae = NAN, mape = -1;

        for (size_t i = 0; i < n; i++) {
                mae = fmax(mae, c[i].mae); /* fmax() passes NaN over */
                mape = fmax(mape, c[i].mape);
                set_error(o, c[i].name, "mae", c[i].mae);
                set_error(o, c[i].name, "mape", isfinite(c[i].mae) ? c[i].mape : NAN);
        }
        set_error(o, "", "mae", mae);
        set_error(o, "", "mape", isfinite(mae) ? mape : NAN);
        if (h->extra)
                (void)json_object_update_missing(o, (json_t *)(uintptr_t)h->extra); /* reads only */
        return o;
}

int archive_finish(struct model_archive *a, const struct archive_head *h, const struct archive_component *c,
                   size_t n, struct err *e)
{
        CLEANUP(json_decrefp) json_t *map = make_map(c, n), *metadata = NULL;
        char name[MODEL_NAME_MAX], file[MODEL_NAME_MAX + 8];
        int r;

        if (snprintf(name, sizeof(name), "%s_%d", h->trainer, h->node_type) >= (int)sizeof(name))
                return err_set(e, -ENAMETOOLONG, "trainer '%.60s…' has too long a name", h->trainer);
        (void)snprintf(file, sizeof(file), "%s.json", name);
        metadata = make_metadata(h, name, file, c, n);
        r = archive_add_json(a, file, map, e);
        return r < 0 ? r : archive_add_json(a, "metadata.json", metadata, e);
}
