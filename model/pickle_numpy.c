/* SPDX-License-Identifier: Apache-2.0 */
/* numpy's values as pickles and joblib write them: data types, scalars, arrays in the pickle's grammar, and
 * arrays whose bytes stand between two opcodes. */
#include "model/pickle_reader.h"

#include <errno.h>
#include <string.h>

#define RAW_ALIGN 16 /* joblib's alignment of raw bytes in the file */

static int no_memory(struct err *e)
{
        return err_set(e, -E2BIG, "pickle needs more than %zu bytes of memory", PICKLE_MEMORY_MAX);
}

static const struct pickle_node *arg(const struct pickle_node *tuple, size_t i, enum pickle_kind kind)
{
        if (!tuple || tuple->kind != PICKLE_TUPLE || i >= tuple->list.n || tuple->list.items[i]->kind != kind)
                return NULL;
        return tuple->list.items[i];
}

/* ---- data types ---- */

/* "f8", "i4", "u1", "b1", "O8", "V56", "S3", "U9": a letter and a size. */
static int parse_code(const struct pickle_node *code, struct pickle_dtype *dtype, struct err *e)
{
        const char *s = code->text.data;
        size_t size = 0, i = 1;

        for (; i < code->text.size && s[i] >= '0' && s[i] <= '9' && size < 100000; i++)
                size = size * 10 + (size_t)(s[i] - '0');
        if (code->text.size < 2 || i != code->text.size || size == 0 || !strchr("fiubOVSU", s[0]))
                return err_set(e, -ENOTSUP, "pickle has the data type '%.20s', which is not supported", s);
        if ((s[0] == 'f' && size != 4 && size != 8) || (s[0] == 'b' && size != 1) ||
            (s[0] == 'O' && size != 8) ||
            (strchr("iu", s[0]) && size != 1 && size != 2 && size != 4 && size != 8))
                return err_set(e, -ENOTSUP, "pickle has the data type '%.20s', which is not supported", s);
        dtype->letter = s[0];
        dtype->size = s[0] == 'U' ? 4 * size : size;
        return 0;
}

static int make_dtype(struct pickle *p, const struct pickle_node *args, struct pickle_node **ret,
                      struct err *e)
{
        const struct pickle_node *code = arg(args, 0, PICKLE_TEXT);
        struct pickle_node *node;
        int r;

        if (!code)
                return err_set(e, -EBADMSG, "pickle has a data type without a code");
        node = pickle_node_new(p, PICKLE_DTYPE, e);
        if (!node)
                return -E2BIG;
        node->dtype = arena_calloc(&p->arena, 1, sizeof(*node->dtype));
        if (!node->dtype)
                return no_memory(e);
        r = parse_code(code, node->dtype, e);
        if (r == 0)
                *ret = node;
        return r;
}

static int read_field(struct pickle_dtype *dtype, const struct pickle_node *name,
                      const struct pickle_node *spec, struct err *e)
{
        const struct pickle_node *type = arg(spec, 0, PICKLE_DTYPE), *offset = arg(spec, 1, PICKLE_INT);
        struct pickle_field *f = &dtype->fields[dtype->n_fields];

        if (name->kind != PICKLE_TEXT || !type || !offset || !strchr("fiubV", type->dtype->letter))
                return err_set(e, -EBADMSG, "pickle has a record type with a malformed field");
        if (offset->integer < 0 || type->dtype->size > dtype->size ||
            (uint64_t)offset->integer > dtype->size - type->dtype->size)
                return err_set(e, -EBADMSG, "pickle has a record type with a field beyond its end");
        *f = (struct pickle_field){ name->text.data, (size_t)offset->integer, type->dtype->letter,
                                    type->dtype->size };
        dtype->n_fields++;
        return 0;
}

/* (3, byteorder, None, names, fields, itemsize, alignment, flags) */
static int build_dtype(struct pickle *p, struct pickle_dtype *dtype, const struct pickle_node *state,
                       struct err *e)
{
        const struct pickle_node *order = arg(state, 1, PICKLE_TEXT), *fields = arg(state, 4, PICKLE_DICT);

        if (dtype->built || !order)
                return err_set(e, -EBADMSG, "pickle has a malformed data type");
        if (!pickle_is_text(order, "<") && !pickle_is_text(order, "|") && !pickle_is_text(order, "="))
                return err_set(e, -ENOTSUP, "pickle has big-endian data, which is not supported");
        dtype->built = true;
        if (!fields)
                return 0;
        if (dtype->letter != 'V' || fields->list.n > 2 * PICKLE_FIELDS_MAX)
                return err_set(e, -EBADMSG, "pickle has a malformed record type");
        dtype->fields = arena_calloc(&p->arena, fields->list.n / 2, sizeof(*dtype->fields));
        if (!dtype->fields)
                return no_memory(e);
        for (size_t i = 0; i < fields->list.n; i += 2) {
                int r = read_field(dtype, fields->list.items[i], fields->list.items[i + 1], e);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- arrays ---- */

static int read_shape(const struct pickle_node *shape, struct pickle_array *array, struct err *e)
{
        if (!shape || shape->kind != PICKLE_TUPLE)
                return err_set(e, -EBADMSG, "pickle has an array without a shape");
        if (shape->list.n > PICKLE_RANK_MAX)
                return err_set(e, -E2BIG, "pickle has an array of more than %d dimensions", PICKLE_RANK_MAX);
        array->rank = shape->list.n;
        array->n = 1;
        for (size_t i = 0; i < array->rank; i++) {
                const struct pickle_node *d = shape->list.items[i];

                if (d->kind != PICKLE_INT || d->integer < 0)
                        return err_set(e, -EBADMSG, "pickle has an array with a malformed shape");
                array->shape[i] = (size_t)d->integer;
                if (__builtin_mul_overflow(array->n, array->shape[i], &array->n))
                        return err_set(e, -E2BIG, "pickle has an array that is too large");
        }
        return 0;
}

static struct pickle_node *array_node(struct pickle *p, struct err *e)
{
        struct pickle_node *node = pickle_node_new(p, PICKLE_ARRAY, e);

        if (!node)
                return NULL;
        node->array = arena_calloc(&p->arena, 1, sizeof(*node->array));
        if (!node->array) {
                (void)no_memory(e);
                return NULL;
        }
        return node;
}

/* A number of its own: an array of one element, decoded at once. */
static int make_scalar(struct pickle *p, const struct pickle_node *args, struct pickle_node **ret,
                       struct err *e)
{
        const struct pickle_node *type = arg(args, 0, PICKLE_DTYPE), *bytes = arg(args, 1, PICKLE_BYTES);
        struct pickle_array array = { .rank = 0, .n = 1 };
        struct pickle_node *node;
        double v;

        if (!type || !bytes || bytes->text.size != type->dtype->size)
                return err_set(e, -EBADMSG, "pickle has a malformed scalar");
        array.dtype = type->dtype;
        array.data = (const unsigned char *)bytes->text.data;
        if (!strchr("fiub", type->dtype->letter) || pickle_element(&array, 0, &v) < 0)
                return err_set(e, -ENOTSUP, "pickle has a scalar that is not a number");
        node = pickle_node_new(p, PICKLE_FLOAT, e);
        if (!node)
                return -E2BIG;
        node->number = v;
        *ret = node;
        return 0;
}

/* _reconstruct(numpy.ndarray, (0,), b'b'): an empty array, which BUILD will fill. */
static int make_array(struct pickle *p, const struct pickle_node *args, struct pickle_node **ret,
                      struct err *e)
{
        const struct pickle_node *class = arg(args, 0, PICKLE_CLASS);

        if (!class || strcmp(class->class->name, "ndarray"))
                return err_set(e, -ENOTSUP, "pickle reconstructs something that is no array");
        *ret = array_node(p, e);
        return *ret ? 0 : -E2BIG;
}

static int take_buffer(struct pickle_array *array, const struct pickle_node *type,
                       const struct pickle_node *bytes, struct err *e)
{
        size_t size;

        if (!bytes || __builtin_mul_overflow(array->n, type->dtype->size, &size) || size != bytes->text.size)
                return err_set(e, -EBADMSG,
                               "pickle has an array whose bytes are not as many as its shape says");
        array->data = (const unsigned char *)bytes->text.data;
        return 0;
}

/* _frombuffer(bytes, dtype, shape, order) */
static int array_from_buffer(struct pickle *p, const struct pickle_node *args, struct pickle_node **ret,
                             struct err *e)
{
        const struct pickle_node *bytes = arg(args, 0, PICKLE_BYTES), *type = arg(args, 1, PICKLE_DTYPE);
        const struct pickle_node *shape = arg(args, 2, PICKLE_TUPLE), *order = arg(args, 3, PICKLE_TEXT);
        struct pickle_node *node;
        int r;

        if (!bytes || !type || type->dtype->letter == 'O' ||
            (!pickle_is_text(order, "C") && !pickle_is_text(order, "F")))
                return err_set(e, -EBADMSG, "pickle has a malformed array");
        node = array_node(p, e);
        if (!node)
                return -E2BIG;
        r = read_shape(shape, node->array, e);
        if (r == 0)
                r = take_buffer(node->array, type, bytes, e);
        if (r < 0)
                return r;
        node->array->fortran = pickle_is_text(order, "F");
        node->array->dtype = type->dtype;
        *ret = node;
        return 0;
}

/* (1, shape, dtype, is_fortran, data) */
static int build_array(struct pickle_array *array, const struct pickle_node *state, struct err *e)
{
        const struct pickle_node *type = arg(state, 2, PICKLE_DTYPE), *fortran = arg(state, 3, PICKLE_BOOL);
        const struct pickle_node *bytes = arg(state, 4, PICKLE_BYTES), *list = arg(state, 4, PICKLE_LIST);
        int r;

        if (array->dtype || !type || !fortran || state->list.n != 5)
                return err_set(e, -EBADMSG, "pickle has a malformed array");
        r = read_shape(state->list.items[1], array, e);
        if (r < 0)
                return r;
        array->fortran = fortran->truth;
        if (type->dtype->letter == 'O') {
                if (!list || list->list.n != array->n)
                        return err_set(e, -EBADMSG,
                                       "pickle has an array whose objects are not as many as its shape says");
                array->objects = list->list.items;
        } else {
                r = take_buffer(array, type, bytes, e);
                if (r < 0)
                        return r;
        }
        array->dtype = type->dtype;
        return 0;
}

/* ---- joblib ---- */

bool pickle_wrapper_is_padded(const struct pickle_node *state)
{
        const struct pickle_node *align = pickle_item(state, "numpy_array_alignment_bytes");

        return align && align->kind != PICKLE_NONE;
}

static int wrapped_array(struct pickle *p, const struct pickle_node *state, struct pickle_array **ret,
                         struct err *e)
{
        const struct pickle_node *type = pickle_item(state, "dtype"), *class = pickle_item(state, "subclass");
        const struct pickle_node *order = pickle_item(state, "order");
        const struct pickle_node *align = pickle_item(state, "numpy_array_alignment_bytes");
        struct pickle_array *array;
        int r;

        if (!type || type->kind != PICKLE_DTYPE || !class || class->kind != PICKLE_CLASS ||
            strcmp(class->class->name, "ndarray") ||
            (!pickle_is_text(order, "C") && !pickle_is_text(order, "F")))
                return err_set(e, -EBADMSG, "pickle has a malformed joblib array");
        if (align && align->kind != PICKLE_NONE && (align->kind != PICKLE_INT || align->integer != RAW_ALIGN))
                return err_set(e, -ENOTSUP, "pickle has a joblib array with another alignment than %d",
                               RAW_ALIGN);
        array = arena_calloc(&p->arena, 1, sizeof(*array));
        if (!array)
                return no_memory(e);
        r = read_shape(pickle_item(state, "shape"), array, e);
        if (r < 0)
                return r;
        array->dtype = type->dtype;
        array->fortran = pickle_is_text(order, "F");
        *ret = array;
        return 0;
}

int pickle_read_raw(struct pickle *p, struct pickle_array *array, bool padded, struct err *e)
{
        size_t size, padding;

        if (padded) {
                if (p->pos == p->size)
                        return err_set(e, -EBADMSG, "pickle ends before an array's bytes");
                padding = p->data[p->pos];
                if (padding != RAW_ALIGN - (p->pos + 1) % RAW_ALIGN || padding > p->size - p->pos - 1)
                        return err_set(e, -EBADMSG, "pickle has wrong padding at byte %zu", p->pos);
                p->pos++;
                for (; padding > 0; padding--)
                        if (p->data[p->pos++] != 0xff)
                                return err_set(e, -EBADMSG, "pickle has wrong padding at byte %zu",
                                               p->pos - 1);
        }
        if (__builtin_mul_overflow(array->n, array->dtype->size, &size) || size > p->size - p->pos)
                return err_set(e, -EBADMSG, "pickle ends within an array's bytes");
        array->data = p->data + p->pos;
        p->pos += size;
        return 0;
}

int pickle_take_objects(struct pickle_array *array, const struct pickle_node *nested, struct err *e)
{
        if (nested->kind != PICKLE_ARRAY || !nested->array->dtype || nested->array->dtype->letter != 'O' ||
            nested->array->n != array->n)
                return err_set(e, -EBADMSG, "pickle has an array of objects that is not one");
        array->objects = nested->array->objects;
        return 0;
}

/* ---- bytes of protocol 2 ---- */

/* UTF-8 whose code points are the bytes: U+0000 to U+00FF. */
static int encode_latin1(struct pickle *p, const struct pickle_node *args, struct pickle_node **ret,
                         struct err *e)
{
        const struct pickle_node *text = arg(args, 0, PICKLE_TEXT);
        struct pickle_node *node;
        unsigned char *bytes;
        size_t n = 0;

        if (!text || args->list.n != 2 || !pickle_is_text(args->list.items[1], "latin1"))
                return err_set(e, -EBADMSG, "pickle encodes something else than a text as latin1");
        node = pickle_node_new(p, PICKLE_BYTES, e);
        if (!node)
                return -E2BIG;
        bytes = arena_calloc(&p->arena, text->text.size + 1, 1);
        if (!bytes)
                return no_memory(e);
        for (size_t i = 0; i < text->text.size;) {
                const unsigned char *s = (const unsigned char *)text->text.data + i; /* NUL-terminated */

                if (s[0] < 0x80) {
                        bytes[n++] = s[0];
                        i++;
                } else if ((s[0] == 0xc2 || s[0] == 0xc3) && (s[1] & 0xc0) == 0x80) {
                        bytes[n++] = (unsigned char)(s[0] << 6 | (s[1] & 0x3f));
                        i += 2;
                } else {
                        return err_set(e, -EBADMSG, "pickle encodes a character that latin1 does not have");
                }
        }
        node->text.data = (const char *)bytes;
        node->text.size = n;
        *ret = node;
        return 0;
}

static int no_bytes(struct pickle *p, const struct pickle_node *args, struct pickle_node **ret, struct err *e)
{
        struct pickle_node *node;

        if (args->list.n > 0)
                return err_set(e, -EBADMSG, "pickle makes bytes of something");
        node = pickle_node_new(p, PICKLE_BYTES, e);
        if (!node)
                return -E2BIG;
        node->text.data = "";
        *ret = node;
        return 0;
}

/* ---- what the machine asks for ---- */

int pickle_reduce(struct pickle *p, const struct pickle_class *function, struct pickle_node *args,
                  struct pickle_node **ret, struct err *e)
{
        struct pickle_node *node;

        switch (function->role) {
        case ROLE_DTYPE:
                return make_dtype(p, args, ret, e);
        case ROLE_SCALAR:
                return make_scalar(p, args, ret, e);
        case ROLE_RECONSTRUCT:
                return make_array(p, args, ret, e);
        case ROLE_FROMBUFFER:
                return array_from_buffer(p, args, ret, e);
        case ROLE_ENCODE:
                return encode_latin1(p, args, ret, e);
        case ROLE_BYTES:
                return no_bytes(p, args, ret, e);
        case ROLE_MADE:
                node = pickle_node_new(p, PICKLE_OBJECT, e);
                if (!node)
                        return -E2BIG;
                node->object.class = function;
                node->object.args = args;
                *ret = node;
                return 0;
        default:
                return err_set(e, -ENOTSUP, "pickle reduces '%s', which is not allowed", function->name);
        }
}

int pickle_build(struct pickle *p, struct pickle_node *object, struct pickle_node *state,
                 struct pickle_array **ret_raw, struct err *e)
{
        switch (object->kind) {
        case PICKLE_DTYPE:
                return build_dtype(p, object->dtype, state, e);
        case PICKLE_ARRAY:
                return build_array(object->array, state, e);
        case PICKLE_OBJECT:
                if (object->object.class->role == ROLE_WRAPPER)
                        return wrapped_array(p, state, ret_raw, e);
                if (object->object.state)
                        return err_set(e, -EBADMSG, "pickle gives '%s' two states",
                                       object->object.class->name);
                object->object.state = state;
                return 0;
        default:
                return err_set(e, -EBADMSG, "pickle gives a state to %s", pickle_describe(object));
        }
}
