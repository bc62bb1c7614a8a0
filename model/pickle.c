/* SPDX-License-Identifier: Apache-2.0 */
/* The pickle machine's opcodes. Everything that it can do is make values; what numpy's
 * functions would have made of them is in pickle_numpy.c. */
#include "model/pickle_machine.h"

#include <errno.h>
#include <string.h>

static void machine_done(struct machine *m)
{
        free(m->stack);
        free(m->memo);
}

static int read_stream(struct pickle *p, unsigned int nested, struct pickle_node **ret, struct err *e);

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
        r = pickle_push_new(m, PICKLE_CLASS, &node, e);
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
        int r = pickle_take_line(m->p, &module, &module_size, e);

        if (r == 0)
                r = pickle_take_line(m->p, &name, &name_size, e);
        return r < 0 ? r : push_class(m, module, module_size, name, name_size, e);
}

static int stack_global(struct machine *m, struct err *e)
{
        struct pickle_node *name = NULL, *module = NULL;
        int r = pickle_pop(m, &name, e);

        if (r == 0)
                r = pickle_pop(m, &module, e);
        if (r < 0)
                return r;
        if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
                return err_set(e, -EBADMSG, "pickle names a class by %s", pickle_describe(name));
        return push_class(m, module->text.data, module->text.size, name->text.data, name->text.size, e);
}

static int new_object(struct machine *m, struct err *e)
{
        struct pickle_node *args = NULL, *class = NULL, *object = NULL;
        int r = pickle_pop(m, &args, e);

        if (r == 0)
                r = pickle_pop(m, &class, e);
        if (r < 0)
                return r;
        if (class->kind != PICKLE_CLASS || args->kind != PICKLE_TUPLE || args->list.n > 0)
                return err_set(e, -EBADMSG, "pickle makes an object of %s with arguments or of no class",
                               pickle_describe(class));
        if (class->class->role != ROLE_OBJECT && class->class->role != ROLE_WRAPPER)
                return err_set(e, -ENOTSUP, "pickle makes an object of '%s', which is not allowed",
                               class->class->name);
        r = pickle_push_new(m, PICKLE_OBJECT, &object, e);
        if (r == 0)
                object->object.class = class->class;
        return r;
}

static int reduce(struct machine *m, struct err *e)
{
        struct pickle_node *args = NULL, *function = NULL, *result = NULL;
        int r = pickle_pop(m, &args, e);

        if (r == 0)
                r = pickle_pop(m, &function, e);
        if (r < 0)
                return r;
        if (function->kind != PICKLE_CLASS || args->kind != PICKLE_TUPLE)
                return err_set(e, -EBADMSG, "pickle reduces %s", pickle_describe(function));
        r = pickle_reduce(m->p, function->class, args, &result, e);
        if (r < 0)
                return r;
        r = pickle_nest(result, args, e);
        return r < 0 ? r : pickle_push(m, result, e);
}

/* A joblib wrapper turns into the array whose bytes, or whose own pickle, follow it. */
static int build(struct machine *m, struct err *e)
{
        struct pickle_node *state = NULL, *object = NULL, *nested = NULL;
        struct pickle_array *raw = NULL;
        int r = pickle_pop(m, &state, e);

        if (r == 0)
                r = pickle_peek(m, &object, e);
        if (r == 0)
                r = pickle_nest(object, state, e);
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
        r = pickle_pop(m, &object, e);
        if (r == 0)
                r = pickle_push_new(m, PICKLE_ARRAY, &object, e);
        if (r == 0)
                object->array = raw;
        return r;
}

/* ---- opcodes ---- */

static int frame(struct machine *m, struct err *e)
{
        uint64_t size = 0;

        return pickle_take_uint(m->p, 8, &size, e); /* only a help for buffered reading */
}

static int protocol(struct machine *m, struct err *e)
{
        uint64_t version = 0;
        int r = pickle_take_uint(m->p, 1, &version, e);

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
        int r = pickle_take_uint(m->p, bytes, &index, e);

        return r < 0 ? r : pickle_memo_put(m, index, e);
}

static int get(struct machine *m, size_t bytes, struct err *e)
{
        uint64_t index = 0;
        int r = pickle_take_uint(m->p, bytes, &index, e);

        return r < 0 ? r : pickle_memo_get(m, index, e);
}

static int tuple_marked(struct machine *m, struct err *e)
{
        struct pickle_node **items = NULL;
        size_t n = 0;
        int r = pickle_pop_mark(m, &items, &n, e);

        return r < 0 ? r : pickle_make_tuple(m, items, n, e);
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
                return pickle_push_new(m, PICKLE_NONE, NULL, e);
        case 0x88: /* NEWTRUE */
                return pickle_push_bool(m, true, e);
        case 0x89: /* NEWFALSE */
                return pickle_push_bool(m, false, e);
        case 'J': /* BININT */
                return pickle_push_sized_int(m, 4, e);
        case 'K': /* BININT1 */
                return pickle_push_sized_int(m, 1, e);
        case 'M': /* BININT2 */
                return pickle_push_sized_int(m, 2, e);
        case 0x8a: /* LONG1 */
                return pickle_push_long(m, e);
        case 'G': /* BINFLOAT */
                return pickle_push_float(m, e);
        case 0x8c: /* SHORT_BINUNICODE */
                return pickle_push_text(m, PICKLE_TEXT, 1, e);
        case 'X': /* BINUNICODE */
                return pickle_push_text(m, PICKLE_TEXT, 4, e);
        case 'C': /* SHORT_BINBYTES */
                return pickle_push_text(m, PICKLE_BYTES, 1, e);
        case 'B': /* BINBYTES */
                return pickle_push_text(m, PICKLE_BYTES, 4, e);
        case 0x8e: /* BINBYTES8 */
        case 0x96: /* BYTEARRAY8 */
                return pickle_push_text(m, PICKLE_BYTES, 8, e);
        case ')': /* EMPTY_TUPLE */
                return pickle_push_new(m, PICKLE_TUPLE, NULL, e);
        case 0x85: /* TUPLE1 */
        case 0x86:
        case 0x87:
                return pickle_make_short_tuple(m, opcode - 0x84u, e);
        case 't': /* TUPLE */
                return tuple_marked(m, e);
        case ']': /* EMPTY_LIST */
                return pickle_push_new(m, PICKLE_LIST, NULL, e);
        case 'a': /* APPEND */
                return pickle_append_few(m, PICKLE_LIST, 1, e);
        case 'e': /* APPENDS */
                return pickle_append_marked(m, PICKLE_LIST, e);
        case '}': /* EMPTY_DICT */
                return pickle_push_new(m, PICKLE_DICT, NULL, e);
        case 's': /* SETITEM */
                return pickle_append_few(m, PICKLE_DICT, 2, e);
        case 'u': /* SETITEMS */
                return pickle_append_marked(m, PICKLE_DICT, e);
        case 0x94: /* MEMOIZE */
                return pickle_memo_put(m, m->n_memo, e);
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
                return err_set(e, -EBADMSG, "not a pickle of protocol 2 to 5 at byte %zu", p->pos);
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

/* What joblib.dump(..., compress=...) writes, by how it begins; NULL: something else. */
static const char *compression(const void *data, size_t size)
{
        static const struct {
                const char *name, *magic;
                size_t size;
        } known[] = {
                { "zlib", "x", 1 },
                { "gzip", "\x1f\x8b", 2 },
                { "bz2", "BZh", 3 },
                { "xz",
                  "\xfd"
                  "7zXZ",
                  5 },
                { "lzma", "\x5d\0\0", 3 },
                { "lz4", "\x04\x22\x4d\x18", 4 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                if (size >= known[i].size && !memcmp(data, known[i].magic, known[i].size))
                        return known[i].name;
        return NULL;
}

int pickle_read(const void *data, size_t size, struct pickle **ret, struct err *e)
{
        CLEANUP(pickle_freep) struct pickle *p = calloc(1, sizeof(*p));
        const char *compressed = compression(data, size);
        int r;

        if (!p)
                return err_set(e, -ENOMEM, "out of memory");
        if (compressed)
                return err_set(
                        e, -ENOTSUP,
                        "joblib file is compressed (%s), which is not supported: save it with compress=0",
                        compressed);
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
