/* SPDX-License-Identifier: Apache-2.0 */
/* Monotonic nanoseconds for durations, wall milliseconds only where a record is stamped. */
#pragma once

#include <stdint.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

uint64_t clock_monotonic_ns(void);
int64_t clock_wall_ms(void);
