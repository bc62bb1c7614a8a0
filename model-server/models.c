/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a recording's models: what a fleet would be given, or, with some rows held back, what one fold
 * of the report was scored with. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "model-server/jobs.h"
#include "model-server/report.h"

#define NODE_TYPE     1 /* as in Kepler's models of one machine */
#define PATH_MAX_HERE 4096

/* Weight files: one of each class that Kepler's clients know the formula of. */
static const char *const local_classes[] = { "SGDRegressorTrainer", "LinearRegressionTrainer",
                                             "LogarithmicRegressionTrainer", "ExponentialRegressionTrainer",
                                             "LogisticRegressionTrainer" };

struct writing {
        const struct recording *recording;
        const struct report *report;
        const char *hold, *out;
};

int report_find_hold(const char *hold, const struct recording_set *s, struct folds *folds,
                     const unsigned char **ret, struct err *e)
{
        struct labels labels = recording_labels(s);
        const char *letter = hold && *hold ? strchr(protocol_letters, *hold) : NULL;
        char *end = NULL;
        unsigned long k;
        int r;

        *ret = NULL;
        if (!hold || !*hold)
                return 0;
        k = strtoul(hold + 1, &end, 10);
        if (!letter || !hold[1] || *end)
                return err_set(e, -EINVAL,
                               "'%.20s' is no fold; one is named like S3: a protocol of %s and a number",
                               hold, protocol_letters);
        r = folds_make((enum protocol)(letter - protocol_letters), &labels, folds, e);
        if (r == 0 && k >= folds->n)
                r = err_set(e, -EINVAL, "protocol %c has %zu folds here, there is no %s", *hold, folds->n,
                            hold);
        if (r == 0)
                *ret = folds->mark[k];
        return r;
}

static int write_below(const struct writing *w, const struct recording_set *s, const char *file,
                       const void *data, size_t size, struct err *e)
{
        char dir[PATH_MAX_HERE], path[PATH_MAX_HERE + 256];
        int r;

        if (snprintf(dir, sizeof(dir), "%s/%s/AbsPower/%s", w->out, s->source, s->group) >= (int)sizeof(dir))
                return err_set(e, -ENAMETOOLONG, "'%.150s' is too long", w->out);
        r = file_mkdirs(dir, 0755, e);
        (void)snprintf(path, sizeof(path), "%s/%.200s", dir, file);
        return r < 0 ? r : file_write_atomic(path, data, size, 0644, e);
}

/* S's error, where it was computed on the same rows. */
static double known_mae(const struct writing *w, const struct recording_set *s, size_t component,
                        enum trainer_kind kind)
{
        const struct report_result *r =
                w->report ? report_find(w->report, s, component, kind, PROTOCOL_S) : NULL;

        return r ? r->mae : NAN;
}

/* With a report, what passed its gates for every component; of local classes, what some component chose. */
static bool wanted(const struct writing *w, const struct recording_set *s, enum trainer_kind kind,
                   const char *class)
{
        bool chosen = !w->report || kind != TRAINER_LOCAL;

        for (size_t c = 0; w->report && c < s->n_components; c++) {
                const struct report_result *r = report_find(w->report, s, c, kind, PROTOCOL_S);

                if (!r || (kind == TRAINER_LOCAL && strcmp(r->model, class)))
                        continue;
                if (!r->published)
                        return false;
                chosen = true;
        }
        return chosen;
}

/* The rows to train on, of one component. */
static int training_table(const struct recording_set *s, size_t component, const unsigned char *mark,
                          bool prev, struct table *ret, struct err *e)
{
        struct table all = { 0 };
        size_t columns[TABLE_FEATURES_MAX], n = 0;
        int r = recording_table(s, component, &all, e);

        for (size_t j = 0; j < all.p; j++)
                if (prev || strncmp(all.features[j], PREV_PREFIX, strlen(PREV_PREFIX)))
                        columns[n++] = j;
        if (r == 0)
                r = table_select(&all, mark, false, columns, n, ret, e);
        free(all.y);
        return r;
}

static int write_archive(const struct writing *w, const struct recording_set *s, enum trainer_kind kind,
                         const unsigned char *mark, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *archive = calloc(1, sizeof(*archive));
        CLEANUP(json_decrefp)
        json_t *extra = json_pack("{s:i, s:s, s:s, s:s}", "seed", 1, "xgboost_version", boost_version(),
                                  "recording", w->recording->name, "held_back", w->hold ? w->hold : "");
        struct archive_component components[RECORDING_COMPONENTS_MAX];
        struct archive_head head = { .trainer = evaluate_class(kind),
                                     .model_class = evaluate_model_class(kind),
                                     .output_type = "AbsPower",
                                     .provenance = "measured",
                                     .node_type = NODE_TYPE,
                                     .extra = extra };
        CLEANUP(buf_done) struct buf zip = { 0 };
        char file[128];
        int r = archive && extra ? 0 : err_set(e, -ENOMEM, "out of memory");

        for (size_t c = 0; r == 0 && c < s->n_components; c++) {
                CLEANUP(table_done) struct table t = { 0 };
                const char *name = s->components[c].name;

                r = training_table(s, c, mark, kind == TRAINER_BLEND_PREV, &t, e);
                if (r == 0)
                        r = evaluate_train(kind, general_settings_find(s->group, name), &t, name, archive,
                                           &components[c], e);
                if (r < 0)
                        return r;
                components[c].mae = known_mae(w, s, c, kind);
                head.rows = t.n;
        }
        if (r < 0)
                return r;
        memcpy(head.features, components[0].features, sizeof(head.features));
        head.n_features = components[0].n_features;
        r = archive_finish(archive, &head, components, s->n_components, e);
        buf_init(&zip, MODEL_ARCHIVE_MAX);
        if (r == 0)
                r = model_archive_pack(archive, &zip, e);
        (void)snprintf(file, sizeof(file), "%s_%d.zip", head.trainer, NODE_TYPE);
        return r < 0 ? r : write_below(w, s, file, zip.data, zip.size, e);
}

/* 0, or -EDOM when the class fits none of these rows. */
static int write_weights(const struct writing *w, const struct recording_set *s, const char *class,
                         const unsigned char *mark, struct err *e)
{
        char name[128], file[160];
        CLEANUP(json_decrefp) json_t *document = NULL;
        CLEANUP(buf_done) struct buf text = { 0 };
        int r = 0;

        (void)snprintf(name, sizeof(name), "%s_%d", class, NODE_TYPE);
        (void)snprintf(file, sizeof(file), "%s.json", name);
        document = json_pack("{s:s, s:s}", "model_name", name, "provenance", "measured");
        for (size_t c = 0; r == 0 && c < s->n_components; c++) {
                CLEANUP(table_done) struct table t = { 0 };
                struct local_fit fit;

                r = training_table(s, c, mark, false, &t, e);
                if (r == 0)
                        r = local_choose_class(&t, s->components[c].name, class, &fit, e);
                if (r == 0)
                        (void)json_object_set_new(document, s->components[c].name, local_weights(&fit));
        }
        if (r < 0)
                return r;
        buf_init(&text, MODEL_WEIGHT_MAX);
        r = document ? json_write(document, &text) : -ENOMEM;
        if (r < 0)
                return err_set(e, r, "cannot write weights: %s", strerror(-r));
        return write_below(w, s, file, text.data, text.size, e);
}

/* One file of the recording: all archives and weights of its group. */
static int write_set(void *arg, size_t i, struct err *e)
{
        const struct writing *w = arg;
        const struct recording_set *s = &w->recording->sets[i];
        CLEANUP(folds_done) struct folds folds = { 0 };
        const unsigned char *mark = NULL;
        int r = report_find_hold(w->hold, s, &folds, &mark, e);

        for (int kind = TRAINER_PLAIN; r == 0 && kind < TRAINER_KINDS; kind++)
                if (wanted(w, s, (enum trainer_kind)kind, NULL))
                        r = write_archive(w, s, (enum trainer_kind)kind, mark, e);
        for (size_t k = 0; r == 0 && k < ARRAY_SIZE(local_classes); k++) {
                if (!wanted(w, s, TRAINER_LOCAL, local_classes[k]))
                        continue;
                r = write_weights(w, s, local_classes[k], mark, e);
                if (r == -EDOM)
                        r = 0; /* a curve that cannot follow a constant: no file */
        }
        return r < 0 ? err_prefix(e, r, "models of %s %s", s->source, s->group) : 0;
}

int report_write_models(const struct recording *recording, const struct report *report, const char *hold,
                        const char *out, struct err *e)
{
        struct writing w = { recording, report, hold, out };

        return jobs_run("models", recording->n_sets, NULL, 0, write_set, &w, e);
}
