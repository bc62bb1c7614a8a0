/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/file.h"
#include "common/json.h"
#include "model-server/learn/fit.h"
#include "model-server/serve/publish.h"
#include "model/model.h"

struct fixture {
        char dir[64];
        struct dataset data;
        struct machine_spec spec;
        struct pipeline_node node;
        struct pipeline_input in;
        struct artifact *artifacts[2]; /* owned */
        struct pipeline *pipeline;
        struct err e;
};

static void record(struct fixture *f, int from, int to, enum provenance provenance)
{
        for (int i = from; i < to; i++) {
                struct example x = { .row_id = i, .turn = (uint64_t)i };
                struct row *row = &x.row;

                *row = (struct row){ .start_ms = i,
                                     .end_ms = i + 1,
                                     .seconds = 1,
                                     .provenance = provenance,
                                     .definition = "exact" };
                row->has_feature = 1u << FEATURE_CPU_TIME | 1u << FEATURE_PAGE_CACHE;
                row->features[FEATURE_CPU_TIME] = 500 + 400 * sin(i);
                row->features[FEATURE_PAGE_CACHE] = 1 + sin(1.7 * i);
                row->has_watts = 1u << COMPONENT_PACKAGE | 1u << COMPONENT_DRAM | 1u << COMPONENT_PLATFORM;
                row->watts[COMPONENT_PACKAGE] = 20 + 0.05 * row->features[FEATURE_CPU_TIME] + sin(5 * i);
                row->watts[COMPONENT_DRAM] = 3 + row->features[FEATURE_PAGE_CACHE];
                row->watts[COMPONENT_PLATFORM] = 40 + 0.07 * row->features[FEATURE_CPU_TIME];
                assert_int_equal(dataset_add(&f->data, &x, &f->e), 0);
        }
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        (void)snprintf(f->dir, sizeof(f->dir), "/tmp/wattloop-test-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        assert_int_equal(dataset_node(&f->data, "n1", NULL), 0);
        f->spec = (struct machine_spec){ "acme_z1", 8, 1, 31, 3100 };
        f->node = (struct pipeline_node){ 0, (char *)"n1" };
        f->in = (struct pipeline_input){ .name = "wattloop",
                                         .isolator = "min",
                                         .now_ms = 1700000000000,
                                         .artifacts = (const struct artifact *const *)f->artifacts,
                                         .specs = &f->spec,
                                         .specs_n = 1,
                                         .nodes = &f->node,
                                         .nodes_n = 1 };
        *state = f;
        return 0;
}

static void drop_models(struct fixture *f)
{
        for (size_t i = 0; i < f->in.n; i++)
                artifact_free(f->artifacts[i]);
        f->in.n = 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        drop_models(f);
        pipeline_unref(f->pipeline);
        dataset_done(&f->data);
        assert_int_equal(file_remove_tree(f->dir, NULL), 0);
        free(f);
        return 0;
}

static int bpf_only(void)
{
        return (int)(feature_group_find("BPFOnly") - feature_groups);
}

/* Models of rapl-sysfs and acpi, when there are 30 rows. */
static void train(struct fixture *f)
{
        static const char *const sources[] = { "rapl-sysfs", "acpi" };

        drop_models(f);
        for (int i = 0; i < 2; i++) {
                const struct fit_input in = { .data = &f->data,
                                              .place = { energy_source_find(sources[i]), 0, bpf_only(), 0,
                                                         "SGDRegressorTrainer" },
                                              .spec = &f->spec,
                                              .min_rows = 30 };

                if (fitter_find("SGDRegressorTrainer")->fit(&in, &f->artifacts[i], &f->e) == 0)
                        f->in.n++;
        }
}

static int publish(struct fixture *f)
{
        struct pipeline *next = NULL;
        int r;

        train(f);
        r = publish_pipeline(&f->in, false, f->dir, f->pipeline, &next, &f->e);
        if (r > 0) {
                pipeline_unref(f->pipeline);
                f->pipeline = next;
        }
        return r;
}

static const struct offer *rapl_offer(const struct fixture *f)
{
        return pipeline_find(f->pipeline, energy_source_find("rapl"), 0, bpf_only(), "SGDRegressorTrainer_0");
}

static void too_few_rows_publish_nothing(void **state)
{
        struct fixture *f = *state;

        record(f, 0, 29, PROVENANCE_MEASURED);
        assert_int_equal(publish(f), 0);
        record(f, 29, 30, PROVENANCE_MEASURED);
        assert_int_equal(publish(f), 1);
        assert_int_equal(pipeline_offers(f->pipeline), 2);
}

static void published_files_are_keplers(void **state)
{
        static const char *const files[] = {
                "metadata.json",
                "node_type_index.json",
                "rapl-sysfs_AbsPower_model_metadata.csv",
                "acpi_AbsPower_model_metadata.csv",
                "rapl-sysfs/AbsPower/BPFOnly/SGDRegressorTrainer_0.zip",
                "rapl-sysfs/AbsPower/BPFOnly/SGDRegressorTrainer_0.json",
                "rapl-sysfs/AbsPower/BPFOnly/SGDRegressorTrainer_0/metadata.json",
                "rapl-sysfs/AbsPower/BPFOnly/SGDRegressorTrainer_0/SGDRegressorTrainer_0.json",
                "rapl-sysfs/AbsPower/BPFOnly/SGDRegressorTrainer_0/weight.json",
        };
        struct fixture *f = *state;
        const struct offer *o;
        json_t *metadata;
        char path[256];

        record(f, 0, 50, PROVENANCE_MEASURED);
        assert_int_equal(publish(f), 1);
        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                (void)snprintf(path, sizeof(path), "%s/wattloop/%s", f->dir, files[i]);
                if (access(path, R_OK) < 0)
                        fail_msg("no %s", files[i]);
        }
        o = rapl_offer(f);
        assert_true(o->wattloop);
        assert_int_equal(o->rows, 50);
        assert_string_equal(o->provenance, "measured");
        assert_int_equal(json_parse(o->metadata, strlen(o->metadata), "metadata", &metadata, NULL), 0);
        assert_true(json_integer_value(json_object_get(metadata, "wattloop_version")) == 1);
        assert_true(o->mae == json_number_value(json_object_get(metadata, "package_mae")));
        json_decref(metadata);
        assert_null(strstr(o->weights.text, "provenance"));
        assert_int_equal(pipeline_node_types(f->pipeline)->n, 1);
}

/* From the bytes a client gets to watts: those of the learner, which minimises squares where trainers may
 * choose. */
static void published_models_predict_as_the_learner_does(void **state)
{
        const char *const columns[] = { "bpf_page_cache_hit", "cpu_cycles", "bpf_cpu_time_ms" };
        struct fixture *f = *state;
        struct model_archive *archive = NULL;
        struct model *models[2] = { NULL };
        const struct offer *o;
        struct learner learner;
        struct weights w;

        record(f, 0, 77, PROVENANCE_MEASURED);
        assert_int_equal(publish(f), 1);
        o = rapl_offer(f);
        learner_init(&learner, 2);
        for (size_t i = 0; i < f->data.n; i++)
                (void)learner_absorb(&learner, f->data.rows[i].row.features,
                                     f->data.rows[i].row.watts[COMPONENT_PACKAGE]);
        learner_solve(&learner, &w);
        assert_int_equal(
                model_load_weight(o->weights_named.text, o->weights_named.size, NULL, &models[0], &f->e), 0);
        assert_int_equal(model_archive_unpack(o->archive.text, o->archive.size, &archive, &f->e), 0);
        assert_int_equal(model_load_archive(archive, &models[1], &f->e), 0);
        for (size_t m = 0; m < 2; m++) {
                size_t index[MODEL_FEATURES_MAX], package = 0;

                assert_int_equal(model_bind(models[m], columns, 3, index, &f->e), 0);
                while (strcmp(model_component(models[m], package), "package") != 0)
                        package++;
                for (int i = 0; i < 100; i++) {
                        double row[3] = { 0.02 * i, 1e9, 17.0 * i }, out[MODEL_COMPONENTS_MAX];
                        double learners = weights_predict(&w, (double[]){ row[2], row[0] });

                        model_predict(models[m], index, row, 3, 1, out);
                        assert_true(fabs(out[package] - learners) <= 0.02 * learners); /* another loss */
                }
                model_free(models[m]);
        }
        model_archive_free(archive);
}

static void nothing_new_is_not_published_again(void **state)
{
        struct fixture *f = *state;
        struct stat before, after;
        char path[128], id[65];

        (void)snprintf(path, sizeof(path), "%s/wattloop", f->dir);
        record(f, 0, 50, PROVENANCE_MEASURED);
        assert_int_equal(publish(f), 1);
        assert_int_equal(stat(path, &before), 0);
        f->in.now_ms += 60000;
        assert_int_equal(publish(f), 0);
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(before.st_ino, after.st_ino);
        (void)snprintf(id, sizeof(id), "%s", rapl_offer(f)->content_id);
        record(f, 50, 51, PROVENANCE_MEASURED);
        assert_int_equal(publish(f), 1);
        assert_string_not_equal(id, rapl_offer(f)->content_id);
}

static void simulated_models_say_so(void **state)
{
        struct fixture *f = *state;

        record(f, 0, 49, PROVENANCE_MEASURED);
        record(f, 49, 50, PROVENANCE_SIMULATED);
        assert_int_equal(publish(f), 1);
        assert_string_equal(rapl_offer(f)->provenance, "simulated");
        assert_non_null(strstr(rapl_offer(f)->weights.text, "\"provenance\": \"simulated\""));
}

static void failure_leaves_the_old_pipeline(void **state)
{
        struct fixture *f = *state;
        char path[128];

        record(f, 0, 50, PROVENANCE_MEASURED);
        assert_int_equal(publish(f), 1);
        record(f, 50, 60, PROVENANCE_MEASURED);
        (void)snprintf(path, sizeof(path), "%s/.staging", f->dir);
        assert_int_equal(file_remove_tree(path, NULL), 0);
        assert_int_equal(file_write_atomic(path, "in the way", 10, 0644, NULL), 0);
        assert_true(publish(f) < 0);
        assert_int_equal(rapl_offer(f)->rows, 50);
        assert_int_equal(publish_clean(f->dir, NULL), 0);
        assert_int_equal(publish(f), 1);
        assert_int_equal(rapl_offer(f)->rows, 60);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(too_few_rows_publish_nothing),
                TEST(published_files_are_keplers),
                TEST(published_models_predict_as_the_learner_does),
                TEST(nothing_new_is_not_published_again),
                TEST(simulated_models_say_so),
                TEST(failure_leaves_the_old_pipeline),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
