/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/reply.h"

#include <math.h>
#include <string.h>

#include "common/json.h"
#include "common/num.h"

#define SHORT_MAX    1e12 /* below, watts * 10^4 is exact in 64 bits */
#define SHORT_SCALE  10000
#define SHORT_DIGITS 4 /* behind the point: log10 of the scale */

int reply_rejected(struct buf *out, const char *prefix, const char *text)
{
        struct err whole;

        (void)err_set(&whole, 0, "%s%s", prefix, text);
        (void)buf_puts(out, "{\"powers\": {}, \"msg\": "); /* failure is sticky in the buffer */
        (void)json_write_string(out, whole.text);
        return buf_puts(out, "}");
}

static void write_number(struct buf *out, double v)
{
        char text[NUM_TEXT_MAX];

        (void)num_format_double(text, v);
        (void)buf_puts(out, text);
}

int reply_unpredicted(struct buf *out, const char *text, double core_ratio)
{
        struct err whole;

        (void)err_set(&whole, 0, "%.250s\n", text);
        (void)buf_puts(out, "{\"powers\": [], \"msg\": ");
        (void)json_write_string(out, whole.text);
        (void)buf_puts(out, ", \"core_ratio\": ");
        write_number(out, core_ratio);
        return buf_puts(out, "}");
}

/* "41.25", "0.0": always with a point, because a client may take "41" for an integer. */
static void write_short(struct buf *out, double watts)
{
        char text[32], *p = text + sizeof(text), *end;
        uint64_t scaled = (uint64_t)llround(watts * SHORT_SCALE), fraction = scaled % SHORT_SCALE;

        for (int i = 0; i < SHORT_DIGITS; i++, fraction /= 10)
                *--p = (char)('0' + fraction % 10);
        *--p = '.';
        scaled /= SHORT_SCALE;
        do {
                *--p = (char)('0' + scaled % 10);
                scaled /= 10;
        } while (scaled > 0);

        end = text + sizeof(text);
        while (end[-1] == '0' && end[-2] != '.')
                end--;
        (void)buf_append(out, p, (size_t)(end - p));
}

static void write_watts(struct buf *out, double watts, enum reply_precision precision)
{
        char text[NUM_TEXT_MAX];

        if (precision == REPLY_SHORT && watts < SHORT_MAX) {
                write_short(out, watts);
                return;
        }
        (void)num_format_double(text, watts);
        (void)buf_puts(out, text);
        if (!strpbrk(text, ".e"))
                (void)buf_puts(out, ".0");
}

static void write_component(struct buf *out, const struct model *model, size_t i, const double *watts,
                            size_t n, enum reply_precision precision)
{
        size_t components = model_components(model);

        (void)buf_printf(out, "%s\"%s\": [", i > 0 ? ", " : "", model_component(model, i));
        for (size_t r = 0; r < n; r++) {
                if (r > 0)
                        (void)buf_puts(out, ", ");
                write_watts(out, watts[r * components + i], precision);
        }
        (void)buf_puts(out, "]");
}

static void write_mae(struct buf *out, double mae)
{
        (void)buf_puts(out, ", \"mae\": ");
        if (isfinite(mae))
                write_number(out, mae);
        else
                (void)buf_puts(out, "null");
}

/* A truth value per row, or null for a model that does not tell what it was trained on. */
static void write_in_domain(struct buf *out, const struct model *model, const struct reply_rows *rows)
{
        (void)buf_puts(out, ", \"in_domain\": ");
        if (!model_has_domain(model)) {
                (void)buf_puts(out, "null");
                return;
        }
        for (size_t r = 0; r < rows->n; r++) {
                (void)buf_puts(out, r > 0 ? ", " : "[");
                (void)buf_puts(out, model_in_domain(model, rows->index, rows->rows + r * rows->stride)
                                            ? "true"
                                            : "false");
        }
        (void)buf_puts(out, "]");
}

/* What upstream's clients do not read, closing brace included. */
static void write_pedigree(struct buf *out, const struct model *model, const struct reply_rows *rows,
                           const char *id, bool in_domain)
{
        const char *provenance = model_provenance(model);

        (void)buf_puts(out, ", \"model\": ");
        (void)json_write_string(out, model_name(model));
        if (*id)
                (void)buf_printf(out, ", \"id\": \"%s\"", id);
        write_mae(out, model_mae(model));
        if (in_domain)
                write_in_domain(out, model, rows);
        if (strcmp(provenance, "measured"))
                (void)buf_printf(out, ", \"provenance\": \"%s\"", provenance);
        (void)buf_puts(out, "}");
}

int reply_powers(struct buf *out, const struct model *model, const struct reply_rows *rows, double core_ratio,
                 enum reply_precision precision, const char *id)
{
        size_t begin = out->size, end;

        (void)buf_puts(out, "{\"powers\": {");
        for (size_t i = 0; i < model_components(model); i++)
                write_component(out, model, i, rows->watts, rows->n, precision);
        (void)buf_puts(out, "}, \"msg\": \"\", \"core_ratio\": ");
        write_number(out, core_ratio);

        end = out->size;
        for (int in_domain = 1; id && in_domain >= 0 && end - begin < REPLY_GO_MAX; in_domain--) {
                write_pedigree(out, model, rows, id, in_domain);
                if (out->failed || out->size - begin <= REPLY_GO_MAX)
                        return out->failed;
                out->size = end;
        }
        return buf_puts(out, "}");
}
