/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "model-server/convert/convert.h"
#include "model/sklearn.h"

#define SCALER_MAX ((size_t)1 << 20)

static int read_list(const json_t *o, const char *key, double *ret, size_t *n, struct err *e)
{
        const json_t *list = json_object_get(o, key);

        if (!json_is_array(list) || json_array_size(list) == 0 ||
            json_array_size(list) > MODEL_FEATURES_MAX || (*n && *n != json_array_size(list)))
                return err_set(e, -EBADMSG, "'%s' is not an array of a number for each feature", key);
        *n = json_array_size(list);
        for (size_t i = 0; i < *n; i++) {
                if (!json_is_number(json_array_get(list, i)))
                        return err_set(e, -EBADMSG, "'%s' has something else than numbers", key);
                ret[i] = json_number_value(json_array_get(list, i));
        }
        return 0;
}

static int check(const struct scaling *s, struct err *e)
{
        for (size_t i = 0; i < s->n; i++)
                if (!isfinite(s->factor[i]) || !isfinite(s->offset[i]))
                        return err_set(e, -EBADMSG, "feature %zu cannot be scaled", i);
        return 0;
}

static int read_json(const struct buf *text, struct scaling *s, struct err *e)
{
        double a[MODEL_FEATURES_MAX], b[MODEL_FEATURES_MAX];
        CLEANUP(json_decrefp) json_t *o = NULL;
        int r = json_parse(text->data, text->size, "scaler", &o, e);

        if (r < 0)
                return r;
        if (json_object_get(o, "mean_")) {
                r = read_list(o, "mean_", a, &s->n, e);
                if (r == 0)
                        r = read_list(o, "scale_", b, &s->n, e);
                for (size_t i = 0; r == 0 && i < s->n; i++) {
                        s->factor[i] = 1 / b[i];
                        s->offset[i] = -a[i] / b[i];
                        s->low[i] = a[i] - MODEL_SIGMAS * fabs(b[i]);
                        s->high[i] = a[i] + MODEL_SIGMAS * fabs(b[i]);
                }
        } else if (json_object_get(o, "min_")) { /* X_scaled = X * scale_ + min_, from 0 to 1 */
                r = read_list(o, "scale_", s->factor, &s->n, e);
                if (r == 0)
                        r = read_list(o, "min_", s->offset, &s->n, e);
                for (size_t i = 0; r == 0 && i < s->n; i++) {
                        s->low[i] = -s->offset[i] / s->factor[i];
                        s->high[i] = (1 - s->offset[i]) / s->factor[i];
                }
        } else {
                r = read_list(o, "max_abs_", a, &s->n, e);
                for (size_t i = 0; r == 0 && i < s->n; i++) {
                        s->factor[i] = 1 / a[i];
                        s->offset[i] = 0;
                        s->low[i] = -a[i];
                        s->high[i] = a[i];
                }
        }
        return r < 0 ? r : check(s, e);
}

/* A scaler is a plan of its own; what it does to three rows tells factor, offset, and whether that is all. */
static int read_pickle(const struct buf *data, struct scaling *s, struct err *e)
{
        double rows[3][MODEL_FEATURES_MAX], out[3][PLAN_COLUMNS_MAX];
        CLEANUP(pickle_freep) struct pickle *pickle = NULL;
        CLEANUP(plan_freep) struct plan *plan = NULL;
        size_t index[MODEL_FEATURES_MAX];
        int64_t n = 0;
        int r = pickle_read(data->data, data->size, &pickle, e);

        if (r < 0)
                return r;
        if (pickle_integer(pickle_attr(pickle_root(pickle), "n_features_in_"), &n) < 0 || n < 1 ||
            n > MODEL_FEATURES_MAX)
                return err_set(e, -ENOTSUP, "%s says no number of features",
                               pickle_describe(pickle_root(pickle)));
        s->n = (size_t)n;
        r = plan_new(s->n, &plan, e);
        if (r == 0)
                r = sklearn_add_transformer(plan, pickle_root(pickle), e);
        if (r < 0)
                return r;
        if (plan->columns != s->n)
                return err_set(e, -ENOTSUP, "%s is no scaler", pickle_describe(pickle_root(pickle)));
        for (size_t i = 0; i < s->n; i++) {
                double large = plan->typical[i] > 0 ? plan->typical[i] : 1;

                index[i] = plan->inputs[i] = i;
                for (int k = 0; k < 3; k++)
                        rows[k][i] = k == 0 ? 0 : k == 1 ? large : 64 * large;
        }
        plan_run(plan, index, rows[0], MODEL_FEATURES_MAX, 3, out[0], PLAN_COLUMNS_MAX);
        for (size_t i = 0; i < s->n; i++) {
                double straight;

                s->factor[i] = (out[1][i] - out[0][i]) / rows[1][i];
                s->offset[i] = out[0][i];
                s->low[i] = plan->low[i];
                s->high[i] = plan->high[i];
                straight = s->offset[i] + s->factor[i] * rows[2][i];
                if (fabs(straight - out[2][i]) > 1e-9 * (1 + fabs(out[0][i]) + fabs(straight)))
                        return err_set(e, -ENOTSUP, "%s does more than to scale (clip?)",
                                       pickle_describe(pickle_root(pickle)));
        }
        return check(s, e);
}

int scaler_read(const char *path, struct scaling *ret, struct err *e)
{
        CLEANUP(buf_done) struct buf data = { .max = SCALER_MAX };
        struct scaling s = { 0 };
        size_t at;
        int r = file_read(path, &data, e);

        if (r == 0 && data.size == 0)
                r = err_set(e, -EBADMSG, "it is empty");
        if (r < 0)
                return err_prefix(e, r, "--scaler '%.100s'", path);
        at = strspn(data.data, " \t\r\n");
        r = data.data[at] == '{' ? read_json(&data, &s, e) : read_pickle(&data, &s, e);
        if (r < 0)
                return err_prefix(e, r, "--scaler '%.100s'", path);
        *ret = s;
        return 0;
}
