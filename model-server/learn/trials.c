/* SPDX-License-Identifier: Apache-2.0 */
/* Trials: challengers are trained when a slot is due, judged on rows that neither they nor the champion has
 * seen, and what was decided goes into the ledger before it counts. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "model-server/learn/state.h"

void trials_note(struct learn *l, const struct ledger_model *m)
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

        trials_note(l, &m);
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
        r = winner >= 0 ? learn_refill(l, k, slot, e) : 0;
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
int trials_tend(struct learn *l, struct kind *k, struct err *e)
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
