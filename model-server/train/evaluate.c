/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/train/evaluate.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SEED 1

static const struct {
        const char *class, *model_class;
        int (*train)(const struct general_settings *s, const struct table *t, const char *component,
                     uint32_t seed, struct model_archive *archive, const char **ret_features, size_t *ret_n,
                     struct err *e);
} kinds[TRAINER_KINDS] = {
        [TRAINER_PLAIN] = { GENERAL_PLAIN, "xgboost", general_train_plain },
        [TRAINER_BLEND] = { GENERAL_BLEND, "wattloop-blend", general_train_blend },
        [TRAINER_BLEND_PREV] = { GENERAL_BLEND_PREV, "wattloop-blend", general_train_blend },
};

const char *evaluate_class(enum trainer_kind kind)
{
        return kinds[kind].class;
}

const char *evaluate_model_class(enum trainer_kind kind)
{
        return kinds[kind].model_class;
}

int evaluate_train(enum trainer_kind kind, const struct general_settings *s, const struct table *t,
                   const char *component, struct model_archive *archive, struct archive_component *ret,
                   struct err *e)
{
        *ret = (struct archive_component){ .name = component, .mae = NAN, .mape = -1 };
        return kinds[kind].train(s, t, component, SEED, archive, ret->features, &ret->n_features, e);
}

static int train_archive(enum trainer_kind kind, const struct general_settings *s, const struct table *t,
                         const char *component, struct model_archive **ret, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *archive = calloc(1, sizeof(*archive));
        struct archive_head head = { .trainer = kinds[kind].class,
                                     .model_class = kinds[kind].model_class,
                                     .output_type = "AbsPower",
                                     .provenance = "measured",
                                     .rows = t->n };
        struct archive_component c;
        int r;

        if (!archive)
                return err_set(e, -ENOMEM, "out of memory");
        r = evaluate_train(kind, s, t, component, archive, &c, e);
        if (r < 0)
                return r;
        memcpy(head.features, c.features, sizeof(head.features));
        head.n_features = c.n_features;
        r = archive_finish(archive, &head, &c, 1, e);
        if (r == 0)
                *ret = TAKE(archive);
        return r;
}

static int predict_general(enum trainer_kind kind, const struct general_settings *s,
                           const struct table *train, const struct table *held, const char *component,
                           double *out, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *archive = NULL;
        CLEANUP(model_freep) struct model *model = NULL;
        size_t index[MODEL_FEATURES_MAX];
        int r = train_archive(kind, s, train, component, &archive, e);

        if (r == 0)
                r = model_load_archive(archive, &model, e);
        if (r == 0)
                r = model_bind(model, held->features, held->p, index, e);
        if (r == 0)
                model_predict(model, index, held->x, held->p, held->n, out);
        return r;
}

/* The columns of a table that a kind may see. */
static size_t columns_of(enum trainer_kind kind, const struct table *t, size_t *ret)
{
        size_t n = 0;

        for (size_t j = 0; j < t->p; j++)
                if (kind == TRAINER_BLEND_PREV || strncmp(t->features[j], PREV_PREFIX, strlen(PREV_PREFIX)))
                        ret[n++] = j;
        return n;
}

int evaluate_fold(enum trainer_kind kind, const struct general_settings *s, const struct table *t,
                  const char *component, const unsigned char *mark, const unsigned char *active,
                  double *estimates, struct score_sum *ret, struct err *e)
{
        CLEANUP(table_done) struct table train = { 0 }, held = { 0 };
        CLEANUP(freep) double *out = NULL;
        struct local_fit fit;
        size_t columns[TABLE_FEATURES_MAX], n = columns_of(kind, t, columns), k = 0;
        int r = table_select(t, mark, false, columns, n, &train, e);

        if (r == 0)
                r = table_select(t, mark, true, columns, n, &held, e);
        if (r < 0)
                return r;
        out = calloc(held.n + 1, sizeof(*out));
        if (!out)
                return err_set(e, -ENOMEM, "out of memory");
        if (kind == TRAINER_LOCAL) {
                r = local_choose(&train, component, &fit, e);
                if (r == 0)
                        r = local_replay(&fit, component, &held, out, e);
        } else {
                r = predict_general(kind, s, &train, &held, component, out, e);
        }
        if (r < 0)
                return r;
        *ret = (struct score_sum){ .rows = held.n };
        for (size_t i = 0; i < t->n; i++) {
                double error;

                if (!mark[i])
                        continue;
                error = fabs(out[k] - held.y[k]);
                ret->error += error;
                if (estimates)
                        estimates[i] = out[k];
                if (active && active[i]) {
                        ret->active_error += error;
                        ret->active_rows++;
                }
                k++;
        }
        return 0;
}
