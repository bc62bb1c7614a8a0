/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/file.h"
#include "model-server/server.h"

struct fixture {
        char dir[64], database[96], models[96];
        char *accepted[1], *trainers[1];
        struct options options;
        struct server server;
        struct err e;
};

static void start(struct fixture *f)
{
        if (server_open(&f->server, &f->options, &f->e) < 0)
                fail_msg("%s", f->e.text);
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        (void)snprintf(f->dir, sizeof(f->dir), "/tmp/wattloop-test-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        (void)snprintf(f->database, sizeof(f->database), "%s/server.db", f->dir);
        (void)snprintf(f->models, sizeof(f->models), "%s/pipelines", f->dir);
        f->accepted[0] = (char *)(uintptr_t) "simulated";
        f->trainers[0] = (char *)(uintptr_t) "SGDRegressorTrainer";
        f->options = (struct options){ .token_file = (char *)(uintptr_t) "",
                                       .tls_certificate = (char *)(uintptr_t) "",
                                       .tls_key = (char *)(uintptr_t) "",
                                       .database_path = f->database,
                                       .models_path = f->models,
                                       .pipeline_name = (char *)(uintptr_t) "wattloop",
                                       .signing_key_file = (char *)(uintptr_t) "",
                                       .signing_keys_file = (char *)(uintptr_t) "",
                                       .provenance = { f->accepted, 1 },
                                       .min_rows = 15,
                                       .max_rows = 1000,
                                       .trainers = { f->trainers, 1 },
                                       .trial_rows = 15,
                                       .node_share = 0.5,
                                       .forgetting = 0.999,
                                       .isolator = ISOLATOR_MIN,
                                       .retention_samples_ms = 1000000,
                                       .retention_rows_ms = 1000000,
                                       .publish_interval_ms = 60000,
                                       .import_plain_bytes = 1 << 24,
                                       .import_lines = 1000,
                                       .line_samples = 1000 };
        start(f);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        server_close(&f->server);
        assert_int_equal(file_remove_tree(f->dir, NULL), 0);
        free(f);
        return 0;
}

static double usage(int i)
{
        return 400.0 * i + 100 * (i % 3);
}

static double seconds(int i)
{
        return i;
}

static double joules(int i)
{
        return 20.0 * i + 0.03 * usage(i);
}

static double nothing(int i)
{
        (void)i;
        return 0;
}

static void add_series(struct buf *out, const char *labels, double (*total)(int))
{
        (void)buf_printf(out,
                         "{\"metric\":{\"node_id\":\"n\",\"instance\":\"n\",\"epoch\":\"e\",%s},\"values\":[",
                         labels);
        for (int i = 0; i <= 40; i++)
                (void)buf_printf(out, "%s%.9g", i ? "," : "", total(i));
        (void)buf_puts(out, "],\"timestamps\":[");
        for (int i = 0; i <= 40; i++)
                (void)buf_printf(out, "%s%lld", i ? "," : "", 1700000000000LL + 1000 * i);
        (void)buf_puts(out, "]}\n");
}

static void import_simulated(struct fixture *f)
{
        struct upload upload = { .name = "" }, *uploads = &upload;
        struct buf batch;

        buf_init(&batch, 1 << 20);
        add_series(&batch, "\"__name__\":\"kepler_container_bpf_cpu_time_ms_total\"", usage);
        add_series(&batch, "\"__name__\":\"kepler_container_bpf_page_cache_hit_total\"", nothing);
        add_series(&batch, "\"__name__\":\"kepler_node_package_joules_total\",\"source\":\"simulated\"",
                   joules);
        add_series(&batch, "\"__name__\":\"wattloop_node_measured_seconds_total\"", seconds);
        add_series(&batch, "\"__name__\":\"wattloop_node\",\"cores\":\"8\"", nothing);
        assert_int_equal(batch.failed, 0);
        upload.data = batch.data;
        upload.size = batch.size;
        server_import(&f->server, &uploads, 1);
        assert_int_equal(upload.result, 0);
        assert_int_equal(upload.counts.rows, 40);
        buf_done(&batch);
}

/* Without a word, as after kill -9: whatever is not on the disk is gone. */
static void restart(struct fixture *f)
{
        server_close(&f->server);
        start(f);
}

static void catch_up(struct fixture *f)
{
        if (learn_catch_up(f->server.learn, &f->e) < 0)
                fail_msg("%s", f->e.text);
}

static size_t offers(struct fixture *f)
{
        struct catalog *c = server_catalog(&f->server);
        size_t n = catalog_pipelines(c) ? pipeline_offers(catalog_pipeline(c, 0)) : 0;

        catalog_unref(c);
        return n;
}

static void what_was_learned_before_a_kill_is_published_after_it(void **state)
{
        struct fixture *f = *state;

        import_simulated(f);
        assert_int_equal(offers(f), 0);
        restart(f);
        catch_up(f);
        assert_int_equal(offers(f), 2); /* AbsPower and DynPower */
}

static void restart_publishes_nothing_that_is_published(void **state)
{
        struct fixture *f = *state;

        import_simulated(f);
        catch_up(f);
        assert_int_equal(offers(f), 2); /* AbsPower and DynPower */
        restart(f);
        catch_up(f);
        assert_int_equal(offers(f), 2); /* AbsPower and DynPower */
        assert_int_equal(f->server.counters.publications, 0);
}

static void models_of_power_that_is_no_longer_accepted_go_even_after_a_kill(void **state)
{
        struct fixture *f = *state;

        import_simulated(f);
        catch_up(f);
        f->accepted[0] = (char *)(uintptr_t) "measured";
        restart(f); /* forgets the learners, and is killed before it publishes that */
        restart(f);
        catch_up(f);
        assert_int_equal(offers(f), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(what_was_learned_before_a_kill_is_published_after_it),
                TEST(restart_publishes_nothing_that_is_published),
                TEST(models_of_power_that_is_no_longer_accepted_go_even_after_a_kill),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
