/* SPDX-License-Identifier: Apache-2.0 */
/* What a model is for: its place in the store, "rapl-sysfs/AbsPower/archive". */
#pragma once

#include "common/err.h"
#include "schema/vocabulary.h"

enum form { FORM_WEIGHT, FORM_ARCHIVE, FORM_N };
extern const char *const form_names[FORM_N]; /* "weight", "archive" */

#define SLOT_TEXT_MAX 128

struct slot {
        const struct energy_source *source;
        const char *output_type; /* one of output_types */
        enum form form;
        char text[SLOT_TEXT_MAX];
};

/* -EINVAL: not three known words. */
int slot_parse(const char *text, struct slot *ret, struct err *e);
/* The same place in another form. */
struct slot slot_with_form(const struct slot *slot, enum form form);
