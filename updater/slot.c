/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/slot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *const form_names[FORM_N] = { [FORM_WEIGHT] = "weight", [FORM_ARCHIVE] = "archive" };

static void set_text(struct slot *s)
{
        (void)snprintf(s->text, sizeof(s->text), "%s/%s/%s", s->source->name, s->output_type,
                       form_names[s->form]);
}

/* Exact names only: this becomes a path that the estimator reads too. */
static bool try(const char *text, const struct energy_source *source, const char *output_type, enum form form,
                struct slot *ret)
{
        struct slot s = { .source = source, .output_type = output_type, .form = form };

        set_text(&s);
        if (strcmp(s.text, text) != 0)
                return false;
        *ret = s;
        return true;
}

int slot_parse(const char *text, struct slot *ret, struct err *e)
{
        for (size_t i = 0; i < energy_sources_n; i++)
                for (int o = 0; output_types[o]; o++)
                        for (int f = 0; f < FORM_N; f++)
                                if (try(text, &energy_sources[i], output_types[o], (enum form)f, ret))
                                        return 0;
        return err_set(
                e, -EINVAL,
                "'%.80s' is not ENERGY_SOURCE/OUTPUT_TYPE/FORM, such as rapl-sysfs/AbsPower/archive or "
                "acpi/DynPower/weight",
                text);
}

struct slot slot_with_form(const struct slot *slot, enum form form)
{
        struct slot other = *slot;

        other.form = form;
        set_text(&other);
        return other;
}
