/* SPDX-License-Identifier: Apache-2.0 */
/* POST /api/v1/report: what nodes say became of their updates (docs/contracts.md, 3). */
#pragma once

#include "model-server/store.h"

#define REPORTS_BODY_MAX ((size_t)64 << 10)
#define REPORTS_MAX      64
#define REPORT_NAME_MAX  128 /* bytes that are kept of a name, */
#define REPORT_WHY_MAX   512 /* and of a reason */

/* Read a body and store it in a transaction of its own; what is new is counted by outcome. `node_id`: whose
 * the token is; NULL: anybody's. -EBADMSG, -E2BIG: not a report, nothing is stored; -EACCES: of another node.
 * Other errors are the database's. */
int reports_take(struct store *store, const char *body, size_t size, const char *node_id, int64_t now_ms,
                 size_t ret_new[OUTCOMES], size_t *ret_n, struct err *e);
