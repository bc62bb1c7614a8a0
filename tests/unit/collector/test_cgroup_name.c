/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/cgroup_name.h"

#include "common/cleanup.h"
#include "tree.h"

#define ID  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define UID "0b7a1c2d-1111-2222-3333-444455556666"

static const struct {
        const char *path, *runtime, *pod; /* pod NULL: in none */
} paths[] = {
        { "/system.slice/docker-" ID ".scope", "docker", NULL },
        { "/docker/" ID, "docker", NULL },
        { "/docker/" ID "/init.scope", "docker", NULL },
        { "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID ".scope/container", "podman",
          NULL },
        { "/machine.slice/libpod-" ID ".scope", "podman", NULL },
        { "/libpod_parent/libpod-" ID, "podman", NULL },
        { "/system.slice/nerdctl-" ID ".scope", "containerd", NULL },
        { "/system.slice/crio-" ID ".scope", "crio", NULL },
        { "/kubepods.slice/kubepods-besteffort.slice/"
          "kubepods-besteffort-pod0b7a1c2d_1111_2222_3333_444455556666.slice/"
          "cri-containerd-" ID ".scope",
          "containerd", UID },
        { "/kubepods.slice/kubepods-pod0b7a1c2d_1111_2222_3333_444455556666.slice/crio-" ID
          ".scope/container",
          "crio", UID },
        { "/kubepods/burstable/pod" UID "/" ID, "kubepods", UID },
        { "/kubepods/pod" UID "/" ID, "kubepods", UID },
        { "/kubepods/besteffort/pod0123456789abcdef0123456789abcdef/" ID, "kubepods",
          "0123456789abcdef0123456789abcdef" }, /* a static pod */
        { "/kubepods-burstable-pod0b7a1c2d_1111_2222_3333_444455556666.slice:cri-containerd:" ID,
          "containerd", UID },
        { "/system.slice/containerd.service/"
          "kubepods-burstable-pod0b7a1c2d_1111_2222_3333_444455556666.slice:cri-"
          "containerd:" ID,
          "containerd", UID },
        /* Kubernetes in a Docker container: the inner pod */
        { "/system.slice/docker-" ID
          ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
          "kubelet-kubepods-burstable-pod0b7a1c2d_1111_2222_3333_444455556666.slice/cri-containerd-" ID
          ".scope",
          "containerd", UID },
        { "/kubepods/podnothing/" ID, "unknown", NULL },
        { "/kubepods/pod0b7a1c2d-1111-2222-3333-44445555666/" ID, "unknown", NULL }, /* a digit short */
        { "/system.slice/podman.service", "unknown", NULL },
        { "/user.slice/user-1000.slice", "unknown", NULL },
        { "/", "unknown", NULL },
        { "", "unknown", NULL },
};

static void paths_tell_runtime_and_pod(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
                char pod[POD_ID_MAX] = "";
                bool found = cgroup_path_pod(paths[i].path, pod);
                const char *runtime = cgroup_path_runtime(paths[i].path);

                if (strcmp(runtime, paths[i].runtime) != 0)
                        fail_msg("runtime of '%s' is %s", paths[i].path, runtime);
                if (found != (paths[i].pod != NULL) || (found && strcmp(pod, paths[i].pod) != 0))
                        fail_msg("pod of '%s' is '%s'", paths[i].path, pod);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(paths_tell_runtime_and_pod) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
