/* SPDX-License-Identifier: Apache-2.0 */
#include "schema/statement.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include "common/num.h"

#define STATEMENT_VERSION 1

/* One word's value, not terminated. */
struct word {
        const char *text;
        size_t size;
};

/* -ENOENT: not there; -EEXIST: twice. */
static int find(const char *text, const char *key, struct word *ret)
{
        size_t key_size = strlen(key);
        bool found = false;

        while (*text) {
                size_t n = strcspn(text, " ");

                if (n > key_size && text[key_size] == ':' && memcmp(text, key, key_size) == 0) {
                        if (found)
                                return -EEXIST;
                        found = true;
                        *ret = (struct word){ text + key_size + 1, n - key_size - 1 };
                }
                text += n + strspn(text + n, " ");
        }
        return found ? 0 : -ENOENT;
}

static int bad(const char *key, int r, struct err *e)
{
        return err_set(e, -EBADMSG, "the signed statement %s '%s'",
                       r == -ENOENT   ? "lacks"
                       : r == -EEXIST ? "has more than one"
                                      : "has a useless",
                       key);
}

static int get_text(const char *text, const char *key, char *ret, size_t size, struct err *e)
{
        struct word w;
        int r;

        r = find(text, key, &w);
        if (r == 0 && (w.size == 0 || w.size >= size))
                r = -EINVAL;
        if (r < 0)
                return bad(key, r, e);
        memcpy(ret, w.text, w.size);
        ret[w.size] = '\0';
        return 0;
}

static int get_number(const char *text, const char *key, int64_t *ret, struct err *e)
{
        char digits[24];
        int64_t value;
        int r;

        r = get_text(text, key, digits, sizeof(digits), e);
        if (r < 0)
                return r;
        if (num_parse_i64(digits, &value) < 0 || value < 0)
                return bad(key, -EINVAL, e);
        *ret = value;
        return 0;
}

/* A word that may be missing, which is `missing` then. */
static int get_optional(const char *text, const char *key, int64_t missing, int64_t max, int64_t *ret,
                        struct err *e)
{
        struct word w;

        *ret = missing;
        if (find(text, key, &w) == -ENOENT)
                return 0;
        return get_number(text, key, ret, e) < 0 || *ret > max ? bad(key, find(text, key, &w), e) : 0;
}

int statement_parse(const char *text, struct statement *ret, struct err *e)
{
        struct statement s = { 0 };
        int64_t format = 0, version = 0, percent = 100, halted = 0;
        int r;

        r = get_number(text, "wattloop", &format, e);
        if (r == 0 && format != STATEMENT_VERSION)
                return err_set(e, -ENOTSUP,
                               "the signed statement is of version %" PRId64 ", this program knows %d",
                               format, STATEMENT_VERSION);
        if (r == 0)
                r = get_number(text, "version", &version, e);
        if (r == 0)
                r = get_number(text, "time", &s.time_s, e);
        if (r == 0)
                r = get_number(text, "expires", &s.expires_s, e);
        if (r == 0)
                r = get_text(text, "id", s.id, sizeof(s.id), e);
        if (r == 0)
                r = get_text(text, "slot", s.slot, sizeof(s.slot), e);
        if (r == 0)
                r = get_text(text, "model", s.name, sizeof(s.name), e);
        if (r == 0)
                r = get_optional(text, "rollout", 100, 100, &percent, e);
        if (r == 0)
                r = get_optional(text, "halted", 0, 1, &halted, e);
        if (r < 0)
                return r;
        if (strlen(s.id) != HASH_HEX_SIZE - 1 || strspn(s.id, "0123456789abcdef") != HASH_HEX_SIZE - 1)
                return bad("id", -EINVAL, e);
        s.version = (uint64_t)version;
        s.held_back = 100 - (unsigned int)percent;
        s.halted = halted;
        *ret = s;
        return 0;
}

int statement_write(const struct statement *s, struct buf *out)
{
        (void)buf_printf(out,
                         "wattloop:%d version:%" PRIu64 " time:%" PRId64 " expires:%" PRId64
                         " id:%s slot:%s model:%s",
                         STATEMENT_VERSION, s->version, s->time_s, s->expires_s, s->id, s->slot, s->name);
        if (s->held_back > 0)
                (void)buf_printf(out, " rollout:%u", 100 - s->held_back);
        return buf_puts(out, s->halted ? " halted:1" : "");
}
