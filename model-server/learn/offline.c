/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/learn/offline.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "config/cli.h"
#include "model-server/data/recording.h"
#include "model-server/learn/fit.h"

#define TRAINERS_MAX    16 /* of each output type */
#define OFFLINE_ZIP_MAX ((size_t)256 << 20)
#define VM_JOB          "vm" /* kepler-model-server's VM_JOB_NAME */

struct request {
        char name[128];
        const struct energy_source *source;
        const char *trainers[2][TRAINERS_MAX]; /* borrowed; by output type */
        size_t trainers_n[2];
        enum isolator isolator;
        const json_t *idle, *recording; /* borrowed; idle may be NULL */
        bool virtual_machines;
};

void offline_result_done(struct offline_result *result)
{
        buf_done(&result->zip);
}

static bool valid_name(const char *name)
{
        size_t n = strlen(name);

        for (const char *c = name; *c; c++)
                if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
                        return false;
        return n > 0 && n < 128 && *name != '.';
}

static const struct energy_source *exact_source(const char *name)
{
        for (size_t i = 0; i < energy_sources_n; i++)
                if (!strcmp(energy_sources[i].name, name))
                        return &energy_sources[i];
        return NULL;
}

static int read_trainers(const json_t *trainer, const char *key, const char **ret, size_t *ret_n,
                         struct err *e)
{
        const json_t *list = json_object_get(trainer, key);

        if (!json_is_array(list))
                return err_set(e, -EBADMSG, "trainer.%s is not an array of trainer names", key);
        if (json_array_size(list) > TRAINERS_MAX)
                return err_set(e, -E2BIG, "trainer.%s: more than %d trainers", key, TRAINERS_MAX);
        for (size_t i = 0; i < json_array_size(list); i++) {
                const char *name = json_string_value(json_array_get(list, i));

                if (!name || !fitter_known(name))
                        return err_set(e, -EINVAL, "trainer.%s: there is no trainer '%.64s'", key,
                                       name ? name : "?");
                ret[(*ret_n)++] = name;
        }
        return 0;
}

static int read_isolator(const json_t *trainer, enum isolator *ret, struct err *e)
{
        static const char *const classes[] = { "NoneIsolator", "MinIdleIsolator",
                                               "ProfileBackgroundIsolator" };
        const char *name;
        int r = json_get_string(trainer, "isolator", &name, e);

        if (r < 0)
                return err_prefix(e, -EBADMSG, "trainer");
        for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
                if (!strcmp(name, classes[i]) || !strcmp(name, isolator_names[i])) {
                        *ret = (enum isolator)i;
                        return 0;
                }
        return err_set(
                e, -EINVAL,
                "trainer.isolator '%.64s': NoneIsolator, MinIdleIsolator and ProfileBackgroundIsolator "
                "are offered",
                name);
}

static int read_trainer(const json_t *object, struct request *q, struct err *e)
{
        const json_t *trainer = json_object_get(object, "trainer"), *args;
        int r;

        if (!json_is_object(trainer))
                return err_set(e, -EBADMSG, "no object 'trainer'");
        r = read_trainers(trainer, "abs_trainers", q->trainers[0], &q->trainers_n[0], e);
        if (r == 0)
                r = read_trainers(trainer, "dyn_trainers", q->trainers[1], &q->trainers_n[1], e);
        if (r == 0)
                r = read_isolator(trainer, &q->isolator, e);
        if (r < 0)
                return r;
        q->idle = json_object_get(trainer, "idle_prom_response");
        args = json_object_get(trainer, "isolator_args");
        if (q->idle && !json_is_null(q->idle) && !json_is_object(q->idle))
                return err_set(e, -EBADMSG, "trainer.idle_prom_response is not an object");
        if (args && !json_is_null(args) && !json_is_object(args))
                return err_set(e, -EBADMSG, "trainer.isolator_args is not an object");
        if (!json_object_size(q->idle))
                q->idle = NULL;
        if (q->isolator == ISOLATOR_PROFILE && q->trainers_n[1] && !q->idle)
                return err_set(e, -EINVAL, "ProfileBackgroundIsolator needs trainer.idle_prom_response");
        return 0;
}

static int read_request(const json_t *object, struct request *q, struct err *e)
{
        static const char *const keys[] = { "name", "energy_source", "trainer", "prom_response",
                                            "use_vm_metrics" };
        const char *name, *source, *key;
        json_t *value;
        int r;

        *q = (struct request){ 0 };
        if (!json_is_object(object))
                return err_set(e, -EBADMSG, "the request is not an object");
        json_object_foreach ((json_t *)(uintptr_t)object, key, value) {
                size_t i = 0;

                while (i < ARRAY_SIZE(keys) && strcmp(keys[i], key) != 0)
                        i++;
                if (i == ARRAY_SIZE(keys))
                        return err_set(e, -EBADMSG, "unknown key '%.64s'", key);
        }
        r = json_get_string(object, "name", &name, e);
        if (r == 0)
                r = json_get_string(object, "energy_source", &source, e);
        if (r < 0)
                return err_prefix(e, -EBADMSG, "request");
        if (!valid_name(name))
                return err_set(e, -EINVAL, "name '%.64s' is not a plain file name", name);
        (void)snprintf(q->name, sizeof(q->name), "%s", name);
        q->source = exact_source(source);
        if (!q->source || !strcmp(source, "trained_power_model"))
                return err_set(e, -EINVAL, "energy_source '%.64s' is not a source of measured power", source);
        value = json_object_get(object, "use_vm_metrics");
        if (value && !json_is_boolean(value))
                return err_set(e, -EBADMSG, "use_vm_metrics is not a boolean");
        q->virtual_machines = json_is_true(value);
        q->recording = json_object_get(object, "prom_response");
        if (!json_is_object(q->recording))
                return err_set(e, -EBADMSG, "prom_response is not an object");
        return read_trainer(object, q, e);
}

static int profile_watts(const struct request *q, double ret[COMPONENT_N], struct err *e)
{
        const struct recording_query query = { q->source, q->virtual_machines, VM_JOB, NULL };
        CLEANUP(dataset_done) struct dataset idle = { 0 };
        uint64_t skipped;
        int r = recording_extract(q->idle, &query, &idle, &skipped, e);

        if (r < 0)
                return err_prefix(e, r, "idle_prom_response");
        if (!idle.n)
                return err_set(e, -ENODATA, "idle_prom_response has no interval of '%s' power",
                               q->source->name);
        for (int c = 0; c < COMPONENT_N; c++) {
                double min = INFINITY, max = 0;

                for (size_t i = 0; i < idle.n; i++) {
                        min = fmin(min, idle.rows[i].row.watts[c]);
                        max = fmax(max, idle.rows[i].row.watts[c]);
                }
                ret[c] = (min + max) / 2;
        }
        return 0;
}

/* AbsPower rows, and what the isolator leaves of them. */
static int make_datasets(const struct request *q, struct dataset data[2], uint64_t *ret_skipped,
                         struct err *e)
{
        struct recording_query query = { q->source, q->virtual_machines, VM_JOB, NULL };
        CLEANUP(json_decrefp) json_t *background = NULL;
        double watts[COMPONENT_N] = { 0 };
        uint64_t again;
        int r = recording_extract(q->recording, &query, &data[0], ret_skipped, e);

        if (r < 0)
                return err_prefix(e, r, "prom_response");
        if (!q->trainers_n[1])
                return 0;
        if (q->isolator == ISOLATOR_PROFILE) {
                query.background = background = recording_containers(q->idle);
                r = profile_watts(q, watts, e);
        }
        if (r == 0)
                r = recording_extract(q->recording, &query, &data[1], &again, e);
        if (r == 0 && q->isolator == ISOLATOR_MIN)
                dataset_subtract_min(&data[1]);
        else if (r == 0 && q->isolator == ISOLATOR_PROFILE)
                dataset_subtract(&data[1], watts);
        return r;
}

struct made {
        struct artifact **items; /* owned */
        size_t n;
};

static void made_done(struct made *m)
{
        for (size_t i = 0; i < m->n; i++)
                artifact_free(m->items[i]);
        free(m->items);
}

static int add_made(struct made *m, struct artifact *a, struct err *e)
{
        struct artifact **items = realloc(m->items, (m->n + 1) * sizeof(*items));

        if (!items) {
                artifact_free(a);
                return err_set(e, -ENOMEM, "out of memory");
        }
        m->items = items;
        items[m->n++] = a;
        return 0;
}

static bool has_group(const struct dataset *d, int group)
{
        double x[GROUP_FEATURES_MAX];

        for (size_t i = 0; i < d->n; i++)
                if (example_features(&d->rows[i], group, x))
                        return true;
        return false;
}

/* Rows of one node type; borrows the nodes. */
static int select_type(const struct dataset *from, int node_type, struct dataset *ret, struct err *e)
{
        int r = 0;

        *ret = (struct dataset){ .nodes = from->nodes, .nodes_n = from->nodes_n };
        for (size_t i = 0; r == 0 && i < from->n; i++)
                if (from->rows[i].row.node_type == node_type)
                        r = dataset_add(ret, &from->rows[i], e);
        return r;
}

static json_t *make_lineage(const struct request *q, const struct dataset *d, const char *request_hash,
                            uint64_t seed)
{
        char hash[HASH_HEX_SIZE];

        if (dataset_hash(d, hash) < 0)
                return NULL;
        return json_pack("{s:s, s:I, s:s, s:s, s:s, s:s}", "fit", "request", "seed", (json_int_t)seed,
                         "isolator", isolator_names[q->isolator], "dataset_sha256", hash, "request_sha256",
                         request_hash, "made_by", "wattloop-model-server " WATTLOOP_VERSION);
}

struct run {
        const struct request *request;
        const struct offline_settings *settings;
        struct offline_progress *progress;
        char request_hash[HASH_HEX_SIZE];
        struct made made;
        unsigned int made_by[2]; /* bits by trainer of the request */
};

/* All models of one node type and output type. */
static int train_type(struct run *run, const struct dataset *data, int output_type, int node_type,
                      struct err *e)
{
        static const struct machine_spec unknown;
        const struct request *q = run->request;
        struct dataset rows;
        int r = select_type(data, node_type, &rows, e);
        CLEANUP(json_decrefp)
        json_t *lineage = r == 0 ? make_lineage(q, &rows, run->request_hash, run->settings->seed) : NULL;

        for (int g = 0; r == 0 && g < (int)feature_groups_n; g++) {
                if (!has_group(&rows, g))
                        continue;
                for (size_t t = 0; r == 0 && t < q->trainers_n[output_type]; t++) {
                        const struct fitter *fitter = fitter_find(q->trainers[output_type][t]);
                        struct fit_input in = { .data = &rows,
                                                .place = { q->source, output_type, g, node_type,
                                                           q->trainers[output_type][t] },
                                                .spec = &unknown,
                                                .min_rows =
                                                        (uint64_t)group_features_n(&feature_groups[g]) + 2,
                                                .seed = run->settings->seed,
                                                .lineage = lineage };
                        struct artifact *a;

                        atomic_fetch_add(&run->progress->done, 1);
                        if (!fitter)
                                continue;
                        r = fitter->fit(&in, &a, e);
                        if (r == 0) {
                                r = add_made(&run->made, a, e);
                                run->made_by[output_type] |= 1u << t;
                        } else if (r != -ENOMEM) {
                                r = 0; /* as upstream: a single trainer that fails is left out */
                        }
                }
        }
        free(rows.rows);
        return r;
}

static int count_work(const struct run *run, const struct dataset data[2])
{
        int n = 0;

        for (int output = 0; output < 2; output++)
                for (int g = 0; g < (int)feature_groups_n; g++)
                        n += has_group(&data[output], g) ? (int)run->request->trainers_n[output] : 0;
        return n;
}

static int train_all(struct run *run, const struct dataset data[2], struct err *e)
{
        int types = 0, r = 0;

        for (size_t i = 0; i < data[0].n; i++)
                types = data[0].rows[i].row.node_type >= types ? data[0].rows[i].row.node_type + 1 : types;
        atomic_store(&run->progress->total, count_work(run, data));
        for (int output = 0; r == 0 && output < 2; output++)
                for (int type = 0; r == 0 && type < types; type++)
                        r = train_type(run, &data[output], output, type, e);
        return r;
}

static void list_left_out(const struct run *run, char *ret, size_t size)
{
        size_t at = 0;

        ret[0] = '\0';
        for (int output = 0; output < 2; output++)
                for (size_t t = 0; t < run->request->trainers_n[output]; t++) {
                        int n;

                        if (run->made_by[output] & 1u << t || at >= size)
                                continue;
                        n = snprintf(ret + at, size - at, "%s%s/%s", at ? ", " : "", output_types[output],
                                     run->request->trainers[output][t]);
                        at += n > 0 ? (size_t)n : 0;
                }
}

static int finish(struct run *run, int64_t now_ms, struct offline_result *ret, struct err *e)
{
        const struct request *q = run->request;
        const struct pipeline_input in = { .name = q->name,
                                           .isolator = isolator_names[q->isolator],
                                           .now_ms = now_ms,
                                           .artifacts = (const struct artifact *const *)run->made.items,
                                           .n = run->made.n };

        list_left_out(run, ret->left_out, sizeof(ret->left_out));
        if (!run->made.n)
                return err_set(e, -ENODATA,
                               "%llu intervals gave %llu rows, and no trainer could use them%s%s",
                               (unsigned long long)(ret->rows + ret->skipped_intervals),
                               (unsigned long long)ret->rows, *ret->left_out ? ": " : "", ret->left_out);
        (void)snprintf(ret->name, sizeof(ret->name), "%s", q->name);
        ret->models = (int)run->made.n;
        buf_init(&ret->zip, OFFLINE_ZIP_MAX);
        return pipeline_zip(&in, &ret->zip, e);
}

int offline_train(const char *body, size_t size, const struct offline_settings *settings, int64_t now_ms,
                  struct offline_progress *progress, struct offline_result *ret, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        struct offline_result result = { 0 };
        struct dataset data[2] = { 0 };
        struct request request;
        struct run run = { .request = &request, .settings = settings, .progress = progress };
        int r = json_parse(body, size, "request", &object, e);

        if (r == 0)
                r = read_request(object, &request, e);
        if (r < 0)
                return r;
        hash_sha256_hex(body, size, run.request_hash);
        r = make_datasets(&request, data, &result.skipped_intervals, e);
        result.rows = data[0].n;
        if (r == 0)
                r = train_all(&run, data, e);
        if (r == 0)
                r = finish(&run, now_ms, &result, e);
        made_done(&run.made);
        dataset_done(&data[0]);
        dataset_done(&data[1]);
        if (r < 0) {
                offline_result_done(&result);
                return r;
        }
        *ret = result;
        return 0;
}
