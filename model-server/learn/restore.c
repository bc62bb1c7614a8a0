/* SPDX-License-Identifier: Apache-2.0 */
/* What a start, or a failure, takes from the ledger. */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "model-server/learn/state.h"

static int load_online(int node_type, const void *state, size_t size, void *arg, struct err *e)
{
        struct learn *l = arg;
        struct kind *k = learn_kind(l, node_type, e);

        return k ? online_read(state, size, &k->online, e) : -ENOMEM;
}

static int load_score(const char *node_id, int node_type, uint64_t rows, const void *state, size_t size,
                      void *arg, struct err *e)
{
        struct score *s = learn_score(arg, node_id, e);

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
        struct kind *k = group && fitter ? learn_kind(l, m->node_type, e) : NULL;

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
                !strcmp(m->role, "withdrawn"); /* unless there is something in its place, restore() finds */
        if (!strcmp(m->output_type, output_types[0]) && strcmp(m->role, "retired") != 0)
                trials_note(arg, m);
        return 0;
}

/* trials_note() puts each in front, so the order turns round. */
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

int restore(struct learn *l, struct err *e)
{
        CLEANUP(buf_done) struct buf settings = { 0 };
        int r;

        learn_forget(l);
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
                r = learn_refill(l, &l->kinds[i], NULL, e);
        }
        return r;
}

/* States of another version, or damaged: the rows are the truth, and are learned again. */
int restore_or_reset(struct learn *l, struct err *e)
{
        int r = restore(l, e);

        if (r != -EPROTO && r != -EBADMSG && r != -EDOM && r != -ENOENT && r != -ENOTSUP)
                return r;
        log_warning("learning all rows again: %s", e->text);
        r = reset(l, e);
        if (r < 0)
                return r;
        return restore(l, e);
}
