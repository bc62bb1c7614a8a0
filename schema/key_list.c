/* SPDX-License-Identifier: Apache-2.0 */
#include "schema/key_list.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>
#include "common/json.h"

#define KEY_LIST_FORMAT 1

static int get_time(const json_t *object, const char *key, int64_t *ret, struct err *e)
{
        long long value;
        int r;

        r = json_get_int(object, key, &value, e);
        if (r < 0)
                return err_prefix(e, -EBADMSG, "list of keys");
        if (value < 0)
                return err_set(e, -EBADMSG, "list of keys: '%s' is negative", key);
        *ret = value;
        return 0;
}

static int read_keys(const json_t *array, struct key_list *list, struct err *e)
{
        const char *text;
        int r;

        if (!json_is_array(array))
                return err_set(e, -EBADMSG, "list of keys: no array 'keys'");
        if (json_array_size(array) > KEY_LIST_KEYS_MAX)
                return err_set(e, -E2BIG, "list of keys: more than %d keys", KEY_LIST_KEYS_MAX);
        for (size_t i = 0; i < json_array_size(array); i++) {
                const json_t *item = json_array_get(array, i);
                struct release_key *key = &list->keys[i];

                r = json_get_string(item, "key", &text, e);
                if (r < 0)
                        return err_prefix(e, -EBADMSG, "list of keys");
                r = minisign_parse_public(text, strlen(text), &key->key, e);
                if (r == 0)
                        r = get_time(item, "expires_s", &key->expires_s, e);
                if (r < 0)
                        return err_prefix(e, r, "list of keys, key %zu", i + 1);
                list->n++;
        }
        return 0;
}

/* As minisign prints an id: the bytes from last to first. */
static bool parse_id(const char *hex, unsigned char ret[MINISIGN_ID_SIZE])
{
        unsigned char raw[MINISIGN_ID_SIZE];
        size_t n = 0;

        if (sodium_hex2bin(raw, sizeof(raw), hex, strlen(hex), NULL, &n, NULL) != 0 || n != sizeof(raw) ||
            strlen(hex) != MINISIGN_ID_HEX_SIZE - 1)
                return false;
        for (size_t i = 0; i < sizeof(raw); i++)
                ret[i] = raw[sizeof(raw) - 1 - i];
        return true;
}

static int read_revoked(const json_t *array, struct key_list *list, struct err *e)
{
        if (!json_is_array(array))
                return err_set(e, -EBADMSG, "list of keys: no array 'revoked'");
        if (json_array_size(array) > KEY_LIST_REVOKED_MAX)
                return err_set(e, -E2BIG, "list of keys: more than %d revoked keys", KEY_LIST_REVOKED_MAX);
        for (size_t i = 0; i < json_array_size(array); i++) {
                const char *hex = json_string_value(json_array_get(array, i));

                if (!hex || !parse_id(hex, list->revoked[i]))
                        return err_set(e, -EBADMSG, "list of keys: a revoked key is no id of 16 hex digits");
                list->revoked_n++;
        }
        return 0;
}

int key_list_parse(const char *json, size_t size, struct key_list *ret, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        struct key_list list = { 0 };
        int64_t format;
        int r;

        if (size > KEY_LIST_MAX)
                return err_set(e, -E2BIG, "list of keys: %zu bytes are too many", size);
        r = json_parse(json, size, "list of keys", &object, e);
        if (r == 0)
                r = get_time(object, "wattloop_keys", &format, e);
        if (r == 0 && format != KEY_LIST_FORMAT)
                return err_set(e, -ENOTSUP, "list of keys: of version %" PRId64 ", this program knows %d",
                               format, KEY_LIST_FORMAT);
        if (r == 0)
                r = get_time(object, "version", &list.version, e);
        if (r == 0)
                r = get_time(object, "time_s", &list.time_s, e);
        if (r == 0)
                r = get_time(object, "expires_s", &list.expires_s, e);
        if (r == 0)
                r = read_keys(json_object_get(object, "keys"), &list, e);
        if (r == 0)
                r = read_revoked(json_object_get(object, "revoked"), &list, e);
        if (r < 0)
                return r;
        *ret = list;
        return 0;
}

/* The second line of the key's file. */
static void write_key(const struct release_key *key, struct buf *out)
{
        CLEANUP(buf_done) struct buf text;
        const char *line;

        buf_init(&text, MINISIGN_TEXT_MAX);
        if (minisign_write_public(&key->key, &text) < 0 || !(line = strchr(text.data, '\n'))) {
                out->failed = -ENOMEM;
                return;
        }
        line++;
        (void)buf_printf(out, "{\"key\": \"%.*s\", \"expires_s\": %" PRId64 "}", (int)strcspn(line, "\n"),
                         line, key->expires_s);
}

int key_list_write(const struct key_list *list, struct buf *out)
{
        char hex[MINISIGN_ID_HEX_SIZE];

        (void)buf_printf(out,
                         "{\"wattloop_keys\": %d, \"version\": %" PRId64 ", \"time_s\": %" PRId64
                         ", \"expires_s\": %" PRId64 ",\n \"keys\": [",
                         KEY_LIST_FORMAT, list->version, list->time_s, list->expires_s);
        for (size_t i = 0; i < list->n; i++) {
                (void)buf_puts(out, i > 0 ? ",\n  " : "");
                write_key(&list->keys[i], out);
        }
        (void)buf_puts(out, "],\n \"revoked\": [");
        for (size_t i = 0; i < list->revoked_n; i++) {
                minisign_id_hex(list->revoked[i], hex);
                (void)buf_printf(out, "%s\"%s\"", i > 0 ? ", " : "", hex);
        }
        return buf_puts(out, "]}\n");
}

bool key_list_revokes(const struct key_list *list, const unsigned char id[MINISIGN_ID_SIZE])
{
        for (size_t i = 0; i < list->revoked_n; i++)
                if (memcmp(list->revoked[i], id, MINISIGN_ID_SIZE) == 0)
                        return true;
        return false;
}

const struct release_key *key_list_find(const struct key_list *list, const unsigned char id[MINISIGN_ID_SIZE])
{
        for (size_t i = 0; i < list->n; i++)
                if (memcmp(list->keys[i].key.id, id, MINISIGN_ID_SIZE) == 0)
                        return &list->keys[i];
        return NULL;
}
