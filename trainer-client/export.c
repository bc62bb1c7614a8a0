/* SPDX-License-Identifier: Apache-2.0 */
/* One row per interval and container, and one for the node (container_id "node": the sum of its containers,
 * with the node's power). Features are what happened in the interval, in the units of the wire; power is
 * watts over the interval, summed over the units of a component, from the best provenance there is. What
 * cannot be measured is empty, in JSON null. An interval whose beginning nobody knows (retention removed what
 * came before) has no row. */
#include "trainer-client/export.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include "common/buf.h"
#include "common/json.h"
#include "common/log.h"
#include "common/num.h"
#include "config/cli.h"
#include "trainer-client/options.h"
#include "trainer-client/store.h"

#define BATCH_INTERVALS 500
#define BATCH_ROWS      20000
#define OUT_MAX         ((size_t)64 << 20)
#define NS              1e9

static const char *const components[] = { "package", "core", "uncore", "dram", "platform" };
#define COMPONENTS_N ARRAY_SIZE(components)

struct row {
        const struct pack_batch *batch;
        const struct pack_interval *interval;
        const struct pack_entity *entity; /* NULL: the node */
        double feature[FEATURE_N];        /* NAN: unknown */
        double watts[COMPONENTS_N], idle_watts[COMPONENTS_N];
        int provenance; /* -1: no power */
};

struct export
{
        bool csv;
        struct buf out;
        int64_t rows;
};

/* ---- writing ---- */

static void put_text(struct export *x, const char *name, const char *value)
{
        if (!x->csv) {
                (void)buf_printf(&x->out, "\"%s\": ", name);
                (void)json_write_string(&x->out, value);
        } else if (strpbrk(value, ",\"\r\n")) {
                (void)buf_puts(&x->out, "\"");
                for (; *value; value++)
                        (void)buf_printf(&x->out, *value == '"' ? "\"\"" : "%c", *value);
                (void)buf_puts(&x->out, "\"");
        } else {
                (void)buf_puts(&x->out, value);
        }
}

static void put_number(struct export *x, const char *name, double value)
{
        char text[NUM_TEXT_MAX] = "";

        if (!isnan(value))
                (void)num_format_double(text, value);
        if (x->csv)
                (void)buf_puts(&x->out, text);
        else
                (void)buf_printf(&x->out, "\"%s\": %s", name, *text ? text : "null");
}

static void put_time(struct export *x, int64_t ms)
{
        time_t seconds = (time_t)(ms / 1000);
        char date[32] = "", text[48];
        struct tm tm;

        if (gmtime_r(&seconds, &tm))
                (void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
        (void)snprintf(text, sizeof(text), "%s.%03dZ", date, (int)(ms % 1000));
        put_text(x, "time", text);
}

static void next_column(struct export *x)
{
        (void)buf_puts(&x->out, x->csv ? "," : ", ");
}

static void put_row(struct export *x, const struct row *row)
{
        const struct pack_entity *c = row->entity;
        const struct {
                const char *name, *value;
        } texts[] = {
                { "node", row->batch->node.node_name },
                { "epoch", row->batch->node.epoch },
                { "definition", row->interval->definition },
                { "feature_source", row->interval->feature_source },
                { "provenance", row->provenance >= 0 ? provenance_names[row->provenance] : "" },
                { "container_id", c ? c->key : "node" },
                { "container_name", c ? c->container_name : "" },
                { "pod_name", c ? c->pod_name : "" },
                { "container_namespace", c ? c->container_namespace : "" },
        };
        char name[METRIC_NAME_MAX];

        (void)buf_puts(&x->out, x->csv ? "" : "{");
        put_time(x, row->interval->end_ms);
        next_column(x);
        put_number(x, "end_ms", (double)row->interval->end_ms);
        next_column(x);
        put_number(x, "duration_s", (double)row->interval->duration_ns / NS);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                next_column(x);
                put_text(x, texts[i].name, texts[i].value);
        }
        for (int f = 0; f < FEATURE_N; f++) {
                next_column(x);
                put_number(x, features[f].name, row->feature[f]);
        }
        for (size_t i = 0; i < COMPONENTS_N; i++) {
                next_column(x);
                (void)snprintf(name, sizeof(name), "%s_watts", components[i]);
                put_number(x, name, row->watts[i]);
                next_column(x);
                (void)snprintf(name, sizeof(name), "%s_idle_watts", components[i]);
                put_number(x, name, row->idle_watts[i]);
        }
        (void)buf_puts(&x->out, x->csv ? "\n" : "}\n");
        x->rows++;
}

static void put_header(struct export *x)
{
        (void)buf_puts(&x->out, "time,end_ms,duration_s,node,epoch,definition,feature_source,provenance,"
                                "container_id,container_name,pod_name,container_namespace");
        for (int f = 0; f < FEATURE_N; f++)
                (void)buf_printf(&x->out, ",%s", features[f].name);
        for (size_t i = 0; i < COMPONENTS_N; i++)
                (void)buf_printf(&x->out, ",%s_watts,%s_idle_watts", components[i], components[i]);
        (void)buf_puts(&x->out, "\n");
}

/* ---- deltas ---- */

static void clear_row(struct row *row, const struct pack_batch *b, size_t interval)
{
        *row = (struct row){ .batch = b, .interval = &b->intervals[interval], .provenance = -1 };
        for (int f = 0; f < FEATURE_N; f++)
                row->feature[f] = NAN;
        for (size_t i = 0; i < COMPONENTS_N; i++)
                row->watts[i] = row->idle_watts[i] = NAN;
}

static double wire_delta(int f, int64_t delta)
{
        return pack_value(delta, features[f].wire_scale < 1 ? 6 : 0);
}

static void add_to(double *sum, double value)
{
        *sum = isnan(*sum) ? value : *sum + value;
}

/* The entity's last row before this one; NULL: there was none. */
static const struct pack_usage *usage_before(const struct pack_batch *b, const size_t *last, size_t entity)
{
        return last[entity] < b->n_usage ? &b->usage[last[entity]] : NULL;
}

/* Does the first row of an entity count from zero? */
static bool counts_from_zero(const struct pack_batch *b, const struct pack_usage *u)
{
        return !b->entities[u->entity].seen_before &&
               (b->has_previous || b->intervals[0].measured_ns == b->intervals[0].duration_ns);
}

static void add_usage_row(struct export *x, const struct pack_batch *b, const struct pack_usage *u,
                          const struct pack_usage *before, struct row *node)
{
        struct row row;

        if (!before && !counts_from_zero(b, u))
                return;
        clear_row(&row, b, u->interval);
        row.entity = &b->entities[u->entity];
        for (int f = 0; f < FEATURE_N; f++) {
                if (!u->has[f] || (before && !before->has[f]))
                        continue;
                row.feature[f] = wire_delta(f, u->value[f] - (before ? before->value[f] : 0));
                add_to(&node->feature[f], row.feature[f]);
        }
        put_row(x, &row);
}

static int component_index(const char *component)
{
        for (size_t i = 0; i < COMPONENTS_N; i++)
                if (strcmp(components[i], component) == 0)
                        return (int)i;
        return -1;
}

static void add_power_to(struct row *node, const struct pack_batch *b, size_t interval)
{
        double seconds = (double)node->interval->duration_ns / NS;

        for (size_t i = 0; i < b->n_power; i++) /* the best provenance of what is there */
                if (b->power[i].interval == interval &&
                    (node->provenance < 0 ||
                     (int)b->sensors[b->power[i].sensor].provenance < node->provenance))
                        node->provenance = (int)b->sensors[b->power[i].sensor].provenance;
        for (size_t i = 0; i < b->n_power; i++) {
                const struct pack_power *p = &b->power[i], *before = NULL;
                int c = component_index(b->sensors[p->sensor].component);

                if (p->interval != interval || c < 0 ||
                    (int)b->sensors[p->sensor].provenance != node->provenance)
                        continue;
                for (size_t j = 0; j < i; j++)
                        if (b->power[j].sensor == p->sensor && b->power[j].interval + 1 == interval)
                                before = &b->power[j];
                if (!before && (interval > 0 || b->intervals[0].measured_ns != b->intervals[0].duration_ns))
                        continue;
                add_to(&node->watts[c],
                       (double)(p->energy_uj - (before ? before->energy_uj : 0)) / 1e6 / seconds);
                add_to(&node->idle_watts[c],
                       (double)(p->idle_uj - (before ? before->idle_uj : 0)) / 1e6 / seconds);
        }
}

static int export_batch(struct export *x, const struct pack_batch *b, int64_t from_ms, int64_t to_ms)
{
        size_t *last = calloc(b->n_entities + 1, sizeof(*last)), u = 0;

        if (!last)
                return -ENOMEM;
        for (size_t i = 0; i < b->n_entities; i++)
                last[i] = SIZE_MAX;
        for (size_t i = 0; i < b->n_intervals; i++) {
                bool wanted = i >= pack_batch_first(b) && b->intervals[i].end_ms >= from_ms &&
                              b->intervals[i].end_ms < to_ms;
                struct row node;

                clear_row(&node, b, i);
                for (; u < b->n_usage && b->usage[u].interval == i; u++) {
                        if (wanted)
                                add_usage_row(x, b, &b->usage[u], usage_before(b, last, b->usage[u].entity),
                                              &node);
                        last[b->usage[u].entity] = u;
                }
                if (!wanted)
                        continue;
                add_power_to(&node, b, i);
                put_row(x, &node);
        }
        free(last);
        return x->out.failed;
}

static int export_all(struct export *x, const struct options *o, struct err *e)
{
        CLEANUP(store_closep) struct store *store = NULL;
        int64_t from_ms = 0, to_ms = 0;
        struct store_range range = { 0, INT64_MAX, BATCH_INTERVALS, BATCH_ROWS };
        int r;

        r = options_parse_time(o->from, INT64_MIN, &from_ms, e);
        if (r == 0)
                r = options_parse_time(o->to, INT64_MAX, &to_ms, e);
        if (r == 0)
                r = store_open(o->store_path, &o->names, &store, e);
        if (r == 0)
                r = store_find(store, from_ms, to_ms, &range.after_id, &range.last_id, e);
        if (r == 0 && x->csv)
                put_header(x);
        while (r == 0) {
                CLEANUP(pack_batch_freep) struct pack_batch *batch = NULL;

                r = store_read(store, &range, &batch, e);
                if (r <= 0)
                        break;
                range.after_id = batch->intervals[batch->n_intervals - 1].id;
                r = export_batch(x, batch, from_ms, to_ms);
                if (r < 0)
                        return err_set(e, r, "cannot write the rows: %s", strerror(-r));
                if (x->out.size > 0 && fwrite(x->out.data, 1, x->out.size, stdout) != x->out.size)
                        return err_sys(e, "cannot write to standard output");
                buf_clear(&x->out);
        }
        if (r == 0 && x->out.size > 0 && fwrite(x->out.data, 1, x->out.size, stdout) != x->out.size)
                return err_sys(e, "cannot write to standard output");
        if (r == 0 && fflush(stdout) != 0)
                return err_sys(e, "cannot write to standard output");
        return r;
}

int export_run(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        struct export x = { .csv = o->csv };
        struct err e = { "" };
        int r;

        (void)argc;
        (void)argv;
        buf_init(&x.out, OUT_MAX);
        r = export_all(&x, o, &e);
        buf_done(&x.out);
        if (r < 0)
                return log_error(r, "%s", e.text);
        return x.rows > 0 ? EXIT_DONE : EXIT_NOTHING;
}
