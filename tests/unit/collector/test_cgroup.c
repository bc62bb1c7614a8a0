/* SPDX-License-Identifier: Apache-2.0 */
#include "features_real.h"

#include "bpf/features.h"

static char tree[64];

static int tree_new(void **state)
{
        (void)state;
        (void)snprintf(tree, sizeof(tree), "/tmp/cgroup-XXXXXX");
        return mkdtemp(tree) ? 0 : -1;
}

static int tree_remove(void **state)
{
        (void)state;
        return file_remove_tree(tree, NULL);
}

static const char *in_tree(const char *name)
{
        static char path[4][PATH_MAX];
        static int turn;

        turn = (turn + 1) % 4;
        (void)snprintf(path[turn], PATH_MAX, "%s/%s", tree, name);
        return path[turn];
}

/* A machine with v2 at cg2 and v1 cpu,cpuacct and memory. */
static struct cgroup_table *table_new(void)
{
        struct cgroup_table *table = NULL;
        char mounts[PATH_MAX * 4];

        (void)snprintf(mounts, sizeof(mounts),
                       "proc /proc proc rw 0 0\n"
                       "cgroup2 %s/cg2 cgroup2 rw,nosuid 0 0\n"
                       "cgroup %s/acct cgroup rw,cpu,cpuacct 0 0\n"
                       "cgroup %s/a\\040blank cgroup rw,memory 0 0\n"
                       "cgroup %s/sysd cgroup rw,name=systemd 0 0\n",
                       tree, tree, tree, tree);
        write_file(tree, "proc/mounts", mounts);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(
                        file_mkdirs(in_tree((const char *[]){ "cg2", "acct", "a blank" }[i]), 0755, NULL), 0);
        assert_int_equal(cgroup_table_new(in_tree("proc"), "/sys", &table, NULL), 0);
        return table;
}

static uint64_t make(const char *name)
{
        assert_int_equal(file_mkdirs(in_tree(name), 0755, NULL), 0);
        return inode(in_tree(name));
}

#define POD  "pod0f3c1e9a-7b52-4a6e-9c1d-2f3b4c5d6e7f"
#define PODU "pod0f3c1e9a_7b52_4a6e_9c1d_2f3b4c5d6e7f"

static const struct {
        const char *path;
        const char *container; /* NULL: none */
} paths[] = {
        /* Docker: cgroupfs, systemd, rootless, in a swarm, systemd inside, containers inside */
        { "/docker/" ID_A, ID_A },
        { "/system.slice/docker-" ID_A ".scope", ID_A },
        { "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" ID_A ".scope", ID_A },
        { "/system.slice/docker-" ID_A ".scope/init.scope", ID_A },
        { "/docker/" ID_A "/system.slice/nginx.service", ID_A },
        { "/docker/" ID_A "/docker/" ID_B, ID_B },
        { "/docker/" ID_A "/kubelet/kubepods/besteffort/" POD "/" ID_B, ID_B },
        /* containerd: systemd driver, cgroupfs driver, the form without a systemd that understands it */
        { "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-" PODU ".slice/cri-containerd-" ID_A
          ".scope",
          ID_A },
        { "/kubepods.slice/kubepods-" PODU ".slice/cri-containerd-" ID_A ".scope", ID_A },
        { "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
          "kubelet-kubepods-besteffort-" PODU ".slice/cri-containerd-" ID_A ".scope",
          ID_A },
        { "/kubepods/burstable/" POD "/" ID_A, ID_A },
        { "/kubepods/besteffort/" POD "/" ID_A, ID_A },
        { "/kubepods/" POD "/" ID_A, ID_A },
        { "/system.slice/containerd.service/kubepods-burstable-" PODU ".slice:cri-containerd:" ID_A, ID_A },
        { "/default/" ID_A, ID_A },
        { "/system.slice/nerdctl-" ID_A ".scope", ID_A },
        /* CRI-O, and its monitor beside the container */
        { "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-" PODU ".slice/crio-" ID_A ".scope",
          ID_A },
        { "/kubepods.slice/kubepods-" PODU ".slice/crio-" ID_A ".scope/container", ID_A },
        { "/kubepods/burstable/" POD "/crio-" ID_A, ID_A },
        { "/kubepods.slice/kubepods-" PODU ".slice/crio-conmon-" ID_A ".scope", NULL },
        /* Podman */
        { "/machine.slice/libpod-" ID_A ".scope", ID_A },
        { "/machine.slice/libpod-" ID_A ".scope/container", ID_A },
        { "/machine.slice/libpod-conmon-" ID_A ".scope", NULL },
        { "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID_A ".scope", ID_A },
        { "/machine.slice/machine-libpod_pod_" ID_B ".slice/libpod-" ID_A ".scope", ID_A },
        { "/system.slice/web.service/libpod-payload-" ID_A, ID_A },
        { "/libpod_parent/libpod-" ID_A, ID_A },
        /* ECS */
        { "/ecs/0123456789abcdef0123456789abcdef/" ID_A, ID_A },
        /* none */
        { "", NULL },
        { "/", NULL },
        { "/init.scope", NULL },
        { "/system.slice/docker.service", NULL },
        { "/user.slice/user-1000.slice/session-3.scope", NULL },
        { "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-" PODU ".slice", NULL },
        { "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", NULL },
        { "/machine.slice/machine-libpod_pod_" ID_B ".slice", NULL },
        { "/system.slice/var-lib-docker-overlay2-" ID_A "-merged.mount", NULL },
        { "/docker/" ID_A "0", NULL },                        /* 65 digits */
        { "/docker/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL }, /* 32 */
        { "/docker/AAAAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0123",
          NULL }, /* never upper case */
        { "/docker/zzzzaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0123", NULL },
        { ".scope", NULL },
};

static void container_ids_are_found_in_the_paths_of_real_runtimes(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
                char id[65] = "untouched";
                bool found = cgroup_path_container(paths[i].path, id);

                if (found != !!paths[i].container)
                        fail_msg("'%s': %s", paths[i].path, found ? id : "none found");
                assert_string_equal(id, found ? paths[i].container : "untouched");
        }
}

static void ids_resolve_to_paths_below_the_mount(void **state)
{
        struct cgroup_table *table = table_new();
        uint64_t scope = make("cg2/system.slice/docker-" ID_A ".scope"), slice = make("cg2/system.slice");

        (void)state;
        assert_string_equal(cgroup_table_find(table, scope)->path, "/system.slice/docker-" ID_A ".scope");
        assert_string_equal(cgroup_table_find(table, scope)->container, ID_A);
        assert_string_equal(cgroup_table_find(table, slice)->path, "/system.slice");
        assert_string_equal(cgroup_table_find(table, slice)->container, "");
        assert_string_equal(cgroup_table_find(table, make("cg2"))->path, "/");
        cgroup_table_free(table);
}

static void a_new_cgroup_is_found_and_a_removed_one_remembered(void **state)
{
        struct cgroup_table *table = table_new();
        uint64_t first = make("cg2/docker-" ID_A ".scope"), second;

        (void)state;
        assert_string_equal(cgroup_table_find(table, first)->container, ID_A);
        second = make("cg2/a/b/docker-" ID_B ".scope"); /* first: else it may be given the same inode */
        assert_int_equal(rmdir(in_tree("cg2/docker-" ID_A ".scope")), 0);
        (void)usleep(PAUSE_US);
        assert_string_equal(cgroup_table_find(table, second)->container, ID_B);
        assert_string_equal(cgroup_table_find(table, first)->container, ID_A);
        cgroup_table_free(table);
}

static void an_unknown_id_is_no_container(void **state)
{
        struct cgroup_table *table = table_new();
        const uint64_t ids[] = { 0, 1, 0xdeadbeef, UINT64_MAX, CGROUP_V1 | 7 };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
                assert_string_equal(cgroup_table_find(table, ids[i])->path, "");
                assert_string_equal(cgroup_table_find(table, ids[i])->container, "");
        }
        cgroup_table_free(table);
}

static void hierarchies_keep_their_ids_apart(void **state)
{
        struct cgroup_table *table = table_new();
        uint64_t tag = CGROUP_V1 | (uint64_t)CGROUP_V1_CPUACCT << CGROUP_V1_SHIFT;
        uint64_t id = make("acct/docker/" ID_B);

        (void)state;
        assert_int_equal(cgroup_table_v1(table),
                         1u << CGROUP_V1_CPUACCT | 1u << CGROUP_V1_CPU | 1u << CGROUP_V1_MEMORY);
        assert_string_equal(cgroup_table_find(table, id)->path, ""); /* not in v2 */
        assert_string_equal(cgroup_table_find(table, tag | id)->path, "/docker/" ID_B);
        assert_string_equal(cgroup_table_find(table, tag | id)->container, ID_B);
        cgroup_table_free(table);
}

static void a_container_wins_over_none_and_v2_over_v1(void **state)
{
        struct cgroup_table *table = table_new();
        uint64_t tag = CGROUP_V1 | (uint64_t)CGROUP_V1_CPUACCT << CGROUP_V1_SHIFT, root = make("cg2");
        uint64_t service = make("cg2/containerd.service"), v2 = make("cg2/docker-" ID_A ".scope");
        uint64_t v1 = tag | make("acct/docker/" ID_B), slice = tag | make("acct/system.slice");

        (void)state;
        assert_int_equal(cgroup_table_choose(table, 0, 0), root);
        assert_int_equal(cgroup_table_choose(table, service, 0), service);
        assert_int_equal(cgroup_table_choose(table, 0, slice), slice);
        assert_int_equal(cgroup_table_choose(table, service, slice), service);
        assert_int_equal(cgroup_table_choose(table, service, v1), v1);
        assert_int_equal(cgroup_table_choose(table, v2, v1), v2);
        assert_int_equal(cgroup_table_choose_text(table, "4:memory:/\n1:cpu,cpuacct:/docker/" ID_B
                                                         "\n0::/containerd.service\n"),
                         v1);
        assert_int_equal(cgroup_table_choose_text(table, "1:name=systemd:/x\n0::/docker-" ID_A ".scope"), v2);
        assert_int_equal(cgroup_table_choose_text(table, "0::/\n"), root);
        assert_int_equal(cgroup_table_choose_text(table, "0::/is/gone\n"), root);
        assert_int_equal(cgroup_table_choose_text(table, "nonsense\n:\n::\n0:\n"), root);
        assert_int_equal(cgroup_table_choose_text(table, ""), root);
        cgroup_table_free(table);
}

static void cpu_counters_are_read_of_leaves_and_of_the_v1_root(void **state)
{
        struct cgroup_table *table = table_new();
        uint64_t tag = CGROUP_V1 | (uint64_t)CGROUP_V1_CPUACCT << CGROUP_V1_SHIFT, ns;
        uint64_t leaf = make("cg2/a/leaf"), parent = make("cg2/a"), v1 = tag | make("acct/leaf"),
                 bare = make("cg2/bare");

        (void)state;
        write_file(tree, "cg2/a/leaf/cpu.stat", "usage_usec 1234\nuser_usec 1\n");
        write_file(tree, "cg2/a/cpu.stat", "usage_usec 99999\n");
        write_file(tree, "acct/leaf/cpuacct.usage", "5678\n");
        write_file(tree, "acct/cpuacct.usage", "91011\n");
        assert_int_equal(cgroup_table_cpu_ns(table, leaf, &ns), 0);
        assert_int_equal(ns, 1234000);
        assert_int_equal(cgroup_table_cpu_ns(table, v1, &ns), 0);
        assert_int_equal(ns, 5678);
        assert_int_equal(cgroup_table_cpu_ns(table, CGROUP_ROOT, &ns), 0);
        assert_int_equal(ns, 91011);
        assert_int_equal(cgroup_table_cpu_ns(table, parent, &ns), -ENODATA);
        assert_int_equal(cgroup_table_cpu_ns(table, bare, &ns), -ENOENT);
        assert_int_equal(cgroup_table_cpu_ns(table, make("cg2"), &ns), -ENODATA);
        cgroup_table_free(table);
}

static void a_deep_or_overlong_tree_is_cut_short_not_followed(void **state)
{
        struct cgroup_table *table = table_new();
        char path[PATH_MAX] = "cg2", name[201];
        uint64_t id = 0;

        (void)state;
        memset(name, 'n', sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        for (int i = 0; i < 15; i++) {
                (void)snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%s", name);
                id = make(path);
        }
        assert_int_equal(strlen(cgroup_table_find(table, id)->path),
                         CGROUP_PATH_MAX - 1); /* cut for people */
        for (int i = 0; i < 40; i++) {
                (void)snprintf(path + strlen(path), sizeof(path) - strlen(path), "/d");
                id = make(path);
        }
        (void)usleep(PAUSE_US);
        assert_string_equal(cgroup_table_find(table, id)->path, "");
        cgroup_table_free(table);
}

static void a_machine_without_cgroups_has_none(void **state)
{
        struct cgroup_table *table = NULL;

        (void)state;
        assert_int_equal(cgroup_table_new("/nonexistent", "/sys", &table, NULL), 0);
        assert_int_equal(cgroup_table_choose(table, 0, 0), 0);
        assert_string_equal(cgroup_table_find(table, 5)->path, "");
        assert_int_equal(cgroup_table_cpu_ns(table, CGROUP_ROOT, &(uint64_t){ 0 }), -ENODATA);
        cgroup_table_free(table);
        cgroup_table_free(NULL);
}

static void a_sysfs_root_of_its_own_holds_the_mounts(void **state)
{
        struct cgroup_table *table = NULL;
        uint64_t id;

        (void)state;
        write_file(tree, "proc/mounts",
                   "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\ncgroup\ncgroup x\ncgroup x cgroup\n\n");
        id = make("sys/fs/cgroup/docker/" ID_A);
        assert_int_equal(cgroup_table_new(in_tree("proc"), in_tree("sys"), &table, NULL), 0);
        assert_string_equal(cgroup_table_find(table, id)->container, ID_A);
        cgroup_table_free(table);
}

#define TREE_TEST(name) cmocka_unit_test_setup_teardown(name, tree_new, tree_remove)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(container_ids_are_found_in_the_paths_of_real_runtimes),
                TREE_TEST(ids_resolve_to_paths_below_the_mount),
                TREE_TEST(a_new_cgroup_is_found_and_a_removed_one_remembered),
                TREE_TEST(an_unknown_id_is_no_container),
                TREE_TEST(hierarchies_keep_their_ids_apart),
                TREE_TEST(a_container_wins_over_none_and_v2_over_v1),
                TREE_TEST(cpu_counters_are_read_of_leaves_and_of_the_v1_root),
                TREE_TEST(a_deep_or_overlong_tree_is_cut_short_not_followed),
                TREE_TEST(a_machine_without_cgroups_has_none),
                TREE_TEST(a_sysfs_root_of_its_own_holds_the_mounts),
        };

        return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
