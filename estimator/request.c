/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/request.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/json.h"
#include "common/num.h"

void request_done(struct request *q)
{
        free(q->columns);
        free(q->rows);
        json_decref(q->document);
        *q = (struct request){ 0 };
}

static int check_keys(const json_t *document, struct err *e)
{
        static const struct {
                const char *name;
                bool mandatory;
        } keys[] = {
                { "metrics", true },       { "values", true },          { "output_type", true },
                { "source", true },        { "system_features", true }, { "system_values", true },
                { "trainer_name", false }, { "filter", false },
        };
        size_t known = 0;
        const char *key;
        json_t *value;

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                bool there = json_object_get(document, keys[i].name);

                if (keys[i].mandatory && !there)
                        return err_set(e, -EBADMSG, "'%s' is missing", keys[i].name);
                known += there;
        }
        if (known == json_object_size(document))
                return 0;
        json_object_foreach ((json_t *)(uintptr_t)document, key, value) { /* reads only */
                size_t i = 0;

                while (i < ARRAY_SIZE(keys) && strcmp(keys[i].name, key))
                        i++;
                if (i == ARRAY_SIZE(keys))
                        return err_set(e, -EBADMSG, "unknown key '%.60s'", key);
        }
        return 0;
}

/* An optional string: "" when it is missing or null. */
static int get_optional(const json_t *document, const char *key, const char **ret, struct err *e)
{
        const json_t *v = json_object_get(document, key);

        *ret = "";
        if (!v || json_is_null(v))
                return 0;
        return json_get_string(document, key, ret, e);
}

static int get_array(const json_t *document, const char *key, const json_t **ret, struct err *e)
{
        *ret = json_object_get(document, key);
        return json_is_array(*ret) ? 0 : err_set(e, -EBADMSG, "'%s' is not an array", key);
}

static int add_column(struct request *q, const char *name, struct err *e)
{
        for (size_t i = 0; i < q->n_columns; i++)
                if (!strcmp(q->columns[i], name))
                        return err_set(e, -EBADMSG, "column '%.60s' is there twice", name);
        q->columns[q->n_columns++] = name;
        return 0;
}

/* Columns come from two lists of names. */
static int check_names(const json_t *names, const char *key, struct err *e)
{
        if (json_array_size(names) > REQUEST_COLUMNS_MAX / 2)
                return err_set(e, -E2BIG, "'%s' has more than %d names", key, REQUEST_COLUMNS_MAX / 2);
        for (size_t i = 0; i < json_array_size(names); i++)
                if (!json_is_string(json_array_get(names, i)))
                        return err_set(e, -EBADMSG, "'%s' has an item that is not a string", key);
        return 0;
}

/* A system value that a model could compute with: a number, or a number's text. */
static bool system_number(const json_t *value, double *ret)
{
        if (json_is_string(value))
                return num_parse_double(json_string_value(value), ret) == 0;
        *ret = json_number_value(value);
        return json_is_number(value);
}

/* Names of all columns, and the values of the constant ones behind the metrics. */
static int read_columns(struct request *q, const json_t *metrics, double constants[REQUEST_COLUMNS_MAX],
                        struct err *e)
{
        const json_t *names = NULL, *values = NULL;
        int r;

        r = get_array(q->document, "system_features", &names, e);
        if (r == 0)
                r = get_array(q->document, "system_values", &values, e);
        if (r == 0)
                r = check_names(metrics, "metrics", e);
        if (r == 0)
                r = check_names(names, "system_features", e);
        if (r < 0)
                return r;
        if (json_array_size(values) < json_array_size(names))
                return err_set(e, -EBADMSG, "%zu system_features, but %zu system_values",
                               json_array_size(names), json_array_size(values));

        q->columns = calloc(REQUEST_COLUMNS_MAX, sizeof(*q->columns));
        if (!q->columns)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < json_array_size(metrics) && r == 0; i++)
                r = add_column(q, json_string_value(json_array_get(metrics, i)), e);
        for (size_t i = 0; i < json_array_size(names) && r == 0; i++)
                if (system_number(json_array_get(values, i), &constants[q->n_columns]))
                        r = add_column(q, json_string_value(json_array_get(names, i)), e);
        return r;
}

static int read_row(const json_t *row, size_t n, double *ret, struct err *e)
{
        if (!json_is_array(row))
                return err_set(e, -EBADMSG, "a row of 'values' is not an array");
        if (json_array_size(row) != n)
                return err_set(e, -EBADMSG, "a row has %zu values, but there are %zu metrics",
                               json_array_size(row), n);
        for (size_t i = 0; i < n; i++) {
                const json_t *v = json_array_get(row, i);

                if (!json_is_number(v))
                        return err_set(e, -EBADMSG, "a value is not a number");
                ret[i] = json_number_value(v);
        }
        return 0;
}

static int read_rows(struct request *q, const json_t *values, size_t n_metrics, const double *constants,
                     struct err *e)
{
        size_t n = json_array_size(values);

        q->rows = reallocarray(NULL, n + 1, (q->n_columns + 1) * sizeof(*q->rows)); /* never of size 0 */
        if (!q->rows)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < n; i++) {
                double *row = q->rows + i * q->n_columns;
                int r = read_row(json_array_get(values, i), n_metrics, row, e);

                if (r < 0)
                        return err_prefix(e, r, "row %zu", i);
                for (size_t c = n_metrics; c < q->n_columns; c++)
                        row[c] = constants[c];
        }
        q->n_rows = n;
        return 0;
}

static int read_power_request(struct request *q, struct err *e)
{
        const json_t *metrics = NULL, *values = NULL;
        double constants[REQUEST_COLUMNS_MAX];
        const char *filter; /* checked for its type, otherwise not used: a store holds no candidates to choose
                               from */
        int r;

        r = check_keys(q->document, e);
        if (r == 0)
                r = json_get_string(q->document, "output_type", &q->output_type, e);
        if (r == 0 && !json_is_null(json_object_get(q->document, "source")))
                r = json_get_string(q->document, "source", &q->source, e);
        if (r == 0)
                r = get_optional(q->document, "trainer_name", &q->trainer_name, e);
        if (r == 0)
                r = get_optional(q->document, "filter", &filter, e);
        if (r == 0)
                r = get_array(q->document, "metrics", &metrics, e);
        if (r == 0)
                r = get_array(q->document, "values", &values, e);
        if (r < 0)
                return r;

        r = read_columns(q, metrics, constants, e);
        if (r < 0)
                return r;
        /* Constant columns are not in the text: they must not multiply what the limit on values has allowed.
         */
        if (json_array_size(values) * (q->n_columns + 1) > 2 * REQUEST_VALUES_MAX)
                return err_set(e, -E2BIG, "more than %zu values", 2 * REQUEST_VALUES_MAX);
        return read_rows(q, values, json_array_size(metrics), constants, e);
}

int request_parse(const char *text, size_t size, struct request *ret, struct err *e)
{
        struct request q = { 0 };
        int r;

        r = json_parse(text, size, "request", &q.document, e);
        if (r < 0)
                return r;
        if (!json_is_object(q.document))
                r = err_set(e, -EBADMSG, "request is not a JSON object");
        else if (json_object_size(q.document) == 1 && json_object_get(q.document, "command"))
                r = json_get_string(q.document, "command", &q.command, e);
        else
                r = read_power_request(&q, e);
        if (r < 0) {
                request_done(&q);
                return r;
        }
        *ret = q;
        return 0;
}
