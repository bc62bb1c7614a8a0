/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/options.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "schema/vocabulary.h"
#include "updater/slot.h"

#define FIELD(f) offsetof(struct options, f)

static const char *const trust_choices[] = {
        [TRUST_SIGNED] = "signed", [TRUST_TLS] = "tls", [TRUST_UNSIGNED] = "unsigned", NULL
};

const struct option options_table[] = {
        { "server.url", OPTION_STRING, FIELD(server_url), "http://127.0.0.1:8100", 0, 0, NULL,
          "base URL of the model server; /model is appended" },
        { "server.trust", OPTION_ENUM, FIELD(server_trust), "signed", 0, 0, trust_choices,
          "what vouches for a model: a release key (signed), https and a verified certificate alone (tls), "
          "or "
          "nothing (unsigned, also plain http)" },
        { "trust.keys", OPTION_LIST, FIELD(trust_keys), "", 0, 0, NULL,
          "public key files (minisign) whose signatures are believed" },
        { "trust.root_keys", OPTION_LIST, FIELD(trust_root_keys), "", 0, 0, NULL,
          "public key files that sign the server's list of release keys; the list is fetched and kept" },
        { "downgrade", OPTION_BOOL, FIELD(downgrade), "false", 0, 0, NULL,
          "update: take also a signed model that is older than the installed one, or has expired" },
        { "force", OPTION_BOOL, FIELD(force), "false", 0, 0, NULL,
          "update: take also a model that was rolled back from" },
        { "scheduled", OPTION_BOOL, FIELD(scheduled), "false", 0, 0, NULL,
          "update: run by a timer: wait the splay first, and ask nothing while a back-off lasts" },
        { "splay", OPTION_DURATION, FIELD(splay_ms), "10m", 0, 86400000, NULL,
          "scheduled: spread the machines of a fleet over this time, by their machine ids" },
        { "every", OPTION_DURATION, FIELD(every_ms), "0s", 0, 604800000, NULL,
          "update: stay, and do it again after this time, as scheduled; 0: once" },
        { "server.token_file", OPTION_STRING, FIELD(server_token_file), "", 0, 0, NULL,
          "file whose first line is sent as bearer token; empty: none" },
        { "server.ca_file", OPTION_STRING, FIELD(server_ca_file), "", 0, 0, NULL,
          "PEM file with a further trust anchor for https; empty: the system's only" },
        { "server.proxy", OPTION_STRING, FIELD(server_proxy), "", 0, 0, NULL,
          "URL of a proxy; empty: what https_proxy, http_proxy and no_proxy say" },
        { "server.client_cert_file", OPTION_STRING, FIELD(server_client_cert_file), "", 0, 0, NULL,
          "PEM file with the certificate that we show to the server; empty: none" },
        { "server.client_key_file", OPTION_STRING, FIELD(server_client_key_file), "", 0, 0, NULL,
          "PEM file with its key; empty: it is in the certificate's file" },
        { "server.report", OPTION_BOOL, FIELD(server_report), "true", 0, 0, NULL,
          "tell the server what was installed, refused and rolled back" },
        { "server.report_url", OPTION_STRING, FIELD(server_report_url), "", 0, 0, NULL,
          "base URL of the server to tell, where models come from a mirror; empty: server.url" },
        { "server.timeout", OPTION_DURATION, FIELD(timeout_ms), "30s", 100, 600000, NULL,
          "time for one request, the answer included" },
        { "models", OPTION_LIST, FIELD(models), "rapl-sysfs/AbsPower/archive", 0, 0, NULL,
          "models to keep up to date: ENERGY_SOURCE/OUTPUT_TYPE/FORM, form archive or weight" },
        { "trainer", OPTION_STRING, FIELD(trainer), "", 0, 0, NULL,
          "only models whose name contains this text; empty: any" },
        { "features", OPTION_LIST, FIELD(features),
          "bpf_block_irq,bpf_cpu_time_ms,bpf_net_rx_irq,bpf_net_tx_irq,bpf_page_cache_hit", 0, 0, NULL,
          "features this machine can supply; models that need others are not asked for and are refused" },
        { "store.path", OPTION_STRING, FIELD(store_path), "/var/lib/wattloop/models", 0, 0, NULL,
          "directory of the installed models" },
        { "estimator.socket", OPTION_STRING, FIELD(estimator_socket), "/run/wattloop/estimator.sock", 0, 0,
          NULL, "unix socket of the estimator to tell; empty: nobody" },
        { "estimator.timeout", OPTION_DURATION, FIELD(estimator_timeout_ms), "5s", 100, 600000, NULL,
          "time for the estimator to serve a new model before the old one is put back" },
        { "canary.samples", OPTION_STRING, FIELD(canary_samples), "/var/lib/wattloop/samples.db", 0, 0, NULL,
          "the collector's database: on its last rows a new model is compared with the one that serves; "
          "empty: not" },
        { "canary.disagreement", OPTION_INT, FIELD(canary_disagreement), "100", 0, 100000, NULL,
          "how far the two may be apart there, in percent of what the serving model says on average; 0: "
          "any" },
        { "kepler.sidecar_path", OPTION_STRING, FIELD(kepler_sidecar_path), "", 0, 0, NULL,
          "directory 'download' of an upstream estimator sidecar, to install archives into as well; empty: "
          "none" },
        { "kepler.weight_path", OPTION_STRING, FIELD(kepler_weight_path), "", 0, 0, NULL,
          "directory of Kepler's weight files (/var/lib/kepler/data/model_weight), to install weights into "
          "as "
          "well; empty: none" },
        { "kepler.reload", OPTION_LIST, FIELD(kepler_reload), "", 0, 0, NULL,
          "command, program and arguments, that makes them read what was installed; no shell; empty: none" },
        { "from", OPTION_STRING, FIELD(from), "", 0, 0, NULL,
          "update: install this archive, weight JSON, directory or mirror, not what a server has" },
        { "json", OPTION_BOOL, FIELD(json), "false", 0, 0, NULL, "status: print JSON" },
        { "procfs_root", OPTION_STRING, FIELD(procfs_root), "/proc", 0, 0, NULL,
          "directory read in place of /proc for the machine's description" },
        { "sysfs_root", OPTION_STRING, FIELD(sysfs_root), "/sys", 0, 0, NULL,
          "directory read in place of /sys for the machine's description" },
        { 0 },
};

static int check_url(const char *key, const char *url, struct err *e)
{
        const char *scheme = strstr(url, "://");

        if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
                return err_set(e, -EINVAL, "%s '%.80s' must begin with http:// or https://", key, url);
        if (memchr(scheme + 3, '@', strcspn(scheme + 3, "/")))
                return err_set(e, -EINVAL, "%s must not hold a password; see server.token_file", key);
        return 0;
}

int options_check(const void *options, struct err *e)
{
        const struct options *o = options;
        struct slot slot;
        int r;

        r = check_url("server.url", o->server_url, e);
        if (r == 0 && *o->server_report_url)
                r = check_url("server.report_url", o->server_report_url, e);
        if (r < 0)
                return r;
        if (o->kepler_reload.n > 0 && o->kepler_reload.items[0][0] != '/')
                return err_set(e, -EINVAL, "kepler.reload must begin with the absolute path of a program");
        if (!*o->store_path)
                return err_set(e, -EINVAL, "store.path must not be empty");
        if (o->models.n == 0 || o->features.n == 0)
                return err_set(e, -EINVAL, "%s must not be empty", o->models.n == 0 ? "models" : "features");
        for (size_t i = 0; i < o->models.n; i++) {
                r = slot_parse(o->models.items[i], &slot, e);
                if (r < 0)
                        return err_prefix(e, r, "models");
        }
        return 0;
}
