/* SPDX-License-Identifier: Apache-2.0 */
/* The recorded sensor trees of tests/data/sensors, each replayed through the RAPL source; their lines are
 * explained in the script that made them. */
#include "collector/power.h"

#include <ctype.h>
#include <errno.h>
#include <glob.h>
#include <math.h>
#include "tree.h"

#define TREES      "tests/data/sensors/*.tree"
#define TREES_MAX  64
#define LINE_MAX_  4096
#define FAILS_MAX  8
#define JOULES_OFF 1e-3

struct replay {
        const char *file;
        int line;
        char sysfs[TREE_PATH_MAX], procfs[TREE_PATH_MAX];
        struct power_source *source;
        bool as_nobody;
        struct power_reading readings[SENSORS_MAX];
        int n;
};

/* Files that cannot be read just now. */
static struct {
        char path[TREE_PATH_MAX];
        int error;
} fails[FAILS_MAX];

int __real_file_read_u64(int dirfd, const char *path, unsigned long long *ret);
int __wrap_file_read_u64(int dirfd, const char *path, unsigned long long *ret);

int __wrap_file_read_u64(int dirfd, const char *path, unsigned long long *ret)
{
        for (int i = 0; i < FAILS_MAX; i++)
                if (fails[i].error && strstr(path, fails[i].path))
                        return fails[i].error;
        return __real_file_read_u64(dirfd, path, ret);
}

static void set_failure(const char *path, int error)
{
        int slot = -1;

        for (int i = 0; i < FAILS_MAX; i++)
                if (!strcmp(fails[i].path, path) || (slot < 0 && !fails[i].error))
                        slot = i;
        assert_true(slot >= 0);
        (void)snprintf(fails[slot].path, sizeof(fails[slot].path), "%s", path);
        fails[slot].error = error;
}

#define check(replay, condition, ...)                                                                        \
        do {                                                                                                 \
                if (!(condition)) {                                                                          \
                        print_error("%s:%d: ", (replay)->file, (replay)->line);                              \
                        fail_msg(__VA_ARGS__);                                                               \
                }                                                                                            \
        } while (0)

static void become(const struct replay *r, uid_t uid)
{
        if (r->as_nobody && geteuid() != uid)
                assert_int_equal(seteuid(uid), 0);
}

static void open_source(struct replay *r, const char *outcome)
{
        const struct power_source_options options = { .sysfs_root = r->sysfs, .procfs_root = r->procfs };
        struct err e = { 0 };
        int got, want = !strcmp(outcome, "refused") ? -EACCES : !strcmp(outcome, "none") ? -ENOENT : 0;

        become(r, 65534);
        got = power_source_rapl.open(&options, &r->source, &e);
        become(r, 0);
        check(r, got == want, "opened with %d (%s), not '%s'", got, e.text, outcome);
}

static void run_read(struct replay *r, double seconds)
{
        const struct power_context context = { .duration_ns = (uint64_t)llround(seconds * 1e9) };
        struct err e = { 0 };

        if (!r->source)
                open_source(r, "ok");
        memset(r->readings, 0, sizeof(r->readings));
        become(r, 65534);
        r->n = power_source_rapl.read(r->source, &context, r->readings, &e);
        become(r, 0);
        check(r, r->n >= 0, "%s", e.text);
}

static const struct power_reading *find(const struct replay *r, const char *component, const char *unit)
{
        for (int i = 0; i < r->n; i++)
                if (!strcmp(r->readings[i].component, component) && !strcmp(r->readings[i].unit, unit))
                        return &r->readings[i];
        check(r, false, "no %s %s", component, unit);
        return NULL;
}

static void expect(const struct replay *r, const char *component, const char *unit, double joules)
{
        const struct power_reading *reading = find(r, component, unit);

        if (isnan(joules)) {
                check(r, !reading->valid, "%s %s: %g J, not a gap", component, unit,
                      reading->energy_uj / 1e6);
                return;
        }
        check(r, reading->valid, "%s %s is a gap (%d)", component, unit, reading->error);
        check(r, fabs(reading->energy_uj / 1e6 - joules) < JOULES_OFF, "%s %s: %.6f J, not %.6f", component,
              unit, reading->energy_uj / 1e6, joules);
}

static void write_file(char *line, char *tab)
{
        char *to = tab + 1, path[TREE_PATH_MAX];

        *tab = '\0';
        for (const char *from = tab + 1; *from; from++) {
                if (from[0] == '\\' && from[1] == 'n')
                        *to++ = '\n', from++;
                else
                        *to++ = *from;
        }
        *to = '\0';
        (void)snprintf(path, sizeof(path), "%.500s", line);
        tree_write(path, tab + 1);
        set_failure(path, 0);
}

static int errno_named(const char *name)
{
        return !strcmp(name, "EINVAL") ? -EINVAL : !strcmp(name, "EIO") ? -EIO : -ENODATA;
}

static void run_line(struct replay *r, char *line)
{
        char *tab = strchr(line, '\t'), word[32] = "", a[TREE_PATH_MAX] = "", b[64] = "", c[32] = "";

        if (*line == '#' || !*line)
                return;
        if (tab) {
                write_file(line, tab);
                return;
        }
        (void)sscanf(line, "%31s %511s %63s %31s", word, a, b, c);
        if (!strcmp(word, "read")) {
                run_read(r, strtod(a, NULL));
        } else if (!strcmp(word, "poll")) {
                power_source_rapl.poll(r->source, (uint64_t)llround(strtod(a, NULL) * 1e9));
        } else if (!strcmp(word, "joules")) {
                expect(r, a, b, strtod(c, NULL));
        } else if (!strcmp(word, "gap")) {
                expect(r, a, b, (double)NAN);
        } else if (!strcmp(word, "sensors")) {
                check(r, r->n == (int)strtol(a, NULL, 10), "%d readings, not %s", r->n, a);
        } else if (!strcmp(word, "remove")) {
                check(r, unlink(tree_path(a)) == 0, "cannot remove '%s'", a);
        } else if (!strcmp(word, "fail")) {
                set_failure(a, errno_named(b));
        } else if (!strcmp(word, "deny")) {
                check(r, chmod(tree_path(a), 0400) == 0, "cannot chmod '%s'", a);
                r->as_nobody = geteuid() == 0;
        } else if (!strcmp(word, "open")) {
                open_source(r, a);
        } else {
                check(r, false, "what is '%s'?", word);
        }
}

static void each_reading_has_the_right_joules(void **state)
{
        struct replay r = { .file = *state };
        char line[LINE_MAX_];
        FILE *f = fopen(r.file, "re");

        assert_non_null(f);
        memset(fails, 0, sizeof(fails));
        assert_int_equal(tree_set_up(NULL), 0);
        (void)snprintf(r.sysfs, sizeof(r.sysfs), "%s/sys", tree);
        (void)snprintf(r.procfs, sizeof(r.procfs), "%s/proc", tree);
        while (fgets(line, sizeof(line), f)) {
                r.line++;
                line[strcspn(line, "\n")] = '\0';
                run_line(&r, line);
        }
        (void)fclose(f);
        if (r.source)
                power_source_rapl.close(r.source);
        assert_int_equal(tree_tear_down(NULL), 0);
}

int main(void)
{
        static struct CMUnitTest tests[TREES_MAX];
        size_t n = 0;
        glob_t found;
        int failed;

        if (glob(TREES, 0, NULL, &found) != 0) {
                (void)fprintf(stderr, "no recorded trees: %s\n", TREES);
                return 1;
        }
        for (; n < found.gl_pathc && n < TREES_MAX; n++)
                tests[n] = (struct CMUnitTest){ .name = found.gl_pathv[n],
                                                .test_func = each_reading_has_the_right_joules,
                                                .initial_state = found.gl_pathv[n] };
        failed = _cmocka_run_group_tests("sensor trees", tests, n, NULL, NULL);
        globfree(&found);
        return failed;
}
