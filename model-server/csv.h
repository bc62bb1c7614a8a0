/* SPDX-License-Identifier: Apache-2.0 */
/* A table of text as spreadsheets and pandas write it: a header, then lines of as many cells. */
#pragma once

#include <stddef.h>
#include "common/cleanup.h"
#include "common/err.h"

#define CSV_FILE_MAX    ((size_t)256 << 20)
#define CSV_COLUMNS_MAX 128
#define CSV_ROWS_MAX    ((size_t)1 << 20)

struct csv;

/* -ENOENT no such file; -EBADMSG with the line: a line with too few or too many cells, a quote that does not
 * end; -E2BIG over a limit. */
int csv_read(const char *path, struct csv **ret, struct err *e);
void csv_free(struct csv *csv);
CLEANUP_DEFINE(struct csv *, csv_free);

size_t csv_rows(const struct csv *csv);
size_t csv_columns(const struct csv *csv);
const char *csv_header(const struct csv *csv, size_t column);
int csv_find(const struct csv *csv, const char *header); /* or -1 */
const char *csv_cell(const struct csv *csv, size_t row, size_t column);

/* A finite number; -EBADMSG names file, line and column. */
int csv_number(const struct csv *csv, size_t row, size_t column, double *ret, struct err *e);
