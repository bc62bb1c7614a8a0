/* SPDX-License-Identifier: Apache-2.0 */
#include "common/err.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

int err_set(struct err *e, int r, const char *fmt, ...)
{
        va_list ap;

        if (!e)
                return r;
        va_start(ap, fmt);
        (void)vsnprintf(e->text, sizeof(e->text), fmt, ap); /* cut when longer, by contract */
        va_end(ap);
        return r;
}

int err_sys(struct err *e, const char *fmt, ...)
{
        int r = -errno;
        size_t used;
        va_list ap;

        if (!e)
                return r;
        va_start(ap, fmt);
        (void)vsnprintf(e->text, sizeof(e->text), fmt, ap);
        va_end(ap);
        used = strlen(e->text);
        (void)snprintf(e->text + used, sizeof(e->text) - used, ": %s", strerror(-r));
        return r;
}

int err_prefix(struct err *e, int r, const char *fmt, ...)
{
        struct err old;
        size_t used;
        va_list ap;

        if (!e)
                return r;
        old = *e;
        va_start(ap, fmt);
        (void)vsnprintf(e->text, sizeof(e->text), fmt, ap);
        va_end(ap);
        used = strlen(e->text);
        (void)snprintf(e->text + used, sizeof(e->text) - used, ": %s", old.text);
        return r;
}
