/* SPDX-License-Identifier: Apache-2.0 */
#include "model/tokens.h"

#include <errno.h>
#include <string.h>

#include "common/num.h"

static int malformed(const struct tokens *t, struct err *e)
{
        return err_set(e, -EBADMSG, "malformed JSON at byte %zu", t->pos);
}

void tokens_init(struct tokens *t, const void *data, size_t size)
{
        *t = (struct tokens){ .data = data, .size = size };
        /* In JSON a quote, a brace or white space follows the first brace. */
        t->ubjson = size > 1 && t->data[0] == '{' && !strchr("\"} \t\r\n", t->data[1]);
}

void tokens_value_done(struct tokens *t)
{
        if (t->depth == 0) {
                t->done = true;
                return;
        }
        t->open[t->depth - 1].key_read = false;
        t->open[t->depth - 1].any = true;
}

int tokens_open(struct tokens *t, bool object, struct err *e)
{
        if (t->depth == TOKENS_NESTING_MAX)
                return err_set(e, -E2BIG, "values in values more than %d deep", TOKENS_NESTING_MAX);
        memset(&t->open[t->depth], 0, sizeof(t->open[0]));
        t->open[t->depth++].object = object;
        return object ? TOKEN_OBJECT : TOKEN_ARRAY;
}

/* ---- JSON ---- */

static void skip_space(struct tokens *t)
{
        while (t->pos < t->size && (t->data[t->pos] == ' ' || t->data[t->pos] == '\t' ||
                                    t->data[t->pos] == '\n' || t->data[t->pos] == '\r'))
                t->pos++;
}

/* The text up to its closing quote. Escapes are kept as they are written: no key or value that matters has
 * one. */
static int read_text(struct tokens *t, struct err *e)
{
        size_t n = 0;

        for (t->pos++; t->pos < t->size && t->data[t->pos] != '"'; t->pos++) {
                if (t->data[t->pos] < ' ')
                        return malformed(t, e);
                if (t->data[t->pos] == '\\') {
                        if (n < TOKENS_TEXT_MAX - 1)
                                t->text[n++] = '\\';
                        if (++t->pos == t->size)
                                break;
                }
                if (n < TOKENS_TEXT_MAX - 1)
                        t->text[n++] = (char)t->data[t->pos];
        }
        if (t->pos >= t->size)
                return malformed(t, e);
        t->pos++;
        t->text[n] = '\0';
        return 0;
}

/* Nearly all numbers of a tree are small integers; these need no strtod(). */
static bool read_integer(struct tokens *t)
{
        size_t pos = t->pos, digits = 0;
        bool minus = t->data[pos] == '-';
        int v = 0;

        for (pos += minus; pos < t->size && t->data[pos] >= '0' && t->data[pos] <= '9' && digits < 9;
             digits++)
                v = 10 * v + (t->data[pos++] - '0');
        if (digits == 0 || pos == t->size || strchr("+-.0123456789eE", t->data[pos]))
                return false;
        t->pos = pos;
        t->number = minus ? -(double)v : (double)v;
        return true;
}

static int read_number(struct tokens *t, struct err *e)
{
        char text[64];
        size_t n = 0;

        if (read_integer(t))
                return TOKEN_NUMBER;
        while (t->pos < t->size && n < sizeof(text) - 1 && t->data[t->pos] &&
               strchr("+-.0123456789eE", t->data[t->pos]))
                text[n++] = (char)t->data[t->pos++];
        text[n] = '\0';
        if (num_parse_double(text, &t->number) < 0)
                return malformed(t, e);
        return TOKEN_NUMBER;
}

static bool take_word(struct tokens *t, const char *word)
{
        size_t n = strlen(word);

        if (t->size - t->pos < n || memcmp(t->data + t->pos, word, n))
                return false;
        t->pos += n;
        return true;
}

static int json_value(struct tokens *t, struct err *e)
{
        int r;

        switch (t->data[t->pos]) {
        case '{':
        case '[':
                return tokens_open(t, t->data[t->pos++] == '{', e);
        case '"':
                r = read_text(t, e);
                r = r < 0 ? r : TOKEN_TEXT;
                break;
        case 't':
                r = take_word(t, "true") ? TOKEN_TRUE : malformed(t, e);
                break;
        case 'f':
                r = take_word(t, "false") ? TOKEN_FALSE : malformed(t, e);
                break;
        case 'n':
                r = take_word(t, "null") ? TOKEN_NULL : malformed(t, e);
                break;
        default:
                r = read_number(t, e);
        }
        if (r >= 0)
                tokens_value_done(t);
        return r;
}

static int json_key(struct tokens *t, struct err *e)
{
        int r = t->data[t->pos] == '"' ? read_text(t, e) : malformed(t, e);

        if (r < 0)
                return r;
        skip_space(t);
        if (t->pos == t->size || t->data[t->pos] != ':')
                return malformed(t, e);
        t->pos++;
        t->open[t->depth - 1].key_read = true;
        return TOKEN_KEY;
}

static int next_json(struct tokens *t, struct err *e)
{
        bool inside = t->depth > 0;

        skip_space(t);
        if (t->pos == t->size)
                return malformed(t, e);
        if (!inside || t->open[t->depth - 1].key_read)
                return json_value(t, e);

        if (t->data[t->pos] == (t->open[t->depth - 1].object ? '}' : ']')) {
                bool object = t->open[--t->depth].object;

                t->pos++;
                tokens_value_done(t);
                return object ? TOKEN_OBJECT_END : TOKEN_ARRAY_END;
        }
        if (t->open[t->depth - 1].any) {
                if (t->data[t->pos] != ',')
                        return malformed(t, e);
                t->pos++;
                skip_space(t);
                if (t->pos == t->size)
                        return malformed(t, e);
        }
        return t->open[t->depth - 1].object ? json_key(t, e) : json_value(t, e);
}

int tokens_next(struct tokens *t, struct err *e)
{
        if (!t->done)
                return t->ubjson ? tokens_next_ubjson(t, e) : next_json(t, e);
        if (!t->ubjson)
                skip_space(t);
        return t->pos == t->size ? TOKEN_END : malformed(t, e);
}
