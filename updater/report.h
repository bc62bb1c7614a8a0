/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the server what became of its models (POST /api/v1/report, docs/contracts.md 3): every outcome of the
 * history that was not acknowledged yet, so none is lost while the network is down. */
#pragma once

#include "updater/run.h"

/* At most REPORT_MAX events; what remains is for the next run. A failure is worth a line in the log, and
 * nothing else. */
#define REPORT_MAX 64
void report_outcomes(struct run *run);
