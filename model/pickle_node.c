/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to what a pickle holds. */
#include "model/pickle.h"

#include <errno.h>
#include <string.h>

bool pickle_is_text(const struct pickle_node *node, const char *text)
{
        return node && node->kind == PICKLE_TEXT && node->text.size == strlen(text) &&
               !memcmp(node->text.data, text, node->text.size);
}

bool pickle_is_object(const struct pickle_node *node, const char *name)
{
        return node && node->kind == PICKLE_OBJECT && !strcmp(node->object.class->name, name);
}

/* As in Python, what was set last counts. */
const struct pickle_node *pickle_item(const struct pickle_node *dict, const char *key)
{
        if (!dict || dict->kind != PICKLE_DICT)
                return NULL;
        for (size_t i = dict->list.n; i > 0; i -= 2)
                if (pickle_is_text(dict->list.items[i - 2], key))
                        return dict->list.items[i - 1];
        return NULL;
}

const struct pickle_node *pickle_attr(const struct pickle_node *object, const char *name)
{
        return object && object->kind == PICKLE_OBJECT ? pickle_item(object->object.state, name) : NULL;
}

int pickle_number(const struct pickle_node *node, double *ret)
{
        if (!node)
                return -ENOENT;
        switch (node->kind) {
        case PICKLE_FLOAT:
                *ret = node->number;
                return 0;
        case PICKLE_INT:
                *ret = (double)node->integer;
                return 0;
        case PICKLE_BOOL:
                *ret = node->truth;
                return 0;
        case PICKLE_ARRAY:
                if (node->array->n != 1 || node->array->dtype->letter == 'O')
                        return -EBADMSG;
                return pickle_element(node->array, 0, ret);
        default:
                return -EBADMSG;
        }
}

int pickle_integer(const struct pickle_node *node, int64_t *ret)
{
        double v;
        int r;

        if (node && node->kind == PICKLE_INT) {
                *ret = node->integer;
                return 0;
        }
        r = pickle_number(node, &v);
        if (r < 0)
                return r;
        if (!(v >= -1e15 && v <= 1e15) || v < (double)(int64_t)v || v > (double)(int64_t)v)
                return -EBADMSG;
        *ret = (int64_t)v;
        return 0;
}

const char *pickle_describe(const struct pickle_node *node)
{
        static const char *const words[] = {
                [PICKLE_NONE] = "None",     [PICKLE_BOOL] = "a truth value", [PICKLE_INT] = "an integer",
                [PICKLE_BIG] = "a long",    [PICKLE_FLOAT] = "a float",      [PICKLE_TEXT] = "a text",
                [PICKLE_BYTES] = "bytes",   [PICKLE_TUPLE] = "a tuple",      [PICKLE_LIST] = "a list",
                [PICKLE_DICT] = "a dict",   [PICKLE_DTYPE] = "a data type",  [PICKLE_ARRAY] = "an array",
                [PICKLE_CLASS] = "a class", [PICKLE_OBJECT] = "an object",
        };

        if (!node)
                return "nothing";
        if (node->kind == PICKLE_CLASS)
                return node->class->name;
        if (node->kind == PICKLE_OBJECT)
                return node->object.class->name;
        return words[node->kind];
}

/* ---- arrays ---- */

/* Little-endian bytes to a number; the reader lets only known sizes pass. */
static double decode(char letter, size_t size, const unsigned char *bytes)
{
        uint64_t v = 0;
        double d;
        float f;
        uint32_t v32;

        for (size_t i = size; i > 0; i--)
                v = v << 8 | bytes[i - 1];
        switch (letter) {
        case 'f':
                if (size == 8) {
                        memcpy(&d, &v, sizeof(d));
                        return d;
                }
                v32 = (uint32_t)v;
                memcpy(&f, &v32, sizeof(f));
                return (double)f;
        case 'i':
                if (size < 8 && v >> (8 * size - 1))
                        v |= ~(uint64_t)0 << (8 * size);
                return (double)(int64_t)v;
        default: /* u, b */
                return (double)v;
        }
}

/* Where element i in row-major order is stored. */
static size_t stored_at(const struct pickle_array *a, size_t i)
{
        size_t at = 0, step = 1, place[PICKLE_RANK_MAX] = { 0 };

        if (!a->fortran)
                return i;
        for (size_t d = a->rank; d > 0; d--) {
                place[d - 1] = i % a->shape[d - 1];
                i /= a->shape[d - 1];
        }
        for (size_t d = 0; d < a->rank; d++) {
                at += place[d] * step;
                step *= a->shape[d];
        }
        return at;
}

int pickle_element(const struct pickle_array *a, size_t i, double *ret)
{
        size_t at;

        if (i >= a->n)
                return -ENOENT;
        at = stored_at(a, i);
        switch (a->dtype->letter) {
        case 'O':
                if (a->objects[at]->kind == PICKLE_ARRAY)
                        return -EBADMSG;
                return pickle_number(a->objects[at], ret);
        case 'f':
        case 'i':
        case 'u':
        case 'b':
                *ret = decode(a->dtype->letter, a->dtype->size, a->data + at * a->dtype->size);
                return 0;
        default:
                return -EBADMSG;
        }
}

const struct pickle_field *pickle_field_find(const struct pickle_dtype *dtype, const char *name)
{
        for (size_t i = 0; i < dtype->n_fields; i++)
                if (!strcmp(dtype->fields[i].name, name))
                        return &dtype->fields[i];
        return NULL;
}

double pickle_field_get(const struct pickle_array *a, size_t i, const struct pickle_field *field)
{
        return decode(field->letter, field->size, a->data + i * a->dtype->size + field->offset);
}
