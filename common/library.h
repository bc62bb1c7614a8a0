/* SPDX-License-Identifier: Apache-2.0 */
/* Shared libraries that are loaded when they are first needed, because they bring dozens of others along:
 * most of a short run's time and of a small daemon's memory.
 *
 *     #define LIB_FUNCTIONS(X) X(lib_open) X(lib_close)
 *     static struct { LIB_FUNCTIONS(LIBRARY_POINTER) } lib;
 *     static const char *const names[] = { LIB_FUNCTIONS(LIBRARY_NAME) };
 *     r = library_load("liblib.so.1", names, ARRAY_SIZE(names), &lib, e);
 *     lib.lib_open(...);
 */
#pragma once

#include <stddef.h>
#include "common/err.h"

#define LIBRARY_POINTER(name) __typeof__(name) *name;
#define LIBRARY_NAME(name)    #name,

/* Load it for as long as the process lives and store pointers to the functions that are named, one behind
 * the other, at `ret`. -ELIBACC: it is not there, or lacks one. */
int library_load(const char *file, const char *const *names, size_t n, void *ret, struct err *e);
