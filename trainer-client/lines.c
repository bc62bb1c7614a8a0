/* SPDX-License-Identifier: Apache-2.0 */
/* A batch as JSON lines. Numbers are whole totals with a decimal point put in, so no floating point is needed
 * and the text is exact: 100500000 with 6 decimals is 100.5. */
#include <errno.h>
#include <string.h>
#include "trainer-client/pack.h"

static const char digit_pairs[201] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536"
        "37383940414243444546474849505152535455565758596061626364656667686970717273"
        "7475767778798081828384858687888990919293949596979899";

/* The digits of v, ending before `end`; returns where they begin. */
static char *digits_before(char *end, uint64_t v)
{
        for (; v >= 100; v /= 100)
                memcpy(end -= 2, digit_pairs + 2 * (v % 100), 2);
        if (v >= 10)
                memcpy(end -= 2, digit_pairs + 2 * v, 2);
        else
                *--end = (char)('0' + v);
        return end;
}

static const uint64_t powers[PACK_DECIMALS_MAX + 1] = { 1,      10,      100,      1000,      10000,
                                                        100000, 1000000, 10000000, 100000000, 1000000000 };

double pack_value(int64_t total, int decimals)
{
        return (double)total / (double)powers[decimals];
}

size_t pack_format(char ret[PACK_NUMBER_MAX], int64_t total, int decimals)
{
        char text[PACK_NUMBER_MAX], *end = text + sizeof(text), *p, *fraction;
        uint64_t v = total < 0 ? 0 - (uint64_t)total : (uint64_t)total, whole = v / powers[decimals],
                 part = v % powers[decimals];
        size_t n, m = 0;

        if (total < 0)
                ret[m++] = '-';
        p = digits_before(end, whole);
        n = (size_t)(end - p);
        memcpy(ret + m, p, n);
        m += n;
        if (part == 0)
                return m;
        for (fraction = end - decimals, p = digits_before(end, part); p > fraction;)
                *--p = '0';
        while (end[-1] == '0')
                end--;
        ret[m++] = '.';
        memcpy(ret + m, fraction, (size_t)(end - fraction));
        return m + (size_t)(end - fraction);
}

static int append_numbers(struct buf *out, const struct pack_series *s, bool values)
{
        /* room for all of them at once, so that nothing is checked in between */
        char *begin = buf_reserve(out, s->n_samples * (PACK_NUMBER_MAX + 1)), *p = begin;

        if (!begin)
                return out->failed;
        for (size_t i = 0; i < s->n_samples; i++) {
                if (i > 0)
                        *p++ = ',';
                p += values ? pack_format(p, s->samples[i].total, s->decimals)
                            : pack_format(p, s->samples[i].ts_ms, 0);
        }
        buf_grew(out, (size_t)(p - begin));
        return 0;
}

int pack_append_line(void *userdata, const struct pack_series *s)
{
        struct buf *out = userdata;

        (void)buf_puts(out, "{\"metric\":"); /* failure is sticky in the buffer */
        (void)buf_append(out, s->metric, s->metric_size);
        (void)buf_puts(out, ",\"values\":[");
        if (out->failed || append_numbers(out, s, true) < 0)
                return out->failed;
        (void)buf_puts(out, "],\"timestamps\":[");
        if (out->failed || append_numbers(out, s, false) < 0)
                return out->failed;
        return buf_puts(out, "]}\n");
}

int pack_lines(const struct pack_batch *batch, struct buf *out, size_t *ret_samples, struct err *e)
{
        return pack_each(batch, pack_append_line, out, ret_samples, e);
}
