/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/options.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>

#define OPTION(key, type, member, fallback, min, max, help)                                                  \
        {                                                                                                    \
                key, type, offsetof(struct options, member), fallback, min, max, NULL, help                  \
        }

static const char *const off_on[] = { "off", "on", NULL };
static const char *const curve_indexes[] = { "fitted", "upstream", NULL }; /* enum model_curve_index */

const struct option options_table[] = {
        OPTION("socket.path", OPTION_STRING, socket_path, "/run/wattloop/estimator.sock", 0, 0,
               "Unix socket on which power requests are answered."),
        OPTION("socket.mode", OPTION_STRING, socket_mode, "0660", 0, 0,
               "Permissions of the sockets, in octal: who may write may ask and reload."),
        OPTION("socket.owner", OPTION_STRING, socket_owner, "", 0, 0,
               "Owner of the sockets: user, user:group or :group; empty: whoever runs the estimator."),
        OPTION("socket.allow", OPTION_LIST, socket_allow, "", 0, 0,
               "Users, and groups with @ before them, that may ask, beside root; empty: all whom the mode "
               "lets."),
        { "socket.pedigree", OPTION_ENUM, offsetof(struct options, pedigree), "on", 0, 0, off_on,
          "Replies tell the model, its id and error, and whether the rows are like those it was trained "
          "on." },
        OPTION("compat_socket", OPTION_STRING, compat_socket, "", 0, 0,
               "Second socket for unchanged Kepler exporters, /tmp/estimator.sock for them; empty: none."),
        OPTION("store.path", OPTION_STRING, store_path, "/var/lib/wattloop/models", 0, 0,
               "Model store that the updater writes."),
        OPTION("store.watch", OPTION_BOOL, store_watch, "true", 0, 0,
               "Load a model as soon as the store names it."),
        OPTION("limits.clients", OPTION_INT, clients_max, "1000", 1, 100000,
               "Connections at a time; further ones wait in the listen queue."),
        OPTION("limits.request", OPTION_SIZE, request_max, "16MiB", 1024, 67108864,
               "Largest request, in bytes."),
        OPTION("limits.buffered", OPTION_SIZE, buffered_max, "256MiB", 1048576, 17179869184.0,
               "Bytes of requests and unread replies that all clients together may have under way."),
        OPTION("limits.timeout", OPTION_DURATION, timeout_ms, "30s", 100, 86400000,
               "Time for a request to arrive, for its reply to be read, and between two requests of a "
               "client."),
        { "curvefit.index", OPTION_ENUM, offsetof(struct options, curvefit_index), "fitted", 0, 0,
          curve_indexes,
          "Feature that a pickled curve depends on: the one it was fitted on, or the one that upstream's "
          "sidecar "
          "takes." },
        OPTION("json", OPTION_BOOL, json, "false", 0, 0, "inspect prints one JSON object."),
        { 0 },
};

static int parse_mode(const char *text, mode_t *ret)
{
        mode_t mode = 0;

        if (!*text || strlen(text) > 4 || text[strspn(text, "01234567")])
                return -EINVAL;
        for (; *text; text++)
                mode = mode * 8 + (mode_t)(*text - '0');
        if (mode & ~(mode_t)0777)
                return -EINVAL;
        *ret = mode;
        return 0;
}

static int check_path(const char *key, const char *path, struct err *e)
{
        size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path);

        if (strlen(path) >= max)
                return err_set(e, -EINVAL, "%s: a socket's path has at most %zu bytes, not %zu", key, max - 1,
                               strlen(path));
        return 0;
}

int options_check(const void *options, struct err *e)
{
        const struct options *o = options;
        mode_t mode;
        int r;

        if (!*o->socket_path)
                return err_set(e, -EINVAL, "socket.path: must not be empty");
        if (!*o->store_path)
                return err_set(e, -EINVAL, "store.path: must not be empty");
        if (!strcmp(o->socket_path, o->compat_socket))
                return err_set(e, -EINVAL, "compat_socket: is the same as socket.path");
        r = parse_mode(o->socket_mode, &mode);
        if (r < 0)
                return err_set(e, r, "socket.mode: '%.20s' is not an octal mode such as \"0660\"",
                               o->socket_mode);
        r = check_path("socket.path", o->socket_path, e);
        if (r < 0)
                return r;
        return check_path("compat_socket", o->compat_socket, e);
}

mode_t options_mode(const struct options *options)
{
        mode_t mode = 0660;

        (void)parse_mode(options->socket_mode, &mode);
        return mode;
}

struct model_load_options options_load(const struct options *options)
{
        return (struct model_load_options){ .curve_index = (enum model_curve_index)options->curvefit_index };
}
