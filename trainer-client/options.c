/* SPDX-License-Identifier: Apache-2.0 */
#define _XOPEN_SOURCE 700
#include "trainer-client/options.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include "common/num.h"
#include "schema/vocabulary.h"

#define FIELD(f) offsetof(struct options, f)

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyz0123456789-"
#define NAME_MAX_  64
#define MIB        (1024.0 * 1024.0)
#define HOUR_MS    3600e3

static const char *const kinds[] = {
        [KIND_MODEL_SERVER] = "model-server",
        [KIND_VICTORIAMETRICS] = "victoriametrics",
        [KIND_REMOTE_WRITE] = "prometheus-remote-write",
        [KIND_KEPLER_TRAINER] = "kepler-trainer",
        [KIND_FILE] = "file",
        [KIND_N] = NULL,
};
static const char *const names_forms[] = {
        [NAMES_FULL] = "full",
        [NAMES_HASH] = "hash",
        [NAMES_NONE] = "none",
        [NAMES_FORM_N] = NULL,
};
static const char *const orders[] = { "oldest", "newest", NULL };

/* What destinations have in common: how much goes into a batch, and when to try again. */
/* clang-format off */
#define DESTINATION(section, kind, intervals, bytes)                                                            \
        { section ".name", OPTION_STRING, FIELD(destination[kind].name), "", 0, 0, NULL,                        \
          "name of this destination's cursor, lock and acknowledgement; empty: its kind" },                     \
        { section ".batch_intervals", OPTION_INT, FIELD(destination[kind].batch_intervals), intervals, 0, 1e6, NULL,\
          "most intervals in one batch; 0: batch.intervals" },                                                  \
        { section ".batch_bytes", OPTION_SIZE, FIELD(destination[kind].batch_bytes), bytes, 0, 64 * MIB, NULL,  \
          "about so large may a batch be before compression; 0: batch.bytes" },                                 \
        { section ".rate_bytes", OPTION_SIZE, FIELD(destination[kind].rate_bytes), "0", 0, 1e12, NULL,          \
          "bytes a second, compressed, on the average of a run; 0: no limit" }

#define HTTP(section, kind, timeout)                                                                            \
        { section ".token_file", OPTION_STRING, FIELD(destination[kind].token_file), "", 0, 0, NULL,            \
          "file whose first line is sent as bearer token, read before every upload; empty: none" },             \
        { section ".user", OPTION_STRING, FIELD(destination[kind].user), "", 0, 0, NULL,                        \
          "user for basic authentication; empty: none" },                                                       \
        { section ".password_file", OPTION_STRING, FIELD(destination[kind].password_file), "", 0, 0, NULL,      \
          "file whose first line is the user's password, read before every upload" },                           \
        { section ".headers", OPTION_LIST, FIELD(destination[kind].headers), "", 0, 0, NULL,                    \
          "further request headers, 'Name: value'; a tenant's X-Scope-OrgID for instance" },                    \
        { section ".ca_file", OPTION_STRING, FIELD(destination[kind].ca_file), "", 0, 0, NULL,                  \
          "PEM file with a further trust anchor for https; empty: the system's only" },                         \
        { section ".client_cert_file", OPTION_STRING, FIELD(destination[kind].client_cert_file), "", 0, 0, NULL,\
          "PEM file with the certificate that we show to the server; empty: none" },                            \
        { section ".client_key_file", OPTION_STRING, FIELD(destination[kind].client_key_file), "", 0, 0, NULL,  \
          "PEM file with its key; empty: it is in the certificate's file" },                                    \
        { section ".proxy", OPTION_STRING, FIELD(destination[kind].proxy), "", 0, 0, NULL,                      \
          "URL of a proxy; empty: what https_proxy, http_proxy and no_proxy say" },                             \
        { section ".timeout", OPTION_DURATION, FIELD(destination[kind].timeout_ms), timeout, 100, 24 * HOUR_MS, NULL,\
          "time for one upload, the answer included" },                                                         \
        { section ".limit_bytes", OPTION_SIZE, FIELD(destination[kind].limit_bytes), "0", 0, 1024 * MIB, NULL,  \
          "a batch that is larger as transported is split before it is sent; 0: no limit" },                    \
        { section ".retry_attempts", OPTION_INT, FIELD(destination[kind].retry_attempts), "0", 0, 1000, NULL,   \
          "as retry.attempts, for this destination; 0: as there" },                                             \
        { section ".retry_base", OPTION_DURATION, FIELD(destination[kind].retry_base_ms), "0ms", 0, 60000, NULL,\
          "as retry.base, for this destination; 0: as there" },                                                 \
        { section ".retry_max", OPTION_DURATION, FIELD(destination[kind].retry_max_ms), "0ms", 0, HOUR_MS, NULL,\
          "as retry.max, for this destination; 0: as there" },                                                  \
        { section ".order", OPTION_ENUM, FIELD(destination[kind].order), "oldest", 0, 0, orders,                \
          "which of the backlog goes first, oldest or newest; only victoriametrics takes newest" }
/* clang-format on */

const struct option options_table[] = {
        { "store.path", OPTION_STRING, FIELD(store_path), "/var/lib/wattloop/samples.db", 0, 0, NULL,
          "database of samples that the collector writes" },
        { "state.path", OPTION_STRING, FIELD(state_path), "/var/lib/wattloop/trainer-client", 0, 0, NULL,
          "directory of the cursors, locks and quarantined batches" },
        { "destinations", OPTION_LIST, FIELD(destinations), "model-server", 0, 0, kinds,
          "where the samples go, each in parallel with the others" },

        { "server.url", OPTION_STRING, FIELD(destination[KIND_MODEL_SERVER].url), "http://127.0.0.1:8100", 0,
          0, NULL, "base URL of the model server; /api/v1/import is appended" },
        DESTINATION("server", KIND_MODEL_SERVER, "0", "0"),
        HTTP("server", KIND_MODEL_SERVER, "30s"),

        { "victoriametrics.url", OPTION_STRING, FIELD(destination[KIND_VICTORIAMETRICS].url),
          "http://127.0.0.1:8428", 0, 0, NULL,
          "base URL, /api/v1/import is appended; of a cluster: "
          "http://VMINSERT:8480/insert/TENANT/prometheus" },
        { "victoriametrics.query_url", OPTION_STRING, FIELD(audit_url[KIND_VICTORIAMETRICS]), "", 0, 0, NULL,
          "audit: base URL of the query API; empty: the url; of a cluster: "
          "http://VMSELECT:8481/select/TENANT/prometheus" },
        DESTINATION("victoriametrics", KIND_VICTORIAMETRICS, "0", "0"),
        HTTP("victoriametrics", KIND_VICTORIAMETRICS, "30s"),

        { "remote_write.url", OPTION_STRING, FIELD(destination[KIND_REMOTE_WRITE].url),
          "http://127.0.0.1:9090/api/v1/write", 0, 0, NULL,
          "URL of a Prometheus remote-write receiver (Prometheus, Mimir, Thanos)" },
        { "remote_write.query_url", OPTION_STRING, FIELD(audit_url[KIND_REMOTE_WRITE]), "", 0, 0, NULL,
          "base URL of the receiver's query API; empty: the url without /api/v1/write" },
        DESTINATION("remote_write", KIND_REMOTE_WRITE, "0", "0"),
        HTTP("remote_write", KIND_REMOTE_WRITE, "30s"),

        { "kepler_trainer.url", OPTION_STRING, FIELD(destination[KIND_KEPLER_TRAINER].url),
          "http://127.0.0.1:8102", 0, 0, NULL, "base URL of Kepler's offline trainer; /train is appended" },
        { "kepler_trainer.pipeline", OPTION_STRING, FIELD(kepler.name), "kepler", 0, 0, NULL,
          "name of the pipeline that is asked for, and of its zip; not the model server's pipeline.name" },
        { "kepler_trainer.models_path", OPTION_STRING, FIELD(kepler.store_path),
          "/var/lib/wattloop/pipelines", 0, 0, NULL,
          "directory that gets the zip: a model server's models.path" },
        { "kepler_trainer.energy_source", OPTION_STRING, FIELD(kepler.energy_source), "rapl-sysfs", 0, 0,
          NULL, "which power is trained: rapl-sysfs or acpi" },
        { "kepler_trainer.abs_trainers", OPTION_LIST, FIELD(kepler.abs_trainers), "SGDRegressorTrainer", 0, 0,
          NULL, "trainers of node power" },
        { "kepler_trainer.dyn_trainers", OPTION_LIST, FIELD(kepler.dyn_trainers), "SGDRegressorTrainer", 0, 0,
          NULL, "trainers of dynamic power" },
        { "kepler_trainer.isolator", OPTION_STRING, FIELD(kepler.isolator), "MinIdleIsolator", 0, 0, NULL,
          "MinIdleIsolator, NoneIsolator, ProfileBackgroundIsolator or TrainIsolator" },
        { "kepler_trainer.abs_pipeline_name", OPTION_STRING, FIELD(kepler.abs_pipeline), "", 0, 0, NULL,
          "TrainIsolator: the pipeline whose node power model isolates; empty: the trainer's own" },
        { "kepler_trainer.idle_start", OPTION_STRING, FIELD(kepler.idle_start), "", 0, 0, NULL,
          "beginning of a recorded idle time (RFC 3339, UTC); empty: the quietest stretch of the batch" },
        { "kepler_trainer.idle_end", OPTION_STRING, FIELD(kepler.idle_end), "", 0, 0, NULL,
          "end of that idle time" },
        { "kepler_trainer.idle_intervals", OPTION_INT, FIELD(kepler.idle_intervals), "20", 1, 10000, NULL,
          "length of the quietest stretch, in intervals" },
        { "kepler_trainer.min_intervals", OPTION_INT, FIELD(kepler.min_intervals), "100", 1, 1e6, NULL,
          "a recording that is shorter waits for more" },
        DESTINATION("kepler_trainer", KIND_KEPLER_TRAINER, "1200", "32MiB"),
        HTTP("kepler_trainer", KIND_KEPLER_TRAINER, "1h"),

        { "file.path", OPTION_STRING, FIELD(file.path), "/var/lib/wattloop/outbox", 0, 0, NULL,
          "directory of the bundles and their manifest" },
        { "file.secret_key_file", OPTION_STRING, FIELD(file.secret_key_file), "", 0, 0, NULL,
          "minisign secret key without a password that signs the manifest; see keygen" },
        { "file.max_bundles", OPTION_INT, FIELD(file.max_bundles), "100000", 1, 1e6, NULL,
          "bundles in one directory; then push stops until they have been taken away" },
        DESTINATION("file", KIND_FILE, "0", "8MiB"),

        { "batch.intervals", OPTION_INT, FIELD(batch_intervals), "500", 1, 100000, NULL,
          "most intervals in one batch" },
        { "batch.bytes", OPTION_SIZE, FIELD(batch_bytes), "1MiB", 4096, 64 * MIB, NULL,
          "about so large may a batch be before compression; one interval is always sent whole" },
        { "upload.names", OPTION_ENUM, FIELD(names.form), "full", 0, 0, names_forms,
          "how names of pods, containers and namespaces leave this node: full, hash or none" },
        { "upload.names_key_file", OPTION_STRING, FIELD(names.key_file), "", 0, 0, NULL,
          "upload.names hash: file whose first line is the key; the same on all nodes, or equal names "
          "differ" },
        { "retry.attempts", OPTION_INT, FIELD(retry_attempts), "5", 1, 1000, NULL,
          "attempts to deliver a batch before giving up" },
        { "retry.base", OPTION_DURATION, FIELD(retry_base_ms), "500ms", 1, 60000, NULL,
          "longest wait before the second attempt; doubles with each further one" },
        { "retry.max", OPTION_DURATION, FIELD(retry_max_ms), "30s", 1, HOUR_MS, NULL,
          "longest wait between two attempts, also when the server asks for more" },
        { "quarantine.bytes", OPTION_SIZE, FIELD(quarantine_bytes), "64MiB", 0, 1e12, NULL,
          "refused batches that one destination keeps; beyond, push stops at a refusal" },
        { "follow", OPTION_BOOL, FIELD(follow), "false", 0, 0, NULL,
          "push: keep running and push again and again" },
        { "follow_interval", OPTION_DURATION, FIELD(follow_interval_ms), "30s", 100, 24 * HOUR_MS, NULL,
          "push --follow: time between two rounds" },
        { "quarantined", OPTION_BOOL, FIELD(quarantined), "false", 0, 0, NULL,
          "push: send the quarantined batches once more, too" },
        { "metrics.textfile", OPTION_STRING, FIELD(metrics_textfile), "", 0, 0, NULL,
          "push: write metrics to this .prom file for a textfile collector; empty: none" },
        { "import.public_key_file", OPTION_STRING, FIELD(import_public_key_file), "", 0, 0, NULL,
          "import: minisign public keys, one a line, of which one must have signed the manifest" },
        { "from", OPTION_STRING, FIELD(from), "", 0, 0, NULL,
          "export, audit: only intervals that end at or after this time (RFC 3339, UTC)" },
        { "to", OPTION_STRING, FIELD(to), "", 0, 0, NULL,
          "export, audit: only intervals that end before this time" },
        { "json", OPTION_BOOL, FIELD(json), "false", 0, 0, NULL, "status, audit: print JSON" },
        { "csv", OPTION_BOOL, FIELD(csv), "false", 0, 0, NULL, "export: comma-separated values" },
        { "jsonl", OPTION_BOOL, FIELD(jsonl), "false", 0, 0, NULL,
          "export: one JSON object a line (the default)" },
        { 0 },
};

bool options_enabled(const struct options *o, enum kind kind)
{
        return string_list_has(&o->destinations, kinds[kind]);
}

struct destination_options options_destination(const struct options *o, enum kind kind)
{
        struct destination_options d = o->destination[kind];

        if (!*d.name)
                d.name = (char *)(uintptr_t)kinds[kind]; /* never written to */
        if (d.batch_intervals == 0)
                d.batch_intervals = o->batch_intervals;
        if (d.batch_bytes == 0)
                d.batch_bytes = o->batch_bytes;
        if (d.retry_attempts == 0)
                d.retry_attempts = o->retry_attempts;
        if (d.retry_base_ms == 0)
                d.retry_base_ms = o->retry_base_ms;
        if (d.retry_max_ms == 0)
                d.retry_max_ms = o->retry_max_ms;
        return d;
}

int options_parse_time(const char *text, int64_t fallback, int64_t *ret_ms, struct err *e)
{
        struct tm tm = { 0 };
        double fraction = 0;
        const char *end;

        *ret_ms = fallback;
        if (!*text || num_parse_i64(text, ret_ms) == 0)
                return 0;
        end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
        if (end && *end == '.') {
                char digits[16] = "0";
                size_t n = strspn(end + 1, "0123456789");

                (void)snprintf(digits + 1, sizeof(digits) - 1, "%.*s", (int)(n < 9 ? n + 1 : 10), end);
                (void)num_parse_double(digits, &fraction);
                end += n + 1;
        }
        if (!end || strcmp(end, "Z") != 0)
                return err_set(e, -EINVAL, "'%.60s' is not a time like 2026-11-27T23:00:00Z", text);
        *ret_ms = (int64_t)timegm(&tm) * 1000 + (int64_t)(fraction * 1000 + 0.5);
        return 0;
}

static int check_name(const char *name, struct err *e)
{
        if (strspn(name, NAME_CHARS) == strlen(name) && *name && strlen(name) <= NAME_MAX_)
                return 0;
        return err_set(e, -EINVAL,
                       "destination '%.80s' must be 1 to %d lower-case letters, digits and dashes", name,
                       NAME_MAX_);
}

static int check_url(enum kind kind, const char *url, struct err *e)
{
        if (strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0)
                return 0;
        return err_set(e, -EINVAL, "the url '%.80s' of %s must begin with http:// or https://", url,
                       kinds[kind]);
}

static int check_destination(const struct options *o, enum kind kind, struct err *e)
{
        const struct destination_options d = options_destination(o, kind);
        int r;

        r = check_name(d.name, e);
        for (int other = 0; r == 0 && other < (int)kind; other++)
                if (strcmp(options_destination(o, (enum kind)other).name, d.name) == 0)
                        r = err_set(e, -EINVAL, "two destinations have the name '%s'", d.name);
        if (r == 0 && kind != KIND_FILE)
                r = check_url(kind, d.url, e);
        if (r < 0)
                return r;
        if (d.retry_base_ms > d.retry_max_ms)
                return err_set(e, -EINVAL, "retry.base must not be larger than retry.max (%s)", d.name);
        if (d.order == ORDER_NEWEST && kind != KIND_VICTORIAMETRICS)
                return err_set(e, -EINVAL, "%s takes its samples oldest first only", kinds[kind]);
        if (kind != KIND_FILE && *d.password_file && !*d.user)
                return err_set(e, -EINVAL, "the password_file of %s needs a user", kinds[kind]);
        return 0;
}

static int check_kepler(const struct options *o, struct err *e)
{
        const char *name = o->kepler.name, *source = o->kepler.energy_source;
        int64_t ms;
        int r;

        if (!*name || *name == '.' || strchr(name, '/') || strlen(name) > NAME_MAX_)
                return err_set(e, -EINVAL, "kepler_trainer.pipeline '%.80s' is not a plain name", name);
        if (strcmp(source, "acpi") != 0 && strcmp(source, "rapl-sysfs") != 0)
                return err_set(e, -EINVAL, "kepler_trainer.energy_source must be rapl-sysfs or acpi");
        if (!*o->kepler.idle_start != !*o->kepler.idle_end)
                return err_set(e, -EINVAL, "kepler_trainer.idle_start and idle_end belong together");
        r = options_parse_time(o->kepler.idle_start, 0, &ms, e);
        return r < 0 ? r : options_parse_time(o->kepler.idle_end, 0, &ms, e);
}

int options_check(const void *options, struct err *e)
{
        const struct options *o = options;
        int64_t ms;
        int r = 0;

        if (!*o->store_path || !*o->state_path)
                return err_set(e, -EINVAL, "%s must not be empty",
                               *o->store_path ? "state.path" : "store.path");
        for (int kind = 0; kind < KIND_N && r == 0; kind++)
                r = check_destination(o, (enum kind)kind, e);
        if (r == 0)
                r = check_kepler(o, e);
        if (r == 0)
                r = options_parse_time(o->from, 0, &ms, e);
        if (r == 0)
                r = options_parse_time(o->to, 0, &ms, e);
        if (r == 0 && o->csv && o->jsonl)
                r = err_set(e, -EINVAL, "choose one of --csv and --jsonl");
        return r;
}
