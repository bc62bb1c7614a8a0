/* SPDX-License-Identifier: Apache-2.0 */
/* A pipeline's node types (node_type_index.json) and the look-up of a machine in them, as Kepler's server
 * does it. Pure. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include "common/err.h"
#include "schema/machine.h"

enum spec_attribute { SPEC_PROCESSOR, SPEC_CORES, SPEC_CHIPS, SPEC_MEMORY, SPEC_FREQUENCY, SPEC_N };
extern const char *const spec_names[SPEC_N];

/* A machine spec of which any part may be missing. An attribute without a value (0, "") is not the same as
 * null: it differs from everything, but does not count as unknown. */
struct spec {
        bool null[SPEC_N];
        char processor[MACHINE_TEXT_MAX];
        double number[SPEC_N]; /* SPEC_CORES and on */
};
/* NULL and null: all null. Numbers may be numeric strings; both spellings of the keys. -EBADMSG another type.
 */
int spec_from_json(const json_t *object, struct spec *ret, struct err *e);
bool spec_has_value(const struct spec *spec, enum spec_attribute a);
bool spec_usable(const struct spec *spec); /* any attribute has a value */

struct node_type {
        int id;
        struct spec spec;
        size_t members;
};
struct node_types {
        struct node_type *types; /* owned; in the file's order */
        size_t n;
};
#define NODE_TYPES_FILE_MAX ((size_t)16 << 20)
int node_types_from_json(const json_t *index, struct node_types *ret, struct err *e);
void node_types_done(struct node_types *types);
const struct node_type *node_types_find(const struct node_types *types, int id);

/* Every attribute that has a value in `spec` is equal in the type. */
bool node_type_covers(const struct node_type *type, const struct spec *spec);
double node_type_similarity(const struct node_type *type, const struct spec *spec);

struct node_match {
        int id; /* -1: none */
        double uncertainty, looseness;
};
struct node_match node_types_lookup(const struct node_types *types, const struct spec *spec, bool loose);
