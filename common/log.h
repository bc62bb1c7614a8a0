/* SPDX-License-Identifier: Apache-2.0 */
/* Diagnostics on standard error, one line per event: "<program>: <level>: text", with syslog "<3>" prefixes
 * instead when the journal reads us (JOURNAL_STREAM). Thread-safe. The caller that loops limits the rate. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "common/cleanup.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_init(const char *program, enum log_level level);
void log_set_level(enum log_level level);

/* log_error returns r, so that a program can write: return log_error(r, "update skipped: %s", e.text); */
int log_error(int r, const char *fmt, ...) PRINTF(2, 3);
void log_warning(const char *fmt, ...) PRINTF(1, 2);
void log_info(const char *fmt, ...) PRINTF(1, 2);
void log_debug(const char *fmt, ...) PRINTF(1, 2);

/* A caller that loops: true at most once per period; counts what it suppressed. Zero-initialise it. */
struct log_limit {
        uint64_t next_ns;
        uint64_t suppressed; /* since the last true; reset by the caller after reporting it */
};
bool log_limit_ok(struct log_limit *l, uint64_t period_ns);
