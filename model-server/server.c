/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/server.h"

#include <errno.h>
#include <libgen.h>
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/prom.h"
#include "config/cli.h"
#include "model-server/reports.h"
#include "model-server/serve/publish.h"
#include "model-server/serve/rollouts.h"
#include "model-server/serve/signer.h"
#include "model-server/serve/unpack.h"

#define STATUS_MAX       ((size_t)64 << 20)
#define TRIM_EVERY_MS    10000
#define FLEET_MAX        5000 /* rows of the fleet in a status */
#define ROLLOUT_EVERY_MS 1000

const int server_status_codes[STATUS_CODES] = { 200, 304, 400, 401, 403, 404, 405,
                                                411, 413, 415, 500, 503, 507, 0 };

bool server_token_ok(const struct server *s, const char *authorization, char ret_node_id[TOKEN_NODE_MAX])
{
        *ret_node_id = '\0';
        return !s->tokens || bearers_ok(s->tokens, authorization, ret_node_id);
}

static int make_directories(const struct options *o, struct err *e)
{
        CLEANUP(freep) char *path = strdup(o->database_path);
        int r;

        if (!path)
                return err_set(e, -ENOMEM, "out of memory");
        r = file_mkdirs(dirname(path), 0755, e);
        return r < 0 ? r : file_mkdirs(o->models_path, 0755, e);
}

static int load_catalog(struct server *s, struct err *e)
{
        const struct options *o = s->options;
        CLEANUP(catalog_unrefp) struct catalog *all = NULL;
        struct pipeline *own;
        int r = publish_clean(o->models_path, e);

        if (r == 0)
                unpack_pipelines(o->models_path, o->pipeline_name);
        if (r == 0)
                r = catalog_load(o->models_path, o->pipeline_name, &all, e);
        if (r < 0)
                return r;
        r = pipeline_load(o->models_path, o->pipeline_name, &own, NULL);
        if (r < 0) { /* nothing published yet, or unreadable and said so */
                s->catalog = TAKE(all);
                return 0;
        }
        return catalog_with(all, o->pipeline_name, o->pipeline_name, own, &s->catalog, e);
}

static const struct pipeline *own_pipeline(const struct server *s, const struct catalog *c)
{
        for (size_t i = 0; i < catalog_pipelines(c); i++)
                if (!strcmp(pipeline_name(catalog_pipeline(c, i)), s->options->pipeline_name))
                        return catalog_pipeline(c, i);
        return NULL;
}

/* The published pipeline has models of power that is not accepted (any more). */
static bool offers_unaccepted(const struct server *s)
{
        const struct pipeline *p = own_pipeline(s, s->catalog);

        for (size_t i = 0; p && i < pipeline_offers(p); i++)
                if (!(s->settings.accepted & 1u << provenance_find(pipeline_offer(p, i)->provenance)))
                        return true;
        return false;
}

struct catalog *server_catalog(struct server *s)
{
        struct catalog *c;

        (void)pthread_mutex_lock(&s->lock);
        c = catalog_ref(s->catalog);
        (void)pthread_mutex_unlock(&s->lock);
        return c;
}

/* Puts a pipeline into the catalog, or (NULL) takes it out. */
static int serve_pipeline(struct server *s, const char *name, struct pipeline *p, struct err *e)
{
        struct catalog *old, *next;
        int r;

        (void)pthread_mutex_lock(&s->swap);
        r = catalog_with(s->catalog, s->options->pipeline_name, name, p, &next, e);
        if (r == 0 && s->rollouts) {
                r = rollouts_set(s->rollouts, next, clock_wall_ms(), e);
                if (r < 0)
                        catalog_unref(next);
        }
        if (r == 0) {
                (void)pthread_mutex_lock(&s->lock);
                old = s->catalog;
                s->catalog = next;
                (void)pthread_mutex_unlock(&s->lock);
                catalog_unref(old);
                signer_renew(s->signer);
        }
        (void)pthread_mutex_unlock(&s->swap);
        return r;
}

int server_reload_pipeline(struct server *s, const char *name, struct err *e)
{
        struct pipeline *p = NULL;
        int r = pipeline_load(s->options->models_path, name, &p, e), served;

        if (r == 0)
                log_info("pipeline '%s': %zu models", name, pipeline_offers(p));
        served = serve_pipeline(s, name, p, r == 0 ? e : NULL);
        return r < 0 ? r : served;
}

/* On the learning thread. */
static int publish(const struct pipeline_input *in, bool withdraw, void *arg, struct err *e)
{
        struct server *s = arg;
        CLEANUP(catalog_unrefp) struct catalog *old = server_catalog(s);
        struct pipeline *p;
        int r = publish_pipeline(in, withdraw || s->withdraw, s->options->models_path, own_pipeline(s, old),
                                 &p, e);

        s->withdraw &= r < 0;
        if (r < 0)
                atomic_fetch_add(&s->counters.publications_failed, 1);
        if (r <= 0)
                return r;
        r = serve_pipeline(s, s->options->pipeline_name, p, e);
        if (r < 0)
                return r;
        atomic_fetch_add(&s->counters.publications, 1);
        log_debug("published %zu models", in->n);
        return 1;
}

/* server.db's learners are in server.learn.db, and so on. */
static int path_beside(const char *database, const char *suffix, char *ret, size_t size, struct err *e)
{
        size_t n = strlen(database), end = n > 3 && !strcmp(database + n - 3, ".db") ? n - 3 : n;

        if (snprintf(ret, size, "%.*s%s", (int)end, database, suffix) >= (int)size)
                return err_set(e, -ENAMETOOLONG, "database.path is too long");
        return 0;
}

void server_learn_settings(const struct options *o, struct learn_settings *ret)
{
        *ret = (struct learn_settings){ .rows_path = o->database_path,
                                        .accepted = options_accepted(o),
                                        .min_rows = (uint64_t)o->min_rows,
                                        .max_rows = (uint64_t)o->max_rows,
                                        .trial_rows = (uint64_t)o->trial_rows,
                                        .seed = (uint64_t)o->seed,
                                        .node_share = o->node_share,
                                        .forgetting = o->forgetting,
                                        .trainers = &o->trainers,
                                        .isolator = (enum isolator)o->isolator,
                                        .excluded = &o->exclude_nodes,
                                        .publish_interval_ms = o->publish_interval_ms,
                                        .pipeline = o->pipeline_name };
}

int server_ledger_path(const struct options *o, char ret[SERVER_PATH_MAX], struct err *e)
{
        return path_beside(o->database_path, ".learn.db", ret, SERVER_PATH_MAX, e);
}

int server_signer_settings(const struct options *o, char path[SERVER_PATH_MAX], struct signer_settings *ret,
                           struct err *e)
{
        *ret = (struct signer_settings){ o->signing_key_file, o->signing_keys_file, path,
                                         (o->signing_expires_ms + 999) / 1000 };
        return path_beside(o->database_path, ".signing.json", path, SERVER_PATH_MAX, e);
}

static int open_signer(struct server *s, struct err *e)
{
        struct signer_settings settings;
        char path[SERVER_PATH_MAX];
        int r;

        if (!*s->options->signing_key_file)
                return 0;
        r = server_signer_settings(s->options, path, &settings, e);
        return r < 0 ? r : signer_open(&settings, &s->signer, e);
}

static int open_learning(struct server *s, struct err *e)
{
        struct learn_settings settings;
        char path[SERVER_PATH_MAX];
        int r = server_ledger_path(s->options, path, e);

        if (r < 0)
                return r;
        server_learn_settings(s->options, &settings);
        settings.ledger_path = path;
        settings.publish = publish;
        settings.arg = s;
        return learn_open(&settings, &s->learn, e);
}

static int open_rollouts(struct server *s, struct err *e)
{
        const struct options *o = s->options;
        const struct rollouts_settings settings = { o->models_path,
                                                    o->pipeline_name,
                                                    &o->rollout_stages,
                                                    o->rollout_stage_ms,
                                                    (uint64_t)o->rollout_min_reports,
                                                    o->rollout_halt_share };
        int r;

        if (!o->rollout_stages.n)
                return 0;
        r = rollouts_open(&settings, &s->rollouts, e);
        return r < 0 ? r : rollouts_set(s->rollouts, s->catalog, clock_wall_ms(), e);
}

int server_open(struct server *s, const struct options *o, struct err *e)
{
        int r;

        memset(s, 0, sizeof(*s));
        s->options = o;
        s->settings =
                (struct import_settings){ .lines = { (size_t)o->import_plain_bytes, (size_t)o->import_lines },
                                          .line_samples = (size_t)o->line_samples,
                                          .accepted = options_accepted(o) };
        s->retention = (struct retention){ o->retention_samples_ms, o->retention_rows_ms,
                                           (uint64_t)o->retention_size };
        (void)pthread_mutex_init(&s->swap, NULL);
        (void)pthread_mutex_init(&s->lock, NULL); /* cannot fail without attributes */
        if (sodium_init() < 0)
                return err_set(e, -EIO, "libsodium does not start");
        r = *o->token_file ? bearers_open(o->token_file, &s->tokens, e) : 0;
        if (r == 0)
                r = make_directories(o, e);
        if (r == 0)
                r = store_open(o->database_path, &s->store, e);
        if (r == 0)
                r = store_set_size(s->store, s->retention.bytes, e);
        if (r == 0)
                r = load_catalog(s, e);
        if (r == 0)
                r = open_signer(s, e);
        if (r == 0)
                r = open_rollouts(s, e);
        if (r == 0)
                r = open_learning(s, e);
        if (r < 0) {
                server_close(s);
                return r;
        }
        s->withdraw = offers_unaccepted(s);
        return 0;
}

void server_close(struct server *s)
{
        learn_close(s->learn); /* first: it publishes */
        catalog_unref(s->catalog);
        signer_free(s->signer);
        rollouts_free(s->rollouts);
        store_close(s->store);
        bearers_free(s->tokens);
        (void)pthread_mutex_destroy(&s->lock);
        (void)pthread_mutex_destroy(&s->swap);
        memset(s, 0, sizeof(*s));
}

static void count_import(struct counters *c, const struct import_counts *n)
{
        atomic_fetch_add(&c->imports, 1);
        atomic_store(&c->imported_ms, clock_wall_ms());
        atomic_fetch_add(&c->samples, n->samples);
        atomic_fetch_add(&c->added, n->added);
        atomic_fetch_add(&c->duplicate, n->duplicate);
        atomic_fetch_add(&c->ignored, n->ignored);
        atomic_fetch_add(&c->rows, n->rows);
        for (int i = 0; i < FOLD_VERDICTS; i++)
                atomic_fetch_add(&c->intervals[i], n->intervals[i]);
}

void server_import(struct server *s, struct upload *const uploads[], size_t n)
{
        import_uploads(s->store, &s->settings, uploads, n, clock_wall_ms());
        for (size_t i = 0; i < n; i++) {
                if (uploads[i]->result < 0)
                        continue; /* who sent it is told, and the refusal noted */
                if (uploads[i]->counts.rows)
                        learn_poke(s->learn);
                count_import(&s->counters, &uploads[i]->counts);
        }
}

static void trim_if_due(struct server *s)
{
        uint64_t now_ns = clock_monotonic_ns();
        struct err e;
        int r;

        if (now_ns < s->trim_ns)
                return;
        r = store_trim(s->store, &s->retention, clock_wall_ms(), &e);
        if (r == 0)
                r = store_trim_reports(s->store, clock_wall_ms() - s->options->retention_reports_ms, &e);
        if (r < 0)
                (void)log_error(r, "cannot drop old samples: %s", e.text);
        if (r <= 0) /* else the next slice follows the next jobs */
                s->trim_ns = now_ns + TRIM_EVERY_MS * NS_PER_MS;
}

static void roll_out_if_due(struct server *s)
{
        uint64_t now_ns = clock_monotonic_ns();
        struct err e;
        int r;

        if (!s->rollouts || now_ns < s->rollout_ns)
                return;
        s->rollout_ns = now_ns + ROLLOUT_EVERY_MS * NS_PER_MS;
        r = rollouts_tick(s->rollouts, s->store, clock_wall_ms(), &e);
        if (r < 0)
                (void)log_error(r, "%s", e.text);
        if (r > 0)
                signer_renew(s->signer);
}

void server_work_if_due(struct server *s)
{
        trim_if_due(s);
        roll_out_if_due(s);
}

int server_report(struct server *s, const char *body, size_t size, const char *node_id, size_t *ret_new,
                  size_t *ret_n, struct err *e)
{
        size_t new[OUTCOMES];
        int r = reports_take(s->store, body, size, node_id, clock_wall_ms(), new, ret_n, e);

        if (r < 0)
                return r;
        *ret_new = 0;
        for (int i = 0; i < OUTCOMES; i++) {
                atomic_fetch_add(&s->counters.reports[i], new[i]);
                *ret_new += new[i];
        }
        if (s->rollouts && *ret_new)
                rollouts_poke(s->rollouts);
        return 0;
}

static uint64_t sum_rows(const uint64_t rows[PROVENANCE_N], unsigned int accepted)
{
        uint64_t sum = 0;

        for (int p = 0; p < PROVENANCE_N; p++)
                if (accepted & 1u << p)
                        sum += rows[p];
        return sum;
}

struct listing {
        struct server *server;
        json_t *nodes;
};

static int list_node(const struct node_info *node, void *arg, struct err *e)
{
        struct listing *l = arg;
        unsigned int accepted = l->server->settings.accepted;

        (void)e;
        (void)json_array_append_new(l->nodes,
                                    json_pack("{s:s, s:s, s:i, s:I, s:I, s:I}", "node_id", node->node_id,
                                              "node_name", node->node_name, "node_type", node->node_type,
                                              "rows", (json_int_t)sum_rows(node->rows, accepted),
                                              "refused_rows", (json_int_t)sum_rows(node->rows, ~accepted),
                                              "last_seen_ms", (json_int_t)node->last_seen_ms));
        return 0;
}

static int list_standing(const struct standing *at, void *arg, struct err *e)
{
        (void)e;
        (void)json_array_append_new(
                arg, json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:I, s:s}", "node_id",
                               at->last.node_id, "node_name", at->last.node_name, "slot", at->last.slot, "id",
                               at->id, "model", at->model, "since_ms", (json_int_t)at->since_ms, "outcome",
                               at->outcome, "outcome_id", at->last.id, "outcome_model", at->last.model,
                               "outcome_ms", (json_int_t)at->last.time_ms, "why", at->last.why));
        return 0;
}

static json_t *list_models(struct server *s)
{
        CLEANUP(catalog_unrefp) struct catalog *c = server_catalog(s);
        const struct pipeline *p = own_pipeline(s, c);
        json_t *models = json_array();

        for (size_t i = 0; p && i < pipeline_offers(p); i++) {
                const struct offer *o = pipeline_offer(p, i);

                (void)json_array_append_new(
                        models,
                        json_pack("{s:s, s:s, s:s, s:s, s:i, s:f, s:I, s:s, s:I, s:s}", "energy_source",
                                  o->source->name, "output_type", output_types[o->output_type],
                                  "feature_group", feature_groups[o->group].name, "model", o->name,
                                  "node_type", o->node_type, "mae", isnan(o->mae) ? -1 : o->mae, "rows",
                                  (json_int_t)o->rows, "content_id", o->content_id, "published_ms",
                                  (json_int_t)learn_published_ms(s->learn, o->content_id), "provenance",
                                  o->provenance));
        }
        return models;
}

static json_t *list_refusals(struct server *s)
{
        json_t *list = json_array();

        (void)pthread_mutex_lock(&s->lock);
        for (size_t i = 0; i < s->refusals_n; i++) {
                const struct refusal *r = &s->refusals[i];

                (void)json_array_append_new(list, json_pack("{s:I, s:s, s:i, s:s}", "received_ms",
                                                            (json_int_t)r->received_ms, "batch", r->batch,
                                                            "status", r->status, "reason", r->reason));
        }
        (void)pthread_mutex_unlock(&s->lock);
        return list;
}

/* What goes into JSON must be UTF-8; what a client sent need not be. */
static void copy_printable(char *to, size_t size, const char *from)
{
        size_t n = 0;

        for (; *from && n + 1 < size; from++)
                to[n++] = (char)(*from >= ' ' && *from < 127 ? *from : '?');
        to[n] = '\0';
}

void server_note_refusal(struct server *s, const char *batch, int status, const char *reason)
{
        atomic_fetch_add(&s->counters.imports_refused, 1);
        (void)pthread_mutex_lock(&s->lock);
        memmove(&s->refusals[1], &s->refusals[0], (REFUSALS_KEPT - 1) * sizeof(s->refusals[0]));
        s->refusals_n += s->refusals_n < REFUSALS_KEPT;
        s->refusals[0].received_ms = clock_wall_ms();
        s->refusals[0].status = status;
        copy_printable(s->refusals[0].batch, sizeof(s->refusals[0].batch), batch);
        copy_printable(s->refusals[0].reason, sizeof(s->refusals[0].reason), reason);
        (void)pthread_mutex_unlock(&s->lock);
}

int server_status(struct server *s, json_t **ret, struct err *e)
{
        CLEANUP(json_decrefp)
        json_t *nodes = json_array(), *refused = json_object(), *accepted = json_array(),
               *fleet = json_array();
        struct listing listing = { s, nodes };
        uint64_t samples, fleet_n, rows[PROVENANCE_N];
        int r = store_each_node(s->store, list_node, &listing, e);

        if (r == 0)
                r = store_each_standing(s->store, FLEET_MAX, list_standing, fleet, e);
        if (r == 0)
                r = store_count_standings(s->store, &fleet_n, e);
        if (r == 0)
                r = store_count_samples(s->store, &samples, e);
        if (r == 0)
                r = store_count_rows(s->store, rows, e);
        if (r < 0)
                return r;
        for (int p = 0; p < PROVENANCE_N; p++) {
                if (s->settings.accepted & 1u << p)
                        (void)json_array_append_new(accepted, json_string(provenance_names[p]));
                else if (rows[p])
                        (void)json_object_set_new(refused, provenance_names[p],
                                                  json_integer((json_int_t)rows[p]));
        }
        *ret = json_pack("{s:s, s:O, s:I, s:o, s:O, s:I, s:I, s:O, s:O, s:I, s:o, s:o, s:o}", "version",
                         WATTLOOP_VERSION, "fleet", fleet, "fleet_nodes", (json_int_t)fleet_n, "rollouts",
                         rollouts_status(s->rollouts), "nodes", nodes, "samples", (json_int_t)samples, "rows",
                         (json_int_t)sum_rows(rows, s->settings.accepted), "accepted_provenance", accepted,
                         "refused_rows", refused, "batches_refused",
                         (json_int_t)atomic_load(&s->counters.imports_refused), "refused_batches",
                         list_refusals(s), "models", list_models(s), "learning", learn_status(s->learn));
        return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}

void server_count_request(struct server *s, int status)
{
        int i = 0;

        while (i < STATUS_CODES - 1 && server_status_codes[i] != status)
                i++;
        atomic_fetch_add(&s->counters.requests[i], 1);
}

static void write_counter(struct buf *out, const char *name, const char *help, atomic_ullong *value)
{
        prom_family(out, name, "counter", help);
        prom_sample(out, name, NULL, (double)atomic_load(value));
}

static void write_labelled(struct buf *out, const char *name, const char *label, const char *value,
                           atomic_ullong *count)
{
        const struct prom_label labels[] = { { label, value }, { NULL, NULL } };

        prom_sample(out, name, labels, (double)atomic_load(count));
}

static double mae_of(struct server *s, const struct offer *o)
{
        (void)s;
        return o->mae;
}

static double rows_of(struct server *s, const struct offer *o)
{
        (void)s;
        return (double)o->rows;
}

static double published_of(struct server *s, const struct offer *o)
{
        int64_t ms = learn_published_ms(s->learn, o->content_id);

        return ms ? (double)ms / 1e3 : NAN;
}

static const struct {
        const char *name, *help;
        double (*value)(struct server *s, const struct offer *o);
} model_families[] = {
        { "wattloop_server_model_mae_watts",
          "Error on held-out blocks of the published model's worst component.", mae_of },
        { "wattloop_server_model_rows", "Rows that the published model's least trained component learned.",
          rows_of },
        { "wattloop_server_model_published_timestamp_seconds", "When the model was published.",
          published_of },
};

static void write_models(struct server *s, struct buf *out)
{
        CLEANUP(catalog_unrefp) struct catalog *c = server_catalog(s);
        const struct pipeline *p = own_pipeline(s, c);

        for (size_t f = 0; f < ARRAY_SIZE(model_families); f++) {
                prom_family(out, model_families[f].name, "gauge", model_families[f].help);
                for (size_t i = 0; p && i < pipeline_offers(p); i++) {
                        const struct offer *o = pipeline_offer(p, i);
                        const struct prom_label labels[] = { { "energy_source", o->source->name },
                                                             { "output_type", output_types[o->output_type] },
                                                             { "feature_group",
                                                               feature_groups[o->group].name },
                                                             { "model", o->name },
                                                             { "provenance", o->provenance },
                                                             { NULL, NULL } };
                        double value = model_families[f].value(s, o);

                        if (!isnan(value)) /* unknown */
                                prom_sample(out, model_families[f].name, labels, value);
                }
        }
}

static void write_learning(struct server *s, struct buf *out)
{
        struct learn_counters n;
        const struct {
                const char *name, *help;
                const uint64_t *value;
        } families[] = {
                { "wattloop_server_rows_learned_total", "Training rows that the learning thread has seen.",
                  &n.rows },
                { "wattloop_server_rows_left_out_total", "Rows of nodes that had given their share.",
                  &n.left_out },
                { "wattloop_server_models_trained_total", "Champions and challengers trained.", &n.trained },
                { "wattloop_server_challengers_promoted_total", "Challengers that became champion.",
                  &n.promoted },
                { "wattloop_server_challengers_rejected_total", "Trials that the champion won.",
                  &n.rejected },
                { "wattloop_server_drifts_total", "Trainings because the error grew.", &n.drifted },
                { "wattloop_server_learning_failures_total", "Times that learning had to wait.",
                  &n.failures },
        };

        learn_count(s->learn, &n);
        for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
                prom_family(out, families[i].name, "counter", families[i].help);
                prom_sample(out, families[i].name, NULL, (double)*families[i].value);
        }
}

void server_write_metrics(struct server *s, struct buf *out)
{
        struct counters *c = &s->counters;
        char code[16];

        write_counter(out, "wattloop_server_imports_total", "Batches stored.", &c->imports);
        write_counter(out, "wattloop_server_imports_refused_total",
                      "Batches refused; nothing of them is stored.", &c->imports_refused);
        if (atomic_load(&c->imported_ms)) {
                prom_family(out, "wattloop_server_last_import_timestamp_seconds", "gauge",
                            "When the last batch was stored.");
                prom_sample(out, "wattloop_server_last_import_timestamp_seconds", NULL,
                            (double)atomic_load(&c->imported_ms) / 1e3);
        }
        write_counter(out, "wattloop_server_samples_received_total", "Samples in stored batches.",
                      &c->samples);
        prom_family(out, "wattloop_server_samples_total", "counter",
                    "Samples in stored batches by what became of them.");
        write_labelled(out, "wattloop_server_samples_total", "result", "new", &c->added);
        write_labelled(out, "wattloop_server_samples_total", "result", "duplicate", &c->duplicate);
        write_labelled(out, "wattloop_server_samples_total", "result", "ignored", &c->ignored);
        write_counter(out, "wattloop_server_rows_total", "Training rows folded.", &c->rows);
        write_learning(s, out);
        prom_family(out, "wattloop_server_intervals_total", "counter",
                    "Intervals folded by what became of them.");
        for (int i = 0; i < FOLD_VERDICTS; i++)
                write_labelled(out, "wattloop_server_intervals_total", "verdict", fold_verdict_names[i],
                               &c->intervals[i]);
        write_counter(out, "wattloop_server_publications_total", "Times the pipeline was published.",
                      &c->publications);
        write_counter(out, "wattloop_server_publications_failed_total", "Times it could not be published.",
                      &c->publications_failed);
        prom_family(out, "wattloop_server_reports_total", "counter",
                    "Reports of updates stored, by outcome.");
        for (int i = 0; i < OUTCOMES; i++)
                write_labelled(out, "wattloop_server_reports_total", "outcome", outcome_names[i],
                               &c->reports[i]);
        prom_family(out, "wattloop_server_requests_total", "counter",
                    "HTTP requests answered by status code.");
        for (int i = 0; i < STATUS_CODES; i++) {
                (void)snprintf(code, sizeof(code), "%d", server_status_codes[i]);
                write_labelled(out, "wattloop_server_requests_total", "code",
                               server_status_codes[i] ? code : "other", &c->requests[i]);
        }
        write_models(s, out);
}
