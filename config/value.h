/* SPDX-License-Identifier: Apache-2.0 */
/* What the YAML loader and the command line need from the option table beyond option.h. */
#pragma once

#include "config/option.h"

#define OPTION_KEY_MAX    64   /* bytes of a dotted key with its terminator */
#define OPTION_STRING_MAX 4096 /* bytes of one value or list item */

const struct option *option_find(const struct option *table, const char *key);

/* The known key or key prefix of as many segments nearest to a mistyped one, "" when none is near. */
void option_suggest(const struct option *table, const char *key, char ret[OPTION_KEY_MAX]);

/* What a value of this type looks like: "a duration such as 500ms, 3s or 5m". */
const char *option_type_words(enum option_type type);
const char *option_placeholder(enum option_type type); /* for --help: "DURATION" */

/* Replace a list. */
int option_set_items(const struct option *o, const char *const *items, size_t n, const char *where,
                     void *options, struct err *e);
