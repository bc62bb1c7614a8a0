/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/power.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "common/clock.h"
#include "tree.h"

#define SECOND UINT64_C(1000000000)

static const struct power_source_ops *const estimate = &power_source_estimate;
static struct power_reading readings[SENSORS_MAX];
static struct err error;
static bool measured[FEATURE_N];
static uint64_t delta[FEATURE_N];

#define LINEAR(bias, weight)                                                                                 \
        "{\"model_name\": \"SGDRegressorTrainer_3\", \"provenance\": \"simulated\", \"package\": "           \
        "{\"All_Weights\": "                                                                                 \
        "{\"Bias_Weight\": " bias ", \"Categorical_Variables\": {}, \"Numerical_Variables\": "               \
        "{\"bpf_cpu_time_ms\": {\"scale\": 1000.0, \"weight\": " weight "}}}}}"

static struct power_source *open_with(const char *socket_path, const char *weight)
{
        const struct power_source_options options = { .sysfs_root = tree,
                                                      .procfs_root = "/proc",
                                                      .estimator_socket = socket_path,
                                                      .estimate_weight = weight,
                                                      .estimate_energy_source = "rapl-sysfs" };
        struct power_source *s = NULL;

        if (estimate->open(&options, &s, &error) < 0)
                fail_msg("%s", error.text);
        return s;
}

static int read_after(struct power_source *s, uint64_t ns)
{
        const struct power_context context = { .duration_ns = ns, .node_delta = delta, .measured = measured };

        memset(readings, 0, sizeof(readings));
        memset(&error, 0, sizeof(error));
        return estimate->read(s, &context, readings, &error);
}

static int set_up(void **state)
{
        memset(measured, 0, sizeof(measured));
        memset(delta, 0, sizeof(delta));
        measured[FEATURE_CPU_TIME] = measured[FEATURE_PAGE_CACHE] = true;
        return tree_set_up(state);
}

static void a_weight_file_is_evaluated_on_rates_per_second(void **state)
{
        struct power_source *s;

        (void)state;
        tree_write("weight.json", LINEAR("10.0", "20.0"));
        s = open_with("", tree_path("weight.json"));
        assert_int_equal(read_after(s, 0), 4);
        assert_false(readings[0].valid);      /* the base */
        delta[FEATURE_CPU_TIME] = 3 * SECOND; /* 1.5 CPUs for 2 s: 1500 ms/s */
        assert_int_equal(read_after(s, 2 * SECOND), 4);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj, 40e6 * 2, 1);
        assert_float_equal(readings[0].idle_uj, 10e6 * 2, 1);
        assert_string_equal(readings[0].component, "package");
        assert_string_equal(readings[0].source, "estimate");
        assert_string_equal(readings[0].unit, "0");
        assert_int_equal(readings[0].provenance, PROVENANCE_ESTIMATED);
        assert_memory_equal(readings[0].model, "SGDRegressorTrainer_3 ", 22);
        assert_int_equal(strlen(readings[0].model), 22 + 64); /* and the content id */
        assert_string_equal(readings[0].model_provenance, "simulated");
        assert_false(readings[3].valid); /* the model has no dram */
        estimate->close(s);
}

static void a_changed_weight_file_is_read_again_and_a_bad_one_is_not_used(void **state)
{
        struct power_source *s;
        char old_model[160];

        (void)state;
        tree_write("weight.json", LINEAR("10.0", "20.0"));
        s = open_with("", tree_path("weight.json"));
        (void)read_after(s, 0);
        (void)read_after(s, SECOND);
        memcpy(old_model, readings[0].model, sizeof(old_model));
        tree_write("weight.json", "{\"package\": {\"All_Weights\": {\"Bias_Weight\": NaN");
        (void)read_after(s, SECOND);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj, 10e6, 1);
        tree_write("weight.json", LINEAR("15.0", "20.0"));
        (void)read_after(s, SECOND);
        assert_float_equal(readings[0].energy_uj, 15e6, 1);
        assert_float_equal(readings[0].idle_uj, 15e6, 1); /* of the new model */
        assert_string_not_equal(readings[0].model, old_model);
        assert_int_equal(unlink(tree_path("weight.json")), 0);
        (void)read_after(s, SECOND);
        assert_true(readings[0].valid);
        estimate->close(s);
}

static void without_a_usable_weight_file_there_is_a_gap_until_one_comes(void **state)
{
        struct power_source *s;

        (void)state;
        s = open_with("", tree_path("weight.json"));
        (void)read_after(s, 0);
        assert_true(read_after(s, SECOND) < 0);
        assert_non_null(strstr(error.text, "cannot find weight file"));
        tree_write("weight.json", "[]");
        assert_true(read_after(s, SECOND) < 0);
        assert_non_null(strstr(error.text, "is not used"));
        tree_write("weight.json", LINEAR("10.0", "20.0"));
        assert_int_equal(read_after(s, SECOND), 4);
        assert_true(readings[0].valid);
        estimate->close(s);
}

static void a_feature_that_is_not_measured_here_is_named(void **state)
{
        struct power_source *s;

        (void)state;
        measured[FEATURE_CPU_TIME] = false;
        tree_write("weight.json", LINEAR("10.0", "20.0"));
        s = open_with("", tree_path("weight.json"));
        (void)read_after(s, 0);
        assert_true(read_after(s, SECOND) < 0);
        assert_non_null(strstr(error.text, "bpf_cpu_time_ms"));
        estimate->close(s);
}

/* ---- an estimator that says what it is told to ---- */

struct fake {
        int fd;
        pthread_t thread;
        const char *replies[8]; /* one per connection; NULL: close without one; "…": never an answer */
        int n;
        json_t *requests[8]; /* owned */
};

static void *serve(void *context)
{
        struct fake *f = context;

        for (int i = 0; i < f->n; i++) {
                int fd = accept(f->fd, NULL, NULL);
                char request[8192];
                ssize_t n;

                if (fd < 0)
                        break;
                n = recv(fd, request, sizeof(request), 0); /* small enough to come in one piece */
                f->requests[i] = json_loadb(request, n > 0 ? (size_t)n : 0, 0, NULL);
                for (const char *p = f->replies[i]; p && *p && *p != '~'; p++) /* in the smallest pieces */
                        if (send(fd, p, 1, MSG_NOSIGNAL) != 1)
                                break;
                if (f->replies[i]) {
                        char byte;

                        (void)!recv(fd, &byte, 1, 0); /* like Kepler's, it does not close first */
                }
                close(fd);
        }
        return NULL;
}

static void fake_start(struct fake *f)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/estimator.sock", tree);
        f->fd = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_true(f->fd >= 0);
        assert_int_equal(bind(f->fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(f->fd, 4), 0);
        assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
}

static void fake_stop(struct fake *f)
{
        (void)shutdown(f->fd, SHUT_RDWR); /* ends an accept */
        (void)pthread_join(f->thread, NULL);
        close(f->fd);
        for (int i = 0; i < f->n; i++)
                json_decref(f->requests[i]);
        (void)unlink(tree_path("estimator.sock"));
}

#define REPLY(package, dram)                                                                                 \
        "{\"powers\": {\"package\": [" package "], \"dram\": [" dram                                         \
        "]}, \"msg\": \"\", \"core_ratio\": 1, "                                                             \
        "\"model\": \"XgboostFitTrainer_1\", \"id\": \"abc123\", \"provenance\": \"simulated\"}"

static void the_socket_is_asked_with_measured_features_and_once_with_zeros(void **state)
{
        struct fake f = { .replies = { REPLY("41.5", "3.0"), REPLY("12.0", "4.0"), REPLY("30", "2") },
                          .n = 3 };
        struct power_source *s;
        json_t *request;

        (void)state;
        fake_start(&f);
        s = open_with(tree_path("estimator.sock"), "");
        (void)read_after(s, 0);
        delta[FEATURE_CPU_TIME] = SECOND;
        delta[FEATURE_PAGE_CACHE] = 500000;
        assert_int_equal(read_after(s, 2 * SECOND), 4);
        assert_true(readings[0].valid);
        assert_float_equal(readings[0].energy_uj, 83e6, 1);
        assert_float_equal(readings[0].idle_uj, 24e6, 1);
        assert_float_equal(readings[3].energy_uj, 6e6, 1);
        assert_float_equal(readings[3].idle_uj, 6e6, 1); /* never more than there is */
        assert_false(readings[1].valid);
        assert_string_equal(readings[0].model, "XgboostFitTrainer_1 abc123");
        assert_string_equal(readings[0].model_provenance, "simulated");
        (void)read_after(s, SECOND); /* same model: no second question about idle */
        assert_float_equal(readings[0].energy_uj, 30e6, 1);

        request = f.requests[0];
        assert_non_null(request);
        assert_string_equal(json_string_value(json_object_get(request, "output_type")), "AbsPower");
        assert_string_equal(json_string_value(json_object_get(request, "source")), "rapl-sysfs");
        assert_int_equal(json_array_size(json_object_get(request, "metrics")), 2);
        assert_string_equal(json_string_value(json_array_get(json_object_get(request, "metrics"), 1)),
                            "bpf_page_cache_hit");
        request = json_array_get(json_object_get(request, "values"), 0);
        assert_float_equal(json_number_value(json_array_get(request, 0)), 500, 1e-9);
        assert_float_equal(json_number_value(json_array_get(request, 1)), 0.25, 1e-9);
        request = json_array_get(json_object_get(f.requests[1], "values"), 0);
        assert_float_equal(json_number_value(json_array_get(request, 0)), 0, 0);
        estimate->close(s);
        fake_stop(&f);
}

static void a_dead_socket_is_a_gap_and_recovers_by_itself(void **state)
{
        struct fake f = { .replies = { REPLY("41.5", "3.0"), REPLY("12.0", "4.0") }, .n = 2 };
        struct power_source *s;

        (void)state;
        s = open_with(tree_path("estimator.sock"), "");
        (void)read_after(s, 0);
        assert_int_equal(read_after(s, SECOND), -ENOENT);
        fake_start(&f);
        assert_int_equal(read_after(s, SECOND), 4);
        assert_true(readings[0].valid);
        estimate->close(s);
        fake_stop(&f);
}

static void a_lying_estimator_is_a_gap(void **state)
{
        static const struct {
                const char *reply, *words;
        } cases[] = {
                { NULL, "closed without a reply" },
                { "no json}", "no complete reply" },
                { "{\"powers\": {}, \"msg\": \"no model\"}", "no model" },
                { "{\"powers\": [], \"msg\": \"\"}", "no answer" },
                { "{\"powers\": {\"package\": [1, 2]}}", "unusable watts" },
                { "{\"powers\": {\"package\": [-1]}}", "unusable watts" },
                { "{\"powers\": {\"package\": [1e9]}}", "unusable watts" },
                { "{\"powers\": {\"package\": [\"1\"]}}", "unusable watts" },
                { "{\"powers\": {\"package\": 5}}", "unusable watts" },
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct fake f = { .replies = { cases[i].reply }, .n = 1 };
                struct power_source *s;

                fake_start(&f);
                s = open_with(tree_path("estimator.sock"), "");
                (void)read_after(s, 0);
                assert_true(read_after(s, SECOND) < 0);
                if (!strstr(error.text, cases[i].words))
                        fail_msg("'%s' is not in '%s'", cases[i].words, error.text);
                estimate->close(s);
                fake_stop(&f);
        }
}

static void a_silent_estimator_costs_half_a_second(void **state)
{
        struct fake f = { .replies = { "~" }, .n = 1 };
        struct power_source *s;
        uint64_t begin;

        (void)state;
        fake_start(&f);
        s = open_with(tree_path("estimator.sock"), "");
        (void)read_after(s, 0);
        begin = clock_monotonic_ns();
        assert_int_equal(read_after(s, SECOND), -ETIMEDOUT);
        assert_in_range(clock_monotonic_ns() - begin, SECOND / 2, 2 * SECOND);
        estimate->close(s);
        fake_stop(&f);
}

static void estimate_is_used_when_no_sensor_is_found(void **state)
{
        static const char *const names[] = { "rapl", "acpi" };
        struct power_source_options options = { .sysfs_root = tree,
                                                .procfs_root = "/proc",
                                                .estimator_socket = "",
                                                .estimate_weight = "",
                                                .estimate_energy_source = "rapl-sysfs" };
        struct power_set set;

        (void)state;
        power_open(names, 2, &options, &set);
        assert_int_equal(power_usable(&set), 0);
        assert_int_equal(set.states[0].result, -ENOENT);
        power_close(&set);

        options.estimate_weight = tree_path("weight.json");
        power_open(names, 2, &options, &set);
        assert_int_equal(power_usable(&set), 1);
        assert_true(set.states[2].fallback);
        power_close(&set);

        tree_write("class/hwmon/hwmon0/name", "power_meter\n");
        tree_write("class/hwmon/hwmon0/power1_average", "1000\n");
        options.estimate_weight = "weight.json";
        power_open(names, 2, &options, &set);
        assert_int_equal(power_usable(&set), 1);
        assert_non_null(set.states[1].source); /* the sensor, not the estimate */
        power_close(&set);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tree_tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_weight_file_is_evaluated_on_rates_per_second),
                TEST(a_changed_weight_file_is_read_again_and_a_bad_one_is_not_used),
                TEST(without_a_usable_weight_file_there_is_a_gap_until_one_comes),
                TEST(a_feature_that_is_not_measured_here_is_named),
                TEST(the_socket_is_asked_with_measured_features_and_once_with_zeros),
                TEST(a_dead_socket_is_a_gap_and_recovers_by_itself),
                TEST(a_lying_estimator_is_a_gap),
                TEST(a_silent_estimator_costs_half_a_second),
                TEST(estimate_is_used_when_no_sensor_is_found),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
