/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/learn/feed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/db.h"
#include "model-server/store.h"
#include "server_sql.h"

struct feed {
        sqlite3 *db;
};

int feed_open(const char *path, struct feed **ret, struct err *e)
{
        const struct db_migrations migrations = { server_migrations, (int)ARRAY_SIZE(server_migrations),
                                                  STORE_APPLICATION_ID };
        CLEANUP(feed_closep) struct feed *f = calloc(1, sizeof(*f));
        int r;

        if (!f)
                return err_set(e, -ENOMEM, "out of memory");
        r = db_open(path, DB_READ_ONLY, &migrations, STORE_BUSY_MS, &f->db, NULL, e);
        if (r == 0)
                r = db_exec(f->db, "PRAGMA cache_size = -256", e); /* KiB: rows are read once, in order */
        if (r < 0)
                return r;
        *ret = TAKE(f);
        return 0;
}

void feed_close(struct feed *f)
{
        if (!f)
                return;
        db_close(f->db);
        free(f);
}

static const char *text_of(sqlite3_stmt *stmt, int i)
{
        const unsigned char *text = sqlite3_column_text(stmt, i);

        return text ? (const char *)text : "";
}

#define ROW_COLUMNS                                                                                          \
        "row_id, node_id, provenance, start_ms, end_ms, seconds, row.node_type, row.definition, features, "  \
        "watts"

static int read_row(sqlite3_stmt *stmt, struct row *row, struct err *e)
{
        int provenance = provenance_find(text_of(stmt, 2));

        if (provenance < 0)
                return err_set(e, -EBADMSG, "row of provenance '%.32s'", text_of(stmt, 2));
        *row = (struct row){ .provenance = (enum provenance)provenance,
                             .start_ms = sqlite3_column_int64(stmt, 3),
                             .end_ms = sqlite3_column_int64(stmt, 4),
                             .seconds = sqlite3_column_double(stmt, 5),
                             .node_type = sqlite3_column_int(stmt, 6) };
        (void)snprintf(row->definition, sizeof(row->definition), "%s", text_of(stmt, 7));
        return row_read(text_of(stmt, 8), text_of(stmt, 9), row, e);
}

static int each_row(sqlite3_stmt *stmt, feed_row_fn fn, void *arg, int64_t *ret_last, struct err *e)
{
        int n = 0, r;

        while ((r = db_step(stmt, e)) > 0) {
                struct row row;

                r = read_row(stmt, &row, e);
                *ret_last = sqlite3_column_int64(stmt, 0);
                if (r == 0)
                        r = fn(*ret_last, text_of(stmt, 1), &row, arg, e);
                if (r < 0)
                        return r;
                n++;
        }
        return r < 0 ? r : n;
}

int feed_rows(struct feed *f, int node_type, int64_t after, int64_t up_to, feed_row_fn fn, void *arg,
              int64_t *ret_last, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(f->db,
                           node_type < 0 ? "SELECT " ROW_COLUMNS " FROM row JOIN epoch USING (epoch_id)"
                                           " WHERE row_id > ?1 AND row_id <= ?2 ORDER BY row_id LIMIT ?3"
                                         : "SELECT " ROW_COLUMNS " FROM row JOIN epoch USING (epoch_id)"
                                           " WHERE row.node_type = ?4 AND row_id > ?1 AND row_id <= ?2"
                                           " ORDER BY row_id LIMIT ?3",
                           &stmt, e);

        if (r < 0)
                return r;
        (void)sqlite3_bind_int64(stmt, 1, after);
        (void)sqlite3_bind_int64(stmt, 2, up_to);
        (void)sqlite3_bind_int64(stmt, 3, FEED_CHUNK);
        if (node_type >= 0)
                (void)sqlite3_bind_int64(stmt, 4, node_type);
        return each_row(stmt, fn, arg, ret_last, e);
}

int feed_recent(struct feed *f, int node_type, int64_t up_to, int limit, feed_row_fn fn, void *arg,
                struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int64_t last;
        int r = db_prepare(f->db,
                           "SELECT " ROW_COLUMNS
                           " FROM row JOIN epoch USING (epoch_id) WHERE row_id IN (SELECT row_id"
                           " FROM row WHERE node_type = ?1 AND row_id <= ?2 ORDER BY row_id DESC LIMIT ?3) "
                           "ORDER BY row_id",
                           &stmt, e);

        if (r < 0)
                return r;
        (void)sqlite3_bind_int64(stmt, 1, node_type);
        (void)sqlite3_bind_int64(stmt, 2, up_to);
        (void)sqlite3_bind_int64(stmt, 3, limit);
        r = each_row(stmt, fn, arg, &last, e);
        return r < 0 ? r : 0;
}

int feed_last_row(struct feed *f, int64_t *ret, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(f->db, "SELECT ifnull(max(row_id), 0) FROM row", &stmt, e);

        if (r == 0)
                r = db_step(stmt, e);
        if (r > 0)
                *ret = sqlite3_column_int64(stmt, 0);
        return r < 0 ? r : 0;
}

/* What the caps need to know before a row is taken, and who gave what. */
struct census {
        const struct feed_rule *rule;
        struct dataset *data;
        uint64_t *counts, *caps, *turns; /* owned; by the dataset's nodes */
};

static void census_done(struct census *c)
{
        free(c->counts);
        free(c->caps);
        free(c->turns);
}

static bool rule_takes(const struct feed_rule *rule, const char *node_id, enum provenance provenance)
{
        return rule->accepted & 1u << provenance &&
               !(rule->excluded && string_list_has(rule->excluded, node_id));
}

static int count_nodes(struct feed *f, struct census *c, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(
                f->db,
                "SELECT node_id, provenance, count(*) FROM row JOIN epoch USING (epoch_id)"
                " WHERE row.node_type = ?1 AND row_id <= ?2 GROUP BY node_id, provenance ORDER BY node_id",
                &stmt, e);

        if (r < 0)
                return r;
        (void)sqlite3_bind_int64(stmt, 1, c->rule->node_type);
        (void)sqlite3_bind_int64(stmt, 2, c->rule->last_row);
        while ((r = db_step(stmt, e)) > 0) {
                int provenance = provenance_find(text_of(stmt, 1)), node;
                size_t known = c->data->nodes_n;
                uint64_t *counts;

                if (provenance < 0 || !rule_takes(c->rule, text_of(stmt, 0), (enum provenance)provenance))
                        continue;
                node = dataset_node(c->data, text_of(stmt, 0), e);
                if (node < 0)
                        return node;
                counts = realloc(c->counts, c->data->nodes_n * sizeof(*counts));
                if (!counts)
                        return err_set(e, -ENOMEM, "out of memory");
                c->counts = counts;
                if (c->data->nodes_n > known)
                        counts[node] = 0;
                counts[node] += (uint64_t)sqlite3_column_int64(stmt, 2);
        }
        return r;
}

static int take_row(int64_t row_id, const char *node_id, const struct row *row, void *arg, struct err *e)
{
        struct census *c = arg;
        struct example x = { .row_id = row_id, .row = *row };
        uint64_t turn;

        if (!rule_takes(c->rule, node_id, row->provenance))
                return 0;
        x.node = dataset_node(c->data, node_id, e);
        if (x.node < 0)
                return x.node;
        turn = c->turns[x.node]++;
        if (turn >= c->counts[x.node] || !dataset_takes(turn, c->counts[x.node], c->caps[x.node]))
                return 0;
        x.turn = turn;
        return dataset_add(c->data, &x, e);
}

int feed_dataset(struct feed *f, const struct feed_rule *rule, struct dataset *ret, struct err *e)
{
        CLEANUP(dataset_done) struct dataset data = { 0 };
        CLEANUP(census_done) struct census c = { .rule = rule, .data = &data };
        int64_t after = 0;
        int r = count_nodes(f, &c, e);

        if (r < 0)
                return r;
        c.caps = calloc(data.nodes_n + 1, sizeof(*c.caps));
        c.turns = calloc(data.nodes_n + 1, sizeof(*c.turns));
        if (!c.caps || !c.turns)
                return err_set(e, -ENOMEM, "out of memory");
        dataset_caps(c.counts, data.nodes_n, rule->node_share, rule->max_rows, c.caps);
        do
                r = feed_rows(f, rule->node_type, after, rule->last_row, take_row, &c, &after, e);
        while (r == FEED_CHUNK);
        if (r < 0)
                return r;
        *ret = data;
        data = (struct dataset){ 0 };
        return 0;
}

/* Batches that completed a row of the dataset: the rows are in the order of their ids, and so are the
 * answers. */
int feed_batches(struct feed *f, const struct dataset *data, json_t **ret, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        CLEANUP(json_decrefp) json_t *list = json_array();
        int64_t last_batch = 0;
        size_t next = 0;
        int r = db_prepare(f->db,
                           "SELECT row_id, batch_id, lower(hex(hash)) FROM row JOIN batch USING (batch_id)"
                           " WHERE row_id >= ?1 AND row_id <= ?2 ORDER BY row_id",
                           &stmt, e);

        if (r < 0)
                return r;
        (void)sqlite3_bind_int64(stmt, 1, data->n ? data->rows[0].row_id : 0);
        (void)sqlite3_bind_int64(stmt, 2, data->n ? data->rows[data->n - 1].row_id : 0);
        while (next < data->n && (r = db_step(stmt, e)) > 0) {
                int64_t row_id = sqlite3_column_int64(stmt, 0), batch = sqlite3_column_int64(stmt, 1);

                while (next < data->n && data->rows[next].row_id < row_id)
                        next++; /* its batch was not kept */
                if (next == data->n || data->rows[next].row_id != row_id || batch == last_batch)
                        continue;
                last_batch = batch;
                (void)json_array_append_new(list, json_string(text_of(stmt, 2)));
        }
        if (r < 0)
                return r;
        *ret = TAKE(list);
        return 0;
}

int feed_node_types(struct feed *f, feed_type_fn fn, void *arg, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(f->db, "SELECT node_type, spec FROM node_type ORDER BY node_type", &stmt, e);

        while (r == 0 && (r = db_step(stmt, e)) > 0)
                r = fn(sqlite3_column_int(stmt, 0), text_of(stmt, 1), arg, e);
        return r;
}

int feed_nodes(struct feed *f, feed_node_fn fn, void *arg, struct err *e)
{
        CLEANUP(sqlite3_finalizep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(f->db, "SELECT node_id, ifnull(node_type, -1) FROM node ORDER BY node_id", &stmt,
                           e);

        while (r == 0 && (r = db_step(stmt, e)) > 0)
                r = fn(text_of(stmt, 0), sqlite3_column_int(stmt, 1), arg, e);
        return r;
}
