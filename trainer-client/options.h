/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer-client's settings. */
#pragma once

#include <stdbool.h>
#include "config/option.h"

struct options {
        char *store_path;
        char *state_path;
        char *server_url;
        char *server_token_file;
        char *server_ca_file;
        char *destination;
        long long timeout_ms;
        long long batch_intervals;
        long long batch_bytes;
        long long retry_attempts;
        long long retry_base_ms;
        long long retry_max_ms;
        bool follow;
        long long follow_interval_ms;
        bool json;
};

extern const struct option options_table[];
int options_check(const void *options, struct err *e);
