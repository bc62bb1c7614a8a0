/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "common/clock.h"

static char text[8192]; /* what standard error received */

/* Run f with standard error in a pipe. With `journal`, JOURNAL_STREAM names this pipe. */
static void capture(bool journal, void (*f)(void))
{
        int saved = dup(STDERR_FILENO), fds[2];
        struct stat st;
        ssize_t n;

        assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        assert_int_equal(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
        if (journal) {
                char stream[64];

                assert_int_equal(fstat(fds[1], &st), 0);
                snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
                setenv("JOURNAL_STREAM", stream, 1);
        }
        log_init("prog", LOG_LEVEL_INFO);
        f();
        dup2(saved, STDERR_FILENO);
        close(saved);
        close(fds[1]);
        n = read(fds[0], text, sizeof(text) - 1);
        text[n > 0 ? n : 0] = '\0';
        close(fds[0]);
        unsetenv("JOURNAL_STREAM");
}

static void log_all(void)
{
        assert_int_equal(log_error(-5, "broken: '%s'", "x"), -5);
        log_warning("odd");
        log_info("fine");
        log_debug("detail");
}

static void lines_name_program_and_level(void **state)
{
        (void)state;
        capture(false, log_all);
        assert_string_equal(text, "prog: error: broken: 'x'\nprog: warning: odd\nprog: info: fine\n");
}

static void the_journal_gets_syslog_prefixes(void **state)
{
        (void)state;
        capture(true, log_all);
        assert_string_equal(text, "<3>broken: 'x'\n<4>odd\n<6>fine\n");
}

static void a_stale_journal_variable_is_ignored(void **state)
{
        (void)state;
        setenv("JOURNAL_STREAM", "1:2", 1);
        capture(false, log_all);
        assert_memory_equal(text, "prog: error", 11);
}

static void log_hostile(void)
{
        char large[3000];

        memset(large, 'x', sizeof(large) - 1);
        large[sizeof(large) - 1] = '\0';
        log_error(0, "name '%s'", "a\nprog: error: forged\033[2J");
        log_error(0, "%s", large);
}

static void an_event_is_one_line_whatever_it_quotes(void **state)
{
        char *second;

        (void)state;
        capture(false, log_hostile);
        second = strchr(text, '\n');
        assert_non_null(second);
        assert_null(strchr(text, '\033'));
        assert_non_null(strstr(text, "a?prog: error: forged?[2J"));
        assert_ptr_equal(strchr(second + 1, '\n'), text + strlen(text) - 1);
        assert_true(strlen(second + 1) <= 1024);
}

static void log_keeps_errno(void)
{
        errno = ENOENT;
        log_info("something");
        assert_int_equal(errno, ENOENT);
}

static void logging_keeps_errno(void **state)
{
        (void)state;
        capture(false, log_keeps_errno);
}

static void a_limit_lets_one_pass_and_counts_the_rest(void **state)
{
        struct log_limit l = { 0 };

        (void)state;
        assert_true(log_limit_ok(&l, 3600 * NS_PER_S));
        assert_false(log_limit_ok(&l, 3600 * NS_PER_S));
        assert_false(log_limit_ok(&l, 3600 * NS_PER_S));
        assert_int_equal(l.suppressed, 2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(lines_name_program_and_level),
                cmocka_unit_test(the_journal_gets_syslog_prefixes),
                cmocka_unit_test(a_stale_journal_variable_is_ignored),
                cmocka_unit_test(an_event_is_one_line_whatever_it_quotes),
                cmocka_unit_test(logging_keeps_errno),
                cmocka_unit_test(a_limit_lets_one_pass_and_counts_the_rest),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
