/* SPDX-License-Identifier: Apache-2.0 */
/* Retention: a few of the oldest intervals go with each one that is appended, so the file reaches a size and
 * stays there, its free pages used again, without a VACUUM. */
#include "collector/store_internal.h"

#include "collector/acks.h"

#define RETAIN_PER_TICK    16    /* intervals removed at most with each one appended */
#define VACUUM_PAGES       256   /* given back per tick while the file is over its size */
#define ENTITIES_PRUNE_MIN 20000 /* below that many, entities without rows are left alone */
#define PRUNE_PERIOD_MS    (INT64_C(24) * 3600 * 1000)

/* Acknowledged by every destination up to here; INT64_MAX when there is no destination. An acknowledgement of
 * an epoch that is not in this file is about another file. */
static int acknowledged(struct store *s, int64_t *ret, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        struct ack acks[ACKS_MAX];
        int n = acks_read(s->path, acks), r;

        *ret = INT64_MAX;
        r = db_prepare(s->db, "SELECT 1 FROM epoch WHERE epoch = ?1", &stmt, e);
        for (int i = 0; r >= 0 && i < n; i++) {
                int64_t id = 0;

                store_bind_text(stmt, 1, acks[i].epoch);
                r = db_step(stmt, e);
                if (r > 0) {
                        id = acks[i].interval_id;
                        (void)sqlite3_reset(stmt);
                }
                *ret = id < *ret ? id : *ret;
        }
        return r < 0 ? r : 0;
}

/* Which of the oldest intervals go: too old and acknowledged, or, over the size, any. */
static int choose_removal(struct store *s, int64_t now_ms, bool too_big, int64_t newest, int64_t *ret_last,
                          int64_t *ret_unsent, struct err *e)
{
        sqlite3_stmt *stmt = s->stmt[STORE_OLDEST];
        int64_t sent = INT64_MAX;
        bool asked = false;
        int r;

        *ret_last = *ret_unsent = 0;
        (void)sqlite3_bind_int(stmt, 1, RETAIN_PER_TICK);
        while ((r = db_step(stmt, e)) > 0) {
                int64_t id = sqlite3_column_int64(stmt, 0), end_ms = sqlite3_column_int64(stmt, 1);
                /* a stamp from so far ahead is by a clock that was wrong: its age is not known */
                bool old = end_ms < now_ms - s->retention_age_ms || end_ms > now_ms + s->retention_age_ms;

                if (id >= newest || (!old && !too_big))
                        break;
                if (!asked && (r = acknowledged(s, &sent, e)) < 0)
                        break;
                asked = true;
                if (id >= sent && !too_big) /* the next batch begins with the totals of the last one sent */
                        break;
                *ret_last = id;
                *ret_unsent += id > sent;
        }
        (void)sqlite3_reset(stmt);
        return r < 0 ? r : 0;
}

/* Remove a few of the oldest intervals when there are reasons to: the newest always stays, it holds the
 * totals. */
int store_retain(struct store *s, int64_t now_ms, struct err *e)
{
        int64_t pages[3] = { 0 }, newest = 0, last = 0, unsent = 0;
        bool too_big;
        int r;

        r = store_query_row(s->stmt[STORE_PAGES], pages, 3, e);
        if (r >= 0)
                r = store_query_row(s->stmt[STORE_NEWEST_ID], &newest, 1, e);
        if (r < 0)
                return r;
        too_big = (pages[0] - pages[1]) * pages[2] > s->retention_size;
        r = choose_removal(s, now_ms, too_big, newest, &last, &unsent, e);
        if (r < 0 || last == 0)
                return r;
        (void)sqlite3_bind_int64(s->stmt[STORE_REMOVE], 1, last);
        r = db_run(s->stmt[STORE_REMOVE], e);
        if (r < 0)
                return r;
        (void)sqlite3_bind_int64(s->stmt[STORE_NOTE_REMOVED], 1, last);
        (void)sqlite3_bind_int64(s->stmt[STORE_NOTE_REMOVED], 2, unsent);
        return db_run(s->stmt[STORE_NOTE_REMOVED], e);
}

/* Free pages are used again; only a file over its size gives them back. Failure costs nothing but space. */
static void shrink(struct store *s)
{
        int64_t pages[3] = { 0 };
        char pragma[64];

        if (store_query_row(s->stmt[STORE_PAGES], pages, 3, NULL) <= 0 ||
            pages[0] * pages[2] <= s->retention_size || pages[1] == 0)
                return;
        (void)snprintf(pragma, sizeof(pragma), "PRAGMA incremental_vacuum(%d)", VACUUM_PAGES);
        (void)db_exec(s->db, pragma, NULL);
}

/* Once a day: entities that no row refers to, when they have become many. Foreign keys are off meanwhile,
 * because checking them would search all usage for each. */
static void prune_entities(struct store *s, struct window *w, int64_t now_ms)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int64_t n = 0;

        bool first = s->next_prune_ms == 0;

        if (now_ms < s->next_prune_ms)
                return;
        s->next_prune_ms = now_ms + PRUNE_PERIOD_MS;
        if (first)
                return;
        if (db_prepare(s->db, "SELECT count(*) FROM entity", &stmt, NULL) < 0 ||
            store_query_row(stmt, &n, 1, NULL) <= 0 || n < ENTITIES_PRUNE_MIN)
                return;
        (void)db_exec(s->db, "PRAGMA foreign_keys = OFF", NULL);
        (void)db_exec(s->db, "DELETE FROM entity WHERE entity_id NOT IN (SELECT entity_id FROM usage)", NULL);
        (void)db_exec(s->db, "PRAGMA foreign_keys = ON", NULL);
        store_forget_ids(w);
}

void store_tidy(struct store *s, struct window *w, int64_t now_ms)
{
        shrink(s);
        prune_entities(s, w, now_ms);
}
