/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/json.h"
#include "model-server/data/recording.h"
#include "model-server/learn/fit.h"
#include "model-server/learn/offline.h"

/* An invented recording: package = 20 + 0.04 cpu + 3 per million pages, two containers, steps of 3 s. */
#define STEPS 60
struct shape {
        const char *instance;
        int64_t start_ms; /* each node has a clock of its own */
        int reset_at;     /* counters go back to 0 here; 0: never */
        int missing_at;   /* no energy sample here; 0: none */
        int begins_at;    /* the second container's first sample */
        double idle;
};

static double cpu(int i, int container)
{
        return 500 + 300 * sin(i * 0.7 + container);
}

static json_t *series(const char *metric, const char *instance, const char *container)
{
        json_t *labels = json_pack("{s:s, s:s, s:s, s:s}", "__name__", metric, "instance", instance, "job",
                                   "kepler", "source", "rapl-sysfs");

        if (container)
                (void)json_object_set_new(labels, "container_name", json_string(container));
        return json_pack("{s:o, s:[]}", "metric", labels, "values");
}

static void put(json_t *result, int64_t ts_ms, double value)
{
        char text[64];

        (void)snprintf(text, sizeof(text), "%.9f", value);
        (void)json_array_append_new(json_object_get(result, "values"),
                                    json_pack("[f, s]", (double)ts_ms / 1000, text));
}

static void add(json_t *recording, const char *metric, json_t *result)
{
        if (!json_object_get(recording, metric))
                (void)json_object_set_new(recording, metric, json_array());
        (void)json_array_append_new(json_object_get(recording, metric), result);
}

static void record(json_t *recording, const struct shape *s)
{
        static const char cpu_name[] = "kepler_container_bpf_cpu_time_ms_total",
                          page_name[] = "kepler_container_bpf_page_cache_hit_total",
                          watt_name[] = "kepler_node_package_joules_total";
        json_t *c[2], *p[2], *w[2];
        double cpu_total[2] = { 1000, 0 }, joules[2] = { 5000, 900 };

        for (int k = 0; k < 2; k++) {
                c[k] = series(cpu_name, s->instance, k ? "job" : "system");
                p[k] = series(page_name, s->instance, k ? "job" : "system");
                w[k] = series(watt_name, s->instance, NULL);
                (void)json_object_set_new(json_object_get(w[k], "metric"), "mode",
                                          json_string(k ? "idle" : "dynamic"));
        }
        for (int i = 0; i <= STEPS; i++) {
                int64_t ts = s->start_ms + 3000 * i;
                double use = 0;

                if (s->reset_at && i == s->reset_at)
                        joules[0] = cpu_total[0] = 0;
                for (int k = 0; k < 2 && i > 0; k++) {
                        if (k && i < s->begins_at)
                                continue;
                        cpu_total[k] += 3 * cpu(i, k);
                        use += cpu(i, k);
                }
                if (i > 0) {
                        joules[0] += 3 * 0.04 * use;
                        joules[1] += 3 * s->idle;
                }
                for (int k = 0; k < 2; k++) {
                        if (!k || i >= s->begins_at) {
                                put(c[k], ts, cpu_total[k]);
                                put(p[k], ts, 0);
                        }
                        if (!s->missing_at || i != s->missing_at || k)
                                put(w[k], ts, joules[k]);
                }
        }
        for (int k = 0; k < 2; k++) {
                add(recording, cpu_name, c[k]);
                add(recording, page_name, p[k]);
                add(recording, watt_name, w[k]);
        }
}

static struct dataset extract(json_t *recording, uint64_t *skipped)
{
        const struct recording_query q = { energy_source_find("rapl-sysfs"), false, "vm", NULL };
        struct dataset data;
        struct err e;

        if (recording_extract(recording, &q, &data, skipped, &e) < 0)
                fail_msg("%s", e.text);
        return data;
}

static void assert_linear(const struct dataset *data, double idle)
{
        for (size_t i = 0; i < data->n; i++) {
                const struct row *row = &data->rows[i].row;

                assert_float_equal(row->watts[COMPONENT_PACKAGE],
                                   idle + 0.04 * row->features[FEATURE_CPU_TIME], 1e-4);
        }
}

static void rows_are_rates_of_whole_intervals(void **state)
{
        json_t *recording = json_object();
        struct dataset data;
        uint64_t skipped;

        (void)state;
        record(recording, &(struct shape){ "n1", 1700000000000, 0, 0, 20, 20 });
        data = extract(recording, &skipped);
        assert_int_equal(data.n, STEPS);
        assert_int_equal(skipped, 0);
        assert_linear(&data, 20); /* also the row in which the second container begins */
        dataset_done(&data);
        json_decref(recording);
}

static void counter_that_goes_back_gives_no_row(void **state)
{
        json_t *recording = json_object();
        struct dataset data;
        uint64_t skipped;

        (void)state;
        record(recording, &(struct shape){ "n1", 1700000000000, 30, 0, 0, 20 });
        data = extract(recording, &skipped);
        assert_int_equal(data.n, STEPS - 1);
        assert_int_equal(skipped, 1);
        assert_linear(&data, 20);
        dataset_done(&data);
        json_decref(recording);
}

static void missing_sample_is_a_gap(void **state)
{
        json_t *recording = json_object();
        struct dataset data;
        uint64_t skipped;

        (void)state;
        record(recording, &(struct shape){ "n1", 1700000000000, 0, 30, 0, 20 });
        data = extract(recording, &skipped);
        assert_int_equal(data.n, STEPS - 2);
        assert_linear(&data, 20);
        dataset_done(&data);
        json_decref(recording);
}

static void nodes_have_clocks_of_their_own_and_are_not_added_up(void **state)
{
        json_t *recording = json_object();
        struct dataset data;
        uint64_t skipped;

        (void)state;
        record(recording, &(struct shape){ "n1", 1700000000000, 0, 0, 0, 20 });
        record(recording, &(struct shape){ "n2", 1700000001234, 0, 0, 0, 20 });
        data = extract(recording, &skipped);
        assert_int_equal(data.nodes_n, 2);
        assert_int_equal(data.n, 2 * STEPS);
        assert_linear(&data, 20);
        dataset_done(&data);
        json_decref(recording);
}

static void min_isolator_takes_each_nodes_own_idle_power(void **state)
{
        json_t *recording = json_object();
        struct dataset data;
        double min[2] = { INFINITY, INFINITY };
        uint64_t skipped;

        (void)state;
        record(recording, &(struct shape){ "n1", 1700000000000, 0, 0, 0, 20 });
        record(recording, &(struct shape){ "n2", 1700000001234, 0, 0, 0, 50 });
        data = extract(recording, &skipped);
        dataset_subtract_min(&data);
        for (size_t i = 0; i < data.n; i++)
                min[data.rows[i].node] =
                        fmin(min[data.rows[i].node], data.rows[i].row.watts[COMPONENT_PACKAGE]);
        assert_float_equal(min[0], 0, 1e-9);
        assert_float_equal(min[1], 0, 1e-9);
        dataset_done(&data);
        json_decref(recording);
}

static int train(const char *isolator, const char *trainer, bool idle, struct offline_result *ret,
                 struct err *e)
{
        const struct offline_settings settings = { 1, 1 << 20 };
        struct offline_progress progress = { 0 };
        json_t *recording = json_object(), *request;
        char *text;
        int r;

        record(recording, &(struct shape){ "n1", 1700000000000, 0, 0, 0, 20 });
        request = json_pack("{s:s, s:s, s:{s:[s], s:[s], s:s, s:{}, s:o}, s:o}", "name", "mine",
                            "energy_source", "rapl-sysfs", "trainer", "abs_trainers", trainer, "dyn_trainers",
                            trainer, "isolator", isolator, "isolator_args", "idle_prom_response",
                            idle ? json_incref(recording) : json_object(), "prom_response", recording);
        text = json_dumps(request, 0);
        r = offline_train(text, strlen(text), &settings, 1700000000000, &progress, ret, e);
        free(text);
        json_decref(request);
        return r;
}

static void request_becomes_a_pipeline_of_both_outputs(void **state)
{
        struct offline_result result;
        struct err e;

        (void)state;
        assert_int_equal(train("MinIdleIsolator", "SGDRegressorTrainer", false, &result, &e), 0);
        assert_string_equal(result.name, "mine");
        assert_int_equal(result.models, 2); /* BPFOnly, AbsPower and DynPower */
        assert_int_equal(result.rows, STEPS);
        assert_string_equal(result.left_out, "");
        assert_memory_equal(result.zip.data, "PK", 2);
        offline_result_done(&result);
}

static void every_trainer_gives_a_model_that_loads(void **state)
{
        (void)state;
        for (size_t i = 0; i < fitters_n; i++) {
                struct offline_result result;
                struct err e;

                if (train("none", fitters[i].name, false, &result, &e) < 0)
                        fail_msg("%s: %s", fitters[i].name, e.text);
                assert_int_equal(result.models, 2);
                offline_result_done(&result);
        }
}

static void each_fit_is_near_the_law_by_its_exported_file(void **state)
{
        json_t *recording = json_object();
        static const struct machine_spec spec = { "acme", 8, 1, 31, 3100 };
        const char *const columns[] = { "bpf_cpu_time_ms", "bpf_page_cache_hit" };
        struct dataset data;
        uint64_t skipped;

        (void)state;
        record(recording, &(struct shape){ "n1", 1700000000000, 0, 0, 0, 20 });
        data = extract(recording, &skipped);
        for (size_t i = 0; i < fitters_n; i++) {
                const struct fit_input in = { .data = &data,
                                              .place = { energy_source_find("rapl-sysfs"), 0,
                                                         (int)(feature_group_find("BPFOnly") -
                                                               feature_groups),
                                                         0, fitters[i].name },
                                              .spec = &spec,
                                              .min_rows = 10,
                                              .seed = 1 };
                struct artifact *a;
                struct model *model;
                size_t index[MODEL_FEATURES_MAX];
                double row[2] = { 1000, 0 }, out[MODEL_COMPONENTS_MAX];
                struct err e;

                if (fitters[i].fit(&in, &a, &e) < 0 || model_load_archive(a->archive, &model, &e) < 0)
                        fail_msg("%s: %s", fitters[i].name, e.text);
                assert_int_equal(model_bind(model, columns, 2, index, &e), 0);
                model_predict(model, index, row, 2, 1, out);
                if (fabs(out[0] - 60) > 6 || !(artifact_mae(a) < 6))
                        fail_msg("%s: %g W instead of 60, mae %g", fitters[i].name, out[0], artifact_mae(a));
                model_free(model);
                artifact_free(a);
        }
        dataset_done(&data);
        json_decref(recording);
}

static void same_request_gives_the_same_bytes(void **state)
{
        struct offline_result a, b;
        struct err e;

        (void)state;
        assert_int_equal(train("none", "SGDRegressorTrainer", false, &a, &e), 0);
        assert_int_equal(train("none", "SGDRegressorTrainer", false, &b, &e), 0);
        assert_int_equal(a.zip.size, b.zip.size);
        assert_memory_equal(a.zip.data, b.zip.data, a.zip.size);
        offline_result_done(&a);
        offline_result_done(&b);
}

static void profile_without_background_left_trains_no_dynamic_power(void **state)
{
        struct offline_result result;
        struct err e;

        (void)state;
        /* The idle recording names all containers that there are: nothing is left to explain power with. */
        assert_int_equal(train("ProfileBackgroundIsolator", "SGDRegressorTrainer", true, &result, &e), 0);
        assert_int_equal(result.models, 1);
        assert_string_equal(result.left_out, "DynPower/SGDRegressorTrainer");
        offline_result_done(&result);
        assert_int_equal(train("ProfileBackgroundIsolator", "SGDRegressorTrainer", false, &result, &e),
                         -EINVAL);
}

static void bad_requests_are_refused_in_words(void **state)
{
        static const struct {
                const char *body, *words;
                int result;
        } cases[] = {
                { "", "", -EBADMSG },
                { "[]", "not an object", -EBADMSG },
                { "{\"surprise\": 1}", "surprise", -EBADMSG },
                { "{\"name\": \"x\"}", "energy_source", -EBADMSG },
                { "{\"name\": \"../x\", \"energy_source\": \"acpi\"}", "file name", -EINVAL },
                { "{\"name\": \"x\", \"energy_source\": \"trained_power_model\"}", "measured", -EINVAL },
                { "{\"name\": \"x\", \"energy_source\": \"intel\"}", "intel", -EINVAL },
                { "{\"name\": \"x\", \"energy_source\": \"acpi\"}", "prom_response", -EBADMSG },
                { "{\"name\": \"x\", \"energy_source\": \"acpi\", \"prom_response\": {}}", "trainer",
                  -EBADMSG },
                { "{\"name\": \"x\", \"energy_source\": \"acpi\", \"prom_response\": {}, \"trainer\": "
                  "{\"abs_trainers\":"
                  " [\"Nope\"]}}",
                  "Nope", -EINVAL },
                { "{\"name\": \"x\", \"energy_source\": \"acpi\", \"prom_response\": {}, \"trainer\": "
                  "{\"abs_trainers\":"
                  " [], \"dyn_trainers\": [], \"isolator\": \"TrainIsolator\"}}",
                  "TrainIsolator", -EINVAL },
                { "{\"name\": \"x\", \"energy_source\": \"acpi\", \"prom_response\":"
                  " {\"kepler_node_platform_joules_total\": [{\"metric\": {\"source\": \"acpi\"}, \"value\": "
                  "[1, \"2\"]}]},"
                  " \"trainer\": {\"abs_trainers\": [], \"dyn_trainers\": [], \"isolator\": \"none\"}}",
                  "range query", -EBADMSG },
                { "{\"name\": \"x\", \"energy_source\": \"acpi\", \"prom_response\": {},"
                  " \"trainer\": {\"abs_trainers\": [], \"dyn_trainers\": [], \"isolator\": \"none\"}}",
                  "0 rows", -ENODATA },
        };
        const struct offline_settings settings = { 1, 1 << 20 };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct offline_progress progress = { 0 };
                struct offline_result result;
                struct err e;

                assert_int_equal(offline_train(cases[i].body, strlen(cases[i].body), &settings, 0, &progress,
                                               &result, &e),
                                 cases[i].result);
                if (!strstr(e.text, cases[i].words))
                        fail_msg("'%s' does not say '%s'", e.text, cases[i].words);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(rows_are_rates_of_whole_intervals),
                cmocka_unit_test(counter_that_goes_back_gives_no_row),
                cmocka_unit_test(missing_sample_is_a_gap),
                cmocka_unit_test(nodes_have_clocks_of_their_own_and_are_not_added_up),
                cmocka_unit_test(min_isolator_takes_each_nodes_own_idle_power),
                cmocka_unit_test(request_becomes_a_pipeline_of_both_outputs),
                cmocka_unit_test(every_trainer_gives_a_model_that_loads),
                cmocka_unit_test(each_fit_is_near_the_law_by_its_exported_file),
                cmocka_unit_test(same_request_gives_the_same_bytes),
                cmocka_unit_test(profile_without_background_left_trains_no_dynamic_power),
                cmocka_unit_test(bad_requests_are_refused_in_words),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
