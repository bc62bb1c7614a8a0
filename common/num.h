/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers to and from text, independent of the locale. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Whole-string parsers: 0, -EINVAL (not a number, or something behind it), -ERANGE. */
int num_parse_u64(const char *s, uint64_t *ret);
int num_parse_i64(const char *s, int64_t *ret);
int num_parse_double(const char *s, double *ret); /* finite only */

/* The shortest text that reads back to the same double ("0.1", "1e+22", "3"); NaN and infinities as
 * Prometheus writes them. `ret` needs NUM_TEXT_MAX bytes. Returns the length. */
#define NUM_TEXT_MAX 32
int num_format_double(char ret[NUM_TEXT_MAX], double v);
