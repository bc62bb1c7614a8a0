/* SPDX-License-Identifier: Apache-2.0 */
/* Reference predictions for published archives, when they are beside the repository: every record, every row.
 */
#include "model/model.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/file.h"
#include "common/json.h"

#define GOLDEN   "../shared/golden/"
#define FILE_MAX ((size_t)64 << 20)
#define ROWS_MAX 64

static const struct model_load_options fitted = { .curve_index = MODEL_CURVE_FITTED };
static const struct model_load_options upstream = { .curve_index = MODEL_CURVE_UPSTREAM };

static struct model *load(const char *archive, const struct model_load_options *options)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        CLEANUP(buf_done) struct buf zip;
        struct model *m = NULL;
        struct err e = { 0 };
        char path[512];

        (void)snprintf(path, sizeof(path), GOLDEN "archives/%s", archive);
        buf_init(&zip, FILE_MAX);
        if (file_read(path, &zip, &e) < 0 || model_archive_unpack(zip.data, zip.size, &a, &e) < 0 ||
            model_load_archive_with(a, options, &m, &e) < 0 || model_check(m, &e) < 0)
                fail_msg("%s: %s", archive, e.text);
        return m;
}

/* A KNN row whose last neighbour is one of several at the same distance. */
static const json_t *tie(const json_t *record, const char *component, size_t row)
{
        const json_t *ties = json_object_get(json_object_get(record, "ties"), component), *t;
        size_t i;

        json_array_foreach (ties, i, t)
                if ((size_t)json_integer_value(json_object_get(t, "row")) == row)
                        return t;
        return NULL;
}

static double check_component(const struct model *m, const json_t *record, const json_t *want,
                              size_t component, const double *out, double tolerance)
{
        const char *archive = json_string_value(json_object_get(record, "archive"));
        double worst = 0;
        const json_t *v;
        size_t row;

        json_array_foreach (want, row, v) {
                double w = json_number_value(v), is = out[row * model_components(m) + component];
                double d = fabs(is - w) / fmax(1, fabs(w));

                /* The stored tree decides ties as scikit-learn does, so they need no other bound; see README.
                 */
                if (!(d <= tolerance))
                        fail_msg("%s: %s row %zu: %.17g instead of %.17g%s", archive,
                                 model_component(m, component), row, is, w,
                                 tie(record, model_component(m, component), row) ? " (a tie)" : "");
                worst = fmax(worst, d);
        }
        return worst;
}

static double check_record(const json_t *record, const char *key, const struct model_load_options *options)
{
        const char *archive = json_string_value(json_object_get(record, "archive")),
                   *columns[MODEL_FEATURES_MAX];
        const json_t *names = json_object_get(record, "features"), *rows = json_object_get(record, "rows");
        CLEANUP(model_freep) struct model *m = load(archive, options);
        double in[ROWS_MAX * 16], out[ROWS_MAX * MODEL_COMPONENTS_MAX], worst = 0;
        size_t index[MODEL_FEATURES_MAX], n = json_array_size(names);
        bool xgboost = strstr(archive, "Xgboost");
        struct err e = { 0 };

        assert_true(n <= 16 && json_array_size(rows) <= ROWS_MAX);
        for (size_t i = 0; i < n; i++)
                columns[i] = json_string_value(json_array_get(names, i));
        for (size_t r = 0; r < json_array_size(rows); r++)
                for (size_t i = 0; i < n; i++)
                        in[r * n + i] = json_number_value(json_array_get(json_array_get(rows, r), i));
        if (model_bind(m, columns, n, index, &e) < 0)
                fail_msg("%s: %s", archive, e.text);
        model_predict(m, index, in, n, json_array_size(rows), out);

        assert_string_equal(model_output_type(m), json_string_value(json_object_get(record, "output_type")));
        assert_string_equal(model_class(m), json_string_value(json_object_get(record, "model_class")));
        assert_int_equal(model_components(m), json_object_size(json_object_get(record, key)));
        for (size_t c = 0; c < model_components(m); c++) {
                const json_t *want = json_object_get(json_object_get(record, key), model_component(m, c));

                assert_int_equal(json_array_size(want), json_array_size(rows));
                worst = fmax(worst, check_component(m, record, want, c, out, xgboost ? 1e-6 : 1e-9));
        }
        return worst;
}

static void every_record_is_predicted(void **state)
{
        CLEANUP(buf_done) struct buf lines;
        struct err e = { 0 };
        size_t records = 0;
        double worst = 0;
        char *line, *end;

        (void)state;
        buf_init(&lines, FILE_MAX);
        if (file_read(GOLDEN "golden_predictions.jsonl", &lines, &e) < 0)
                skip();
        for (line = lines.data; (end = strchr(line, '\n')); line = end + 1) {
                CLEANUP(json_decrefp) json_t *record = NULL;

                if (json_parse(line, (size_t)(end - line), "record", &record, &e) < 0)
                        fail_msg("%s", e.text);
                worst = fmax(worst, check_record(record, "components", &upstream));
                if (json_object_get(record, "components_stored_index"))
                        worst = fmax(worst, check_record(record, "components_stored_index", &fitted));
                records++;
        }
        assert_int_equal(records, 60);
        print_message("%zu records, largest difference %g\n", records, worst);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_record_is_predicted),
        };

        return cmocka_run_group_tests_name("model/golden", tests, NULL, NULL);
}
