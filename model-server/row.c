/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/row.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/json.h"
#include "common/num.h"

const char *const component_names[COMPONENT_N] = {
        [COMPONENT_PACKAGE] = "package", [COMPONENT_CORE] = "core",         [COMPONENT_UNCORE] = "uncore",
        [COMPONENT_DRAM] = "dram",       [COMPONENT_PLATFORM] = "platform",
};

int component_find(const char *name)
{
        for (int i = 0; i < COMPONENT_N; i++)
                if (!strcmp(component_names[i], name))
                        return i;
        return -1;
}

static const char *feature_name(int i)
{
        return features[i].name;
}

static const char *component_name(int i)
{
        return component_names[i];
}

static int write_object(struct buf *out, unsigned int set, int n, const char *(*name)(int),
                        const double *values)
{
        const char *separator = "{";
        char text[NUM_TEXT_MAX];

        for (int i = 0; i < n; i++) {
                if (!(set & 1u << i))
                        continue;
                (void)num_format_double(text, values[i]);
                (void)buf_printf(out, "%s\"%s\":%s", separator, name(i), text); /* failure is sticky */
                separator = ",";
        }
        return buf_puts(out, *separator == '{' ? "{}" : "}");
}

int row_write_features(const struct row *row, struct buf *out)
{
        return write_object(out, row->has_feature, FEATURE_N, feature_name, row->features);
}

int row_write_watts(const struct row *row, struct buf *out)
{
        return write_object(out, row->has_watts, COMPONENT_N, component_name, row->watts);
}

static int read_object(const char *text, const char *what, int (*find)(const char *), double *values,
                       unsigned int *set, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        const char *key;
        json_t *value;
        int r;

        r = json_parse(text, strlen(text), what, &object, e);
        if (r < 0)
                return r;
        json_object_foreach (object, key, value) {
                int i = find(key);

                if (i < 0 || !json_is_number(value))
                        return err_set(e, -EBADMSG, "%s: unexpected '%.64s'", what, key);
                values[i] = json_number_value(value);
                *set |= 1u << i;
        }
        return 0;
}

int row_read(const char *features_text, const char *watts_text, struct row *ret, struct err *e)
{
        int r;

        ret->has_feature = ret->has_watts = 0;
        r = read_object(features_text, "row features", feature_find, ret->features, &ret->has_feature, e);
        if (r < 0)
                return r;
        return read_object(watts_text, "row watts", component_find, ret->watts, &ret->has_watts, e);
}
