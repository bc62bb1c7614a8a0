/* SPDX-License-Identifier: Apache-2.0 */
/* What the collector can be told: one table for the file, the command line and the manual page. */
#pragma once

#include "config/option.h"

enum features_choice { FEATURES_AUTO, FEATURES_BPF, FEATURES_PROC };

struct options {
        long long interval_ms;
        char *procfs_root;
        char *sysfs_root;
        char *msr_root;
        int features_source;     /* enum features_choice */
        int features_counters;   /* enum counters_choice */
        int features_definition; /* enum definition */
        struct string_list power_sources;
        struct string_list hwmon_use;
        char *ipmi_device;
        char *redfish_url, *redfish_credentials, *redfish_ca_file; /* "" unset */
        bool redfish_verify_tls;
        long long redfish_interval_ms;
        char *estimate_socket;      /* "" unset */
        char *estimate_weight;      /* "" unset */
        int estimate_energy_source; /* index into options_energy_sources */
        char *store_path;           /* "" off */
        bool store_processes;
        long long metrics_processes;
        long long retention_age_ms;
        long long retention_size;     /* bytes */
        char *metrics_listen;         /* "" off */
        int metrics_style;            /* enum metrics_style */
        long long metrics_containers; /* with series of their own; 0: all */
        int idle_rule;                /* enum idle_rule */
        long long idle_window_ms;
        char *attribution_weight;                   /* "": attribution by ratio */
        int attribution_rule;                       /* enum attribution_rule */
        char *kubelet_url;                          /* "" off */
        char *kubelet_token_file, *kubelet_ca_file; /* "" none */
        bool kubelet_verify_tls;
        long long kubelet_interval_ms;
        bool json;
        bool once; /* top */
        int sort;  /* top: which of its orders */
};

extern const struct option options_table[];
extern const char *const options_energy_sources[];

/* Cross-checks; -EINVAL with words. */
int options_check(const void *options, struct err *e);
