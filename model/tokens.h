/* SPDX-License-Identifier: Apache-2.0 */
/* JSON and UBJSON read token by token, without making a document of it: a model of a megabyte of text is a
 * few kilobytes of trees. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"

#define TOKENS_NESTING_MAX 32
#define TOKENS_TEXT_MAX    4096 /* bytes of a key or text that is kept; longer ones are cut */

enum token {
        TOKEN_OBJECT,
        TOKEN_OBJECT_END,
        TOKEN_ARRAY,
        TOKEN_ARRAY_END,
        TOKEN_KEY,
        TOKEN_TEXT,
        TOKEN_NUMBER,
        TOKEN_TRUE,
        TOKEN_FALSE,
        TOKEN_NULL,
        TOKEN_END,
};

struct tokens {
        const unsigned char *data; /* borrowed */
        size_t size, pos;
        bool ubjson;
        double number;
        char text[TOKENS_TEXT_MAX];
        size_t depth;
        struct {
                bool object, counted;
                bool key_read;   /* object: the value is next */
                bool any;        /* JSON: a comma is needed */
                char type;       /* UBJSON: of every element; 0: each has its own */
                uint64_t remain; /* UBJSON: elements, when counted */
        } open[TOKENS_NESTING_MAX];
        bool done; /* the one value is complete */
};

/* Which of the two it is, is seen from the second byte. */
void tokens_init(struct tokens *t, const void *data, size_t size);

/* The next token, or a negative errno. TOKEN_END after one complete value and nothing behind it. Text and
 * number of a token are in `text` and `number`. */
int tokens_next(struct tokens *t, struct err *e);

/* For tokens_next(): after a value was read; and opening a container. */
void tokens_value_done(struct tokens *t);
int tokens_open(struct tokens *t, bool object, struct err *e);
int tokens_next_ubjson(struct tokens *t, struct err *e);
