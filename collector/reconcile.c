/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/reconcile.h"

#include <errno.h>
#include <stdlib.h>

#define MAX_TRACKED 4096 /* cgroups; one file is read for each per pass */

struct tracked {
        uint64_t id;
        uint64_t base_ns;      /* the counter when it was met first */
        uint64_t explained_ns; /* charged since then */
        uint64_t lent_ns;      /* of that, what no process showed yet */
        bool fresh;            /* met in this pass: what its processes did before explains nothing of it */
};

struct reconcile {
        struct cgroup_table *cgroups; /* borrowed */
        struct tracked tracked[MAX_TRACKED];
        size_t n;
        struct index index;
        struct tracked node;
        bool has_node;
};

int reconcile_new(struct cgroup_table *cgroups, struct reconcile **ret)
{
        struct reconcile *r = calloc(1, sizeof(*r));

        if (!r)
                return -ENOMEM;
        r->cgroups = cgroups;
        *ret = r;
        return 0;
}

void reconcile_free(struct reconcile *r)
{
        if (!r)
                return;
        index_done(&r->index);
        free(r);
}

/* With v1 beside it, a v2 cgroup that is no container may hold processes that are told apart by v1. */
static bool is_whole(struct reconcile *r, uint64_t id)
{
        return !cgroup_table_v1(r->cgroups) || id >> 63 || cgroup_table_find(r->cgroups, id)->container[0];
}

void reconcile_track(struct reconcile *r, uint64_t cgroup_id)
{
        struct tracked t = { .id = cgroup_id, .fresh = true };

        if (cgroup_id == CGROUP_ROOT || r->n == MAX_TRACKED || index_find(&r->index, cgroup_id) != INDEX_NONE)
                return;
        if (!is_whole(r, cgroup_id) || cgroup_table_cpu_ns(r->cgroups, cgroup_id, &t.base_ns) < 0 ||
            index_put(&r->index, cgroup_id, (uint32_t)r->n) < 0)
                return;
        r->tracked[r->n++] = t;
}

static void forget(struct reconcile *r, size_t i)
{
        index_remove(&r->index, r->tracked[i].id);
        r->tracked[i] = r->tracked[--r->n];
        if (i < r->n)
                (void)index_put(&r->index, r->tracked[i].id, (uint32_t)i); /* it is there: only moved */
}

static uint64_t least(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

/* What the counter knows beyond what was charged is charged too. Was it a living process's, used between the
 * reading of that and of the counter, then the process shows it in the next pass, and it is taken back. */
static void settle(struct tracked *t, uint64_t counter_ns, struct usage_set *set, uint64_t cgroup_id)
{
        uint64_t counted_ns = counter_ns > t->base_ns ? counter_ns - t->base_ns : 0, ns;
        uint64_t *delta_ns;

        if (counted_ns == t->explained_ns)
                return;
        delta_ns = &usage_set_row(set, cgroup_id, false)->delta[FEATURE_CPU_TIME];
        if (counted_ns > t->explained_ns) {
                ns = counted_ns - t->explained_ns;
                t->explained_ns += ns;
                t->lent_ns += ns;
                *delta_ns += ns;
                return;
        }
        ns = least(t->explained_ns - counted_ns, least(t->lent_ns, *delta_ns));
        t->explained_ns -= ns;
        t->lent_ns -= ns;
        *delta_ns -= ns;
}

static void apply_cgroups(struct reconcile *r, struct usage_set *set)
{
        for (size_t i = 0; i < set->n; i++) {
                uint32_t at =
                        set->rows[i].kernel ? INDEX_NONE : index_find(&r->index, set->rows[i].cgroup_id);

                if (at != INDEX_NONE && !r->tracked[at].fresh)
                        r->tracked[at].explained_ns += set->rows[i].delta[FEATURE_CPU_TIME];
        }
        for (size_t i = 0; i < r->n;) {
                struct tracked *t = &r->tracked[i];
                uint64_t counter_ns;

                if (cgroup_table_cpu_ns(r->cgroups, t->id, &counter_ns) < 0) {
                        forget(r, i);
                        continue;
                }
                if (!t->fresh)
                        settle(t, counter_ns, set, t->id);
                i++;
        }
}

/* What is still missing was in no cgroup that is known. */
static void apply_node(struct reconcile *r, struct usage_set *set)
{
        uint64_t counter_ns;

        for (size_t i = 0; i < set->n; i++)
                if (!usage_is_vm(set->rows[i].cgroup_id))
                        r->node.explained_ns += set->rows[i].delta[FEATURE_CPU_TIME];
        if (cgroup_table_cpu_ns(r->cgroups, CGROUP_ROOT, &counter_ns) == 0)
                settle(&r->node, counter_ns, set, cgroup_table_choose(r->cgroups, 0, 0));
}

void reconcile_apply(struct reconcile *r, struct usage_set *set)
{
        if (set)
                apply_cgroups(r, set);
        if (set && r->has_node)
                apply_node(r, set);
        if (!set)
                r->has_node = cgroup_table_cpu_ns(r->cgroups, CGROUP_ROOT, &r->node.base_ns) == 0;
        for (size_t i = 0; i < r->n; i++)
                r->tracked[i].fresh = false;
}
