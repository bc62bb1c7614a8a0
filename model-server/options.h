/* SPDX-License-Identifier: Apache-2.0 */
/* The options of wattloop-model-server; one table for YAML, command line and help. */
#pragma once

#include "config/option.h"

struct options {
        char *listen;
        char *token_file;
        char *tls_certificate, *tls_key;
        char *database_path;
        char *models_path;
        char *pipeline_name;
        long long retention_samples_ms, retention_rows_ms;
        long long retention_size, retention_reports_ms;
        struct string_list provenance;
        long long min_rows, max_rows, trial_rows, seed;
        double node_share, forgetting;
        int isolator; /* enum isolator: none, min */
        struct string_list exclude_nodes, trainers;
        long long publish_interval_ms;
        char *prometheus_url;
        long long prometheus_interval_ms, prometheus_lookback_ms, prometheus_step_ms;
        char *signing_key_file, *signing_keys_file;
        long long signing_expires_ms;
        struct string_list rollout_stages; /* percents */
        long long rollout_stage_ms, rollout_min_reports;
        double rollout_halt_share;
        bool prefer_machine_spec;
        long long import_bytes, import_plain_bytes, import_lines, line_samples;
        long long connections;
        long long idle_ms, request_ms;
        char *data, *out, *hold;                 /* of train, evaluate and report; out: of publish too */
        bool sign;                               /* publish */
        bool fleet;                              /* token */
        bool keys, force;                        /* backup, restore */
        struct string_list features, components; /* convert, as all down to convert_provenance */
        char *scaler, *rows, *name, *output_type;
        double mae;
        char *convert_provenance;
        long long expires_ms; /* keys */
};

extern const struct option options_table[];
int options_check(const void *options, struct err *e);

/* "127.0.0.1:8100", "[::1]:8100" or ":8100" taken apart; -EINVAL. An empty host is every address. */
#define LISTEN_HOST_MAX 64
int options_split_listen(const char *listen, char ret_host[LISTEN_HOST_MAX], unsigned short *ret_port,
                         struct err *e);
unsigned int options_accepted(const struct options *o); /* bits 1 << enum provenance */
