/* SPDX-License-Identifier: Apache-2.0 */
/* What metrics.c (our own names), metrics_kepler07.c, metrics_kepler10.c and metrics_estimator.c share;
 * nobody else includes it. */
#pragma once

#include "collector/metrics.h"
#include "common/prom.h"

#define JOULES(uj) ((double)(uj) / 1e6)

void metrics_kepler07(const struct window *window, const struct machine *machine, struct buf *out);
void metrics_kepler10(const struct window *window, const struct machine *machine,
                      const struct collector_stats *stats, struct buf *out);
void metrics_estimator(const struct estimator_stats *stats, struct buf *out); /* nothing for NULL */

/* The wire source of a sensor. */
const char *metrics_source(const struct sensor *sensor);
/* The sensor whose source a component's split has had; NULL when it never was read. */
const struct sensor *metrics_split_sensor(const struct window *window, enum split_component c);
/* False for a sensor that would have the same labels as one before it: two that are simulated, say. */
bool metrics_first_of_its_labels(const struct window *window, size_t sensor);
/* Entities of a kind with a series of their own, one after the other, then the one that stands for all
 * containers without; NULL at the end. *i begins at 0. */
const struct entity *metrics_next(const struct window *window, enum entity_kind kind, size_t *i);
/* The pid of a process, in decimal, as it is in the key. Returns ret. */
#define METRICS_PID_MAX 12
const char *metrics_pid(const struct entity *entity, char ret[METRICS_PID_MAX]);
/* Kepler's labels of a container; what is in no container has Kepler's names for that. */
const struct entity_names *metrics_names(const struct entity *entity);
