/* SPDX-License-Identifier: Apache-2.0 */
/* SVG plots of measured against estimated watts. Colours come from the page's style sheet. */
#pragma once

#include <jansson.h>
#include "common/buf.h"

/* points: [[time ms, measured W, estimated W], …]; at least one. `title` is text. */
void plot_scatter(struct buf *out, const json_t *points, const char *title);
void plot_time(struct buf *out, const json_t *points, const char *title);

/* Text that comes from outside, for element content and quoted attributes. */
void html_text(struct buf *out, const char *text);
