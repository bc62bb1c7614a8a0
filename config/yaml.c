/* SPDX-License-Identifier: Apache-2.0 */
/* The YAML loader: nested maps spell dotted keys. Reads libyaml's events, so every complaint has the line and
 * the column of the thing it is about. The subset is small on purpose: no anchors, no tags, one document. */
#include "config/value.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <yaml.h>
#include "common/file.h"

#define YAML_MAX_BYTES ((size_t)1 << 20)
#define YAML_MAX_PATH  100 /* bytes of the file's path in a message */
#define YAML_MAX_SEEN  256 /* keys and groups of one file; the option table has fewer */

struct loader {
        const struct option *table;
        const char *path;
        void *options;
        struct err *e;
        yaml_parser_t parser;
        char where[160]; /* "file:line:column" of the latest key or value */
        struct {
                char *path; /* owned */
                size_t line;
        } seen[YAML_MAX_SEEN];
        size_t n_seen;
};

/* The end of a long path tells more than its beginning. */
static void set_where(struct loader *l, yaml_mark_t mark)
{
        size_t n = strlen(l->path), skip = n > YAML_MAX_PATH ? n - YAML_MAX_PATH : 0;

        (void)snprintf(l->where, sizeof(l->where), "%s%s:%zu:%zu", skip > 0 ? "..." : "", l->path + skip,
                       mark.line + 1, mark.column + 1);
}

static PRINTF(3, 4) int fail_at(struct loader *l, yaml_mark_t mark, const char *fmt, ...)
{
        char words[200];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(words, sizeof(words), fmt, ap);
        va_end(ap);
        set_where(l, mark);
        return err_set(l->e, -EINVAL, "%s: %s", l->where, words);
}

static int next_event(struct loader *l, yaml_event_t *event)
{
        const yaml_parser_t *p = &l->parser;

        if (yaml_parser_parse(&l->parser, event))
                return 0;
        if (p->error == YAML_MEMORY_ERROR)
                return err_set(l->e, -ENOMEM, "out of memory");
        if (p->error == YAML_READER_ERROR) /* has no mark, only a byte offset */
                return err_set(l->e, -EINVAL, "%.120s: %s at byte %zu", l->path, p->problem,
                               p->problem_offset);
        return fail_at(l, p->problem_mark, "%s%s%s", p->context ? p->context : "", p->context ? ": " : "",
                       p->problem ? p->problem : "not YAML");
}

static bool has_anchor(const yaml_event_t *event)
{
        switch (event->type) {
        case YAML_ALIAS_EVENT:
                return true;
        case YAML_SCALAR_EVENT:
                return event->data.scalar.anchor;
        case YAML_SEQUENCE_START_EVENT:
                return event->data.sequence_start.anchor;
        case YAML_MAPPING_START_EVENT:
                return event->data.mapping_start.anchor;
        default:
                return false;
        }
}

static bool has_tag(const yaml_event_t *event)
{
        switch (event->type) {
        case YAML_SCALAR_EVENT:
                return event->data.scalar.tag;
        case YAML_SEQUENCE_START_EVENT:
                return event->data.sequence_start.tag;
        case YAML_MAPPING_START_EVENT:
                return event->data.mapping_start.tag;
        default:
                return false;
        }
}

/* The next event of the subset that we read. */
static int next(struct loader *l, yaml_event_t *event)
{
        int r;

        r = next_event(l, event);
        if (r < 0)
                return r;
        if (has_anchor(event))
                r = fail_at(l, event->start_mark, "anchors and aliases are not supported");
        else if (has_tag(event))
                r = fail_at(l, event->start_mark, "tags are not supported");
        if (r < 0)
                yaml_event_delete(event);
        return r;
}

static const char *text_of(const yaml_event_t *event)
{
        return (const char *)event->data.scalar.value;
}

static int remember(struct loader *l, const char *key, yaml_mark_t mark)
{
        for (size_t i = 0; i < l->n_seen; i++)
                if (strcmp(l->seen[i].path, key) == 0)
                        return fail_at(l, mark, "duplicate key '%s', first on line %zu", key,
                                       l->seen[i].line);
        if (l->n_seen == YAML_MAX_SEEN)
                return fail_at(l, mark, "more than %d keys", YAML_MAX_SEEN);
        l->seen[l->n_seen].path = strdup(key);
        if (!l->seen[l->n_seen].path)
                return err_set(l->e, -ENOMEM, "out of memory");
        l->seen[l->n_seen++].line = mark.line + 1;
        return 0;
}

static bool is_group(const struct option *table, const char *key)
{
        size_t n = strlen(key);

        for (; table->key; table++)
                if (strncmp(table->key, key, n) == 0 && table->key[n] == '.')
                        return true;
        return false;
}

static int unknown_key(struct loader *l, const char *key, yaml_mark_t mark)
{
        char near[OPTION_KEY_MAX];

        option_suggest(l->table, key, near);
        if (*near)
                return fail_at(l, mark, "unknown key '%.60s' (did you mean '%s'?)", key, near);
        return fail_at(l, mark, "unknown key '%.60s'", key);
}

/* What the command line alone may say is no key here. */
static const struct option *key_find(const struct option *table, const char *key)
{
        const struct option *o = option_find(table, key);

        return o && *o->key != '-' ? o : NULL;
}

/* A key event below `prefix` becomes the dotted key it stands for. */
static int read_key(struct loader *l, const char *prefix, const yaml_event_t *event, char ret[OPTION_KEY_MAX])
{
        char whole[2 * OPTION_KEY_MAX];

        if (event->type != YAML_SCALAR_EVENT)
                return fail_at(l, event->start_mark, "a key must be a plain word");
        (void)snprintf(whole, sizeof(whole), "%s%s%.70s", prefix, *prefix ? "." : "", text_of(event));
        if (strlen(text_of(event)) != event->data.scalar.length || strlen(whole) >= OPTION_KEY_MAX ||
            (!key_find(l->table, whole) && !is_group(l->table, whole)))
                return unknown_key(l, whole, event->start_mark);
        (void)snprintf(ret, OPTION_KEY_MAX, "%s", whole);
        return remember(l, ret, event->start_mark);
}

/* Plain "key:" and "key: ~" are YAML's null. */
static bool is_null(const yaml_event_t *event)
{
        const char *s = text_of(event);

        return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
               (*s == '\0' || strcmp(s, "~") == 0 || strcmp(s, "null") == 0);
}

static int check_scalar(struct loader *l, const struct option *o, const yaml_event_t *event)
{
        bool quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        bool number = o->type == OPTION_BOOL || o->type == OPTION_INT || o->type == OPTION_DOUBLE;

        if (is_null(event))
                return fail_at(l, event->start_mark, "%s has no value; it must be %s", o->key,
                               option_type_words(o->type));
        if (quoted && number)
                return fail_at(l, event->start_mark, "%s must be %s, not a quoted string", o->key,
                               option_type_words(o->type));
        if (strlen(text_of(event)) != event->data.scalar.length)
                return fail_at(l, event->start_mark, "%s contains a NUL character", o->key);
        return 0;
}

static int load_scalar(struct loader *l, const struct option *o, const yaml_event_t *event)
{
        int r;

        if (o->type == OPTION_LIST)
                return fail_at(l, event->start_mark, "%s must be a list: [first, second]", o->key);
        r = check_scalar(l, o, event);
        if (r < 0)
                return r;
        set_where(l, event->start_mark);
        return options_set(l->table, o->key, text_of(event), l->where, l->options, l->e);
}

/* The items between the sequence's events; each is checked by option_set_items() with the list's position, so
 * an item of the wrong kind is the only complaint that names the item's own. */
static int read_items(struct loader *l, const struct option *o, char **items, size_t *n)
{
        for (;;) {
                yaml_event_t event;
                bool end;
                int r;

                r = next(l, &event);
                if (r < 0)
                        return r;
                end = event.type == YAML_SEQUENCE_END_EVENT;
                if (!end && event.type != YAML_SCALAR_EVENT)
                        r = fail_at(l, event.start_mark, "an item of %s must be a string", o->key);
                else if (!end && *n == STRING_LIST_MAX)
                        r = fail_at(l, event.start_mark, "%s has more than %d items", o->key,
                                    STRING_LIST_MAX);
                else if (!end)
                        r = check_scalar(l, o, &event);
                if (!end && r == 0 && !(items[(*n)++] = strdup(text_of(&event))))
                        r = err_set(l->e, -ENOMEM, "out of memory");
                yaml_event_delete(&event);
                if (r < 0 || end)
                        return r;
        }
}

static int load_sequence(struct loader *l, const struct option *o, yaml_mark_t mark)
{
        char *items[STRING_LIST_MAX] = { 0 };
        size_t n = 0;
        int r;

        if (o->type != OPTION_LIST)
                return fail_at(l, mark, "%s must be %s, not a list", o->key, option_type_words(o->type));
        r = read_items(l, o, items, &n);
        if (r == 0) {
                set_where(l, mark);
                r = option_set_items(o, (const char *const *)items, n, l->where, l->options, l->e);
        }
        for (size_t i = 0; i < n; i++)
                free(items[i]);
        return r;
}

static int load_mapping(struct loader *l, const char *prefix);

/* Recursion ends with the known groups: an unknown key is refused before its value is looked at. */
static int load_value(struct loader *l, const char *key)
{
        const struct option *o = key_find(l->table, key);
        yaml_event_t event;
        int r;

        r = next(l, &event);
        if (r < 0)
                return r;
        if (event.type == YAML_MAPPING_START_EVENT && o)
                r = fail_at(l, event.start_mark, "%s must be %s, not a mapping", key,
                            option_type_words(o->type));
        else if (event.type == YAML_MAPPING_START_EVENT)
                r = load_mapping(l, key);
        else if (!o &&
                 !(event.type == YAML_SCALAR_EVENT && is_null(&event))) /* an empty group sets nothing */
                r = fail_at(l, event.start_mark, "'%s' is a group: it must be a mapping", key);
        else if (o && event.type == YAML_SEQUENCE_START_EVENT)
                r = load_sequence(l, o, event.start_mark);
        else if (o)
                r = load_scalar(l, o, &event);
        yaml_event_delete(&event);
        return r;
}

/* Everything up to the end of a mapping whose start was read. */
static int load_mapping(struct loader *l, const char *prefix)
{
        for (;;) {
                char key[OPTION_KEY_MAX];
                yaml_event_t event;
                bool end;
                int r;

                r = next(l, &event);
                if (r < 0)
                        return r;
                end = event.type == YAML_MAPPING_END_EVENT;
                if (!end)
                        r = read_key(l, prefix, &event, key);
                yaml_event_delete(&event);
                if (r < 0 || end)
                        return r;
                r = load_value(l, key);
                if (r < 0)
                        return r;
        }
}

/* The one document: a mapping, or nothing at all. */
static int load_stream(struct loader *l)
{
        bool seen_document = false;

        for (;;) {
                yaml_event_t event;
                yaml_event_type_t type;
                int r;

                r = next(l, &event);
                if (r < 0)
                        return r;
                type = event.type;
                if (type == YAML_DOCUMENT_START_EVENT && seen_document)
                        r = fail_at(l, event.start_mark, "a second document");
                else if (type == YAML_MAPPING_START_EVENT)
                        r = load_mapping(l, "");
                else if (type == YAML_SEQUENCE_START_EVENT || (type == YAML_SCALAR_EVENT && !is_null(&event)))
                        r = fail_at(l, event.start_mark, "the file must be a mapping of keys to values");
                seen_document |= type == YAML_DOCUMENT_START_EVENT;
                yaml_event_delete(&event);
                if (r < 0 || type == YAML_STREAM_END_EVENT)
                        return r;
        }
}

int options_load_yaml(const struct option *table, const char *path, void *options, struct err *e)
{
        struct loader l = { .table = table, .path = path, .options = options, .e = e };
        CLEANUP(buf_done) struct buf b;
        int r;

        buf_init(&b, YAML_MAX_BYTES);
        r = file_read(path, &b, e);
        if (r < 0)
                return r;
        if (!yaml_parser_initialize(&l.parser))
                return err_set(e, -ENOMEM, "out of memory");
        yaml_parser_set_input_string(&l.parser, (const unsigned char *)(b.data ? b.data : ""), b.size);
        r = load_stream(&l);
        yaml_parser_delete(&l.parser);
        for (size_t i = 0; i < l.n_seen; i++)
                free(l.seen[i].path);
        return r;
}
