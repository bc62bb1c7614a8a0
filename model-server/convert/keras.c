/* SPDX-License-Identifier: Apache-2.0 */
/* The graph of a Keras model: Sequential, or Functional in the form of Keras 2 (inbound_nodes are lists of
 * ["layer", node, tensor, {…}]) and of Keras 3 ({"args": […], "kwargs": {…}} with tensors that tell their
 * keras_history). */
#include "model-server/convert/keras.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/json.h"
#include "schema/vocabulary.h"

#define NESTING_MAX 8 /* of arguments */

struct graph {
        struct conversion c;
        const struct scaling *scaling;
        const json_t *list; /* Keras's layers, borrowed */
        json_t *inputs;     /* owned: names of input layers in the order of the features */
        size_t widths[MODEL_FEATURES_MAX], n_features;
        json_t *outputs; /* owned: names of layers */
};

static void graph_done(struct graph *g)
{
        json_decref(g->c.layers);
        json_decref(g->inputs);
        json_decref(g->outputs);
}

/* ---- shapes ---- */

int keras_shape(const json_t *v, bool batch, struct network_shape *ret, struct err *e)
{
        size_t n = json_array_size(v), first = batch ? 1 : 0;

        *ret = (struct network_shape){ 0 };
        if (!json_is_array(v) || n <= first)
                return err_set(e, -ENOTSUP, "a shape is missing or empty");
        if (n - first > NETWORK_RANK_MAX)
                return err_set(e, -ENOTSUP, "a tensor of rank %zu", n - first);
        for (size_t i = first; i < n; i++) {
                const json_t *d = json_array_get(v, i);

                if (!json_is_integer(d) || json_integer_value(d) > NETWORK_WIDTH_MAX ||
                    json_integer_value(d) < (batch ? 1 : -1) || json_integer_value(d) == 0)
                        return err_set(e, -ENOTSUP, "a dimension is open, or not from 1 to %d",
                                       NETWORK_WIDTH_MAX);
                ret->dim[ret->rank++] = json_integer_value(d) < 0 ? 0 : (size_t)json_integer_value(d);
        }
        return 0;
}

json_t *keras_shape_json(const struct network_shape *s)
{
        json_t *v = json_array();

        for (size_t i = 0; v && i < s->rank; i++)
                (void)json_array_append_new(v,
                                            json_integer((json_int_t)s->dim[i])); /* short of memory: refused
                                                                                    as it is read again */
        return v;
}

/* ---- inputs ---- */

static json_t *slice(const double *v, size_t n)
{
        json_t *a = json_array();

        for (size_t i = 0; a && i < n; i++)
                (void)json_array_append_new(a, json_real(v[i]));
        return a;
}

/* Features, then scaled, then in the input's shape; the last of these has the name. */
static int add_input(struct graph *g, const char *name, const struct network_shape *shape, struct err *e)
{
        size_t n = network_size(shape), first = g->n_features;
        bool scaled = g->scaling->n > 0, shaped = shape->rank > 1;
        char raw[NETWORK_NAME_MAX + 16], flat[NETWORK_NAME_MAX + 16];
        json_t *l = NULL, *columns, *from;
        int r;

        if (strlen(name) >= NETWORK_NAME_MAX)
                return err_set(e, -ENOTSUP, "input '%.60s...' has too long a name", name);
        if (n > MODEL_FEATURES_MAX - first)
                return err_set(e, -E2BIG, "input '%.60s': more than %d features", name, MODEL_FEATURES_MAX);
        if (scaled && first + n > g->scaling->n)
                return err_set(e, -EINVAL, "the scaler has %zu features, the model more", g->scaling->n);
        (void)snprintf(raw, sizeof(raw), "%s%s", name, scaled || shaped ? "/features" : "");
        (void)snprintf(flat, sizeof(flat), "%s%s", name, shaped ? "/flat" : "");
        r = keras_emit(&g->c, raw, "input", NULL, &l, e);
        if (r < 0)
                return r;
        columns = json_array();
        for (size_t i = first; columns && i < first + n; i++)
                (void)json_array_append_new(columns, json_integer((json_int_t)i));
        (void)json_object_set_new(l, "features", columns);
        if (scaled) {
                from = json_pack("[s]", raw);
                r = keras_emit(&g->c, flat, "rescaling", from, &l, e);
                json_decref(from);
                if (r < 0)
                        return r;
                (void)json_object_set_new(l, "scale", slice(g->scaling->factor + first, n));
                (void)json_object_set_new(l, "offset", slice(g->scaling->offset + first, n));
        }
        if (shaped) {
                from = json_pack("[s]", scaled ? flat : raw);
                r = keras_emit(&g->c, name, "reshape", from, &l, e);
                json_decref(from);
                if (r < 0)
                        return r;
                (void)json_object_set_new(l, "shape", keras_shape_json(shape));
        }
        g->widths[json_array_size(g->inputs)] = n;
        g->n_features += n;
        return json_array_append_new(g->inputs, json_string(name)) < 0 ? err_set(e, -ENOMEM, "out of memory")
                                                                       : 0;
}

static const json_t *input_shape(const json_t *config)
{
        const json_t *v = json_object_get(config, "batch_shape");

        return v ? v : json_object_get(config, "batch_input_shape");
}

/* ---- layers ---- */

static const json_t *config_of(const json_t *layer)
{
        return json_object_get(layer, "config");
}

static const char *name_of(const json_t *layer)
{
        const char *name = json_string_value(json_object_get(config_of(layer), "name"));

        return name ? name : json_string_value(json_object_get(layer, "name"));
}

static const char *class_of(const json_t *layer)
{
        const char *class = json_string_value(json_object_get(layer, "class_name"));

        return class ? class : "";
}

/* Keras's to_snake_case(): "PReLU" is p_re_lu. A letter begins a word before a capital with small letters
 * behind it, and a capital after a small letter. */
static void snake_case(const char *class, char ret[NETWORK_NAME_MAX])
{
        size_t n = 0;

        for (size_t i = 0; class[i] && n + 2 < NETWORK_NAME_MAX; i++) {
                bool capital = isupper((unsigned char)class[i]);

                if (i > 0 && capital &&
                    (islower((unsigned char)class[i + 1]) || islower((unsigned char)class[i - 1])))
                        ret[n++] = '_';
                ret[n++] = (char)tolower((unsigned char)class[i]);
        }
        ret[n] = '\0';
}

/* The group that holds the weights of layer i of the list: its class, counted. */
static void find_group(const json_t *list, size_t index, char ret[NETWORK_NAME_MAX])
{
        char mine[NETWORK_NAME_MAX], other[NETWORK_NAME_MAX];
        size_t before = 0;

        snake_case(class_of(json_array_get(list, index)), mine);
        for (size_t i = 0; i < index; i++) {
                snake_case(class_of(json_array_get(list, i)), other);
                before += !strcmp(mine, other);
        }
        if (before > 0)
                (void)snprintf(ret, NETWORK_NAME_MAX, "%.100s_%zu", mine, before);
        else
                (void)snprintf(ret, NETWORK_NAME_MAX, "%s", mine);
}

/* A class of somebody's own says so by the module that it comes from, or the name that it is registered by.
 */
static int check_custom(const json_t *layer, struct err *e)
{
        const char *module = json_string_value(json_object_get(layer, "module"));
        const char *registered = json_string_value(json_object_get(layer, "registered_name"));

        if ((module && strncmp(module, "keras", 5) != 0 && strncmp(module, "tf_keras", 8) != 0) ||
            (registered && strchr(registered, '>') && strncmp(registered, "keras", 5) != 0))
                return err_set(e, -ENOTSUP, "layer '%.60s' is a custom object: %.60s", name_of(layer),
                               registered ? registered : class_of(layer));
        return 0;
}

static int add_layer(struct graph *g, size_t index, const json_t *inputs, struct err *e)
{
        const json_t *layer = json_array_get(g->list, index);
        struct keras_layer k = {
                .name = name_of(layer), .class = class_of(layer), .config = config_of(layer), .inputs = inputs
        };
        int r = check_custom(layer, e);

        if (r < 0)
                return r;
        find_group(g->list, index, k.group);
        return keras_lower(&g->c, &k, e);
}

static int check_list(const struct graph *g, struct err *e)
{
        if (!json_is_array(g->list) || json_array_size(g->list) == 0)
                return err_set(e, -EBADMSG, "the model has no list of layers");
        if (json_array_size(g->list) > NETWORK_LAYERS_MAX)
                return err_set(e, -E2BIG, "more than %d layers", NETWORK_LAYERS_MAX);
        for (size_t i = 0; i < json_array_size(g->list); i++)
                if (!name_of(json_array_get(g->list, i)) || !*name_of(json_array_get(g->list, i)))
                        return err_set(e, -EBADMSG, "layer %zu has no name", i);
        return 0;
}

/* ---- Sequential ---- */

/* The shape of a model without an input layer: its first layer's, or what its first kernel multiplies. */
static int first_shape(struct graph *g, struct network_shape *ret, struct err *e)
{
        const json_t *layer = json_array_get(g->list, 0), *shape = input_shape(config_of(layer));
        const struct tensor *kernel;
        char group[NETWORK_NAME_MAX];

        if (!shape)
                shape = json_object_get(json_object_get(layer, "build_config"), "input_shape");
        if (shape)
                return keras_shape(shape, true, ret, e);
        find_group(g->list, 0, group);
        kernel = g->c.saved->by_order ? saved_find(g->c.saved, group, "vars/0")
                                      : saved_find(g->c.saved, name_of(layer), "kernel");
        if (strcmp(class_of(layer), "Dense") || !kernel || kernel->rank != 2)
                return err_set(e, -ENOTSUP,
                               "the model does not say its input's shape: begin with an Input layer");
        *ret = (struct network_shape){ 1, { kernel->dim[0] } };
        return 0;
}

static int read_sequential(struct graph *g, struct err *e)
{
        const json_t *first = json_array_get(g->list, 0);
        bool has_input = !strcmp(class_of(first), "InputLayer");
        const char *before = has_input ? name_of(first) : "input";
        struct network_shape shape = { 0 };
        int r = has_input ? keras_shape(input_shape(config_of(first)), true, &shape, e)
                          : first_shape(g, &shape, e);

        if (r == 0)
                r = add_input(g, before, &shape, e);
        for (size_t i = has_input ? 1 : 0; r == 0 && i < json_array_size(g->list); i++) {
                CLEANUP(json_decrefp) json_t *inputs = json_pack("[s]", before);

                r = add_layer(g, i, inputs, e);
                before = name_of(json_array_get(g->list, i));
        }
        if (r == 0 && json_array_append_new(g->outputs, json_string(before)) < 0)
                r = err_set(e, -ENOMEM, "out of memory");
        return r;
}

/* ---- Functional ---- */

/* ["layer", node, tensor], perhaps with arguments behind. */
static bool is_reference(const json_t *v)
{
        return json_is_array(v) && json_array_size(v) >= 3 && json_is_string(json_array_get(v, 0)) &&
               json_is_integer(json_array_get(v, 1));
}

static int add_reference(const json_t *v, json_t *names, struct err *e)
{
        const char *name = json_string_value(json_array_get(v, 0));

        if (json_integer_value(json_array_get(v, 1)) != 0 || json_integer_value(json_array_get(v, 2)) != 0)
                return err_set(e, -ENOTSUP, "layer '%.60s' is used more than once", name ? name : "?");
        if (json_object_size(json_array_get(v, 3)) > 0)
                return err_set(e, -ENOTSUP, "a call of a layer with arguments, behind '%.60s'",
                               name ? name : "?");
        return json_array_append_new(names, json_string(name)) < 0
                       ? err_set(e, -EBADMSG, "a layer without a name")
                       : 0;
}

/* All tensors among arguments, in their order. */
static int collect(const json_t *v, int nesting, json_t *names, struct err *e)
{
        const char *class = json_string_value(json_object_get(v, "class_name"));
        int r = 0;

        if (nesting > NESTING_MAX)
                return err_set(e, -E2BIG, "arguments are nested too deep");
        if (is_reference(v))
                return add_reference(v, names, e);
        if (class && !strcmp(class, "__keras_tensor__"))
                return collect(json_object_get(json_object_get(v, "config"), "keras_history"), nesting + 1,
                               names, e);
        for (size_t i = 0; r == 0 && i < json_array_size(v); i++)
                r = collect(json_array_get(v, i), nesting + 1, names, e);
        if (json_is_object(v)) {
                const char *key;
                json_t *member;

                json_object_foreach ((json_t *)(uintptr_t)v, key, member) /* reads only */
                        if (r == 0)
                                r = collect(member, nesting + 1, names, e);
        }
        return r;
}

/* What a call gives beside its tensors would change what it does: only what changes nothing when predicting.
 */
static int check_kwargs(const json_t *kwargs, struct err *e)
{
        const char *key;
        json_t *v;

        json_object_foreach ((json_t *)(uintptr_t)kwargs, key, v) /* reads only */
                if (!json_is_null(v) && strcmp(key, "training"))
                        return err_set(e, -ENOTSUP, "a call with the argument '%.40s'", key);
        return 0;
}

static int read_calls(const json_t *layer, json_t *names, struct err *e)
{
        const json_t *nodes = json_object_get(layer, "inbound_nodes"), *call = json_array_get(nodes, 0);
        int r;

        if (json_array_size(nodes) != 1)
                return err_set(e, -ENOTSUP,
                               json_array_size(nodes) == 0 ? "it is never used"
                                                           : "it is used more than once");
        if (!json_is_object(call))
                return collect(call, 0, names, e);
        r = check_kwargs(json_object_get(call, "kwargs"), e);
        return r < 0 ? r : collect(json_object_get(call, "args"), 0, names, e);
}

static const json_t *find_layer(const struct graph *g, const char *name)
{
        for (size_t i = 0; i < json_array_size(g->list); i++)
                if (!strcmp(name_of(json_array_get(g->list, i)), name))
                        return json_array_get(g->list, i);
        return NULL;
}

static int read_inputs(struct graph *g, const json_t *config, struct err *e)
{
        CLEANUP(json_decrefp) json_t *names = json_array();
        int r = collect(json_object_get(config, "input_layers"), 0, names, e);

        for (size_t i = 0; r == 0 && i < json_array_size(names); i++) {
                const char *name = json_string_value(json_array_get(names, i));
                const json_t *layer = find_layer(g, name);
                struct network_shape shape = { 0 };

                if (!layer || strcmp(class_of(layer), "InputLayer"))
                        return err_set(e, -EBADMSG, "input '%.60s' is no InputLayer", name);
                r = keras_shape(input_shape(config_of(layer)), true, &shape, e);
                if (r < 0)
                        return err_prefix(e, r, "input '%.60s'", name);
                r = add_input(g, name, &shape, e);
        }
        if (r == 0 && g->n_features == 0)
                r = err_set(e, -EBADMSG, "the model has no inputs");
        return r;
}

static int read_functional(struct graph *g, const json_t *config, struct err *e)
{
        int r = read_inputs(g, config, e);

        for (size_t i = 0; r == 0 && i < json_array_size(g->list); i++) {
                CLEANUP(json_decrefp) json_t *inputs = json_array();
                const json_t *layer = json_array_get(g->list, i);

                if (!strcmp(class_of(layer), "InputLayer"))
                        continue;
                r = read_calls(layer, inputs, e);
                if (r < 0)
                        return err_prefix(e, r, "layer '%.60s'", name_of(layer));
                r = add_layer(g, i, inputs, e);
        }
        return r < 0 ? r : collect(json_object_get(config, "output_layers"), 0, g->outputs, e);
}

/* ---- features, components ---- */

static int append(struct string_list *list, const char *text, struct err *e)
{
        char **grown = realloc(list->items, (list->n + 1) * sizeof(*grown));

        if (!grown)
                return err_set(e, -ENOMEM, "out of memory");
        list->items = grown;
        list->items[list->n] = strdup(text);
        return list->items[list->n++] ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* Names that the model gives: inputs of one feature each. */
static int name_features(const struct graph *g, struct string_list *feature_list, struct err *e)
{
        int r = 0;

        for (size_t i = 0; r == 0 && feature_list->n < g->n_features && i < json_array_size(g->inputs); i++) {
                const char *name = json_string_value(json_array_get(g->inputs, i));

                if (g->widths[i] != 1 || feature_find(name) < 0)
                        return err_set(
                                e, -EINVAL,
                                "the model's inputs do not name its %zu features; say --features A,B,…",
                                g->n_features);
                r = append(feature_list, name, e);
        }
        if (r == 0 && feature_list->n != g->n_features)
                r = err_set(e, -EINVAL, "%zu features for a model of %zu", feature_list->n, g->n_features);
        return r;
}

static int name_components(const struct graph *g, struct string_list *components, struct err *e)
{
        int r = 0;

        for (size_t i = 0; r == 0 && components->n <= i && i < json_array_size(g->outputs); i++) {
                const char *name = json_string_value(json_array_get(g->outputs, i));

                if (!energy_source_of_component(name))
                        return err_set(e, -EINVAL,
                                       "output '%.60s' is no component; say --components package,… in the "
                                       "outputs' order",
                                       name);
                r = append(components, name, e);
        }
        for (size_t i = 0; r == 0 && i < components->n; i++)
                if (!energy_source_of_component(components->items[i]))
                        r = err_set(e, -EINVAL, "component '%.40s' is unknown", components->items[i]);
        return r;
}

/* ---- the document ---- */

/* Each output in a shape that only as many components fit: so none is left over. */
static int add_outputs(struct graph *g, const struct string_list *components, json_t *document, struct err *e)
{
        size_t n = json_array_size(g->outputs);
        json_t *outputs = json_object_get(document, "outputs");
        bool done[MODEL_COMPONENTS_MAX] = { false }; /* sources share components */

        if ((n != 1 && n != components->n) || components->n > MODEL_COMPONENTS_MAX)
                return err_set(e, -EINVAL, "%zu components for a model of %zu outputs", components->n, n);
        for (size_t i = 0; i < n; i++) {
                const char *from = json_string_value(json_array_get(g->outputs, i));
                CLEANUP(json_decrefp) json_t *inputs = json_pack("[s]", from);
                char name[NETWORK_NAME_MAX + 16];
                json_t *l = NULL;
                int r;

                (void)snprintf(name, sizeof(name), "%.127s/watts", from);
                r = keras_emit(&g->c, name, "reshape", inputs, &l, e);
                if (r < 0)
                        return r;
                (void)json_object_set_new(l, "shape",
                                          json_pack("[I]", (json_int_t)(n == 1 ? components->n : 1)));
        }
        for (size_t s = 0; s < energy_sources_n; s++) /* in the vocabulary's order */
                for (size_t k = 0; k < energy_sources[s].n; k++)
                        for (size_t i = 0; i < components->n; i++) {
                                const char *component = energy_sources[s].components[k];
                                char layer[NETWORK_NAME_MAX + 16];

                                if (done[i] || strcmp(component, components->items[i]))
                                        continue;
                                done[i] = true;
                                (void)snprintf(layer, sizeof(layer), "%.127s/watts",
                                               json_string_value(json_array_get(g->outputs, n == 1 ? 0 : i)));
                                (void)json_array_append_new(
                                        outputs, json_pack("{s:s, s:s, s:I}", "component", component, "layer",
                                                           layer, "column", (json_int_t)(n == 1 ? i : 0)));
                        }
        return 0;
}

/* What the first Normalization says about its inputs, where the network begins with it. */
static void put_ranges(const struct graph *g, size_t i, json_t *feature)
{
        const struct scaling *s = g->scaling;

        if (s->n > 0 && isfinite(s->low[i]) && isfinite(s->high[i]) && s->low[i] <= s->high[i]) {
                (void)json_object_set_new(feature, "low", json_real(s->low[i]));
                (void)json_object_set_new(feature, "high", json_real(s->high[i]));
        }
}

static int make_document(struct graph *g, struct string_list *feature_list, struct string_list *components,
                         json_t **ret, struct err *e)
{
        CLEANUP(json_decrefp)
        json_t *document = json_pack("{s:s, s:i, s:[], s:[]}", "format", "wattloop-network", "version",
                                     NETWORK_VERSION, "features", "outputs");
        int r = name_features(g, feature_list, e);

        if (r == 0)
                r = name_components(g, components, e);
        if (r == 0 && !document)
                r = err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; r == 0 && i < feature_list->n; i++) {
                json_t *feature = json_pack("{s:s}", "name", feature_list->items[i]);

                put_ranges(g, i, feature);
                if (json_array_append_new(json_object_get(document, "features"), feature) < 0)
                        r = err_set(e, -EINVAL, "feature '%.60s' is no name", feature_list->items[i]);
        }
        if (r == 0)
                r = add_outputs(g, components, document, e);
        if (r < 0)
                return r;
        (void)json_object_set(document, "layers", g->c.layers);
        *ret = TAKE(document);
        return 0;
}

int keras_convert(const struct saved *saved, struct string_list *feature_list, struct string_list *components,
                  const struct scaling *scaling, json_t **ret, struct err *e)
{
        CLEANUP(graph_done)
        struct graph g = { .c = { .saved = saved, .layers = json_array() },
                           .scaling = scaling,
                           .inputs = json_array(),
                           .outputs = json_array() };
        const char *class = json_string_value(json_object_get(saved->config, "class_name"));
        const json_t *config = json_object_get(saved->config, "config");
        bool sequential = class && !strcmp(class, "Sequential");
        int r;

        if (!g.c.layers || !g.inputs || !g.outputs)
                return err_set(e, -ENOMEM, "out of memory");
        if (!class || (!sequential && strcmp(class, "Functional") && strcmp(class, "Model")))
                return err_set(e, -ENOTSUP,
                               "the model is a '%.60s'; Sequential and Functional models can be converted",
                               class ? class : "?");
        g.list = json_is_array(config) ? config : json_object_get(config, "layers");
        r = check_list(&g, e);
        if (r == 0)
                r = sequential ? read_sequential(&g, e) : read_functional(&g, config, e);
        if (r == 0 && scaling->n > 0 && scaling->n != g.n_features)
                r = err_set(e, -EINVAL, "the scaler has %zu features, the model %zu", scaling->n,
                            g.n_features);
        return r < 0 ? r : make_document(&g, feature_list, components, ret, e);
}
