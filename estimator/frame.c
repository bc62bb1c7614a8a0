/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/frame.h"

#include <errno.h>

/* From within a string to behind its closing quote, or to the end of what is there. */
static const char *skip_string(struct frame *f, const char *p, const char *end)
{
        while (p < end) {
                char c = *p++;

                if (f->escaped)
                        f->escaped = false;
                else if (c == '\\')
                        f->escaped = true;
                else if (c == '"') {
                        f->in_string = false;
                        break;
                }
        }
        return p;
}

static bool is_space(char c)
{
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int frame_scan(struct frame *f, const char *data, size_t size, size_t *ret_end)
{
        const char *p = data + f->scanned, *end = data + size;
        int r = 0;

        while (p < end && r == 0) {
                char c;

                if (f->in_string) {
                        p = skip_string(f, p, end);
                        continue;
                }
                c = *p++;
                if (c == '{')
                        f->depth++;
                else if (f->depth == 0 && !is_space(c))
                        r = -EBADMSG;
                else if (c == '"')
                        f->in_string = true;
                else if (c == ',')
                        f->commas++;
                else if (c == '}' && --f->depth == 0)
                        r = 1;
        }
        f->scanned = (size_t)(p - data);
        if (r > 0)
                *ret_end = f->scanned;
        return r;
}
