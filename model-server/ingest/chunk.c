/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/ingest/chunk.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define DIGITS_MAX  9
#define INTEGER_MAX 9007199254740992.0 /* 2^53: beyond, not every integer is a double */

static const double powers[DIGITS_MAX + 1] = { 1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9 };

static bool is_decimal(double v, int digits)
{
        double r = rint(v * powers[digits]);

        return fabs(r) < INTEGER_MAX && r / powers[digits] == v;
}

/* The fewest digits that do for all; a value that needs more takes the others along. */
static int find_digits(const struct sample *samples, size_t n)
{
        int digits = 0;

        for (size_t i = 0; i < n; i++)
                while (!is_decimal(samples[i].value, digits))
                        if (++digits > DIGITS_MAX)
                                return CHUNK_RAW;
        /* More digits can push a large value, that was fine with fewer, over the edge. */
        for (size_t i = 0; i < n; i++)
                if (!is_decimal(samples[i].value, digits))
                        return CHUNK_RAW;
        return digits;
}

static unsigned char *put_varint(unsigned char *p, int64_t v)
{
        uint64_t u = ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);

        for (; u >= 0x80; u >>= 7)
                *p++ = (unsigned char)(u | 0x80);
        *p++ = (unsigned char)u;
        return p;
}

static unsigned char *put_stamps(unsigned char *p, const struct sample *samples, size_t n)
{
        int64_t step = 0;

        p = put_varint(p, samples[0].ts_ms);
        for (size_t i = 1; i < n; i++) {
                int64_t next = samples[i].ts_ms - samples[i - 1].ts_ms;

                p = put_varint(p, next - step);
                step = next;
        }
        return p;
}

static unsigned char *put_double(unsigned char *p, double v)
{
        uint64_t bits;

        memcpy(&bits, &v, sizeof(bits));
        for (int i = 0; i < 8; i++)
                *p++ = (unsigned char)(bits >> (8 * i));
        return p;
}

size_t chunk_encode(const struct sample *samples, size_t n, unsigned char ret[CHUNK_BYTES_MAX])
{
        int digits = find_digits(samples, n);
        unsigned char *p = ret;
        int64_t before = 0;

        *p++ = CHUNK_VERSION;
        *p++ = (unsigned char)digits;
        *p++ = (unsigned char)n;
        p = put_stamps(p, samples, n);
        for (size_t i = 0; i < n; i++) {
                int64_t v;

                if (digits == CHUNK_RAW) {
                        p = put_double(p, samples[i].value);
                        continue;
                }
                v = (int64_t)rint(samples[i].value * powers[digits]);
                p = put_varint(p, v - before);
                before = v;
        }
        return (size_t)(p - ret);
}

/* Wraps instead of overflowing: a damaged chunk gives wrong numbers, which are then out of order. */
static bool get_varint(const unsigned char **p, const unsigned char *end, uint64_t *ret)
{
        uint64_t u = 0;

        for (int shift = 0; *p < end && shift < 64; shift += 7) {
                unsigned char byte = *(*p)++;

                u |= (uint64_t)(byte & 0x7f) << shift;
                if (!(byte & 0x80)) {
                        *ret = (u >> 1) ^ (0 - (u & 1));
                        return true;
                }
        }
        return false;
}

static bool get_stamps(const unsigned char **p, const unsigned char *end, struct sample *ret, size_t n)
{
        uint64_t now, step = 0, change;

        if (!get_varint(p, end, &now))
                return false;
        ret[0].ts_ms = (int64_t)now;
        for (size_t i = 1; i < n; i++) {
                if (!get_varint(p, end, &change))
                        return false;
                step += change;
                now += step;
                ret[i].ts_ms = (int64_t)now;
                if (ret[i].ts_ms <= ret[i - 1].ts_ms)
                        return false;
        }
        return true;
}

static bool get_doubles(const unsigned char **p, const unsigned char *end, struct sample *ret, size_t n)
{
        if ((size_t)(end - *p) != 8 * n)
                return false;
        for (size_t i = 0; i < n; i++) {
                uint64_t bits = 0;

                for (int b = 0; b < 8; b++)
                        bits |= (uint64_t) * (*p)++ << (8 * b);
                memcpy(&ret[i].value, &bits, sizeof(bits));
        }
        return true;
}

static bool get_integers(const unsigned char **p, const unsigned char *end, int digits, struct sample *ret,
                         size_t n)
{
        uint64_t now = 0, change;

        for (size_t i = 0; i < n; i++) {
                if (!get_varint(p, end, &change))
                        return false;
                now += change;
                ret[i].value = (double)(int64_t)now / powers[digits];
        }
        return true;
}

int chunk_decode(const void *data, size_t size, struct sample ret[CHUNK_SAMPLES_MAX], struct err *e)
{
        const unsigned char *p = data, *end = p + size;
        size_t n;
        int digits;
        bool good;

        if (size < 3)
                return err_set(e, -EBADMSG, "a chunk of %zu bytes", size);
        if (*p != CHUNK_VERSION)
                return err_set(e, -EPROTO, "a chunk of version %u", *p);
        digits = p[1];
        n = p[2];
        p += 3;
        good = n && n <= CHUNK_SAMPLES_MAX && (digits <= DIGITS_MAX || digits == CHUNK_RAW) &&
               get_stamps(&p, end, ret, n) &&
               (digits == CHUNK_RAW ? get_doubles(&p, end, ret, n) : get_integers(&p, end, digits, ret, n));
        return good && p == end ? (int)n : err_set(e, -EBADMSG, "a damaged chunk");
}

size_t chunk_cut(const struct sample *samples, size_t n)
{
        size_t i = 1;

        while (i < n && i < CHUNK_SAMPLES_MAX && samples[i].ts_ms - samples[0].ts_ms <= CHUNK_SPAN_MAX_MS)
                i++;
        return i;
}

size_t chunk_merge(const struct sample *a, size_t n, const struct sample *b, size_t m, struct sample *ret,
                   int64_t *ret_first_ms)
{
        size_t i = 0, j = 0, added = 0;

        while (i < n || j < m) {
                if (i < n && (j == m || a[i].ts_ms <= b[j].ts_ms)) {
                        j += j < m && a[i].ts_ms == b[j].ts_ms;
                        *ret++ = a[i++];
                        continue;
                }
                if (!added++)
                        *ret_first_ms = b[j].ts_ms;
                *ret++ = b[j++];
        }
        return added;
}

size_t chunk_sort(struct sample *samples, size_t n, struct sample *scratch)
{
        size_t half = n / 2, i = 1, a, b;
        int64_t first;

        while (i < n && samples[i - 1].ts_ms < samples[i].ts_ms)
                i++;
        if (i >= n)
                return n;
        a = chunk_sort(samples, half, scratch);
        b = chunk_sort(samples + half, n - half, scratch);
        a += chunk_merge(samples, a, samples + half, b, scratch, &first);
        memcpy(samples, scratch, a * sizeof(*samples));
        return a;
}
