/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "model-server/convert/convert.h"
#include "model-server/csv.h"
#include "schema/vocabulary.h"

struct columns {
        int feature[MODEL_FEATURES_MAX], watts[MODEL_COMPONENTS_MAX], idle[MODEL_COMPONENTS_MAX];
        int duration, container, provenance;
};

static int find(const struct csv *csv, const char *name, int *ret, struct err *e)
{
        *ret = csv_find(csv, name);
        return *ret >= 0 ? 0 : err_set(e, -ENOENT, "there is no column '%.60s'", name);
}

static int find_columns(const struct csv *csv, const struct model *m, bool dynamic, struct columns *c,
                        struct err *e)
{
        char name[MODEL_NAME_MAX + 16];
        int r = 0;

        c->duration = csv_find(csv, "duration_s");
        c->container = csv_find(csv, "container_id");
        c->provenance = csv_find(csv, "provenance");
        for (size_t i = 0; r == 0 && i < model_features(m); i++)
                r = find(csv, model_feature(m, i), &c->feature[i], e);
        for (size_t i = 0; r == 0 && i < model_components(m); i++) {
                (void)snprintf(name, sizeof(name), "%s_watts", model_component(m, i));
                r = find(csv, name, &c->watts[i], e);
                (void)snprintf(name, sizeof(name), "%s_idle_watts", model_component(m, i));
                if (r == 0 && dynamic)
                        r = find(csv, name, &c->idle[i], e);
        }
        return r;
}

/* 1: a row to score; 0: not a node's, or something is missing; negative: not a number. */
static int read_row(const struct csv *csv, size_t row, const struct model *m, bool dynamic,
                    const struct columns *c, double *x, double *watts, struct err *e)
{
        double duration = 1, idle = 0;
        int r = 0;

        if (c->container >= 0 && strcmp(csv_cell(csv, row, (size_t)c->container), "node"))
                return 0;
        for (size_t i = 0; i < model_features(m); i++)
                if (!*csv_cell(csv, row, (size_t)c->feature[i]))
                        return 0;
        for (size_t i = 0; i < model_components(m); i++)
                if (!*csv_cell(csv, row, (size_t)c->watts[i]) ||
                    (dynamic && !*csv_cell(csv, row, (size_t)c->idle[i])))
                        return 0;
        if (c->duration >= 0)
                r = csv_number(csv, row, (size_t)c->duration, &duration, e);
        if (r == 0 && !(duration > 0))
                return 0;
        for (size_t i = 0; r == 0 && i < model_features(m); i++) {
                r = csv_number(csv, row, (size_t)c->feature[i], &x[i], e);
                x[i] /= duration;
        }
        for (size_t i = 0; r == 0 && i < model_components(m); i++) {
                r = csv_number(csv, row, (size_t)c->watts[i], &watts[i], e);
                if (r == 0 && dynamic)
                        r = csv_number(csv, row, (size_t)c->idle[i], &idle, e);
                watts[i] -= idle;
        }
        return r < 0 ? r : 1;
}

static int note_provenance(const struct csv *csv, size_t row, const struct columns *c, struct score *s,
                           struct err *e)
{
        const char *text = c->provenance >= 0 ? csv_cell(csv, row, (size_t)c->provenance) : "";
        int is = *text ? provenance_find(text) : -1;

        if (*text && is < 0)
                return err_set(e, -EBADMSG, "provenance '%.40s' is unknown", text);
        if (is >= 0 && s->provenance >= 0 && is != s->provenance)
                return err_set(e, -EINVAL, "rows of power that is %s and %s", provenance_names[s->provenance],
                               provenance_names[is]);
        s->provenance = is >= 0 ? is : s->provenance;
        return 0;
}

int score_rows(const char *path, const struct model *m, bool dynamic, struct score *ret, struct err *e)
{
        double x[MODEL_FEATURES_MAX], watts[MODEL_COMPONENTS_MAX], estimate[MODEL_COMPONENTS_MAX];
        CLEANUP(csv_freep) struct csv *csv = NULL;
        struct score s = { .provenance = -1 };
        size_t index[MODEL_FEATURES_MAX];
        struct columns c;
        int r = csv_read(path, &csv, e);

        if (r < 0)
                return r;
        r = find_columns(csv, m, dynamic, &c, e);
        for (size_t i = 0; i < model_features(m); i++)
                index[i] = i;
        for (size_t row = 0; r >= 0 && row < csv_rows(csv); row++) {
                r = read_row(csv, row, m, dynamic, &c, x, watts, e);
                if (r <= 0)
                        continue;
                r = note_provenance(csv, row, &c, &s, e);
                model_predict(m, index, x, MODEL_FEATURES_MAX, 1, estimate);
                for (size_t i = 0; i < model_components(m); i++)
                        s.mae[i] += fabs(estimate[i] - watts[i]);
                s.rows++;
        }
        if (r < 0)
                return err_prefix(e, r, "%.100s", path);
        if (s.rows == 0)
                return err_set(e, -ENODATA, "%.100s: no row has all features and watts of the model", path);
        for (size_t i = 0; i < model_components(m); i++)
                s.mae[i] /= (double)s.rows;
        *ret = s;
        return 0;
}
