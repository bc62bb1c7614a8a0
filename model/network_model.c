/* SPDX-License-Identifier: Apache-2.0 */
/* Archives of class "network": metadata, the component map, and network.json, which all components share. */
#include "model/network.h"

#include <errno.h>
#include <string.h>

#include "common/json.h"

/* The map must say what the network says: the same components, each from network.json, over its features and
 * without transformers. */
static int check_map(const json_t *map, const struct network_document *d, struct err *e)
{
        if (json_object_size(map) != d->n_components)
                return err_set(e, -EBADMSG, "the component map has %zu components, the network %zu",
                               json_object_size(map), d->n_components);
        for (size_t i = 0; i < d->n_components; i++) {
                const json_t *entry = json_object_get(map, d->components[i]);
                const json_t *features = json_object_get(entry, "features");
                const char *file = json_string_value(json_object_get(entry, "model_file"));
                size_t n = 0;

                if (!file || strcmp(file, NETWORK_FILE))
                        return err_set(e, -EBADMSG, "component '%.40s' is not from " NETWORK_FILE,
                                       d->components[i]);
                if (json_array_size(json_object_get(entry, "fe_files")) > 0)
                        return err_set(e, -ENOTSUP, "component '%.40s': networks take no fe_files",
                                       d->components[i]);
                while (n < d->n_features && json_is_string(json_array_get(features, n)) &&
                       !strcmp(d->features[n], json_string_value(json_array_get(features, n))))
                        n++;
                if (n != d->n_features || json_array_size(features) != n)
                        return err_set(e, -EBADMSG, "component '%.40s' has other features than the network",
                                       d->components[i]);
        }
        return 0;
}

static int add_features(struct model *m, struct plan *plan, const struct network_document *d, struct err *e)
{
        for (size_t i = 0; i < d->n_features; i++) {
                int r = model_add_feature(m, d->features[i], plan->typical[i], &plan->inputs[i], e);

                if (r < 0)
                        return r;
                model_narrow_feature(m, plan->inputs[i], plan->low[i], plan->high[i]);
        }
        return 0;
}

/* A component's words are in a plan of its own, without stages. */
static int add_component(struct model *m, const struct plan *shared, const char *name, const json_t *metadata,
                         struct err *e)
{
        struct model_component *c = NULL;
        int r = model_add_component(m, name, &c, e);

        if (r == 0)
                r = plan_new(0, &c->plan, e);
        if (r < 0)
                return r;
        c->plan->kind = shared->kind;
        memcpy(c->plan->note, shared->note, sizeof(c->plan->note));
        model_read_component_mae(c->plan, metadata, name);
        return 0;
}

/* The network's outputs follow the document's order, the model's components the vocabulary's. */
static int check_order(const struct model *m, const struct network_document *d, struct err *e)
{
        for (size_t i = 0; i < d->n_components; i++)
                if (strcmp(m->components[i].name, d->components[i]))
                        return err_set(e, -EBADMSG,
                                       "outputs are not in the order package, core, uncore, dram");
        return 0;
}

int model_load_network(const struct model_archive *a, const json_t *metadata,
                       const struct model_load_options *options, struct model **ret, struct err *e)
{
        CLEANUP(network_document_done) struct network_document d = { 0 };
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(json_decrefp) json_t *map = NULL;
        const struct model_entry *file = model_archive_find(a, NETWORK_FILE);
        int r;

        (void)options;
        if (!file)
                return err_set(e, -EBADMSG, "archive has no '" NETWORK_FILE "'");
        r = model_new(&m, e);
        if (r < 0)
                return r;
        m->class = "network";
        r = model_read_head(m, metadata, e);
        if (r < 0)
                return err_prefix(e, r, "metadata.json");
        r = network_read(file->data, file->size, &m->shared, &d, e);
        if (r < 0)
                return err_prefix(e, r, NETWORK_FILE);
        r = model_read_map(a, metadata, &map, e);
        if (r == 0)
                r = check_map(map, &d, e);
        if (r == 0)
                r = add_features(m, m->shared, &d, e);
        for (size_t i = 0; r == 0 && i < d.n_components; i++)
                r = add_component(m, m->shared, d.components[i], metadata, e);
        if (r == 0)
                r = model_check_features(m, metadata, e);
        if (r < 0)
                return r;
        model_sort_components(m);
        r = check_order(m, &d, e);
        if (r == 0)
                *ret = TAKE(m);
        return r;
}
