/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/frame.h"

#include <errno.h>

static void scan_string(struct frame *f, char c)
{
        if (f->escaped)
                f->escaped = false;
        else if (c == '\\')
                f->escaped = true;
        else if (c == '"')
                f->in_string = false;
}

static bool is_space(char c)
{
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int frame_scan(struct frame *f, const char *data, size_t size, size_t *ret_end)
{
        while (f->scanned < size) {
                char c = data[f->scanned++];

                if (f->in_string)
                        scan_string(f, c);
                else if (c == '{')
                        f->depth++;
                else if (f->depth == 0 && !is_space(c))
                        return -EBADMSG;
                else if (c == '"')
                        f->in_string = true;
                else if (c == ',')
                        f->commas++;
                else if (c == '}' && --f->depth == 0) {
                        *ret_end = f->scanned;
                        return 1;
                }
        }
        return 0;
}
