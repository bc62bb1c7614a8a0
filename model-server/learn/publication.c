/* SPDX-License-Identifier: Apache-2.0 */
/* All champions, with the machines that they are for, handed to who publishes them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "model-server/learn/state.h"

struct fleet {
        struct machine_spec *specs; /* owned */
        int specs_n;
        struct pipeline_node *nodes; /* owned */
        size_t nodes_n;
        const struct artifact **artifacts; /* owned */
        size_t artifacts_n;
};

static void fleet_done(struct fleet *f)
{
        for (size_t i = 0; i < f->nodes_n; i++)
                free(f->nodes[i].id);
        free(f->nodes);
        free(f->specs);
        free((void *)f->artifacts);
}

static int add_spec(int node_type, const char *text, void *arg, struct err *e)
{
        struct fleet *f = arg;
        CLEANUP(json_decrefp) json_t *object = NULL;
        struct machine_spec *specs;
        int r = json_parse(text, strlen(text), "machine spec", &object, e);

        if (r < 0)
                return r;
        specs = realloc(f->specs, ((size_t)node_type + 1) * sizeof(*specs));
        if (!specs)
                return err_set(e, -ENOMEM, "out of memory");
        f->specs = specs;
        while (f->specs_n <= node_type)
                specs[f->specs_n++] = (struct machine_spec){ 0 };
        return machine_spec_from_json(object, &specs[node_type], e);
}

static int add_node(const char *node_id, int node_type, void *arg, struct err *e)
{
        struct fleet *f = arg;
        struct pipeline_node *nodes = realloc(f->nodes, (f->nodes_n + 1) * sizeof(*nodes));

        if (!nodes)
                return err_set(e, -ENOMEM, "out of memory");
        f->nodes = nodes;
        nodes[f->nodes_n] = (struct pipeline_node){ node_type, strdup(node_id) };
        if (!nodes[f->nodes_n].id)
                return err_set(e, -ENOMEM, "out of memory");
        f->nodes_n++;
        return 0;
}

/* All champions, by source and output type. */
static int gather(const struct learn *l, struct fleet *f, struct err *e)
{
        size_t max = 0;

        for (size_t k = 0; k < l->kinds_n; k++)
                max += 2 * l->kinds[k].slots_n;
        f->artifacts = calloc(max + 1, sizeof(const struct artifact *));
        if (!f->artifacts)
                return err_set(e, -ENOMEM, "out of memory");
        for (int source = 0; source < (int)energy_sources_n; source++)
                for (int output = 0; output < 2; output++)
                        for (size_t k = 0; k < l->kinds_n; k++)
                                for (size_t i = 0; i < l->kinds[k].slots_n; i++) {
                                        const struct slot *slot = &l->kinds[k].slots[i];
                                        const struct artifact *a =
                                                output ? slot->champion.dyn : slot->champion.abs;

                                        if (slot->source == source && a)
                                                f->artifacts[f->artifacts_n++] = a;
                                }
        return 0;
}

static int publish(struct learn *l, struct err *e)
{
        CLEANUP(fleet_done) struct fleet fleet = { 0 };
        struct pipeline_input in = { .name = l->settings.pipeline,
                                     .isolator = isolator_names[l->settings.isolator],
                                     .now_ms = clock_wall_ms() };
        int r = gather(l, &fleet, e);

        if (r == 0)
                r = feed_node_types(l->feed, add_spec, &fleet, e);
        if (r == 0)
                r = feed_nodes(l->feed, add_node, &fleet, e);
        if (r < 0)
                return r;
        in.artifacts = fleet.artifacts;
        in.n = fleet.artifacts_n;
        in.specs = fleet.specs;
        in.specs_n = fleet.specs_n;
        in.nodes = fleet.nodes;
        in.nodes_n = fleet.nodes_n;
        return l->settings.publish(&in, l->withdraw, l->settings.arg, e);
}

void publication_make_if_due(struct learn *l)
{
        uint64_t now_ns = clock_monotonic_ns();
        struct err e;
        int r;

        if (!l->publish || (!l->fresh && now_ns < l->publish_ns))
                return;
        l->publish_ns = now_ns + (uint64_t)l->settings.publish_interval_ms * NS_PER_MS;
        r = publish(l, &e);
        l->fresh = false;
        if (r < 0) {
                (void)log_error(r, "cannot publish, the old models stay: %s", e.text);
                return; /* once more after the interval */
        }
        l->publish = l->withdraw = false;
}
