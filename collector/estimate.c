/* SPDX-License-Identifier: Apache-2.0 */
/* Power from a model: the node's features of the interval, as per-second rates in wire units, are given to a
 * weight file evaluated in process or to an estimator's socket. While neither answers, its sensors are gaps;
 * everything recovers by itself. The model is also asked what it predicts for a node at rest, whenever the
 * model changes: that is the idle part. */
#include "collector/power.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include "collector/estimator_client.h"
#include "collector/weight_file.h"
#include "common/json.h"
#include "model/model.h"

#define WATTS_MAX 1e6 /* an answer above is nonsense */

/* What a model says about one row. */
struct answer {
        double watts[COMPONENTS_MAX]; /* by the energy source's components; NaN: the model has none */
        char model[160];
        char provenance[16];
};

struct power_source {
        char *socket; /* owned; "" when a weight file decides */
        struct weight_file weight;
        const struct energy_source *energy_source;
        struct answer idle; /* at rest; idle.model says for which model */
        bool idle_known;
        bool based; /* the first read only sets the base */
};

static void estimate_close(struct power_source *s)
{
        free(s->socket);
        weight_file_done(&s->weight);
        free(s);
}
CLEANUP_DEFINE(struct power_source *, estimate_close);

static int estimate_open(const struct power_source_options *options, struct power_source **ret, struct err *e)
{
        CLEANUP(estimate_closep) struct power_source *s = NULL;

        if (!*options->estimator_socket && !*options->estimate_weight)
                return err_set(e, -ENOENT, "neither estimate.socket nor estimate.weight is set");
        s = calloc(1, sizeof(*s));
        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        s->socket = strdup(options->estimator_socket);
        s->weight.path = strdup(options->estimate_weight);
        if (!s->socket || !s->weight.path)
                return err_set(e, -ENOMEM, "out of memory");
        s->energy_source = energy_source_find(options->estimate_energy_source);
        if (!s->energy_source)
                return err_set(e, -EINVAL, "unknown energy source '%s'", options->estimate_energy_source);
        *ret = TAKE(s);
        return 0;
}

/* The columns of a request: every feature that this node measures, by its wire name. */
static size_t columns_of(const struct power_context *c, const char *names[FEATURE_N], double rates[FEATURE_N])
{
        double seconds = (double)c->duration_ns / 1e9;
        size_t n = 0;

        for (int f = 0; f < FEATURE_N; f++) {
                if (!c->measured[f])
                        continue;
                names[n] = features[f].name;
                rates[n++] = (double)c->node_delta[f] * features[f].wire_scale / seconds;
        }
        return n;
}

static int component_index(const struct energy_source *source, const char *component)
{
        for (size_t i = 0; i < source->n; i++)
                if (!strcmp(source->components[i], component))
                        return (int)i;
        return -1;
}

static int ask_weight(struct power_source *s, const char *const *names, const double *rates, size_t n,
                      struct answer *ret, struct err *e)
{
        size_t index[MODEL_FEATURES_MAX];
        double watts[MODEL_COMPONENTS_MAX];
        int r;

        r = model_bind(s->weight.model, names, n, index, e);
        if (r < 0)
                return err_prefix(e, r, "model %s needs a feature that is not measured here",
                                  model_name(s->weight.model));
        model_predict(s->weight.model, index, rates, n, 1, watts);
        for (size_t i = 0; i < model_components(s->weight.model); i++) {
                int c = component_index(s->energy_source, model_component(s->weight.model, i));

                if (c >= 0)
                        ret->watts[c] = watts[i];
        }
        (void)snprintf(ret->model, sizeof(ret->model), "%.90s %.64s", model_name(s->weight.model),
                       s->weight.id);
        (void)snprintf(ret->provenance, sizeof(ret->provenance), "%.15s", model_provenance(s->weight.model));
        return 0;
}

static json_t *make_request(const struct power_source *s, const char *const *names, const double *rates,
                            size_t n)
{
        json_t *columns = json_array(), *row = json_array();

        for (size_t i = 0; i < n; i++) { /* a failure shows when the whole is packed */
                (void)json_array_append_new(columns, json_string(names[i]));
                (void)json_array_append_new(row, json_real(rates[i]));
        }
        return json_pack("{s:o, s:[o], s:s, s:s, s:[], s:[], s:s, s:s}", "metrics", columns, "values", row,
                         "output_type", "AbsPower", "source", s->energy_source->name, "system_features",
                         "system_values", "trainer_name", "", "filter", "");
}

static const char *text_member(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

/* {"powers": {"package": [41.2], …}, "msg": "", …}: one value per component. */
static int read_reply(const struct power_source *s, const json_t *reply, struct answer *ret, struct err *e)
{
        const json_t *powers = json_object_get(reply, "powers");
        const char *provenance = text_member(reply, "provenance");
        size_t found = 0;

        for (size_t c = 0; c < s->energy_source->n; c++) {
                const json_t *values = json_object_get(powers, s->energy_source->components[c]);
                double watts = json_number_value(json_array_get(values, 0));

                if (!values)
                        continue;
                if (json_array_size(values) != 1 || !json_is_number(json_array_get(values, 0)) ||
                    !isfinite(watts) || watts < 0 || watts > WATTS_MAX)
                        return err_set(e, -EBADMSG, "estimator '%s': unusable watts for %s", s->socket,
                                       s->energy_source->components[c]);
                ret->watts[c] = watts;
                found++;
        }
        if (!found)
                return err_set(e, -ENODATA, "estimator '%s' has no answer: %.120s", s->socket,
                               *text_member(reply, "msg") ? text_member(reply, "msg") : "no powers");
        (void)snprintf(ret->model, sizeof(ret->model), "%.90s%s%.64s", text_member(reply, "model"),
                       *text_member(reply, "id") ? " " : "", text_member(reply, "id"));
        (void)snprintf(ret->provenance, sizeof(ret->provenance), "%.15s",
                       *provenance ? provenance : "measured");
        return 0;
}

static int ask_socket(struct power_source *s, const char *const *names, const double *rates, size_t n,
                      struct answer *ret, struct err *e)
{
        CLEANUP(json_decrefp) json_t *request = make_request(s, names, rates, n);
        CLEANUP(json_decrefp) json_t *reply = NULL;
        int r;

        if (!request)
                return err_set(e, -ENOMEM, "out of memory");
        r = estimator_ask(s->socket, request, &reply, e);
        if (r < 0)
                return r;
        return read_reply(s, reply, ret, e);
}

static int ask(struct power_source *s, const char *const *names, const double *rates, size_t n,
               struct answer *ret, struct err *e)
{
        int r = 0;

        memset(ret, 0, sizeof(*ret));
        for (size_t c = 0; c < COMPONENTS_MAX; c++)
                ret->watts[c] = NAN;
        if (*s->socket)
                return ask_socket(s, names, rates, n, ret, e);
        r = weight_file_refresh(&s->weight, e);
        return r < 0 ? r : ask_weight(s, names, rates, n, ret, e);
}

/* Ask for the node at rest when that is not known for this model. */
static int learn_idle(struct power_source *s, const char *const *names, size_t n, const char *model,
                      struct err *e)
{
        const double zeros[FEATURE_N] = { 0 };
        struct answer idle;
        int r;

        if (s->idle_known && !strcmp(s->idle.model, model))
                return 0;
        r = ask(s, names, zeros, n, &idle, e);
        if (r < 0)
                return r;
        s->idle = idle;
        s->idle_known = !strcmp(idle.model, model); /* swapped in between: ask again next time */
        return 0;
}

static void fill_reading(const struct power_source *s, size_t c, const struct answer *answer,
                         uint64_t duration_ns, struct power_reading *ret)
{
        double seconds = (double)duration_ns / 1e9, watts = answer->watts[c];

        ret->valid = true;
        ret->error = 0;
        ret->energy_uj = watts * seconds * 1e6;
        ret->idle_uj = fmin(isnan(s->idle.watts[c]) ? 0 : s->idle.watts[c], watts) * seconds * 1e6;
        memcpy(ret->model, answer->model, sizeof(ret->model));
        memcpy(ret->model_provenance, answer->provenance, sizeof(ret->model_provenance));
}

/* The sensors are there from the start; without an answer they are gaps. */
static void name_readings(const struct power_source *s, int error, struct power_reading *ret)
{
        for (size_t c = 0; c < s->energy_source->n; c++) {
                bool platform = !strcmp(s->energy_source->components[c], "platform");

                (void)snprintf(ret[c].source, sizeof(ret[c].source), "estimate");
                (void)snprintf(ret[c].component, sizeof(ret[c].component), "%s",
                               s->energy_source->components[c]);
                (void)snprintf(ret[c].unit, sizeof(ret[c].unit), "%s", platform ? "estimator0" : "0");
                ret[c].provenance = PROVENANCE_ESTIMATED;
                ret[c].error = error;
        }
}

static int estimate_read(struct power_source *s, const struct power_context *context,
                         struct power_reading *ret, struct err *e)
{
        const char *names[FEATURE_N];
        double rates[FEATURE_N];
        struct answer answer;
        size_t n;
        int r;

        name_readings(s, 0, ret);
        if (!s->based || context->duration_ns == 0) {
                s->based = true;
                return (int)s->energy_source->n;
        }
        n = columns_of(context, names, rates);
        r = ask(s, names, rates, n, &answer, e);
        if (r == 0)
                r = learn_idle(s, names, n, answer.model, e);
        if (r < 0)
                return r;
        for (size_t c = 0; c < s->energy_source->n; c++) {
                if (isnan(answer.watts[c]))
                        ret[c].error = -ENODATA; /* the model does not know this component */
                else
                        fill_reading(s, c, &answer, context->duration_ns, &ret[c]);
        }
        return (int)s->energy_source->n;
}

const struct power_source_ops power_source_estimate = {
        .name = "estimate",
        .open = estimate_open,
        .read = estimate_read,
        .close = estimate_close,
};
