/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include "common/file.h"
#include "common/num.h"

#define JSON_MAX_KEYS 65536 /* of one object, when writing */

int json_parse(const char *data, size_t size, const char *what, json_t **ret, struct err *e)
{
        json_error_t error;
        json_t *value;

        value = json_loadb(data, size, JSON_REJECT_DUPLICATES, &error);
        if (!value && json_error_code(&error) == json_error_out_of_memory)
                return err_set(e, -ENOMEM, "%s: out of memory", what);
        if (!value)
                return err_set(e, -EBADMSG, "%s:%d:%d: %s", what, error.line, error.column, error.text);
        *ret = value;
        return 0;
}

int json_parse_file(const char *path, size_t max, json_t **ret, struct err *e)
{
        CLEANUP(buf_done) struct buf b;
        int r;

        buf_init(&b, max);
        r = file_read(path, &b, e);
        if (r < 0)
                return r;
        return json_parse(b.data ? b.data : "", b.size, path, ret, e);
}

/* Decode one UTF-8 sequence. Damaged input yields U+FFFD and moves one byte on. */
static unsigned int next_code_point(const unsigned char **s)
{
        static const unsigned int smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
        const unsigned char *p = *s;
        int length = *p < 0x80 ? 1 : *p < 0xc0 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf8 ? 4 : 0;
        unsigned int c;

        *s = p + 1;
        if (length == 1)
                return *p;
        if (length == 0)
                return 0xfffd;
        c = *p & (0xffu >> (length + 1));
        for (int i = 1; i < length; i++) {
                if ((p[i] & 0xc0) != 0x80) /* the terminator ends here as well */
                        return 0xfffd;
                c = c << 6 | (p[i] & 0x3f);
        }
        if (c < smallest[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
                return 0xfffd;
        *s = p + length;
        return c;
}

static int write_code_point(struct buf *out, unsigned int c)
{
        static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
        const char *special = c && c < 0x80 ? strchr(plain, (int)c) : NULL;
        char ascii = (char)c;

        if (special)
                return buf_printf(out, "\\%c", letters[special - plain]);
        if (c >= ' ' && c < 0x80) /* Python leaves DEL as it is */
                return buf_append(out, &ascii, 1);
        if (c < 0x10000)
                return buf_printf(out, "\\u%04x", c);
        c -= 0x10000;
        return buf_printf(out, "\\u%04x\\u%04x", 0xd800 + (c >> 10), 0xdc00 + (c & 0x3ff));
}

int json_write_string(struct buf *out, const char *s)
{
        const unsigned char *p = (const unsigned char *)s;

        (void)buf_puts(out, "\""); /* failure is sticky in the buffer */
        while (*p)
                (void)write_code_point(out, next_code_point(&p));
        return buf_puts(out, "\"");
}

static int write_real(struct buf *out, double v)
{
        char text[NUM_TEXT_MAX];

        (void)num_format_double(text, v);
        (void)buf_puts(out, text);
        /* Without a sign of a fraction Python would read an integer. */
        return strpbrk(text, ".e") ? out->failed : buf_puts(out, ".0");
}

static int by_key(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int write_object(const json_t *object, struct buf *out)
{
        CLEANUP(freep) const char **keys = NULL;
        size_t n = json_object_size(object), i = 0;
        const char *key;
        json_t *member;

        if (n > JSON_MAX_KEYS)
                return -EFBIG;
        keys = calloc(n + 1, sizeof(*keys));
        if (!keys)
                return -ENOMEM;
        json_object_foreach ((json_t *)(uintptr_t)object, key, member) /* reads only */
                keys[i++] = key;
        qsort(keys, n, sizeof(*keys), by_key);

        (void)buf_puts(out, "{");
        for (i = 0; i < n; i++) {
                int r;

                (void)buf_puts(out, i > 0 ? ", " : "");
                (void)json_write_string(out, keys[i]);
                (void)buf_puts(out, ": ");
                r = json_write(json_object_get(object, keys[i]), out);
                if (r < 0)
                        return r;
        }
        return buf_puts(out, "}");
}

static int write_array(const json_t *array, struct buf *out)
{
        (void)buf_puts(out, "[");
        for (size_t i = 0; i < json_array_size(array); i++) {
                int r;

                (void)buf_puts(out, i > 0 ? ", " : "");
                r = json_write(json_array_get(array, i), out);
                if (r < 0)
                        return r;
        }
        return buf_puts(out, "]");
}

int json_write(const json_t *value, struct buf *out)
{
        if (!value) /* jansson makes no value of a NaN */
                return -EINVAL;
        switch (json_typeof(value)) {
        case JSON_OBJECT:
                return write_object(value, out);
        case JSON_ARRAY:
                return write_array(value, out);
        case JSON_STRING:
                return json_write_string(out, json_string_value(value));
        case JSON_INTEGER:
                return buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        case JSON_REAL:
                return write_real(out, json_real_value(value));
        case JSON_TRUE:
                return buf_puts(out, "true");
        case JSON_FALSE:
                return buf_puts(out, "false");
        case JSON_NULL:
                return buf_puts(out, "null");
        }
        return -EINVAL;
}

static int get_member(const json_t *object, const char *key, const json_t **ret, struct err *e)
{
        if (!json_is_object(object))
                return err_set(e, -EBADMSG, "not an object, so there is no '%s'", key);
        *ret = json_object_get(object, key);
        if (!*ret)
                return err_set(e, -ENOENT, "'%s' is missing", key);
        return 0;
}

int json_get_string(const json_t *object, const char *key, const char **ret, struct err *e)
{
        const json_t *member;
        int r;

        r = get_member(object, key, &member, e);
        if (r < 0)
                return r;
        if (!json_is_string(member))
                return err_set(e, -EBADMSG, "'%s' is not a string", key);
        *ret = json_string_value(member);
        return 0;
}

int json_get_number(const json_t *object, const char *key, double *ret, struct err *e)
{
        const json_t *member;
        int r;

        r = get_member(object, key, &member, e);
        if (r < 0)
                return r;
        if (!json_is_number(member))
                return err_set(e, -EBADMSG, "'%s' is not a number", key);
        *ret = json_number_value(member);
        return 0;
}

int json_get_int(const json_t *object, const char *key, long long *ret, struct err *e)
{
        const json_t *member;
        int r;

        r = get_member(object, key, &member, e);
        if (r < 0)
                return r;
        if (!json_is_integer(member))
                return err_set(e, -EBADMSG, "'%s' is not an integer", key);
        *ret = json_integer_value(member);
        return 0;
}
