/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/pod.h"

#include <stdlib.h>
#include <string.h>

static struct pod *find(struct window *w, const char *id)
{
        for (size_t low = 0, high = w->n_pods; low < high;) {
                size_t middle = (low + high) / 2;
                int order = strcmp(w->pods[middle].id, id);

                if (order == 0)
                        return &w->pods[middle];
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

static struct pod *insert(struct window *w, const char *id)
{
        struct pod *pods = realloc(w->pods, (w->n_pods + 1) * sizeof(*pods));
        size_t at = w->n_pods;

        if (!pods)
                return NULL;
        w->pods = pods;
        while (at > 0 && strcmp(pods[at - 1].id, id) > 0)
                at--;
        memmove(&pods[at + 1], &pods[at], (w->n_pods - at) * sizeof(*pods));
        pods[at] = (struct pod){ 0 };
        memcpy(pods[at].id, id, sizeof(pods[at].id));
        w->n_pods++;
        return &pods[at];
}

static void forget_gone(struct window *w)
{
        size_t kept = 0;

        for (size_t i = 0; i < w->n_pods; i++)
                if (w->pods[i].live)
                        w->pods[kept++] = w->pods[i];
        w->n_pods = kept;
}

void pods_fold(struct window *w)
{
        for (size_t i = 0; i < w->n_pods; i++) {
                w->pods[i].live = false;
                w->pods[i].names = NULL;
                memset(w->pods[i].energy_uj, 0, sizeof(w->pods[i].energy_uj));
        }
        for (size_t i = 0; i < w->n; i++) {
                const struct entity *entity = w->entities[i];
                struct pod *pod = NULL;

                if (entity->kind != ENTITY_CONTAINER || !*entity->pod_id)
                        continue;
                if (!(pod = find(w, entity->pod_id)) && !(pod = insert(w, entity->pod_id)))
                        continue;
                pod->live = true;
                pod->names = entity->names ? entity->names : pod->names;
                for (int c = 0; c < SPLIT_N; c++) {
                        pod->energy_uj[c] += entity->energy_uj[c];
                        pod->energy_total_uj[c] += entity->energy_uj[c];
                }
        }
        forget_gone(w);
}
