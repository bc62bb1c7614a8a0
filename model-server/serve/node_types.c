/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/node_types.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/num.h"

const char *const spec_names[SPEC_N] = { "processor", "cores", "chips", "memory", "frequency" };
static const double spec_weights[SPEC_N] = { 5, 1, 1, 0.5, 0.5 };
#define SPEC_WEIGHTS 8.0

/* "cores", or "NodeAttribute.CORES" as upstream's server writes it under Python 3.11 and later. */
static const json_t *find_attribute(const json_t *object, enum spec_attribute a)
{
        const json_t *value = json_object_get(object, spec_names[a]);
        char upper[32];
        int n;

        if (value)
                return value;
        n = snprintf(upper, sizeof(upper), "NodeAttribute.%s", spec_names[a]);
        for (int i = (int)strlen("NodeAttribute."); i < n; i++)
                upper[i] = (char)toupper((unsigned char)upper[i]);
        return json_object_get(object, upper);
}

static int read_number(const json_t *value, const char *name, double *ret, struct err *e)
{
        *ret = 0;
        if (json_is_number(value))
                *ret = json_number_value(value);
        else if (!json_is_string(value) ||
                 (*json_string_value(value) && num_parse_double(json_string_value(value), ret) < 0))
                return err_set(e, -EBADMSG, "machine_spec: '%s' is not a number", name);
        return 0;
}

int spec_from_json(const json_t *object, struct spec *ret, struct err *e)
{
        struct spec spec = { 0 };

        if (object && !json_is_null(object) && !json_is_object(object))
                return err_set(e, -EBADMSG, "machine_spec is not an object");
        for (int a = 0; a < SPEC_N; a++) {
                const json_t *value = find_attribute(object, (enum spec_attribute)a);
                int r = 0;

                if (!value || json_is_null(value)) {
                        spec.null[a] = true;
                } else if (a != SPEC_PROCESSOR) {
                        r = read_number(value, spec_names[a], &spec.number[a], e);
                } else if (!json_is_string(value) || json_string_length(value) >= sizeof(spec.processor)) {
                        r = err_set(e, -EBADMSG,
                                    "machine_spec: processor is not a string of at most %zu bytes",
                                    sizeof(spec.processor) - 1);
                } else {
                        (void)snprintf(spec.processor, sizeof(spec.processor), "%s",
                                       json_string_value(value));
                }
                if (r < 0)
                        return r;
        }
        *ret = spec;
        return 0;
}

bool spec_has_value(const struct spec *spec, enum spec_attribute a)
{
        if (spec->null[a])
                return false;
        return a == SPEC_PROCESSOR ? *spec->processor != '\0' : spec->number[a] > 0;
}

bool spec_usable(const struct spec *spec)
{
        for (int a = 0; a < SPEC_N; a++)
                if (spec_has_value(spec, (enum spec_attribute)a))
                        return true;
        return false;
}

int node_types_from_json(const json_t *index, struct node_types *ret, struct err *e)
{
        struct node_types types = { 0 };
        const char *key;
        json_t *entry;

        if (!json_is_object(index))
                return err_set(e, -EBADMSG, "the node type index is not an object");
        types.types = calloc(json_object_size(index) + 1, sizeof(*types.types));
        if (!types.types)
                return err_set(e, -ENOMEM, "out of memory");
        json_object_foreach ((json_t *)(uintptr_t)index, key, entry) {
                struct node_type *t = &types.types[types.n];
                uint64_t id;
                int r = 0;

                if (num_parse_u64(key, &id) < 0 || id > INT32_MAX || !json_is_object(entry))
                        r = err_set(e, -EBADMSG, "node type index: '%.32s' is not a node type", key);
                if (r == 0)
                        r = spec_from_json(json_object_get(entry, "attrs"), &t->spec, e);
                if (r < 0) {
                        node_types_done(&types);
                        return r;
                }
                t->id = (int)id;
                t->members = json_array_size(json_object_get(entry, "members"));
                types.n++;
        }
        *ret = types;
        return 0;
}

void node_types_done(struct node_types *types)
{
        free(types->types);
        *types = (struct node_types){ 0 };
}

const struct node_type *node_types_find(const struct node_types *types, int id)
{
        for (size_t i = 0; i < types->n; i++)
                if (types->types[i].id == id)
                        return &types->types[i];
        return NULL;
}

static bool equal(const struct spec *x, const struct spec *y, enum spec_attribute a)
{
        if (x->null[a] || y->null[a])
                return false;
        return a == SPEC_PROCESSOR ? !strcmp(x->processor, y->processor) : x->number[a] == y->number[a];
}

bool node_type_covers(const struct node_type *type, const struct spec *spec)
{
        for (int a = 0; a < SPEC_N; a++)
                if (spec_has_value(spec, (enum spec_attribute)a) &&
                    !equal(&type->spec, spec, (enum spec_attribute)a))
                        return false;
        return true;
}

/* Half the share of common characters; all of it only for equal names. */
static double processor_similarity(const char *x, const char *y)
{
        bool in_x[256] = { 0 }, in_y[256] = { 0 };
        int both = 0, any = 0;

        if (!strcasecmp(x, y))
                return 1;
        if (!*x || !*y)
                return 0;
        for (; *x; x++)
                in_x[tolower((unsigned char)*x)] = true;
        for (; *y; y++)
                in_y[tolower((unsigned char)*y)] = true;
        for (int i = 0; i < 256; i++) {
                both += in_x[i] && in_y[i];
                any += in_x[i] || in_y[i];
        }
        return 0.5 * both / any;
}

static double number_similarity(double b, double c)
{
        double d;

        if (b <= 0 && c <= 0)
                return 1;
        d = fabs(b - c) / ((b + c) / 2);
        return d >= 1 || d < 0 ? 0 : 1 - d;
}

double node_type_similarity(const struct node_type *type, const struct spec *spec)
{
        double sum = 0;

        for (int a = 0; a < SPEC_N; a++) {
                if (spec->null[a])
                        continue;
                sum += spec_weights[a] *
                       (a == SPEC_PROCESSOR ? processor_similarity(type->spec.processor, spec->processor)
                                            : number_similarity(type->spec.number[a], spec->number[a]));
        }
        return fmin(sum / SPEC_WEIGHTS, 1);
}

static int nulls(const struct spec *spec)
{
        int n = 0;

        for (int a = 0; a < SPEC_N; a++)
                n += spec->null[a];
        return n;
}

static size_t covering_members(const struct node_types *types, const struct spec *spec)
{
        size_t sum = 0;

        for (size_t i = 0; i < types->n; i++)
                if (node_type_covers(&types->types[i], spec))
                        sum += types->types[i].members;
        return sum;
}

/* For each unknown attribute the chance that the machine is of this type, added up. */
static double type_score(const struct node_type *type, const struct spec *spec, size_t members)
{
        return members ? nulls(spec) * (double)type->members / (double)members : 0;
}

/* The covering type with the best score; NULL when none covers. */
static const struct node_type *best_covering(const struct node_types *types, const struct spec *spec,
                                             double *score)
{
        size_t members = covering_members(types, spec);
        const struct node_type *best = NULL;

        for (size_t i = 0; i < types->n; i++) {
                const struct node_type *t = &types->types[i];

                if (!node_type_covers(t, spec))
                        continue;
                if (!best || type_score(t, spec, members) > *score) {
                        best = t;
                        *score = type_score(t, spec, members);
                }
        }
        return best;
}

static const struct node_type *most_similar(const struct node_types *types, const struct spec *spec,
                                            double *ret)
{
        const struct node_type *best = NULL;

        for (size_t i = 0; i < types->n; i++) {
                const struct node_type *t = &types->types[i];
                double similarity = node_type_similarity(t, spec);

                if (best && (similarity < *ret || (similarity == *ret && t->members <= best->members)))
                        continue;
                best = t;
                *ret = similarity;
        }
        return best;
}

/* Forget what differs from the most similar type, and ask how sure that leaves us of it. An attribute that
 * was unknown before counts twice. */
static struct node_match match_loosely(const struct node_types *types, const struct spec *spec)
{
        double similarity = 0;
        const struct node_type *type = most_similar(types, spec, &similarity);
        struct spec rest = *spec;
        int unknown = nulls(spec);

        for (int a = 0; a < SPEC_N; a++) {
                if (equal(&type->spec, spec, (enum spec_attribute)a))
                        continue;
                rest.null[a] = true;
                unknown++;
        }
        return (struct node_match){
                type->id,
                unknown ? 1 - type_score(type, &rest, covering_members(types, &rest)) / unknown : 0,
                1 - similarity,
        };
}

struct node_match node_types_lookup(const struct node_types *types, const struct spec *spec, bool loose)
{
        const struct node_match none = { -1, -1, -1 };
        const struct node_type *type;
        double score = 0;

        if (!types->n)
                return none;
        type = best_covering(types, spec, &score);
        if (type && !nulls(spec)) /* nothing unknown: the first that covers */
                return (struct node_match){ type->id, 0, 0 };
        if (type)
                return (struct node_match){ type->id, 1 - score / nulls(spec), 0 };
        return loose ? match_loosely(types, spec) : none;
}
