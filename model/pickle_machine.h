/* SPDX-License-Identifier: Apache-2.0 */
/* The pickle machine's memory: input, stack, marks, memo, and the values and containers that opcodes make. */
#pragma once

#include "model/pickle_reader.h"

/* One stream; an array of objects is a stream within the stream, with a memo of its own. */
struct machine {
        struct pickle *p;
        struct pickle_node **stack, **memo; /* the arrays are owned, the nodes are the arena's */
        size_t n, stack_room, n_memo, memo_room;
        size_t marks[PICKLE_NESTING_MAX], n_marks; /* stack heights */
        unsigned int nested;
        bool stopped;
};

/* Arguments of opcodes, from the reading position; numbers are little-endian. */
int pickle_take_uint(struct pickle *p, size_t n, uint64_t *ret, struct err *e);
int pickle_take_line(struct pickle *p, const char **ret, size_t *ret_size, struct err *e);

/* The stack. Nothing is taken from below the last mark; what pop_mark() gives stays readable until a push. */
int pickle_push(struct machine *m, struct pickle_node *node, struct err *e);
int pickle_pop(struct machine *m, struct pickle_node **ret, struct err *e);
int pickle_peek(struct machine *m, struct pickle_node **ret, struct err *e);
int pickle_pop_mark(struct machine *m, struct pickle_node ***ret, size_t *ret_n, struct err *e);
int pickle_memo_put(struct machine *m, uint64_t index, struct err *e);
int pickle_memo_get(struct machine *m, uint64_t index, struct err *e);

/* Values and containers. */
int pickle_push_new(struct machine *m, enum pickle_kind kind, struct pickle_node **ret, struct err *e);
int pickle_push_bool(struct machine *m, bool truth, struct err *e);
int pickle_push_sized_int(struct machine *m, size_t bytes, struct err *e);
int pickle_push_long(struct machine *m, struct err *e);
int pickle_push_float(struct machine *m, struct err *e);
int pickle_push_text(struct machine *m, enum pickle_kind kind, size_t length_bytes, struct err *e);
int pickle_nest(struct pickle_node *outer, const struct pickle_node *inner, struct err *e);
int pickle_make_tuple(struct machine *m, struct pickle_node *const *items, size_t n, struct err *e);
int pickle_make_short_tuple(struct machine *m, size_t n, struct err *e);
int pickle_append_marked(struct machine *m, enum pickle_kind kind, struct err *e);
int pickle_append_few(struct machine *m, enum pickle_kind kind, size_t n, struct err *e);
