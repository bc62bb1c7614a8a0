/* SPDX-License-Identifier: Apache-2.0 */
/* network.json (schema/network.json) into a graph, and archives of class "network" into a model. Everything
 * is checked here or in the layer's prepare(): what is in the document and not known is refused. */
#include "model/network.h"

#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <string.h>

#include "common/json.h"

/* Only members of these names, each between two spaces. */
static int check_keys(json_t *o, const char *known, struct err *e)
{
        const char *key;
        json_t *v;

        json_object_foreach (o, key, v) {
                const char *at = strstr(known, key);

                if (!*key || !at || at == known || at[-1] != ' ' || at[strlen(key)] != ' ')
                        return err_set(e, -EBADMSG, "'%.40s' is unknown", key);
        }
        return 0;
}

/* ---- weights ---- */

/* Base64 of little-endian float32. */
static int read_weights(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        const char *text = json_string_value(v);
        size_t length = json_string_length(v), size = 0;
        CLEANUP(freep) unsigned char *bytes = NULL;
        const char *end = NULL;
        double *numbers;

        if (!text)
                return err_set(e, -EBADMSG, "'weights' is not a text");
        if (length / 4 * 3 / sizeof(float) > NETWORK_PARAMETERS_MAX)
                return err_set(e, -E2BIG, "more than %zu parameters", NETWORK_PARAMETERS_MAX);
        bytes = malloc(length / 4 * 3 + 3);
        if (!bytes)
                return err_set(e, -ENOMEM, "out of memory");
        if (sodium_base642bin(bytes, length / 4 * 3 + 3, text, length, NULL, &size, &end,
                              sodium_base64_VARIANT_ORIGINAL) < 0 ||
            end != text + length || size % sizeof(float) != 0)
                return err_set(e, -EBADMSG, "'weights' is not base64 of float32 numbers");
        l->n_weights = size / sizeof(float);
        g->parameters += l->n_weights;
        if (g->parameters > NETWORK_PARAMETERS_MAX)
                return err_set(e, -E2BIG, "more than %zu parameters", NETWORK_PARAMETERS_MAX);
        numbers = plan_calloc(g->plan, l->n_weights, sizeof(*numbers));
        if (!numbers)
                return plan_no_memory(e);
        for (size_t i = 0; i < l->n_weights; i++) {
                const unsigned char *b = bytes + i * sizeof(float);
                uint32_t bits = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
                float number;

                memcpy(&number, &bits, sizeof(number));
                if (!isfinite(number))
                        return err_set(e, -EBADMSG, "weight %zu is not finite", i);
                numbers[i] = (double)number;
        }
        l->weights = numbers;
        return 0;
}

/* ---- members of a layer ---- */

static int read_size(const json_t *v, size_t low, size_t high, const char *what, size_t *ret, struct err *e)
{
        if (!json_is_integer(v) || json_integer_value(v) < (json_int_t)low ||
            json_integer_value(v) > (json_int_t)high)
                return err_set(e, -EBADMSG, "'%s' is not a whole number from %zu to %zu", what, low, high);
        *ret = (size_t)json_integer_value(v);
        return 0;
}

static int read_axis(const json_t *v, const char *what, long *ret, struct err *e)
{
        if (!json_is_integer(v) || llabs(json_integer_value(v)) > NETWORK_RANK_MAX)
                return err_set(e, -EBADMSG, "'%s' is not an axis", what);
        *ret = (long)json_integer_value(v);
        return 0;
}

static int read_flag(const json_t *v, const char *what, bool *ret, struct err *e)
{
        if (!json_is_boolean(v))
                return err_set(e, -EBADMSG, "'%s' is neither true nor false", what);
        *ret = json_is_true(v);
        return 0;
}

static int read_number(const json_t *v, const char *what, double *ret, struct err *e)
{
        if (!json_is_number(v) || !isfinite(json_number_value(v)))
                return err_set(e, -EBADMSG, "'%s' is not a finite number", what);
        *ret = json_number_value(v);
        return 0;
}

static int read_array(const json_t *v, const char *what, size_t max, size_t *ret_n, struct err *e)
{
        if (!json_is_array(v))
                return err_set(e, -EBADMSG, "'%s' is not an array", what);
        if (json_array_size(v) > max)
                return err_set(e, -E2BIG, "'%s' has more than %zu elements", what, max);
        *ret_n = json_array_size(v);
        return 0;
}

/* A number, or an array of them. */
static int read_numbers(struct network_graph *g, const json_t *v, const char *what, const double **ret,
                        size_t *ret_n, struct err *e)
{
        size_t n = 1;
        double *numbers;
        int r = json_is_number(v) ? 0 : read_array(v, what, NETWORK_WIDTH_MAX, &n, e);

        if (r == 0 && n == 0)
                r = err_set(e, -EBADMSG, "'%s' is empty", what);
        if (r < 0)
                return r;
        numbers = plan_calloc(g->plan, n, sizeof(*numbers));
        if (!numbers)
                return plan_no_memory(e);
        for (size_t i = 0; r == 0 && i < n; i++)
                r = read_number(json_is_number(v) ? v : json_array_get(v, i), what, &numbers[i], e);
        *ret = numbers;
        *ret_n = n;
        return r;
}

static int set_function(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        const char *name = json_string_value(v);

        (void)g;
        if (!name)
                return err_set(e, -EBADMSG, "'function' is not a text");
        l->activation = network_activation_find(name);
        return l->activation ? 0 : err_set(e, -ENOTSUP, "function '%.40s' is unknown", name);
}

static int set_features(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        int r = read_array(v, "features", MODEL_FEATURES_MAX, &l->n_features, e);

        (void)g;
        for (size_t i = 0, f = 0; r == 0 && i < l->n_features; i++) {
                r = read_size(json_array_get(v, i), 0, MODEL_FEATURES_MAX, "features", &f, e);
                l->features[i] = (uint16_t)f;
        }
        return r;
}

static int set_axes(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        int r = read_array(v, "axes", NETWORK_RANK_MAX, &l->n_axes, e);

        (void)g;
        for (size_t i = 0; r == 0 && i < l->n_axes; i++)
                r = read_axis(json_array_get(v, i), "axes", &l->axes[i], e);
        return r;
}

static int set_shape(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        int r = read_array(v, "shape", NETWORK_RANK_MAX, &l->target.rank, e);

        (void)g;
        for (size_t i = 0; r == 0 && i < l->target.rank; i++)
                r = read_size(json_array_get(v, i), 0, NETWORK_WIDTH_MAX, "shape", &l->target.dim[i], e);
        return r;
}

static int set_units(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        (void)g;
        return read_size(v, 1, NETWORK_WIDTH_MAX, "units", &l->units, e);
}

static int set_axis(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        (void)g;
        return read_axis(v, "axis", &l->axis, e);
}

static int set_epsilon(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        (void)g;
        return read_number(v, "epsilon", &l->epsilon, e);
}

static int set_bias(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        (void)g;
        return read_flag(v, "bias", &l->bias, e);
}

static int set_center(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        (void)g;
        return read_flag(v, "center", &l->center, e);
}

static int set_invert(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        (void)g;
        return read_flag(v, "invert", &l->invert, e);
}

/* A flag of normalizations, the factors of a rescaling. */
static int set_scale(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        return strcmp(l->type->name, "rescaling") == 0
                       ? read_numbers(g, v, "scale", &l->factors, &l->n_factors, e)
                       : read_flag(v, "scale", &l->scale, e);
}

static int set_offset(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e)
{
        return read_numbers(g, v, "offset", &l->offsets, &l->n_offsets, e);
}

/* Which members a type has, beside name, type and inputs. A function's parameters are known by it. */
static const struct member {
        const char *types, *key;
        int (*set)(struct network_graph *g, struct network_layer *l, const json_t *v, struct err *e);
} members[] = {
        { " input ", "features", set_features },
        { " dense ", "units", set_units },
        { " dense ", "bias", set_bias },
        { " activation ", "function", set_function },
        { " dense prelu normalization batch_normalization layer_normalization ", "weights", read_weights },
        { " prelu normalization batch_normalization layer_normalization ", "axes", set_axes },
        { " batch_normalization layer_normalization ", "epsilon", set_epsilon },
        { " batch_normalization layer_normalization ", "center", set_center },
        { " batch_normalization layer_normalization rescaling ", "scale", set_scale },
        { " normalization ", "invert", set_invert },
        { " rescaling ", "offset", set_offset },
        { " reshape ", "shape", set_shape },
        { " activation concatenate ", "axis", set_axis },
};

static const struct member *find_member(const struct network_type *type, const char *key)
{
        char word[32];

        (void)snprintf(word, sizeof(word), " %s ", type->name);
        for (size_t i = 0; i < ARRAY_SIZE(members); i++)
                if (!strcmp(members[i].key, key) && strstr(members[i].types, word))
                        return &members[i];
        return NULL;
}

static const struct network_parameter *find_parameter(const struct network_layer *l, const char *key,
                                                      size_t *ret)
{
        const struct network_parameter *p = l->activation ? l->activation->parameters : NULL;

        for (*ret = 0; p && p[*ret].name; ++*ret)
                if (!strcmp(p[*ret].name, key))
                        return &p[*ret];
        return NULL;
}

static int read_parameters(struct network_layer *l, const json_t *o, struct err *e)
{
        const struct network_parameter *p = l->activation ? l->activation->parameters : NULL;

        for (size_t i = 0; p && p[i].name; i++) {
                const json_t *v = json_object_get(o, p[i].name);

                l->p[i] = p[i].otherwise;
                if (v && read_number(v, p[i].name, &l->p[i], e) < 0)
                        return -EBADMSG;
                if (isnan(l->p[i]))
                        return err_set(e, -EBADMSG, "%s needs '%s'", l->activation->name, p[i].name);
                if (l->p[i] < p[i].low || l->p[i] > p[i].high)
                        return err_set(e, -EBADMSG, "'%s' of %g", p[i].name, l->p[i]);
        }
        return 0;
}

static const double one[] = { 1 }, zero[] = { 0 };

static int read_members(struct network_graph *g, struct network_layer *l, json_t *o, struct err *e)
{
        const char *key;
        json_t *v;
        size_t at;
        int r = 0;

        l->n_factors = l->n_offsets = 1;
        l->factors = one;
        l->offsets = zero;
        json_object_foreach (o, key, v) {
                const struct member *m = find_member(l->type, key);

                if (m)
                        r = m->set(g, l, v, e);
                if (r < 0)
                        return r;
        }
        r = read_parameters(l, o, e);
        json_object_foreach (o, key, v)
                if (r == 0 && strcmp(key, "name") && strcmp(key, "type") && strcmp(key, "inputs") &&
                    !find_member(l->type, key) && !find_parameter(l, key, &at))
                        r = err_set(e, -EBADMSG, "'%.40s' is unknown", key);
        return r;
}

/* ---- the graph ---- */

static int find_layer(const struct network_graph *g, const json_t *name, size_t *ret, struct err *e)
{
        if (!json_is_string(name))
                return err_set(e, -EBADMSG, "a layer's name is not a text");
        for (*ret = 0; *ret < g->n_layers; ++*ret)
                if (!strcmp(g->layers[*ret].name, json_string_value(name)))
                        return 0;
        return err_set(e, -EBADMSG, "there is no layer '%.60s'", json_string_value(name));
}

static int read_inputs(struct network_graph *g, struct network_layer *l, const json_t *inputs, struct err *e)
{
        int r = inputs ? read_array(inputs, "inputs", NETWORK_FAN_IN_MAX, &l->n_inputs, e) : 0;

        for (size_t i = 0; r == 0 && i < l->n_inputs; i++)
                r = find_layer(g, json_array_get(inputs, i), &l->inputs[i], e);
        return r;
}

static int read_layers(struct network_graph *g, const json_t *o, struct err *e)
{
        json_t *layers = json_object_get(o, "layers");
        size_t n = 0;
        int r = read_array(layers, "layers", NETWORK_LAYERS_MAX, &n, e);

        for (size_t i = 0; r == 0 && i < n; i++) {
                json_t *layer = json_array_get(layers, i);
                const char *name = NULL, *type = NULL;
                struct network_layer *l = NULL;

                r = json_is_object(layer) ? 0 : err_set(e, -EBADMSG, "layer %zu is not an object", i);
                if (r == 0 && (json_get_string(layer, "name", &name, e) < 0 ||
                               json_get_string(layer, "type", &type, e) < 0))
                        r = err_prefix(e, -EBADMSG, "layer %zu", i);
                if (r == 0)
                        r = network_add_layer(g, name, type, &l, e);
                if (r == 0 && (r = read_members(g, l, layer, e)) < 0)
                        (void)err_prefix(e, r, "layer '%.60s'", name);
        }
        for (size_t i = 0; r == 0 && i < n; i++)
                if ((r = read_inputs(g, &g->layers[i], json_object_get(json_array_get(layers, i), "inputs"),
                                     e)) < 0)
                        (void)err_prefix(e, r, "layer '%.60s'", g->layers[i].name);
        return r;
}

static int read_outputs(struct network_graph *g, const json_t *o, struct network_document *d, struct err *e)
{
        const json_t *outputs = json_object_get(o, "outputs");
        int r = read_array(outputs, "outputs", MODEL_COMPONENTS_MAX, &d->n_components, e);

        for (size_t i = 0; r == 0 && i < d->n_components; i++) {
                const json_t *output = json_array_get(outputs, i),
                             *column = json_object_get(output, "column");

                r = json_get_string(output, "component", &d->components[i], e);
                for (size_t k = 0; r == 0 && k < i; k++)
                        if (!strcmp(d->components[k], d->components[i]))
                                r = err_set(e, -EBADMSG, "component '%.40s' is there twice",
                                            d->components[i]);
                if (r == 0)
                        r = find_layer(g, json_object_get(output, "layer"), &g->outputs[i].layer, e);
                if (r == 0 && column)
                        r = read_size(column, 0, NETWORK_WIDTH_MAX, "column", &g->outputs[i].column, e);
                if (r < 0)
                        return err_prefix(e, -EBADMSG, "output %zu", i);
        }
        g->n_outputs = d->n_components;
        return r;
}

static int read_features(const json_t *o, struct network_document *d, struct err *e)
{
        const json_t *features = json_object_get(o, "features");
        int r = read_array(features, "features", MODEL_FEATURES_MAX, &d->n_features, e);

        if (r == 0 && d->n_features == 0)
                r = err_set(e, -EBADMSG, "'features' is empty");
        for (size_t i = 0; r == 0 && i < d->n_features; i++) {
                if (check_keys(json_array_get(features, i), " name low high ", e) < 0 ||
                    json_get_string(json_array_get(features, i), "name", &d->features[i], e) < 0)
                        return err_prefix(e, -EBADMSG, "feature %zu", i);
                for (size_t k = 0; r == 0 && k < i; k++)
                        if (!strcmp(d->features[k], d->features[i]))
                                r = err_set(e, -EBADMSG, "feature '%.60s' is there twice", d->features[i]);
        }
        return r;
}

/* "low", "high": between which the feature was in training. What is large is the larger of both. */
static int read_ranges(struct plan *plan, const json_t *o, struct err *e)
{
        for (size_t i = 0; i < plan->n_inputs; i++) {
                const json_t *f = json_array_get(json_object_get(o, "features"), i);
                const json_t *low = json_object_get(f, "low"), *high = json_object_get(f, "high");

                if (!low && !high)
                        continue;
                if (read_number(low, "low", &plan->low[i], e) < 0 ||
                    read_number(high, "high", &plan->high[i], e) < 0)
                        return err_prefix(e, -EBADMSG, "feature %zu", i);
                if (plan->low[i] > plan->high[i])
                        return err_set(e, -EBADMSG, "feature %zu: %g is more than %g", i, plan->low[i],
                                       plan->high[i]);
                plan->typical[i] = fmax(fabs(plan->low[i]), fabs(plan->high[i]));
        }
        return 0;
}

/* A Normalization right behind an input tells as much as a scaler, where the document does not. */
static void note_ranges(struct plan *plan, const struct network_graph *g)
{
        for (size_t i = 0; i < g->n_layers; i++) {
                const struct network_layer *l = &g->layers[i];
                const struct network_layer *in = &g->layers[l->inputs[0]];
                size_t n = in->n_features;

                if (strcmp(l->type->name, "normalization") || l->invert || n == 0 || l->n_weights != 2 * n)
                        continue;
                for (size_t j = 0; j < n; j++) {
                        size_t f = in->features[j];
                        double reach = MODEL_SIGMAS * sqrt(l->weights[n + j]);

                        if (isfinite(plan->low[f]))
                                continue;
                        plan->low[f] = l->weights[j] - reach;
                        plan->high[f] = l->weights[j] + reach;
                        plan->typical[f] = fmax(fabs(plan->low[f]), fabs(plan->high[f]));
                }
        }
}

static int read_head(json_t *o, struct err *e)
{
        const char *format = NULL;
        long long version = 0;

        if (json_get_string(o, "format", &format, e) < 0 || json_get_int(o, "version", &version, e) < 0)
                return -EBADMSG;
        if (strcmp(format, "wattloop-network"))
                return err_set(e, -EBADMSG, "format '%.40s' is not wattloop-network", format);
        if (version != NETWORK_VERSION)
                return err_set(e, -ENOTSUP, "wattloop-network version %lld; this program knows %d", version,
                               NETWORK_VERSION);
        return check_keys(o, " format version features layers outputs ", e);
}

void network_document_done(struct network_document *d)
{
        json_decref(d->json);
}

int network_read(const void *data, size_t size, struct plan **ret_plan, struct network_document *ret,
                 struct err *e)
{
        CLEANUP(network_document_done) struct network_document d = { 0 };
        CLEANUP(freep) struct network_graph *g = NULL;
        CLEANUP(plan_freep) struct plan *plan = NULL;
        int r;

        if (size > NETWORK_JSON_MAX)
                return err_set(e, -E2BIG, "larger than %zu bytes", NETWORK_JSON_MAX);
        r = json_parse(data, size, NETWORK_FILE, &d.json, e);
        if (r < 0)
                return r;
        if (!json_is_object(d.json))
                return err_set(e, -EBADMSG, "not a JSON object");
        r = read_head(d.json, e);
        if (r == 0)
                r = read_features(d.json, &d, e);
        if (r == 0)
                r = plan_new(d.n_features, &plan, e);
        if (r == 0)
                r = network_graph_new(plan, &g, e);
        if (r == 0)
                r = read_ranges(plan, d.json, e);
        if (r == 0)
                r = read_layers(g, d.json, e);
        if (r == 0)
                r = read_outputs(g, d.json, &d, e);
        if (r == 0)
                r = network_compile(g, e);
        if (r < 0)
                return r;
        note_ranges(plan, g);
        plan->kind = "network";
        *ret_plan = TAKE(plan);
        *ret = d;
        d.json = NULL;
        return 0;
}
