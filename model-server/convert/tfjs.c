/* SPDX-License-Identifier: Apache-2.0 */
/* Layers models of TensorFlow.js: model.json and, beside it, the shards that its weightsManifest names. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "model-server/convert/tensors.h"

/* A shard's name is a plain file beside model.json: a path could name anything on this machine. */
static int read_shards(const char *path, const json_t *paths, struct buf *out, struct err *e)
{
        const char *slash = strrchr(path, '/');
        char shard[PATH_MAX];

        for (size_t i = 0; i < json_array_size(paths); i++) {
                const char *name = json_string_value(json_array_get(paths, i));
                int r;

                if (!name || !*name || *name == '.' || strchr(name, '/'))
                        return err_set(e, -EBADMSG, "weightsManifest: '%.60s' is not a plain file name",
                                       name ? name : "");
                if (snprintf(shard, sizeof(shard), "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path,
                             name) >= (int)sizeof(shard))
                        return err_set(e, -ENAMETOOLONG, "the path is too long");
                r = file_read(shard, out, e);
                if (r < 0)
                        return err_prefix(e, r, "weights");
        }
        return 0;
}

static int add_weight(struct saved *s, const json_t *o, const struct buf *bytes, size_t *at, struct err *e)
{
        const char *name = NULL, *dtype = NULL;
        const json_t *shape = json_object_get(o, "shape");
        size_t dim[TENSOR_RANK_MAX] = { 0 }, rank = json_array_size(shape);
        struct tensor *t = NULL;
        int r;

        if (json_get_string(o, "name", &name, e) < 0 || json_get_string(o, "dtype", &dtype, e) < 0)
                return err_prefix(e, -EBADMSG, "weightsManifest");
        if (strcmp(dtype, "float32"))
                return err_set(e, -ENOTSUP, "weight '%.60s' has dtype '%.40s'; only float32 is supported",
                               name, dtype);
        if (json_object_get(o, "quantization"))
                return err_set(e, -ENOTSUP, "weight '%.60s' is quantized; save without quantization", name);
        if (!json_is_array(shape) || rank > TENSOR_RANK_MAX)
                return err_set(e, -EBADMSG, "weight '%.60s' has no usable shape", name);
        for (size_t i = 0; i < rank; i++) {
                const json_t *d = json_array_get(shape, i);

                if (!json_is_integer(d) || json_integer_value(d) < 0)
                        return err_set(e, -EBADMSG, "weight '%.60s' has no usable shape", name);
                dim[i] = (size_t)json_integer_value(d);
        }
        r = saved_add(s, name, dim, rank, &t, e);
        if (r < 0)
                return r;
        if (t->n * sizeof(float) > bytes->size - *at)
                return err_set(e, -EBADMSG, "weight '%.60s' is cut: its file ends before it", name);
        for (size_t i = 0; i < t->n; i++, *at += sizeof(float)) {
                const unsigned char *b = (const unsigned char *)bytes->data + *at;
                uint32_t bits = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;

                memcpy(&t->data[i], &bits, sizeof(bits));
        }
        return 0;
}

static int read_group(const char *path, struct saved *s, const json_t *group, struct err *e)
{
        CLEANUP(buf_done) struct buf bytes = { .max = SAVED_WEIGHTS_MAX };
        const json_t *weights = json_object_get(group, "weights");
        size_t at = 0;
        int r = read_shards(path, json_object_get(group, "paths"), &bytes, e);

        for (size_t i = 0; r == 0 && i < json_array_size(weights); i++)
                r = add_weight(s, json_array_get(weights, i), &bytes, &at, e);
        if (r == 0 && at != bytes.size)
                r = err_set(e, -EBADMSG, "the files of weights have %zu bytes too many", bytes.size - at);
        return r;
}

int tfjs_read(const char *path, struct saved *ret, struct err *e)
{
        CLEANUP(json_decrefp) json_t *o = NULL;
        const json_t *topology, *manifest;
        const char *version;
        json_t *config;
        int r = json_parse_file(path, SAVED_CONFIG_MAX, &o, e);

        if (r < 0)
                return r;
        topology = json_object_get(o, "modelTopology");
        manifest = json_object_get(o, "weightsManifest");
        if (!json_is_object(topology) || !json_is_array(manifest))
                return err_set(e, -ENOTSUP,
                               "no layers model of TensorFlow.js: modelTopology or "
                               "weightsManifest is missing");
        if (json_object_get(topology, "node"))
                return err_set(e, -ENOTSUP, "a graph model of TensorFlow.js; save a layers model");
        config = json_object_get(topology, "model_config");
        version = json_string_value(json_object_get(topology, "keras_version"));
        ret->keras = version && *version == '3' ? 3 : 2;
        ret->config = json_incref(config ? config : (json_t *)(uintptr_t)topology); /* counts only */
        for (size_t i = 0; r == 0 && i < json_array_size(manifest); i++)
                r = read_group(path, ret, json_array_get(manifest, i), e);
        return r;
}
