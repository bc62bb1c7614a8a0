/* SPDX-License-Identifier: Apache-2.0 */
/* What a push has done so far: one line that renews itself when standard error is a terminal, else a line a
 * minute in the log. Of several destinations on a terminal each draws in turn. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
        const char *name; /* of the destination */
        uint64_t start_ns, shown_ns;
        int64_t total;     /* intervals to send, as counted at the beginning */
        int64_t intervals; /* sent and acknowledged */
        int64_t refused;   /* parked or in quarantine */
        size_t batches, samples;
        uint64_t bytes; /* compressed */
        bool terminal;
};

void progress_start(struct progress *p, const char *name, int64_t total);
void progress_batch(struct progress *p, int64_t intervals, size_t samples, size_t bytes);
void progress_refused(struct progress *p, int64_t intervals);
void progress_end(struct progress *p); /* remove the line; before other output and at the end */

/* "12.3 MiB" */
#define PROGRESS_SIZE_TEXT 32
void progress_format_size(char ret[PROGRESS_SIZE_TEXT], uint64_t bytes);
