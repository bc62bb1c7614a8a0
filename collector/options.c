/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/options.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "collector/attribution.h"
#include "collector/power.h"
#include "collector/server.h"

static const char *const features_choices[] = { "auto", "bpf", "proc", NULL };
static const char *const counters_choices[] = { "auto", "off", "software", NULL };
static const char *const definition_choices[] = { "exact", "kepler-0.7", NULL };
static const char *const power_choices[] = { "rapl", "rapl-perf", "rapl-msr", "acpi", "hwmon",
                                             "ipmi", "redfish",   "estimate", NULL };
static const char *const top_orders[] = { "watts", "package", "dram", "cpu", "kind", "name", NULL };
static const char *const metrics_styles[] = { "kepler-0.7", "kepler-0.10", NULL };
static const char *const idle_rules[] = { "minimum", "regression", NULL };
const char *const options_energy_sources[] = { "rapl-sysfs", "acpi", NULL };

#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount/"
#define FIELD(f)        offsetof(struct options, f)

const struct option options_table[] = {
        { "sampling.interval", OPTION_DURATION, FIELD(interval_ms), "3s", 50, 600000, NULL,
          "time between two samples" },
        { "procfs_root", OPTION_STRING, FIELD(procfs_root), "/proc", 0, 0, NULL,
          "directory read in place of /proc" },
        { "sysfs_root", OPTION_STRING, FIELD(sysfs_root), "/sys", 0, 0, NULL,
          "directory read in place of /sys, for power only if it has no fs/cgroup; power from a plain "
          "directory is "
          "recorded as simulated" },
        { "msr_root", OPTION_STRING, FIELD(msr_root), "/dev/cpu", 0, 0, NULL,
          "directory of the processors' registers; power from plain files in it is recorded as simulated" },
        { "features.source", OPTION_ENUM, FIELD(features_source), "auto", 0, 0, features_choices,
          "where usage comes from: auto tries bpf and falls back to proc" },
        { "features.counters", OPTION_ENUM, FIELD(features_counters), "auto", 0, 0, counters_choices,
          "hardware counters: auto uses what the processor has; software puts events of the kernel in their "
          "place, "
          "for trials" },
        { "features.definition", OPTION_ENUM, FIELD(features_definition), "exact", 0, 0, definition_choices,
          "what cache_miss counts: misses of the last level cache, or what Kepler 0.7 counts under that "
          "name" },
        { "power.sources", OPTION_LIST, FIELD(power_sources), "rapl,rapl-perf,rapl-msr,acpi,redfish,hwmon", 0,
          0, power_choices,
          "power sources to use; when none of them is found, estimate is used if it is configured below" },
        { "ipmi.device", OPTION_STRING, FIELD(ipmi_device), "/dev/ipmi0", 0, 0, NULL,
          "device of the management controller" },
        { "redfish.url", OPTION_STRING, FIELD(redfish_url), "", 0, 0, NULL,
          "https URL of the management controller's Redfish service, or of a chassis in it; empty: none" },
        { "redfish.credentials", OPTION_STRING, FIELD(redfish_credentials), "", 0, 0, NULL,
          "file with one line, user:password; empty: none" },
        { "redfish.ca_file", OPTION_STRING, FIELD(redfish_ca_file), "", 0, 0, NULL,
          "PEM file of further certificate authorities, or the service's own certificate" },
        { "redfish.verify_tls", OPTION_BOOL, FIELD(redfish_verify_tls), "true", 0, 0, NULL,
          "false: take any certificate, from anybody" },
        { "redfish.interval", OPTION_DURATION, FIELD(redfish_interval_ms), "10s", 100, 3600000, NULL,
          "time between two requests" },
        { "hwmon.use", OPTION_LIST, FIELD(hwmon_use), "", 0, 0, NULL,
          "further hwmon meters to use: NAME=COMPONENT or NAME:LABEL=COMPONENT" },
        { "estimate.socket", OPTION_STRING, FIELD(estimate_socket), "", 0, 0, NULL,
          "unix socket of an estimator to ask for watts; empty: none" },
        { "estimate.weight", OPTION_STRING, FIELD(estimate_weight), "", 0, 0, NULL,
          "weight JSON file to evaluate in process, read again when it changes; empty: none" },
        { "estimate.energy_source", OPTION_ENUM, FIELD(estimate_energy_source), "rapl-sysfs", 0, 0,
          options_energy_sources,
          "which components are estimated: rapl-sysfs (package, dram, ...) or acpi (platform)" },
        { "store.path", OPTION_STRING, FIELD(store_path), "/var/lib/wattloop/samples.db", 0, 0, NULL,
          "database of samples; empty: nothing is stored" },
        { "store.retention_age", OPTION_DURATION, FIELD(retention_age_ms), "7d", 60000, 10.0 * 365 * 86400e3,
          NULL, "samples older than this are removed once every destination has acknowledged them" },
        { "store.retention_size", OPTION_SIZE, FIELD(retention_size), "1GiB", 1 << 20, 1e15, NULL,
          "size above which the oldest samples are removed, acknowledged or not" },
        { "store.processes", OPTION_BOOL, FIELD(store_processes), "false", 0, 0, NULL,
          "record each process, too: large" },
        { "metrics.listen", OPTION_STRING, FIELD(metrics_listen), "127.0.0.1:8888", 0, 0, NULL,
          "address and port of the Prometheus endpoint; empty: none" },
        { "metrics.style", OPTION_ENUM, FIELD(metrics_style), "kepler-0.7", 0, 0, metrics_styles,
          "whose names the metrics have: those of Kepler up to 0.9, or since 0.10" },
        { "metrics.containers", OPTION_INT, FIELD(metrics_containers), "2000", 0, 16384, NULL,
          "containers and virtual machines with series of their own, the others are summed up as "
          "other_containers; 0: all" },
        { "metrics.processes", OPTION_INT, FIELD(metrics_processes), "0", 0, 16384, NULL,
          "Processes with series of their own, those that came first; 0: none." },
        { "power.idle", OPTION_ENUM, FIELD(idle_rule), "minimum", 0, 0, idle_rules,
          "what counts as idle: the lowest power within the window, or the intercept of power over CPU "
          "time" },
        { "power.idle_window", OPTION_DURATION, FIELD(idle_window_ms), "24h", 60000, 30.0 * 86400e3, NULL,
          "how far back idle power is looked for" },
        { "attribution.rule", OPTION_ENUM, FIELD(attribution_rule), "ratio", 0, 0, attribution_rule_names,
          "how dynamic energy is divided: by shares of usage, or by what a model predicts for each "
          "container" },
        { "attribution.weight", OPTION_STRING, FIELD(attribution_weight), "", 0, 0, NULL,
          "weight JSON file (DynPower) of the rule model, read again when it changes" },
        { "kubelet.url", OPTION_STRING, FIELD(kubelet_url), "", 0, 0, NULL,
          "URL of this node's kubelet, for the names of pods; empty: none" },
        { "kubelet.token_file", OPTION_STRING, FIELD(kubelet_token_file), SERVICE_ACCOUNT "token", 0, 0, NULL,
          "file with a bearer token, read again for each request; empty: none" },
        { "kubelet.ca_file", OPTION_STRING, FIELD(kubelet_ca_file), SERVICE_ACCOUNT "ca.crt", 0, 0, NULL,
          "PEM file of further certificate authorities, or the kubelet's own certificate" },
        { "kubelet.verify_tls", OPTION_BOOL, FIELD(kubelet_verify_tls), "true", 0, 0, NULL,
          "false: take any certificate, from anybody" },
        { "kubelet.interval", OPTION_DURATION, FIELD(kubelet_interval_ms), "15s", 100, 3600000, NULL,
          "time between two requests" },
        { "json", OPTION_BOOL, FIELD(json), "false", 0, 0, NULL, "status, sensors and top: print JSON" },
        { "once", OPTION_BOOL, FIELD(once), "false", 0, 0, NULL, "top: print one table and end" },
        { "sort", OPTION_ENUM, FIELD(sort), "watts", 0, 0, top_orders, "top: what to sort by" },
        { 0 },
};

static int kubelet_url_check(const struct options *o, struct err *e)
{
        if (!strncmp(o->kubelet_url, "https://", strlen("https://")))
                return 0;
        if (strncmp(o->kubelet_url, "http://", strlen("http://")) != 0)
                return err_set(e, -EINVAL, "kubelet.url must begin with https:// or http://, not be '%.100s'",
                               o->kubelet_url);
        if (*o->kubelet_token_file)
                return err_set(e, -EINVAL,
                               "a token is not sent over http: set kubelet.token_file to nothing");
        return 0;
}

int options_check(const void *options, struct err *e)
{
        const struct options *o = options;
        struct listen_address address;
        bool configured = *o->estimate_socket || *o->estimate_weight;

        if (string_list_has(&o->power_sources, "estimate") && !configured)
                return err_set(
                        e, -EINVAL,
                        "power.sources lists estimate, which needs estimate.socket or estimate.weight");
        if (*o->estimate_socket && *o->estimate_weight)
                return err_set(e, -EINVAL,
                               "estimate.socket and estimate.weight are both set; one of them decides");
        if (*o->redfish_url && strncmp(o->redfish_url, "https://", strlen("https://")) != 0)
                return err_set(e, -EINVAL, "redfish.url must begin with https://, not be '%.100s'",
                               o->redfish_url);
        for (size_t i = 0; i < o->hwmon_use.n; i++)
                if (hwmon_use_check(o->hwmon_use.items[i], e) < 0)
                        return -EINVAL;
        if (!*o->procfs_root || !*o->sysfs_root)
                return err_set(e, -EINVAL, "procfs_root and sysfs_root must not be empty");
        if (o->attribution_rule == ATTRIBUTION_MODEL && !*o->attribution_weight)
                return err_set(e, -EINVAL, "attribution.rule model needs attribution.weight");
        if (*o->kubelet_url && kubelet_url_check(o, e) < 0)
                return -EINVAL;
        if (*o->metrics_listen)
                return listen_address_parse(o->metrics_listen, &address, e);
        return 0;
}
