/* SPDX-License-Identifier: Apache-2.0 */
/* Reads everything there is to read: the feature source that works here, the cgroups behind its ids, and the
 * power sources. Gives one sample per call. */
#pragma once

#include "collector/options.h"
#include "collector/window.h"

struct sampler;

/* Says in the log which feature source and which sensors are used, and what is missing. */
int sampler_open(const struct options *options, struct sampler **ret, struct err *e);
void sampler_close(struct sampler *sampler);
CLEANUP_DEFINE(struct sampler *, sampler_close);

/* The first read sets the base: its duration_ns is 0. A failure costs nothing: the next sample covers its
 * time. ret points into the sampler until the next read. A power source that failed is told in
 * ret_power_failed and its words in `e`; the sample is good all the same. */
int sampler_read(struct sampler *sampler, struct sample *ret, int *ret_power_failed, struct err *e);

/* A look at counters that could wrap unseen; to be called every POWER_GUARD_MS between reads further apart.
 */
void sampler_guard(struct sampler *sampler);

/* What reading needs for good (common/privilege.h). */
uint64_t sampler_capabilities(const struct sampler *sampler);
const char *sampler_feature_source(const struct sampler *sampler); /* "bpf", "proc" */
const char *sampler_definition(const struct sampler *sampler);     /* of definition_names[] */
const char *sampler_counters(const struct sampler *sampler);       /* as counters_text(); "" none */
const struct feature_notes *sampler_notes(const struct sampler *sampler);
uint64_t sampler_dropped(const struct sampler *sampler);
struct collector_stats;
/* What the last read took, and what the feature source tells of itself. */
void sampler_stats(const struct sampler *sampler, struct collector_stats *ret);
const struct power_set *sampler_power(const struct sampler *sampler);
/* The lookup for window_fold; only its cgroup and vm callbacks are set. */
struct window_lookup sampler_lookup(struct sampler *sampler);
