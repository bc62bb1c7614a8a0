/* SPDX-License-Identifier: Apache-2.0 */
/* A zip from anywhere: either refused, or plain entries, which are packed and unpacked to the same id and
 * perhaps make a model. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_entries(const struct model_archive *a)
{
        for (size_t i = 0; i < a->n; i++) {
                const struct model_entry *entry = &a->entries[i];

                if (!entry->name[0] || entry->name[0] == '.' || strchr(entry->name, '/') ||
                    ((const char *)entry->data)[entry->size] != '\0')
                        abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL, *again = NULL;
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(buf_done) struct buf zip = { .max = 2 * MODEL_UNPACKED_MAX };
        char id[65], id_again[65];
        struct err e;

        if (model_archive_unpack(data, size, &a, &e) < 0)
                return 0;
        check_entries(a);
        (void)model_load_archive(a, &m, &e);

        if (model_archive_id(a, id) < 0 || model_archive_pack(a, &zip, &e) < 0)
                abort();
        if (zip.size > MODEL_ARCHIVE_MAX)
                return 0;
        if (model_archive_unpack(zip.data, zip.size, &again, &e) < 0 ||
            model_archive_id(again, id_again) < 0 || strcmp(id, id_again))
                abort();
        return 0;
}
