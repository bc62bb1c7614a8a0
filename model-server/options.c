/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/options.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "common/num.h"
#include "schema/vocabulary.h"

#define AT(member) offsetof(struct options, member)
#define KIB        1024.0
#define MIB        (1024.0 * 1024.0)

static const char *const trainer_classes[] = { "SGDRegressorTrainer",
                                               "LinearRegressionTrainer",
                                               "LogarithmicRegressionTrainer",
                                               "ExponentialRegressionTrainer",
                                               "LogisticRegressionTrainer",
                                               "XgboostFitTrainer",
                                               "BlendTrainer",
                                               NULL };
static const char *const isolators[] = { "none", "min", NULL };
static const char *const trainable[] = { "measured", "simulated", "virtual", NULL };

const struct option options_table[] = {
        { "listen", OPTION_STRING, AT(listen), "127.0.0.1:8100", 0, 0, NULL,
          "Address and port of the HTTP server; an address that is not loopback needs auth.token_file." },
        { "auth.token_file", OPTION_STRING, AT(token_file), "", 0, 0, NULL,
          "File with one bearer token per line, or 'NODE_ID TOKEN' for one node's; when set, uploads must "
          "carry one of them; see the subcommand token." },
        { "tls.certificate", OPTION_STRING, AT(tls_certificate), "", 0, 0, NULL,
          "PEM file with the server's certificate and its chain; when set, the server speaks HTTPS only." },
        { "tls.key", OPTION_STRING, AT(tls_key), "", 0, 0, NULL,
          "PEM file with the certificate's private key." },
        { "database.path", OPTION_STRING, AT(database_path), "/var/lib/wattloop/server.db", 0, 0, NULL,
          "SQLite database of samples, training rows and learners." },
        { "retention.samples", OPTION_DURATION, AT(retention_samples_ms), "30d", 60e3, 3650 * 86400e3, NULL,
          "How long samples are kept after they were received." },
        { "retention.rows", OPTION_DURATION, AT(retention_rows_ms), "730d", 60e3, 36500 * 86400e3, NULL,
          "How long training rows, which are made of them, are kept." },
        { "retention.size", OPTION_SIZE, AT(retention_size), "8GiB", 0, 1e6 * MIB, NULL,
          "Largest size of the database: near it the oldest samples go, and then the oldest rows; 0 is no "
          "limit." },
        { "retention.reports", OPTION_DURATION, AT(retention_reports_ms), "90d", 60e3, 3650 * 86400e3, NULL,
          "How long is kept what nodes report of their updates." },
        { "models.path", OPTION_STRING, AT(models_path), "/var/lib/wattloop/pipelines", 0, 0, NULL,
          "Directory of pipelines: the one published here, and any of Kepler's put beside it." },
        { "pipeline.name", OPTION_STRING, AT(pipeline_name), "wattloop", 0, 0, NULL,
          "Name of the pipeline that is published." },
        { "training.provenance", OPTION_LIST, AT(provenance), "measured", 0, 0, trainable,
          "Kinds of power that are trained on: measured, simulated, virtual." },
        { "training.min_rows", OPTION_INT, AT(min_rows), "30", 15, 1e9, NULL,
          "Rows that a component needs before its model is published." },
        { "training.trainers", OPTION_LIST, AT(trainers), "SGDRegressorTrainer", 0, 0, trainer_classes,
          "Trainers whose models are published, by class." },
        { "training.max_rows", OPTION_INT, AT(max_rows), "20000", 100, 1e6, NULL,
          "Rows that a model is trained on at most, spread evenly over those that there are." },
        { "training.node_share", OPTION_DOUBLE, AT(node_share), "0.5", 0, 1, NULL,
          "Largest share of a model's rows that one node may give when there are several." },
        { "training.exclude_nodes", OPTION_LIST, AT(exclude_nodes), "", 0, 0, NULL,
          "Ids of nodes whose rows are not learned from; a change learns everything again without them." },
        { "training.isolator", OPTION_ENUM, AT(isolator), "min", 0, 0, isolators,
          "How DynPower is told from AbsPower: none, or min (less each node's lowest power)." },
        { "training.forgetting", OPTION_DOUBLE, AT(forgetting), "0.999", 0.9, 1, NULL,
          "What an online learner multiplies a row's weight with at each later one." },
        { "training.trial_rows", OPTION_INT, AT(trial_rows), "50", 15, 1e6, NULL,
          "Rows that champion and challenger are compared on, which neither has seen." },
        { "training.seed", OPTION_INT, AT(seed), "1", 0, 2147483647, NULL,
          "Seed of trainers that draw lots." },
        { "publish.interval", OPTION_DURATION, AT(publish_interval_ms), "60s", 100, 86400e3, NULL,
          "Least time between two publications; a new model is published at once." },
        { "data.prometheus_url", OPTION_STRING, AT(prometheus_url), "", 0, 0, NULL,
          "Prometheus or VictoriaMetrics to read samples from, besides what is uploaded; empty: none." },
        { "data.interval", OPTION_DURATION, AT(prometheus_interval_ms), "30s", 100, 86400e3, NULL,
          "How often new samples are read from it." },
        { "data.lookback", OPTION_DURATION, AT(prometheus_lookback_ms), "7d", 1000, 3650.0 * 86400e3, NULL,
          "How far back the first reading goes." },
        { "data.step", OPTION_DURATION, AT(prometheus_step_ms), "0s", 0, 3600e3, NULL,
          "Step of range queries, as Kepler's trainer makes them; 0s: samples as they are stored." },
        { "signing.key_file", OPTION_STRING, AT(signing_key_file), "", 0, 0, NULL,
          "Secret key (minisign, without a password, mode 0600) that signs what is served; empty: nothing is "
          "signed." },
        { "signing.keys_file", OPTION_STRING, AT(signing_keys_file), "", 0, 0, NULL,
          "List of release keys to serve, with its signature beside it in FILE.minisig; see the subcommand "
          "keys." },
        { "signing.expires", OPTION_DURATION, AT(signing_expires_ms), "30d", 0, 3650 * 86400e3, NULL,
          "How long a signature is good; all are made anew after half of it. 0: for ever." },
        { "rollout.stages", OPTION_LIST, AT(rollout_stages), "", 0, 0, NULL,
          "Percent of the nodes that get a new model at first, next, and so on; then all. Empty: all at "
          "once." },
        { "rollout.stage_time", OPTION_DURATION, AT(rollout_stage_ms), "1h", 0, 365 * 86400e3, NULL,
          "How long each stage lasts at least." },
        { "rollout.min_reports", OPTION_INT, AT(rollout_min_reports), "3", 0, 1e6, NULL,
          "Nodes that have to report of a model before it goes on to the next stage, or is halted." },
        { "rollout.halt_share", OPTION_DOUBLE, AT(rollout_halt_share), "0.1", 0, 1, NULL,
          "A model is halted when a larger share of the nodes that report of it refuse it or go back from "
          "it." },
        { "serve.prefer_machine_spec", OPTION_BOOL, AT(prefer_machine_spec), "false", 0, 0, NULL,
          "Take node type 0 sent along with a machine spec as 'any', as Kepler's exporter means it." },
        { "limits.import_bytes", OPTION_SIZE, AT(import_bytes), "16MiB", 1 * KIB, 1024 * MIB, NULL,
          "Largest upload, as transported." },
        { "limits.import_plain_bytes", OPTION_SIZE, AT(import_plain_bytes), "128MiB", 1 * KIB, 4096 * MIB,
          NULL, "Largest upload when unpacked." },
        { "limits.import_lines", OPTION_INT, AT(import_lines), "200000", 1, 1e8, NULL,
          "Lines in an upload." },
        { "limits.line_samples", OPTION_INT, AT(line_samples), "100000", 1, 1e7, NULL, "Samples in a line." },
        { "limits.connections", OPTION_INT, AT(connections), "2000", 1, 1e5, NULL, "Connections at a time." },
        { "limits.idle_time", OPTION_DURATION, AT(idle_ms), "15s", 1000, 3600e3, NULL,
          "A connection that sends no whole request header for so long is closed." },
        { "limits.request_time", OPTION_DURATION, AT(request_ms), "60s", 1000, 3600e3, NULL,
          "A request that takes longer to arrive or to be taken is closed." },
        { "--data", OPTION_STRING, AT(data), "", 0, 0, NULL,
          "train, evaluate, report: directory of a recording." },
        { "--out", OPTION_STRING, AT(out), "", 0, 0, NULL,
          "train, report, publish: directory for what they make; convert: the archive." },
        { "--features", OPTION_LIST, AT(features), "", 0, 0, NULL,
          "convert: the features that the network's inputs are, in their order." },
        { "--components", OPTION_LIST, AT(components), "", 0, 0, NULL,
          "convert: the components whose watts its outputs are, in their order." },
        { "--scaler", OPTION_STRING, AT(scaler), "", 0, 0, NULL,
          "convert: what its inputs were scaled by, as scikit-learn's pickle or as JSON." },
        { "--rows", OPTION_STRING, AT(rows), "", 0, 0, NULL,
          "convert: held-back rows (trainer-client export --csv), to score the network on." },
        { "--name", OPTION_STRING, AT(name), "NetworkTrainer_0", 0, 0, NULL,
          "convert: name of the model, with its node type." },
        { "--output-type", OPTION_STRING, AT(output_type), "AbsPower", 0, 0, NULL,
          "convert: AbsPower, or DynPower (without idle power)." },
        { "--mae", OPTION_DOUBLE, AT(mae), "0", 0, 1e6, NULL,
          "convert: its mean absolute error in watts, where there are no --rows; 0: unknown." },
        { "--provenance", OPTION_STRING, AT(convert_provenance), "", 0, 0, NULL,
          "convert: of the power that it learned from, where the rows do not tell; empty: measured." },
        { "--hold", OPTION_STRING, AT(hold), "", 0, 0, NULL,
          "train: leave out one fold's rows, as in S3; evaluate: score only those." },
        { "--sign", OPTION_BOOL, AT(sign), "false", 0, 0, NULL,
          "publish: sign each file with signing.key_file, into FILE.minisig." },
        { "--keys", OPTION_BOOL, AT(keys), "false", 0, 0, NULL,
          "backup, restore: signing key, list of keys, tokens and TLS files, too." },
        { "--force", OPTION_BOOL, AT(force), "false", 0, 0, NULL,
          "restore: move what is there aside, to names that end with .before." },
        { "--fleet", OPTION_BOOL, AT(fleet), "false", 0, 0, NULL, "token: one that is good for every node." },
        { "--expires", OPTION_DURATION, AT(expires_ms), "365d", 0, 36500 * 86400e3, NULL,
          "keys: how long a list of keys is good; 0: for ever." },
        { 0 },
};

int options_split_listen(const char *listen, char ret_host[LISTEN_HOST_MAX], unsigned short *ret_port,
                         struct err *e)
{
        const char *colon = strrchr(listen, ':');
        size_t n = colon ? (size_t)(colon - listen) : 0;
        uint64_t port;

        if (!colon || num_parse_u64(colon + 1, &port) < 0 || port > 65535)
                return err_set(e, -EINVAL, "listen: '%s' is not ADDRESS:PORT", listen);
        if (n >= 2 && listen[0] == '[' && listen[n - 1] == ']') {
                listen++;
                n -= 2;
        }
        if (n >= LISTEN_HOST_MAX)
                return err_set(e, -EINVAL, "listen: '%s' is too long for an address", listen);
        memcpy(ret_host, listen, n);
        ret_host[n] = '\0';
        *ret_port = (unsigned short)port;
        return 0;
}

static bool is_loopback(const char *host)
{
        return !strncmp(host, "127.", 4) || !strcmp(host, "::1") || !strcmp(host, "localhost");
}

static bool valid_name(const char *name)
{
        return *name && *name != '.' && !strchr(name, '/') && strlen(name) < 128;
}

int options_check(const void *options, struct err *e)
{
        const struct options *o = options;
        char host[LISTEN_HOST_MAX];
        unsigned short port;
        int r = options_split_listen(o->listen, host, &port, e);

        if (r < 0)
                return r;
        if (!is_loopback(host) && !*o->token_file)
                return err_set(
                        e, -EINVAL,
                        "listen: '%s' can be reached from other machines; set auth.token_file, so that not "
                        "everybody can upload",
                        o->listen);
        if (!*o->tls_certificate != !*o->tls_key)
                return err_set(e, -EINVAL, "tls.certificate and tls.key must be set together");
        if (!valid_name(o->pipeline_name))
                return err_set(e, -EINVAL, "pipeline.name: '%s' is not a plain directory name",
                               o->pipeline_name);
        for (size_t i = 0; i < o->rollout_stages.n; i++) {
                uint64_t percent;

                if (num_parse_u64(o->rollout_stages.items[i], &percent) < 0 || percent < 1 || percent > 99)
                        return err_set(e, -EINVAL, "rollout.stages: '%.32s' is not 1 to 99 percent",
                                       o->rollout_stages.items[i]);
        }
        if (!*o->database_path || !*o->models_path)
                return err_set(e, -EINVAL, "database.path and models.path must not be empty");
        return 0;
}

unsigned int options_accepted(const struct options *o)
{
        unsigned int accepted = 0;

        for (int p = 0; p < PROVENANCE_N; p++)
                if (string_list_has(&o->provenance, provenance_names[p]))
                        accepted |= 1u << p;
        return accepted;
}
