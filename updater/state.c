/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/state.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "common/buf.h"
#include "common/file.h"
#include "common/json.h"

#define STATE_DIR      ".state"
#define STATE_FILE     "state.json"
#define STATE_FORMAT   1
#define STATE_FILE_MAX ((size_t)64 << 10)
#define RETRY_FIRST_MS (60 * 1000LL)

static int path_of(const char *store_path, const char *name, char ret[PATH_MAX], struct err *e)
{
        if (snprintf(ret, PATH_MAX, "%s/%s/%s", store_path, STATE_DIR, name) >= PATH_MAX)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", store_path);
        return 0;
}

/* ---- reading ---- */

static int get_text(const json_t *object, const char *key, char *ret, size_t size, struct err *e)
{
        const char *text;
        int r;

        r = json_get_string(object, key, &text, e);
        if (r < 0)
                return r;
        if (snprintf(ret, size, "%s", text) >= (int)size)
                return err_set(e, -EBADMSG, "'%s' is too long", key);
        return 0;
}

static int get_count(const json_t *object, const char *key, int64_t *ret, struct err *e)
{
        long long value;
        int r;

        r = json_get_int(object, key, &value, e);
        if (r < 0)
                return r;
        if (value < 0)
                return err_set(e, -EBADMSG, "'%s' is negative", key);
        *ret = value;
        return 0;
}

static int read_slot(const json_t *object, struct slot_state *ret, struct err *e)
{
        int64_t version = 0, failures = 0;
        int r;

        r = get_text(object, "slot", ret->slot, sizeof(ret->slot), e);
        if (r == 0)
                r = get_count(object, "version", &version, e);
        if (r == 0)
                r = get_count(object, "time_s", &ret->time_s, e);
        if (r == 0)
                r = get_text(object, "pinned", ret->pinned, sizeof(ret->pinned), e);
        if (r == 0)
                r = get_text(object, "refused", ret->refused, sizeof(ret->refused), e);
        if (r == 0)
                r = get_text(object, "etag", ret->etag, sizeof(ret->etag), e);
        if (r == 0)
                r = get_text(object, "etag_url", ret->etag_url, sizeof(ret->etag_url), e);
        if (r == 0)
                r = get_count(object, "failures", &failures, e);
        if (r == 0)
                r = get_count(object, "retry_ms", &ret->retry_ms, e);
        ret->is_mirror = json_is_true(json_object_get(object, "mirror"));
        ret->version = (uint64_t)version;
        ret->failures = failures > UINT_MAX ? UINT_MAX : (unsigned)failures;
        return r;
}

static int read_state(const json_t *object, struct state *ret, struct err *e)
{
        const json_t *slots = json_object_get(object, "slots");
        int64_t format = 0;
        int r;

        r = get_count(object, "wattloop_state", &format, e);
        if (r == 0 && format != STATE_FORMAT)
                r = err_set(e, -EBADMSG, "of version %" PRId64, format);
        if (r == 0)
                r = get_count(object, "newest_time_s", &ret->newest_time_s, e);
        if (r == 0)
                r = get_count(object, "keys_version", &ret->keys_version, e);
        if (r == 0 && json_object_get(object, "reported_ms"))
                r = get_count(object, "reported_ms", &ret->reported_ms, e);
        if (r == 0 && json_array_size(slots) > STATE_SLOTS_MAX)
                r = err_set(e, -EBADMSG, "more than %d slots", STATE_SLOTS_MAX);
        for (size_t i = 0; r == 0 && i < json_array_size(slots); i++, ret->n++)
                r = read_slot(json_array_get(slots, i), &ret->slots[i], e);
        return r;
}

int state_load(const char *store_path, struct state *ret, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        char path[PATH_MAX], aside[PATH_MAX];
        struct state state = { 0 };
        int r;

        *ret = state;
        r = path_of(store_path, STATE_FILE, path, e);
        if (r == 0)
                r = path_of(store_path, STATE_FILE ".damaged", aside, e);
        if (r < 0)
                return r;
        r = json_parse_file(path, STATE_FILE_MAX, &object, e);
        if (r == -ENOENT)
                return 0;
        if (r == 0)
                r = read_state(object, &state, e);
        if (r == -EBADMSG || r == -ENOENT || r == -EFBIG) {
                (void)rename(path, aside); /* else it is written over, which is as well */
                return err_prefix(e, -EBADMSG, "'%s' is damaged, begun anew", path);
        }
        if (r == 0)
                *ret = state;
        return r;
}

/* ---- writing ---- */

static void write_slot(const struct slot_state *s, struct buf *out)
{
        (void)buf_puts(out, "  {\"slot\": ");
        (void)json_write_string(out, s->slot);
        (void)buf_printf(out,
                         ", \"version\": %" PRIu64 ", \"time_s\": %" PRId64
                         ", \"pinned\": \"%s\", \"refused\": \"%s\", \"etag\": ",
                         s->version, s->time_s, s->pinned, s->refused);
        (void)json_write_string(out, s->etag);
        (void)buf_puts(out, ", \"etag_url\": ");
        (void)json_write_string(out, s->etag_url);
        (void)buf_printf(out, ", \"mirror\": %s, \"failures\": %u, \"retry_ms\": %" PRId64 "}",
                         s->is_mirror ? "true" : "false", s->failures, s->retry_ms);
}

static bool is_there(const char *path, const struct buf *text)
{
        CLEANUP(buf_done) struct buf old;

        buf_init(&old, STATE_FILE_MAX);
        return file_read(path, &old, NULL) == 0 && old.size == text->size &&
               memcmp(old.data, text->data, old.size) == 0;
}

/* A check that found nothing new writes nothing. */
int state_save(const char *store_path, const struct state *s, struct err *e)
{
        CLEANUP(buf_done) struct buf text;
        char dir[PATH_MAX], path[PATH_MAX];
        int r;

        buf_init(&text, STATE_FILE_MAX);
        (void)buf_printf(&text,
                         "{\"wattloop_state\": %d, \"newest_time_s\": %" PRId64 ", \"keys_version\": %" PRId64
                         ", \"reported_ms\": %" PRId64 ", \"slots\": [\n",
                         STATE_FORMAT, s->newest_time_s, s->keys_version, s->reported_ms);
        for (size_t i = 0; i < s->n; i++) {
                write_slot(&s->slots[i], &text);
                (void)buf_puts(&text, i + 1 < s->n ? ",\n" : "\n");
        }
        (void)buf_puts(&text, "]}\n");
        if (text.failed)
                return err_set(e, text.failed, "cannot write the state: %s", strerror(-text.failed));
        r = path_of(store_path, "", dir, e);
        if (r == 0)
                r = path_of(store_path, STATE_FILE, path, e);
        if (r < 0 || is_there(path, &text))
                return r;
        r = file_mkdirs(dir, 0755, e);
        return r < 0 ? r : file_write_atomic(path, text.data, text.size, 0644, e);
}

/* ---- slots ---- */

struct slot_state *state_slot(struct state *s, const struct slot *slot)
{
        struct slot_state *new;

        for (size_t i = 0; i < s->n; i++)
                if (strcmp(s->slots[i].slot, slot->text) == 0)
                        return &s->slots[i];
        if (s->n == STATE_SLOTS_MAX)
                return NULL;
        new = &s->slots[s->n++];
        *new = (struct slot_state){ 0 };
        (void)snprintf(new->slot, sizeof(new->slot), "%s", slot->text);
        return new;
}

void state_failed(struct slot_state *s, int64_t now_ms, uint64_t wanted_ms, double random)
{
        int64_t wait_ms = RETRY_FIRST_MS;

        for (unsigned i = 0; i < s->failures && wait_ms < STATE_RETRY_MAX_MS; i++)
                wait_ms *= 2;
        if (wait_ms > STATE_RETRY_MAX_MS)
                wait_ms = STATE_RETRY_MAX_MS;
        wait_ms -= (int64_t)((double)wait_ms * random / 2);
        if (wanted_ms > (uint64_t)wait_ms) /* a server cannot send us away for ever */
                wait_ms = wanted_ms < (uint64_t)STATE_RETRY_MAX_MS ? (int64_t)wanted_ms : STATE_RETRY_MAX_MS;
        s->retry_ms = now_ms + wait_ms;
        if (s->failures < UINT_MAX)
                s->failures++;
}

void state_succeeded(struct slot_state *s)
{
        s->failures = 0;
        s->retry_ms = 0;
}
