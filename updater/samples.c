/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/samples.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/buf.h"
#include "common/clock.h"
#include "common/db.h"
#include "samples_sql.h"
#include "schema/samples.h"

#define SAMPLES_BUSY_MS 200
#define SAMPLES_SQL_MAX 1024
#define PREVIOUS        "prev_"

void samples_free(struct samples *samples)
{
        free(samples);
}

/* Totals at the end of an interval. */
struct totals {
        long long epoch, duration_ns;
        double value[FEATURE_N]; /* NAN: NULL */
};

/* The newest first. Columns of later versions than the file's are left out. */
static int make_sql(int version, struct buf *out)
{
        (void)buf_puts(out, "SELECT i.epoch_id, i.duration_ns");
        for (int f = 0; f < FEATURE_N; f++) {
                bool is_late = f == FEATURE_PAGE_CACHE_READ || f == FEATURE_PAGE_CACHE_ADDED;

                (void)buf_printf(out, ", %s%s", is_late && version < 3 ? "NULL AS " : "u.",
                                 features[f].column);
        }
        return buf_printf(out,
                          " FROM interval i JOIN usage u ON u.interval_id = i.interval_id AND u.entity_id = "
                          "(SELECT entity_id FROM entity WHERE kind = 'node' AND key = '') "
                          "ORDER BY i.interval_id DESC LIMIT %d",
                          SAMPLES_MAX + 1);
}

static void read_totals(sqlite3_stmt *stmt, struct totals *ret)
{
        ret->epoch = sqlite3_column_int64(stmt, 0);
        ret->duration_ns = sqlite3_column_int64(stmt, 1);
        for (int f = 0; f < FEATURE_N; f++)
                ret->value[f] = sqlite3_column_type(stmt, f + 2) == SQLITE_NULL
                                        ? NAN
                                        : sqlite3_column_double(stmt, f + 2);
}

/* all[] is the newest first; a row needs the totals before it. */
static void fold(const struct totals *all, size_t n, struct samples *s)
{
        for (size_t i = n; i-- > 1;) {
                const struct totals *now = &all[i - 1], *before = &all[i];
                bool follows = s->n > 0 && i + 1 < n && all[i + 1].epoch == now->epoch;

                if (now->epoch != before->epoch || now->duration_ns <= 0)
                        continue;
                for (int f = 0; f < FEATURE_N; f++) {
                        s->rate[s->n][f] = (now->value[f] - before->value[f]) * features[f].wire_scale *
                                           (double)NS_PER_S / (double)now->duration_ns;
                        s->before[s->n][f] = follows ? s->rate[s->n - 1][f] : NAN;
                }
                s->n++;
        }
}

int samples_read(const char *path, struct samples **ret, struct err *e)
{
        static const struct db_migrations migrations = { samples_migrations, ARRAY_SIZE(samples_migrations),
                                                         SAMPLES_APPLICATION_ID };
        CLEANUP(samples_freep) struct samples *s = calloc(1, sizeof(*s));
        CLEANUP(freep) struct totals *all = calloc(SAMPLES_MAX + 1, sizeof(*all));
        CLEANUP(db_closep) sqlite3 *db = NULL;
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL; /* ends before its database */
        CLEANUP(buf_done) struct buf sql;
        int r, version = 0;
        size_t n = 0;

        buf_init(&sql, SAMPLES_SQL_MAX);
        if (!s || !all)
                return err_set(e, -ENOMEM, "out of memory");
        r = db_open(path, DB_READ_ONLY, &migrations, SAMPLES_BUSY_MS, &db, &version, e);
        if (r == 0)
                r = make_sql(version, &sql);
        if (r == 0)
                r = db_prepare(db, sql.data, &stmt, e);
        while (r == 0 && n <= SAMPLES_MAX) {
                r = db_step(stmt, e);
                if (r != 1)
                        break;
                read_totals(stmt, &all[n++]);
                r = 0;
        }
        if (r < 0)
                return r;
        fold(all, n, s);
        *ret = TAKE(s);
        return 0;
}

double samples_value(const struct samples *s, size_t row, const char *feature)
{
        bool is_before = strncmp(feature, PREVIOUS, strlen(PREVIOUS)) == 0;
        int f = feature_find(is_before ? feature + strlen(PREVIOUS) : feature);

        return f < 0 ? NAN : is_before ? s->before[row][f] : s->rate[row][f];
}
