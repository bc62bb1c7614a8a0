/* SPDX-License-Identifier: Apache-2.0 */
/* Samples of one series, packed: what the database keeps instead of a row per sample. Pure.
 *
 *   byte    CHUNK_VERSION
 *   byte    digits: values are integers / 10^digits; or CHUNK_RAW
 *   byte    n
 *   varint  first time stamp, then the n - 1 changes of the step between neighbours (0 on a regular grid)
 *   values  integers: the first, then differences; raw: IEEE 754 doubles, little endian
 *
 * Varints are LEB128 of zigzag numbers. The fewest digits that give every value back exactly are taken, so
 * what was put in comes out bit for bit (but -0, which comes out as 0). */
#pragma once

#include "model-server/row.h"

#define CHUNK_SAMPLES_MAX 120
#define CHUNK_SPAN_MAX_MS                                                                                    \
        INT64_C(3600000) /* last - first: what is older than a chunk's start + this is old */
#define CHUNK_VERSION   1
#define CHUNK_RAW       0xff
#define CHUNK_BYTES_MAX (3 + CHUNK_SAMPLES_MAX * 20)

/* 1 <= n <= CHUNK_SAMPLES_MAX, ascending time stamps. Returns the size. */
size_t chunk_encode(const struct sample *samples, size_t n, unsigned char ret[CHUNK_BYTES_MAX]);
/* Returns how many; -EPROTO another version's, -EBADMSG damaged. */
int chunk_decode(const void *data, size_t size, struct sample ret[CHUNK_SAMPLES_MAX], struct err *e);

/* How many of the samples make the next chunk: as many as fit, within the span. */
size_t chunk_cut(const struct sample *samples, size_t n);

/* Both ascending, into ret (room for n + m); of equal time stamps a's stays. Returns how many of b went in;
 * *ret_first_ms is the first of these. */
size_t chunk_merge(const struct sample *a, size_t n, const struct sample *b, size_t m, struct sample *ret,
                   int64_t *ret_first_ms);
/* Sorts by time; of equal time stamps the first given stays. Returns how many are left. scratch: room for n.
 */
size_t chunk_sort(struct sample *samples, size_t n, struct sample *scratch);
