/* SPDX-License-Identifier: Apache-2.0 */
/* Models made from the rows, with their lineage; and the same made again. */
#include <errno.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "common/json.h"
#include "config/cli.h"
#include "model-server/learn/state.h"

#define BATCHES_LISTED_MAX 256 /* hashes in the metadata; a hash over all of them is always there */

static void lapack_version(char ret[32])
{
        lapack_int major = 0, minor = 0, patch = 0;

        LAPACKE_ilaver(&major, &minor, &patch);
        (void)snprintf(ret, 32, "%d.%d.%d", (int)major, (int)minor, (int)patch);
}

static json_t *accepted_list(unsigned int accepted)
{
        json_t *list = json_array();

        for (int p = 0; p < PROVENANCE_N; p++)
                if (accepted & 1u << p)
                        (void)json_array_append_new(list, json_string(provenance_names[p]));
        return list;
}

static json_t *string_array(const struct string_list *list)
{
        json_t *array = json_array();

        for (size_t i = 0; list && i < list->n; i++)
                (void)json_array_append_new(array, json_string(list->items[i]));
        return array;
}

char *making_settings_text(const struct learn_settings *s)
{
        CLEANUP(json_decrefp)
        json_t *o = json_pack("{s:o, s:o, s:f, s:f}", "accepted", accepted_list(s->accepted), "excluded",
                              string_array(s->excluded), "node_share", s->node_share, "forgetting",
                              s->forgetting);

        return json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
}

static void add_versions(json_t *o)
{
        struct utsname machine;
        char lapack[32];

        lapack_version(lapack);
        (void)json_object_set_new(o, "made_by", json_string("wattloop-model-server " WATTLOOP_VERSION));
        (void)json_object_set_new(o, "lapack", json_string(lapack));
        (void)json_object_set_new(o, "architecture",
                                  json_string(uname(&machine) == 0 ? machine.machine : ""));
}

/* The hashes of the batches, cut when there are too many to list, and one over all of them. */
static int add_batches(json_t *o, struct feed *feed, const struct dataset *data, struct err *e)
{
        CLEANUP(buf_done) struct buf all = { 0 };
        char hash[HASH_HEX_SIZE];
        json_t *batches;
        size_t n;
        int r = feed_batches(feed, data, &batches, e);

        if (r < 0)
                return r;
        n = json_array_size(batches);
        buf_init(&all, n * HASH_HEX_SIZE + 1);
        for (size_t i = 0; i < n; i++)
                (void)buf_puts(&all, json_string_value(json_array_get(batches, i))); /* failure is sticky */
        if (all.failed) {
                json_decref(batches);
                return err_set(e, all.failed, "out of memory");
        }
        hash_sha256_hex(all.size ? all.data : "", all.size, hash);
        while (json_array_size(batches) > BATCHES_LISTED_MAX)
                (void)json_array_remove(batches, 0);
        (void)json_object_set_new(o, "batches", batches);
        (void)json_object_set_new(o, "batches_n", json_integer((json_int_t)n));
        (void)json_object_set_new(o, "batches_sha256", json_string(hash));
        return 0;
}

struct recipe {
        const struct learn_settings *settings;
        struct feed *feed;
        struct feed_rule rule;
        const char *fit; /* "batch", "online" */
        struct machine_spec spec;
};

static int make_lineage(const struct recipe *recipe, const struct dataset *data, json_t **ret, struct err *e)
{
        const struct learn_settings *s = recipe->settings;
        json_t *nodes = json_array(), *o;
        char hash[HASH_HEX_SIZE];
        int r = dataset_hash(data, hash);

        for (size_t i = 0; i < data->nodes_n; i++)
                (void)json_array_append_new(nodes, json_string(data->nodes[i]));
        o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:s, s:s, s:o, s:o, s:o}", "fit", recipe->fit, "seed",
                      (json_int_t)s->seed, "last_row", (json_int_t)recipe->rule.last_row, "min_rows",
                      (json_int_t)s->min_rows, "max_rows", (json_int_t)s->max_rows, "node_share",
                      s->node_share, "isolator", isolator_names[s->isolator], "dataset_sha256", hash, "nodes",
                      nodes, "excluded", string_array(recipe->rule.excluded), "accepted",
                      accepted_list(s->accepted));
        if (r < 0 || !o) {
                json_decref(o);
                return err_set(e, -ENOMEM, "out of memory");
        }
        if (!strcmp(recipe->fit, "online"))
                (void)json_object_set_new(o, "forgetting", json_real(s->forgetting));
        add_versions(o);
        r = add_batches(o, recipe->feed, data, e);
        if (r < 0) {
                json_decref(o);
                return r;
        }
        *ret = o;
        return 0;
}

/* DynPower of the online learner: its AbsPower with each component's idle power taken off. */
static double idle_of(const struct dataset *data, int component)
{
        CLEANUP(freep) double *min = malloc((data->nodes_n + 1) * sizeof(*min));
        double sum = 0;
        uint64_t n = 0;

        for (size_t i = 0; min && i < data->nodes_n; i++)
                min[i] = INFINITY;
        for (size_t i = 0; min && i < data->n; i++)
                if (data->rows[i].row.has_watts & 1u << component)
                        min[data->rows[i].node] =
                                fmin(min[data->rows[i].node], data->rows[i].row.watts[component]);
        for (size_t i = 0; min && i < data->n; i++)
                if (data->rows[i].row.has_watts & 1u << component) {
                        sum += min[data->rows[i].node];
                        n++;
                }
        return n ? sum / (double)n : 0;
}

static int make_one(const struct recipe *recipe, const struct fitter *fitter, const struct online *online,
                    const struct fit_input *in, const struct dataset *abs, struct artifact **ret,
                    struct err *e)
{
        double idle[COMPONENT_N] = { 0 };

        if (strcmp(recipe->fit, "online") != 0)
                return fitter->fit(in, ret, e);
        for (int c = 0;
             in->place.output_type == 1 && recipe->settings->isolator == ISOLATOR_MIN && c < COMPONENT_N; c++)
                idle[c] = idle_of(abs, c);
        return online_export(online, in, idle, ret, e);
}

/* AbsPower, and DynPower of the same rows. `online` only for a recipe of that fit. */
static int make_pair(const struct recipe *recipe, const struct fitter *fitter, const struct online *online,
                     const struct place *place, const struct dataset *data, const struct dataset *dynamic,
                     const json_t *lineage, struct artifact **ret_abs, struct artifact **ret_dyn,
                     struct err *e)
{
        struct fit_input in = { .data = data,
                                .place = *place,
                                .spec = &recipe->spec,
                                .min_rows = recipe->settings->min_rows,
                                .seed = recipe->settings->seed,
                                .lineage = lineage };
        CLEANUP(artifact_freep) struct artifact *abs = NULL;
        int r;

        in.place.output_type = 0;
        r = make_one(recipe, fitter, online, &in, data, &abs, e);
        if (r < 0)
                return r;
        in.place.output_type = 1;
        in.data = dynamic;
        r = make_one(recipe, fitter, online, &in, data, ret_dyn, e);
        if (r < 0)
                return r;
        *ret_abs = TAKE(abs);
        return 0;
}

static int copy_dataset(const struct dataset *from, struct dataset *to, struct err *e)
{
        int r = 0;

        *to = (struct dataset){ 0 };
        for (size_t i = 0; r >= 0 && i < from->nodes_n; i++)
                r = dataset_node(to, from->nodes[i], e);
        for (size_t i = 0; r >= 0 && i < from->n; i++)
                r = dataset_add(to, &from->rows[i], e);
        if (r < 0)
                dataset_done(to);
        return r < 0 ? r : 0;
}

static int find_spec(int node_type, const char *text, void *arg, struct err *e)
{
        struct recipe *recipe = arg;
        CLEANUP(json_decrefp) json_t *object = NULL;
        int r;

        if (node_type != recipe->rule.node_type)
                return 0;
        r = json_parse(text, strlen(text), "machine spec", &object, e);
        return r < 0 ? r : machine_spec_from_json(object, &recipe->spec, e);
}

static int load_data(struct recipe *recipe, struct dataset *data, struct dataset *dynamic, struct err *e)
{
        int r = feed_node_types(recipe->feed, find_spec, recipe, e);

        if (r == 0)
                r = feed_dataset(recipe->feed, &recipe->rule, data, e);
        if (r == 0)
                r = copy_dataset(data, dynamic, e);
        if (r == 0 && recipe->settings->isolator == ISOLATOR_MIN)
                dataset_subtract_min(dynamic);
        return r;
}

static int train_one(struct recipe *recipe, const char *fit, const struct kind *kind, const struct slot *slot,
                     const struct dataset *data, const struct dataset *dynamic, struct contender *ret,
                     struct err *e)
{
        const struct place place = { &energy_sources[slot->source], 0, slot->group, slot->node_type,
                                     fitters[slot->trainer].name };
        CLEANUP(json_decrefp) json_t *lineage = NULL;
        struct artifact *abs, *dyn;
        int r;

        recipe->fit = fit;
        r = make_lineage(recipe, data, &lineage, e);
        if (r == 0)
                r = make_pair(recipe, &fitters[slot->trainer], &kind->online, &place, data, dynamic, lineage,
                              &abs, &dyn, e);
        if (r < 0)
                return r;
        ret->last_row = recipe->rule.last_row;
        r = contender_load(ret, abs, dyn, e);
        if (r < 0)
                contender_done(ret);
        return r;
}

struct making {
        struct recipe recipe;
        struct dataset data, dynamic;
};

void making_free(struct making *m)
{
        if (!m)
                return;
        dataset_done(&m->data);
        dataset_done(&m->dynamic);
        free(m);
}

int making_open(struct learn *learn, int node_type, struct making **ret, struct err *e)
{
        const struct learn_settings *s = &learn->settings;
        CLEANUP(making_freep) struct making *m = calloc(1, sizeof(*m));
        int r;

        if (!m)
                return err_set(e, -ENOMEM, "out of memory");
        m->recipe = (struct recipe){ .settings = s,
                                     .feed = learn->feed,
                                     .rule = { node_type, s->accepted, learn->row_id, s->max_rows,
                                               s->node_share, s->excluded } };
        r = load_data(&m->recipe, &m->data, &m->dynamic, e);
        if (r < 0)
                return r;
        *ret = TAKE(m);
        return 0;
}

int making_train(struct making *m, const struct kind *kind, const struct slot *slot,
                 struct contender ret[SLOT_CHALLENGERS], struct err *e)
{
        int n = 0, r = train_one(&m->recipe, "batch", kind, slot, &m->data, &m->dynamic, &ret[n], e);

        if (r < 0)
                return r == -ENODATA ? 0 : r;
        n++;
        /* The online learner's weights are linear ones; they compete where linear weights are published. */
        if (slot->champion.model && !strcmp(fitters[slot->trainer].name, ONLINE_TRAINER)) {
                r = train_one(&m->recipe, "online", kind, slot, &m->data, &m->dynamic, &ret[n], e);
                if (r == 0)
                        n++;
                else if (r == -ENOMEM)
                        return r; /* else it has nothing to offer yet */
        }
        return n;
}

struct relearn {
        const struct learn_settings *settings;
        const struct feed_rule *rule;
        struct online *online;
};

static int relearn_row(int64_t row_id, const char *node_id, const struct row *row, void *arg, struct err *e)
{
        const struct relearn *re = arg;
        const struct online_settings settings = { re->settings->forgetting, re->settings->node_share };
        int r;

        (void)row_id;
        if (!(re->rule->accepted & 1u << row->provenance) || string_list_has(re->rule->excluded, node_id))
                return 0;
        r = online_learn(re->online, &settings, node_id, row, NULL, NULL, e);
        return r < 0 ? r : 0;
}

static int relearn_all(const struct recipe *recipe, struct online *online, struct err *e)
{
        struct relearn re = { recipe->settings, &recipe->rule, online };
        int64_t after = 0;
        int r;

        do
                r = feed_rows(recipe->feed, recipe->rule.node_type, after, recipe->rule.last_row, relearn_row,
                              &re, &after, e);
        while (r == FEED_CHUNK);
        return r < 0 ? r : 0;
}

/* Settings as the metadata have them. */
static void settings_of(const json_t *metadata, struct learn_settings *s)
{
        const json_t *accepted = json_object_get(metadata, "accepted");
        const char *isolator = json_string_value(json_object_get(metadata, "isolator"));

        s->accepted = 0;
        for (size_t i = 0; i < json_array_size(accepted); i++) {
                const char *name = json_string_value(json_array_get(accepted, i));
                int p = name ? provenance_find(name) : -1;

                if (p >= 0)
                        s->accepted |= 1u << p;
        }
        s->seed = (uint64_t)json_integer_value(json_object_get(metadata, "seed"));
        s->min_rows = (uint64_t)json_integer_value(json_object_get(metadata, "min_rows"));
        s->max_rows = (uint64_t)json_integer_value(json_object_get(metadata, "max_rows"));
        s->node_share = json_number_value(json_object_get(metadata, "node_share"));
        s->forgetting = json_number_value(json_object_get(metadata, "forgetting"));
        s->isolator = ISOLATOR_NONE;
        for (int i = 0; isolator && isolator_names[i]; i++)
                if (!strcmp(isolator_names[i], isolator))
                        s->isolator = (enum isolator)i;
}

/* What was left out, and what shall be left out besides; the items are borrowed. */
static int merge_excluded(const json_t *metadata, const struct string_list *more, struct string_list *ret,
                          struct err *e)
{
        const json_t *was = json_object_get(metadata, "excluded");

        *ret = (struct string_list){ calloc(json_array_size(was) + (more ? more->n : 0) + 1, sizeof(char *)),
                                     0 };
        if (!ret->items)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < json_array_size(was); i++)
                if (json_is_string(json_array_get(was, i)))
                        ret->items[ret->n++] = (char *)(uintptr_t)json_string_value(json_array_get(was, i));
        for (size_t i = 0; more && i < more->n; i++)
                if (!string_list_has(ret, more->items[i]))
                        ret->items[ret->n++] = more->items[i];
        return 0;
}

static int place_of(const json_t *metadata, struct place *ret, struct err *e)
{
        const char *trainer = json_string_value(json_object_get(metadata, "trainer")),
                   *output = json_string_value(json_object_get(metadata, "output_type"));
        const json_t *list = json_object_get(metadata, "features");
        const char *names[GROUP_FEATURES_MAX];
        const struct feature_group *group;
        size_t n = 0;

        for (size_t i = 0; i < json_array_size(list) && n < GROUP_FEATURES_MAX; i++)
                if (json_is_string(json_array_get(list, i)))
                        names[n++] = json_string_value(json_array_get(list, i));
        group = feature_group_of(names, n);
        if (!trainer || !output || !group || !fitter_find(trainer) ||
            !json_object_get(metadata, "dataset_sha256"))
                return err_set(e, -EINVAL,
                               "the model does not say how it was made, or this program cannot make it");
        *ret = (struct place){ energy_source_find(json_object_get(metadata, "platform_mae") ? "acpi"
                                                                                            : "rapl-sysfs"),
                               !strcmp(output, output_types[1]), (int)(group - feature_groups),
                               (int)json_integer_value(json_object_get(metadata, "node_type")), trainer };
        return 0;
}

/* Names of members that differ between what the metadata say and what was made, one a line. */
static void tell_differences(const json_t *was, const json_t *is, struct buf *out)
{
        const json_t *value;
        const char *key;

        json_object_foreach ((json_t *)(uintptr_t)was, key, value) {
                CLEANUP(freep) char *old = NULL, *new = NULL;
                const json_t *other = json_object_get(is, key);

                if (other && json_equal(value, other))
                        continue;
                old = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
                new = other ? json_dumps(other, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
                (void)buf_printf(out, "%s: was %.200s, is %.200s\n", key, old ? old : "?",
                                 new ? new : "absent");
        }
}

int learn_replay(const struct learn_settings *settings, const json_t *metadata,
                 const struct string_list *excluded, struct artifact **ret, struct buf *differs,
                 struct err *e)
{
        CLEANUP(feed_closep) struct feed *feed = NULL;
        CLEANUP(dataset_done) struct dataset data = { 0 };
        CLEANUP(dataset_done) struct dataset dynamic = { 0 };
        CLEANUP(online_done) struct online online = { 0 };
        CLEANUP(json_decrefp) json_t *lineage = NULL;
        CLEANUP(artifact_freep) struct artifact *abs = NULL, *dyn = NULL;
        struct learn_settings then = *settings;
        struct string_list left_out = { 0 };
        struct recipe recipe = { .settings = &then };
        struct place place;
        int r = place_of(metadata, &place, e);

        if (r < 0)
                return r;
        settings_of(metadata, &then);
        r = merge_excluded(metadata, excluded, &left_out, e);
        if (r < 0)
                return r;
        recipe.fit = json_string_value(json_object_get(metadata, "fit"));
        recipe.fit = recipe.fit && !strcmp(recipe.fit, "online") ? "online" : "batch";
        recipe.rule = (struct feed_rule){
                place.node_type, then.accepted,   json_integer_value(json_object_get(metadata, "last_row")),
                then.max_rows,   then.node_share, &left_out
        };
        r = feed_open(settings->rows_path, &feed, e);
        recipe.feed = feed;
        if (r == 0)
                r = load_data(&recipe, &data, &dynamic, e);
        if (r == 0 && !strcmp(recipe.fit, "online"))
                r = relearn_all(&recipe, &online, e);
        if (r == 0)
                r = make_lineage(&recipe, &data, &lineage, e);
        if (r == 0)
                r = make_pair(&recipe, fitter_find(place.trainer), &online, &place, &data, &dynamic, lineage,
                              &abs, &dyn, e);
        free(left_out.items);
        if (r < 0)
                return r;
        *ret = place.output_type ? TAKE(dyn) : TAKE(abs);
        tell_differences(metadata, (*ret)->metadata, differs);
        return 0;
}
