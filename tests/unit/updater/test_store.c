/* SPDX-License-Identifier: Apache-2.0 */
/* stage.c, store.c and verify.c on a store in a temporary directory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/file.h"
#include "updater/stage.h"
#include "updater/store.h"
#include "updater/verify.h"

int __wrap_fsync(int fd);
int __real_fsync(int fd);

static int fsync_countdown; /* > 0: the n-th call from now fails */

int __wrap_fsync(int fd)
{
        if (fsync_countdown > 0 && --fsync_countdown == 0) {
                errno = ENOSPC;
                return -1;
        }
        return __real_fsync(fd);
}

struct fixture {
        char dir[64];
        struct store *store;
        struct slot slot;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        (void)snprintf(f->dir, sizeof(f->dir), "/tmp/wattloop_test.XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        assert_int_equal(store_open(f->dir, &f->store, NULL), 0);
        assert_int_equal(slot_parse("rapl-sysfs/AbsPower/weight", &f->slot, NULL), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        store_close(f->store);
        (void)file_remove_tree(f->dir, NULL);
        free(f);
        return 0;
}

/* A linear model of the package with this bias. */
static struct candidate make_model(double bias)
{
        struct candidate c = { 0 };
        struct err e = { "" };
        char text[512];
        int n;

        n = snprintf(text, sizeof(text),
                     "{\"package\": {\"All_Weights\": {\"Bias_Weight\": %g, \"Categorical_Variables\": {}, "
                     "\"Numerical_Variables\": {\"bpf_cpu_time_ms\": {\"scale\": 1000, \"weight\": 10}}}}, "
                     "\"model_name\": \"SGDRegressorTrainer_0\", \"mae\": 1.5}",
                     bias);
        if (verify_unpack(FORM_WEIGHT, text, (size_t)n, NULL, &c, &e) < 0)
                fail_msg("%s", e.text);
        return c;
}

static int install(struct fixture *f, const struct candidate *c, struct err *e)
{
        char url[] = "http://models.example";
        const struct origin origin = { .url = url, .fetched_ms = 1700000000000 };
        struct installed before;
        char staged[PATH_MAX];
        int r;

        store_look(f->dir, &f->slot, &before);
        r = stage_write(store_staging(f->store), c, &origin, staged, e);
        if (r == 0)
                r = store_place(f->store, &f->slot, staged, c->id, e);
        if (r == 0)
                r = store_switch(f->store, &f->slot, c->id, &before, e);
        return r;
}

static void install_bias(struct fixture *f, double bias, char ret_id[HASH_HEX_SIZE])
{
        CLEANUP(candidate_done) struct candidate c = make_model(bias);
        struct err e = { "" };

        if (install(f, &c, &e) < 0)
                fail_msg("%s", e.text);
        memcpy(ret_id, c.id, HASH_HEX_SIZE);
}

static bool exists(const struct fixture *f, const char *id)
{
        char path[PATH_MAX];

        assert_int_equal(store_model_path(f->dir, &f->slot, id, path, NULL), 0);
        return access(path, F_OK) == 0;
}

static void assert_links(const struct fixture *f, const char *current, const char *previous)
{
        struct installed now;

        store_look(f->dir, &f->slot, &now);
        assert_string_equal(now.current, current);
        assert_string_equal(now.previous, previous);
}

static void the_links_name_the_new_and_the_old_model(void **state)
{
        struct fixture *f = *state;
        char a[HASH_HEX_SIZE], b[HASH_HEX_SIZE], c[HASH_HEX_SIZE];

        install_bias(f, 1, a);
        assert_links(f, a, "");
        install_bias(f, 2, b);
        assert_links(f, b, a);
        install_bias(f, 3, c);
        assert_links(f, c, b);
        assert_true(exists(f, a));
        assert_int_equal(store_prune(f->store, &f->slot, NULL), 0);
        assert_false(exists(f, a));
        assert_true(exists(f, b) && exists(f, c));
}

static void an_installed_model_reads_back_with_its_id_and_origin(void **state)
{
        struct fixture *f = *state;
        CLEANUP(candidate_done) struct candidate back = { 0 };
        char id[HASH_HEX_SIZE], path[PATH_MAX];
        struct store_info info;
        struct stat st;

        install_bias(f, 1, id);
        assert_int_equal(store_model_path(f->dir, &f->slot, id, path, NULL), 0);
        assert_int_equal(verify_read_dir(FORM_WEIGHT, path, NULL, &back, NULL), 0);
        assert_string_equal(back.id, id);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0755); /* the estimator is another user */
        assert_int_equal(store_read_info(f->dir, &f->slot, id, &info, NULL), 0);
        assert_string_equal(info.model_name, "SGDRegressorTrainer_0");
        assert_string_equal(info.source_url, "http://models.example");
        assert_int_equal(info.fetched_ms, 1700000000000);
}

static void a_full_disk_at_any_moment_keeps_the_old_model(void **state)
{
        struct fixture *f = *state;
        CLEANUP(candidate_done) struct candidate next = make_model(2);
        char id[HASH_HEX_SIZE];
        int failures = 0;

        install_bias(f, 1, id);
        for (int n = 1; n < 20; n++) {
                struct err e = { "" };
                struct installed now;
                char path[PATH_MAX];
                CLEANUP(candidate_done) struct candidate there = { 0 };
                int r;

                fsync_countdown = n;
                r = install(f, &next, &e);
                fsync_countdown = 0;
                store_look(f->dir, &f->slot, &now);
                assert_int_equal(store_model_path(f->dir, &f->slot, now.current, path, NULL), 0);
                assert_int_equal(verify_read_dir(FORM_WEIGHT, path, NULL, &there, NULL), 0);
                assert_string_equal(there.id, now.current);
                if (r == 0)
                        break;
                failures++;
                assert_int_equal(r, -ENOSPC);
                assert_non_null(strstr(e.text, "No space left"));
        }
        assert_true(failures >= 4); /* two files, the staged directory, the slot's */
        assert_links(f, next.id, id);
}

static void restoring_puts_both_links_back(void **state)
{
        struct fixture *f = *state;
        char a[HASH_HEX_SIZE], b[HASH_HEX_SIZE], c[HASH_HEX_SIZE];
        struct installed before;

        install_bias(f, 1, a);
        install_bias(f, 2, b);
        store_look(f->dir, &f->slot, &before);
        install_bias(f, 3, c);
        assert_int_equal(store_restore(f->store, &f->slot, &before, NULL), 0);
        assert_links(f, b, a);
}

static void restoring_the_first_model_leaves_no_link(void **state)
{
        struct fixture *f = *state;
        const struct installed none = { "", "" };
        char a[HASH_HEX_SIZE];

        install_bias(f, 1, a);
        assert_int_equal(store_restore(f->store, &f->slot, &none, NULL), 0);
        assert_links(f, "", "");
}

static void a_damaged_copy_is_exchanged(void **state)
{
        struct fixture *f = *state;
        CLEANUP(candidate_done) struct candidate back = { 0 };
        char id[HASH_HEX_SIZE], path[PATH_MAX], file[PATH_MAX];

        install_bias(f, 1, id);
        assert_int_equal(store_model_path(f->dir, &f->slot, id, path, NULL), 0);
        assert_int_equal(path_join(file, sizeof(file), path, "weight.json"), 0);
        assert_int_equal(truncate(file, 10), 0);
        assert_true(verify_read_dir(FORM_WEIGHT, path, NULL, &back, NULL) < 0);
        install_bias(f, 1, id);
        assert_int_equal(verify_read_dir(FORM_WEIGHT, path, NULL, &back, NULL), 0);
        assert_links(f, id, "");
}

static void links_that_name_no_id_count_as_none(void **state)
{
        struct fixture *f = *state;
        char dir[PATH_MAX], link[PATH_MAX];

        assert_int_equal(path_join(dir, sizeof(dir), f->dir, f->slot.text), 0);
        assert_int_equal(file_mkdirs(dir, 0755, NULL), 0);
        assert_int_equal(path_join(link, sizeof(link), dir, "current"), 0);
        assert_int_equal(symlink("../../../../etc", link), 0);
        assert_links(f, "", "");
}

static void one_updater_at_a_time_and_leftovers_go(void **state)
{
        struct fixture *f = *state;
        struct store *second = NULL;
        char leftover[PATH_MAX];
        struct err e = { "" };

        assert_int_equal(store_open(f->dir, &second, &e), -EBUSY);
        assert_int_equal(path_join(leftover, sizeof(leftover), store_staging(f->store), "AbCdEf"), 0);
        assert_int_equal(mkdir(leftover, 0700), 0);
        store_close(f->store);
        f->store = NULL;
        assert_int_equal(store_open(f->dir, &f->store, NULL), 0);
        assert_int_equal(access(leftover, F_OK), -1);
}

static void unsuitable_models_are_refused(void **state)
{
        struct fixture *f = *state;
        CLEANUP(candidate_done) struct candidate good = make_model(5);
        CLEANUP(candidate_done) struct candidate cold = make_model(-1000);
        char *one[] = { "bpf_cpu_time_ms" }, *other[] = { "bpf_net_tx_irq" };
        const struct string_list supplied = { one, 1 }, without = { other, 1 };
        struct slot acpi;

        assert_int_equal(slot_parse("acpi/AbsPower/weight", &acpi, NULL), 0);
        assert_int_equal(verify_purpose(&good, &f->slot, &supplied, NULL), 0);
        assert_int_equal(verify_purpose(&good, &f->slot, &without, NULL), -EPROTO);
        assert_int_equal(verify_purpose(&good, &acpi, &supplied, NULL), -EPROTO);
        assert_int_equal(verify_canary(&good, &f->slot, NULL), 0);
        assert_int_equal(verify_canary(&cold, &f->slot, NULL), -EDOM);
}

/* What Kepler's own model server answered, when the recordings are there. */
static void upstreams_weights_are_taken_as_they_come(void **state)
{
        static const char file[] =
                "../shared/captures/model-server/weight_rapl-sysfs_AbsPower_spec.body.json";
        CLEANUP(candidate_done) struct candidate c = { 0 };
        char *names[] = { "bpf_cpu_time_ms", "bpf_page_cache_hit" };
        const struct string_list supplied = { names, 2 };
        const struct fixture *f = *state;
        CLEANUP(buf_done) struct buf text;
        struct err e = { "" };

        buf_init(&text, MODEL_WEIGHT_MAX);
        if (access(file, F_OK) != 0)
                skip();
        assert_int_equal(file_read(file, &text, NULL), 0);
        if (verify_unpack(FORM_WEIGHT, text.data, text.size, NULL, &c, &e) < 0 ||
            verify_purpose(&c, &f->slot, &supplied, &e) < 0 || verify_canary(&c, &f->slot, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(c.entries->n, 1);
        assert_int_equal(c.entries->entries[0].size, text.size);
}

#define IN_STORE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                IN_STORE(the_links_name_the_new_and_the_old_model),
                IN_STORE(an_installed_model_reads_back_with_its_id_and_origin),
                IN_STORE(a_full_disk_at_any_moment_keeps_the_old_model),
                IN_STORE(restoring_puts_both_links_back),
                IN_STORE(restoring_the_first_model_leaves_no_link),
                IN_STORE(a_damaged_copy_is_exchanged),
                IN_STORE(links_that_name_no_id_count_as_none),
                IN_STORE(one_updater_at_a_time_and_leftovers_go),
                IN_STORE(unsuitable_models_are_refused),
                IN_STORE(upstreams_weights_are_taken_as_they_come),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
