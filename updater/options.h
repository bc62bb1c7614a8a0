/* SPDX-License-Identifier: Apache-2.0 */
/* The updater's settings. */
#pragma once

#include <stdbool.h>
#include "config/option.h"

enum trust_policy { TRUST_SIGNED, TRUST_TLS, TRUST_UNSIGNED };

struct options {
        char *server_url;
        char *server_token_file;
        char *server_ca_file;
        char *server_proxy;
        char *server_client_cert_file, *server_client_key_file;
        bool server_report;
        char *server_report_url;
        int server_trust; /* enum trust_policy */
        struct string_list trust_keys, trust_root_keys;
        bool downgrade;
        bool force;
        bool scheduled;
        long long splay_ms, every_ms;
        long long timeout_ms;
        struct string_list models;
        char *trainer;
        struct string_list features;
        char *store_path;
        char *estimator_socket;
        long long estimator_timeout_ms;
        char *canary_samples;
        long long canary_disagreement; /* percent; 0 off */
        char *kepler_sidecar_path, *kepler_weight_path;
        struct string_list kepler_reload;
        char *from;
        bool json;
        char *procfs_root, *sysfs_root;
};

extern const struct option options_table[];
int options_check(const void *options, struct err *e);
