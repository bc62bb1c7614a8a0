/* SPDX-License-Identifier: Apache-2.0 */
/* What `convert` reads, from anywhere: model.json of TensorFlow.js beside a file of weights, or an HDF5 file
 * (which begins with its signature). Either refused, or a network that the node accepts or refuses. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/json.h"
#include "model-server/convert/keras.h"

#define WEIGHTS 4096 /* bytes beside every model.json */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *directory(void)
{
        static char path[] = "/tmp/wattloop-fuzz-XXXXXX";
        static bool made;
        char name[64], weights[WEIGHTS] = { 0 };

        if (made)
                return path;
        if (!mkdtemp(path))
                abort();
        (void)snprintf(name, sizeof(name), "%s/weights.bin", path);
        if (file_write_atomic(name, weights, sizeof(weights), 0600, NULL) < 0)
                abort();
        made = true;
        return path;
}

static int read_json(const uint8_t *data, size_t size, struct saved *saved, struct err *e)
{
        char path[64];
        FILE *f;

        (void)snprintf(path, sizeof(path), "%s/model.json", directory());
        f = fopen(path, "we");
        if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
                abort();
        return tfjs_read(path, saved, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct scaling none = { 0 };
        char *names[] = { "a", "b", "c", "d" }, *components[] = { "package" };
        struct string_list four = { names, 4 }, one = { components, 1 };
        CLEANUP(network_document_done) struct network_document d = { 0 };
        CLEANUP(saved_done) struct saved saved = { 0 };
        CLEANUP(json_decrefp) json_t *network = NULL;
        CLEANUP(buf_done) struct buf text = { .max = NETWORK_JSON_MAX };
        CLEANUP(plan_freep) struct plan *plan = NULL;
        bool hdf5 = size > 4 && !memcmp(data, "\x89HDF", 4);
        struct err e;

        if ((hdf5 ? keras_hdf5_parse(data, size, &saved, &e) : read_json(data, size, &saved, &e)) < 0)
                return 0;
        if (keras_convert(&saved, &four, &one, &none, &network, &e) == 0 && json_write(network, &text) == 0)
                (void)network_read(text.data, text.size, &plan, &d, &e);
        return 0;
}
