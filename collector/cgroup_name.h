/* SPDX-License-Identifier: Apache-2.0 */
/* What a container's cgroup path says about it beyond its id: the runtime that made it and the pod it is in.
 * Pure. */
#pragma once

#include <stdbool.h>

/* Kepler's words: "docker", "containerd", "crio", "podman", "kubepods" (in a pod by the cgroupfs driver,
 * where no runtime is named), "unknown". */
const char *cgroup_path_runtime(const char *path);

/* The uid of a Kubernetes pod, as the API writes it: "…/kubepods-burstable-pod0b7a_….slice/…" (systemd
 * driver, which writes '_' for '-'), "/kubepods/besteffort/pod0b7a-…/…" (cgroupfs driver); a static pod's is
 * 32 hex digits. The innermost wins. False when it is in none. */
#define POD_ID_MAX 37
bool cgroup_path_pod(const char *path, char ret[POD_ID_MAX]);
