/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/ingest/import.h"

#include <errno.h>
#include <string.h>

#include "common/json.h"
#include "schema/machine.h"

#define FOLD_CHUNK                                                                                           \
        129 /* grid points folded at a time, so memory stays bounded when late data open a long past */

/* An epoch that this batch touches. */
struct touched {
        char node_id[BATCH_LABEL_VALUE_MAX + 1], epoch_name[BATCH_LABEL_VALUE_MAX + 1];
        struct epoch epoch;
        int64_t first_new_ms; /* earliest sample that was added; INT64_MAX: none */
};

struct import {
        struct store *store;
        const struct import_settings *settings;
        const char *node_id; /* NULL: any */
        int64_t now_ms, batch_id;
        struct touched *touched; /* owned */
        size_t touched_n;
        struct touched *folding;
        struct import_counts counts;
};

static void import_done(struct import *im)
{
        free(im->touched);
}

/* Bad content and a bad database are different things to a client: only the first is its fault. */
static int from_store(int r)
{
        if (r == -EBADMSG)
                return -EIO;
        return r == -EFBIG || r == -EDQUOT ? -ENOSPC : r;
}

static int find_touched(struct import *im, const struct batch_line *line, struct touched **ret, struct err *e)
{
        struct touched *t;

        /* Newest first: the lines of a batch are nearly always of one epoch. */
        for (size_t i = im->touched_n; i > 0; i--) {
                t = &im->touched[i - 1];
                if (!strcmp(t->epoch_name, line->epoch) && !strcmp(t->node_id, line->node_id)) {
                        *ret = t;
                        return 0;
                }
        }
        if (im->touched_n == IMPORT_EPOCHS_MAX)
                return err_set(e, -E2BIG, "more than %d epochs in a batch", IMPORT_EPOCHS_MAX);
        t = realloc(im->touched, (im->touched_n + 1) * sizeof(*t));
        if (!t)
                return err_set(e, -ENOMEM, "out of memory");
        im->touched = t;
        t += im->touched_n++;
        *t = (struct touched){ .first_new_ms = INT64_MAX };
        (void)snprintf(t->node_id, sizeof(t->node_id), "%s", line->node_id); /* batch.c limits both */
        (void)snprintf(t->epoch_name, sizeof(t->epoch_name), "%s", line->epoch);
        *ret = t;
        return from_store(store_epoch(im->store, line->node_id, line->node_name, line->epoch, im->now_ms,
                                      &t->epoch, e));
}

/* wattloop_node's labels say what machine the epoch was recorded on. */
static int note_node(struct import *im, const struct batch_line *line, struct touched *t, struct err *e)
{
        const char *definition = json_string_value(json_object_get(line->metric, "definition"));
        CLEANUP(json_decrefp) json_t *spec_json = NULL;
        CLEANUP(freep) char *text = NULL;
        struct epoch now = t->epoch;
        struct machine_spec spec;
        int r;

        r = machine_spec_from_json(line->metric, &spec, e);
        if (r < 0)
                return r;
        spec_json = machine_spec_to_json(&spec);
        text = spec_json ? json_dumps(spec_json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
        if (!text)
                return err_set(e, -ENOMEM, "out of memory");
        r = store_node_type(im->store, text, &now.node_type, e);
        if (r < 0)
                return from_store(r);
        (void)snprintf(now.definition, sizeof(now.definition), "%s", definition ? definition : "");
        if (now.node_type == t->epoch.node_type && !strcmp(now.definition, t->epoch.definition))
                return 0;
        if (t->epoch.node_type < 0)
                t->first_new_ms = 0; /* now that it is known, what came before can be folded */
        t->epoch = now;
        return from_store(store_set_epoch(im->store, &now, e));
}

static int add_samples(struct import *im, const struct batch_line *line, struct touched *t, struct err *e)
{
        int64_t series_id, first_ms;
        int r = store_series(im->store, t->epoch.epoch_id, line, &series_id, e);

        if (r == 0)
                r = store_add_samples(im->store, series_id, line->samples, line->n, &first_ms, e);
        if (r < 0)
                return from_store(r);
        im->counts.added += (uint64_t)r;
        im->counts.duplicate += line->n - (uint64_t)r;
        if (r > 0 && first_ms < t->first_new_ms)
                t->first_new_ms = first_ms;
        return 0;
}

static int add_line(struct import *im, const struct batch_line *line, struct err *e)
{
        struct touched *t = NULL;
        int r;

        im->counts.samples += line->n + line->nulls;
        im->counts.ignored += line->nulls;
        if (line->class.kind == SERIES_IGNORED) {
                im->counts.ignored += line->n;
                return 0;
        }
        if (im->node_id && strcmp(im->node_id, line->node_id) != 0)
                return err_set(e, -EACCES,
                               "the token is for node '%.64s', but there is a series of node '%.64s'",
                               im->node_id, line->node_id);
        r = find_touched(im, line, &t, e);
        if (r == 0 && line->class.kind == SERIES_NODE)
                r = note_node(im, line, t, e);
        if (r == 0)
                r = add_samples(im, line, t, e);
        return r;
}

static int on_line(const char *text, size_t size, size_t number, void *arg, struct err *e)
{
        struct import *im = arg;
        struct batch_line line;
        int r = batch_parse_line(text, size, im->settings->line_samples, &line, e);

        if (r == 0) {
                r = add_line(im, &line, e);
                batch_line_done(&line);
        }
        if (r == -EBADMSG || r == -E2BIG) /* the content's */
                return err_prefix(e, r, "line %zu", number);
        return r;
}

static int on_row(const struct row *folded, void *arg, struct err *e)
{
        struct import *im = arg;
        struct row row = *folded;
        int r;

        row.node_type = im->folding->epoch.node_type;
        memcpy(row.definition, im->folding->epoch.definition, sizeof(row.definition));
        r = store_add_row(im->store, im->folding->epoch.epoch_id, im->batch_id, &row, e);
        if (r <= 0)
                return r;
        im->counts.rows++;
        im->counts.accepted += im->settings->accepted >> row.provenance & 1;
        return 0;
}

/* Fold from the first interval that the new samples end or change to the end of what is stored: late samples
 * can complete later intervals too. Rows that are there stay as they are. */
static int fold_epoch(struct import *im, struct touched *t, struct err *e)
{
        int64_t grid[FOLD_CHUNK], from_ms = t->first_new_ms;
        int n;

        if (t->epoch.node_type < 0 || t->first_new_ms == INT64_MAX)
                return 0;
        im->folding = t;
        for (;;) {
                struct fold_input in;
                int r;

                n = store_grid(im->store, t->epoch.epoch_id, from_ms, FOLD_CHUNK, grid, e);
                if (n < 2)
                        return n < 0 ? n : 0;
                r = store_window(im->store, t->epoch.epoch_id, grid[0], grid[n - 1], &in, e);
                if (r < 0)
                        return r;
                r = fold(&in, from_ms, on_row, im, im->counts.intervals, e);
                fold_input_done(&in);
                if (r < 0 || n < FOLD_CHUNK)
                        return r;
                from_ms = grid[n - 1] + 1;
        }
}

/* Within a transaction. */
static int import_one(struct import *im, struct upload *u, struct err *e)
{
        int r = from_store(store_begin_batch(im->store, im->now_ms, u->name, u->hash, &im->batch_id, e));

        if (r == 0)
                r = lines_read(u->data, u->size, u->gzip, &im->settings->lines, on_line, im, e);
        if (r < 0)
                return r;
        for (size_t i = 0; r == 0 && i < im->touched_n; i++)
                r = fold_epoch(im, &im->touched[i], e);
        if (r == 0)
                r = store_end_batch(im->store, im->batch_id, im->counts.added, im->counts.rows, e);
        if (r == 0 && im->counts.added)
                r = store_add_samples_total(im->store, (int64_t)im->counts.added, e);
        u->counts = im->counts;
        return from_store(r);
}

static int finish(struct store *store, int r, struct err *e)
{
        if (r == 0)
                r = from_store(store_commit(store, e));
        if (r < 0)
                store_rollback(store);
        return r;
}

/* All of them in one transaction: 0 when all are durable, else nothing happened. */
static int import_together(struct import *like, struct upload *const uploads[], size_t n, struct err *e)
{
        int r = from_store(store_begin(like->store, e));

        if (r < 0)
                return r;
        for (size_t i = 0; r == 0 && i < n; i++) {
                CLEANUP(import_done) struct import im = *like;

                im.node_id = uploads[i]->node_id;
                r = import_one(&im, uploads[i], e);
        }
        return finish(like->store, r, e);
}

void import_uploads(struct store *store, const struct import_settings *settings,
                    struct upload *const uploads[], size_t n, int64_t now_ms)
{
        struct import like = { .store = store, .settings = settings, .now_ms = now_ms };
        bool together;

        for (size_t i = 0; i < n; i++)
                uploads[i]->result = 0;
        together = n > 1 && import_together(&like, uploads, n, NULL) == 0;
        /* One that is bad must not take the others with it: then each by itself. */
        for (size_t i = 0; i < n && !together; i++)
                uploads[i]->result = import_together(&like, &uploads[i], 1, &uploads[i]->e);
}
