/* SPDX-License-Identifier: Apache-2.0 */
/* Pickles as data. The reader knows the opcodes that joblib files of trained models consist of and a list of
 * class names. A class name is a word here: nothing is imported, nothing is called, and a pickle that names
 * anything else is refused with that name. The result is a tree (with shared nodes) of plain values. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "common/cleanup.h"
#include "common/err.h"

#define PICKLE_STACK_MAX   65536
#define PICKLE_MEMO_MAX    ((size_t)1 << 20)
#define PICKLE_NESTING_MAX 64                 /* marks; and values in values */
#define PICKLE_NESTED_MAX  1                  /* pickles in a pickle (joblib's arrays of objects) */
#define PICKLE_TEXT_MAX    ((size_t)1 << 20)  /* bytes of one text */
#define PICKLE_MEMORY_MAX  ((size_t)64 << 20) /* of what is read; bytes of arrays stay in the input */
#define PICKLE_RANK_MAX    3
#define PICKLE_FIELDS_MAX  32 /* of a record type */

/* How a class name may be used. */
enum pickle_role {
        ROLE_OBJECT,      /* an instance with a state */
        ROLE_MADE,        /* the same, made by a function with arguments */
        ROLE_VALUE,       /* only as an argument or a value */
        ROLE_WRAPPER,     /* joblib's mark that raw array bytes follow */
        ROLE_DTYPE,       /* numpy.dtype */
        ROLE_SCALAR,      /* numpy's scalar(dtype, bytes) */
        ROLE_RECONSTRUCT, /* numpy's _reconstruct: an array in the pickle's own grammar */
        ROLE_FROMBUFFER,  /* numpy's _frombuffer: protocol 5's way to write an array */
        ROLE_BYTES,       /* bytes(): protocol 2's way to write none */
        ROLE_ENCODE,      /* _codecs.encode(text, 'latin1'): protocol 2's way to write bytes */
};

struct pickle_class {
        const char *module, *name;
        enum pickle_role role;
};
#define PICKLE_CLASSES_MAX 256
extern const struct pickle_class pickle_classes[];
extern const size_t pickle_classes_n;
/* By whole names; NULL: not allowed. */
const struct pickle_class *pickle_class_find(const char *module, size_t module_size, const char *name,
                                             size_t name_size);

struct pickle_field {
        const char *name;
        size_t offset;
        char letter;
        size_t size;
};
struct pickle_dtype {
        char letter; /* of numpy's code: f i u b, O objects, V records or bytes; S U texts, which stay opaque
                      */
        size_t size; /* bytes of an element */
        bool built;
        struct pickle_field *fields;
        size_t n_fields;
};
struct pickle_array {
        const struct pickle_dtype *dtype;
        size_t rank, shape[PICKLE_RANK_MAX];
        size_t n; /* elements */
        bool fortran;
        const unsigned char *data; /* n * dtype->size bytes; in the input or in the pickle's memory */
        struct pickle_node *const *objects; /* instead, for letter O */
};

enum pickle_kind {
        PICKLE_NONE,
        PICKLE_BOOL,
        PICKLE_INT,
        PICKLE_BIG, /* an integer beyond 64 bits: its value is not kept */
        PICKLE_FLOAT,
        PICKLE_TEXT,
        PICKLE_BYTES,
        PICKLE_TUPLE,
        PICKLE_LIST,
        PICKLE_DICT,
        PICKLE_CLASS,
        PICKLE_OBJECT,
        PICKLE_DTYPE,
        PICKLE_ARRAY,
};

struct pickle_node {
        enum pickle_kind kind;
        unsigned int depth; /* values in values below it, when it was made */
        union {
                bool truth;
                int64_t integer;
                double number;
                struct {
                        const char *data; /* NUL-terminated behind size, and may hold others; */
                        size_t size;
                } text; /* and bytes, which are in the input and have no terminator */
                struct {
                        struct pickle_node **items; /* dict: key, value, key, ... */
                        size_t n, room;
                } list; /* tuple, list, dict */
                const struct pickle_class *class;
                struct {
                        const struct pickle_class *class;
                        struct pickle_node *args, *state; /* NULL until they came */
                } object;
                struct pickle_dtype *dtype;
                struct pickle_array *array;
        };
};

struct pickle;

/* Read one pickle that fills `data`, which must outlive the result. -EBADMSG: malformed; -ENOTSUP: an opcode
 * or a class that is not allowed, named; -E2BIG: over a limit. */
int pickle_read(const void *data, size_t size, struct pickle **ret, struct err *e);
const struct pickle_node *pickle_root(const struct pickle *pickle);
/* Whether the class with this place in pickle_classes[] occurred. */
bool pickle_has_class(const struct pickle *pickle, size_t i);
void pickle_free(struct pickle *pickle);
CLEANUP_DEFINE(struct pickle *, pickle_free);

/* ---- questions to nodes; every one takes NULL for "not there" ---- */

bool pickle_is_text(const struct pickle_node *node, const char *text);
bool pickle_is_object(const struct pickle_node *node, const char *name); /* by the class's own name */
const struct pickle_node *pickle_item(const struct pickle_node *dict, const char *key);
/* An attribute of an object's state; NULL when there is none. */
const struct pickle_node *pickle_attr(const struct pickle_node *object, const char *name);
/* A float, an integer or a truth value; an array with one element counts as that. */
int pickle_number(const struct pickle_node *node, double *ret);
int pickle_integer(const struct pickle_node *node, int64_t *ret);
/* What it is, in a word for an error. */
const char *pickle_describe(const struct pickle_node *node);

/* Element i of a numeric array in row-major order (objects: numbers). */
int pickle_element(const struct pickle_array *array, size_t i, double *ret);
/* The field of a record type, or NULL. */
const struct pickle_field *pickle_field_find(const struct pickle_dtype *dtype, const char *name);
/* The field of record i. */
double pickle_field_get(const struct pickle_array *array, size_t i, const struct pickle_field *field);
