/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/commands.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/file.h"
#include "common/log.h"
#include "config/cli.h"
#include "model-server/options.h"
#include "model-server/report.h"

#define PATH_MAX_HERE 4096

static int need(const char *value, const char *name)
{
        return *value ? 0 : log_error(-EINVAL, "%s DIR is missing", name);
}

static int open_recording(const struct options *o, struct recording **ret)
{
        struct err e;
        int r = recording_read(o->data, ret, &e);

        if (r < 0)
                return log_error(r, "%s", e.text);
        log_info("%zu rows, %zu feature groups, %zu segments%s", (*ret)->sets[0].table.n, (*ret)->n_sets,
                 (*ret)->n_segments, (*ret)->has_segments ? "" : " (no segments.csv: found by load)");
        return 0;
}

int command_train(const void *options, int argc, char **argv)
{
        CLEANUP(recording_freep) struct recording *recording = NULL;
        const struct options *o = options;
        struct err e;
        int r;

        (void)argc;
        (void)argv;
        if (need(o->data, "--data") < 0 || need(o->out, "--out") < 0)
                return EXIT_MISUSE;
        r = open_recording(o, &recording);
        if (r < 0)
                return r;
        r = report_write_models(recording, NULL, o->hold, o->out, &e);
        return r < 0 ? log_error(r, "%s", e.text) : EXIT_DONE;
}

int command_report(const void *options, int argc, char **argv)
{
        CLEANUP(recording_freep) struct recording *recording = NULL;
        CLEANUP(report_done) struct report report = { 0 };
        const struct options *o = options;
        char models[PATH_MAX_HERE];
        struct err e;
        int r;

        (void)argc;
        (void)argv;
        if (need(o->data, "--data") < 0 || need(o->out, "--out") < 0)
                return EXIT_MISUSE;
        if (path_join(models, sizeof(models), o->out, "models") < 0)
                return log_error(EXIT_MISUSE, "--out: '%.200s' is too long", o->out);
        r = open_recording(o, &recording);
        if (r < 0)
                return r;
        r = file_mkdirs(o->out, 0755, &e); /* before the work, not after it */
        if (r == 0)
                r = report_make(recording, &report, &e);
        if (r == 0)
                r = report_write(&report, o->out, &e);
        if (r == 0)
                r = report_write_models(recording, &report, "", models, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        log_info("%zu results in %.0f s: %s/report.md", report.n, report.seconds, o->out);
        return EXIT_DONE;
}

/* ---- evaluate ---- */

static int load(const char *path, struct model **ret, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *archive = NULL;
        CLEANUP(buf_done) struct buf data = { 0 };
        int r;

        buf_init(&data, MODEL_ARCHIVE_MAX);
        r = file_read(path, &data, e);
        if (r < 0)
                return r;
        if (data.size < 2 || memcmp(data.data, "PK", 2) != 0) {
                const char *name = strrchr(path, '/');

                return model_load_weight(data.data ? data.data : "", data.size, name ? name + 1 : path, ret,
                                         e);
        }
        r = model_archive_unpack(data.data, data.size, &archive, e);
        return r < 0 ? r : model_load_archive(archive, ret, e);
}

static bool covers(const struct model *m, const struct recording_set *s, size_t *index)
{
        if (model_bind(m, s->table.features, s->table.p, index, NULL) < 0)
                return false;
        for (size_t c = 0; c < s->n_components; c++)
                if (!strcmp(s->components[c].name, model_component(m, 0)))
                        return true;
        return false;
}

static void print_component(const char *path, const struct recording_set *s, const struct model *m, size_t c,
                            const unsigned char *mark, const double *out)
{
        double error = 0, active_error = 0;
        size_t rows = 0, active = 0, at = 0;

        while (at < s->n_components && strcmp(s->components[at].name, model_component(m, c)))
                at++;
        if (at == s->n_components)
                return;
        for (size_t i = 0; i < s->table.n; i++) {
                double miss = fabs(out[i * model_components(m) + c] - s->components[at].watts[i]);

                if (mark && !mark[i])
                        continue;
                error += miss;
                rows++;
                if (s->active[i]) {
                        active_error += miss;
                        active++;
                }
        }
        (void)printf("%s\t%s\t%s\t%s\t%zu\t%.6f\t%.6f\n", path, model_name(m), s->group,
                     model_component(m, c), rows, rows > 0 ? error / (double)rows : 0,
                     active > 0 ? active_error / (double)active : 0);
}

static int evaluate_file(const struct recording *recording, const char *path, const char *hold, struct err *e)
{
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(folds_done) struct folds folds = { 0 };
        CLEANUP(freep) double *out = NULL;
        const unsigned char *mark = NULL;
        const struct recording_set *s = NULL;
        size_t index[MODEL_FEATURES_MAX];
        int r = load(path, &m, e);

        if (r < 0)
                return err_prefix(e, r, "%.150s", path);
        for (size_t i = 0; !s && i < recording->n_sets; i++)
                if (covers(m, &recording->sets[i], index))
                        s = &recording->sets[i];
        if (!s)
                return err_set(e, -ENOENT,
                               "%.150s: no file of the recording has this model's features and component",
                               path);
        r = report_find_hold(hold, s, &folds, &mark, e);
        if (r < 0)
                return r;
        out = calloc(s->table.n * model_components(m) + 1, sizeof(*out));
        if (!out)
                return err_set(e, -ENOMEM, "out of memory");
        model_predict(m, index, s->table.x, s->table.p, s->table.n, out);
        for (size_t c = 0; c < model_components(m); c++)
                print_component(path, s, m, c, mark, out);
        return 0;
}

int command_evaluate(const void *options, int argc, char **argv)
{
        CLEANUP(recording_freep) struct recording *recording = NULL;
        const struct options *o = options;
        int r, status = EXIT_DONE;
        struct err e;

        if (need(o->data, "--data") < 0)
                return EXIT_MISUSE;
        r = open_recording(o, &recording);
        if (r < 0)
                return r;
        (void)printf("file\tmodel\tfeature_group\tcomponent\trows\tmae\tactive_mae\n");
        for (int i = 0; i < argc; i++)
                if (evaluate_file(recording, argv[i], o->hold, &e) < 0)
                        status =
                                log_error(EXIT_FAILED, "%s", e.text); /* the others are scored all the same */
        return status;
}
