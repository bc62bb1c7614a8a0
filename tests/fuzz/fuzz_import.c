/* SPDX-License-Identifier: Apache-2.0 */
/* An upload, as it came over the network: first byte odd: gzip. With low limits. */
#include <stdint.h>

#include "model-server/ingest/import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct import_settings settings = { { 1 << 20, 1000 }, 1000, 1u << PROVENANCE_MEASURED };

/* One database for all inputs, so that they meet what others left. */
static struct store *open_store(void)
{
        static const char *const names[] = { "", "-wal", "-shm", ".lock" };
        static struct store *store;
        char path[64];

        if (store)
                return store;
        (void)snprintf(path, sizeof(path), "/tmp/wattloop-fuzz-%d.db", (int)getpid());
        if (store_open(path, &store, NULL) < 0)
                abort();
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) { /* the files go with the process */
                (void)snprintf(path, sizeof(path), "/tmp/wattloop-fuzz-%d.db%s", (int)getpid(), names[i]);
                (void)unlink(path);
        }
        return store;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct upload upload = { .name = "" }, *uploads = &upload;

        if (!size)
                return 0;
        upload.data = data + 1;
        upload.size = size - 1;
        upload.gzip = *data & 1;
        import_uploads(open_store(), &settings, &uploads, 1, 1);
        if (upload.result == 0 &&
            upload.counts.added + upload.counts.duplicate + upload.counts.ignored != upload.counts.samples)
                abort();
        return 0;
}
