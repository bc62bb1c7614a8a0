/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/answer.h"

#include <errno.h>
#include <string.h>

#include "estimator/request.h"
#include "schema/vocabulary.h"

/* Upstream's words before what went wrong. */
#define REJECTED_PREFIX "failed to handle request: "
#define NO_MODEL_PREFIX "failed to get model from request: "

/* Every reply gives the same ratio; upstream gives it only in the first after a load. */
static double core_ratio(const struct answerer *a, const struct model *m)
{
        return a->cpus > 0 && model_cores(m) > 0 ? (double)a->cpus / model_cores(m) : 1;
}

static bool output_type_known(const char *name)
{
        for (size_t i = 0; output_types[i]; i++)
                if (!strcmp(output_types[i], name))
                        return true;
        return false;
}

/* The model for the request, or NULL after an error reply. A trainer is asked for as the model server's
 * clients do: by a text that the model's name contains. */
static struct loaded_model *choose_model(const struct answerer *a, const struct request *q, struct buf *out)
{
        struct loaded_model *l;
        struct err e;

        if (!output_type_known(q->output_type)) {
                (void)err_set(&e, 0, "output type %.60s is not supported", q->output_type);
                (void)reply_rejected(out, "", e.text);
                return NULL;
        }
        l = models_find(a->models, q->source, q->output_type);
        if (!l) {
                (void)err_set(&e, 0, "no %s model for %.60s", q->output_type,
                              q->source ? q->source : "rapl-sysfs");
                (void)reply_rejected(out, NO_MODEL_PREFIX, e.text);
                return NULL;
        }
        if (!strstr(model_name(l->model), q->trainer_name)) {
                (void)err_set(&e, 0, "model '%.100s' is not of trainer '%.60s'", model_name(l->model),
                              q->trainer_name);
                (void)reply_rejected(out, NO_MODEL_PREFIX, e.text);
                return NULL;
        }
        return l;
}

static int predict(const struct answerer *a, const struct loaded_model *l, const struct request *q,
                   struct buf *out, struct err *e)
{
        CLEANUP(freep) double *watts = NULL;
        size_t index[MODEL_FEATURES_MAX];
        int r;

        if (q->n_rows == 0)
                return err_set(e, -EINVAL, "no rows to predict");
        r = model_bind(l->model, q->columns, q->n_columns, index, e);
        if (r < 0)
                return r;
        watts = reallocarray(NULL, q->n_rows, model_components(l->model) * sizeof(*watts));
        if (!watts)
                return err_set(e, -ENOMEM, "out of memory");

        model_predict(l->model, index, q->rows, q->n_columns, q->n_rows, watts);
        return reply_powers(out, l->model,
                            &(struct reply_rows){ watts, q->rows, index, q->n_columns, q->n_rows },
                            core_ratio(a, l->model), a->precision, a->no_pedigree ? NULL : l->id);
}

static int answer_power(const struct answerer *a, const struct request *q, struct buf *out)
{
        struct loaded_model *l = choose_model(a, q, out);
        size_t begin = out->size;
        struct err e = { "reply is too large" };
        int r;

        if (!l)
                return out->failed ? out->failed : ANSWER_REFUSED;
        r = predict(a, l, q, out, &e);
        l->requests++;
        if (r == 0 && a->rows)
                *a->rows += q->n_rows;
        if (r == 0)
                return ANSWER_WATTS;
        l->errors++;
        out->size = begin;
        out->failed = 0;
        r = reply_unpredicted(out, e.text, core_ratio(a, l->model));
        return r < 0 ? r : ANSWER_REFUSED;
}

static int answer_command(const struct answerer *a, const char *name, struct buf *out)
{
        struct err e;
        int r = a->command ? a->command(a->arg, name, out) : -ENOENT;

        if (r == -ENOENT) {
                (void)err_set(&e, 0, "command '%.60s' is unknown", name);
                r = reply_rejected(out, REJECTED_PREFIX, e.text);
                return r < 0 ? r : ANSWER_REFUSED;
        }
        return r < 0 ? r : ANSWER_COMMAND;
}

int answer_request(const struct answerer *a, const char *text, size_t size, struct buf *out)
{
        struct request q;
        struct err e;
        int r;

        r = request_parse(text, size, &q, &e);
        if (r < 0) {
                r = reply_rejected(out, REJECTED_PREFIX, e.text);
                return r < 0 ? r : ANSWER_REFUSED;
        }
        r = q.command ? answer_command(a, q.command, out) : answer_power(a, &q, out);
        request_done(&q);
        return r;
}
