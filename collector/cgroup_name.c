/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/cgroup_name.h"

#include <string.h>
#include "common/cleanup.h"

#define ID_HEX   64
#define UID_SIZE 36 /* 8-4-4-4-12 */
#define HASH_HEX 32

/* What stands before the id, in the same component or (docker's and containerd's cgroupfs drivers) the one
 * above. containerd's cgroupfs names can be "system.slice:cri-containerd:<id>". */
static const struct {
        const char *prefix;
        const char *runtime;
} runtimes[] = {
        { "docker-", "docker" },
        { "docker/", "docker" },
        { "cri-containerd-", "containerd" },
        { "cri-containerd:", "containerd" },
        { "containerd-", "containerd" },
        { "containerd/", "containerd" },
        { "nerdctl-", "containerd" },
        { "nerdctl:", "containerd" },
        { "crio-", "crio" },
        { "crio/", "crio" },
        { "libpod-", "podman" },
        { "libpod_parent/", "podman" },
};

static const char *last_id(const char *path)
{
        const char *found = NULL;

        for (const char *p = path; *p; p++) {
                size_t hex = strspn(p, "0123456789abcdef");

                if (hex >= ID_HEX)
                        found = p + hex - ID_HEX;
                if (hex)
                        p += hex - 1;
        }
        return found;
}

const char *cgroup_path_runtime(const char *path)
{
        const char *id = last_id(path);
        char pod[POD_ID_MAX];

        for (size_t i = 0; id && i < ARRAY_SIZE(runtimes); i++) {
                size_t n = strlen(runtimes[i].prefix);

                if ((size_t)(id - path) >= n && !memcmp(id - n, runtimes[i].prefix, n))
                        return runtimes[i].runtime;
        }
        return id && cgroup_path_pod(path, pod) ? "kubepods" : "unknown";
}

/* "0b7a1c2d-…" or "0b7a1c2d_…", or 32 digits; ends where the component or its ".slice" does. */
static size_t uid_at(const char *s)
{
        size_t n = strspn(s, "0123456789abcdef-_");

        if (s[n] && !strchr("/.:", s[n]))
                return 0;
        if (n == HASH_HEX)
                return strspn(s, "0123456789abcdef") == n ? n : 0;
        if (n != UID_SIZE)
                return 0;
        for (size_t i = 0; i < n; i++) {
                bool dash = i == 8 || i == 13 || i == 18 || i == 23;

                if (dash != (s[i] == '-' || s[i] == '_'))
                        return 0;
        }
        return n;
}

bool cgroup_path_pod(const char *path, char ret[POD_ID_MAX])
{
        const char *found = NULL;
        size_t size = 0;

        for (const char *p = strstr(path, "pod"); p; p = strstr(p + 3, "pod")) {
                size_t n = uid_at(p + 3);

                if (n > 0 && p > path && (p[-1] == '/' || p[-1] == '-')) {
                        found = p + 3;
                        size = n;
                }
        }
        if (!found)
                return false;
        for (size_t i = 0; i < size; i++)
                ret[i] = found[i] == '_' ? '-' : found[i];
        ret[size] = '\0';
        return true;
}
