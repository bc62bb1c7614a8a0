/* SPDX-License-Identifier: Apache-2.0 */
/* Text to typed value and back, for every option type. */
#include "config/value.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include "common/num.h"

#define SUGGEST_DISTANCE 2

struct unit {
        const char *name;
        long long factor;
};

/* Ascending. */
static const struct unit durations[] = {
        { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 }, { 0 },
};
static const struct unit sizes[] = {
        { "", 1 }, { "KiB", 1LL << 10 }, { "MiB", 1LL << 20 }, { "GiB", 1LL << 30 }, { "TiB", 1LL << 40 },
        { 0 },
};

static const struct unit *units_of(enum option_type type)
{
        return type == OPTION_DURATION ? durations : sizes;
}

bool string_list_has(const struct string_list *list, const char *item)
{
        for (size_t i = 0; i < list->n; i++)
                if (strcmp(list->items[i], item) == 0)
                        return true;
        return false;
}

const struct option *option_find(const struct option *table, const char *key)
{
        for (; table->key; table++)
                if (strcmp(table->key, key) == 0)
                        return table;
        return NULL;
}

static const struct {
        const char *words, *placeholder;
} types[] = {
        [OPTION_BOOL] = { "true or false", "true|false" },
        [OPTION_INT] = { "an integer", "INTEGER" },
        [OPTION_DOUBLE] = { "a number", "NUMBER" },
        [OPTION_STRING] = { "a string", "TEXT" },
        [OPTION_ENUM] = { "one word", "WORD" },
        [OPTION_DURATION] = { "a duration such as 500ms, 3s, 5m, 12h or 7d", "DURATION" },
        [OPTION_SIZE] = { "a size such as 4096, 64KiB, 10MiB or 2GiB", "SIZE" },
        [OPTION_LIST] = { "a list", "ITEM,ITEM" },
};

const char *option_type_words(enum option_type type)
{
        return types[type].words;
}

const char *option_placeholder(enum option_type type)
{
        return types[type].placeholder;
}

/* Levenshtein's distance, or SUGGEST_DISTANCE + 1 for texts that are too long to be a key. */
static int edit_distance(const char *a, const char *b)
{
        size_t n = strlen(a), m = strlen(b);
        int row[OPTION_KEY_MAX + 1];

        if (n > OPTION_KEY_MAX || m > OPTION_KEY_MAX)
                return SUGGEST_DISTANCE + 1;
        for (size_t j = 0; j <= m; j++)
                row[j] = (int)j;
        for (size_t i = 1; i <= n; i++) {
                int diagonal = row[0];

                row[0] = (int)i;
                for (size_t j = 1; j <= m; j++) {
                        int best = diagonal + (a[i - 1] != b[j - 1]);

                        if (row[j] + 1 < best)
                                best = row[j] + 1;
                        if (row[j - 1] + 1 < best)
                                best = row[j - 1] + 1;
                        diagonal = row[j];
                        row[j] = best;
                }
        }
        return row[m];
}

/* The first `segments` dot-separated parts of a key; "" when it has fewer. */
static void cut_key(const char *key, int segments, char ret[OPTION_KEY_MAX])
{
        size_t n = 0;

        for (; key[n]; n++)
                if (key[n] == '.' && --segments == 0)
                        break;
        if (key[n] == '\0')
                segments--;
        (void)snprintf(ret, OPTION_KEY_MAX, "%.*s", segments == 0 ? (int)n : 0, key);
}

void option_suggest(const struct option *table, const char *key, char ret[OPTION_KEY_MAX])
{
        int best = SUGGEST_DISTANCE + 1, segments = 1;
        char candidate[OPTION_KEY_MAX];

        for (const char *p = key; *p; p++)
                segments += *p == '.';
        ret[0] = '\0';
        for (; table->key; table++) {
                int distance;

                cut_key(table->key, segments, candidate);
                distance = edit_distance(key, candidate);
                if (*candidate && distance < best && distance < (int)strlen(key)) {
                        best = distance;
                        (void)snprintf(ret, OPTION_KEY_MAX, "%s", candidate);
                }
        }
}

/* A number in the type's own syntax: 60000 ms are "1m". */
static void format_number(enum option_type type, double v, char *ret, size_t size)
{
        const struct unit *unit = units_of(type), *best = unit;
        char text[NUM_TEXT_MAX];

        if (type == OPTION_DURATION || type == OPTION_SIZE)
                for (; unit->name; unit++)
                        if (v != 0 && fmod(v, (double)unit->factor) == 0)
                                best = unit;
        if (type == OPTION_DURATION || type == OPTION_SIZE)
                v /= (double)best->factor;
        (void)num_format_double(text, v);
        (void)snprintf(ret, size, "%s%s", text,
                       type == OPTION_DURATION || type == OPTION_SIZE ? best->name : "");
}

static int check_range(const struct option *o, double v, const char *where, const char *value, struct err *e)
{
        char min[NUM_TEXT_MAX + 8], max[NUM_TEXT_MAX + 8];

        if ((o->min == 0 && o->max == 0) || (v >= o->min && v <= o->max))
                return 0;
        format_number(o->type, o->min, min, sizeof(min));
        format_number(o->type, o->max, max, sizeof(max));
        return err_set(e, -EINVAL, "%s: '%s' is out of range: %s takes %s to %s", where, value, o->key, min,
                       max);
}

static int wrong_type(const struct option *o, const char *where, const char *value, struct err *e)
{
        return err_set(e, -EINVAL, "%s: %s must be %s, not '%.60s'", where, o->key,
                       option_type_words(o->type), value);
}

/* "12h" -> 12 * 3600000. A bare number is milliseconds only when it is 0, bytes always. */
static int parse_with_unit(enum option_type type, const char *value, long long *ret)
{
        size_t digits = strspn(value, "0123456789");
        const struct unit *unit = units_of(type);
        char number[NUM_TEXT_MAX];
        uint64_t n;
        int r;

        if (digits >= sizeof(number))
                return -ERANGE;
        (void)snprintf(number, sizeof(number), "%.*s", (int)digits, value);
        r = num_parse_u64(number, &n);
        if (r < 0)
                return r;
        if (n == 0 && value[digits] == '\0') {
                *ret = 0;
                return 0;
        }
        while (unit->name && strcmp(unit->name, value + digits) != 0)
                unit++;
        if (!unit->name)
                return -EINVAL;
        if (n > (uint64_t)(INT64_MAX / unit->factor))
                return -ERANGE;
        *ret = (long long)n * unit->factor;
        return 0;
}

static int set_integer(const struct option *o, const char *value, const char *where, long long *ret,
                       struct err *e)
{
        int64_t plain = 0;
        long long v = 0;
        int r;

        if (o->type == OPTION_INT) {
                r = num_parse_i64(value, &plain);
                v = plain;
        } else {
                r = parse_with_unit(o->type, value, &v);
        }
        if (r == -ERANGE)
                return err_set(e, -EINVAL, "%s: '%.60s' is out of range: %s is too large", where, value,
                               o->key);
        if (r < 0)
                return wrong_type(o, where, value, e);
        r = check_range(o, (double)v, where, value, e);
        if (r < 0)
                return r;
        *ret = v;
        return 0;
}

static int set_double(const struct option *o, const char *value, const char *where, double *ret,
                      struct err *e)
{
        double v;
        int r;

        r = num_parse_double(value, &v);
        if (r == -ERANGE)
                return err_set(e, -EINVAL, "%s: '%.60s' is out of range: %s is too large", where, value,
                               o->key);
        if (r < 0)
                return wrong_type(o, where, value, e);
        r = check_range(o, v, where, value, e);
        if (r < 0)
                return r;
        *ret = v;
        return 0;
}

static int set_bool(const struct option *o, const char *value, const char *where, bool *ret, struct err *e)
{
        bool yes = strcmp(value, "true") == 0;

        if (!yes && strcmp(value, "false") != 0)
                return wrong_type(o, where, value, e);
        *ret = yes;
        return 0;
}

/* The index of value in the choices, or an error that lists them. */
static int find_choice(const struct option *o, const char *value, const char *where, int *ret, struct err *e)
{
        char all[160] = "";
        size_t used = 0;

        for (int i = 0; o->choices[i]; i++) {
                if (strcmp(o->choices[i], value) == 0) {
                        *ret = i;
                        return 0;
                }
                if (used < sizeof(all)) /* a long list is cut */
                        used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i > 0 ? ", " : "",
                                                 o->choices[i]);
        }
        return err_set(e, -EINVAL, "%s: %s does not take '%.60s'; choices: %s", where, o->key, value, all);
}

/* Also those that only exist in UTF-8: U+0080 to U+009F, the byte order mark, U+FFFE and U+FFFF. YAML can
 * spell them in escapes, but not contain them. */
static bool is_control(const unsigned char *p)
{
        if (*p < ' ' || *p == 0x7f)
                return true;
        if (p[0] == 0xc2)
                return p[1] >= 0x80 && p[1] < 0xa0;
        return p[0] == 0xef && ((p[1] == 0xbb && p[2] == 0xbf) || (p[1] == 0xbf && p[2] >= 0xbe));
}

static int check_text(const struct option *o, const char *value, const char *where, struct err *e)
{
        if (strlen(value) > OPTION_STRING_MAX)
                return err_set(e, -EINVAL, "%s: %s is longer than %d bytes", where, o->key,
                               OPTION_STRING_MAX);
        for (const char *p = value; *p; p++)
                if (is_control((const unsigned char *)p))
                        return err_set(e, -EINVAL, "%s: %s contains a control character", where, o->key);
        return 0;
}

static int set_string(const struct option *o, const char *value, const char *where, char **ret, struct err *e)
{
        char *copy;
        int r;

        r = check_text(o, value, where, e);
        if (r < 0)
                return r;
        copy = strdup(value);
        if (!copy)
                return err_set(e, -ENOMEM, "out of memory");
        free(*ret);
        *ret = copy;
        return 0;
}

static void list_done(struct string_list *list)
{
        for (size_t i = 0; i < list->n; i++)
                free(list->items[i]);
        free(list->items);
        *list = (struct string_list){ 0 };
}

static int list_append(const struct option *o, struct string_list *list, const char *item, const char *where,
                       struct err *e)
{
        int index, r;

        if (*item == '\0')
                return err_set(e, -EINVAL, "%s: %s has an empty item", where, o->key);
        r = check_text(o, item, where, e);
        if (r == 0 && o->choices)
                r = find_choice(o, item, where, &index, e);
        if (r < 0)
                return r;
        list->items[list->n] = strdup(item);
        if (!list->items[list->n])
                return err_set(e, -ENOMEM, "out of memory");
        list->n++;
        return 0;
}

int option_set_items(const struct option *o, const char *const *items, size_t n, const char *where,
                     void *options, struct err *e)
{
        struct string_list list = { 0 }, *target = (struct string_list *)((char *)options + o->offset);
        int r = 0;

        if (n > STRING_LIST_MAX)
                return err_set(e, -EINVAL, "%s: %s has more than %d items", where, o->key, STRING_LIST_MAX);
        list.items = calloc(n + 1, sizeof(*list.items));
        if (!list.items)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < n && r == 0; i++)
                r = list_append(o, &list, items[i], where, e);
        if (r < 0) {
                list_done(&list);
                return r;
        }
        list_done(target);
        *target = list;
        return 0;
}

/* "a,b" -> two items; "" -> none. */
static int set_comma_list(const struct option *o, const char *value, const char *where, void *options,
                          struct err *e)
{
        CLEANUP(freep) char *copy = strdup(value);
        const char *items[STRING_LIST_MAX + 1];
        char *rest = copy;
        size_t n = 0;

        if (!copy)
                return err_set(e, -ENOMEM, "out of memory");
        while (*value && rest && n < ARRAY_SIZE(items))
                items[n++] = strsep(&rest, ",");
        return option_set_items(o, items, n, where, options, e);
}

static int option_set(const struct option *o, const char *value, const char *where, void *options,
                      struct err *e)
{
        void *target = (char *)options + o->offset;

        switch (o->type) {
        case OPTION_BOOL:
                return set_bool(o, value, where, target, e);
        case OPTION_INT:
        case OPTION_DURATION:
        case OPTION_SIZE:
                return set_integer(o, value, where, target, e);
        case OPTION_DOUBLE:
                return set_double(o, value, where, target, e);
        case OPTION_STRING:
                return set_string(o, value, where, target, e);
        case OPTION_ENUM:
                return find_choice(o, value, where, target, e);
        case OPTION_LIST:
                return set_comma_list(o, value, where, options, e);
        }
        return err_set(e, -EINVAL, "%s: %s has no known type", where, o->key);
}

int options_set(const struct option *table, const char *key, const char *value, const char *where,
                void *options, struct err *e)
{
        const struct option *o = option_find(table, key);

        if (!o)
                return err_set(e, -EINVAL, "%s: unknown key '%.60s'", where, key);
        return option_set(o, value, where, options, e);
}

int options_set_defaults(const struct option *table, void *options, struct err *e)
{
        for (; table->key; table++) {
                bool empty = table->type == OPTION_STRING || table->type == OPTION_LIST;
                int r;

                if (!table->fallback && !empty)
                        continue; /* zero it stays */
                r = option_set(table, table->fallback ? table->fallback : "", "default", options, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void print_quoted(const char *s, FILE *out)
{
        (void)fputc('"', out);
        for (; *s; s++)
                (void)fprintf(out, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
        (void)fputc('"', out);
}

static void print_list(const struct string_list *list, FILE *out)
{
        (void)fputc('[', out);
        for (size_t i = 0; i < list->n; i++) {
                (void)fputs(i > 0 ? ", " : "", out);
                print_quoted(list->items[i], out);
        }
        (void)fputc(']', out);
}

void options_print_value(const struct option *o, const void *options, FILE *out)
{
        const void *target = (const char *)options + o->offset;
        char text[NUM_TEXT_MAX + 8];

        switch (o->type) {
        case OPTION_BOOL:
                (void)fputs(*(const bool *)target ? "true" : "false", out);
                break;
        case OPTION_INT:
                (void)fprintf(out, "%lld", *(const long long *)target);
                break;
        case OPTION_DURATION:
        case OPTION_SIZE:
                format_number(o->type, (double)*(const long long *)target, text, sizeof(text));
                (void)fputs(text, out);
                break;
        case OPTION_DOUBLE:
                (void)num_format_double(text, *(const double *)target);
                (void)fputs(text, out);
                break;
        case OPTION_STRING:
                print_quoted(*(char *const *)target ? *(char *const *)target : "", out);
                break;
        case OPTION_ENUM:
                (void)fputs(o->choices[*(const int *)target], out);
                break;
        case OPTION_LIST:
                print_list(target, out);
                break;
        }
}

/* Was the same group printed for an earlier row? Keys of a group need not stand together in the table. */
static bool seen_group(const struct option *table, const struct option *o, size_t size)
{
        for (; table < o; table++)
                if (strncmp(table->key, o->key, size) == 0)
                        return true;
        return false;
}

/* All options whose key begins with the `size` bytes of `prefix`, which ends in a dot or is empty. */
static void print_group(const struct option *table, const void *options, const char *prefix, size_t size,
                        int depth, FILE *out)
{
        for (const struct option *o = table; o->key; o++) {
                const char *name = o->key + size, *dot;

                if (*o->key == '-' || strncmp(o->key, prefix, size) != 0)
                        continue;
                dot = strchr(name, '.');
                if (!dot) {
                        (void)fprintf(out, "%*s# %s\n%*s%s: ", depth * 2, "", o->help, depth * 2, "", name);
                        options_print_value(o, options, out);
                        (void)fputc('\n', out);
                } else if (!seen_group(table, o, (size_t)(dot - o->key) + 1)) {
                        (void)fprintf(out, "%*s%.*s:\n", depth * 2, "", (int)(dot - name), name);
                        print_group(table, options, o->key, (size_t)(dot - o->key) + 1, depth + 1, out);
                }
        }
}

void options_print(const struct option *table, const void *options, FILE *out)
{
        print_group(table, options, "", 0, 0, out);
}

void options_done(const struct option *table, void *options)
{
        for (; table->key; table++) {
                void *target = (char *)options + table->offset;

                if (table->type == OPTION_STRING) {
                        free(*(char **)target);
                        *(char **)target = NULL;
                } else if (table->type == OPTION_LIST) {
                        list_done(target);
                }
        }
}
