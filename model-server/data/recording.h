/* SPDX-License-Identifier: Apache-2.0 */
/* A recording as Kepler's tools pass it around (kepler-model-server util/prom_types.py): an object from
 * metric name to the `result` array of a Prometheus range query, and the training rows in it. Pure.
 *
 * Rows are made as upstream's DefaultExtractor means to (train/extractor/extractor.py), without its defects:
 * each node (label `instance`) has its own clock, and rows of different nodes are never added up; watts and
 * rates are per the interval's own length; where a counter went back, or a sample is missing, there is no row
 * instead of an invented one; the first sample of a container that appears during the recording counts from
 * 0, which is where Kepler's counters begin. */
#pragma once

#include <jansson.h>
#include "model-server/learn/dataset.h"

#define RECORDING_SERIES_MAX  200000
#define RECORDING_SAMPLES_MAX ((size_t)4 << 20)

struct recording_query {
        const struct energy_source *source; /* energy series of other sources are left out */
        bool virtual_machines; /* kepler_process_* and kepler_vm_* of job `vm_job`, else the node's */
        const char *vm_job;
        /* Containers with these names are left out (NULL: none): what an idle recording had in it. */
        const json_t *background;
};

/* Rows of all nodes by time; *ret_skipped counts the intervals that gave none. -EBADMSG: not such an object;
 * -E2BIG: over a limit. */
int recording_extract(const json_t *recording, const struct recording_query *query, struct dataset *ret,
                      uint64_t *ret_skipped, struct err *e);

/* The names of the containers in it: an object whose keys count. A new reference. */
json_t *recording_containers(const json_t *recording);
