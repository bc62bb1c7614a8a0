/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/train/trainer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_MAX 16

/* `work` is a copy with what was learned since the last commit; NULL when nothing was. */
struct slot {
        struct learned *committed, *work;
};

struct type_slots {
        struct slot slots[GROUPS_MAX][COMPONENT_N];
};

struct trainer {
        struct type_slots **types; /* by node type */
        int types_n;
};

int group_features_n(const struct feature_group *group)
{
        int n = 0;

        while (n < GROUP_FEATURES_MAX && group->features[n])
                n++;
        return n;
}

int trainer_new(struct trainer **ret, struct err *e)
{
        struct trainer *t = calloc(1, sizeof(*t));

        if (!t)
                return err_set(e, -ENOMEM, "out of memory");
        *ret = t;
        return 0;
}

static struct slot *slot_of(const struct trainer *t, struct learner_key key)
{
        if (key.node_type < 0 || key.node_type >= t->types_n || !t->types[key.node_type])
                return NULL;
        return &t->types[key.node_type]->slots[key.group][key.component];
}

static int add_type(struct trainer *t, int node_type, struct err *e)
{
        if (node_type < 0 || node_type >= NODE_TYPES_MAX || feature_groups_n > GROUPS_MAX)
                return err_set(e, -E2BIG, "node type %d; at most %d types are kept", node_type,
                               NODE_TYPES_MAX);
        if (node_type >= t->types_n) {
                struct type_slots **types =
                        realloc(t->types, ((size_t)node_type + 1) * sizeof(struct type_slots *));

                if (!types)
                        return err_set(e, -ENOMEM, "out of memory");
                while (t->types_n <= node_type)
                        types[t->types_n++] = NULL;
                t->types = types;
        }
        if (!t->types[node_type])
                t->types[node_type] = calloc(1, sizeof(struct type_slots));
        return t->types[node_type] ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static struct learned *slot_work(struct slot *slot, int p, const struct row *row)
{
        if (slot->work)
                return slot->work;
        slot->work = malloc(sizeof(*slot->work));
        if (!slot->work)
                return NULL;
        if (slot->committed) {
                *slot->work = *slot->committed;
        } else {
                learner_init(&slot->work->learner, p);
                slot->work->provenance = row->provenance;
                memcpy(slot->work->definition, row->definition, sizeof(row->definition));
        }
        return slot->work;
}

/* The features of a group in its order; false when the row lacks one. */
static bool pick_features(const struct feature_group *group, const struct row *row, double *x)
{
        for (int j = 0; j < group_features_n(group); j++) {
                int i = feature_find(group->features[j]);

                if (i < 0 || !(row->has_feature & 1u << i))
                        return false;
                x[j] = row->features[i];
        }
        return true;
}

static int learn_group(struct trainer *t, int group, const struct row *row, const double *x, struct err *e)
{
        for (int c = 0; c < COMPONENT_N; c++) {
                struct learner_key key = { row->node_type, group, (enum component_id)c };
                struct learned *work;

                if (!(row->has_watts & 1u << c))
                        continue;
                work = slot_work(slot_of(t, key), group_features_n(&feature_groups[group]), row);
                if (!work)
                        return err_set(e, -ENOMEM, "out of memory");
                if (learner_learn(&work->learner, x, row->watts[c]) < 0)
                        continue; /* not finite: no row for this component */
                /* One simulated row makes a simulated model; a virtual one is better than that. */
                if (row->provenance == PROVENANCE_SIMULATED ||
                    (row->provenance == PROVENANCE_VIRTUAL && work->provenance == PROVENANCE_MEASURED))
                        work->provenance = row->provenance;
                if (strcmp(work->definition, row->definition) != 0)
                        (void)snprintf(work->definition, sizeof(work->definition), "mixed");
        }
        return 0;
}

int trainer_learn(struct trainer *t, const struct row *row, struct err *e)
{
        double x[GROUP_FEATURES_MAX];
        int r = add_type(t, row->node_type, e);

        for (int g = 0; r == 0 && g < (int)feature_groups_n; g++)
                if (pick_features(&feature_groups[g], row, x))
                        r = learn_group(t, g, row, x, e);
        return r;
}

int trainer_put(struct trainer *t, struct learner_key key, const struct learned *learned, struct err *e)
{
        struct slot *slot;
        int r = add_type(t, key.node_type, e);

        if (r < 0)
                return r;
        slot = slot_of(t, key);
        if (!slot->committed)
                slot->committed = malloc(sizeof(*slot->committed));
        if (!slot->committed)
                return err_set(e, -ENOMEM, "out of memory");
        *slot->committed = *learned;
        return 0;
}

static void each_slot(struct trainer *t, void (*fn)(struct slot *))
{
        for (int type = 0; type < t->types_n; type++)
                for (int g = 0; t->types[type] && g < GROUPS_MAX; g++)
                        for (int c = 0; c < COMPONENT_N; c++)
                                fn(&t->types[type]->slots[g][c]);
}

static void slot_commit(struct slot *slot)
{
        if (!slot->work)
                return;
        free(slot->committed);
        slot->committed = TAKE(slot->work);
}

static void slot_rollback(struct slot *slot)
{
        free(slot->work);
        slot->work = NULL;
}

static void slot_clear(struct slot *slot)
{
        slot_rollback(slot);
        free(slot->committed);
        slot->committed = NULL;
}

void trainer_commit(struct trainer *t)
{
        each_slot(t, slot_commit);
}

void trainer_rollback(struct trainer *t)
{
        each_slot(t, slot_rollback);
}

void trainer_clear(struct trainer *t)
{
        each_slot(t, slot_clear);
}

int trainer_each(const struct trainer *t, bool changed_only, trainer_fn fn, void *arg, struct err *e)
{
        for (int type = 0; type < t->types_n; type++)
                for (int g = 0; t->types[type] && g < (int)feature_groups_n; g++)
                        for (int c = 0; c < COMPONENT_N; c++) {
                                const struct slot *slot = &t->types[type]->slots[g][c];
                                const struct learned *l = slot->work ? slot->work : slot->committed;
                                int r;

                                if (!l || (changed_only && !slot->work))
                                        continue;
                                r = fn((struct learner_key){ type, g, (enum component_id)c }, l, arg, e);
                                if (r < 0)
                                        return r;
                        }
        return 0;
}

const struct learned *trainer_find(const struct trainer *t, struct learner_key key)
{
        const struct slot *slot = slot_of(t, key);

        if (!slot)
                return NULL;
        return slot->work ? slot->work : slot->committed;
}

int trainer_node_types(const struct trainer *t)
{
        return t->types_n;
}

void trainer_free(struct trainer *t)
{
        if (!t)
                return;
        trainer_clear(t);
        for (int type = 0; type < t->types_n; type++)
                free(t->types[type]);
        free(t->types);
        free(t);
}
