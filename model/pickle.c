/* SPDX-License-Identifier: Apache-2.0 */
/* The pickle machine: opcodes, stack, marks and memo. Everything that it can do is make values; what numpy's
 * functions would have made of them is in pickle_numpy.c. */
#include "model/pickle_reader.h"

#include <errno.h>
#include <string.h>

/* One stream; an array of objects is a stream within the stream, with a memo of its own. */
struct machine {
        struct pickle *p;
        struct pickle_node **stack, **memo; /* the arrays are owned, the nodes are the arena's */
        size_t n, stack_room, n_memo, memo_room;
        size_t marks[PICKLE_NESTING_MAX], n_marks; /* stack heights */
        unsigned int nested;
        bool stopped;
};

static void machine_done(struct machine *m)
{
        free(m->stack);
        free(m->memo);
}

static int read_stream(struct pickle *p, unsigned int nested, struct pickle_node **ret, struct err *e);

/* ---- input ---- */

static int take_bytes(struct pickle *p, size_t n, const unsigned char **ret, struct err *e)
{
        if (n > p->size - p->pos)
                return err_set(e, -EBADMSG, "pickle ends within an argument at byte %zu", p->pos);
        *ret = p->data + p->pos;
        p->pos += n;
        return 0;
}

/* A little-endian argument of up to eight bytes. */
static int take_uint(struct pickle *p, size_t n, uint64_t *ret, struct err *e)
{
        const unsigned char *bytes = NULL;
        int r = take_bytes(p, n, &bytes, e);

        if (r < 0)
                return r;
        *ret = 0;
        for (size_t i = n; i > 0; i--)
                *ret = *ret << 8 | bytes[i - 1];
        return 0;
}

/* Up to the end of the line, which is not part of it. */
static int take_line(struct pickle *p, const char **ret, size_t *ret_size, struct err *e)
{
        const unsigned char *start = p->data + p->pos, *end = memchr(start, '\n', p->size - p->pos);

        if (!end)
                return err_set(e, -EBADMSG, "pickle ends within a name at byte %zu", p->pos);
        *ret = (const char *)start;
        *ret_size = (size_t)(end - start);
        p->pos += *ret_size + 1;
        return 0;
}

/* ---- stack and memo ---- */

struct pickle_node *pickle_node_new(struct pickle *p, enum pickle_kind kind, struct err *e)
{
        struct pickle_node *node = arena_calloc(&p->arena, 1, sizeof(*node));

        if (!node) {
                (void)err_set(e, -E2BIG, "pickle needs more than %zu bytes of memory", PICKLE_MEMORY_MAX);
                return NULL;
        }
        node->kind = kind;
        return node;
}

static int grow(struct pickle_node ***nodes, size_t *room, size_t n, size_t max, const char *what,
                struct err *e)
{
        struct pickle_node **more;

        if (n >= max)
                return err_set(e, -E2BIG, "pickle has more than %zu %s", max, what);
        if (n < *room)
                return 0;
        more = reallocarray(*nodes, *room * 2 + 64, sizeof(*more));
        if (!more)
                return err_set(e, -ENOMEM, "out of memory");
        *nodes = more;
        *room = *room * 2 + 64;
        return 0;
}

static int push(struct machine *m, struct pickle_node *node, struct err *e)
{
        int r = grow(&m->stack, &m->stack_room, m->n, PICKLE_STACK_MAX, "values on its stack", e);

        if (r < 0)
                return r;
        m->stack[m->n++] = node;
        return 0;
}

/* The highest value that is above the last mark; those below belong to somebody else. */
static int pop(struct machine *m, struct pickle_node **ret, struct err *e)
{
        size_t floor = m->n_marks > 0 ? m->marks[m->n_marks - 1] : 0;

        if (m->n <= floor)
                return err_set(e, -EBADMSG, "pickle takes a value that is not there, at byte %zu", m->p->pos);
        *ret = m->stack[--m->n];
        return 0;
}

static int peek(struct machine *m, struct pickle_node **ret, struct err *e)
{
        int r = pop(m, ret, e);

        if (r == 0)
                m->n++;
        return r;
}

/* The values above the last mark, which goes; they stay readable behind the new top until the next push. */
static int pop_mark(struct machine *m, struct pickle_node ***ret, size_t *ret_n, struct err *e)
{
        size_t mark;

        if (m->n_marks == 0)
                return err_set(e, -EBADMSG, "pickle misses a mark at byte %zu", m->p->pos);
        mark = m->marks[--m->n_marks];
        *ret = m->stack + mark;
        *ret_n = m->n - mark;
        m->n = mark;
        return 0;
}

/* Python numbers memo entries in order, so an index beyond the next is a forgery. */
static int memo_put(struct machine *m, uint64_t index, struct err *e)
{
        struct pickle_node *node = NULL;
        int r = peek(m, &node, e);

        if (r < 0)
                return r;
        if (index > m->n_memo)
                return err_set(e, -EBADMSG, "pickle's memo index %llu is out of order",
                               (unsigned long long)index);
        r = grow(&m->memo, &m->memo_room, index, PICKLE_MEMO_MAX, "memo entries", e);
        if (r < 0)
                return r;
        m->memo[index] = node;
        if (index == m->n_memo)
                m->n_memo++;
        return 0;
}

static int memo_get(struct machine *m, uint64_t index, struct err *e)
{
        if (index >= m->n_memo)
                return err_set(e, -EBADMSG, "pickle's memo index %llu was never set",
                               (unsigned long long)index);
        return push(m, m->memo[index], e);
}

/* ---- values ---- */

static int push_new(struct machine *m, enum pickle_kind kind, struct pickle_node **ret, struct err *e)
{
        struct pickle_node *node = pickle_node_new(m->p, kind, e);

        if (!node)
                return -E2BIG;
        if (ret)
                *ret = node;
        return push(m, node, e);
}

static int push_bool(struct machine *m, bool truth, struct err *e)
{
        struct pickle_node *node = NULL;
        int r = push_new(m, PICKLE_BOOL, &node, e);

        if (r == 0)
                node->truth = truth;
        return r;
}

static int push_int(struct machine *m, int64_t value, struct err *e)
{
        struct pickle_node *node = NULL;
        int r = push_new(m, PICKLE_INT, &node, e);

        if (r == 0)
                node->integer = value;
        return r;
}

static int push_sized_int(struct machine *m, size_t bytes, struct err *e)
{
        uint64_t v = 0;
        int r = take_uint(m->p, bytes, &v, e);

        if (r < 0)
                return r;
        return push_int(m, bytes == 4 ? (int64_t)(int32_t)(uint32_t)v : (int64_t)v, e);
}

/* Two's complement of any length; seeds of random numbers have 16 bytes, and nobody asks for their value. */
static int push_long(struct machine *m, struct err *e)
{
        uint64_t n = 0, v = 0;
        const unsigned char *bytes = NULL;
        int r = take_uint(m->p, 1, &n, e);

        if (r == 0)
                r = take_bytes(m->p, n, &bytes, e);
        if (r < 0)
                return r;
        if (n > 8)
                return push_new(m, PICKLE_BIG, NULL, e);
        for (size_t i = n; i > 0; i--)
                v = v << 8 | bytes[i - 1];
        if (n > 0 && n < 8 && bytes[n - 1] & 0x80)
                v |= ~(uint64_t)0 << (8 * n);
        return push_int(m, (int64_t)v, e);
}

static int push_float(struct machine *m, struct err *e)
{
        const unsigned char *bytes = NULL;
        struct pickle_node *node = NULL;
        uint64_t v = 0;
        int r = take_bytes(m->p, 8, &bytes, e);

        if (r == 0)
                r = push_new(m, PICKLE_FLOAT, &node, e);
        if (r < 0)
                return r;
        for (size_t i = 0; i < 8; i++)
                v = v << 8 | bytes[i];
        memcpy(&node->number, &v, sizeof(v));
        return 0;
}

static int push_text(struct machine *m, enum pickle_kind kind, size_t length_bytes, struct err *e)
{
        const unsigned char *bytes = NULL;
        struct pickle_node *node = NULL;
        uint64_t n = 0;
        char *copy;
        int r = take_uint(m->p, length_bytes, &n, e);

        if (r < 0)
                return r;
        if (n > PICKLE_TEXT_MAX)
                return err_set(e, -E2BIG, "pickle has a text of more than %zu bytes", PICKLE_TEXT_MAX);
        r = take_bytes(m->p, n, &bytes, e);
        if (r == 0)
                r = push_new(m, kind, &node, e);
        if (r < 0)
                return r;
        copy = arena_calloc(&m->p->arena, n + 1, 1);
        if (!copy)
                return err_set(e, -E2BIG, "pickle needs more than %zu bytes of memory", PICKLE_MEMORY_MAX);
        memcpy(copy, bytes, n);
        node->text.data = copy;
        node->text.size = n;
        return 0;
}

/* ---- containers ---- */

static int nest(struct pickle_node *outer, const struct pickle_node *inner, struct err *e)
{
        if (inner->depth >= outer->depth)
                outer->depth = inner->depth + 1;
        return outer->depth <= PICKLE_NESTING_MAX
                       ? 0
                       : err_set(e, -E2BIG, "pickle has values in values more than %d deep",
                                 PICKLE_NESTING_MAX);
}

static int list_append(struct pickle *p, struct pickle_node *list, struct pickle_node *const *items, size_t n,
                       struct err *e)
{
        if (n > list->list.room - list->list.n) {
                size_t room = list->list.n + n + list->list.n / 2 * 2; /* even, as a dict's */
                struct pickle_node **more = arena_calloc(&p->arena, room, sizeof(*more));

                if (!more)
                        return err_set(e, -E2BIG, "pickle needs more than %zu bytes of memory",
                                       PICKLE_MEMORY_MAX);
                if (list->list.n > 0)
                        memcpy(more, list->list.items, list->list.n * sizeof(*more));
                list->list.items = more;
                list->list.room = room;
        }
        for (size_t i = 0; i < n; i++) {
                int r = nest(list, items[i], e);

                if (r < 0)
                        return r;
                list->list.items[list->list.n++] = items[i];
        }
        return 0;
}

static int make_tuple(struct machine *m, struct pickle_node *const *items, size_t n, struct err *e)
{
        struct pickle_node *tuple = pickle_node_new(m->p, PICKLE_TUPLE, e);
        int r;

        if (!tuple)
                return -E2BIG;
        r = list_append(m->p, tuple, items, n, e);
        return r < 0 ? r : push(m, tuple, e);
}

static int make_short_tuple(struct machine *m, size_t n, struct err *e)
{
        struct pickle_node *items[3];

        for (size_t i = n; i > 0; i--) {
                int r = pop(m, &items[i - 1], e);

                if (r < 0)
                        return r;
        }
        return make_tuple(m, items, n, e);
}

static int append_to(struct machine *m, enum pickle_kind kind, struct pickle_node *const *items, size_t n,
                     struct err *e)
{
        struct pickle_node *container = NULL;
        int r = peek(m, &container, e);

        if (r < 0)
                return r;
        if (container->kind != kind)
                return err_set(e, -EBADMSG, "pickle appends to %s at byte %zu", pickle_describe(container),
                               m->p->pos);
        if (kind == PICKLE_DICT && n % 2 != 0)
                return err_set(e, -EBADMSG, "pickle has a key without a value at byte %zu", m->p->pos);
        return list_append(m->p, container, items, n, e);
}

static int append_marked(struct machine *m, enum pickle_kind kind, struct err *e)
{
        struct pickle_node **items = NULL;
        size_t n = 0;
        int r = pop_mark(m, &items, &n, e);

        return r < 0 ? r : append_to(m, kind, items, n, e);
}

static int append_few(struct machine *m, enum pickle_kind kind, size_t n, struct err *e)
{
        struct pickle_node *items[2];

        for (size_t i = n; i > 0; i--) {
                int r = pop(m, &items[i - 1], e);

                if (r < 0)
                        return r;
        }
        return append_to(m, kind, items, n, e);
}

/* ---- classes and objects ---- */

/* What may stand in an error message: outside text, cut and made printable. */
static const char *printable(const char *s, size_t size, char ret[80])
{
        size_t n = size < 79 ? size : 79;

        for (size_t i = 0; i < n; i++)
                ret[i] = s[i] >= ' ' && s[i] <= '~' ? s[i] : '?';
        ret[n] = '\0';
        return ret;
}

static int push_class(struct machine *m, const char *module, size_t module_size, const char *name,
                      size_t name_size, struct err *e)
{
        const struct pickle_class *class = pickle_class_find(module, module_size, name, name_size);
        struct pickle_node *node = NULL;
        char a[80], b[80];
        int r;

        if (!class)
                return err_set(e, -ENOTSUP, "pickle names the class '%s.%s', which is not allowed",
                               printable(module, module_size, a), printable(name, name_size, b));
        r = push_new(m, PICKLE_CLASS, &node, e);
        if (r < 0)
                return r;
        node->class = class;
        m->p->seen[class - pickle_classes] = true;
        return 0;
}

static int global(struct machine *m, struct err *e)
{
        const char *module = NULL, *name = NULL;
        size_t module_size = 0, name_size = 0;
        int r = take_line(m->p, &module, &module_size, e);

        if (r == 0)
                r = take_line(m->p, &name, &name_size, e);
        return r < 0 ? r : push_class(m, module, module_size, name, name_size, e);
}

static int stack_global(struct machine *m, struct err *e)
{
        struct pickle_node *name = NULL, *module = NULL;
        int r = pop(m, &name, e);

        if (r == 0)
                r = pop(m, &module, e);
        if (r < 0)
                return r;
        if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
                return err_set(e, -EBADMSG, "pickle names a class by %s", pickle_describe(name));
        return push_class(m, module->text.data, module->text.size, name->text.data, name->text.size, e);
}

static int new_object(struct machine *m, struct err *e)
{
        struct pickle_node *args = NULL, *class = NULL, *object = NULL;
        int r = pop(m, &args, e);

        if (r == 0)
                r = pop(m, &class, e);
        if (r < 0)
                return r;
        if (class->kind != PICKLE_CLASS || args->kind != PICKLE_TUPLE || args->list.n > 0)
                return err_set(e, -EBADMSG, "pickle makes an object of %s with arguments or of no class",
                               pickle_describe(class));
        if (class->class->role != ROLE_OBJECT && class->class->role != ROLE_WRAPPER)
                return err_set(e, -ENOTSUP, "pickle makes an object of '%s', which is not allowed",
                               class->class->name);
        r = push_new(m, PICKLE_OBJECT, &object, e);
        if (r == 0)
                object->object.class = class->class;
        return r;
}

static int reduce(struct machine *m, struct err *e)
{
        struct pickle_node *args = NULL, *function = NULL, *result = NULL;
        int r = pop(m, &args, e);

        if (r == 0)
                r = pop(m, &function, e);
        if (r < 0)
                return r;
        if (function->kind != PICKLE_CLASS || args->kind != PICKLE_TUPLE)
                return err_set(e, -EBADMSG, "pickle reduces %s", pickle_describe(function));
        r = pickle_reduce(m->p, function->class, args, &result, e);
        if (r < 0)
                return r;
        r = nest(result, args, e);
        return r < 0 ? r : push(m, result, e);
}

/* A joblib wrapper turns into the array whose bytes, or whose own pickle, follow it. */
static int build(struct machine *m, struct err *e)
{
        struct pickle_node *state = NULL, *object = NULL, *nested = NULL;
        struct pickle_array *raw = NULL;
        int r = pop(m, &state, e);

        if (r == 0)
                r = peek(m, &object, e);
        if (r == 0)
                r = nest(object, state, e);
        if (r == 0)
                r = pickle_build(m->p, object, state, &raw, e);
        if (r < 0 || !raw)
                return r;

        if (raw->dtype->letter == 'O') {
                r = read_stream(m->p, m->nested + 1, &nested, e);
                if (r == 0)
                        r = pickle_take_objects(raw, nested, e);
        } else {
                r = pickle_read_raw(m->p, raw, pickle_wrapper_is_padded(state), e);
        }
        if (r < 0)
                return r;
        r = pop(m, &object, e);
        if (r == 0)
                r = push_new(m, PICKLE_ARRAY, &object, e);
        if (r == 0)
                object->array = raw;
        return r;
}

/* ---- opcodes ---- */

static int frame(struct machine *m, struct err *e)
{
        uint64_t size = 0;

        return take_uint(m->p, 8, &size, e); /* only a help for buffered reading */
}

static int protocol(struct machine *m, struct err *e)
{
        uint64_t version = 0;
        int r = take_uint(m->p, 1, &version, e);

        if (r == 0 && (version < 2 || version > 5))
                r = err_set(e, -ENOTSUP, "pickle protocol %llu is not supported",
                            (unsigned long long)version);
        return r;
}

static int mark(struct machine *m, struct err *e)
{
        if (m->n_marks == PICKLE_NESTING_MAX)
                return err_set(e, -E2BIG, "pickle has more than %d marks within each other",
                               PICKLE_NESTING_MAX);
        m->marks[m->n_marks++] = m->n;
        return 0;
}

static int put(struct machine *m, size_t bytes, struct err *e)
{
        uint64_t index = 0;
        int r = take_uint(m->p, bytes, &index, e);

        return r < 0 ? r : memo_put(m, index, e);
}

static int get(struct machine *m, size_t bytes, struct err *e)
{
        uint64_t index = 0;
        int r = take_uint(m->p, bytes, &index, e);

        return r < 0 ? r : memo_get(m, index, e);
}

static int tuple_marked(struct machine *m, struct err *e)
{
        struct pickle_node **items = NULL;
        size_t n = 0;
        int r = pop_mark(m, &items, &n, e);

        return r < 0 ? r : make_tuple(m, items, n, e);
}

static int step(struct machine *m, unsigned char opcode, struct err *e)
{
        switch (opcode) {
        case 0x80: /* PROTO */
                return protocol(m, e);
        case 0x95: /* FRAME */
                return frame(m, e);
        case '.': /* STOP */
                m->stopped = true;
                return 0;
        case '(': /* MARK */
                return mark(m, e);
        case 'N': /* NONE */
                return push_new(m, PICKLE_NONE, NULL, e);
        case 0x88: /* NEWTRUE */
                return push_bool(m, true, e);
        case 0x89: /* NEWFALSE */
                return push_bool(m, false, e);
        case 'J': /* BININT */
                return push_sized_int(m, 4, e);
        case 'K': /* BININT1 */
                return push_sized_int(m, 1, e);
        case 'M': /* BININT2 */
                return push_sized_int(m, 2, e);
        case 0x8a: /* LONG1 */
                return push_long(m, e);
        case 'G': /* BINFLOAT */
                return push_float(m, e);
        case 0x8c: /* SHORT_BINUNICODE */
                return push_text(m, PICKLE_TEXT, 1, e);
        case 'X': /* BINUNICODE */
                return push_text(m, PICKLE_TEXT, 4, e);
        case 'C': /* SHORT_BINBYTES */
                return push_text(m, PICKLE_BYTES, 1, e);
        case 'B': /* BINBYTES */
                return push_text(m, PICKLE_BYTES, 4, e);
        case ')': /* EMPTY_TUPLE */
                return push_new(m, PICKLE_TUPLE, NULL, e);
        case 0x85: /* TUPLE1 */
        case 0x86:
        case 0x87:
                return make_short_tuple(m, opcode - 0x84u, e);
        case 't': /* TUPLE */
                return tuple_marked(m, e);
        case ']': /* EMPTY_LIST */
                return push_new(m, PICKLE_LIST, NULL, e);
        case 'a': /* APPEND */
                return append_few(m, PICKLE_LIST, 1, e);
        case 'e': /* APPENDS */
                return append_marked(m, PICKLE_LIST, e);
        case '}': /* EMPTY_DICT */
                return push_new(m, PICKLE_DICT, NULL, e);
        case 's': /* SETITEM */
                return append_few(m, PICKLE_DICT, 2, e);
        case 'u': /* SETITEMS */
                return append_marked(m, PICKLE_DICT, e);
        case 0x94: /* MEMOIZE */
                return memo_put(m, m->n_memo, e);
        case 'q': /* BINPUT */
                return put(m, 1, e);
        case 'r': /* LONG_BINPUT */
                return put(m, 4, e);
        case 'h': /* BINGET */
                return get(m, 1, e);
        case 'j': /* LONG_BINGET */
                return get(m, 4, e);
        case 0x93: /* STACK_GLOBAL */
                return stack_global(m, e);
        case 'c': /* GLOBAL */
                return global(m, e);
        case 0x81: /* NEWOBJ */
                return new_object(m, e);
        case 'R': /* REDUCE */
                return reduce(m, e);
        case 'b': /* BUILD */
                return build(m, e);
        default:
                return err_set(e, -ENOTSUP, "pickle opcode 0x%02x at byte %zu is not allowed", opcode,
                               m->p->pos - 1);
        }
}

static int read_stream(struct pickle *p, unsigned int nested, struct pickle_node **ret, struct err *e)
{
        CLEANUP(machine_done) struct machine m = { .p = p, .nested = nested };
        int r;

        if (nested > PICKLE_NESTED_MAX)
                return err_set(e, -E2BIG, "pickle has pickles in pickles more than %d deep",
                               PICKLE_NESTED_MAX);
        if (p->pos == p->size || p->data[p->pos] != 0x80)
                return err_set(e, -EBADMSG, "not a pickle at byte %zu", p->pos);
        while (!m.stopped) {
                if (p->pos == p->size)
                        return err_set(e, -EBADMSG, "pickle ends at byte %zu without a stop", p->pos);
                r = step(&m, p->data[p->pos++], e);
                if (r < 0)
                        return r;
        }
        if (m.n != 1 || m.n_marks > 0)
                return err_set(e, -EBADMSG, "pickle stops with %zu values instead of one", m.n);
        *ret = m.stack[0];
        return 0;
}

int pickle_read(const void *data, size_t size, struct pickle **ret, struct err *e)
{
        CLEANUP(pickle_freep) struct pickle *p = calloc(1, sizeof(*p));
        int r;

        if (!p)
                return err_set(e, -ENOMEM, "out of memory");
        p->arena.max = PICKLE_MEMORY_MAX;
        p->data = data;
        p->size = size;
        r = read_stream(p, 0, &p->root, e);
        if (r < 0)
                return r;
        if (p->pos != p->size)
                return err_set(e, -EBADMSG, "pickle is followed by %zu more bytes", p->size - p->pos);
        *ret = TAKE(p);
        return 0;
}

const struct pickle_node *pickle_root(const struct pickle *p)
{
        return p->root;
}

bool pickle_has_class(const struct pickle *p, size_t i)
{
        return p->seen[i];
}

void pickle_free(struct pickle *p)
{
        if (!p)
                return;
        arena_done(&p->arena);
        free(p);
}
