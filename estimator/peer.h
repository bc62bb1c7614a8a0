/* SPDX-License-Identifier: Apache-2.0 */
/* Who may ask: the users and groups of socket.allow, by the credentials that the kernel keeps of a peer. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "common/err.h"
#include "config/option.h"

#define PEERS_MAX STRING_LIST_MAX

struct peers {
        bool all; /* no list: the socket's mode decides */
        uid_t users[PEERS_MAX];
        size_t n_users;
        gid_t groups[PEERS_MAX];
        size_t n_groups;
};

/* Names or numbers of users; with '@' before them, of groups. -ENOENT names one that does not exist. */
int peers_resolve(const struct string_list *list, struct peers *ret, struct err *e);

/* Whether the process that connected may ask: by its user, its group or one of its further groups. Root and
 * the estimator's own user always may. */
bool peers_allow(const struct peers *peers, int fd);

/* "user", "user:group", ":group"; -1 for what is not said. "" says nothing. -ENOENT, -EINVAL. */
int owner_resolve(const char *text, uid_t *ret_user, gid_t *ret_group, struct err *e);
