/* SPDX-License-Identifier: Apache-2.0 */
/* What leaves the node of the names that people gave: of pods, containers and their namespaces. Ids stay as
 * they are, so that series are told apart the same. */
#pragma once

#include <stddef.h>
#include "common/err.h"

#define NAMES_KEY_MIN 16 /* bytes */
#define NAMES_KEY_MAX 64

enum names_form {
        NAMES_FULL,
        NAMES_HASH, /* 32 hex digits: BLAKE2b-128 of the name, with the key when there is one */
        NAMES_NONE, /* empty */
        NAMES_FORM_N
};

struct names_options {
        int form;       /* enum names_form */
        char *key_file; /* its first line is the key; empty: none */
};

struct names_policy {
        enum names_form form;
        unsigned char key[NAMES_KEY_MAX];
        size_t key_size; /* 0: none: whoever can guess a name can check the guess */
};

int names_policy_load(const struct names_options *options, struct names_policy *ret, struct err *e);
/* The name as it leaves, owned by the caller; NULL: out of memory. An empty name stays empty. */
char *names_apply(const struct names_policy *policy, const char *name);
