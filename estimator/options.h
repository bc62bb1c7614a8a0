/* SPDX-License-Identifier: Apache-2.0 */
/* The estimator's configuration. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "config/option.h"
#include "model/model.h"

struct options {
        char *socket_path;
        char *socket_mode;  /* octal text; options_mode() */
        char *socket_owner; /* "user:group"; owner_resolve() */
        struct string_list socket_allow;
        int pedigree;        /* 0 off, 1 on */
        char *compat_socket; /* "": none */
        char *store_path;
        bool store_watch;
        int curvefit_index; /* enum model_curve_index */
        bool json;          /* of inspect */
        long long clients_max;
        long long request_max;  /* bytes of one request */
        long long buffered_max; /* bytes of all requests that are not complete yet */
        long long timeout_ms; /* for a whole request to arrive, for its reply to be read, between two requests
                               */
};

extern const struct option options_table[];

/* Cross-checks after loading, as struct program wants them. */
int options_check(const void *options, struct err *e);

/* The socket's permission bits; options_check() has made sure that they parse. */
mode_t options_mode(const struct options *options);

/* How models are to be loaded. */
struct model_load_options options_load(const struct options *options);
