/* SPDX-License-Identifier: Apache-2.0 */
/* The whole of program_main() with captured output. */
#include "config/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/file.h"

struct options {
        long long interval_ms;
        bool dry_run;
        char *store_path;
};

static const struct option table[] = {
        { "sampling.interval", OPTION_DURATION, offsetof(struct options, interval_ms), "3s", 100, 60000, NULL,
          "Time between samples." },
        { "dry_run", OPTION_BOOL, offsetof(struct options, dry_run), "false", 0, 0, NULL, "Change nothing." },
        { "store.path", OPTION_STRING, offsetof(struct options, store_path), "", 0, 0, NULL,
          "The database." },
        { 0 },
};

/* What run() saw. */
static struct {
        int calls, argc;
        char first[32];
        long long interval_ms;
        bool dry_run;
        char store_path[64];
} seen;
static int run_result;

static int run(const void *options, int argc, char **argv)
{
        const struct options *o = options;

        seen.calls++;
        seen.argc = argc;
        snprintf(seen.first, sizeof(seen.first), "%s", argc > 0 ? argv[0] : "");
        seen.interval_ms = o->interval_ms;
        seen.dry_run = o->dry_run;
        snprintf(seen.store_path, sizeof(seen.store_path), "%s", o->store_path);
        return run_result;
}

static int check(const void *options, struct err *e)
{
        const struct options *o = options;

        if (o->dry_run && o->interval_ms == 4000)
                return err_set(e, -EINVAL, "dry_run does not go with an interval of 4s");
        return 0;
}

static const struct command commands[] = {
        { "run", "", 0, 0, "Record until stopped.", run },
        { "show", "FILE [MORE]", 1, 2, "Show files.", run },
        { 0 },
};
static char default_file[96];
static const struct program program = {
        .name = "wattloop-test",
        .summary = "Tests the command line.",
        .config_default = default_file,
        .commands = commands,
        .options = table,
        .options_size = sizeof(struct options),
        .check = check,
};

static char dir[64], out[16384], err[4096];

static int set_up(void **state)
{
        (void)state;
        memset(&seen, 0, sizeof(seen));
        run_result = 0;
        snprintf(dir, sizeof(dir), "/tmp/wattloop-cli.XXXXXX");
        if (!mkdtemp(dir))
                return -1;
        snprintf(default_file, sizeof(default_file), "%s/default.yaml", dir);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        return file_remove_tree(dir, NULL);
}

static int redirect(int fd, const char *name)
{
        char path[96];
        int saved = dup(fd), to;

        assert_int_equal(path_join(path, sizeof(path), dir, name), 0);
        to = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(to >= 0);
        assert_int_equal(dup2(to, fd), fd);
        close(to);
        return saved;
}

static void collect(int fd, int saved, char *ret, size_t size)
{
        ssize_t n = pread(fd, ret, size - 1, 0);

        ret[n > 0 ? n : 0] = '\0';
        dup2(saved, fd);
        close(saved);
}

/* program_main() with these arguments, NULL-terminated; out and err hold what it printed. */
static int main_with(const char *const *arguments)
{
        char *argv[16] = { (char *)(uintptr_t) "wattloop-test" };
        int argc = 1, saved_out, saved_err, status;

        for (; arguments[argc - 1]; argc++)
                argv[argc] = (char *)(uintptr_t)arguments[argc - 1];
        fflush(stdout);
        saved_out = redirect(STDOUT_FILENO, "out");
        saved_err = redirect(STDERR_FILENO, "err");
        status = program_main(&program, argc, argv);
        fflush(stdout);
        collect(STDOUT_FILENO, saved_out, out, sizeof(out));
        collect(STDERR_FILENO, saved_err, err, sizeof(err));
        return status;
}

#define MAIN(...) main_with((const char *const[]){ __VA_ARGS__, NULL })

static void put(const char *text)
{
        assert_int_equal(file_write_atomic(default_file, text, strlen(text), 0644, NULL), 0);
}

static void options_stand_before_and_behind_the_subcommand(void **state)
{
        (void)state;
        assert_int_equal(MAIN("--sampling-interval", "5s", "show", "a", "--dry-run", "--store-path=x=y", "b"),
                         0);
        assert_int_equal(seen.argc, 2);
        assert_string_equal(seen.first, "a");
        assert_int_equal(seen.interval_ms, 5000);
        assert_true(seen.dry_run);
        assert_string_equal(seen.store_path, "x=y");
        assert_string_equal(err, "");
}

static void a_bool_stands_alone_or_has_a_value(void **state)
{
        (void)state;
        assert_int_equal(MAIN("run", "--dry-run"), 0);
        assert_true(seen.dry_run);
        assert_int_equal(MAIN("--dry-run", "false", "run"), 0);
        assert_false(seen.dry_run);
        assert_int_equal(MAIN("--dry-run", "run"), 0);
        assert_true(seen.dry_run);
        assert_int_equal(MAIN("--dry-run=maybe", "run"), EXIT_MISUSE);
}

static void what_follows_two_dashes_is_no_option(void **state)
{
        (void)state;
        assert_int_equal(MAIN("show", "--", "--dry-run"), 0);
        assert_string_equal(seen.first, "--dry-run");
        assert_false(seen.dry_run);
        assert_int_equal(MAIN("show", "-"), 0);
        assert_string_equal(seen.first, "-");
}

static void command_line_beats_file_beats_default(void **state)
{
        (void)state;
        assert_int_equal(MAIN("run"), 0);
        assert_int_equal(seen.interval_ms, 3000);
        put("sampling: {interval: 7s}\nstore: {path: from-file}\n");
        assert_int_equal(MAIN("run"), 0);
        assert_int_equal(seen.interval_ms, 7000);
        assert_int_equal(MAIN("run", "--sampling-interval", "8s"), 0);
        assert_int_equal(seen.interval_ms, 8000);
        assert_string_equal(seen.store_path, "from-file");
}

static void misuse_is_one_line_and_status_2(void **state)
{
#define HINT "; see 'wattloop-test --help'\n"
        static const struct {
                const char *arguments[4], *message;
        } rows[] = {
                { { "fly" }, "unknown subcommand 'fly'" HINT },
                { { NULL }, "a subcommand is missing" HINT },
                { { "run", "--sampling-intervall=3s" },
                  "unknown option '--sampling-intervall' (did you mean '--sampling-interval'?)" HINT },
                { { "run", "--zzz" }, "unknown option '--zzz'" HINT },
                { { "run", "-x" }, "unknown option '-x'" HINT },
                { { "run", "--sampling_interval=3s" },
                  "unknown option '--sampling_interval' (did you mean '--sampling-interval'?)" HINT },
                { { "run", "--store-path" }, "--store-path needs a value" HINT },
                { { "run", "--config" }, "--config needs a value" HINT },
                { { "run", "--help=3" }, "--help takes no value" HINT },
                { { "run", "more" }, "'run' takes no arguments, but there is 'more'" HINT },
                { { "show" }, "'show' needs FILE [MORE]" HINT },
                { { "show", "a", "b", "c" }, "'show' takes only FILE [MORE]" HINT },
                { { "run", "--log-level", "loud" },
                  "--log-level takes error, warning, info or debug, not 'loud'" HINT },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                const char *arguments[5] = { 0 };

                memcpy(arguments, rows[i].arguments, sizeof(rows[i].arguments));
                assert_int_equal(main_with(arguments), EXIT_MISUSE);
                assert_memory_equal(err, "wattloop-test: ", 15);
                assert_string_equal(err + 15, rows[i].message);
                assert_string_equal(out, "");
        }
        assert_int_equal(seen.calls, 0);
}

static void bad_values_name_their_switch(void **state)
{
        (void)state;
        assert_int_equal(MAIN("run", "--sampling-interval=1ms"), EXIT_MISUSE);
        assert_string_equal(err, "wattloop-test: error: --sampling-interval: '1ms' is out of range: "
                                 "sampling.interval takes 100ms to 1m\n");
        assert_int_equal(seen.calls, 0);
}

static void a_bad_file_stops_before_running(void **state)
{
        char expected[256];

        (void)state;
        put("sampling:\n  interval: fast\n");
        assert_int_equal(MAIN("run"), EXIT_MISUSE);
        snprintf(expected, sizeof(expected), "wattloop-test: error: %s:2:13: sampling.interval must be ",
                 default_file);
        assert_memory_equal(err, expected, strlen(expected));
        assert_int_equal(seen.calls, 0);
}

static void a_named_file_must_be_there(void **state)
{
        (void)state;
        assert_int_equal(MAIN("run"), 0); /* the default one need not */
        assert_int_equal(MAIN("run", "--config", "/nonexistent/c.yaml"), EXIT_MISUSE);
        assert_non_null(strstr(err, "/nonexistent/c.yaml"));
        assert_int_equal(seen.calls, 1);
}

static void cross_checks_are_made(void **state)
{
        (void)state;
        assert_int_equal(MAIN("run", "--dry-run", "--sampling-interval", "4s"), EXIT_MISUSE);
        assert_non_null(strstr(err, "dry_run does not go with an interval of 4s"));
}

static void check_config_says_which_file_was_checked(void **state)
{
        char expected[256];

        (void)state;
        assert_int_equal(MAIN("--check-config"), 0);
        assert_non_null(strstr(out, "defaults are used"));
        put("sampling: {interval: 7s}\n");
        assert_int_equal(MAIN("--check-config"), 0);
        snprintf(expected, sizeof(expected), "%s: OK\n", default_file);
        assert_string_equal(out, expected);
        put("nonsense: 1\n");
        assert_int_equal(MAIN("--check-config"), EXIT_MISUSE);
        assert_int_equal(seen.calls, 0);
}

static void show_config_prints_what_is_in_effect(void **state)
{
        (void)state;
        put("sampling: {interval: 7s}\n");
        assert_int_equal(MAIN("--show-config", "--dry-run"), 0);
        assert_non_null(strstr(out, "sampling:\n  # Time between samples.\n  interval: 7s\n"));
        assert_non_null(strstr(out, "dry_run: true\n"));
        put(out);
        assert_int_equal(MAIN("run"), 0);
        assert_true(seen.dry_run);
}

static void version_and_help_answer_without_a_configuration(void **state)
{
        (void)state;
        put("broken: [\n");
        assert_int_equal(MAIN("--version"), 0);
        assert_string_equal(out, "wattloop-test " WATTLOOP_VERSION "\n");
        assert_int_equal(MAIN("--help"), 0);
        assert_non_null(strstr(out, "--sampling-interval DURATION"));
        assert_non_null(strstr(out, "show FILE [MORE]"));
        assert_non_null(strstr(out, "(default: 3s)"));
}

static void the_status_of_run_is_the_status_of_the_program(void **state)
{
        (void)state;
        run_result = EXIT_NOTHING;
        assert_int_equal(MAIN("run"), EXIT_NOTHING);
        run_result = -ENOSPC;
        assert_int_equal(MAIN("run"), EXIT_FAILED);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(options_stand_before_and_behind_the_subcommand),
                TEST(a_bool_stands_alone_or_has_a_value),
                TEST(what_follows_two_dashes_is_no_option),
                TEST(command_line_beats_file_beats_default),
                TEST(misuse_is_one_line_and_status_2),
                TEST(bad_values_name_their_switch),
                TEST(a_bad_file_stops_before_running),
                TEST(a_named_file_must_be_there),
                TEST(cross_checks_are_made),
                TEST(check_config_says_which_file_was_checked),
                TEST(show_config_prints_what_is_in_effect),
                TEST(version_and_help_answer_without_a_configuration),
                TEST(the_status_of_run_is_the_status_of_the_program),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
