/* SPDX-License-Identifier: Apache-2.0 */
#include "common/privilege.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The set named `which` in /proc/self/status. */
static uint64_t status(const char *which)
{
        char line[256];
        unsigned long long set = ~0ull;
        size_t n = strlen(which);
        FILE *f = fopen("/proc/self/status", "re");

        if (!f)
                return set;
        while (fgets(line, sizeof(line), f))
                if (!strncmp(line, which, n) && line[n] == ':')
                        (void)sscanf(line + n + 1, "%llx", &set);
        (void)fclose(f);
        return set;
}

/* What is given up is gone for good, so each test does it in a child; 0: its claim holds. */
static int in_child(int (*claim)(void))
{
        int result = -1;
        pid_t pid = fork();

        if (pid == 0)
                _exit(claim());
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &result, 0), pid);
        return WIFEXITED(result) ? WEXITSTATUS(result) : -1;
}

static int drop_all(void)
{
        uint64_t kept = 1;

        if (privilege_drop(0, &kept, NULL) < 0 || kept != 0)
                return 1;
        if (status("CapEff") || status("CapPrm") || status("CapInh") || status("CapAmb"))
                return 2;
        if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
                return 3;
        return privilege_has(CAP_BPF) || privilege_has(CAP_DAC_READ_SEARCH) ? 4 : 0;
}

static void everything_is_given_up(void **state)
{
        (void)state;
        assert_int_equal(in_child(drop_all), 0);
}

static int drop_all_but_one(void)
{
        uint64_t had = status("CapPrm"), kept = 0, want = CAPABILITY(CAP_SYS_PTRACE) & had;

        if (privilege_drop(CAPABILITY(CAP_SYS_PTRACE), &kept, NULL) < 0 || kept != want)
                return 1;
        if (status("CapEff") != want || status("CapPrm") != want)
                return 2;
        return privilege_has(CAP_SYS_PTRACE) == (want != 0) ? 0 : 3;
}

static void what_is_kept_is_what_there_was_of_it(void **state)
{
        (void)state;
        assert_int_equal(in_child(drop_all_but_one), 0);
}

/* Root's own file that even its owner may not read. */
static int lose_the_override(void)
{
        char path[] = "/tmp/privilege-XXXXXX";
        int fd = mkstemp(path), before, after;
        uint64_t kept;

        if (fd < 0 || fchmod(fd, 0) < 0)
                return 1;
        before = access(path, R_OK);
        if (privilege_drop(0, &kept, NULL) < 0)
                return 2;
        after = access(path, R_OK);
        (void)unlink(path);
        if (geteuid() == 0 && before != 0)
                return 3;
        return after == 0 ? 4 : 0;
}

static void what_was_given_up_does_not_work_any_more(void **state)
{
        (void)state;
        assert_int_equal(in_child(lose_the_override), 0);
}

/* A program that root starts gets root's capabilities again, were it not for this. */
static int start_a_shell(void)
{
        uint64_t kept;

        if (privilege_drop(0, &kept, NULL) < 0)
                return 1;
        (void)execl("/bin/sh", "sh", "-c", "grep -qE '^CapEff:[[:space:]]*0+$' /proc/self/status", NULL);
        return 2;
}

static void what_is_started_after_has_none_either(void **state)
{
        (void)state;
        assert_int_equal(in_child(start_a_shell), 0);
}

static void sets_are_named(void **state)
{
        char text[64];

        (void)state;
        privilege_format(0, text, sizeof(text));
        assert_string_equal(text, "none");
        privilege_format(CAPABILITY(CAP_BPF) | CAPABILITY(CAP_PERFMON) | CAPABILITY(60), text, sizeof(text));
        assert_string_equal(text, "cap_perfmon cap_bpf 60");
        privilege_format(~UINT64_C(0), text, 8); /* cut, not overrun */
        assert_string_equal(text, "0 cap_d");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(everything_is_given_up),
                cmocka_unit_test(what_is_kept_is_what_there_was_of_it),
                cmocka_unit_test(what_was_given_up_does_not_work_any_more),
                cmocka_unit_test(what_is_started_after_has_none_either),
                cmocka_unit_test(sets_are_named),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
