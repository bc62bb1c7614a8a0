/* SPDX-License-Identifier: Apache-2.0 */
/* The C library's conversions follow the locale of the process; everything here runs in the "C" locale. */
#include "common/num.h"

#include <errno.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static locale_t c_locale;

static void make_c_locale(void)
{
        c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* NULL only when there was no memory for it; the process locale, "C" in all our programs, serves then. */
static locale_t get_c_locale(void)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        (void)pthread_once(&once, make_c_locale);
        return c_locale;
}

static double to_double(const char *s, char **ret_end)
{
        locale_t c = get_c_locale();

        return c ? strtod_l(s, ret_end, c) : strtod(s, ret_end);
}

int num_parse_u64(const char *s, uint64_t *ret)
{
        unsigned long long v;
        char *end;

        if (*s < '0' || *s > '9') /* strtoull would take spaces and wrap a minus sign */
                return -EINVAL;
        errno = 0;
        v = strtoull(s, &end, 10);
        if (*end != '\0')
                return -EINVAL;
        if (errno == ERANGE || v > UINT64_MAX)
                return -ERANGE;
        *ret = v;
        return 0;
}

int num_parse_i64(const char *s, int64_t *ret)
{
        const char *digits = *s == '-' || *s == '+' ? s + 1 : s;
        long long v;
        char *end;

        if (*digits < '0' || *digits > '9')
                return -EINVAL;
        errno = 0;
        v = strtoll(s, &end, 10);
        if (*end != '\0')
                return -EINVAL;
        if (errno == ERANGE)
                return -ERANGE;
        *ret = v;
        return 0;
}

int num_parse_double(const char *s, double *ret)
{
        double v;
        char *end;

        /* Keeps out white space, hexadecimal, "nan" and "inf". */
        if (*s == '\0' || s[strspn(s, "0123456789+-.eE")] != '\0')
                return -EINVAL;
        v = to_double(s, &end);
        if (*end != '\0')
                return -EINVAL;
        if (!isfinite(v))
                return -ERANGE;
        *ret = v;
        return 0;
}

/* %.15g drops trailing zeros, so it is the shortest text of every normal number that 15 digits determine;
 * others need 16 or 17. Subnormal numbers have fewer digits, so the search begins at one. */
static void format_shortest(char ret[NUM_TEXT_MAX], double v)
{
        int digits = fabs(v) < DBL_MIN ? 1 : DBL_DIG;

        for (; digits < DBL_DECIMAL_DIG; digits++) {
                (void)snprintf(ret, NUM_TEXT_MAX, "%.*g", digits, v);
                if (to_double(ret, NULL) == v)
                        return;
        }
        /* 17 digits fit a number below 1e17 without exponent; it gets one from 1e16 on, as all others do */
        if (fabs(v) >= 1e16)
                (void)snprintf(ret, NUM_TEXT_MAX, "%.*e", DBL_DECIMAL_DIG - 1, v);
        else
                (void)snprintf(ret, NUM_TEXT_MAX, "%.*g", DBL_DECIMAL_DIG, v);
}

int num_format_double(char ret[NUM_TEXT_MAX], double v)
{
        locale_t c = get_c_locale(), old;

        if (isnan(v))
                return snprintf(ret, NUM_TEXT_MAX, "NaN");
        if (isinf(v))
                return snprintf(ret, NUM_TEXT_MAX, v > 0 ? "+Inf" : "-Inf");

        old = c ? uselocale(c) : (locale_t)0;
        if (fabs(v) < 1e16 && v == floor(v))
                (void)snprintf(ret, NUM_TEXT_MAX, "%.0f", v);
        else
                format_shortest(ret, v);
        if (c)
                (void)uselocale(old);
        return (int)strlen(ret);
}
