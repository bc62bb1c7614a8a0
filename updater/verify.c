/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/verify.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "updater/samples.h"

#define WEIGHT_ENTRY "weight.json"
#define STORE_ENTRY  "wattloop.json"

void candidate_done(struct candidate *c)
{
        model_archive_free(c->entries);
        model_free(c->model);
        *c = (struct candidate){ 0 };
}

/* ---- from bytes to a loaded model ---- */

/* A weight object as an archive of one entry. */
static int wrap_weight(const void *data, size_t size, struct model_archive **ret, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *a = calloc(1, sizeof(*a));
        struct model_entry *entry;

        if (size > MODEL_WEIGHT_MAX)
                return err_set(e, -E2BIG, "%zu bytes are more than a weight may have (%zu)", size,
                               MODEL_WEIGHT_MAX);
        if (!a)
                return err_set(e, -ENOMEM, "out of memory");
        entry = &a->entries[0];
        (void)snprintf(entry->name, sizeof(entry->name), "%s", WEIGHT_ENTRY);
        entry->data = calloc(1, size + 1);
        if (!entry->data)
                return err_set(e, -ENOMEM, "out of memory");
        memcpy(entry->data, data, size);
        entry->size = size;
        a->n = 1;
        *ret = TAKE(a);
        return 0;
}

static int load(enum form form, const char *name_hint, struct candidate *c, struct err *e)
{
        const struct model_entry *weight = model_archive_find(c->entries, WEIGHT_ENTRY);
        int r;

        if (model_archive_find(c->entries, STORE_ENTRY))
                return err_set(e, -EBADMSG, "the archive has an entry '%s', a name that the store uses",
                               STORE_ENTRY);
        if (form == FORM_ARCHIVE)
                r = model_load_archive(c->entries, &c->model, e);
        else if (!weight || c->entries->n != 1)
                r = err_set(e, -EBADMSG, "there is not just %s", WEIGHT_ENTRY);
        else
                r = model_load_weight(weight->data, weight->size, name_hint, &c->model, e);
        if (r < 0)
                return r;
        return model_archive_id(c->entries, c->id);
}

int verify_unpack(enum form form, const void *data, size_t size, const char *name_hint, struct candidate *ret,
                  struct err *e)
{
        struct candidate c = { 0 };
        int r;

        r = form == FORM_ARCHIVE ? model_archive_unpack(data, size, &c.entries, e)
                                 : wrap_weight(data, size, &c.entries, e);
        if (r == 0)
                r = load(form, name_hint, &c, e);
        if (r < 0) {
                candidate_done(&c);
                return r;
        }
        *ret = c;
        return 0;
}

int verify_read_dir(enum form form, const char *path, const char *name_hint, struct candidate *ret,
                    struct err *e)
{
        struct candidate c = { 0 };
        int r;

        r = model_archive_read_dir(path, &c.entries, e);
        if (r == 0)
                r = load(form, name_hint, &c, e);
        if (r < 0) {
                candidate_done(&c);
                return r;
        }
        *ret = c;
        return 0;
}

/* ---- is it what was asked for ---- */

static bool is_component_of(const struct energy_source *source, const char *component)
{
        for (size_t i = 0; i < source->n; i++)
                if (strcmp(source->components[i], component) == 0)
                        return true;
        return false;
}

int verify_purpose(const struct candidate *c, const struct slot *slot, const struct string_list *supplied,
                   struct err *e)
{
        const char *output_type = model_output_type(c->model);

        if (*output_type && strcmp(output_type, slot->output_type) != 0)
                return err_set(e, -EPROTO, "'%s' is a model of %s, not of %s", model_name(c->model),
                               output_type, slot->output_type);
        if (model_components(c->model) == 0)
                return err_set(e, -EPROTO, "'%s' has no components", model_name(c->model));
        for (size_t i = 0; i < model_components(c->model); i++)
                if (!is_component_of(slot->source, model_component(c->model, i)))
                        return err_set(e, -EPROTO, "'%s' estimates '%s', which is not of %s",
                                       model_name(c->model), model_component(c->model, i),
                                       slot->source->name);
        for (size_t i = 0; i < model_features(c->model); i++)
                if (!string_list_has(supplied, model_feature(c->model, i)))
                        return err_set(e, -EPROTO,
                                       "'%s' needs the feature '%s', which this machine does not supply",
                                       model_name(c->model), model_feature(c->model, i));
        return 0;
}

/* ---- does it predict watts ---- */

/* Watts of all components together when every feature is at this share of what the model takes for much. */
static double predict_total(const struct model *model, double busy)
{
        double row[MODEL_FEATURES_MAX], watts[MODEL_COMPONENTS_MAX], total = 0;
        size_t index[MODEL_FEATURES_MAX];

        for (size_t f = 0; f < model_features(model); f++) {
                index[f] = f; /* our columns are the model's features, in its order */
                row[f] = busy * model_feature_scale(model, f);
        }
        model_predict(model, index, row, model_features(model), 1, watts);
        for (size_t i = 0; i < model_components(model); i++)
                total += watts[i];
        return total;
}

int verify_canary(const struct candidate *c, const struct slot *slot, struct err *e)
{
        static const double busy[] = { 0, 0.05, 0.5, 1 };
        bool draws = false;
        int r;

        r = model_check(c->model, e);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(busy); i++) {
                double total = predict_total(c->model, busy[i]);

                if (!isfinite(total) || total < 0 || total > MODEL_COMPONENTS_MAX * MODEL_WATTS_MAX)
                        return err_set(e, -EDOM, "'%s' predicts %g W for a machine that is %g %% busy",
                                       model_name(c->model), total, 100 * busy[i]);
                draws |= total > 0;
        }
        if (strcmp(slot->output_type, "AbsPower") == 0 && !draws)
                return err_set(e, -EDOM, "'%s' predicts 0 W for a machine at any load", model_name(c->model));
        return 0;
}

/* ---- does it agree with the one before ---- */

/* Watts of all components for one row; NAN when a feature is not known. */
static double predict_row(const struct model *model, const struct samples *samples, size_t row)
{
        double values[MODEL_FEATURES_MAX], watts[MODEL_COMPONENTS_MAX], total = 0;
        size_t index[MODEL_FEATURES_MAX];

        for (size_t f = 0; f < model_features(model); f++) {
                index[f] = f;
                values[f] = samples_value(samples, row, model_feature(model, f));
                if (!isfinite(values[f]))
                        return NAN;
        }
        model_predict(model, index, values, model_features(model), 1, watts);
        for (size_t i = 0; i < model_components(model); i++)
                total += watts[i];
        return total;
}

int verify_agreement(const struct candidate *c, const struct candidate *serving,
                     const struct samples *samples, double percent, struct err *e)
{
        double apart = 0, usual = 0;
        size_t n = 0;

        for (size_t i = 0; i < samples->n; i++) {
                double new = predict_row(c->model, samples, i), old = predict_row(serving->model, samples, i);

                if (!isfinite(new) || !isfinite(old))
                        continue;
                apart += fabs(new - old);
                usual += old;
                n++;
        }
        if (n == 0)
                return 0;
        apart /= (double)n;
        usual /= (double)n;
        if (apart <= VERIFY_APART_W || apart <= percent / 100 * usual)
                return 0;
        return err_set(e, -EDOM,
                       "'%s' is %.3g W away from the model that serves, which says %.3g W, over this "
                       "machine's last %zu "
                       "rows; canary.disagreement allows %g %%",
                       model_name(c->model), apart, usual, n, percent);
}
