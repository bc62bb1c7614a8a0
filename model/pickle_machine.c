/* SPDX-License-Identifier: Apache-2.0 */
#include "model/pickle_machine.h"

#include <errno.h>
#include <string.h>

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
int pickle_take_uint(struct pickle *p, size_t n, uint64_t *ret, struct err *e)
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
int pickle_take_line(struct pickle *p, const char **ret, size_t *ret_size, struct err *e)
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

int pickle_push(struct machine *m, struct pickle_node *node, struct err *e)
{
        int r = grow(&m->stack, &m->stack_room, m->n, PICKLE_STACK_MAX, "values on its stack", e);

        if (r < 0)
                return r;
        m->stack[m->n++] = node;
        return 0;
}

/* The highest value that is above the last mark; those below belong to somebody else. */
int pickle_pop(struct machine *m, struct pickle_node **ret, struct err *e)
{
        size_t floor = m->n_marks > 0 ? m->marks[m->n_marks - 1] : 0;

        if (m->n <= floor)
                return err_set(e, -EBADMSG, "pickle takes a value that is not there, at byte %zu", m->p->pos);
        *ret = m->stack[--m->n];
        return 0;
}

int pickle_peek(struct machine *m, struct pickle_node **ret, struct err *e)
{
        int r = pickle_pop(m, ret, e);

        if (r == 0)
                m->n++;
        return r;
}

/* The values above the last mark, which goes; they stay readable behind the new top until the next push. */
int pickle_pop_mark(struct machine *m, struct pickle_node ***ret, size_t *ret_n, struct err *e)
{
        size_t mark;

        if (m->n_marks == 0)
                return err_set(e, -EBADMSG, "pickle misses a mark at byte %zu", m->p->pos);
        mark = m->marks[--m->n_marks];
        *ret = m->stack ? m->stack + mark : NULL;
        *ret_n = m->n - mark;
        m->n = mark;
        return 0;
}

/* Python numbers memo entries in order, so an index beyond the next is a forgery. */
int pickle_memo_put(struct machine *m, uint64_t index, struct err *e)
{
        struct pickle_node *node = NULL;
        int r = pickle_peek(m, &node, e);

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

int pickle_memo_get(struct machine *m, uint64_t index, struct err *e)
{
        if (index >= m->n_memo)
                return err_set(e, -EBADMSG, "pickle's memo index %llu was never set",
                               (unsigned long long)index);
        return pickle_push(m, m->memo[index], e);
}

/* ---- values ---- */

int pickle_push_new(struct machine *m, enum pickle_kind kind, struct pickle_node **ret, struct err *e)
{
        struct pickle_node *node = pickle_node_new(m->p, kind, e);

        if (!node)
                return -E2BIG;
        if (ret)
                *ret = node;
        return pickle_push(m, node, e);
}

int pickle_push_bool(struct machine *m, bool truth, struct err *e)
{
        struct pickle_node *node = NULL;
        int r = pickle_push_new(m, PICKLE_BOOL, &node, e);

        if (r == 0)
                node->truth = truth;
        return r;
}

static int push_int(struct machine *m, int64_t value, struct err *e)
{
        struct pickle_node *node = NULL;
        int r = pickle_push_new(m, PICKLE_INT, &node, e);

        if (r == 0)
                node->integer = value;
        return r;
}

int pickle_push_sized_int(struct machine *m, size_t bytes, struct err *e)
{
        uint64_t v = 0;
        int r = pickle_take_uint(m->p, bytes, &v, e);

        if (r < 0)
                return r;
        return push_int(m, bytes == 4 ? (int64_t)(int32_t)(uint32_t)v : (int64_t)v, e);
}

/* Two's complement of any length; seeds of random numbers have 16 bytes, and nobody asks for their value. */
int pickle_push_long(struct machine *m, struct err *e)
{
        uint64_t n = 0, v = 0;
        const unsigned char *bytes = NULL;
        int r = pickle_take_uint(m->p, 1, &n, e);

        if (r == 0)
                r = take_bytes(m->p, n, &bytes, e);
        if (r < 0)
                return r;
        if (n > 8)
                return pickle_push_new(m, PICKLE_BIG, NULL, e);
        for (size_t i = n; i > 0; i--)
                v = v << 8 | bytes[i - 1];
        if (n > 0 && n < 8 && bytes[n - 1] & 0x80)
                v |= ~(uint64_t)0 << (8 * n);
        return push_int(m, (int64_t)v, e);
}

int pickle_push_float(struct machine *m, struct err *e)
{
        const unsigned char *bytes = NULL;
        struct pickle_node *node = NULL;
        uint64_t v = 0;
        int r = take_bytes(m->p, 8, &bytes, e);

        if (r == 0)
                r = pickle_push_new(m, PICKLE_FLOAT, &node, e);
        if (r < 0)
                return r;
        for (size_t i = 0; i < 8; i++)
                v = v << 8 | bytes[i];
        memcpy(&node->number, &v, sizeof(v));
        return 0;
}

int pickle_push_text(struct machine *m, enum pickle_kind kind, size_t length_bytes, struct err *e)
{
        const unsigned char *bytes = NULL;
        struct pickle_node *node = NULL;
        uint64_t n = 0;
        char *copy;
        int r = pickle_take_uint(m->p, length_bytes, &n, e);

        if (r < 0)
                return r;
        if (kind == PICKLE_TEXT && n > PICKLE_TEXT_MAX)
                return err_set(e, -E2BIG, "pickle has a text of more than %zu bytes", PICKLE_TEXT_MAX);
        r = take_bytes(m->p, n, &bytes, e);
        if (r == 0)
                r = pickle_push_new(m, kind, &node, e);
        if (r < 0)
                return r;
        node->text.data = (const char *)bytes;
        node->text.size = n;
        if (kind == PICKLE_BYTES)
                return 0; /* stay where they are */
        copy = arena_calloc(&m->p->arena, n + 1, 1);
        if (!copy)
                return err_set(e, -E2BIG, "pickle needs more than %zu bytes of memory", PICKLE_MEMORY_MAX);
        memcpy(copy, bytes, n);
        node->text.data = copy;
        return 0;
}

/* ---- containers ---- */

int pickle_nest(struct pickle_node *outer, const struct pickle_node *inner, struct err *e)
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
                int r = pickle_nest(list, items[i], e);

                if (r < 0)
                        return r;
                list->list.items[list->list.n++] = items[i];
        }
        return 0;
}

int pickle_make_tuple(struct machine *m, struct pickle_node *const *items, size_t n, struct err *e)
{
        struct pickle_node *tuple = pickle_node_new(m->p, PICKLE_TUPLE, e);
        int r;

        if (!tuple)
                return -E2BIG;
        r = list_append(m->p, tuple, items, n, e);
        return r < 0 ? r : pickle_push(m, tuple, e);
}

int pickle_make_short_tuple(struct machine *m, size_t n, struct err *e)
{
        struct pickle_node *items[3];

        for (size_t i = n; i > 0; i--) {
                int r = pickle_pop(m, &items[i - 1], e);

                if (r < 0)
                        return r;
        }
        return pickle_make_tuple(m, items, n, e);
}

static int append_to(struct machine *m, enum pickle_kind kind, struct pickle_node *const *items, size_t n,
                     struct err *e)
{
        struct pickle_node *container = NULL;
        int r = pickle_peek(m, &container, e);

        if (r < 0)
                return r;
        if (container->kind != kind)
                return err_set(e, -EBADMSG, "pickle appends to %s at byte %zu", pickle_describe(container),
                               m->p->pos);
        if (kind == PICKLE_DICT && n % 2 != 0)
                return err_set(e, -EBADMSG, "pickle has a key without a value at byte %zu", m->p->pos);
        return list_append(m->p, container, items, n, e);
}

int pickle_append_marked(struct machine *m, enum pickle_kind kind, struct err *e)
{
        struct pickle_node **items = NULL;
        size_t n = 0;
        int r = pickle_pop_mark(m, &items, &n, e);

        return r < 0 ? r : append_to(m, kind, items, n, e);
}

int pickle_append_few(struct machine *m, enum pickle_kind kind, size_t n, struct err *e)
{
        struct pickle_node *items[2];

        for (size_t i = n; i > 0; i--) {
                int r = pickle_pop(m, &items[i - 1], e);

                if (r < 0)
                        return r;
        }
        return append_to(m, kind, items, n, e);
}
