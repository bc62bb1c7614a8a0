/* SPDX-License-Identifier: Apache-2.0 */
/* Writes pickles for tests, byte by byte as joblib would. */
#pragma once

#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include "common/buf.h"

static inline void put(struct buf *b, const char *bytes, size_t n)
{
        (void)buf_append(b, bytes, n);
}
#define PUT(b, literal) put(b, literal, sizeof(literal) - 1)

static inline void put_byte(struct buf *b, unsigned int byte)
{
        char c = (char)byte;

        put(b, &c, 1);
}

static inline void put_text(struct buf *b, const char *s)
{
        put_byte(b, 0x8c);
        put_byte(b, (unsigned int)strlen(s));
        put(b, s, strlen(s));
}

static inline void put_class(struct buf *b, const char *module, const char *name)
{
        put_text(b, module);
        put_text(b, name);
        put_byte(b, 0x93);
}

static inline void put_int(struct buf *b, int v)
{
        put_byte(b, 'J');
        for (int i = 0; i < 4; i++)
                put_byte(b, (uint32_t)v >> 8 * i & 0xff);
}

static inline void put_float(struct buf *b, double v)
{
        uint64_t bits;

        memcpy(&bits, &v, sizeof(bits));
        put_byte(b, 'G');
        for (int i = 7; i >= 0; i--)
                put_byte(b, bits >> 8 * i & 0xff);
}

/* An object up to its open state, and the state's end. */
static inline void put_object(struct buf *b, const char *module, const char *name)
{
        put_class(b, module, name);
        PUT(b, ")\x81}(");
}

static inline void put_object_end(struct buf *b)
{
        PUT(b, "ub");
}

static inline void put_dtype(struct buf *b, const char *code)
{
        put_class(b, "numpy", "dtype");
        put_text(b, code);
        PUT(b, "\x89\x88\x87R(K\x03");
        put_text(b, code[0] == 'O' || code[1] == '1' ? "|" : "<");
        PUT(b, "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb");
}

/* A joblib array's wrapper up to where its bytes begin. */
static inline void put_wrapper(struct buf *b, const char *code, int rows, int columns)
{
        put_object(b, "joblib.numpy_pickle", "NumpyArrayWrapper");
        put_text(b, "subclass");
        put_class(b, "numpy", "ndarray");
        put_text(b, "shape");
        put_int(b, rows);
        if (columns > 0)
                put_int(b, columns);
        put_byte(b, columns > 0 ? 0x86 : 0x85);
        put_text(b, "order");
        put_text(b, "C");
        put_text(b, "dtype");
        put_dtype(b, code);
        put_text(b, "allow_mmap");
        put_byte(b, 0x88);
        put_text(b, "numpy_array_alignment_bytes");
        PUT(b, "K\x10");
        put_object_end(b);
}

static inline void put_padding(struct buf *b)
{
        size_t n = 16 - (b->size + 1) % 16;

        put_byte(b, (unsigned int)n);
        while (n-- > 0)
                put_byte(b, 0xff);
}

/* columns 0: one dimension */
static inline void put_array(struct buf *b, const double *v, int rows, int columns)
{
        put_wrapper(b, "f8", rows, columns);
        put_padding(b);
        put(b, (const char *)v, sizeof(*v) * (size_t)rows * (size_t)(columns > 0 ? columns : 1));
}

static inline void put_attr_array(struct buf *b, const char *name, const double *v, int rows, int columns)
{
        put_text(b, name);
        put_array(b, v, rows, columns);
}

static inline void put_begin(struct buf *b)
{
        buf_init(b, (size_t)64 << 20);
        PUT(b, "\x80\x04");
}

/* A whole MaxAbsScaler and a whole linear model. */
static inline void put_max_abs(struct buf *b, const double *scale, int n)
{
        put_begin(b);
        put_object(b, "sklearn.preprocessing._data", "MaxAbsScaler");
        put_text(b, "n_features_in_");
        put_int(b, n);
        put_attr_array(b, "scale_", scale, n, 0);
        put_object_end(b);
        put_byte(b, '.');
}

static inline void put_linear(struct buf *b, const double *coefficients, int n, double intercept)
{
        put_begin(b);
        put_object(b, "sklearn.linear_model._base", "LinearRegression");
        put_text(b, "n_features_in_");
        put_int(b, n);
        put_attr_array(b, "coef_", coefficients, n, 0);
        put_text(b, "intercept_");
        put_float(b, intercept);
        put_object_end(b);
        put_byte(b, '.');
}

/* The record type of a tree's nodes, 56 bytes as scikit-learn up to 1.2 writes them. */
static inline void put_node_dtype(struct buf *b)
{
        static const char *const names[] = { "left_child",
                                             "right_child",
                                             "feature",
                                             "threshold",
                                             "impurity",
                                             "n_node_samples",
                                             "weighted_n_node_samples" };
        static const char *const codes[] = { "i8", "i8", "i8", "f8", "f8", "i8", "f8" };

        put_class(b, "numpy", "dtype");
        put_text(b, "V56");
        PUT(b, "\x89\x88\x87R(K\x03");
        put_text(b, "|");
        PUT(b, "N(");
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                put_text(b, names[i]);
        PUT(b, "t}(");
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                put_text(b, names[i]);
                put_dtype(b, codes[i]);
                put_int(b, (int)(8 * i));
                PUT(b, "\x86");
        }
        PUT(b, "uK\x38K\x01K\x10tb");
}

/* An array in the pickle's own grammar: up to its data, which begin with SHORT_BINBYTES and their number. */
static inline void put_reconstructed(struct buf *b, int n)
{
        put_class(b, "numpy.core.multiarray", "_reconstruct");
        put_class(b, "numpy", "ndarray");
        PUT(b, "K\0\x85"
               "C\x01"
               "b\x87R(K\x01");
        put_int(b, n);
        PUT(b, "\x85");
}
