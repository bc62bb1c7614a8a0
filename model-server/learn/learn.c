/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "model-server/learn/state.h"

#define TICK_MS        1000 /* how late rows are noticed when nobody pokes */
#define RETRY_NS       (10 * NS_PER_S)
#define RECENT_FOR_MAX 400 /* rows that a restart scores again, for plots and trials */

static void kind_done(struct kind *k)
{
        online_done(&k->online);
        for (size_t i = 0; i < k->slots_n; i++)
                slot_done(&k->slots[i]);
        free(k->slots);
}

static void forget_all(struct learn *l)
{
        for (size_t i = 0; i < l->kinds_n; i++)
                kind_done(&l->kinds[i]);
        for (size_t i = 0; i < l->scores_n; i++) {
                free(l->scores[i]->node_id);
                free(l->scores[i]);
        }
        free(l->kinds);
        free(l->scores);
        l->kinds = NULL;
        l->scores = NULL;
        l->kinds_n = l->scores_n = 0;
}

/* A slot for each source, group and trainer. */
static int make_slots(const struct learn *l, struct kind *k, struct err *e)
{
        const int sources[] = { (int)(energy_source_find("rapl-sysfs") - energy_sources),
                                (int)(energy_source_find("acpi") - energy_sources) };

        k->slots = calloc(ARRAY_SIZE(sources) * feature_groups_n * fitters_n, sizeof(*k->slots));
        if (!k->slots)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t s = 0; s < ARRAY_SIZE(sources); s++)
                for (int g = 0; g < (int)feature_groups_n; g++)
                        for (int t = 0; t < (int)fitters_n; t++) {
                                if (!string_list_has(l->settings.trainers, fitters[t].name))
                                        continue;
                                k->slots[k->slots_n++] = (struct slot){ .node_type = k->node_type,
                                                                        .source = sources[s],
                                                                        .group = g,
                                                                        .trainer = t };
                        }
        return 0;
}

static struct kind *find_kind(struct learn *l, int node_type, struct err *e)
{
        struct kind *kinds;
        size_t at = 0;

        while (at < l->kinds_n && l->kinds[at].node_type < node_type)
                at++;
        if (at < l->kinds_n && l->kinds[at].node_type == node_type)
                return &l->kinds[at];
        kinds = realloc(l->kinds, (l->kinds_n + 1) * sizeof(*kinds));
        if (!kinds) {
                (void)err_set(e, -ENOMEM, "out of memory");
                return NULL;
        }
        l->kinds = kinds;
        memmove(&kinds[at + 1], &kinds[at], (l->kinds_n - at) * sizeof(*kinds));
        kinds[at] = (struct kind){ .node_type = node_type };
        l->kinds_n++;
        return make_slots(l, &kinds[at], e) < 0 ? NULL : &kinds[at];
}

static struct score *find_score(struct learn *l, const char *node_id, struct err *e)
{
        struct score **scores, *s;
        size_t low = 0, high = l->scores_n;

        while (low < high) {
                size_t middle = (low + high) / 2;
                int order = strcmp(l->scores[middle]->node_id, node_id);

                if (order == 0)
                        return l->scores[middle];
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        scores = realloc(l->scores, (l->scores_n + 1) * sizeof(*scores));
        if (scores)
                l->scores = scores;
        s = scores ? calloc(1, sizeof(*s)) : NULL;
        if (s)
                s->node_id = strdup(node_id);
        if (!s || !s->node_id) {
                free(s);
                (void)err_set(e, -ENOMEM, "out of memory");
                return NULL;
        }
        memmove(&scores[low + 1], &scores[low], (l->scores_n - low) * sizeof(*scores));
        scores[low] = s;
        l->scores_n++;
        return s;
}

static void score_online(int group, int component, double error, void *arg)
{
        struct score *s = arg;

        mean_add(&s->cells[SCORE_ONLINE][group][component], error);
}

static void score_slots(struct kind *k, struct score *s, int64_t row_id, const struct row *row)
{
        for (size_t i = 0; i < k->slots_n; i++) {
                struct slot *slot = &k->slots[i];
                double errors[COMPONENT_N];

                if (!slot_usable(slot, row))
                        continue;
                slot_score(slot, row_id, row, errors);
                for (int c = 0; s && c < COMPONENT_N; c++)
                        if (!isnan(errors[c]))
                                mean_add(&s->cells[slot->trainer][slot->group][c], errors[c]);
        }
}

static bool is_accepted(const struct learn *l, const char *node_id, const struct row *row)
{
        return l->settings.accepted & 1u << row->provenance &&
               !string_list_has(l->settings.excluded, node_id);
}

static int learn_row(int64_t row_id, const char *node_id, const struct row *row, void *arg, struct err *e)
{
        struct learn *l = arg;
        const struct online_settings settings = { l->settings.forgetting, l->settings.node_share };
        struct score *s;
        struct kind *k;
        int r;

        if (!is_accepted(l, node_id, row))
                return 0;
        k = find_kind(l, row->node_type, e);
        s = k ? find_score(l, node_id, e) : NULL;
        if (!s)
                return -ENOMEM;
        score_slots(k, s, row_id, row);
        r = online_learn(&k->online, &settings, node_id, row, score_online, s, e);
        if (r < 0)
                return r;
        l->counters.rows++;
        l->counters.left_out += r == 0;
        s->node_type = row->node_type;
        s->last_ms = row->end_ms;
        s->rows++;
        s->changed = k->changed = true;
        return 0;
}

static int save_kind(struct learn *l, struct kind *k, struct err *e)
{
        CLEANUP(buf_done) struct buf state = { 0 };

        buf_init(&state, 8 << 20);
        if (online_write(&k->online, &state) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        return ledger_save_online(l->ledger, k->node_type, &state, e);
}

static int save_score(struct learn *l, const struct score *s, struct err *e)
{
        CLEANUP(buf_done) struct buf state = { 0 };

        buf_init(&state, 1 << 20);
        if (score_write(s, &state) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        return ledger_save_score(l->ledger, s->node_id, s->node_type, s->rows, &state, e);
}

/* What a chunk changed, and how far it went, in one transaction. */
static int save_progress(struct learn *l, int64_t row_id, struct err *e)
{
        int r = ledger_begin(l->ledger, e);

        for (size_t i = 0; r == 0 && i < l->kinds_n; i++)
                if (l->kinds[i].changed)
                        r = save_kind(l, &l->kinds[i], e);
        for (size_t i = 0; r == 0 && i < l->scores_n; i++)
                if (l->scores[i]->changed)
                        r = save_score(l, l->scores[i], e);
        if (r == 0)
                r = ledger_set_progress(l->ledger, row_id, l->settings_text, e);
        if (r == 0)
                r = ledger_commit(l->ledger, e);
        if (r < 0) {
                ledger_rollback(l->ledger);
                return r;
        }
        for (size_t i = 0; i < l->kinds_n; i++)
                l->kinds[i].changed = false;
        for (size_t i = 0; i < l->scores_n; i++)
                l->scores[i]->changed = false;
        return 0;
}

struct refill {
        struct kind *kind;
        struct slot *slot; /* NULL: all of the kind's */
        const struct learn *learn;
};

static int refill_row(int64_t row_id, const char *node_id, const struct row *row, void *arg, struct err *e)
{
        const struct refill *f = arg;
        double errors[COMPONENT_N];

        (void)e;
        if (!is_accepted(f->learn, node_id, row))
                return 0;
        for (size_t i = 0; i < f->kind->slots_n; i++) {
                struct slot *slot = &f->kind->slots[i];
                uint64_t rows = slot->rows;

                if ((f->slot && f->slot != slot) || !slot_usable(slot, row))
                        continue;
                slot_score(slot, row_id, row, errors);
                slot->rows = rows; /* it was counted when it was new */
        }
        return 0;
}

/* What a slot's plots and trial knew of the latest rows, which is kept nowhere. */
static int refill(struct learn *l, struct kind *k, struct slot *slot, struct err *e)
{
        struct refill f = { k, slot, l };

        return feed_recent(l->feed, k->node_type, l->row_id, RECENT_FOR_MAX, refill_row, &f, e);
}

static void note_decision(struct learn *l, const struct ledger_model *m)
{
        struct decision *d = &l->history[0];

        memmove(&l->history[1], d, (LEARN_HISTORY - 1) * sizeof(*d));
        if (l->history_n < LEARN_HISTORY)
                l->history_n++;
        *d = (struct decision){ .decided_ms = m->decided_ms,
                                .trial_rows = m->trial_rows,
                                .mae = m->trial_mae,
                                .rival_mae = m->rival_mae };
        (void)snprintf(d->model, sizeof(d->model), "%s_%d", m->trainer, m->node_type);
        (void)snprintf(d->source, sizeof(d->source), "%s", m->energy_source);
        (void)snprintf(d->group, sizeof(d->group), "%s", m->feature_group);
        (void)snprintf(d->role, sizeof(d->role), "%s", m->role);
        (void)snprintf(d->reason, sizeof(d->reason), "%s", m->reason);
        (void)snprintf(d->fit, sizeof(d->fit), "%s", m->fit);
        (void)snprintf(d->content_id, sizeof(d->content_id), "%s", m->content_id);
}

static int add_artifact(struct learn *l, const struct slot *slot, const struct artifact *a, const char *role,
                        int64_t last_row, int64_t now_ms, int64_t *ret_id, struct err *e)
{
        CLEANUP(buf_done) struct buf zip = { 0 }, metadata = { 0 };
        struct ledger_model m = { .energy_source = a->source->name,
                                  .output_type = output_types[a->output_type],
                                  .feature_group = feature_groups[a->group].name,
                                  .trainer = artifact_text(a, "trainer"),
                                  .fit = artifact_text(a, "fit"),
                                  .role = role,
                                  .reason = slot->reason,
                                  .content_id = a->content_id,
                                  .node_type = a->node_type,
                                  .last_row = last_row,
                                  .rows_seen = slot->rows,
                                  .trained_ms = now_ms,
                                  .decided_ms = now_ms };
        int r;

        buf_init(&zip, MODEL_ARCHIVE_MAX);
        buf_init(&metadata, MODEL_UNPACKED_MAX);
        r = model_archive_pack(a->archive, &zip, e);
        if (r == 0 && json_write(a->metadata, &metadata) < 0)
                r = err_set(e, -ENOMEM, "out of memory");
        if (r < 0)
                return r;
        m.metadata = metadata.data;
        m.archive = zip.data;
        m.archive_size = zip.size;
        return ledger_add_model(l->ledger, &m, ret_id, e);
}

static int add_contender(struct learn *l, const struct slot *slot, struct contender *c, const char *role,
                         int64_t now_ms, struct err *e)
{
        int r = add_artifact(l, slot, c->abs, role, c->last_row, now_ms, &c->model_id, e);

        if (r == 0 && c->dyn)
                r = add_artifact(l, slot, c->dyn, role, c->last_row, now_ms, &c->dyn_id, e);
        return r;
}

static int decide(struct learn *l, const struct contender *c, const char *role, uint64_t rows, double mae,
                  double rival, int64_t now_ms, struct err *e)
{
        int r = ledger_decide(l->ledger, c->model_id, role, rows, mae, rival, now_ms, e);

        return r < 0 || !c->dyn_id ? r
                                   : ledger_decide(l->ledger, c->dyn_id, role, rows, mae, rival, now_ms, e);
}

static void note(struct learn *l, const struct slot *slot, const struct contender *c, const char *role,
                 uint64_t rows, double mae, double rival, int64_t now_ms)
{
        const struct ledger_model m = { .energy_source = c->abs->source->name,
                                        .feature_group = feature_groups[c->abs->group].name,
                                        .trainer = fitters[slot->trainer].name,
                                        .fit = artifact_text(c->abs, "fit"),
                                        .role = role,
                                        .reason = slot->reason ? slot->reason : "",
                                        .content_id = c->abs->content_id,
                                        .node_type = slot->node_type,
                                        .decided_ms = now_ms,
                                        .trial_rows = rows,
                                        .trial_mae = mae,
                                        .rival_mae = rival };

        note_decision(l, &m);
        log_info("%s %s/%s: %s (%s, %s)", c->abs->name, m.energy_source, m.feature_group, role, m.reason,
                 m.fit);
}

static void end_trial(struct slot *slot)
{
        slot->challengers_n = 0;
        slot->trial_n = 0;
        memset(slot->champion_error, 0, sizeof(slot->champion_error));
}

static void crown(struct learn *l, struct slot *slot, struct contender *c, int64_t now_ms)
{
        contender_done(&slot->champion);
        slot->champion = *c;
        slot->champion.since_ms = now_ms;
        *c = (struct contender){ 0 };
        for (int i = 0; i < COMPONENT_N; i++)
                slot->points_n[i] = 0; /* they were its predecessor's */
        l->publish = true;
}

static int finish_trial(struct learn *l, struct kind *k, struct slot *slot, struct err *e)
{
        int64_t now_ms = clock_wall_ms();
        int best, winner, r;
        double mae, rival;

        winner = slot_judge(slot, &best, &mae, &rival);
        r = ledger_begin(l->ledger, e);
        for (int i = 0; r == 0 && i < slot->challengers_n; i++) {
                double own = i == best ? mae : NAN;

                r = decide(l, &slot->challengers[i], i == winner ? "champion" : "rejected", slot->trial_n,
                           own, rival, now_ms, e);
        }
        if (r == 0 && winner >= 0)
                r = decide(l, &slot->champion, "retired", 0, NAN, NAN, now_ms, e);
        if (r == 0)
                r = ledger_commit(l->ledger, e);
        if (r < 0) {
                ledger_rollback(l->ledger);
                return r;
        }

        (void)pthread_mutex_lock(&l->lock);
        note(l, slot, &slot->challengers[best], winner >= 0 ? "champion" : "rejected", slot->trial_n, mae,
             rival, now_ms);
        if (winner >= 0) {
                crown(l, slot, &slot->challengers[winner], now_ms);
                l->counters.promoted++;
        } else {
                l->counters.rejected++;
        }
        for (int i = 0; i < SLOT_CHALLENGERS; i++)
                contender_done(&slot->challengers[i]);
        end_trial(slot);
        r = winner >= 0 ? refill(l, k, slot, e) : 0;
        (void)pthread_mutex_unlock(&l->lock);
        return r;
}

static int train_slot(struct learn *l, struct making *making, struct kind *k, struct slot *slot,
                      const char *reason, struct err *e)
{
        struct contender made[SLOT_CHALLENGERS] = { 0 };
        bool first = !slot->champion.model;
        int64_t now_ms = clock_wall_ms();
        int n = making_train(making, k, slot, made, e), r = n;

        slot->trained_at = slot->rows;
        slot->reason = reason;
        if (n > 0)
                r = ledger_begin(l->ledger, e);
        for (int i = 0; r >= 0 && i < n; i++)
                r = add_contender(l, slot, &made[i], first ? "champion" : "challenger", now_ms, e);
        if (r >= 0 && n > 0)
                r = ledger_commit(l->ledger, e);
        if (r < 0 || n == 0) {
                if (r < 0)
                        ledger_rollback(l->ledger);
                for (int i = 0; i < SLOT_CHALLENGERS; i++)
                        contender_done(&made[i]);
                return r < 0 ? r : 0;
        }

        (void)pthread_mutex_lock(&l->lock);
        l->counters.trained += (uint64_t)n;
        l->counters.drifted += !strcmp(reason, "drift");
        if (first) {
                crown(l, slot, &made[0], now_ms);
                l->fresh = true;
                note(l, slot, &slot->champion, "champion", 0, NAN, NAN, now_ms);
        } else {
                memcpy(slot->challengers, made, sizeof(made));
                slot->challengers_n = n;
                slot->trial_n = 0;
                memset(slot->champion_error, 0, sizeof(slot->champion_error));
        }
        (void)pthread_mutex_unlock(&l->lock);
        return 0;
}

/* Trials that are over, and slots that are due for training. */
static int tend(struct learn *l, struct kind *k, struct err *e)
{
        CLEANUP(making_freep) struct making *making = NULL;
        int r = 0;

        for (size_t i = 0; r == 0 && i < k->slots_n; i++) {
                struct slot *slot = &k->slots[i];
                const char *reason;

                if (slot->challengers_n && slot->trial_n >= slot_trial_rows(slot, l->settings.trial_rows))
                        r = finish_trial(l, k, slot, e);
                reason = r == 0 ? slot_due(slot, l->settings.min_rows) : NULL;
                if (!reason)
                        continue;
                if (!making)
                        r = making_open(l, k->node_type, &making, e);
                if (r == 0)
                        r = train_slot(l, making, k, slot, reason, e);
        }
        return r;
}

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

static void publish_if_due(struct learn *l)
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

/* The next rows, up to FEED_CHUNK; returns how many there were. */
static int learn_chunk(struct learn *l, struct err *e)
{
        int64_t row_id = l->row_id, last_row;
        int n, r = feed_last_row(l->feed, &last_row, e);

        if (r < 0)
                return r;
        (void)pthread_mutex_lock(&l->lock);
        l->last_row = last_row;
        if (last_row < l->row_id) { /* all rows were removed, and numbers begin again */
                row_id = 0;
                for (size_t k = 0; k < l->kinds_n; k++)
                        for (size_t i = 0; i < l->kinds[k].slots_n; i++)
                                l->kinds[k].slots[i].champion.last_row = 0;
        }
        n = feed_rows(l->feed, -1, row_id, last_row, learn_row, l, &row_id, e);
        r = n;
        if (n > 0 || row_id != l->row_id)
                r = n < 0 ? n : save_progress(l, row_id, e);
        if (r >= 0)
                l->row_id = row_id;
        (void)pthread_mutex_unlock(&l->lock);
        return r < 0 ? r : n;
}

static int load_online(int node_type, const void *state, size_t size, void *arg, struct err *e)
{
        struct learn *l = arg;
        struct kind *k = find_kind(l, node_type, e);

        return k ? online_read(state, size, &k->online, e) : -ENOMEM;
}

static int load_score(const char *node_id, int node_type, uint64_t rows, const void *state, size_t size,
                      void *arg, struct err *e)
{
        struct score *s = find_score(arg, node_id, e);

        if (!s)
                return -ENOMEM;
        s->node_type = node_type;
        s->rows = rows;
        return score_read(state, size, s, e);
}

static struct slot *slot_of(struct learn *l, const struct ledger_model *m, struct err *e)
{
        const struct feature_group *group = feature_group_find(m->feature_group);
        const struct fitter *fitter = fitter_find(m->trainer);
        struct kind *k = group && fitter ? find_kind(l, m->node_type, e) : NULL;

        for (size_t i = 0; k && i < k->slots_n; i++) {
                struct slot *s = &k->slots[i];

                if (s->group == (int)(group - feature_groups) && s->trainer == (int)(fitter - fitters) &&
                    !strcmp(energy_sources[s->source].name, m->energy_source))
                        return s;
        }
        return NULL;
}

static const char *known_reason(const char *reason)
{
        return !strcmp(reason, "drift") ? "drift" : !strcmp(reason, "growth") ? "growth" : "first";
}

/* A pair's AbsPower comes first, its DynPower next. */
static int load_model(const struct ledger_model *m, void *arg, struct err *e)
{
        struct learn *l = arg;
        struct slot *slot = slot_of(l, m, e);
        bool champion = !strcmp(m->role, "champion"), dynamic = !strcmp(m->output_type, output_types[1]);
        struct contender *c;
        struct place place;
        struct artifact *a;
        int r;

        if (!slot)
                return 0; /* of a trainer that is no more */
        place = (struct place){ &energy_sources[slot->source], dynamic, slot->group, slot->node_type,
                                m->trainer };
        r = artifact_unpack(&place, m->archive, m->archive_size, &a, e);
        if (r < 0)
                return r;
        if (champion)
                c = &slot->champion;
        else if (dynamic && slot->challengers_n)
                c = &slot->challengers[slot->challengers_n - 1];
        else if (!dynamic && slot->challengers_n < SLOT_CHALLENGERS)
                c = &slot->challengers[slot->challengers_n++];
        else
                c = NULL;
        if (!c || (dynamic ? c->dyn != NULL : c->abs != NULL)) {
                artifact_free(a);
                return 0;
        }
        if (dynamic) {
                c->dyn = a;
                c->dyn_id = m->model_id;
                return 0;
        }
        c->model_id = m->model_id;
        c->last_row = m->last_row;
        c->since_ms = m->decided_ms;
        slot->trained_at = m->rows_seen > slot->trained_at ? m->rows_seen : slot->trained_at;
        slot->reason = known_reason(m->reason);
        return contender_load(c, a, NULL, e);
}

static int load_decision(const struct ledger_model *m, void *arg, struct err *e)
{
        struct learn *l = arg;

        (void)e;
        l->withdraw |=
                !strcmp(m->role, "withdrawn"); /* unless there is something in its place, load_all() finds */
        if (!strcmp(m->output_type, output_types[0]) && strcmp(m->role, "retired") != 0)
                note_decision(arg, m);
        return 0;
}

/* note_decision() puts each in front, so the order turns round. */
static int load_history(struct learn *l, struct err *e)
{
        int r = ledger_each_decision(l->ledger, 3 * LEARN_HISTORY, load_decision, l, e);

        for (size_t i = 0; i < l->history_n / 2; i++) {
                struct decision d = l->history[i];

                l->history[i] = l->history[l->history_n - 1 - i];
                l->history[l->history_n - 1 - i] = d;
        }
        return r;
}

/* How many rows each slot could learn from is told by its online learner, or by what it was trained on. */
static void count_rows(struct kind *k)
{
        for (size_t i = 0; i < k->slots_n; i++) {
                struct slot *slot = &k->slots[i];
                const struct energy_source *source = &energy_sources[slot->source];

                slot->rows = slot->trained_at;
                for (size_t c = 0; c < source->n; c++) {
                        const struct online_cell *cell =
                                k->online.cells[slot->group][component_find(source->components[c])];

                        if (cell && cell->rls.rows > slot->rows)
                                slot->rows = cell->rls.rows;
                }
        }
}

static int reset(struct learn *l, struct err *e)
{
        int r = ledger_begin(l->ledger, e);

        if (r == 0)
                r = ledger_reset(l->ledger, clock_wall_ms(), e);
        if (r == 0)
                r = ledger_set_progress(l->ledger, 0, l->settings_text, e);
        if (r == 0)
                r = ledger_commit(l->ledger, e);
        if (r < 0)
                ledger_rollback(l->ledger);
        l->row_id = 0;
        return r;
}

static bool has_champion(const struct learn *l)
{
        for (size_t k = 0; k < l->kinds_n; k++)
                for (size_t i = 0; i < l->kinds[k].slots_n; i++)
                        if (l->kinds[k].slots[i].champion.model)
                                return true;
        return false;
}

static int load_all(struct learn *l, struct err *e)
{
        CLEANUP(buf_done) struct buf settings = { 0 };
        int r;

        forget_all(l);
        l->history_n = 0;
        buf_init(&settings, 1 << 20);
        r = ledger_progress(l->ledger, &l->row_id, &settings, e);
        if (r == 0 && strcmp(settings.size ? settings.data : "", l->settings_text) != 0) {
                r = reset(l, e);
                if (r == 0 && settings.size)
                        log_info("what may be learned from has changed: learning all rows again");
        }
        if (r == 0)
                r = ledger_each_online(l->ledger, load_online, l, e);
        if (r == 0)
                r = ledger_each_score(l->ledger, load_score, l, e);
        if (r == 0)
                r = ledger_each_live(l->ledger, load_model, l, e);
        if (r == 0)
                r = load_history(l, e);
        l->withdraw &= !has_champion(l);
        for (size_t i = 0; r == 0 && i < l->kinds_n; i++) {
                count_rows(&l->kinds[i]);
                r = refill(l, &l->kinds[i], NULL, e);
        }
        return r;
}

/* States of another version, or damaged: the rows are the truth, and are learned again. */
static int load_or_reset(struct learn *l, struct err *e)
{
        int r = load_all(l, e);

        if (r != -EPROTO && r != -EBADMSG && r != -EDOM && r != -ENOENT && r != -ENOTSUP)
                return r;
        log_warning("learning all rows again: %s", e->text);
        r = reset(l, e);
        if (r < 0)
                return r;
        return load_all(l, e);
}

static int settings_copy(struct learn *l, struct err *e)
{
        l->settings_text = making_settings_text(&l->settings);
        return l->settings_text ? 0 : err_set(e, -ENOMEM, "out of memory");
}

int learn_open(const struct learn_settings *settings, struct learn **ret, struct err *e)
{
        CLEANUP(learn_closep) struct learn *l = calloc(1, sizeof(*l));
        pthread_condattr_t monotonic;
        int r;

        if (!l)
                return err_set(e, -ENOMEM, "out of memory");
        (void)pthread_mutex_init(&l->lock, NULL); /* none of these fails on Linux */
        (void)pthread_mutex_init(&l->wake_lock, NULL);
        (void)pthread_condattr_init(&monotonic);
        (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        (void)pthread_cond_init(&l->wake, &monotonic);
        (void)pthread_condattr_destroy(&monotonic);
        l->settings = *settings;
        l->publish = true; /* a killed server may not have come to it; when it has, nothing differs */
        r = settings_copy(l, e);
        if (r == 0)
                r = feed_open(settings->rows_path, &l->feed, e);
        if (r == 0)
                r = ledger_open(settings->ledger_path, &l->ledger, e);
        if (r == 0)
                r = load_or_reset(l, e);
        if (r < 0)
                return r;
        *ret = TAKE(l);
        return 0;
}

int learn_catch_up(struct learn *l, struct err *e)
{
        int n;

        do {
                n = learn_chunk(l, e);
                for (size_t i = 0; n >= 0 && i < l->kinds_n; i++) {
                        int r = tend(l, &l->kinds[i], e);

                        n = r < 0 ? r : n;
                }
                publish_if_due(l);
        } while (n > 0 && !l->stopping);
        return n < 0 ? n : 0;
}

/* False: the thread shall end. */
static bool wait_for_rows(struct learn *l, uint64_t wait_ns)
{
        struct timespec until;
        int r = 0;
        bool go_on;

        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += (time_t)(wait_ns / NS_PER_S);
        until.tv_nsec += (long)(wait_ns % NS_PER_S);
        until.tv_sec += until.tv_nsec / (long)NS_PER_S;
        until.tv_nsec %= (long)NS_PER_S;
        (void)pthread_mutex_lock(&l->wake_lock);
        while (!l->poked && !l->stopping && r == 0)
                r = pthread_cond_timedwait(&l->wake, &l->wake_lock, &until);
        l->poked = false;
        go_on = !l->stopping;
        (void)pthread_mutex_unlock(&l->wake_lock);
        return go_on;
}

/* After a failure memory may be ahead of the disk: what the disk has is what counts. */
static void recover(struct learn *l, int failure, const struct err *why)
{
        struct err e;
        int r;

        (void)log_error(failure, "cannot learn for now: %s", why->text);
        l->counters.failures++;
        do {
                if (!wait_for_rows(l, RETRY_NS))
                        return;
                (void)pthread_mutex_lock(&l->lock);
                r = load_all(l, &e);
                (void)pthread_mutex_unlock(&l->lock);
        } while (r < 0);
}

static void *run(void *arg)
{
        struct learn *l = arg;

        do {
                struct err e;
                int r = learn_catch_up(l, &e);

                if (r < 0)
                        recover(l, r, &e);
        } while (wait_for_rows(l, TICK_MS * NS_PER_MS));
        return NULL;
}

int learn_start(struct learn *l, struct err *e)
{
        int r = pthread_create(&l->thread, NULL, run, l);

        if (r)
                return err_set(e, -r, "cannot start a thread: %s", strerror(r));
        l->started = true;
        return 0;
}

void learn_poke(struct learn *l)
{
        (void)pthread_mutex_lock(&l->wake_lock);
        l->poked = true;
        (void)pthread_cond_signal(&l->wake);
        (void)pthread_mutex_unlock(&l->wake_lock);
}

void learn_close(struct learn *l)
{
        if (!l)
                return;
        if (l->started) {
                (void)pthread_mutex_lock(&l->wake_lock);
                l->stopping = true;
                (void)pthread_cond_signal(&l->wake);
                (void)pthread_mutex_unlock(&l->wake_lock);
                (void)pthread_join(l->thread, NULL);
        }
        forget_all(l);
        feed_close(l->feed);
        ledger_close(l->ledger);
        free(l->settings_text);
        (void)pthread_cond_destroy(&l->wake);
        (void)pthread_mutex_destroy(&l->wake_lock);
        (void)pthread_mutex_destroy(&l->lock);
        free(l);
}
