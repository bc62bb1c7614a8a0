/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "model-server/learn/state.h"

#define TICK_MS        1000 /* how late rows are noticed when nobody pokes */
#define REST_TICKS     4    /* without rows, after which memory is given back */
#define RETRY_NS       (10 * NS_PER_S)
#define RECENT_FOR_MAX 400 /* rows that a restart scores again, for plots and trials */

static void kind_done(struct kind *k)
{
        online_done(&k->online);
        for (size_t i = 0; i < k->slots_n; i++)
                slot_done(&k->slots[i]);
        free(k->slots);
}

void learn_forget(struct learn *l)
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

struct kind *learn_kind(struct learn *l, int node_type, struct err *e)
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

struct score *learn_score(struct learn *l, const char *node_id, struct err *e)
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
        k = learn_kind(l, row->node_type, e);
        s = k ? learn_score(l, node_id, e) : NULL;
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

int learn_refill(struct learn *l, struct kind *k, struct slot *slot, struct err *e)
{
        struct refill f = { k, slot, l };

        return feed_recent(l->feed, k->node_type, l->row_id, RECENT_FOR_MAX, refill_row, &f, e);
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
                r = restore_or_reset(l, e);
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
                        int r = trials_tend(l, &l->kinds[i], e);

                        n = r < 0 ? r : n;
                }
                publication_make_if_due(l);
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
                r = restore(l, &e);
                (void)pthread_mutex_unlock(&l->lock);
        } while (r < 0);
}

static void *run(void *arg)
{
        struct learn *l = arg;
        int idle = REST_TICKS;

        do {
                uint64_t seen = l->counters.rows;
                struct err e;
                int r = learn_catch_up(l, &e);

                if (r < 0)
                        recover(l, r, &e);
                idle = l->counters.rows == seen ? idle + (idle < REST_TICKS) : -1;
                if (idle == REST_TICKS - 1) /* once, when what was learned is published */
                        (void)malloc_trim(0);
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
        learn_forget(l);
        feed_close(l->feed);
        ledger_close(l->ledger);
        free(l->settings_text);
        (void)pthread_cond_destroy(&l->wake);
        (void)pthread_mutex_destroy(&l->wake_lock);
        (void)pthread_mutex_destroy(&l->lock);
        free(l);
}
