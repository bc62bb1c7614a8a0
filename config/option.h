/* SPDX-License-Identifier: Apache-2.0 */
/* One option table drives the YAML loader, the command line, --show-config, --help and the manual section.
 * Defaults exist once, as text in the table. Precedence: command line over file over default. */
#pragma once

#include <stddef.h>
#include <stdbool.h>
#include "common/err.h"

enum option_type {
        OPTION_BOOL,     /* bool: true, false */
        OPTION_INT,      /* long long */
        OPTION_DOUBLE,   /* double */
        OPTION_STRING,   /* char *, owned; "" allowed */
        OPTION_ENUM,     /* int: index into choices */
        OPTION_DURATION, /* long long milliseconds: "500ms", "3s", "5m", "12h", "7d" */
        OPTION_SIZE,     /* long long bytes: "4096", "64KiB", "10MiB", "2GiB" */
        OPTION_LIST,     /* struct string_list: a YAML sequence, or a comma list on the command line */
};

struct string_list {
        char **items; /* owned */
        size_t n;
};
#define STRING_LIST_MAX 64
bool string_list_has(const struct string_list *list, const char *item);

struct option {
        const char *key; /* dotted: "sampling.interval"; the command line says --sampling-interval. "--data":
                            of one run, not of the installation, so on the command line only */
        enum option_type type;
        size_t offset;              /* of the destination in the options struct */
        const char *fallback;       /* default, in the syntax of the value */
        double min, max;            /* numbers, ms or bytes; both 0: unchecked */
        const char *const *choices; /* OPTION_ENUM, and allowed items of OPTION_LIST; NULL-terminated */
        const char *help;           /* one sentence, for people; says the unit */
};
/* A table ends with { 0 }. The first member of every options struct is unrelated to the table; programs
 * put them where they like. */

/* Fill `options` (zeroed, of the program's struct type) with the defaults. */
int options_set_defaults(const struct option *table, void *options, struct err *e);

/* Apply a YAML file. Unknown key, duplicate key, wrong type and out of range are errors "file:line:column: …"
 * (-EINVAL). On failure `options` must be discarded. -ENOENT: no such file. */
int options_load_yaml(const struct option *table, const char *path, void *options, struct err *e);

/* Set one option from text; `where` ("--sampling-interval") goes into the error. */
int options_set(const struct option *table, const char *key, const char *value, const char *where,
                void *options, struct err *e);

/* One value as YAML, on the line where `out` is. */
void options_print_value(const struct option *o, const void *options, FILE *out);
void options_print(const struct option *table, const void *options,
                   FILE *out);                                /* as YAML, commented with help */
void options_done(const struct option *table, void *options); /* frees strings and lists */
