/* SPDX-License-Identifier: Apache-2.0 */
/* What each layer of Keras is in the words of network.json: one row of a table each. */
#include "model-server/convert/keras.h"

#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <string.h>

#include "common/json.h"

static bool is_true(const struct keras_layer *k, const char *key)
{
        return json_is_true(json_object_get(k->config, key));
}

static bool is_false(const struct keras_layer *k, const char *key)
{
        return json_is_false(json_object_get(k->config, key));
}

static int no_memory(struct err *e)
{
        return err_set(e, -ENOMEM, "out of memory");
}

int keras_emit(struct conversion *c, const char *name, const char *type, const json_t *inputs, json_t **ret,
               struct err *e)
{
        json_t *l = json_pack("{s:s, s:s}", "name", name, "type", type);

        if (!l)
                return err_set(e, -EBADMSG, "layer '%.60s': its name cannot be used", name);
        if (inputs && json_array_size(inputs) > 0 &&
            json_object_set_new(l, "inputs", json_deep_copy(inputs)) < 0) {
                json_decref(l);
                return no_memory(e);
        }
        if (json_array_append_new(c->layers, l) < 0)
                return no_memory(e);
        if (ret)
                *ret = l;
        return 0;
}

static int put(json_t *layer, const char *key, json_t *value, struct err *e)
{
        return json_object_set_new(layer, key, value) < 0 ? no_memory(e) : 0;
}

/* A number of the configuration under either of two names (Keras 2 and 3); null and missing: otherwise. */
static int number(const struct keras_layer *k, const char *key, const char *old, double otherwise,
                  double *ret, struct err *e)
{
        const json_t *v = json_object_get(k->config, key);

        if (!v && old)
                v = json_object_get(k->config, old);
        /* an array's number of Keras 2: {"class_name": "__numpy__", "config": {"value": 0.3}} */
        if (json_is_object(v))
                v = json_object_get(json_object_get(v, "config"), "value");
        *ret = otherwise;
        if (!v || json_is_null(v))
                return 0;
        if (!json_is_number(v))
                return err_set(e, -ENOTSUP, "'%s' is not a number", key);
        *ret = json_number_value(v);
        return 0;
}

/* Keras counts the batch as axis 0. */
static int axis_of(const json_t *v, json_int_t otherwise, json_int_t *ret, struct err *e)
{
        *ret = otherwise;
        if (json_array_size(v) == 1)
                v = json_array_get(v, 0);
        if (!v || json_is_null(v))
                return 0;
        if (!json_is_integer(v) || json_integer_value(v) == 0)
                return err_set(e, -ENOTSUP, "an axis that is the batch's, or none");
        *ret = json_integer_value(v) - (json_integer_value(v) > 0);
        return 0;
}

static int axes_of(const json_t *v, json_t *layer, struct err *e)
{
        json_t *axes = json_array();
        size_t n = json_is_array(v) ? json_array_size(v) : 1;
        int r = axes ? 0 : no_memory(e);

        for (size_t i = 0; r == 0 && i < n; i++) {
                json_int_t axis;

                r = axis_of(json_is_array(v) ? json_array_get(v, i) : v, -1, &axis, e);
                if (r == 0 && json_array_append_new(axes, json_integer(axis)) < 0)
                        r = no_memory(e);
        }
        if (r == 0)
                return put(layer, "axes", axes, e);
        json_decref(axes);
        return r;
}

/* ---- weights ---- */

static const struct tensor *find_weight(const struct conversion *c, struct keras_layer *k, const char *name)
{
        char key[32];

        if (!c->saved->by_order)
                return saved_find(c->saved, k->name, name);
        (void)snprintf(key, sizeof(key), "vars/%zu", k->taken++);
        return saved_find(c->saved, k->group, key);
}

/* Append one weight's numbers. */
static int take(struct conversion *c, struct keras_layer *k, const char *name, struct buf *out,
                const struct tensor **ret, struct err *e)
{
        const struct tensor *t = find_weight(c, k, name);

        if (!t)
                return err_set(e, -EBADMSG, "weight '%s' is not in the file", name);
        for (size_t i = 0; i < t->n; i++)
                if (!isfinite(t->data[i]))
                        return err_set(e, -EBADMSG, "weight '%s' is not finite", name);
        if (buf_append(out, t->data, t->n * sizeof(float)) < 0)
                return err_set(e, -E2BIG, "more than %zu parameters", NETWORK_PARAMETERS_MAX);
        if (ret)
                *ret = t;
        return 0;
}

/* Numbers are little-endian here: the build refuses other machines. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "weights are little-endian");

static int put_weights(json_t *layer, const struct buf *bytes, struct err *e)
{
        size_t size = sodium_base64_encoded_len(bytes->size, sodium_base64_VARIANT_ORIGINAL);
        CLEANUP(freep) char *text = malloc(size);

        if (!text)
                return no_memory(e);
        (void)sodium_bin2base64(text, size, (const unsigned char *)(bytes->data ? bytes->data : ""),
                                bytes->size, sodium_base64_VARIANT_ORIGINAL);
        return put(layer, "weights", json_string(text), e);
}

static struct buf weights_buf(void)
{
        struct buf b;

        buf_init(&b, NETWORK_PARAMETERS_MAX * sizeof(float));
        return b;
}

/* ---- activations ---- */

#define KERAS3_SLOPE (1.0 / 6)
#define OLD_SLOPE    0.2

static const struct function {
        const char *keras, *ours, *parameter;
        double value;
} functions[] = {
        { "relu", "relu", NULL, 0 },
        { "relu6", "relu", "max_value", 6 },
        { "leaky_relu", "relu", "negative_slope", 0.2 },
        { "elu", "elu", NULL, 0 },
        { "selu", "selu", NULL, 0 },
        { "celu", "celu", NULL, 0 },
        { "gelu", "gelu", NULL, 0 },
        { "gelu_new", "gelu_tanh", NULL, 0 },
        { "sigmoid", "sigmoid", NULL, 0 },
        { "hard_sigmoid", "hard_sigmoid", "slope", 0 },
        { "hard_silu", "hard_silu", "slope", KERAS3_SLOPE },
        { "hard_swish", "hard_silu", "slope", KERAS3_SLOPE },
        { "silu", "silu", NULL, 0 },
        { "swish", "silu", NULL, 0 },
        { "tanh", "tanh", NULL, 0 },
        { "hard_tanh", "hard_tanh", NULL, 0 },
        { "tanh_shrink", "tanh_shrink", NULL, 0 },
        { "softmax", "softmax", NULL, 0 },
        { "log_softmax", "log_softmax", NULL, 0 },
        { "softplus", "softplus", NULL, 0 },
        { "softsign", "softsign", NULL, 0 },
        { "mish", "mish", NULL, 0 },
        { "exponential", "exponential", NULL, 0 },
        { "log_sigmoid", "log_sigmoid", NULL, 0 },
        { "glu", "glu", NULL, 0 },
        { "sparse_plus", "sparse_plus", NULL, 0 },
        { "sparse_sigmoid", "sparse_sigmoid", NULL, 0 },
        { "sparsemax", "sparsemax", NULL, 0 },
        { "squareplus", "squareplus", NULL, 0 },
        { "soft_shrink", "soft_shrink", NULL, 0 },
        { "hard_shrink", "hard_shrink", NULL, 0 },
};

/* The function's row; *ret NULL: linear. */
static int find_function(const json_t *v, const struct function **ret, struct err *e)
{
        const char *name = json_string_value(v);

        *ret = NULL;
        if (!v || json_is_null(v))
                return 0;
        if (json_is_object(
                    v)) { /* Keras 3 writes functions of its own by name: an object is somebody's own */
                name = json_string_value(json_object_get(v, "config"));
                if (!name)
                        name = json_string_value(json_object_get(v, "class_name"));
                return err_set(e, -ENOTSUP, "activation '%.60s' is a custom object", name ? name : "?");
        }
        if (!name)
                return err_set(e, -EBADMSG, "'activation' is not a name");
        if (!strcmp(name, "linear"))
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
                if (!strcmp(functions[i].keras, name)) {
                        *ret = &functions[i];
                        return 0;
                }
        return err_set(e, -ENOTSUP, "activation '%.60s' is not supported", name);
}

static int emit_function(struct conversion *c, const char *name, const struct function *f,
                         const json_t *inputs, struct err *e)
{
        double value = f && !strcmp(f->ours, "hard_sigmoid") ? c->saved->keras == 3 ? KERAS3_SLOPE : OLD_SLOPE
                       : f                                   ? f->value
                                                             : 0;
        json_t *l = NULL;
        int r = keras_emit(c, name, f ? "activation" : "identity", inputs, &l, e);

        if (r == 0 && f)
                r = put(l, "function", json_string(f->ours), e);
        if (r == 0 && f && f->parameter)
                r = put(l, f->parameter, json_real(value), e);
        return r;
}

static int lower_activation(struct conversion *c, struct keras_layer *k, struct err *e)
{
        const struct function *f;
        int r = find_function(json_object_get(k->config, "activation"), &f, e);

        return r < 0 ? r : emit_function(c, k->name, f, k->inputs, e);
}

/* An activation layer's numbers, each under its name in Keras 3, in Keras 2, and ours. */
struct parameter {
        const char *key, *old, *ours;
        double otherwise; /* NaN: leave it out */
};

static int lower_parameters(struct conversion *c, struct keras_layer *k, const char *function,
                            const struct parameter *p, size_t n, struct err *e)
{
        json_t *l = NULL;
        int r = keras_emit(c, k->name, "activation", k->inputs, &l, e);

        if (r == 0)
                r = put(l, "function", json_string(function), e);
        for (size_t i = 0; r == 0 && i < n; i++) {
                double value;

                r = number(k, p[i].key, p[i].old, p[i].otherwise, &value, e);
                if (r == 0 && !isnan(value))
                        r = put(l, p[i].ours, json_real(value), e);
        }
        return r;
}

static int lower_relu(struct conversion *c, struct keras_layer *k, struct err *e)
{
        static const struct parameter p[] = { { "max_value", NULL, "max_value", NAN },
                                              { "negative_slope", NULL, "negative_slope", 0 },
                                              { "threshold", NULL, "threshold", 0 } };

        return lower_parameters(c, k, "relu", p, ARRAY_SIZE(p), e);
}

static int lower_leaky_relu(struct conversion *c, struct keras_layer *k, struct err *e)
{
        static const struct parameter p[] = { { "negative_slope", "alpha", "negative_slope", 0.3 } };

        return lower_parameters(c, k, "relu", p, ARRAY_SIZE(p), e);
}

static int lower_elu(struct conversion *c, struct keras_layer *k, struct err *e)
{
        static const struct parameter p[] = { { "alpha", NULL, "alpha", 1 } };

        return lower_parameters(c, k, "elu", p, ARRAY_SIZE(p), e);
}

static int lower_thresholded(struct conversion *c, struct keras_layer *k, struct err *e)
{
        static const struct parameter p[] = { { "theta", NULL, "threshold", 1 }, { "", NULL, "value", 0 } };

        return lower_parameters(c, k, "threshold", p, ARRAY_SIZE(p), e);
}

static int lower_softmax(struct conversion *c, struct keras_layer *k, struct err *e)
{
        json_int_t axis;
        int r = axis_of(json_object_get(k->config, "axis"), -1, &axis, e);

        if (r == 0)
                r = lower_parameters(c, k, "softmax", NULL, 0, e);
        return r < 0 ? r
                     : put(json_array_get(c->layers, json_array_size(c->layers) - 1), "axis",
                           json_integer(axis), e);
}

static int lower_prelu(struct conversion *c, struct keras_layer *k, struct err *e)
{
        CLEANUP(buf_done) struct buf weights = weights_buf();
        const json_t *shared = json_object_get(k->config, "shared_axes");
        const struct tensor *t = NULL;
        json_t *l = NULL, *axes = NULL;
        int r = keras_emit(c, k->name, "prelu", k->inputs, &l, e);

        if (r == 0)
                r = take(c, k, "alpha", &weights, &t, e);
        if (r == 0)
                r = put_weights(l, &weights, e);
        if (r < 0)
                return r;
        axes = json_array(); /* alpha has the input's rank; what is shared is 1 there */
        for (size_t i = 0; axes && i < t->rank; i++) {
                bool is_shared = false;

                for (size_t s = 0; s < json_array_size(shared); s++)
                        is_shared |= json_integer_value(json_array_get(shared, s)) == (json_int_t)i + 1;
                if (!is_shared)
                        (void)json_array_append_new(axes, json_integer((json_int_t)i));
        }
        return put(l, "axes", axes, e);
}

/* ---- dense ---- */

static int lower_dense(struct conversion *c, struct keras_layer *k, struct err *e)
{
        CLEANUP(buf_done) struct buf weights = weights_buf();
        CLEANUP(json_decrefp) json_t *from = NULL;
        const struct tensor *kernel = NULL;
        const struct function *f;
        char name[2 * NETWORK_NAME_MAX];
        json_t *l = NULL;
        int r = find_function(json_object_get(k->config, "activation"), &f, e);

        (void)snprintf(name, sizeof(name), "%.127s%s", k->name, f ? "/linear" : "");
        if (r == 0)
                r = keras_emit(c, name, "dense", k->inputs, &l, e);
        if (r == 0)
                r = take(c, k, "kernel", &weights, &kernel, e);
        if (r == 0 && kernel->rank != 2)
                r = err_set(e, -EBADMSG, "weight 'kernel' has rank %zu", kernel->rank);
        if (r == 0)
                r = put(l, "units", json_integer((json_int_t)kernel->dim[1]), e);
        if (r == 0 && is_false(k, "use_bias"))
                r = put(l, "bias", json_false(), e);
        else if (r == 0)
                r = take(c, k, "bias", &weights, NULL, e);
        if (r == 0)
                r = put_weights(l, &weights, e);
        if (r < 0 || !f)
                return r;
        from = json_pack("[s]", name);
        return from ? emit_function(c, k->name, f, from, e) : no_memory(e);
}

/* ---- normalizations ---- */

/* Batch normalizations have moving averages too. */
static int lower_trained_normalization(struct conversion *c, struct keras_layer *k, bool batch, struct err *e)
{
        const char *key = batch ? "renorm" : "rms_scaling";
        CLEANUP(buf_done) struct buf weights = weights_buf();
        json_t *l = NULL;
        double epsilon;
        int r = number(k, "epsilon", NULL, 1e-3, &epsilon, e);

        if (r == 0 && is_true(k, key))
                r = err_set(e, -ENOTSUP, "%s is not supported", key);
        if (r == 0)
                r = keras_emit(c, k->name, batch ? "batch_normalization" : "layer_normalization", k->inputs,
                               &l, e);
        if (r == 0)
                r = put(l, "epsilon", json_real(epsilon), e);
        if (r == 0)
                r = axes_of(json_object_get(k->config, "axis"), l, e);
        if (r == 0)
                r = put(l, "scale", json_boolean(!is_false(k, "scale")), e);
        if (r == 0)
                r = put(l, "center", json_boolean(!is_false(k, "center")), e);
        if (r == 0 && !is_false(k, "scale"))
                r = take(c, k, "gamma", &weights, NULL, e);
        if (r == 0 && !is_false(k, "center"))
                r = take(c, k, "beta", &weights, NULL, e);
        if (r == 0 && batch)
                r = take(c, k, "moving_mean", &weights, NULL, e);
        if (r == 0 && batch)
                r = take(c, k, "moving_variance", &weights, NULL, e);
        return r < 0 ? r : put_weights(l, &weights, e);
}

static int lower_batch_normalization(struct conversion *c, struct keras_layer *k, struct err *e)
{
        return lower_trained_normalization(c, k, true, e);
}

static int lower_layer_normalization(struct conversion *c, struct keras_layer *k, struct err *e)
{
        return lower_trained_normalization(c, k, false, e);
}

/* mean and variance that the configuration gives: numbers, nested or not. */
static int take_numbers(const json_t *v, struct buf *out, struct err *e)
{
        float one = (float)json_number_value(v);
        int r = 0;

        if (json_is_number(v))
                return buf_append(out, &one, sizeof(one)) < 0 ? err_set(e, -E2BIG, "too many numbers") : 0;
        if (!json_is_array(v))
                return err_set(e, -ENOTSUP, "mean and variance are not numbers");
        for (size_t i = 0; r == 0 && i < json_array_size(v); i++)
                r = take_numbers(json_array_get(v, i), out, e);
        return r;
}

static int lower_normalization(struct conversion *c, struct keras_layer *k, struct err *e)
{
        CLEANUP(buf_done) struct buf weights = weights_buf();
        const json_t *mean = json_object_get(k->config, "mean"), *axis = json_object_get(k->config, "axis");
        json_t *l = NULL;
        int r = keras_emit(c, k->name, "normalization", k->inputs, &l, e);

        if (r == 0 && is_true(k, "invert"))
                r = put(l, "invert", json_true(), e);
        if (r == 0 && mean && !json_is_null(mean)) {
                r = take_numbers(mean, &weights, e);
                if (r == 0)
                        r = take_numbers(json_object_get(k->config, "variance"), &weights, e);
        } else if (r == 0) {
                r = take(c, k, "mean", &weights, NULL, e);
                if (r == 0)
                        r = take(c, k, "variance", &weights, NULL, e);
        }
        if (r == 0 && (json_is_null(axis) || weights.size == 2 * sizeof(float))) /* one for all */
                r = put(l, "axes", json_array(), e);
        else if (r == 0)
                r = axes_of(axis, l, e);
        return r < 0 ? r : put_weights(l, &weights, e);
}

/* ---- the rest ---- */

static int lower_rescaling(struct conversion *c, struct keras_layer *k, struct err *e)
{
        const json_t *scale = json_object_get(k->config, "scale"),
                     *offset = json_object_get(k->config, "offset");
        json_t *l = NULL;
        int r = keras_emit(c, k->name, "rescaling", k->inputs, &l, e);

        if (r == 0 && scale)
                r = put(l, "scale", json_deep_copy(scale), e);
        if (r == 0 && offset)
                r = put(l, "offset", json_deep_copy(offset), e);
        return r;
}

static int lower_concatenate(struct conversion *c, struct keras_layer *k, struct err *e)
{
        json_int_t axis = -1;
        json_t *l = NULL;
        int r = axis_of(json_object_get(k->config, "axis"), -1, &axis, e);

        if (r == 0)
                r = keras_emit(c, k->name, "concatenate", k->inputs, &l, e);
        return r < 0 ? r : put(l, "axis", json_integer(axis), e);
}

static int lower_reshape(struct conversion *c, struct keras_layer *k, struct err *e)
{
        const json_t *target = json_object_get(k->config, "target_shape");
        struct network_shape shape = { 0 };
        json_t *l = NULL;
        int r = keras_shape(target, false, &shape, e);

        if (r == 0)
                r = keras_emit(c, k->name, "reshape", k->inputs, &l, e);
        return r < 0 ? r : put(l, "shape", keras_shape_json(&shape), e);
}

static int lower_flatten(struct conversion *c, struct keras_layer *k, struct err *e)
{
        const char *format = json_string_value(json_object_get(k->config, "data_format"));

        if (format && !strcmp(format, "channels_first"))
                return err_set(e, -ENOTSUP, "data_format channels_first is not supported");
        return keras_emit(c, k->name, "reshape", k->inputs, NULL, e);
}

static int lower_identity(struct conversion *c, struct keras_layer *k, struct err *e)
{
        return keras_emit(c, k->name, "identity", k->inputs, NULL, e);
}

static int lower_merge(struct conversion *c, struct keras_layer *k, struct err *e)
{
        char type[16];
        size_t i = 0;

        for (; k->class[i] && i + 1 < sizeof(type); i++)
                type[i] = (char)(k->class[i] | 0x20); /* the classes' names are letters only */
        type[i] = '\0';
        return keras_emit(c, k->name, type, k->inputs, NULL, e);
}

static const struct {
        const char *class;
        int (*lower)(struct conversion *c, struct keras_layer *k, struct err *e);
} classes[] = {
        { "Dense", lower_dense },
        { "Activation", lower_activation },
        { "ReLU", lower_relu },
        { "LeakyReLU", lower_leaky_relu },
        { "PReLU", lower_prelu },
        { "ELU", lower_elu },
        { "ThresholdedReLU", lower_thresholded },
        { "Softmax", lower_softmax },
        { "Normalization", lower_normalization },
        { "BatchNormalization", lower_batch_normalization },
        { "LayerNormalization", lower_layer_normalization },
        { "Rescaling", lower_rescaling },
        { "Concatenate", lower_concatenate },
        { "Add", lower_merge },
        { "Subtract", lower_merge },
        { "Multiply", lower_merge },
        { "Average", lower_merge },
        { "Maximum", lower_merge },
        { "Minimum", lower_merge },
        { "Reshape", lower_reshape },
        { "Flatten", lower_flatten },
        { "Identity", lower_identity },
        { "Dropout", lower_identity },
        { "AlphaDropout", lower_identity },
        { "SpatialDropout1D", lower_identity },
        { "GaussianDropout", lower_identity },
        { "GaussianNoise", lower_identity },
        { "ActivityRegularization", lower_identity },
};

/* "float32", or a policy of that name. */
static int check_dtype(const struct keras_layer *k, struct err *e)
{
        const json_t *v = json_object_get(k->config, "dtype");
        const char *name = json_string_value(
                json_is_object(v) ? json_object_get(json_object_get(v, "config"), "name") : v);

        if (!v || json_is_null(v) || (name && !strcmp(name, "float32")))
                return 0;
        return err_set(e, -ENOTSUP, "dtype '%.40s' is not supported; only float32 is", name ? name : "?");
}

int keras_lower(struct conversion *c, struct keras_layer *k, struct err *e)
{
        int r = check_dtype(k, e);

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(classes); i++)
                if (!strcmp(classes[i].class, k->class)) {
                        r = classes[i].lower(c, k, e);
                        return r < 0 ? err_prefix(e, r, "%s '%.60s'", k->class, k->name) : 0;
                }
        if (r < 0)
                return err_prefix(e, r, "layer '%.60s'", k->name);
        if (!strcmp(k->class, "Sequential") || !strcmp(k->class, "Functional") || !strcmp(k->class, "Model"))
                return err_set(e, -ENOTSUP,
                               "layer '%.60s' is a model within the model; save one with plain layers",
                               k->name);
        return err_set(e, -ENOTSUP, "layer '%.60s' is a %.60s, which is not supported", k->name, k->class);
}
