/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/request.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/num.h"

static const char *const keys[] = { "metrics",         "output_type",  "source",       "node_type",
                                    "weight",          "filter",       "trainer_name", "machine_spec",
                                    "loose_node_type", "pipeline_name" };

static int check_keys(const json_t *body, struct err *e)
{
        const char *key;
        json_t *value;

        if (!json_is_object(body))
                return err_set(e, -EBADMSG, "the request is not a JSON object");
        json_object_foreach ((json_t *)(uintptr_t)body, key, value) {
                size_t i = 0;

                while (i < ARRAY_SIZE(keys) && strcmp(keys[i], key) != 0)
                        i++;
                if (i == ARRAY_SIZE(keys))
                        return err_set(e, -EBADMSG, "unknown key '%.64s'", key);
        }
        return 0;
}

static int read_metrics(const json_t *body, struct model_request *ret, struct err *e)
{
        const json_t *metrics = json_object_get(body, "metrics");

        if (!json_is_array(metrics))
                return err_set(e, -EBADMSG, "'metrics' is not an array of feature names");
        if (json_array_size(metrics) > REQUEST_METRICS_MAX)
                return err_set(e, -EBADMSG, "'metrics' has more than %d names", REQUEST_METRICS_MAX);
        for (size_t i = 0; i < json_array_size(metrics); i++)
                if (!json_is_string(json_array_get(metrics, i)))
                        return err_set(e, -EBADMSG, "'metrics' is not an array of feature names");
        ret->metrics = metrics;
        return 0;
}

static int read_output_type(const json_t *body, struct model_request *ret, struct err *e)
{
        const char *text = json_string_value(json_object_get(body, "output_type"));

        for (int i = 0; text && output_types[i]; i++)
                if (!strcmp(text, output_types[i])) {
                        ret->output_type = i;
                        return 0;
                }
        return err_set(e, -EBADMSG, "'output_type' is neither AbsPower nor DynPower");
}

static int read_source(const json_t *body, struct model_request *ret, struct err *e)
{
        const json_t *source = json_object_get(body, "source");

        if (source && !json_is_null(source) && !json_is_string(source))
                return err_set(e, -EBADMSG, "'source' is not a string");
        ret->source = energy_source_find(json_string_value(source));
        if (!ret->source)
                return err_set(e, -EBADMSG, "'source': no energy source '%.64s'", json_string_value(source));
        return 0;
}

static int read_node_type(const json_t *body, struct model_request *ret, struct err *e)
{
        const json_t *value = json_object_get(body, "node_type");
        int64_t type = -1;

        ret->node_type = -1;
        if (!value || json_is_null(value) || (json_is_string(value) && !*json_string_value(value)))
                return 0;
        if (json_is_integer(value))
                type = json_integer_value(value);
        else if (json_is_real(value) && fabs(json_real_value(value)) < INT32_MAX)
                type = (int64_t)json_real_value(value);
        else if (!json_is_string(value) || num_parse_i64(json_string_value(value), &type) < 0)
                return err_set(e, -EBADMSG, "'node_type' is not an integer");
        if (type < -1 || type > INT32_MAX)
                return err_set(e, -EBADMSG, "'node_type' is out of range");
        ret->node_type = (int)type;
        return 0;
}

static int read_text(const json_t *body, const char *key, const char **ret, struct err *e)
{
        const json_t *value = json_object_get(body, key);

        if (value && !json_is_string(value))
                return err_set(e, -EBADMSG, "'%s' is not a string", key);
        *ret = value ? json_string_value(value) : "";
        return 0;
}

/* What Python takes for true. */
static bool truth(const json_t *value, bool fallback)
{
        if (!value)
                return fallback;
        switch (json_typeof(value)) {
        case JSON_TRUE:
                return true;
        case JSON_INTEGER:
        case JSON_REAL:
                return json_number_value(value) != 0;
        case JSON_STRING:
                return json_string_length(value) > 0;
        case JSON_ARRAY:
                return json_array_size(value) > 0;
        case JSON_OBJECT:
                return json_object_size(value) > 0;
        default:
                return false;
        }
}

static int add_filter(const char *item, size_t size, struct model_request *ret, struct err *e)
{
        const char *colon = memchr(item, ':', size);
        struct filter *f = &ret->filters[ret->filters_n];
        size_t name, value;

        if (!colon || memchr(colon + 1, ':', size - (size_t)(colon + 1 - item)))
                return 0;
        if (ret->filters_n == REQUEST_FILTERS_MAX)
                return err_set(e, -EBADMSG, "'filter' has more than %d items", REQUEST_FILTERS_MAX);
        name = (size_t)(colon - item);
        value = size - name - 1;
        if (name >= sizeof(f->attribute) || value >= sizeof(f->value))
                return err_set(e, -EBADMSG, "'filter' has an item that is too long");
        memcpy(f->attribute, item, name);
        f->attribute[name] = '\0';
        memcpy(f->value, colon + 1, value);
        f->value[value] = '\0';
        if (strcmp(f->attribute, "features") != 0 && num_parse_double(f->value, &f->threshold) < 0)
                return err_set(e, -EBADMSG, "'filter': '%s' is not a number", f->value);
        ret->filters_n++;
        return 0;
}

int request_parse_filter(const char *text, struct model_request *ret, struct err *e)
{
        ret->filters_n = 0;
        for (;;) {
                size_t size = strcspn(text, ";");
                int r = add_filter(text, size, ret, e);

                if (r < 0 || !text[size])
                        return r;
                text += size + 1;
        }
}

int request_from_json(const json_t *body, struct model_request *ret, struct err *e)
{
        const char *filter = "";
        int r = check_keys(body, e);

        memset(ret, 0, sizeof(*ret));
        if (r == 0)
                r = read_metrics(body, ret, e);
        if (r == 0)
                r = read_output_type(body, ret, e);
        if (r == 0)
                r = read_source(body, ret, e);
        if (r == 0)
                r = read_node_type(body, ret, e);
        if (r == 0)
                r = read_text(body, "trainer_name", &ret->trainer_name, e);
        if (r == 0)
                r = read_text(body, "pipeline_name", &ret->pipeline_name, e);
        if (r == 0)
                r = read_text(body, "filter", &filter, e);
        if (r == 0)
                r = request_parse_filter(filter, ret, e);
        if (r == 0)
                r = spec_from_json(json_object_get(body, "machine_spec"), &ret->spec, e);
        ret->weight = truth(json_object_get(body, "weight"), false);
        ret->loose_node_type = truth(json_object_get(body, "loose_node_type"), true);
        return r;
}

/* Single quotes unless the text has some and no double ones; what cannot be printed as \x, as in Python's
 * ASCII. */
static void write_string_repr(const char *s, struct buf *out)
{
        char quote = strchr(s, '\'') && !strchr(s, '"') ? '"' : '\'';

        (void)buf_printf(out, "%c", quote); /* failure is sticky, throughout */
        for (; *s; s++) {
                if (*s == quote || *s == '\\')
                        (void)buf_printf(out, "\\%c", *s);
                else if (*s == '\n')
                        (void)buf_puts(out, "\\n");
                else if (*s == '\r')
                        (void)buf_puts(out, "\\r");
                else if (*s == '\t')
                        (void)buf_puts(out, "\\t");
                else if ((unsigned char)*s < 0x20 || *s == 0x7f)
                        (void)buf_printf(out, "\\x%02x", (unsigned int)*s);
                else
                        (void)buf_append(out, s, 1);
        }
        (void)buf_printf(out, "%c", quote);
}

static void write_real_repr(double v, struct buf *out)
{
        char text[NUM_TEXT_MAX];

        (void)num_format_double(text, v);
        (void)buf_printf(out, "%s%s", text, strpbrk(text, ".en") ? "" : ".0");
}

static void write_repr(const json_t *value, struct buf *out)
{
        const char *separator = "", *key;
        json_t *item;

        if (out->failed)
                return;
        switch (json_typeof(value)) {
        case JSON_OBJECT:
                (void)buf_puts(out, "{");
                json_object_foreach ((json_t *)(uintptr_t)value, key, item) {
                        (void)buf_puts(out, separator);
                        write_string_repr(key, out);
                        (void)buf_puts(out, ": ");
                        write_repr(item, out);
                        separator = ", ";
                }
                (void)buf_puts(out, "}");
                break;
        case JSON_ARRAY:
                (void)buf_puts(out, "[");
                for (size_t i = 0; i < json_array_size(value); i++) {
                        (void)buf_puts(out, separator);
                        write_repr(json_array_get(value, i), out);
                        separator = ", ";
                }
                (void)buf_puts(out, "]");
                break;
        case JSON_STRING:
                write_string_repr(json_string_value(value), out);
                break;
        case JSON_INTEGER:
                (void)buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
                break;
        case JSON_REAL:
                write_real_repr(json_real_value(value), out);
                break;
        default:
                (void)buf_puts(out, json_is_true(value) ? "True" : json_is_false(value) ? "False" : "None");
        }
}

void request_write_repr(const json_t *value, struct buf *out)
{
        CLEANUP(buf_done) struct buf text = { 0 };

        buf_init(&text, REQUEST_REPR_MAX);
        write_repr(value, &text);
        (void)buf_append(out, text.data, text.size);
        if (text.failed)
                (void)buf_puts(out, "...");
}
