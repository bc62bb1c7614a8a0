/* SPDX-License-Identifier: Apache-2.0 */
/* The model server's state, and what it does: take batches in, publish models, say how it is. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include "model-server/ingest/import.h"
#include "model-server/learn/learn.h"
#include "model-server/options.h"
#include "model-server/serve/catalog.h"
#include "model-server/bearers.h"

#define STATUS_CODES    14
#define SERVER_PATH_MAX 4096

/* Since the start. */
struct counters {
        atomic_ullong imports, imports_refused;
        atomic_ullong samples, added, duplicate, ignored;
        atomic_ullong rows;
        atomic_ullong intervals[FOLD_VERDICTS];
        atomic_ullong publications, publications_failed;
        atomic_ullong reports[OUTCOMES];
        atomic_llong imported_ms;             /* when the last batch was stored; 0: none yet */
        atomic_ullong requests[STATUS_CODES]; /* by server_status_codes */
};
extern const int server_status_codes[STATUS_CODES];

/* An upload that was not stored. */
#define REFUSALS_KEPT 20
struct refusal {
        int64_t received_ms;
        int status;
        char batch[128], reason[256];
};

struct trainings;
struct signer;
struct rollouts;
struct server {
        const struct options *options;
        struct bearers *tokens; /* NULL: uploads need none */
        struct counters counters;
        pthread_mutex_t lock;
        pthread_mutex_t swap;                   /* held by who makes the next catalog of the one there is */
        struct catalog *catalog;                /* under the lock; take a reference with server_catalog() */
        struct refusal refusals[REFUSALS_KEPT]; /* under the lock; newest first */
        size_t refusals_n;
        struct learn *learn;
        struct trainings *trainings; /* serve/trainings.h; NULL until main() has started it */
        struct signer *signer;       /* serve/signer.h; NULL: nothing is signed */
        struct rollouts *rollouts;   /* serve/rollouts.h; NULL: what is new is for all at once */
        bool withdraw; /* of the learning thread: what is published is of power that is not accepted */

        /* The worker thread's alone. */
        struct store *store;
        struct import_settings settings;
        struct retention retention;
        uint64_t trim_ns;    /* monotonic: not again before */
        uint64_t rollout_ns; /* likewise */
};

/* Opens the database and restores what was learned; reads the pipelines. */
int server_open(struct server *server, const struct options *options, struct err *e);
void server_close(struct server *server);

struct catalog *server_catalog(struct server *server); /* catalog_unref() it */
/* Reads one of the pipelines below models.path again, and serves it; -ENOENT: there is none of that name any
 * more, and it is not served any more. Of any thread. */
int server_reload_pipeline(struct server *server, const char *name, struct err *e);
/* authorization NULL: none was sent. ret_node_id: whose series the token may upload; "": anybody's. Of any
 * thread. */
bool server_token_ok(const struct server *server, const char *authorization,
                     char ret_node_id[TOKEN_NODE_MAX]);

/* Of the worker thread. */
void server_import(struct server *server, struct upload *const uploads[], size_t n);
/* A body of POST /api/v1/report; errors of reports_take(). */
int server_report(struct server *server, const char *body, size_t size, const char *node_id, size_t *ret_new,
                  size_t *ret_n, struct err *e);
int server_status(struct server *server, json_t **ret, struct err *e); /* contract 3 */
void server_work_if_due(struct server *server);                        /* drops what is too old */

/* How the learning thread is set up, but for its ledger and publishing. */
void server_learn_settings(const struct options *options, struct learn_settings *ret);
struct signer_settings;
/* Where the signer keeps its state: `path`, to which *ret points. */
int server_signer_settings(const struct options *options, char path[SERVER_PATH_MAX],
                           struct signer_settings *ret, struct err *e);
int server_ledger_path(const struct options *options, char ret[SERVER_PATH_MAX], struct err *e);

/* Of any thread. */
void server_write_metrics(struct server *server, struct buf *out);
void server_count_request(struct server *server, int status);
void server_note_refusal(struct server *server, const char *batch, int status, const char *reason);
