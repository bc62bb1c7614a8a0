/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/learn/artifact.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

int archive_put(struct model_archive *archive, const char *name, const void *data, size_t size, struct err *e)
{
        struct model_entry *entry = &archive->entries[archive->n];

        if (archive->n == MODEL_ENTRIES_MAX || strlen(name) >= sizeof(entry->name))
                return err_set(e, -E2BIG, "entry '%.64s': too many, or its name is too long", name);
        entry->data = calloc(1, size + 1);
        if (!entry->data)
                return err_set(e, -ENOMEM, "out of memory");
        if (size)
                memcpy(entry->data, data, size);
        (void)snprintf(entry->name, sizeof(entry->name), "%s", name);
        entry->size = size;
        archive->n++;
        return 0;
}

int archive_put_json(struct model_archive *archive, const char *name, const json_t *object, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };

        buf_init(&text, MODEL_UNPACKED_MAX);
        if (!object || json_write(object, &text) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        return archive_put(archive, name, text.data, text.size, e);
}

static int artifact_place(const struct place *place, struct artifact *a, struct err *e)
{
        a->source = place->source;
        a->output_type = place->output_type;
        a->group = place->group;
        a->node_type = place->node_type;
        if (snprintf(a->name, sizeof(a->name), "%s_%d", place->trainer, place->node_type) >=
            (int)sizeof(a->name))
                return err_set(e, -ENAMETOOLONG, "trainer '%.64s…': name too long", place->trainer);
        return 0;
}

int artifact_new(const struct place *place, json_t *metadata, struct model_archive *archive,
                 struct artifact **ret, struct err *e)
{
        CLEANUP(artifact_freep) struct artifact *a = calloc(1, sizeof(*a));
        int r;

        if (!a) {
                json_decref(metadata);
                model_archive_free(archive);
                return err_set(e, -ENOMEM, "out of memory");
        }
        a->metadata = metadata;
        a->archive = archive;
        r = artifact_place(place, a, e);
        if (r == 0)
                r = archive_put_json(archive, "metadata.json", metadata, e);
        if (r == 0)
                r = model_archive_id(archive, a->content_id);
        if (r < 0)
                return r;
        *ret = TAKE(a);
        return 0;
}

int artifact_unpack(const struct place *place, const void *zip, size_t size, struct artifact **ret,
                    struct err *e)
{
        CLEANUP(artifact_freep) struct artifact *a = calloc(1, sizeof(*a));
        const struct model_entry *entry;
        int r;

        if (!a)
                return err_set(e, -ENOMEM, "out of memory");
        r = artifact_place(place, a, e);
        if (r == 0)
                r = model_archive_unpack(zip, size, &a->archive, e);
        if (r < 0)
                return r;
        entry = model_archive_find(a->archive, "metadata.json");
        if (!entry)
                return err_set(e, -EBADMSG, "archive without metadata.json");
        r = json_parse(entry->data, entry->size, "metadata.json", &a->metadata, e);
        if (r == 0)
                r = model_archive_id(a->archive, a->content_id);
        if (r < 0)
                return r;
        *ret = TAKE(a);
        return 0;
}

void artifact_free(struct artifact *a)
{
        if (!a)
                return;
        json_decref(a->metadata);
        model_archive_free(a->archive);
        free(a);
}

const struct model_entry *artifact_weight(const struct artifact *a)
{
        return model_archive_find(a->archive, "weight.json");
}

double artifact_mae(const struct artifact *a)
{
        const json_t *mae = json_object_get(a->metadata, "mae");

        return json_is_number(mae) ? json_number_value(mae) : NAN;
}

const char *artifact_text(const struct artifact *a, const char *key)
{
        const char *text = json_string_value(json_object_get(a->metadata, key));

        return text ? text : "";
}

long long artifact_number(const struct artifact *a, const char *key)
{
        return json_integer_value(json_object_get(a->metadata, key));
}
