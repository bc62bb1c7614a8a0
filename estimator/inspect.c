/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/inspect.h"

#include <errno.h>
#include <math.h>

#include "common/json.h"
#include "common/log.h"
#include "common/num.h"
#include "estimator/store.h"

#define OUTPUT_MAX ((size_t)1 << 20)

static json_t *number_or_null(double v)
{
        return isfinite(v) ? json_real(v) : json_null();
}

static json_t *list_features(const struct model *m)
{
        json_t *list = json_array();

        for (size_t i = 0; i < model_features(m); i++) {
                double low, high;

                (void)model_feature_range(m, i, &low, &high);
                (void)json_array_append_new(list,
                                            json_pack("{s:s, s:f, s:o, s:o}", "name", model_feature(m, i),
                                                      "scale", model_feature_scale(m, i), "low",
                                                      number_or_null(low), "high", number_or_null(high)));
        }
        return list;
}

static json_t *list_components(const struct model *m)
{
        json_t *list = json_array();

        for (size_t i = 0; i < model_components(m); i++)
                (void)json_array_append_new(
                        list, json_pack("{s:s, s:s, s:s, s:o}", "name", model_component(m, i), "kind",
                                        model_component_kind(m, i), "size", model_component_note(m, i), "mae",
                                        number_or_null(model_component_mae(m, i))));
        return list;
}

static json_t *list_classes(const struct model *m)
{
        json_t *list = json_array();
        const char *module, *name;
        size_t at = 0;

        while (model_next_class(m, &at, &module, &name))
                (void)json_array_append_new(list, json_sprintf("%s.%s", module, name));
        return list;
}

/* Whatever jansson could not allocate makes json_pack() fail as a whole. */
static json_t *describe(const struct loaded_model *l)
{
        const struct model *m = l->model;

        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:i, s:o, s:o, s:o}", "model", model_name(m), "id",
                         l->id, "class", model_class(m), "output_type", model_output_type(m), "provenance",
                         model_provenance(m), "mae", number_or_null(model_mae(m)), "cores", model_cores(m),
                         "features", list_features(m), "components", list_components(m), "classes",
                         list_classes(m));
}

static int print_json(const struct loaded_model *l, struct buf *out)
{
        CLEANUP(json_decrefp) json_t *value = describe(l);

        if (!value)
                return -ENOMEM;
        (void)json_write(value, out);
        return buf_puts(out, "\n");
}

static void print_number(struct buf *out, const char *before, double v, const char *after)
{
        char text[NUM_TEXT_MAX];

        (void)num_format_double(text, v);
        (void)buf_printf(out, "%s%s%s", before, isfinite(v) ? text : "unknown", isfinite(v) ? after : "");
}

/* The buffer remembers a failure. */
static int print_text(const struct loaded_model *l, struct buf *out)
{
        const struct model *m = l->model;
        const char *module, *name;
        size_t at = 0;

        (void)buf_printf(out,
                         "model       %s\nid          %s\nclass       %s\noutput      %s\nprovenance  %s\n",
                         model_name(m), l->id, model_class(m),
                         *model_output_type(m) ? model_output_type(m) : "any", model_provenance(m));
        print_number(out, "mae         ", model_mae(m), " W\n");
        (void)buf_puts(out, isfinite(model_mae(m)) ? "" : "\n");
        if (model_cores(m) > 0)
                (void)buf_printf(out, "cores       %d\n", model_cores(m));
        for (size_t i = 0; i < model_features(m); i++) {
                double low, high;

                (void)buf_printf(out, "feature     %s, ", model_feature(m, i));
                print_number(out, "large is ", model_feature_scale(m, i), "");
                if (model_feature_range(m, i, &low, &high)) {
                        print_number(out, ", trained from ", low, "");
                        print_number(out, " to ", high, "");
                }
                (void)buf_puts(out, "\n");
        }
        for (size_t i = 0; i < model_components(m); i++) {
                const char *note = model_component_note(m, i);

                (void)buf_printf(out, "component   %s: %s%s%s", model_component(m, i),
                                 model_component_kind(m, i), *note ? ", " : "", note);
                if (isfinite(model_component_mae(m, i)))
                        print_number(out, ", mae ", model_component_mae(m, i), " W");
                (void)buf_puts(out, "\n");
        }
        while (model_next_class(m, &at, &module, &name))
                (void)buf_printf(out, "names       %s.%s\n", module, name);
        return out->failed;
}

static const struct loaded_model *only_model(const struct models *models)
{
        for (size_t i = 0; i < models_slots(); i++)
                if (models->slots[i])
                        return models->slots[i];
        return NULL;
}

int inspect_run(const char *path, bool json, FILE *out)
{
        CLEANUP(models_freep) struct models *models = NULL;
        CLEANUP(buf_done) struct buf text = { .max = OUTPUT_MAX };
        struct err e;
        int r;

        r = models_load_one(path, &models, &e);
        if (r < 0)
                return log_error(r, "cannot load the model: %s", e.text);
        r = json ? print_json(only_model(models), &text) : print_text(only_model(models), &text);
        if (r < 0)
                return log_error(r, "out of memory");
        if (fwrite(text.data, 1, text.size, out) != text.size || fflush(out) != 0)
                return log_error(-EIO, "cannot write the description");
        return 0;
}
