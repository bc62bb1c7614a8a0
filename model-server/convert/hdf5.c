/* SPDX-License-Identifier: Apache-2.0 */
/* What Keras keeps in HDF5: whole models (.h5: attributes model_config and keras_version, group
 * model_weights) and the weights of a .keras zip (config.json, model.weights.h5). libhdf5 is loaded when it
 * is needed: it brings others along, and a server that only serves needs none of them.
 *
 * Links are followed only within the file and only by us: soft and external links, data in other files,
 * virtual data sets and plugins are refused. */
#include "model-server/convert/tensors.h"

#include <errno.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/library.h"

#define NOT_HERE                                                                                             \
        "this build reads no HDF5 (.h5, .keras): build with WITH_HDF5=1 and libhdf5-dev, or save for "       \
        "TensorFlow.js"

#ifndef WITH_HDF5
int keras_zip_read(const char *path, struct saved *ret, struct err *e)
{
        (void)path;
        (void)ret;
        return err_set(e, -ENOTSUP, NOT_HERE);
}

int keras_hdf5_read(const char *path, struct saved *ret, struct err *e)
{
        return keras_zip_read(path, ret, e);
}

int keras_hdf5_parse(const void *data, size_t size, struct saved *ret, struct err *e)
{
        (void)data;
        (void)size;
        return keras_zip_read("", ret, e);
}
#else

#define H5_USE_110_API
#include <hdf5.h>

#define HDF5_LIB      "libhdf5_serial.so.103" /* Debian 12: HDF5 1.10 */
#define ATTRIBUTE_MAX ((size_t)64 << 10)      /* bytes of one name */
#define NAMES_MAX     64                      /* weights of a layer */
#define IMAGE_STEP    ((size_t)64 << 10)
#define CLASSES_MAX   (H5T_ARRAY + 1)

/* clang-format off */
#define HDF5_FUNCTIONS(X) \
        X(H5open) X(H5Eset_auto2) X(H5PLset_loading_state) X(H5Fopen) X(H5Fclose) X(H5Pcreate) X(H5Pset_fapl_core) X(H5Pset_file_image) X(H5Gopen2) X(H5Gclose) \
        X(H5Lexists) X(H5Lget_info) X(H5Aexists) X(H5Aopen) X(H5Aget_type) X(H5Aget_space) X(H5Aread) X(H5Aclose) \
        X(H5Dopen2) X(H5Dget_type) X(H5Dget_space) X(H5Dget_create_plist) X(H5Dread) X(H5Dclose) \
        X(H5Pget_external_count) X(H5Pget_layout) X(H5Pclose) X(H5Sget_simple_extent_ndims) \
        X(H5Sget_simple_extent_dims) X(H5Sclose) X(H5Tget_class) X(H5Tget_size) X(H5Tis_variable_str) X(H5Tcopy) \
        X(H5Tset_size) X(H5Tclose) X(H5free_memory) X(H5Gget_info) X(H5Lget_name_by_idx)
/* clang-format on */

static struct {
        HDF5_FUNCTIONS(LIBRARY_POINTER)
} h5;

/* What the header's macros are: variables of the library, set by H5open(). */
static struct {
        hid_t *native_float, *file_access;
} h5_ids;

static int load_library(struct err *e)
{
        static const char *const names[] = { HDF5_FUNCTIONS(LIBRARY_NAME) };
        static const char *const ids[] = { "H5T_NATIVE_FLOAT_g", "H5P_CLS_FILE_ACCESS_ID_g" };
        static bool loaded;
        int r = loaded ? 0 : library_load(HDF5_LIB, names, ARRAY_SIZE(names), &h5, e);

        if (r == 0 && !loaded)
                r = library_load(HDF5_LIB, ids, ARRAY_SIZE(ids), &h5_ids, e);
        if (r < 0)
                return err_prefix(e, r, "HDF5 cannot be read");
        loaded = true;
        if (h5.H5open() < 0 || h5.H5PLset_loading_state(0) < 0 ||
            h5.H5Eset_auto2(H5E_DEFAULT, NULL, NULL) < 0)
                return err_set(e, -EIO, "libhdf5 does not start");
        return 0;
}

/* One kind of identifier has one kind of close. */
#define H5_CLEANUP(name, close)                                                                              \
        static void name(hid_t *id)                                                                          \
        {                                                                                                    \
                if (*id >= 0)                                                                                \
                        (void)h5.close(*id);                                                                 \
        }                                                                                                    \
        struct h5_semicolon_##name

H5_CLEANUP(file_done, H5Fclose);
H5_CLEANUP(group_done, H5Gclose);
H5_CLEANUP(attribute_done, H5Aclose);
H5_CLEANUP(dataset_done, H5Dclose);
H5_CLEANUP(plist_done, H5Pclose);
H5_CLEANUP(space_done, H5Sclose);
H5_CLEANUP(type_done, H5Tclose);

/* Whether there is a hard link of this name, part by part. 1, 0, -ENOTSUP for links of other kinds. */
static int has_link(hid_t at, const char *path, struct err *e)
{
        char part[TENSOR_NAME_MAX];
        H5L_info_t info;

        if (strlen(path) >= sizeof(part))
                return err_set(e, -EBADMSG, "'%.60s...' is too long a name", path);
        for (const char *end = path; *end; end++) {
                end += strcspn(end + (*end == '/'), "/") + (*end == '/');
                if (end == path)
                        continue;
                (void)snprintf(part, sizeof(part), "%.*s", (int)(end - path), path);
                if (h5.H5Lexists(at, part, H5P_DEFAULT) <= 0)
                        return 0;
                if (h5.H5Lget_info(at, part, &info, H5P_DEFAULT) < 0 || info.type != H5L_TYPE_HARD)
                        return err_set(e, -ENOTSUP, "'%.100s' is a soft or external link", part);
                if (!*end)
                        break;
        }
        return 1;
}

/* ---- attributes ---- */

/* Texts of an attribute, one behind the other with their terminators. A single one has no dimensions. */
static int read_texts(hid_t at, const char *name, size_t max, struct buf *out, size_t *ret_n, struct err *e)
{
        CLEANUP(attribute_done) hid_t attribute = -1;
        CLEANUP(type_done) hid_t type = -1;
        CLEANUP(space_done) hid_t space = -1;
        hsize_t dims[2] = { 1 };
        size_t size;
        int rank;

        *ret_n = 0;
        if (h5.H5Aexists(at, name) <= 0)
                return err_set(e, -ENOENT, "there is no attribute '%s'", name);
        attribute = h5.H5Aopen(at, name, H5P_DEFAULT);
        type = attribute < 0 ? -1 : h5.H5Aget_type(attribute);
        space = attribute < 0 ? -1 : h5.H5Aget_space(attribute);
        rank = space < 0 ? -1 : h5.H5Sget_simple_extent_ndims(space);
        if (type < 0 || rank < 0 || rank > 1 ||
            (rank == 1 && h5.H5Sget_simple_extent_dims(space, dims, NULL) < 0))
                return err_set(e, -EBADMSG, "attribute '%s' cannot be read", name);
        if (dims[0] == 0)
                return 0;
        if (dims[0] > NAMES_MAX)
                return err_set(e, -E2BIG, "attribute '%s' has more than %d texts", name, NAMES_MAX);
        if (h5.H5Tget_class(type) != H5T_STRING)
                return err_set(e, -EBADMSG, "attribute '%s' is no text", name);
        if (h5.H5Tis_variable_str(type) > 0) {
                char *texts[NAMES_MAX] = { NULL };
                bool read = h5.H5Aread(attribute, type, texts) >= 0, fits = true;

                for (size_t i = 0; read && i < dims[0]; i++) {
                        fits = fits && texts[i] && strlen(texts[i]) <= max &&
                               buf_append(out, texts[i], strlen(texts[i]) + 1) == 0;
                        (void)h5.H5free_memory(texts[i]);
                }
                if (!read || !fits)
                        return err_set(e, -EBADMSG, "attribute '%s' cannot be read or is too long", name);
        } else {
                CLEANUP(freep) char *bytes = NULL;

                size = h5.H5Tget_size(type);
                if (size == 0 || size > max)
                        return err_set(e, -E2BIG, "attribute '%s' is longer than %zu bytes", name, max);
                bytes = calloc(dims[0], size);
                if (!bytes)
                        return err_set(e, -ENOMEM, "out of memory");
                if (h5.H5Aread(attribute, type, bytes) < 0)
                        return err_set(e, -EBADMSG, "attribute '%s' cannot be read", name);
                for (size_t i = 0; i < dims[0]; i++)
                        if (buf_append(out, bytes + i * size, strnlen(bytes + i * size, size)) < 0 ||
                            buf_append(out, "", 1) < 0)
                                return err_set(e, -E2BIG, "attribute '%s' is too long", name);
        }
        *ret_n = (size_t)dims[0];
        return 0;
}

/* ---- data sets ---- */

static int check_storage(hid_t dataset, const char *path, struct err *e)
{
        CLEANUP(plist_done) hid_t plist = h5.H5Dget_create_plist(dataset);

        if (plist < 0)
                return err_set(e, -EBADMSG, "'%.100s' cannot be read", path);
        if (h5.H5Pget_external_count(plist) != 0 || h5.H5Pget_layout(plist) == H5D_VIRTUAL)
                return err_set(e, -ENOTSUP, "'%.100s' keeps its data in other files", path);
        return 0;
}

static int check_type(hid_t dataset, const char *path, struct err *e)
{
        static const char *const names[CLASSES_MAX] = { "an integer",         "float",       "time",
                                                        "a string",           "bits",        "opaque",
                                                        "a compound",         "a reference", "an enumeration",
                                                        "of variable length", "an array" };
        CLEANUP(type_done) hid_t type = h5.H5Dget_type(dataset);
        int class = type < 0 ? -1 : (int)h5.H5Tget_class(type);

        if (class < 0 || class >= CLASSES_MAX)
                return err_set(e, -EBADMSG, "'%.100s' cannot be read", path);
        if (class != H5T_FLOAT || h5.H5Tget_size(type) != sizeof(float))
                return err_set(e, -ENOTSUP,
                               "weight '%.100s' has dtype %s of %zu bytes; only float32 is supported", path,
                               names[class], h5.H5Tget_size(type));
        return 0;
}

/* The data set at `path` below `at` becomes the tensor `name`. */
static int read_dataset(struct saved *s, hid_t at, const char *path, const char *name, struct err *e)
{
        CLEANUP(dataset_done) hid_t dataset = -1;
        CLEANUP(space_done) hid_t space = -1;
        hsize_t dims[TENSOR_RANK_MAX];
        size_t dim[TENSOR_RANK_MAX];
        struct tensor *t = NULL;
        int rank, r = has_link(at, path, e);

        if (r <= 0)
                return r < 0 ? r : err_set(e, -EBADMSG, "there is no '%.100s'", path);
        dataset = h5.H5Dopen2(at, path, H5P_DEFAULT);
        if (dataset < 0)
                return err_set(e, -EBADMSG, "'%.100s' cannot be read", path);
        r = check_storage(dataset, path, e);
        if (r == 0)
                r = check_type(dataset, path, e);
        if (r < 0)
                return r;
        space = h5.H5Dget_space(dataset);
        rank = space < 0 ? -1 : h5.H5Sget_simple_extent_ndims(space);
        if (rank < 0 || rank > TENSOR_RANK_MAX ||
            (rank > 0 && h5.H5Sget_simple_extent_dims(space, dims, NULL) < 0))
                return err_set(e, -EBADMSG, "weight '%.100s' has no usable shape", path);
        for (int i = 0; i < rank; i++)
                dim[i] = (size_t)dims[i];
        r = saved_add(s, name, dim, (size_t)rank, &t, e);
        if (r == 0 && t->n > 0 &&
            h5.H5Dread(dataset, *h5_ids.native_float, H5S_ALL, H5S_ALL, H5P_DEFAULT, t->data) < 0)
                r = err_set(e, -EBADMSG, "weight '%.100s' cannot be read", path);
        return r;
}

/* ---- .h5 ---- */

/* Group of a layer: its attribute weight_names has paths below it: "dense/kernel:0". */
static int read_layer_group(struct saved *s, hid_t weights, const char *layer, struct err *e)
{
        CLEANUP(buf_done) struct buf names = { .max = NAMES_MAX * ATTRIBUTE_MAX };
        CLEANUP(group_done) hid_t group = -1;
        const char *path;
        size_t n = 0;
        int r = has_link(weights, layer, e);

        if (r <= 0)
                return r; /* a layer without weights need not be there */
        group = h5.H5Gopen2(weights, layer, H5P_DEFAULT);
        if (group < 0)
                return err_set(e, -EBADMSG, "layer '%.60s' has no group of weights", layer);
        r = read_texts(group, "weight_names", ATTRIBUTE_MAX, &names, &n, e);
        path = names.data;
        for (size_t i = 0; r == 0 && i < n; i++, path += strlen(path) + 1) {
                const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
                char name[TENSOR_NAME_MAX];

                if (!strncmp(base, "count", 5) || !strncmp(base, "seed_generator", 14) ||
                    strstr(path, "seed_generator"))
                        continue; /* of no use when predicting, and no float32 */
                (void)snprintf(name, sizeof(name), "%.150s/%.*s", layer, (int)strcspn(base, ":"), base);
                r = read_dataset(s, group, path, name, e);
        }
        return r < 0 ? err_prefix(e, r, "layer '%.60s'", layer) : 0;
}

/* Not from a path, but the bytes: the library opens no file at all. */
static int open_image(const void *data, size_t size, hid_t *ret_file, struct err *e)
{
        CLEANUP(plist_done) hid_t access = -1;
        int r = load_library(e);

        if (r < 0)
                return r;
        access = h5.H5Pcreate(*h5_ids.file_access);
        if (access < 0 || h5.H5Pset_fapl_core(access, IMAGE_STEP, 0) < 0 ||
            h5.H5Pset_file_image(access, (void *)(uintptr_t)data, size) < 0) /* which copies them */
                return err_set(e, -ENOMEM, "libhdf5 does not take the file");
        *ret_file = h5.H5Fopen("image", 0 /* H5F_ACC_RDONLY, which is a call in the header */, access);
        return *ret_file < 0 ? err_set(e, -EBADMSG, "not an HDF5 file, or a damaged one") : 0;
}

int keras_hdf5_parse(const void *data, size_t size, struct saved *ret, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { .max = SAVED_CONFIG_MAX };
        CLEANUP(file_done) hid_t file = -1;
        CLEANUP(group_done) hid_t weights = -1;
        json_t *layers;
        size_t n = 0;
        int r = open_image(data, size, &file, e);

        if (r == 0)
                r = read_texts(file, "keras_version", ATTRIBUTE_MAX, &text, &n, e);
        if (r == -ENOENT)
                r = 0; /* very old files */
        ret->keras = n == 1 && *text.data == '3' ? 3 : 2;
        buf_clear(&text);
        if (r == 0)
                r = read_texts(file, "model_config", SAVED_CONFIG_MAX, &text, &n, e);
        if (r == -ENOENT)
                return err_set(e, -ENOTSUP, "no attribute model_config: weights alone are no model");
        if (r == 0)
                r = json_parse(text.data ? text.data : "", text.size ? text.size - 1 : 0, "model_config",
                               &ret->config, e);
        if (r == 0)
                r = has_link(file, "model_weights", e);
        if (r == 0)
                return err_set(e, -EBADMSG, "there is no group model_weights");
        if (r < 0)
                return r;
        weights = h5.H5Gopen2(file, "model_weights", H5P_DEFAULT);
        if (weights < 0)
                return err_set(e, -EBADMSG, "there is no group model_weights");
        layers = json_object_get(ret->config, "config");
        if (json_is_object(layers))
                layers = json_object_get(layers, "layers");
        r = 0;
        for (size_t i = 0; r == 0 && i < json_array_size(layers); i++) {
                const json_t *layer = json_array_get(layers, i);
                const char *name =
                        json_string_value(json_object_get(json_object_get(layer, "config"), "name"));

                if (!name || !*name || *name == '/')
                        return err_set(e, -EBADMSG, "layer %zu has no name", i);
                r = read_layer_group(ret, weights, name, e);
        }
        return r;
}

int keras_hdf5_read(const char *path, struct saved *ret, struct err *e)
{
        CLEANUP(buf_done) struct buf data = { .max = SAVED_FILE_MAX };
        int r = file_read(path, &data, e);

        return r < 0 ? r : keras_hdf5_parse(data.data ? data.data : "", data.size, ret, e);
}

/* ---- .keras ---- */

static int read_vars(struct saved *s, hid_t layers, const char *layer, struct err *e)
{
        char path[TENSOR_NAME_MAX];
        int r = 1;

        for (int i = 0; i < NAMES_MAX; i++) {
                if (snprintf(path, sizeof(path), "%.200s/vars/%d", layer, i) < 0)
                        return -EINVAL;
                r = has_link(layers, path, e);
                if (r <= 0)
                        return r;
                r = read_dataset(s, layers, path, path, e);
                if (r == -ENOTSUP && i == 2 && !strncmp(layer, "normalization", 13))
                        r = 0; /* the count of a Normalization, an integer */
                if (r < 0)
                        return r;
        }
        return err_set(e, -E2BIG, "'%.60s' has more than %d weights", layer, NAMES_MAX);
}

/* Groups are named by class and number; which layer has which is found by whoever knows the classes. */
static int read_order(struct saved *s, hid_t file, struct err *e)
{
        static const char *const places[] = { "layers", "_layers", "_layer_checkpoint_dependencies" };
        CLEANUP(group_done) hid_t layers = -1;
        H5G_info_t info;
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(places); i++) {
                r = has_link(file, places[i], e);
                if (r > 0)
                        layers = h5.H5Gopen2(file, places[i], H5P_DEFAULT);
        }
        if (r < 0)
                return r;
        if (layers < 0 || h5.H5Gget_info(layers, &info) < 0)
                return err_set(e, -EBADMSG, "model.weights.h5 has no group of layers");
        if (info.nlinks > NETWORK_LAYERS_MAX)
                return err_set(e, -E2BIG, "more than %d layers", NETWORK_LAYERS_MAX);
        for (hsize_t i = 0; i < info.nlinks; i++) {
                char name[128];
                ssize_t n = h5.H5Lget_name_by_idx(layers, ".", H5_INDEX_NAME, H5_ITER_INC, i, name,
                                                  sizeof(name), H5P_DEFAULT);

                if (n <= 0 || (size_t)n >= sizeof(name))
                        return err_set(e, -EBADMSG, "a group's name is too long");
                r = read_vars(s, layers, name, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_weights(struct saved *s, const struct model_entry *entry, struct err *e)
{
        CLEANUP(file_done) hid_t file = -1;
        int r = open_image(entry->data, entry->size, &file, e);

        return r < 0 ? r : read_order(s, file, e);
}

int keras_zip_read(const char *path, struct saved *ret, struct err *e)
{
        static const char *const names[] = { "config.json", "metadata.json", "model.weights.h5", NULL };
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        const struct model_entry *config, *weights, *metadata;
        CLEANUP(json_decrefp) json_t *head = NULL;
        const char *version = NULL;
        int r = model_archive_read_some(path, names, &a, e);

        if (r < 0)
                return r;
        config = model_archive_find(a, "config.json");
        metadata = model_archive_find(a, "metadata.json");
        weights = model_archive_find(a, "model.weights.h5");
        if (!config || !weights)
                return err_set(e, -EBADMSG, "no .keras file: config.json or model.weights.h5 is missing");
        if (config->size > SAVED_CONFIG_MAX)
                return err_set(e, -E2BIG, "config.json is larger than %zu bytes", SAVED_CONFIG_MAX);
        ret->keras = 3;
        ret->by_order = true;
        if (metadata && json_parse(metadata->data, metadata->size, "metadata.json", &head, NULL) == 0)
                version = json_string_value(json_object_get(head, "keras_version"));
        if (version && *version == '2')
                ret->keras = 2;
        r = json_parse(config->data, config->size, "config.json", &ret->config, e);
        return r < 0 ? r : read_weights(ret, weights, e);
}
#endif
