/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/file.h"

struct fixture {
        char dir[64], inside[128], outside[128], shown[128];
        struct sandbox sandbox;
};

static int set_up(void **state)
{
        static struct fixture f;

        (void)snprintf(f.dir, sizeof(f.dir), "/tmp/test_sandbox.XXXXXX");
        assert_non_null(mkdtemp(f.dir));
        (void)snprintf(f.inside, sizeof(f.inside), "%s/staging", f.dir);
        (void)snprintf(f.outside, sizeof(f.outside), "%s/outside", f.dir);
        (void)snprintf(f.shown, sizeof(f.shown), "%s/shown", f.dir);
        assert_int_equal(mkdir(f.inside, 0700), 0);
        assert_int_equal(file_write_atomic(f.outside, "secret", 6, 0644, NULL), 0);
        assert_int_equal(file_write_atomic(f.shown, "public", 6, 0644, NULL), 0);
        f.sandbox = (struct sandbox){ f.inside, { f.shown, "/nowhere", NULL }, 10000 };
        *state = &f;
        return 0;
}

static int tear_down(void **state)
{
        return file_remove_tree(((struct fixture *)*state)->dir, NULL);
}

static int run(struct fixture *f, int (*work)(void *, void *, struct err *), int *ret, struct err *e)
{
        struct err note;
        int r;

        *ret = 0;
        r = sandbox_run(&f->sandbox, work, f, ret, sizeof(*ret), &note, e);
        assert_string_equal(note.text, ""); /* this kernel has both */
        return r;
}

static int open_mode(const char *dir, const char *name, int flags)
{
        char path[512];
        int fd;

        (void)path_join(path, sizeof(path), dir, name);
        fd = open(path, flags | O_CLOEXEC, 0600);
        return fd < 0 ? -errno : (close(fd), 0);
}

/* Each claim that fails sets a bit. */
static int touch(void *arg, void *ret, struct err *e)
{
        struct fixture *f = arg;
        int *bits = ret;

        (void)e;
        *bits |= (open_mode(f->inside, "new", O_WRONLY | O_CREAT | O_TRUNC) != 0) << 0;
        *bits |= (access(f->shown, F_OK) != 0 || open(f->shown, O_RDONLY) < 0) << 2;
        *bits |= (open(f->outside, O_RDONLY) >= 0) << 3;
        *bits |= (open(f->shown, O_WRONLY) >= 0) << 4;
        *bits |= (open_mode(f->dir, "new", O_WRONLY | O_CREAT) == 0) << 5;
        *bits |= (unlink(f->outside) == 0) << 6;
        *bits |= (open("/etc/passwd", O_RDONLY) >= 0) << 7;
        *bits |= (socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0) << 8;
        *bits |= (symlink("/etc", f->inside) == 0) << 9;
        return 0;
}

static void only_what_is_shown_is_there(void **state)
{
        int bits;

        assert_int_equal(run(*state, touch, &bits, NULL), 0);
        assert_int_equal(bits, 0);
        assert_int_equal(access(((struct fixture *)*state)->outside, F_OK), 0);
}

static int execute(void *arg, void *ret, struct err *e)
{
        (void)arg;
        (void)ret;
        (void)e;
        (void)execl("/bin/true", "true", (char *)NULL);
        return 0;
}

static int kill_parent(void *arg, void *ret, struct err *e)
{
        (void)arg;
        (void)ret;
        (void)e;
        return kill(getppid(), 0);
}

static void what_only_an_intruder_calls_ends_it(void **state)
{
        struct err e;
        int bits;

        assert_int_equal(run(*state, execute, &bits, &e), -EPROTO);
        assert_non_null(strstr(e.text, "called what it may not"));
        assert_int_equal(run(*state, kill_parent, &bits, &e), -EPROTO);
}

static int crash(void *arg, void *ret, struct err *e)
{
        (void)arg;
        (void)ret;
        (void)e;
        (void)signal(SIGABRT, SIG_DFL);
        abort();
}

static int hang(void *arg, void *ret, struct err *e)
{
        (void)arg;
        (void)ret;
        (void)e;
        while (pause() < 0)
                ;
        return 0;
}

static int leave(void *arg, void *ret, struct err *e)
{
        (void)arg;
        (void)ret;
        (void)e;
        _exit(0);
}

static void a_child_that_fails_is_an_error_with_words(void **state)
{
        struct fixture *f = *state;
        struct err e;
        int bits;

        assert_int_equal(run(f, crash, &bits, &e), -EPROTO);
        assert_non_null(strstr(e.text, "signal"));
        assert_int_equal(run(f, leave, &bits, &e), -EPROTO);
        f->sandbox.timeout_ms = 200;
        assert_int_equal(run(f, hang, &bits, &e), -ETIMEDOUT);
        f->sandbox.timeout_ms = 10000;
}

static int refuse(void *arg, void *ret, struct err *e)
{
        (void)arg;
        *(int *)ret = 7;
        return err_set(e, -EBADMSG, "no model");
}

static void the_childs_answer_and_words_arrive(void **state)
{
        struct err e;
        int bits;

        assert_int_equal(run(*state, refuse, &bits, &e), -EBADMSG);
        assert_string_equal(e.text, "no model");
        assert_int_equal(bits, 7);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(only_what_is_shown_is_there, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_only_an_intruder_calls_ends_it, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_child_that_fails_is_an_error_with_words, set_up, tear_down),
                cmocka_unit_test_setup_teardown(the_childs_answer_and_words_arrive, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
