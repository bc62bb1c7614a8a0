/* SPDX-License-Identifier: Apache-2.0 */
/* What the estimator says about itself (contract 6, the command `status`), asked for beside the ticks: never
 * waits, takes a bounded reply within a bounded time, and believes nothing of a reply that has one lie. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "common/clock.h"
#include "common/err.h"
#include "schema/vocabulary.h"

#define ESTIMATOR_STATUS_MAX        ((size_t)64 << 10)
#define ESTIMATOR_STATUS_TIMEOUT_NS (UINT64_C(2) * NS_PER_S)
#define ESTIMATOR_STATUS_PERIOD_NS  NS_PER_S /* it is not asked more often */
#define ESTIMATOR_MODELS_MAX        32
#define ESTIMATOR_BOUNDS_MAX        16

enum estimator_figure {
        ESTIMATOR_UPTIME_MS,
        ESTIMATOR_REQUESTS,
        ESTIMATOR_FAILURES,
        ESTIMATOR_ROWS,
        ESTIMATOR_CLIENTS,
        ESTIMATOR_DENIED,
        ESTIMATOR_SWAPS,
        ESTIMATOR_RELOADS,
        ESTIMATOR_FIGURES
};

struct estimator_model {
        const char *energy_source, *output_type; /* of the vocabulary */
        char form[16], id[65], name[MODEL_NAME_MAX + 1], provenance[16];
        double age_ms, load_ms; /* since it was loaded; that loading took */
        double requests, errors;
};

struct estimator_report {
        double figures[ESTIMATOR_FIGURES]; /* NaN: an estimator of before, which does not say */
        double answer_us;                  /* that all answers took */
        double bounds_us[ESTIMATOR_BOUNDS_MAX], counts[ESTIMATOR_BOUNDS_MAX + 1];
        size_t n_bounds; /* 0: it does not say */
        struct estimator_model models[ESTIMATOR_MODELS_MAX];
        size_t n_models, n_refused;
};

struct estimator_stats {
        bool up; /* the last question was answered, and `report` is the answer */
        uint64_t questions, failures;
        struct estimator_report report;
};

/* -EBADMSG with words; then nothing is written. */
int estimator_report_parse(const char *text, size_t size, struct estimator_report *ret, struct err *e);

struct estimator_probe;
int estimator_probe_new(const char *socket_path, struct estimator_probe **ret);
void estimator_probe_free(struct estimator_probe *probe);

/* Begins a question unless one is under way or the last is too young; ends one that takes too long. Negative
 * when a question failed, with words. */
int estimator_probe_ask(struct estimator_probe *probe, uint64_t now_ns, struct err *e);
int estimator_probe_fd(const struct estimator_probe *probe); /* to be polled; -1: nothing is under way */
short estimator_probe_events(const struct estimator_probe *probe);
int estimator_probe_run(struct estimator_probe *probe, struct err *e); /* when the descriptor is ready */
const struct estimator_stats *estimator_probe_stats(const struct estimator_probe *probe);
