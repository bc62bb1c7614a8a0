/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a bundle as series, for the destinations that want another form. */
#pragma once

#include "trainer-client/destination.h"

struct bundle_lines {
        const char *text; /* NUL-terminated lines of contract 2 */
        size_t size;
};

/* The source borrows the lines. Its `each` gives -EBADMSG for what is no line of a batch. */
struct series_source series_of_lines(const struct bundle_lines *lines);
