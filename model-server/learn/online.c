/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/learn/online.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model-server/learn/blob.h"

void mean_add(struct mean *m, double value)
{
        double weight = 1.0 / (double)(m->n < RECENT_ROWS ? m->n + 1 : RECENT_ROWS);

        m->n++;
        m->sum += value;
        m->recent += weight * (value - m->recent);
}

void online_done(struct online *o)
{
        for (int g = 0; g < GROUPS_MAX; g++)
                for (int c = 0; c < COMPONENT_N; c++)
                        free(o->cells[g][c]);
        for (size_t i = 0; i < o->nodes_n; i++)
                free(o->nodes[i]);
        free(o->nodes);
        free(o->taken);
        *o = (struct online){ 0 };
}

static int find_node(struct online *o, const char *node_id, uint64_t taken, struct err *e)
{
        char **nodes;
        uint64_t *counts;

        for (size_t i = 0; i < o->nodes_n; i++)
                if (!strcmp(o->nodes[i], node_id))
                        return (int)i;
        nodes = realloc(o->nodes, (o->nodes_n + 1) * sizeof(*nodes));
        if (nodes)
                o->nodes = nodes;
        counts = realloc(o->taken, (o->nodes_n + 1) * sizeof(*counts));
        if (counts)
                o->taken = counts;
        if (!nodes || !counts || !(nodes[o->nodes_n] = strdup(node_id)))
                return err_set(e, -ENOMEM, "out of memory");
        counts[o->nodes_n] = taken;
        return (int)o->nodes_n++;
}

/* One node alone may give all rows; of several, none more than its share. */
static bool has_given_its_share(const struct online *o, int node, double node_share)
{
        double share = fmax(node_share, 1.0 / (double)o->nodes_n);

        return o->nodes_n > 1 && o->taken[node] >= DATASET_NODE_FREE &&
               (double)o->taken[node] > share * (double)o->total;
}

static void learn_cell(struct online_cell *cell, double forgetting, const double *x, double y, int group,
                       int c, online_score_fn fn, void *arg)
{
        if (cell->rls.rows >= (uint64_t)cell->rls.p + 2) {
                struct weights w;
                double error;

                rls_solve(&cell->rls, &w);
                error = fabs(weights_predict(&w, x) - y);
                mean_add(&cell->error, error);
                if (y > 0)
                        mean_add(&cell->relative, error / y);
                if (fn)
                        fn(group, c, error, arg);
        }
        (void)rls_learn(&cell->rls, forgetting, x, y); /* not finite: no row for this component */
}

int online_learn(struct online *o, const struct online_settings *settings, const char *node_id,
                 const struct row *row, online_score_fn fn, void *arg, struct err *e)
{
        struct example example = { .row = *row };
        int node = find_node(o, node_id, 0, e);

        if (node < 0)
                return node;
        if (has_given_its_share(o, node, settings->node_share))
                return 0;
        for (int g = 0; g < (int)feature_groups_n; g++) {
                double x[GROUP_FEATURES_MAX];

                if (!example_features(&example, g, x))
                        continue;
                for (int c = 0; c < COMPONENT_N; c++) {
                        if (!(row->has_watts & 1u << c))
                                continue;
                        if (!o->cells[g][c]) {
                                o->cells[g][c] = calloc(1, sizeof(struct online_cell));
                                if (!o->cells[g][c])
                                        return err_set(e, -ENOMEM, "out of memory");
                                rls_init(&o->cells[g][c]->rls, group_features_n(&feature_groups[g]));
                        }
                        learn_cell(o->cells[g][c], settings->forgetting, x, row->watts[c], g, c, fn, arg);
                }
        }
        o->taken[node]++;
        o->total++;
        return 1;
}

int online_export(const struct online *o, const struct fit_input *in, const double idle[COMPONENT_N],
                  struct artifact **ret, struct err *e)
{
        struct linear linear[COMPONENTS_MAX] = { 0 };
        bool any = false;

        for (size_t i = 0; i < in->place.source->n; i++) {
                int c = component_find(in->place.source->components[i]);
                const struct online_cell *cell = o->cells[in->place.group][c];

                if (!cell || cell->rls.rows < in->min_rows || !cell->error.n)
                        continue;
                linear[i] = (struct linear){ .used = true,
                                             .rows = cell->rls.rows,
                                             .mae = cell->error.recent,
                                             .mape = cell->relative.n ? 100 * cell->relative.recent : -1 };
                rls_solve(&cell->rls, &linear[i].weights);
                linear[i].weights.bias -= idle[c];
                any = true;
        }
        return any ? fit_export_linear(in, linear, ret, e) : err_set(e, -ENODATA, "too few rows");
}

/* The blob: magic, version, total, the nodes (length, id, rows), then (group + 1, component, size, rls,
 * means) until a 0. */
#define BLOB_MAGIC   UINT64_C(0x4e4c4e4f4c57) /* "WLONLN" */
#define BLOB_VERSION 1

static void write_mean(struct buf *out, const struct mean *m)
{
        blob_write_u64(out, m->n);
        blob_write_double(out, m->sum);
        blob_write_double(out, m->recent);
}

static void read_mean(struct blob *b, struct mean *m)
{
        m->n = blob_read_u64(b);
        m->sum = blob_read_double(b);
        m->recent = blob_read_double(b);
}

int online_write(const struct online *o, struct buf *out)
{
        blob_write_u64(out, BLOB_MAGIC);
        blob_write_u64(out, BLOB_VERSION);
        blob_write_u64(out, o->total);
        blob_write_u64(out, o->nodes_n);
        for (size_t i = 0; i < o->nodes_n; i++) {
                blob_write_u64(out, strlen(o->nodes[i]));
                (void)buf_puts(out, o->nodes[i]); /* failure is sticky */
                blob_write_u64(out, o->taken[i]);
        }
        for (int g = 0; g < GROUPS_MAX; g++)
                for (int c = 0; c < COMPONENT_N; c++) {
                        CLEANUP(buf_done) struct buf rls = { 0 };

                        if (!o->cells[g][c])
                                continue;
                        buf_init(&rls, 1 << 16);
                        if (rls_write(&o->cells[g][c]->rls, &rls) < 0)
                                return -ENOMEM;
                        blob_write_u64(out, (uint64_t)g + 1);
                        blob_write_u64(out, (uint64_t)c);
                        blob_write_u64(out, rls.size);
                        (void)buf_append(out, rls.data, rls.size);
                        write_mean(out, &o->cells[g][c]->error);
                        write_mean(out, &o->cells[g][c]->relative);
                }
        blob_write_u64(out, 0);
        return out->failed;
}

static int read_nodes(struct blob *b, struct online *o, struct err *e)
{
        uint64_t n = blob_read_u64(b);

        for (uint64_t i = 0; i < n && !b->bad; i++) {
                uint64_t size = blob_read_u64(b);
                char id[1024 + 1];
                int r;

                if (b->bad || size > b->left || size >= sizeof(id))
                        return err_set(e, -EBADMSG, "online learners' nodes are damaged");
                memcpy(id, b->data, size);
                id[size] = '\0';
                b->data += size;
                b->left -= size;
                r = find_node(o, id, blob_read_u64(b), e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_cells(struct blob *b, struct online *o, struct err *e)
{
        uint64_t group;

        while ((group = blob_read_u64(b)) && !b->bad) {
                uint64_t component = blob_read_u64(b), size = blob_read_u64(b);
                struct online_cell *cell;
                int r;

                if (b->bad || group > feature_groups_n || component >= COMPONENT_N || size > b->left ||
                    o->cells[group - 1][component])
                        return err_set(e, -EBADMSG, "online learners are damaged");
                cell = o->cells[group - 1][component] = calloc(1, sizeof(*cell));
                if (!cell)
                        return err_set(e, -ENOMEM, "out of memory");
                r = rls_read(b->data, size, group_features_n(&feature_groups[group - 1]), &cell->rls, e);
                if (r < 0)
                        return r;
                b->data += size;
                b->left -= size;
                read_mean(b, &cell->error);
                read_mean(b, &cell->relative);
        }
        return b->bad || b->left ? err_set(e, -EBADMSG, "online learners are damaged") : 0;
}

int online_read(const void *data, size_t size, struct online *ret, struct err *e)
{
        CLEANUP(online_done) struct online o = { 0 };
        struct blob b = { data, size, false };
        int r;

        if (blob_read_u64(&b) != BLOB_MAGIC)
                return err_set(e, -EBADMSG, "not the state of online learners");
        if (blob_read_u64(&b) != BLOB_VERSION)
                return err_set(e, -EPROTO, "online learners of another version than %d", BLOB_VERSION);
        o.total = blob_read_u64(&b);
        r = read_nodes(&b, &o, e);
        if (r == 0)
                r = read_cells(&b, &o, e);
        if (r < 0)
                return r;
        *ret = o;
        o = (struct online){ 0 };
        return 0;
}
