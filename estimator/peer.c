/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/peer.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/num.h"

#define PEER_GROUPS_MAX 256 /* further groups of a peer that are looked at */

/* A number of a user or group. */
static bool is_number(const char *text, unsigned int *ret)
{
        uint64_t v;

        if (num_parse_u64(text, &v) < 0 || v >= UINT_MAX) /* the last means nobody */
                return false;
        *ret = (unsigned int)v;
        return true;
}

static int find_user(const char *name, uid_t *ret, struct err *e)
{
        const struct passwd *user;

        if (is_number(name, ret))
                return 0;
        user = getpwnam(name);
        if (!user)
                return err_set(e, -ENOENT, "there is no user '%.60s'", name);
        *ret = user->pw_uid;
        return 0;
}

static int find_group(const char *name, gid_t *ret, struct err *e)
{
        const struct group *group;

        if (is_number(name, ret))
                return 0;
        group = getgrnam(name);
        if (!group)
                return err_set(e, -ENOENT, "there is no group '%.60s'", name);
        *ret = group->gr_gid;
        return 0;
}

int peers_resolve(const struct string_list *list, struct peers *ret, struct err *e)
{
        struct peers peers = { .all = list->n == 0 };

        for (size_t i = 0; i < list->n && i < PEERS_MAX; i++) {
                const char *name = list->items[i];
                int r = *name == '@' ? find_group(name + 1, &peers.groups[peers.n_groups], e)
                                     : find_user(name, &peers.users[peers.n_users], e);

                if (r < 0)
                        return r;
                peers.n_groups += *name == '@';
                peers.n_users += *name != '@';
        }
        *ret = peers;
        return 0;
}

static bool has_group(const struct peers *p, gid_t group)
{
        for (size_t i = 0; i < p->n_groups; i++)
                if (p->groups[i] == group)
                        return true;
        return false;
}

bool peers_allow(const struct peers *p, int fd)
{
        gid_t groups[PEER_GROUPS_MAX];
        struct ucred peer;
        socklen_t size = sizeof(peer);

        if (p->all)
                return true;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return false;
        if (peer.uid == 0 || peer.uid == geteuid() || has_group(p, peer.gid))
                return true;
        for (size_t i = 0; i < p->n_users; i++)
                if (p->users[i] == peer.uid)
                        return true;
        size = sizeof(groups);
        if (p->n_groups == 0 || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
                return false;
        for (size_t i = 0; i < size / sizeof(groups[0]); i++)
                if (has_group(p, groups[i]))
                        return true;
        return false;
}

int owner_resolve(const char *text, uid_t *ret_user, gid_t *ret_group, struct err *e)
{
        const char *colon = strchr(text, ':');
        size_t n = colon ? (size_t)(colon - text) : strlen(text);
        char user[64];
        int r;

        *ret_user = (uid_t)-1;
        *ret_group = (gid_t)-1;
        if (n >= sizeof(user))
                return err_set(e, -EINVAL, "a user's name is longer than %zu bytes", sizeof(user) - 1);
        memcpy(user, text, n);
        user[n] = '\0';
        r = n > 0 ? find_user(user, ret_user, e) : 0;
        return r < 0 || !colon ? r : find_group(colon + 1, ret_group, e);
}
