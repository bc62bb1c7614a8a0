/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/acks.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include "common/file.h"
#include "common/json.h"

#define ACK_FILE_MAX 4096

static int acks_directory(const char *store_path, char *ret, size_t size)
{
        const char *slash = strrchr(store_path, '/');
        int n = slash ? (int)(slash - store_path) + 1 : 0;

        return snprintf(ret, size, "%.*sacks", n, store_path) < (int)size ? 0 : -1;
}

static bool is_ack(const char *name)
{
        const char *dot = strrchr(name, '.');

        return name[0] != '.' && dot && !strcmp(dot, ".json");
}

static void read_ack(const char *path, struct ack *ret)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        const char *epoch;
        long long id;

        memset(ret, 0, sizeof(*ret));
        if (json_parse_file(path, ACK_FILE_MAX, &object, NULL) < 0 ||
            json_get_int(object, "interval_id", &id, NULL) < 0 ||
            json_get_string(object, "epoch", &epoch, NULL) < 0)
                return;
        ret->interval_id = id;
        (void)snprintf(ret->epoch, sizeof(ret->epoch), "%s", epoch); /* a longer one matches no epoch */
}

/* Somebody acknowledges something, but nobody knows what. */
static int nothing_acknowledged(struct ack ret[ACKS_MAX])
{
        memset(&ret[0], 0, sizeof(ret[0]));
        return 1;
}

int acks_read(const char *store_path, struct ack ret[ACKS_MAX])
{
        CLEANUP(closedirp) DIR *d = NULL;
        char dir[PATH_MAX], path[PATH_MAX];
        struct dirent *entry;
        int n = 0;

        if (acks_directory(store_path, dir, sizeof(dir)) < 0)
                return nothing_acknowledged(ret);
        d = opendir(dir);
        if (!d)
                return errno == ENOENT ? 0 : nothing_acknowledged(ret);
        while ((errno = 0, entry = readdir(d))) {
                if (!is_ack(entry->d_name))
                        continue;
                if (n == ACKS_MAX || path_join(path, sizeof(path), dir, entry->d_name) < 0)
                        return nothing_acknowledged(ret);
                read_ack(path, &ret[n++]);
        }
        return errno ? nothing_acknowledged(ret) : n;
}
