/* SPDX-License-Identifier: Apache-2.0 */
/* Where one JSON object ends in a stream of bytes: neither a length nor a terminator stands between requests.
 * Looks at braces outside strings only; whether the object is JSON is the parser's question. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct frame {
        size_t scanned; /* bytes looked at so far, so that none is looked at twice */
        size_t commas;  /* outside strings: bounds the number of values before anything is parsed */
        size_t depth;
        bool in_string, escaped;
};

/* Go on scanning `data`, the stream from the end of the last object on; zero the frame for each object.
 * 1: an object ends at *ret_end (white space before it included); 0: more is needed; -EBADMSG: the stream
 * does not begin with an object. */
int frame_scan(struct frame *frame, const char *data, size_t size, size_t *ret_end);
