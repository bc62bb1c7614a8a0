/* SPDX-License-Identifier: Apache-2.0 */
/* What the learning thread knows, told to others as JSON. */
#include <math.h>
#include <string.h>

#include "model-server/learn/state.h"

static json_t *number(double v)
{
        return isfinite(v) ? json_real(v) : json_null();
}

static json_t *describe_scores(const struct learn *l)
{
        json_t *list = json_array();

        for (size_t i = 0; i < l->scores_n; i++)
                for (int k = 0; k < SCORE_KINDS_MAX; k++)
                        for (int g = 0; g < (int)feature_groups_n; g++)
                                for (int c = 0; c < COMPONENT_N; c++) {
                                        const struct mean *m = &l->scores[i]->cells[k][g][c];

                                        if (!m->n)
                                                continue;
                                        (void)json_array_append_new(
                                                list,
                                                json_pack("{s:s, s:s, s:s, s:s, s:I, s:f, s:f}", "node_id",
                                                          l->scores[i]->node_id, "trainer",
                                                          score_kind_name(k), "feature_group",
                                                          feature_groups[g].name, "component",
                                                          component_names[c], "rows", (json_int_t)m->n, "mae",
                                                          m->sum / (double)m->n, "recent_mae", m->recent));
                                }
        return list;
}

static json_t *describe_slot(const struct slot *s)
{
        const struct contender *c = &s->champion;
        json_t *live = json_object();

        for (int i = 0; i < COMPONENT_N; i++)
                if (s->points_n[i])
                        (void)json_object_set_new(live, component_names[i], number(slot_live_mae(s, i)));
        return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:o}", "content_id", c->abs->content_id,
                         "model", c->abs->name, "fit", artifact_text(c->abs, "fit"), "challenger",
                         s->challengers_n ? s->challengers[0].abs->content_id : "", "trial_rows",
                         (json_int_t)s->trial_n, "rows_seen", (json_int_t)s->rows, "last_row",
                         (json_int_t)c->last_row, "recent_mae", number(slot_recent_mae(s)), "live_mae", live);
}

static json_t *describe_history(const struct learn *l)
{
        json_t *list = json_array();

        for (size_t i = 0; i < l->history_n; i++) {
                const struct decision *d = &l->history[i];

                (void)json_array_append_new(
                        list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o}", "model",
                                        d->model, "energy_source", d->source, "feature_group", d->group,
                                        "outcome", d->role, "reason", d->reason, "fit", d->fit, "content_id",
                                        d->content_id, "decided_ms", (json_int_t)d->decided_ms, "trial_rows",
                                        (json_int_t)d->trial_rows, "mae", number(d->mae), "champion_mae",
                                        number(d->rival_mae)));
        }
        return list;
}

json_t *learn_status(struct learn *l)
{
        json_t *slots = json_array(), *o;

        (void)pthread_mutex_lock(&l->lock);
        for (size_t k = 0; k < l->kinds_n; k++)
                for (size_t i = 0; i < l->kinds[k].slots_n; i++)
                        if (l->kinds[k].slots[i].champion.model)
                                (void)json_array_append_new(slots, describe_slot(&l->kinds[k].slots[i]));
        o = json_pack("{s:I, s:I, s:o, s:o, s:o}", "learned_row", (json_int_t)l->row_id, "last_row",
                      (json_int_t)l->last_row, "scores", describe_scores(l), "champions", slots, "history",
                      describe_history(l));
        (void)pthread_mutex_unlock(&l->lock);
        return o;
}

static const struct slot *find_champion(const struct learn *l, const char *content_id)
{
        for (size_t k = 0; k < l->kinds_n; k++)
                for (size_t i = 0; i < l->kinds[k].slots_n; i++) {
                        const struct slot *s = &l->kinds[k].slots[i];

                        if (s->champion.model && !strcmp(s->champion.abs->content_id, content_id))
                                return s;
                }
        return NULL;
}

json_t *learn_points(struct learn *l, const char *content_id)
{
        const struct slot *s;
        json_t *o = NULL;

        (void)pthread_mutex_lock(&l->lock);
        s = find_champion(l, content_id);
        if (s)
                o = json_object();
        for (int c = 0; s && c < COMPONENT_N; c++) {
                uint64_t n = s->points_n[c], first = n > SLOT_POINTS ? n - SLOT_POINTS : 0;
                json_t *list;

                if (!n)
                        continue;
                list = json_array();
                for (uint64_t i = first; i < n; i++) {
                        const struct point *p = &s->points[c][i % SLOT_POINTS];

                        (void)json_array_append_new(list,
                                                    json_pack("[I, f, f]", (json_int_t)p->end_ms,
                                                              (double)p->measured, (double)p->estimated));
                }
                (void)json_object_set_new(o, component_names[c], list);
        }
        (void)pthread_mutex_unlock(&l->lock);
        return o;
}

int64_t learn_published_ms(struct learn *l, const char *content_id)
{
        int64_t since_ms = 0;

        (void)pthread_mutex_lock(&l->lock);
        for (size_t k = 0; k < l->kinds_n; k++)
                for (size_t i = 0; i < l->kinds[k].slots_n; i++) {
                        const struct contender *c = &l->kinds[k].slots[i].champion;

                        if (c->model && (!strcmp(c->abs->content_id, content_id) ||
                                         (c->dyn && !strcmp(c->dyn->content_id, content_id))))
                                since_ms = c->since_ms;
                }
        (void)pthread_mutex_unlock(&l->lock);
        return since_ms;
}

void learn_count(struct learn *l, struct learn_counters *ret)
{
        (void)pthread_mutex_lock(&l->lock);
        *ret = l->counters;
        (void)pthread_mutex_unlock(&l->lock);
}
