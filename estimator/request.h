/* SPDX-License-Identifier: Apache-2.0 */
/* One request on the socket: Kepler's power request, or an object with the single key `command`. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include "common/err.h"

#define REQUEST_COLUMNS_MAX 256
#define REQUEST_VALUES_MAX                                                                                   \
        ((size_t)1 << 20) /* commas of a request, which bound what its parse tree takes                      \
                           */

struct request {
        const char *command; /* NULL: a power request, to which the rest belongs */
        const char *output_type;
        const char *source;       /* as it came; NULL for JSON null */
        const char *trainer_name; /* "" any */
        const char **columns;     /* owned array of borrowed names: metrics, then numeric system features */
        size_t n_columns;
        double *rows; /* owned; n_rows * n_columns */
        size_t n_rows;
        json_t *document; /* owned; the strings above live in it */
};

/* Parse and check what upstream's sidecar checks: all keys known, the mandatory ones there, rows of equal
 * length. -EBADMSG with words; -E2BIG over a limit. On success release with request_done(). */
int request_parse(const char *text, size_t size, struct request *ret, struct err *e);
void request_done(struct request *request);
