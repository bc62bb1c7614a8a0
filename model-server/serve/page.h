/* SPDX-License-Identifier: Apache-2.0 */
/* The status page: /api/v1/status as HTML, with plots. Works without JavaScript; everything from outside is
 * escaped. */
#pragma once

#include "model-server/serve/api.h"

#define PAGE_PLOTS_MAX 12  /* models with plots; others by ?model=ID */
#define PAGE_ROWS_MAX  500 /* of a table */

void page_handle(struct server *server, const struct call *call, struct reply *reply);
