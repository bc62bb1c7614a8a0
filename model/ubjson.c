/* SPDX-License-Identifier: Apache-2.0 */
/* UBJSON, draft 12, as XGBoost writes it: big-endian numbers, typed and counted containers. */
#include <errno.h>
#include <string.h>

#include "model/tokens.h"

static int malformed(const struct tokens *t, struct err *e)
{
        return err_set(e, -EBADMSG, "malformed UBJSON at byte %zu", t->pos);
}

static int take(struct tokens *t, size_t n, uint64_t *ret, struct err *e)
{
        if (n > t->size - t->pos)
                return malformed(t, e);
        for (*ret = 0; n > 0; n--)
                *ret = *ret << 8 | t->data[t->pos++];
        return 0;
}

static size_t width(char type)
{
        switch (type) {
        case 'i':
        case 'U':
                return 1;
        case 'I':
                return 2;
        case 'l':
        case 'd':
                return 4;
        case 'L':
        case 'D':
                return 8;
        default:
                return 0;
        }
}

static int read_integer(struct tokens *t, char type, int64_t *ret, struct err *e)
{
        uint64_t v = 0;
        size_t n = width(type);
        int r;

        if (n == 0 || type == 'd' || type == 'D')
                return malformed(t, e);
        r = take(t, n, &v, e);
        if (r < 0)
                return r;
        if (type != 'U' && n < 8 && v >> (8 * n - 1))
                v |= ~(uint64_t)0 << (8 * n);
        *ret = (int64_t)v;
        return 0;
}

/* A length: its type and itself. */
static int read_length(struct tokens *t, uint64_t *ret, struct err *e)
{
        int64_t n = 0;
        int r;

        if (t->pos == t->size)
                return malformed(t, e);
        r = read_integer(t, (char)t->data[t->pos++], &n, e);
        if (r < 0)
                return r;
        if (n < 0 || (uint64_t)n > t->size) /* each element has a byte at least */
                return malformed(t, e);
        *ret = (uint64_t)n;
        return 0;
}

static int read_text(struct tokens *t, struct err *e)
{
        uint64_t n = 0;
        size_t kept;
        int r = read_length(t, &n, e);

        if (r < 0)
                return r;
        if (n > t->size - t->pos)
                return malformed(t, e);
        kept = n < TOKENS_TEXT_MAX - 1 ? n : TOKENS_TEXT_MAX - 1;
        memcpy(t->text, t->data + t->pos, kept);
        t->text[kept] = '\0';
        t->pos += n;
        return 0;
}

/* '{' or '[' and what may follow it: '$' type, '#' count. */
static int open_container(struct tokens *t, bool object, struct err *e)
{
        int token = tokens_open(t, object, e), r;

        if (token < 0)
                return token;
        if (t->pos < t->size && t->data[t->pos] == '$') {
                t->pos++;
                if (t->pos == t->size || (!width((char)t->data[t->pos]) && t->data[t->pos] != 'S'))
                        return malformed(t, e); /* a type without bytes would be a bomb */
                t->open[t->depth - 1].type = (char)t->data[t->pos++];
                if (t->pos == t->size || t->data[t->pos] != '#')
                        return malformed(t, e);
        }
        if (t->pos < t->size && t->data[t->pos] == '#') {
                t->pos++;
                r = read_length(t, &t->open[t->depth - 1].remain, e);
                if (r < 0)
                        return r;
                t->open[t->depth - 1].counted = true;
        }
        return token;
}

static int read_number(struct tokens *t, char type, struct err *e)
{
        uint64_t v = 0;
        int64_t integer = 0;
        uint32_t v32;
        float f;
        int r;

        if (type != 'd' && type != 'D') {
                r = read_integer(t, type, &integer, e);
                t->number = (double)integer;
                return r < 0 ? r : TOKEN_NUMBER;
        }
        r = take(t, width(type), &v, e);
        if (r < 0)
                return r;
        if (type == 'D') {
                memcpy(&t->number, &v, sizeof(v));
        } else {
                v32 = (uint32_t)v;
                memcpy(&f, &v32, sizeof(f));
                t->number = (double)f;
        }
        return TOKEN_NUMBER;
}

static int value(struct tokens *t, char type, struct err *e)
{
        int r;

        switch (type) {
        case '{':
        case '[':
                return open_container(t, type == '{', e);
        case 'S':
                r = read_text(t, e);
                r = r < 0 ? r : TOKEN_TEXT;
                break;
        case 'T':
                r = TOKEN_TRUE;
                break;
        case 'F':
                r = TOKEN_FALSE;
                break;
        case 'Z':
                r = TOKEN_NULL;
                break;
        default:
                r = read_number(t, type, e);
        }
        if (r >= 0)
                tokens_value_done(t);
        return r;
}

static int close_container(struct tokens *t)
{
        bool object = t->open[--t->depth].object;

        tokens_value_done(t);
        return object ? TOKEN_OBJECT_END : TOKEN_ARRAY_END;
}

int tokens_next_ubjson(struct tokens *t, struct err *e)
{
        size_t top = t->depth - 1; /* of an open container */
        char type = 0;
        int r;

        if (t->depth > 0 && !t->open[top].key_read) {
                while (t->pos < t->size && t->data[t->pos] == 'N' && !t->open[top].type)
                        t->pos++; /* padding */
                if (t->open[top].counted) {
                        if (t->open[top].remain == 0)
                                return close_container(t);
                        t->open[top].remain--;
                } else if (t->pos < t->size && t->data[t->pos] == (t->open[top].object ? '}' : ']')) {
                        t->pos++;
                        return close_container(t);
                }
                if (t->open[top].object) {
                        r = read_text(t, e);
                        t->open[top].key_read = r == 0;
                        return r < 0 ? r : TOKEN_KEY;
                }
        }
        if (t->depth > 0)
                type = t->open[top].type;
        if (!type) {
                if (t->pos == t->size)
                        return malformed(t, e);
                type = (char)t->data[t->pos++];
        }
        return value(t, type, e);
}
