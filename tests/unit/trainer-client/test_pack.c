/* SPDX-License-Identifier: Apache-2.0 */
/* Contract 2 against a database made by hand: store_read() and pack_lines() together. */
#include "tests/unit/trainer-client/samples.h"

#include <string.h>
#include "common/json.h"
#include "trainer-client/pack.h"
#include "trainer-client/store.h"

#define OUT_MAX ((size_t)16 << 20)

/* Epoch 'e1': intervals 1 (first), 2 (contiguous), 3 (behind a gap of 5 s). Container c1 from the beginning,
 * c2 from interval 2 on, c3 from interval 3 on. The package sensor misses interval 2. Epoch 'e2': interval 4.
 */
static const char recording[] =
        "INSERT INTO epoch VALUES (1, 'e1', 'boot1', 'node', 'n1', 500, "
        "  '{\"processor\": \"acme_z1\", \"cores\": 8, \"chips\": 1, \"cpu_architecture\": \"Zed Lake\"}');"
        "INSERT INTO epoch VALUES (2, 'e2', 'boot2', 'node', 'n1', 99000, '{}');"
        "INSERT INTO " INTERVAL " VALUES (1, 1, 1000, 4000, 3000000000, 3000000000, 'bpf', 'exact');"
        "INSERT INTO " INTERVAL " VALUES (2, 1, 4000, 7000, 3000000000, 6000000000, 'bpf', 'exact');"
        "INSERT INTO " INTERVAL " VALUES (3, 1, 12000, 15000, 3000000000, 9000000000, 'proc', 'exact');"
        "INSERT INTO " INTERVAL " VALUES (4, 2, 99000, 102000, 3000000000, 3000000000, 'proc', 'exact');"
        "INSERT INTO " ENTITY " VALUES (1, 'node', '', '', '', '', '');"
        "INSERT INTO " ENTITY " VALUES (2, 'container', 'c1', '/c1', 'pod', 'main', 'ns');"
        "INSERT INTO " ENTITY " VALUES (3, 'container', 'c2', '/c2', '', '', '');"
        "INSERT INTO " ENTITY " VALUES (4, 'container', 'c3', '/c3', '', '', '');"
        /*                          id  ent  cpu_time   page  tx    rx    block cyc   ins   miss */
        "INSERT INTO " USAGE " VALUES (1, 1, 999, 999, 999, 999, 999, 999, 999, 999);"
        "INSERT INTO " USAGE " VALUES (1, 2, 100500000, 3, 1, 2, 0, NULL, NULL, NULL);"
        "INSERT INTO " USAGE " VALUES (2, 2, 200000001, 4, 1, 2, 0, NULL, NULL, NULL);"
        "INSERT INTO " USAGE " VALUES (2, 3, 5000000, 0, 7, 0, 0, NULL, NULL, NULL);"
        "INSERT INTO " USAGE " VALUES (3, 2, 300000000, 4, 1, 2, 0, NULL, NULL, NULL);"
        "INSERT INTO " USAGE " VALUES (3, 3, 6000000, 0, NULL, 0, 0, NULL, NULL, NULL);"
        "INSERT INTO " USAGE " VALUES (3, 4, 1000000, 0, 0, 0, 0, NULL, NULL, NULL);"
        "INSERT INTO " USAGE " VALUES (4, 2, 8000000, 0, 0, 0, 0, NULL, NULL, NULL);"
        "INSERT INTO sensor VALUES (1, 'rapl-sysfs', 'package', '0', 'measured');"
        "INSERT INTO sensor VALUES (2, 'acpi', 'platform', 'energy1', 'simulated');"
        "INSERT INTO " POWER " VALUES (1, 1, 45000000, 15000000, '');"
        "INSERT INTO " POWER " VALUES (3, 1, 145000001, 35000000, '');"
        "INSERT INTO " POWER " VALUES (1, 2, 60000000, 60000000, '');"
        "INSERT INTO " POWER " VALUES (2, 2, 120000000, 120000000, '');"
        "INSERT INTO " POWER " VALUES (3, 2, 180000000, 180000000, '');"
        "INSERT INTO " POWER " VALUES (4, 2, 60000000, 60000000, '');";

static int recorded(void **state)
{
        if (samples_setup(state) != 0)
                return -1;
        samples_exec(*state, recording);
        return 0;
}

/* Pack up to `max` intervals behind `after`; returns how many there were. */
static int pack_rows(const struct samples *s, int64_t after, size_t max, size_t max_rows, struct buf *out,
                     size_t *ret_samples)
{
        CLEANUP(pack_batch_freep) struct pack_batch *batch = NULL;
        CLEANUP(store_closep) struct store *store = NULL;
        struct err e = { "" };
        int n;

        buf_init(out, OUT_MAX);
        if (store_open(s->path, NULL, &store, &e) < 0)
                fail_msg("%s", e.text);
        n = store_read(store, &(struct store_range){ after, INT64_MAX, max, max_rows }, &batch, &e);
        if (n < 0)
                fail_msg("%s", e.text);
        if (n > 0)
                assert_int_equal(pack_lines(batch, out, ret_samples, &e), 0);
        return n;
}

static int pack(const struct samples *s, int64_t after, size_t max, struct buf *out)
{
        size_t samples;

        return pack_rows(s, after, max, 1000, out, &samples);
}

/* What a series has, "ts=value ts=value"; the series is found by texts that its label set must contain. */
static void assert_series(const struct buf *lines, const char *a, const char *b, const char *want)
{
        char got[1024] = "";
        size_t used = 0;

        for (const char *line = lines->data; line && *line; line = strchr(line, '\n') + 1) {
                CLEANUP(json_decrefp) json_t *object = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
                CLEANUP(freep) char *metric = json_dumps(json_object_get(object, "metric"), JSON_SORT_KEYS);
                const json_t *values = json_object_get(object, "values");
                const json_t *timestamps = json_object_get(object, "timestamps");

                assert_non_null(metric);
                if (!strstr(metric, a) || !strstr(metric, b))
                        continue;
                assert_string_equal(got, ""); /* one series only */
                assert_int_equal(json_array_size(values), json_array_size(timestamps));
                for (size_t i = 0; i < json_array_size(values); i++)
                        used += (size_t)snprintf(got + used, sizeof(got) - used, "%s%lld=%.10g", i ? " " : "",
                                                 json_integer_value(json_array_get(timestamps, i)),
                                                 json_number_value(json_array_get(values, i)));
        }
        assert_string_equal(got, want);
}

static void a_batch_never_spans_two_epochs(void **state)
{
        CLEANUP(buf_done) struct buf out;
        CLEANUP(buf_done) struct buf second;

        assert_int_equal(pack(*state, 0, 100, &out), 3);
        assert_null(strstr(out.data, "\"e2\""));
        assert_int_equal(pack(*state, 3, 100, &second), 1);
        assert_null(strstr(second.data, "\"e1\""));
        assert_series(&second, "bpf_cpu_time_ms", "c1", "99000=0 102000=8");
        assert_series(&second, "platform", "idle", "99000=0 102000=60");
}

static void the_first_interval_of_an_epoch_starts_at_zero(void **state)
{
        CLEANUP(buf_done) struct buf out;

        assert_int_equal(pack(*state, 0, 1, &out), 1);
        assert_series(&out, "bpf_cpu_time_ms", "c1", "1000=0 4000=100.5");
        assert_series(&out, "package_joules", "dynamic", "1000=0 4000=30");
        assert_series(&out, "package_joules", "idle", "1000=0 4000=15");
        assert_series(&out, "measured_seconds", "", "1000=0 4000=3");
}

static void behind_a_gap_a_series_starts_where_it_stood(void **state)
{
        CLEANUP(buf_done) struct buf out;

        assert_int_equal(pack(*state, 2, 1, &out), 1); /* the totals of before are behind the cursor */
        assert_series(&out, "bpf_cpu_time_ms", "c1", "12000=200.000001 15000=300");
        assert_series(&out, "platform", "idle", "12000=120 15000=180");
        assert_series(&out, "measured_seconds", "", "12000=6 15000=9");
        assert_series(&out, "kepler_node_info", "", "12000=1 15000=1");
}

static void a_new_container_starts_at_zero(void **state)
{
        CLEANUP(buf_done) struct buf out;
        CLEANUP(buf_done) struct buf one;

        assert_int_equal(pack(*state, 0, 100, &out), 3);
        assert_series(&out, "bpf_cpu_time_ms", "c2", "4000=0 7000=5 12000=5 15000=6");
        assert_series(&out, "bpf_cpu_time_ms", "c3", "12000=0 15000=1");
        assert_int_equal(pack(*state, 1, 1, &one), 1);
        assert_series(&one, "bpf_cpu_time_ms", "c2", "4000=0 7000=5");
}

static void a_container_that_comes_back_is_not_new(void **state)
{
        CLEANUP(buf_done) struct buf out;

        samples_exec(*state, "DELETE FROM usage WHERE interval_id = 2 AND entity_id = 2");
        assert_int_equal(pack(*state, 2, 1, &out), 1); /* was in interval 1, not in 2 */
        assert_series(&out, "bpf_cpu_time_ms", "c1", "15000=300");
}

/* Nobody knows any more whether c1 was there in what retention removed: its total is no activity of
 * interval 3. */
static void after_a_loss_no_container_is_taken_for_new(void **state)
{
        CLEANUP(buf_done) struct buf out;

        samples_exec(*state, "DELETE FROM interval WHERE interval_id = 1");
        samples_exec(*state, "DELETE FROM usage WHERE interval_id = 2 AND entity_id = 2");
        assert_int_equal(pack(*state, 0, 100, &out), 2);
        assert_series(&out, "bpf_cpu_time_ms", "c1", "15000=300");
}

static void null_features_have_no_samples(void **state)
{
        CLEANUP(buf_done) struct buf out;

        assert_int_equal(pack(*state, 0, 100, &out), 3);
        assert_null(strstr(out.data, "cpu_cycles"));
        assert_series(&out, "net_tx", "c2", "4000=0 7000=7"); /* NULL in interval 3 */
        assert_null(strstr(out.data, "999"));                 /* the node's row is not a container's */
}

static void a_missing_sensor_row_is_a_gap(void **state)
{
        CLEANUP(buf_done) struct buf out;

        assert_int_equal(pack(*state, 0, 100, &out), 3);
        assert_series(&out, "package_joules", "dynamic", "1000=0 4000=30 15000=110.000001");
}

static void only_measured_power_names_its_sensor(void **state)
{
        CLEANUP(buf_done) struct buf out;

        assert_int_equal(pack(*state, 0, 100, &out), 3);
        assert_series(&out, "kepler_node_info", "\"components_power_source\": \"rapl-sysfs\"",
                      "1000=1 4000=1 7000=1 12000=1 15000=1");
        assert_non_null(strstr(out.data, "\"platform_power_source\":\"simulated\""));
        assert_series(&out, "platform_joules", "\"source\": \"acpi\"", "");
}

static void the_node_is_described_per_way_of_measuring(void **state)
{
        CLEANUP(buf_done) struct buf out;

        assert_int_equal(pack(*state, 0, 100, &out), 3);
        assert_series(&out, "wattloop_node\"", "\"feature_source\": \"bpf\"", "1000=1 4000=1 7000=1");
        assert_series(&out, "wattloop_node\"", "\"feature_source\": \"proc\"", "12000=1 15000=1");
        assert_non_null(strstr(out.data, "\"cores\":\"8\""));
        assert_null(strstr(out.data, "\"memory\"")); /* unknown */
}

static void lines_are_exact_and_sorted(void **state)
{
        CLEANUP(buf_done) struct buf out;
        const char *last = NULL;
        size_t n = 0;

        assert_int_equal(pack(*state, 3, 100, &out), 1);
        assert_non_null(
                strstr(out.data,
                       "{\"metric\":{\"__name__\":\"kepler_container_bpf_cpu_time_ms_total\",\"container_"
                       "id\":\"c1\","
                       "\"container_name\":\"main\",\"container_namespace\":\"ns\",\"epoch\":\"e2\","
                       "\"instance\":\"n1\","
                       "\"job\":\"wattloop\",\"node_id\":\"node\",\"pod_name\":\"pod\",\"source\":\"bpf\"},"
                       "\"values\":[0,8],\"timestamps\":[99000,102000]}\n"));
        for (const char *line = out.data; *line; line = strchr(line, '\n') + 1) {
                if (last)
                        assert_true(strncmp(last, line, strcspn(line, "}")) < 0);
                last = line;
                n++;
        }
        assert_int_equal(n, 5 + 2 + 3);
}

static void the_same_range_gives_the_same_bytes(void **state)
{
        CLEANUP(buf_done) struct buf first;
        CLEANUP(buf_done) struct buf again;

        assert_int_equal(pack(*state, 1, 1, &first), 1);
        samples_exec(*state, "INSERT INTO " INTERVAL
                             " VALUES (5, 2, 102000, 105000, 3000000000, 6000000000, 'bpf', 'exact')");
        samples_exec(*state, "INSERT INTO " USAGE " VALUES (5, 2, 9000000, 0, 0, 0, 0, NULL, NULL, NULL)");
        assert_int_equal(pack(*state, 1, 1, &again), 1);
        assert_int_equal(first.size, again.size);
        assert_memory_equal(first.data, again.data, first.size);
}

static void samples_are_counted(void **state)
{
        CLEANUP(buf_done) struct buf out;
        size_t samples, counted = 0;

        assert_int_equal(pack_rows(*state, 0, 100, 1000, &out, &samples), 3);
        for (const char *line = out.data; *line; line = strchr(line, '\n') + 1) {
                CLEANUP(json_decrefp) json_t *object = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);

                counted += json_array_size(json_object_get(object, "values"));
        }
        assert_int_equal(samples, counted);
}

static void after_retention_nothing_is_invented(void **state)
{
        CLEANUP(buf_done) struct buf out;

        samples_exec(*state, "PRAGMA foreign_keys = ON; DELETE FROM interval WHERE interval_id <= 2");
        assert_int_equal(pack(*state, 0, 100, &out), 1);
        assert_series(&out, "bpf_cpu_time_ms", "c1",
                      "15000=300"); /* no zero: this is not the epoch's beginning */
        assert_series(&out, "bpf_cpu_time_ms", "c3", "15000=1");
        assert_series(&out, "platform", "idle", "15000=180");
}

static void rows_bound_a_batch_but_one_interval_goes_whole(void **state)
{
        CLEANUP(buf_done) struct buf out;
        CLEANUP(buf_done) struct buf empty;
        size_t samples;

        assert_int_equal(pack_rows(*state, 0, 100, 1, &out, &samples), 1);
        assert_int_equal(pack_rows(*state, 4, 100, 1000, &empty, &samples), 0);
}

static void hostile_names_stay_inside_their_strings(void **state)
{
        CLEANUP(buf_done) struct buf out;

        samples_exec(*state,
                     "UPDATE entity SET pod_name = 'a\"},{\\\n\x01' || char(233) WHERE entity_id = 2");
        assert_int_equal(pack(*state, 0, 100, &out), 3);
        for (const char *line = out.data; *line; line = strchr(line, '\n') + 1) {
                CLEANUP(json_decrefp) json_t *object = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);

                assert_int_equal(json_object_size(object), 3);
        }
}

#define RECORDED(test) cmocka_unit_test_setup_teardown(test, recorded, samples_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                RECORDED(a_batch_never_spans_two_epochs),
                RECORDED(the_first_interval_of_an_epoch_starts_at_zero),
                RECORDED(behind_a_gap_a_series_starts_where_it_stood),
                RECORDED(a_new_container_starts_at_zero),
                RECORDED(a_container_that_comes_back_is_not_new),
                RECORDED(after_a_loss_no_container_is_taken_for_new),
                RECORDED(null_features_have_no_samples),
                RECORDED(a_missing_sensor_row_is_a_gap),
                RECORDED(only_measured_power_names_its_sensor),
                RECORDED(the_node_is_described_per_way_of_measuring),
                RECORDED(lines_are_exact_and_sorted),
                RECORDED(the_same_range_gives_the_same_bytes),
                RECORDED(samples_are_counted),
                RECORDED(after_retention_nothing_is_invented),
                RECORDED(rows_bound_a_batch_but_one_interval_goes_whole),
                RECORDED(hostile_names_stay_inside_their_strings),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
