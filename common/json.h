/* SPDX-License-Identifier: Apache-2.0 */
/* jansson with bounds and errors in our words. */
#pragma once

#include <jansson.h>
#include "common/buf.h"
#include "common/err.h"

/* jansson itself defines the cleanup function json_decrefp(). */

/* Parse one complete JSON text. Duplicate keys, trailing garbage, NaN, nesting over JANSSON's own limit and
 * embedded NULs are refused. -EBADMSG with line and column in the words; `what` names the document. */
int json_parse(const char *data, size_t size, const char *what, json_t **ret, struct err *e);

/* Parse a file of at most `max` bytes. */
int json_parse_file(const char *path, size_t max, json_t **ret, struct err *e);

/* Append compact text in Python's separators (", " and ": ") with keys sorted and shortest doubles, the form
 * upstream's servers write. */
int json_write(const json_t *value, struct buf *out);

/* Typed members of an object; `what` names the object in the error. -ENOENT missing, -EBADMSG wrong type.
 * Borrowed results. */
int json_get_string(const json_t *object, const char *key, const char **ret, struct err *e);
int json_get_number(const json_t *object, const char *key, double *ret, struct err *e);
int json_get_int(const json_t *object, const char *key, long long *ret, struct err *e);

/* Append a JSON string literal with quotes and escapes. */
int json_write_string(struct buf *out, const char *s);
