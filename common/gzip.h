/* SPDX-License-Identifier: Apache-2.0 */
/* gzip in memory (zlib). Output is deterministic: no time stamp, no name. */
#pragma once

#include "common/buf.h"
#include "common/err.h"

int gzip_pack(const void *data, size_t size, int level, struct buf *out, struct err *e);
/* -EFBIG when the plain text exceeds out->max (a bomb ends there); -EBADMSG damaged or truncated. */
int gzip_unpack(const void *data, size_t size, struct buf *out, struct err *e);
