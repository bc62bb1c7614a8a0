/* SPDX-License-Identifier: Apache-2.0 */
#include "common/prom.h"

#include "common/num.h"

/* Backslash and newline are escaped everywhere, the double quote in label values only. */
static void write_escaped(struct buf *out, const char *s, const char *quote)
{
        for (; *s; s++) {
                if (*s == '\n')
                        (void)buf_puts(out, "\\n");
                else if (*s == '\\')
                        (void)buf_puts(out, "\\\\");
                else if (*s == *quote)
                        (void)buf_printf(out, "\\%c", *s);
                else
                        (void)buf_append(out, s, 1);
        }
}

void prom_family(struct buf *out, const char *name, const char *type, const char *help)
{
        (void)buf_printf(out, "# HELP %s ", name); /* failure is sticky in the buffer */
        write_escaped(out, help, "");
        (void)buf_printf(out, "\n# TYPE %s %s\n", name, type);
}

void prom_sample(struct buf *out, const char *name, const struct prom_label *labels, double value)
{
        char text[NUM_TEXT_MAX];
        const char *separator = "{";

        (void)buf_puts(out, name);
        for (; labels && labels->name; labels++) {
                if (!labels->value)
                        continue;
                (void)buf_printf(out, "%s%s=\"", separator, labels->name);
                write_escaped(out, labels->value, "\"");
                (void)buf_puts(out, "\"");
                separator = ",";
        }
        if (*separator == ',')
                (void)buf_puts(out, "}");
        (void)num_format_double(text, value);
        (void)buf_printf(out, " %s\n", text);
}
