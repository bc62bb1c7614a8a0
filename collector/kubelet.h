/* SPDX-License-Identifier: Apache-2.0 */
/* Names of pods and containers as the kubelet of this node knows them. The helper wattloop-collector-kubelet
 * asks it and writes what it learned; here that becomes a table, and the window's entities get their names.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "collector/window.h"
#include "common/err.h"

#define KUBELET_CONTAINERS_MAX 16384

struct kubelet_options {
        const char *url;                  /* "https://127.0.0.1:10250" */
        const char *token_file, *ca_file; /* "" none */
        bool verify_tls;
        long long interval_ms;
        const char *helper; /* NULL: beside this program */
};

struct kubelet_stats {
        uint64_t pods, containers; /* in the last answer */
        uint64_t answers, errors;
        uint64_t age_ns; /* of the last answer; UINT64_MAX: none yet */
};

struct kubelet;
int kubelet_open(const struct kubelet_options *options, struct kubelet **ret, struct err *e);
void kubelet_close(struct kubelet *kubelet);
CLEANUP_DEFINE(struct kubelet *, kubelet_close);

int kubelet_fd(const struct kubelet *kubelet); /* to be polled for input; -1: nothing to poll */
/* Takes what the helper has written. `now_ns` monotonic. Returns 0, or a negative errno with the words of a
 * new failure (each is told once). */
int kubelet_run(struct kubelet *kubelet, uint64_t now_ns, struct err *e);
/* Names those of the window's containers that are known and not named so yet. */
void kubelet_name(struct kubelet *kubelet, struct window *window);
void kubelet_stats(const struct kubelet *kubelet, uint64_t now_ns, struct kubelet_stats *ret);
