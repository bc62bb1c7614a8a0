/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer-client's settings. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "config/option.h"
#include "trainer-client/names.h"

/* In the order of destination_kinds[] (destination.h). */
enum kind {
        KIND_MODEL_SERVER,
        KIND_VICTORIAMETRICS,
        KIND_REMOTE_WRITE,
        KIND_KEPLER_TRAINER,
        KIND_FILE,
        KIND_N,
};

enum order { ORDER_OLDEST, ORDER_NEWEST };

/* What every destination has for itself. 0 and "" mean the general setting, where there is one. */
struct destination_options {
        char *name;
        char *url;
        char *token_file, *user, *password_file;
        char *ca_file, *client_cert_file, *client_key_file, *proxy;
        struct string_list headers;
        long long timeout_ms;
        long long batch_intervals, batch_bytes;
        long long limit_bytes; /* of a batch as transported */
        long long rate_bytes;  /* a second */
        long long retry_attempts, retry_base_ms, retry_max_ms;
        int order; /* enum order */
};

struct options {
        char *store_path;
        char *state_path;
        struct string_list destinations;
        struct destination_options destination[KIND_N];
        char *audit_url[KIND_N]; /* of the query API; "" derived from the url */
        long long batch_intervals;
        long long batch_bytes;
        long long retry_attempts;
        long long retry_base_ms;
        long long retry_max_ms;
        long long quarantine_bytes;
        bool quarantined; /* push: the quarantined batches, once more */
        bool follow;
        long long follow_interval_ms;
        bool json, csv, jsonl;
        char *metrics_textfile;
        char *from, *to; /* export, audit: RFC 3339 */
        struct {
                char *name, *energy_source, *isolator, *abs_pipeline;
                struct string_list abs_trainers, dyn_trainers;
                char *store_path;
                char *idle_start, *idle_end;
                long long min_intervals, idle_intervals;
        } kepler;
        struct {
                char *path, *secret_key_file;
                long long max_bundles;
        } file;
        char *import_public_key_file;
        struct names_options names; /* of what is uploaded and exported */
};

extern const struct option options_table[];
int options_check(const void *options, struct err *e);

/* With the general settings where the destination has none of its own. Borrows the strings. */
struct destination_options options_destination(const struct options *o, enum kind kind);
bool options_enabled(const struct options *o, enum kind kind);

/* "2026-11-27T23:00:00Z" (fractions allowed), or ms since 1970; "" gives `fallback`. */
int options_parse_time(const char *text, int64_t fallback, int64_t *ret_ms, struct err *e);
