/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/options.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define FIELD(f) offsetof(struct options, f)

#define DESTINATION_CHARS "abcdefghijklmnopqrstuvwxyz0123456789-"

const struct option options_table[] = {
        { "store.path", OPTION_STRING, FIELD(store_path), "/var/lib/wattloop/samples.db", 0, 0, NULL,
          "database of samples that the collector writes" },
        { "state.path", OPTION_STRING, FIELD(state_path), "/var/lib/wattloop/trainer-client", 0, 0, NULL,
          "directory of the cursors and the lock" },
        { "destination", OPTION_STRING, FIELD(destination), "model-server", 0, 0, NULL,
          "name of the destination; cursor and acknowledgement are kept under it" },
        { "server.url", OPTION_STRING, FIELD(server_url), "http://127.0.0.1:8100", 0, 0, NULL,
          "base URL of the model server; /api/v1/import is appended" },
        { "server.token_file", OPTION_STRING, FIELD(server_token_file), "", 0, 0, NULL,
          "file whose first line is sent as bearer token; empty: none" },
        { "server.ca_file", OPTION_STRING, FIELD(server_ca_file), "", 0, 0, NULL,
          "PEM file with a further trust anchor for https; empty: the system's only" },
        { "server.timeout", OPTION_DURATION, FIELD(timeout_ms), "30s", 100, 600000, NULL,
          "time for one upload, the answer included" },
        { "batch.intervals", OPTION_INT, FIELD(batch_intervals), "500", 1, 100000, NULL,
          "most intervals in one batch" },
        { "batch.bytes", OPTION_SIZE, FIELD(batch_bytes), "1MiB", 4096, 64 << 20, NULL,
          "about so large may a batch be before compression; one interval is always sent whole" },
        { "retry.attempts", OPTION_INT, FIELD(retry_attempts), "5", 1, 1000, NULL,
          "attempts to deliver a batch before giving up" },
        { "retry.base", OPTION_DURATION, FIELD(retry_base_ms), "500ms", 1, 60000, NULL,
          "longest wait before the second attempt; doubles with each further one" },
        { "retry.max", OPTION_DURATION, FIELD(retry_max_ms), "30s", 1, 3600000, NULL,
          "longest wait between two attempts, also when the server asks for more" },
        { "follow", OPTION_BOOL, FIELD(follow), "false", 0, 0, NULL,
          "push: keep running and push again and again" },
        { "follow_interval", OPTION_DURATION, FIELD(follow_interval_ms), "30s", 100, 86400000, NULL,
          "push --follow: time between two rounds" },
        { "json", OPTION_BOOL, FIELD(json), "false", 0, 0, NULL, "status: print JSON" },
        { 0 },
};

int options_check(const void *options, struct err *e)
{
        const struct options *o = options;

        if (!*o->destination || strspn(o->destination, DESTINATION_CHARS) != strlen(o->destination) ||
            strlen(o->destination) > 64)
                return err_set(e, -EINVAL,
                               "destination '%.80s' must be 1 to 64 lower-case letters, digits and dashes",
                               o->destination);
        if (strncmp(o->server_url, "http://", 7) != 0 && strncmp(o->server_url, "https://", 8) != 0)
                return err_set(e, -EINVAL, "server.url '%.80s' must begin with http:// or https://",
                               o->server_url);
        if (!*o->store_path || !*o->state_path)
                return err_set(e, -EINVAL, "%s must not be empty",
                               *o->store_path ? "state.path" : "store.path");
        if (o->retry_base_ms > o->retry_max_ms)
                return err_set(e, -EINVAL, "retry.base must not be larger than retry.max");
        return 0;
}
