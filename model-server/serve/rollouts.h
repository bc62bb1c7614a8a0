/* SPDX-License-Identifier: Apache-2.0 */
/* Staged rollout (docs/contracts.md, 4). Beside the newest pipelines the server keeps those that all nodes
 * may have, as copies in `<models.path>/.rollout/`. While a pipeline differs from its copy, a rollout is
 * under way: a growing share of the nodes gets what is new, until it has gone well for all stages and becomes
 * the copy, or is halted because too many nodes refuse it. `.rollout/.state.json` says where each stands; the
 * subcommand `rollout` edits it, a running server takes that over within a second. */
#pragma once

#include <jansson.h>
#include "config/option.h"
#include "model-server/serve/request.h"
#include "model-server/serve/seal.h"
#include "model-server/store.h"

struct rollouts_settings {
        const char *models_path, *own;    /* as catalog_load() */
        const struct string_list *stages; /* percents; not empty */
        int64_t stage_ms;
        uint64_t min_reports;
        double halt_share;
};

struct rollouts;
int rollouts_open(const struct rollouts_settings *settings, struct rollouts **ret, struct err *e);
void rollouts_free(struct rollouts *rollouts);

/* This is the newest from now on. What is there when a server first stages anything is for all. Of any
 * thread. */
int rollouts_set(struct rollouts *rollouts, struct catalog *newest, int64_t now_ms, struct err *e);

/* WISH_OWN: what this node (NULL: one that does not say who it is) may have. */
enum rollout_wish { WISH_OWN, WISH_STABLE, WISH_CANDIDATE };
/* Of any thread; ret->offer NULL: there is none, or no candidate. */
void rollouts_choose(struct rollouts *rollouts, const struct model_request *request, const char *node_id,
                     enum rollout_wish wish, struct choice *ret);

/* Reports came in: they are counted at the next tick. */
void rollouts_poke(struct rollouts *rollouts);
/* Of the worker thread, about once a second: counts reports, halts, goes on. 1: what is served has changed.
 */
int rollouts_tick(struct rollouts *rollouts, struct store *store, int64_t now_ms, struct err *e);

/* A new reference; contract 3. */
json_t *rollouts_status(struct rollouts *rollouts);

/* The subcommand: status, halt [PIPELINE], resume [PIPELINE]. */
int rollout_run(const void *options, int argc, char **argv);
