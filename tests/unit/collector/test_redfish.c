/* SPDX-License-Identifier: Apache-2.0 */
/* The collector's side of Redfish, with a shell script in the place of the helper. */
#include "collector/power.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <time.h>
#include "tree.h"

#define SECOND UINT64_C(1000000000)

static const struct power_source_ops *const redfish = &power_source_redfish;
static struct power_reading reading;

/* A helper that runs these shell commands. */
static int try_open(const char *commands, struct power_source **ret, struct err *e)
{
        char helper[TREE_PATH_MAX], text[1024];
        const struct power_source_options options = { .procfs_root = tree,
                                                      .redfish = { .url = "https://bmc.example",
                                                                   .credentials = "/secret",
                                                                   .ca_file = "",
                                                                   .verify_tls = true,
                                                                   .interval_ms = 1500,
                                                                   .helper = helper } };

        (void)snprintf(helper, sizeof(helper), "%s/helper", tree);
        if (commands) {
                (void)snprintf(text, sizeof(text), "#!/bin/sh\ncd '%s'\n%s\n", tree, commands);
                tree_write("helper", text);
                assert_int_equal(chmod(helper, 0755), 0);
        }
        return redfish->open(&options, ret, e);
}

static struct power_source *open_helper(const char *commands)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        if (try_open(commands, &s, &e) < 0)
                fail_msg("%s", e.text);
        return s;
}

static void read_after(struct power_source *s, uint64_t ns)
{
        const struct power_context context = { .duration_ns = ns };
        struct err e = { 0 };

        memset(&reading, 0, sizeof(reading));
        assert_int_equal(redfish->read(s, &context, &reading, &e), 1);
}

/* Waits until the helper has made a file. */
static void wait_for(const char *name)
{
        struct timespec t = { 0, 5000000 };

        for (int i = 0; access(tree_path(name), F_OK) < 0; i++) {
                if (i == 2000)
                        fail_msg("no '%s' in 10 s", name);
                (void)nanosleep(&t, NULL);
        }
}

static void without_a_url_there_is_no_sensor(void **state)
{
        const struct power_source_options options = { .procfs_root = tree, .redfish = { .url = "" } };
        struct power_source *s = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(redfish->open(&options, &s, &e), -ENOENT);
        assert_string_equal(e.text, "redfish.url is not set");
}

static void a_missing_helper_is_an_error_that_names_it(void **state)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(try_open(NULL, &s, &e), -ENOEXEC);
        assert_non_null(strstr(e.text, "/helper'"));
}

static void the_helper_is_told_what_is_configured(void **state)
{
        struct power_source *s = open_helper("echo \"$@\" >arguments; echo watts 1; exec sleep 100");
        char text[512];

        (void)state;
        assert_true(file_read_small(AT_FDCWD, tree_path("arguments"), text, sizeof(text)) > 0);
        assert_string_equal(text, "run --url https://bmc.example --credentials /secret --ca-file  "
                                  "--verify-tls true --interval 1500ms");
        redfish->close(s);
}

static void answers_become_joules(void **state)
{
        struct power_source *s = open_helper("echo watts 300.5; while [ ! -e go ]; do sleep 0.01; done;\n"
                                             "printf 'watts 5'; echo 00.5; touch done; exec sleep 100");

        (void)state;
        tree_write("cpuinfo", "flags\t\t: fpu\n");
        read_after(s, 0);
        assert_false(reading.valid);
        assert_string_equal(reading.source, "redfish");
        assert_string_equal(reading.component, "platform");
        assert_int_equal(reading.provenance, PROVENANCE_MEASURED);
        read_after(s, 2 * SECOND);
        assert_true(reading.valid); /* held */
        assert_float_equal(reading.energy_uj, 601e6, 1e-3);
        tree_write("go", "");
        wait_for("done");
        read_after(s, 2 * SECOND);
        assert_float_equal(reading.energy_uj, 801e6, 1e-3);
        redfish->close(s);
}

static void a_guest_has_no_controller_of_its_own(void **state)
{
        struct power_source *s;

        (void)state;
        tree_write("cpuinfo", "flags\t\t: fpu hypervisor\n");
        s = open_helper("echo watts 300; exec sleep 100");
        read_after(s, 0);
        assert_int_equal(reading.provenance, PROVENANCE_VIRTUAL);
        redfish->close(s);
}

static void an_old_answer_is_none(void **state)
{
        struct power_source *s =
                open_helper("echo watts 300; echo error 110 slow; touch done; exec sleep 100");

        (void)state;
        wait_for("done");
        read_after(s, 0);
        read_after(s, 20 * SECOND);
        assert_true(reading.valid);
        read_after(s, 20 * SECOND);
        assert_false(reading.valid);
        assert_int_equal(reading.error, -110);
        redfish->close(s);
}

static void refused_credentials_are_told_at_once(void **state)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(try_open("echo error 13 no such user; exec sleep 100", &s, &e), -EACCES);
        assert_string_equal(e.text, "no such user");
}

static void nonsense_is_no_answer(void **state)
{
        static const char *const lines[] = { "watts nan",  "watts -1",     "watts 1e9", "watts 300 W",
                                             "watts",      "wats 300",     "error",     "error x y",
                                             "error -5 x", "error 99999 x" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
                struct power_source *s;
                char commands[128];

                (void)snprintf(commands, sizeof(commands), "echo '%s'; exec sleep 100", lines[i]);
                s = open_helper(commands);
                read_after(s, 0);
                assert_int_equal(reading.error, -EPROTO);
                redfish->close(s);
        }
}

static void an_endless_line_is_no_answer(void **state)
{
        struct power_source *s =
                open_helper("echo watts 1; head -c 3000 /dev/zero | tr '\\0' x; touch done; exec sleep 100");

        (void)state;
        wait_for("done");
        for (int i = 0; i < 3; i++)
                read_after(s, SECOND);
        assert_true(reading.valid);
        redfish->close(s);
}

static void a_helper_that_died_is_started_again(void **state)
{
        struct power_source *s =
                open_helper("if [ -e once ]; then echo watts 200; touch again; exec sleep 100; fi\n"
                            "touch once; echo watts 100; sleep 0.1; touch dying");
        struct timespec t = { 0, 200000000 };

        (void)state;
        wait_for("dying");
        (void)nanosleep(&t, NULL);
        read_after(s, 0);
        read_after(s, SECOND); /* finds it dead; the answer is held */
        assert_true(reading.valid);
        read_after(s, 31 * SECOND);
        wait_for("again");
        (void)nanosleep(&t, NULL);
        read_after(s, SECOND);
        read_after(s, SECOND);
        assert_true(reading.valid);
        assert_float_equal(reading.energy_uj, 200e6, 1e-3);
        redfish->close(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, tree_set_up, tree_tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(without_a_url_there_is_no_sensor),      TEST(a_missing_helper_is_an_error_that_names_it),
                TEST(the_helper_is_told_what_is_configured), TEST(answers_become_joules),
                TEST(a_guest_has_no_controller_of_its_own),  TEST(an_old_answer_is_none),
                TEST(refused_credentials_are_told_at_once),  TEST(nonsense_is_no_answer),
                TEST(an_endless_line_is_no_answer),          TEST(a_helper_that_died_is_started_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
