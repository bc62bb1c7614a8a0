/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/select.h"

#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

/* Whose weights Kepler's exporter can evaluate. */
static const char *const weight_trainers[] = { "SGDRegressorTrainer", "LogarithmicRegressionTrainer",
                                               "LogisticRegressionTrainer", "ExponentialRegressionTrainer" };

/* One pipeline being searched for one request. */
struct search {
        const struct pipeline *pipeline;
        const struct model_request *request;
        const struct node_types
                *cover_types;            /* whose index decides what covers the spec; NULL: everything fits */
        int node_type;                   /* wanted, after the look-up */
        const struct offer **candidates; /* owned; room for all offers */
        size_t n;
};

static void search_done(struct search *s)
{
        free(s->candidates);
}

static bool has_metric(const json_t *metrics, const char *name)
{
        for (size_t i = 0; i < json_array_size(metrics); i++)
                if (!strcmp(json_string_value(json_array_get(metrics, i)), name))
                        return true;
        return false;
}

static bool group_fits(const struct feature_group *group, const json_t *metrics)
{
        for (int i = 0; i < GROUP_FEATURES_MAX && group->features[i]; i++)
                if (!has_metric(metrics, group->features[i]))
                        return false;
        return true;
}

static bool is_weight_trainer(const char *trainer)
{
        for (size_t i = 0; i < ARRAY_SIZE(weight_trainers); i++)
                if (!strcmp(weight_trainers[i], trainer))
                        return true;
        return false;
}

/* Keep what `keep` says; when that leaves nothing and `restore` is set, keep all. Returns whether it kept
 * some. */
static bool narrow(struct search *s, bool (*keep)(const struct search *, const struct offer *, const void *),
                   const void *arg, bool restore)
{
        size_t n = 0;

        for (size_t i = 0; i < s->n; i++)
                n += keep(s, s->candidates[i], arg);
        if (!n && restore)
                return false;
        n = 0;
        for (size_t i = 0; i < s->n; i++)
                if (keep(s, s->candidates[i], arg))
                        s->candidates[n++] = s->candidates[i];
        s->n = n;
        return n > 0;
}

static bool names_type(const struct search *s, const struct offer *o, const void *suffix)
{
        (void)s;
        return strstr(o->name, suffix); /* a substring, as upstream: _1 is in _10 too */
}

static bool can_be_weight(const struct search *s, const struct offer *o, const void *arg)
{
        (void)s;
        (void)arg;
        return is_weight_trainer(o->trainer);
}

static bool type_matches(const struct search *s, const struct offer *o, const void *arg)
{
        const struct node_type *type;

        (void)arg;
        if (o->node_type == s->node_type)
                return true;
        if (s->node_type != -1)
                return false;
        if (!s->cover_types || !spec_usable(&s->request->spec))
                return true;
        type = node_types_find(s->cover_types, o->node_type);
        return type && node_type_covers(type, &s->request->spec);
}

static double type_cores(const struct search *s, const struct offer *o)
{
        const struct node_types *types = pipeline_node_types(s->pipeline);
        const struct node_type *type = types ? node_types_find(types, o->node_type) : NULL;

        return type ? type->spec.number[SPEC_CORES] : -1;
}

static bool has_cores(const struct search *s, const struct offer *o, const void *cores)
{
        return type_cores(s, o) == *(const double *)cores;
}

/* Nothing of the right type: the biggest machines' models, else any. */
static void narrow_to_most_cores(struct search *s)
{
        double most = -1;

        for (size_t i = 0; i < s->n; i++)
                most = fmax(most, type_cores(s, s->candidates[i]));
        if (most >= 0)
                (void)narrow(s, has_cores, &most, true);
}

static bool in_comma_list(const char *list, const char *name)
{
        size_t size = strlen(name);

        for (;;) {
                size_t n = strcspn(list, ",");

                if (n == size && !memcmp(list, name, n))
                        return true;
                if (!list[n])
                        return false;
                list += n + 1;
        }
}

static bool passes_filter(const struct offer *o, const struct filter *f)
{
        CLEANUP(json_decrefp) json_t *metadata = NULL;
        const json_t *value;

        if (json_parse(o->metadata, strlen(o->metadata), "metadata", &metadata, NULL) < 0)
                return false;
        value = json_object_get(metadata, f->attribute);
        if (!strcmp(f->attribute, "features")) {
                for (size_t i = 0; i < json_array_size(value); i++) {
                        const char *name = json_string_value(json_array_get(value, i));

                        if (!name || !in_comma_list(f->value, name))
                                return false;
                }
                return json_is_array(value);
        }
        if (!json_is_number(value))
                return false;
        if (!strcmp(f->attribute, "abs_max_corr"))
                return json_number_value(value) >= f->threshold;
        return json_number_value(value) <= f->threshold;
}

static bool acceptable(const struct search *s, const struct offer *o)
{
        for (size_t i = 0; i < s->request->filters_n; i++)
                if (!passes_filter(o, &s->request->filters[i]))
                        return false;
        return !isnan(o->mae) && (s->request->weight ? o->weights.text != NULL : o->archive_path != NULL);
}

/* Can the client supply what the model reads? Nearly always that is what its group reads. */
static bool features_fit(const struct search *s, const struct offer *o, bool group_fit)
{
        if (!o->features || !s->request->metrics)
                return group_fit;
        for (size_t i = 0; i < json_array_size(o->features); i++)
                if (!has_metric(s->request->metrics, json_string_value(json_array_get(o->features, i))))
                        return false;
        return true;
}

static void collect(struct search *s, int group)
{
        bool group_fit = !s->request->metrics || group_fits(&feature_groups[group], s->request->metrics);
        size_t first,
                n = pipeline_range(s->pipeline, s->request->source, s->request->output_type, group, &first);

        s->n = 0;
        for (size_t i = first; i < first + n; i++) {
                const struct offer *o = pipeline_offer(s->pipeline, i);

                if (!features_fit(s, o, group_fit) || !strstr(o->name, s->request->trainer_name))
                        continue;
                if (!s->request->weight && o->wattloop && !s->request->wattloop)
                        continue;
                s->candidates[s->n++] = o;
        }
}

static const struct offer *search_group(struct search *s, int group)
{
        const struct offer *best = NULL;
        char suffix[16];

        collect(s, group);
        (void)snprintf(suffix, sizeof(suffix), "_%d", s->node_type);
        if (s->node_type != -1 && !narrow(s, names_type, suffix, s->request->loose_node_type) &&
            !s->request->loose_node_type)
                return NULL;
        if (s->request->weight)
                (void)narrow(s, can_be_weight, NULL, false);
        if (!narrow(s, type_matches, NULL, true))
                narrow_to_most_cores(s);
        for (size_t i = 0; i < s->n; i++)
                if (acceptable(s, s->candidates[i]) && (!best || s->candidates[i]->mae < best->mae))
                        best = s->candidates[i];
        return best;
}

static const struct pipeline *find_pipeline(const struct catalog *catalog, const char *name)
{
        for (size_t i = 0; i < catalog_pipelines(catalog); i++)
                if (!strcmp(pipeline_name(catalog_pipeline(catalog, i)), name))
                        return catalog_pipeline(catalog, i);
        return NULL;
}

/* False when memory is short, which finds nothing. */
static bool search_init(struct search *s, const struct catalog *catalog, const struct pipeline *pipeline,
                        const struct model_request *request)
{
        const struct pipeline *chosen =
                *request->pipeline_name ? find_pipeline(catalog, request->pipeline_name) : pipeline;
        const struct node_types *types = pipeline_node_types(pipeline);

        *s = (struct search){ .pipeline = pipeline, .request = request, .node_type = request->node_type };
        s->cover_types = chosen ? pipeline_node_types(chosen) : NULL;
        if (s->node_type == -1 && types && spec_usable(&request->spec))
                s->node_type = node_types_lookup(types, &request->spec, true).id;
        s->candidates = calloc(pipeline_offers(pipeline) + 1, sizeof(const struct offer *));
        return s->candidates;
}

static const struct offer *search_pipeline(const struct catalog *catalog, const struct pipeline *pipeline,
                                           const struct model_request *request)
{
        CLEANUP(search_done) struct search s = { 0 };
        const struct offer *best = NULL;

        if (!search_init(&s, catalog, pipeline, request))
                return NULL;
        for (size_t g = 0; g < feature_groups_n; g++) {
                const struct offer *winner = search_group(&s, (int)g);

                if (!winner || (best && winner->mae >= best->mae))
                        continue;
                if (best && s.node_type != -1 && best->node_type == s.node_type &&
                    winner->node_type != s.node_type)
                        continue;
                best = winner;
        }
        return best;
}

static void hash_text(crypto_generichash_state *h, const char *text)
{
        (void)crypto_generichash_update(h, (const unsigned char *)text, strlen(text) + 1);
}

/* Everything that the choice depends on. Of the metrics only which groups they make up, unless the catalog
 * has models with features of their own: clients send them in any order. */
static void make_key(const struct catalog *catalog, const struct model_request *r,
                     unsigned char ret[CATALOG_KEY])
{
        struct {
                uint32_t groups;
                int output_type, node_type;
                size_t filters_n, source;
                bool weight, loose, wattloop;
        } fixed;
        crypto_generichash_state h;

        memset(&fixed, 0, sizeof(fixed)); /* the padding too */
        for (size_t g = 0; g < feature_groups_n; g++)
                if (group_fits(&feature_groups[g], r->metrics))
                        fixed.groups |= 1u << g;
        fixed.output_type = r->output_type;
        fixed.node_type = r->node_type;
        fixed.filters_n = r->filters_n;
        fixed.source = (size_t)(r->source - energy_sources);
        fixed.weight = r->weight;
        fixed.loose = r->loose_node_type;
        fixed.wattloop = r->wattloop;
        (void)crypto_generichash_init(&h, NULL, 0, CATALOG_KEY);
        (void)crypto_generichash_update(&h, (const unsigned char *)&fixed, sizeof(fixed));
        hash_text(&h, r->trainer_name);
        hash_text(&h, r->pipeline_name);
        for (size_t i = 0; i < r->filters_n; i++) {
                hash_text(&h, r->filters[i].attribute);
                hash_text(&h, r->filters[i].value);
        }
        for (int a = 0; a < SPEC_N; a++) {
                (void)crypto_generichash_update(&h, (const unsigned char *)&r->spec.null[a],
                                                sizeof(r->spec.null[a]));
                (void)crypto_generichash_update(&h, (const unsigned char *)&r->spec.number[a],
                                                sizeof(r->spec.number[a]));
        }
        hash_text(&h, r->spec.processor);
        for (size_t i = 0; catalog_has_own_features(catalog) && i < json_array_size(r->metrics); i++)
                hash_text(&h, json_string_value(json_array_get(r->metrics, i)));
        (void)crypto_generichash_final(&h, ret, CATALOG_KEY);
}

const struct offer *select_model(struct catalog *catalog, const struct model_request *request)
{
        unsigned char key[CATALOG_KEY];
        const struct offer *best = NULL;

        make_key(catalog, request, key);
        if (catalog_recall(catalog, key, &best))
                return best;
        for (size_t i = 0; !best && i < catalog_pipelines(catalog); i++)
                best = search_pipeline(catalog, catalog_pipeline(catalog, i), request);
        catalog_remember(catalog, key, best);
        return best;
}

/* The best of one group, in the first pipeline that has any. */
static const struct offer *best_of_group(const struct catalog *catalog, const struct model_request *request,
                                         int group)
{
        const struct offer *best = NULL;

        for (size_t i = 0; !best && i < catalog_pipelines(catalog); i++) {
                CLEANUP(search_done) struct search s = { 0 };

                if (search_init(&s, catalog, catalog_pipeline(catalog, i), request))
                        best = search_group(&s, group);
        }
        return best;
}

static bool has_source(const struct catalog *catalog, const struct energy_source *source)
{
        size_t n = 0, first;

        for (size_t i = 0; i < catalog_pipelines(catalog); i++)
                for (int t = 0; output_types[t]; t++)
                        for (size_t g = 0; g < feature_groups_n; g++)
                                n += pipeline_range(catalog_pipeline(catalog, i), source, t, (int)g, &first);
        return n > 0;
}

int select_best(const struct catalog *catalog, const struct best_query *query, json_t **ret, struct err *e)
{
        struct model_request request = { .source = query->source,
                                         .node_type = query->node_type,
                                         .trainer_name = "",
                                         .pipeline_name = "",
                                         .wattloop = true };
        json_t *result;
        int r = request_parse_filter(query->filter, &request, e);

        if (r < 0)
                return r;
        if (!has_source(catalog, query->source))
                return err_set(e, -ENOENT, "'%s'", query->source->name);
        result = json_object();
        for (int t = 0; output_types[t]; t++) {
                json_t *groups;

                if (query->output_type >= 0 && query->output_type != t)
                        continue;
                groups = json_object();
                request.output_type = t;
                for (int g = 0; g < (int)feature_groups_n; g++) {
                        const struct offer *o = query->group < 0 || query->group == g
                                                        ? best_of_group(catalog, &request, g)
                                                        : NULL;

                        if (o)
                                (void)json_object_set_new(groups, feature_groups[g].name,
                                                          json_string(o->name));
                }
                (void)json_object_set_new(result, output_types[t], groups);
        }
        *ret = result;
        return 0;
}
