/* SPDX-License-Identifier: Apache-2.0 */
/* Archives as Kepler's trainers make them, invented; and what else somebody might send in their form.
 * Published ones are used for damage of every kind when they are beside the repository. */
#include "model/model.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/file.h"
#include "tests/unit/model/pickles.h"

#define GOLDEN "../shared/golden/archives/models/"
#define METADATA                                                                                             \
        "{\"model_name\": \"LinearRegressionTrainer_3\", \"model_class\": \"%s\", \"model_file\": "          \
        "\"map.json\", \"features\": [\"a\", \"b\"], \"fe_files\": [], \"output_type\": \"AbsPower\", "      \
        "\"mae\": 2.5, \"platform_mae\": 2.25}"
#define MAP(file, features, fe)                                                                              \
        "{\"platform\": {\"model_file\": \"" file "\", \"features\": " features ", \"fe_files\": " fe "}}"
#define GOOD_MAP MAP("platform.pkl", "[\"b\", \"a\"]", "[\"scaler.pkl\"]")

static const double scale[] = { 100, 10 }, coefficients[] = { 5, 7 };

static void add(struct model_archive *a, const char *name, const void *data, size_t size)
{
        struct model_entry *entry = &a->entries[a->n++];

        (void)snprintf(entry->name, sizeof(entry->name), "%s", name);
        entry->data = calloc(1, size + 1);
        assert_non_null(entry->data);
        memcpy(entry->data, data, size);
        entry->size = size;
}

static void add_text(struct model_archive *a, const char *name, const char *text)
{
        add(a, name, text, strlen(text));
}

static struct model_archive *new_archive(const char *class, const char *map)
{
        struct model_archive *a = calloc(1, sizeof(*a));
        char metadata[1024];

        assert_non_null(a);
        (void)snprintf(metadata, sizeof(metadata), METADATA, class);
        add_text(a, "metadata.json", metadata);
        add_text(a, "map.json", map);
        return a;
}

static void add_scaler(struct model_archive *a)
{
        CLEANUP(buf_done) struct buf b;

        put_max_abs(&b, scale, 2);
        add(a, "scaler.pkl", b.data, b.size);
}

static void add_linear(struct model_archive *a)
{
        CLEANUP(buf_done) struct buf b;

        put_linear(&b, coefficients, 2, 1.5);
        add(a, "platform.pkl", b.data, b.size);
}

static struct model *load(const struct model_archive *a)
{
        struct model *m = NULL;
        struct err e = { 0 };

        if (model_load_archive(a, &m, &e) < 0 || model_check(m, &e) < 0)
                fail_msg("%s", e.text);
        return m;
}

static double predict(const struct model *m, double a, double b)
{
        static const char *const columns[] = { "a", "b" };
        size_t index[MODEL_FEATURES_MAX];
        double row[2] = { a, b }, out[MODEL_COMPONENTS_MAX];

        assert_int_equal(model_bind(m, columns, 2, index, NULL), 0);
        model_predict(m, index, row, 2, 1, out);
        return out[0];
}

static void refused(const struct model_archive *a, int want, const char *words)
{
        CLEANUP(model_freep) struct model *m = NULL;
        struct err e = { 0 };
        int r = model_load_archive(a, &m, &e);

        if (r != want || !strstr(e.text, words))
                fail_msg("%d '%s' instead of %d '%s'", r, e.text, want, words);
        assert_null(m);
}

static void a_scaled_linear_model_predicts(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = new_archive("scikit", GOOD_MAP);
        CLEANUP(model_freep) struct model *m = NULL;
        const char *module, *name;
        size_t at = 0, classes = 0, index[] = { 0, 1 };
        double low, high;

        (void)state;
        add_scaler(a);
        add_linear(a);
        m = load(a);
        /* the component's order of features counts, not the metadata's */
        assert_true(fabs(predict(m, 20, 50) - (5 * 50 / 100.0 + 7 * 20 / 10.0 + 1.5)) < 1e-12);
        assert_true(predict(m, -1e6, 0) <= 0); /* clamped */
        assert_true(fabs(model_feature_scale(m, 0) - 100) < 1e-12);
        assert_string_equal(model_class(m), "scikit");
        assert_string_equal(model_component_kind(m, 0), "LinearRegression");
        assert_string_equal(model_component_note(m, 0), "2 coefficients");
        assert_true(fabs(model_component_mae(m, 0) - 2.25) < 1e-12);
        assert_true(model_has_domain(m) && model_feature_range(m, 0, &low, &high) && low <= -100 &&
                    high <= 100);
        assert_true(model_in_domain(m, index, (double[]){ 100, 10 }) &&
                    model_in_domain(m, index, (double[]){ 0, 0 }));
        assert_false(model_in_domain(m, index, (double[]){ 100.1, 0 }));
        assert_false(model_in_domain(m, index, (double[]){ 0, NAN }));
        while (model_next_class(m, &at, &module, &name))
                classes++;
        assert_int_equal(classes, 5); /* the wrapper, ndarray, dtype, the scaler and the model */
}

static void a_model_without_its_scaler_is_refused(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *lost = new_archive("scikit", GOOD_MAP);
        CLEANUP(model_archive_freep)
        struct model_archive *unnamed = new_archive("scikit", MAP("platform.pkl", "[\"a\", \"b\"]", "[]"));

        (void)state;
        add_linear(lost);
        refused(lost, -EBADMSG, "archive has no 'scaler.pkl'");
        add_linear(unnamed);
        refused(unnamed, -EBADMSG, "no scaler");
}

static void maps_that_do_not_fit_are_refused_in_words(void **state)
{
        static const struct {
                const char *map;
                const char *words;
        } cases[] = {
                { "{}", "no components" },
                { "[]", "not a JSON object" },
                { MAP("../platform.pkl", "[\"a\", \"b\"]", "[\"scaler.pkl\"]"), "not a plain file name" },
                { MAP("/etc/passwd", "[\"a\", \"b\"]", "[\"scaler.pkl\"]"), "not a plain file name" },
                { MAP("sub/platform.pkl", "[\"a\", \"b\"]", "[\"scaler.pkl\"]"), "not a plain file name" },
                { MAP("other.pkl", "[\"a\", \"b\"]", "[\"scaler.pkl\"]"), "no 'other.pkl'" },
                { MAP("platform.pkl", "[\"a\", \"b\"]", "[\"../scaler.pkl\"]"), "not a plain file name" },
                { MAP("platform.pkl", "[\"a\", \"b\"]", "[1]"), "else than names" },
                { MAP("platform.pkl", "[\"a\", \"b\"]", "\"scaler.pkl\""), "fe_files" },
                { MAP("platform.pkl", "[\"a\"]", "[\"scaler.pkl\"]"), "trained on 2 columns" },
                { MAP("platform.pkl", "[\"a\", \"a\"]", "[\"scaler.pkl\"]"), "twice" },
                { MAP("platform.pkl", "[\"a\", \"c\"]", "[\"scaler.pkl\"]"), "lacks 'c'" },
                { MAP("platform.pkl", "[]", "[\"scaler.pkl\"]"), "features" },
                { MAP("scaler.pkl", "[\"a\", \"b\"]", "[\"scaler.pkl\"]"), "'MaxAbsScaler' is not a model" },
                { MAP("platform.pkl", "[\"a\", \"b\"]", "[\"platform.pkl\"]"), "is not a transformer" },
                { "{\"gpu\": {\"model_file\": \"platform.pkl\", \"features\": [\"a\", \"b\"], \"fe_files\": "
                  "[\"scaler.pkl\"]}}",
                  "'gpu' is unknown" },
                { "{\"platform\": {}}", "model_file" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(model_archive_freep) struct model_archive *a = new_archive("scikit", cases[i].map);
                CLEANUP(model_freep) struct model *m = NULL;
                struct err e = { 0 };

                add_scaler(a);
                add_linear(a);
                if (model_load_archive(a, &m, &e) >= 0 || !strstr(e.text, cases[i].words))
                        fail_msg("case %zu: '%s'", i, e.text);
                assert_null(m);
        }
}

static void metadata_that_lie_are_refused(void **state)
{
        static const struct {
                const char *find, *by, *words;
        } cases[] = {
                { "\"mae\": 2.5", "\"machine_spec\": {\"cores\": \"eight\"}", "machine_spec" },
                { "\"mae\": 2.5", "\"mae\": \"small\"", "mae" },
                { "AbsPower", "IdlePower", "IdlePower" },
                { "map.json", "/etc/map.json", "archive has no '/etc/map.json'" },
                { "[\"a\", \"b\"]", "\"a b\"", "features" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(model_archive_freep) struct model_archive *a = new_archive("scikit", GOOD_MAP);
                CLEANUP(model_freep) struct model *m = NULL;
                char *text = a->entries[0].data, *at = strstr(text, cases[i].find);
                CLEANUP(buf_done) struct buf b;
                struct err e = { 0 };

                assert_non_null(at);
                buf_init(&b, 4096);
                (void)buf_append(&b, text, (size_t)(at - text));
                (void)buf_puts(&b, cases[i].by);
                (void)buf_puts(&b, at + strlen(cases[i].find));
                free(text);
                a->entries[0].size = b.size;
                a->entries[0].data = TAKE(b.data);
                add_scaler(a);
                add_linear(a);
                if (model_load_archive(a, &m, &e) != -EBADMSG || !strstr(e.text, cases[i].words))
                        fail_msg("case %zu: '%s'", i, e.text);
        }
}

static void code_in_a_pickle_is_refused_by_its_name(void **state)
{
        static const char bytes[] = "\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x08touch ow\x85R.";
        CLEANUP(model_archive_freep) struct model_archive *model = new_archive("scikit", GOOD_MAP);
        CLEANUP(model_archive_freep) struct model_archive *scaler = new_archive("scikit", GOOD_MAP);

        (void)state;
        add_scaler(model);
        add(model, "platform.pkl", bytes, sizeof(bytes) - 1);
        refused(model, -ENOTSUP, "'posix.system'");
        add(scaler, "scaler.pkl", bytes, sizeof(bytes) - 1);
        add_linear(scaler);
        refused(scaler, -ENOTSUP, "platform': scaler.pkl: pickle names the class 'posix.system'");
}

static void numbers_that_no_model_has_are_refused(void **state)
{
        static const double none[] = { 100, 0 }, wild[] = { 1, NAN };

        (void)state;
        for (int i = 0; i < 2; i++) {
                CLEANUP(model_archive_freep) struct model_archive *a = new_archive("scikit", GOOD_MAP);
                CLEANUP(buf_done) struct buf s, p;

                put_max_abs(&s, i == 0 ? none : scale, 2);
                put_linear(&p, i == 1 ? wild : coefficients, 2, 0);
                add(a, "scaler.pkl", s.data, s.size);
                add(a, "platform.pkl", p.data, p.size);
                refused(a, -EBADMSG, i == 0 ? "divides by 0" : "finite");
        }
}

/* ---- the kinds of scikit-learn, each small enough to be computed by hand ---- */

/* An archive of the usual scaler and one model's pickle, which goes. */
static struct model *load_kind(struct buf *pickle)
{
        CLEANUP(model_archive_freep) struct model_archive *a = new_archive("scikit", GOOD_MAP);

        add_scaler(a);
        add(a, "platform.pkl", pickle->data, pickle->size);
        buf_done(pickle);
        return load(a);
}

static void put_attr_text(struct buf *b, const char *name, const char *text)
{
        put_text(b, name);
        put_text(b, text);
}

static void a_support_vector_is_a_bell(void **state)
{
        static const double vector[] = { 1, 2 }, dual[] = { 3 }, intercept[] = { 0.5 };
        CLEANUP(model_freep) struct model *m = NULL;
        struct buf b;

        (void)state;
        put_begin(&b);
        put_object(&b, "sklearn.svm._classes", "SVR");
        put_attr_text(&b, "kernel", "rbf");
        put_attr_array(&b, "support_vectors_", vector, 1, 2);
        put_attr_array(&b, "_dual_coef_", dual, 1, 1);
        put_attr_array(&b, "_intercept_", intercept, 1, 0);
        put_text(&b, "_gamma");
        put_float(&b, 0.25);
        put_object_end(&b);
        put_byte(&b, '.');
        m = load_kind(&b);
        assert_true(fabs(predict(m, 20, 100) - 3.5) < 1e-12);
        assert_true(fabs(predict(m, 20, 300) - (3 * exp(-0.25 * 4) + 0.5)) < 1e-12);
}

static void of_neighbours_as_near_the_first_rows_count(void **state)
{
        static const double rows[] = { 1, 1, 0, 0, 0, 0, 0, 0 }, y[] = { 100, 1, 2, 4 };
        CLEANUP(model_freep) struct model *m = NULL;
        struct buf b;

        (void)state;
        put_begin(&b);
        put_object(&b, "sklearn.neighbors._regression", "KNeighborsRegressor");
        put_text(&b, "n_neighbors");
        put_int(&b, 2);
        put_attr_text(&b, "weights", "uniform");
        put_attr_text(&b, "effective_metric_", "euclidean");
        put_attr_text(&b, "_fit_method", "brute");
        put_attr_array(&b, "_fit_X", rows, 4, 2);
        put_attr_array(&b, "_y", y, 4, 0);
        put_object_end(&b);
        put_byte(&b, '.');
        m = load_kind(&b);
        assert_true(fabs(predict(m, 0, 0) - 1.5) < 1e-12);
        assert_true(fabs(predict(m, 10, 100) - 50.5) < 1e-12);
}

/* x0 <= 0.5 ? 7 : 9 */
static void put_tree(struct buf *b, int left)
{
        static const double values[] = { 0, 7, 9 };
        struct {
                int64_t left, right, feature;
                double threshold, impurity;
                int64_t samples;
                double weight;
        } nodes[3] = { { left, 2, 0, 0.5, 0, 2, 2 },
                       { -1, -1, -2, -2, 0, 1, 1 },
                       { -1, -1, -2, -2, 0, 1, 1 } };

        put_begin(b);
        put_object(b, "sklearn.tree._classes", "DecisionTreeRegressor");
        put_text(b, "tree_");
        put_class(b, "sklearn.tree._tree", "Tree");
        PUT(b, ")R}(");
        put_text(b, "node_count");
        put_int(b, 3);
        put_text(b, "nodes");
        put_reconstructed(b, 3);
        put_node_dtype(b);
        PUT(b, "\x89"
               "C\xa8");
        put(b, (const char *)nodes, sizeof(nodes));
        PUT(b, "tb");
        put_attr_array(b, "values", values, 3, 0);
        put_object_end(b);
        put_object_end(b);
        put_byte(b, '.');
}

static void a_tree_compares_scaled_float32(void **state)
{
        CLEANUP(model_freep) struct model *m = NULL;
        struct buf b;

        (void)state;
        put_tree(&b, 1);
        m = load_kind(&b);
        assert_true(fabs(predict(m, 0, 50) - 7) < 1e-12);
        assert_true(fabs(predict(m, 0, 50.0000000001) - 7) < 1e-12); /* the same float32 */
        assert_true(fabs(predict(m, 0, 50.1) - 9) < 1e-12);
        assert_string_equal(model_component_note(m, 0), "1 tree, 3 nodes");
}

static void a_tree_that_is_none_is_refused(void **state)
{
        static const int children[] = { 0, 3, -2 };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(children); i++) {
                CLEANUP(model_archive_freep) struct model_archive *a = new_archive("scikit", GOOD_MAP);
                CLEANUP(buf_done) struct buf b;

                put_tree(&b, children[i]);
                add_scaler(a);
                add(a, "platform.pkl", b.data, b.size);
                refused(a, -EBADMSG, "tree has a");
        }
}

static void a_pipeline_may_bring_its_scaler(void **state)
{
        static const double mean[] = { 10, 20 }, deviation[] = { 2, 4 };
        CLEANUP(model_archive_freep)
        struct model_archive *a = new_archive("scikit", MAP("platform.pkl", "[\"a\", \"b\"]", "[]"));
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(buf_done) struct buf b;

        (void)state;
        put_begin(&b);
        put_object(&b, "sklearn.pipeline", "Pipeline");
        put_text(&b, "steps");
        PUT(&b, "](");
        put_text(&b, "scale");
        put_object(&b, "sklearn.preprocessing._data", "StandardScaler");
        put_attr_array(&b, "mean_", mean, 2, 0);
        put_attr_array(&b, "scale_", deviation, 2, 0);
        put_object_end(&b);
        PUT(&b, "\x86");
        put_text(&b, "nothing");
        PUT(&b, "N\x86");
        put_text(&b, "model");
        put_object(&b, "sklearn.linear_model._ridge", "Ridge");
        put_attr_array(&b, "coef_", coefficients, 2, 0);
        put_text(&b, "intercept_");
        put_float(&b, 100);
        put_object_end(&b);
        PUT(&b, "\x86"
                "e");
        put_object_end(&b);
        put_byte(&b, '.');
        add(a, "platform.pkl", b.data, b.size);
        m = load(a);
        assert_true(fabs(predict(m, 12, 28) - (5 * 1 + 7 * 2 + 100)) < 1e-12);
        assert_string_equal(model_component_kind(m, 0), "Ridge");
}

/* ---- curves ---- */

static void put_curve(struct buf *b, const char *module, const char *function, const double *popt, int n,
                      int index)
{
        put_begin(b);
        put_object(b, "trainer.curvefit", "CurveFitModel");
        put_text(b, "fit_func");
        put_class(b, module, function);
        put_attr_array(b, "popt", popt, n, 0);
        put_text(b, "feature_index");
        put_int(b, index);
        put_object_end(b);
        put_byte(b, '.');
}

static void a_curve_depends_on_the_feature_it_was_fitted_on(void **state)
{
        static const double popt[] = { 3, 2, 1 };
        CLEANUP(model_archive_freep) struct model_archive *a = new_archive("curvefit", GOOD_MAP);
        CLEANUP(model_freep) struct model *m = NULL;
        CLEANUP(buf_done) struct buf b;

        (void)state;
        put_curve(&b, "train.trainer.LogarithmicRegressionTrainer.main", "log_func", popt, 3, 1);
        add_scaler(a);
        add(a, "platform.pkl", b.data, b.size);
        m = load(a); /* feature 1 of [b, a], scaled by 10 */
        assert_true(fabs(predict(m, 20, 1e3) - (3 * log(2 * 2.0 + 1) + 1)) < 1e-12);
        assert_string_equal(model_component_kind(m, 0), "logarithmic");
}

static void malformed_curves_are_refused(void **state)
{
        static const double popt[] = { 3, 2, 1 };
        static const struct {
                const char *function;
                int n, index;
                const char *words;
        } cases[] = {
                { "log_func", 2, 0, "2 numbers instead of 3" },
                { "log_func", 3, 2, "feature 2 of 2" },
                { "log_func", 3, -1, "feature -1 of 2" },
                { "p0_func", 3, 0, "'p0_func'" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(model_archive_freep) struct model_archive *a = new_archive("curvefit", GOOD_MAP);
                CLEANUP(model_freep) struct model *m = NULL;
                CLEANUP(buf_done) struct buf b;
                struct err e = { 0 };

                put_curve(&b, "train.trainer.LogarithmicRegressionTrainer.main", cases[i].function, popt,
                          cases[i].n, cases[i].index);
                add_scaler(a);
                add(a, "platform.pkl", b.data, b.size);
                if (model_load_archive(a, &m, &e) >= 0 || !strstr(e.text, cases[i].words))
                        fail_msg("case %zu: '%s'", i, e.text);
        }
}

static void weights_serve_where_a_curve_pickle_was_left_out(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = new_archive("curvefit", GOOD_MAP);
        CLEANUP(model_freep) struct model *m = NULL;

        (void)state;
        add_scaler(a);
        add_text(a, "weight.json",
                 "{\"model_name\": \"ExponentialRegressionTrainer_3\", \"platform\": {\"All_Weights\": "
                 "{\"Categorical_Variables\": {}, \"Numerical_Variables\": {\"a\": {\"scale\": 10}}, "
                 "\"CurveFit_Weights\": [2, 1, 4]}}}");
        m = load(a);
        assert_true(fabs(predict(m, 10, 0) - (2 * exp(1) + 4)) < 1e-12);
}

/* ---- damage ---- */

static const char *const published[] = {
        "v0.7/specpower-0.7.11/acpi/AbsPower/BPFOnly/SGDRegressorTrainer_275.zip",
        "v0.7/specpower-0.7.11/acpi/AbsPower/BPFOnly/PolynomialRegressionTrainer_38.zip",
        "v0.7/specpower-0.7.11/acpi/AbsPower/BPFOnly/ExponentialRegressionTrainer_130.zip",
        "v0.7/specpower-0.7.11/acpi/AbsPower/BPFOnly/XgboostFitTrainer_59.zip",
        "v0.7/specpower-0.7.11/acpi/AbsPower/BPFOnly/SVRRegressorTrainer_40.zip",
        "v0.7/specpower-0.7.11/acpi/AbsPower/BPFOnly/GradientBoostingRegressorTrainer_137.zip",
        "v0.7/specpower-0.7.11/acpi/DynPower/BPFOnly/KNeighborsRegressorTrainer_6.zip",
        "v0.6/nx12/std_v0.6/rapl/DynPower/KubeletOnly/SVRRegressorTrainer_1.zip",
        "v0.6/nx12/std_v0.6/acpi/AbsPower/KubeletOnly/KNeighborsRegressorTrainer_1.zip",
};

static bool read_zip(const char *name, struct buf *zip)
{
        char path[512];

        (void)snprintf(path, sizeof(path), GOLDEN "%s", name);
        buf_init(zip, MODEL_ARCHIVE_MAX);
        return file_read(path, zip, NULL) >= 0;
}

static void a_truncated_archive_is_refused(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(published); i++) {
                CLEANUP(buf_done) struct buf zip;

                if (!read_zip(published[i], &zip))
                        skip();
                for (size_t n = 0; n < zip.size; n++) {
                        struct model_archive *a = NULL;

                        assert_true(model_archive_unpack(zip.data, n, &a, NULL) < 0);
                }
        }
}

/* Members that are cut: every byte of small ones, a few hundred places of large ones. */
static void a_truncated_member_is_refused(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(published); i++) {
                CLEANUP(model_archive_freep) struct model_archive *a = NULL;
                CLEANUP(buf_done) struct buf zip;

                if (!read_zip(published[i], &zip))
                        skip();
                assert_int_equal(model_archive_unpack(zip.data, zip.size, &a, NULL), 0);
                for (size_t m = 0; m < a->n; m++) {
                        void *data = a->entries[m].data;
                        size_t size = a->entries[m].size, step = size / 400 + 1;

                        if (!strcmp(a->entries[m].name, "weight.json")) /* not read here */
                                continue;
                        for (size_t n = size - 1; n + step > step; n -= n < step ? n : step) {
                                CLEANUP(model_freep) struct model *model = NULL;
                                char *cut = calloc(1, n + 1);

                                memcpy(cut, data, n);
                                a->entries[m].data = cut;
                                a->entries[m].size = n;
                                assert_true(model_load_archive(a, &model, NULL) < 0);
                                free(cut);
                        }
                        a->entries[m].data = data;
                        a->entries[m].size = size;
                }
        }
}

static void flipped_bits_are_survived(void **state)
{
        uint32_t random = 1;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(published); i++) {
                CLEANUP(model_archive_freep) struct model_archive *a = NULL;
                CLEANUP(buf_done) struct buf zip;

                if (!read_zip(published[i], &zip))
                        skip();
                assert_int_equal(model_archive_unpack(zip.data, zip.size, &a, NULL), 0);
                for (int times = 0; times < 400; times++) {
                        CLEANUP(model_freep) struct model *model = NULL;
                        struct model_entry *entry;
                        char *byte;

                        random = random * 1664525 + 1013904223;
                        entry = &a->entries[(random >> 8) % a->n];
                        random = random * 1664525 + 1013904223;
                        byte = (char *)entry->data + (random >> 3) % entry->size;
                        *byte ^= (char)(1 << (random & 7));
                        if (model_load_archive(a, &model, NULL) == 0)
                                (void)model_check(model, NULL);
                        *byte ^= (char)(1 << (random & 7));
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_scaled_linear_model_predicts),
                cmocka_unit_test(a_model_without_its_scaler_is_refused),
                cmocka_unit_test(maps_that_do_not_fit_are_refused_in_words),
                cmocka_unit_test(metadata_that_lie_are_refused),
                cmocka_unit_test(code_in_a_pickle_is_refused_by_its_name),
                cmocka_unit_test(numbers_that_no_model_has_are_refused),
                cmocka_unit_test(a_support_vector_is_a_bell),
                cmocka_unit_test(of_neighbours_as_near_the_first_rows_count),
                cmocka_unit_test(a_tree_compares_scaled_float32),
                cmocka_unit_test(a_tree_that_is_none_is_refused),
                cmocka_unit_test(a_pipeline_may_bring_its_scaler),
                cmocka_unit_test(a_curve_depends_on_the_feature_it_was_fitted_on),
                cmocka_unit_test(malformed_curves_are_refused),
                cmocka_unit_test(weights_serve_where_a_curve_pickle_was_left_out),
                cmocka_unit_test(a_truncated_archive_is_refused),
                cmocka_unit_test(a_truncated_member_is_refused),
                cmocka_unit_test(flipped_bits_are_survived),
        };

        return cmocka_run_group_tests_name("model/upstream", tests, NULL, NULL);
}
