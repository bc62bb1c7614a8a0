/* SPDX-License-Identifier: Apache-2.0 */
/* Reads series from Prometheus or VictoriaMetrics, and hands them on as the lines of a batch (contract 2):
 * what the trainer-client or any exporter brought there is imported here as if it had been uploaded, so that
 * the same samples give the same models.
 *
 * Samples are asked for as they are stored (an instant query of `name[window]`, which both servers answer
 * with raw samples), because a range query moves every sample to a grid. With a step, range queries are made
 * instead, as Kepler's trainer does.
 *
 * Series of Kepler's own exporter have no node_id, epoch or measured seconds; they get them: the node is its
 * `instance`, and between two scrapes all was measured. */
#pragma once

#include <stdint.h>
#include "common/buf.h"
#include "common/err.h"

#define PROMETHEUS_RESPONSE_MAX ((size_t)16 << 20) /* of one query */
#define PROMETHEUS_NAMES_MAX    100000

struct prometheus;
/* `url`: "http://host:9090", with a path when there is one before /api/v1. step_ms 0: raw samples. */
int prometheus_new(const char *url, int64_t step_ms, struct prometheus **ret, struct err *e);
void prometheus_free(struct prometheus *p);
CLEANUP_DEFINE(struct prometheus *, prometheus_free);

/* All samples with from_ms < time <= to_ms of series that can be learned from, as JSON lines into `out`;
 * returns how many lines. -EFBIG: more than the limits, ask for less; -EPROTO: what answers is no such
 * server. */
int prometheus_read(struct prometheus *p, int64_t from_ms, int64_t to_ms, struct buf *out, struct err *e);
